"""What the embedded broker does for each SQS action, with SQS's own limits, defaults and errors.

``Api.call`` takes an action's parameters as the AWS JSON protocol has them and gives its result, or raises
``ApiError``. Waiting for messages is the caller's: ``Api.receive`` never waits, ``Api.wake`` is called with the queue's
name whenever one may have something to receive.

Not here: FIFO queues, message attributes, tags, permissions, message moves; asking for one is an ``ApiError``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from .embedded_store import Message, NotInFlight, QueueRecord, Store, Taken, UnknownReceipt

ACCOUNT = "000000000000"
MAX_MESSAGE = 1 << 20
MAX_VISIBILITY_S = 43200
MAX_BATCH = 10
_SETTABLE = {
    "VisibilityTimeout": (30, 0, MAX_VISIBILITY_S),
    "DelaySeconds": (0, 0, 900),
    "MaximumMessageSize": (MAX_MESSAGE, 1024, MAX_MESSAGE),
    "MessageRetentionPeriod": (345600, 60, 1209600),
    "ReceiveMessageWaitTimeSeconds": (0, 0, 20),
}
"""(default, lowest, highest) of each attribute that is a number."""
_QUEUE_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")
_BATCH_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")
_NO_TEXT = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_QUERY_CODES = {
    "QueueDoesNotExist": "AWS.SimpleQueueService.NonExistentQueue",
    "QueueNameExists": "QueueAlreadyExists",
    "ReceiptHandleIsInvalid": "ReceiptHandleIsInvalid",
    **{
        name: f"AWS.SimpleQueueService.{name}"
        for name in (
            "MessageNotInflight", "EmptyBatchRequest", "TooManyEntriesInBatchRequest", "BatchEntryIdsNotDistinct",
            "InvalidBatchEntryId", "BatchRequestTooLong", "UnsupportedOperation",
        )
    },
}  # fmt: skip

Params = dict[str, Any]


class ApiError(Exception):
    """An SQS error: its code, SQS's older code for it, an HTTP status and a message for people."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.query_code = _QUERY_CODES.get(code, code)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class ReceiveRequest:
    """A ReceiveMessage, checked: how many messages, for how long hidden, and how long to wait for them."""

    queue: str
    limit: int
    visibility_s: int
    wait_s: int


class Api:
    """SQS's actions over a store."""

    def __init__(self, store: Store, base_url: str, wake: Callable[[str], None]) -> None:
        self._store = store
        self._base_url = base_url
        self._wake = wake
        self._actions: dict[str, Callable[[Params], Params | None]] = {
            "CreateQueue": self._create_queue,
            "GetQueueUrl": self._get_queue_url,
            "ListQueues": self._list_queues,
            "GetQueueAttributes": self._get_queue_attributes,
            "SetQueueAttributes": self._set_queue_attributes,
            "DeleteQueue": self._delete_queue,
            "PurgeQueue": self._purge_queue,
            "SendMessage": self._send_message,
            "SendMessageBatch": self._send_message_batch,
            "DeleteMessage": self._delete_message,
            "DeleteMessageBatch": self._delete_message_batch,
            "ChangeMessageVisibility": self._change_visibility,
            "ChangeMessageVisibilityBatch": self._change_visibility_batch,
        }

    def call(self, action: str, params: Params) -> Params | None:
        """Do any action but ReceiveMessage; None is an empty answer."""
        done = self._actions.get(action)
        if done is None:
            raise ApiError("UnsupportedOperation", f"{action} is not supported by this broker")
        return done(params)

    # Receiving, in two halves, so that whoever waits is not here

    def receive_request(self, params: Params) -> ReceiveRequest:
        """Check a ReceiveMessage."""
        queue = self._queue(params)
        attributes = queue.attributes
        return ReceiveRequest(
            queue.name,
            _number(params, "MaxNumberOfMessages", 1, 1, MAX_BATCH),
            _number(params, "VisibilityTimeout", _setting(attributes, "VisibilityTimeout"), 0, MAX_VISIBILITY_S),
            _number(params, "WaitTimeSeconds", _setting(attributes, "ReceiveMessageWaitTimeSeconds"), 0, 20),
        )

    def receive(self, request: ReceiveRequest) -> list[Message]:
        """Lend messages out; none may be there. Raises ApiError once the queue is gone."""
        queue = self._named(request.queue)
        taken: Taken = self._store.receive(queue, request.limit, request.visibility_s, self._dead_letters(queue))
        if taken.moved_to:
            for other in self._store.queues():
                if other.number in taken.moved_to:
                    self._wake(other.name)
        return taken.messages

    def next_visible_in_ms(self, request: ReceiveRequest) -> int | None:
        """How long until the queue's next message is visible; None where it has none."""
        due = self._store.next_visible(self._named(request.queue))
        return None if due is None else due - self._store.now()

    def received(self, messages: Sequence[Message]) -> Params:
        """The answer to a ReceiveMessage; every system attribute is given, whichever were asked for."""
        if not messages:
            return {}
        return {
            "Messages": [
                {
                    "MessageId": message.id,
                    "ReceiptHandle": message.receipt,
                    "MD5OfBody": message.md5,
                    "Body": message.body,
                    "Attributes": {
                        "SenderId": ACCOUNT,
                        "SentTimestamp": str(message.sent),
                        "ApproximateReceiveCount": str(message.receives),
                        "ApproximateFirstReceiveTimestamp": str(message.first),
                    },
                }
                for message in messages
            ]
        }

    def hand_back(self, request: ReceiveRequest, messages: Sequence[Message]) -> None:
        """Make messages visible again that could not be delivered."""
        queue = self._store.queue(request.queue)
        for message in messages if queue else ():
            self._store.change_visibility(cast(QueueRecord, queue), message.receipt, 0)
        self._wake(request.queue)

    def expire(self) -> int:
        """Drop messages past their queue's retention; how many."""
        return self._store.expire(lambda queue: _setting(queue.attributes, "MessageRetentionPeriod"))

    # Queues

    def _create_queue(self, params: Params) -> Params:
        name = _text(params, "QueueName")
        if not _QUEUE_NAME.fullmatch(name):
            raise _invalid("a queue's name is 1 to 80 letters, digits, hyphens and underscores (no FIFO queues here)")
        attributes = self._attributes(params)
        queue = self._store.queue(name)
        if queue is None:
            self._store.create_queue(name, attributes)
        elif any(_effective(queue.attributes, key) != _effective(attributes, key) for key in attributes):
            raise ApiError("QueueNameExists", f"queue {name} exists with other attributes")
        return {"QueueUrl": self._url(name)}

    def _get_queue_url(self, params: Params) -> Params:
        return {"QueueUrl": self._url(self._named(_text(params, "QueueName")).name)}

    def _list_queues(self, params: Params) -> Params:
        prefix = _text(params, "QueueNamePrefix", "")
        urls = [self._url(queue.name) for queue in self._store.queues() if queue.name.startswith(prefix)]
        return {"QueueUrls": urls} if urls else {}

    def _get_queue_attributes(self, params: Params) -> Params:
        queue = self._queue(params)
        counts = self._store.counts(queue)
        every = {name: str(_setting(queue.attributes, name)) for name in _SETTABLE} | {
            "QueueArn": f"arn:aws:sqs:us-east-1:{ACCOUNT}:{queue.name}",
            "ApproximateNumberOfMessages": str(counts.visible),
            "ApproximateNumberOfMessagesNotVisible": str(counts.in_flight),
            "ApproximateNumberOfMessagesDelayed": str(counts.delayed),
            "CreatedTimestamp": str(queue.created // 1000),
            "LastModifiedTimestamp": str(queue.modified // 1000),
        }
        if policy := queue.attributes.get("RedrivePolicy"):
            every["RedrivePolicy"] = policy
        names = _list(params, "AttributeNames")
        if unknown := [name for name in names if name not in every and name not in ("All", "RedrivePolicy")]:
            raise ApiError("InvalidAttributeName", f"unknown attribute {unknown[0]!r}")
        wanted = {name: value for name, value in every.items() if "All" in names or name in names}
        return {"Attributes": wanted} if wanted else {}

    def _set_queue_attributes(self, params: Params) -> None:
        queue = self._queue(params)
        changed = queue.attributes | self._attributes(params)
        self._store.set_attributes(queue, {name: value for name, value in changed.items() if value})

    def _delete_queue(self, params: Params) -> None:
        queue = self._queue(params)
        self._store.delete_queue(queue)
        self._wake(queue.name)

    def _purge_queue(self, params: Params) -> None:
        self._store.purge(self._queue(params))

    def _attributes(self, params: Params) -> dict[str, str]:
        given = params.get("Attributes") or {}
        if not isinstance(given, dict):
            raise _invalid("Attributes is no object")
        for name, value in given.items():
            if name == "RedrivePolicy":
                self._redrive(value)
            elif name in _SETTABLE:
                _number({name: _decimal(value)}, name, *_SETTABLE[name], code="InvalidAttributeValue")
            else:
                raise ApiError("InvalidAttributeName", f"attribute {name!r} is not supported by this broker")
        return {name: str(value) for name, value in given.items()}

    def _redrive(self, policy: object) -> tuple[str, int] | None:
        """(name of the dead-letter queue, most receives); an empty policy is none."""
        if policy in (None, ""):
            return None
        try:
            found = json.loads(cast(str, policy))
            name, most = found["deadLetterTargetArn"].rpartition(":")[2], int(found["maxReceiveCount"])
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            most = 0
        if not 1 <= most <= 1000 or self._store.queue(name) is None:
            raise ApiError("InvalidAttributeValue", "RedrivePolicy needs an existing deadLetterTargetArn and"
                           " a maxReceiveCount of 1 to 1000")  # fmt: skip
        return name, most

    def _dead_letters(self, queue: QueueRecord) -> tuple[QueueRecord, int] | None:
        policy = queue.attributes.get("RedrivePolicy")
        if not policy:
            return None
        found = json.loads(policy)
        target = self._store.queue(found["deadLetterTargetArn"].rpartition(":")[2])
        return None if target is None else (target, int(found["maxReceiveCount"]))

    # Messages

    def _send_message(self, params: Params) -> Params:
        queue = self._queue(params)
        ((ident, md5),) = self._store.send(queue, [self._checked(queue, params)])
        self._wake(queue.name)
        return {"MessageId": ident, "MD5OfMessageBody": md5}

    def _send_message_batch(self, params: Params) -> Params:
        queue = self._queue(params)
        entries = _entries(params)
        if sum(_size(_text(entry, "MessageBody")) for entry in entries) > MAX_MESSAGE:
            raise ApiError("BatchRequestTooLong", f"a batch is at most {MAX_MESSAGE} bytes")
        good, failed = _each(entries, lambda entry: self._checked(queue, entry))
        sent = self._store.send(queue, [body for _, body in good])
        self._wake(queue.name)
        return {
            "Successful": [
                {"Id": entry_id, "MessageId": ident, "MD5OfMessageBody": md5}
                for (entry_id, _), (ident, md5) in zip(good, sent, strict=True)
            ],
            "Failed": failed,
        }

    def _checked(self, queue: QueueRecord, params: Params) -> tuple[str, int]:
        """The (body, delay) of a message to be sent."""
        body = _text(params, "MessageBody")
        most = _setting(queue.attributes, "MaximumMessageSize")
        if not body or (size := _size(body)) > most:
            raise _invalid(f"a message is 1 to {most} bytes, this one has {size if body else 0}")
        if _NO_TEXT.search(body):
            raise ApiError("InvalidMessageContents", "the message has characters that SQS does not allow")
        if params.get("MessageAttributes") or params.get("MessageSystemAttributes") or params.get("MessageGroupId"):
            raise ApiError("UnsupportedOperation", "message attributes and groups are not supported by this broker")
        return body, _number(params, "DelaySeconds", _setting(queue.attributes, "DelaySeconds"), 0, 900)

    def _delete_message(self, params: Params) -> None:
        if not all(self._store.delete(self._queue(params), [_text(params, "ReceiptHandle")])):
            raise _bad_receipt()

    def _delete_message_batch(self, params: Params) -> Params:
        queue = self._queue(params)
        good, failed = _each(_entries(params), lambda entry: _text(entry, "ReceiptHandle"))
        done = self._store.delete(queue, [receipt for _, receipt in good])
        failed += [_failure(ident, _bad_receipt()) for (ident, _), known in zip(good, done, strict=True) if not known]
        ended = [{"Id": ident} for (ident, _), known in zip(good, done, strict=True) if known]
        return {"Successful": ended, "Failed": failed}

    def _change_visibility(self, params: Params) -> None:
        self._change(self._queue(params), params)

    def _change_visibility_batch(self, params: Params) -> Params:
        queue = self._queue(params)
        good, failed = _each(_entries(params), lambda entry: self._change(queue, entry))
        return {"Successful": [{"Id": ident} for ident, _ in good], "Failed": failed}

    def _change(self, queue: QueueRecord, params: Params) -> None:
        receipt = _text(params, "ReceiptHandle")
        if "VisibilityTimeout" not in params:
            raise ApiError("MissingParameter", "VisibilityTimeout is missing")
        visibility_s = _number(params, "VisibilityTimeout", 0, 0, MAX_VISIBILITY_S)
        try:
            self._store.change_visibility(queue, receipt, visibility_s)
        except UnknownReceipt:
            raise _bad_receipt() from None
        except NotInFlight:
            raise ApiError("MessageNotInflight", "the message is not on loan by this receipt handle") from None
        self._wake(queue.name)

    # Names

    def _queue(self, params: Params) -> QueueRecord:
        return self._named(_text(params, "QueueUrl").rpartition("/")[2])

    def _named(self, name: str) -> QueueRecord:
        queue = self._store.queue(name)
        if queue is None:
            raise ApiError("QueueDoesNotExist", f"queue {name!r} does not exist")
        return queue

    def _url(self, name: str) -> str:
        return f"{self._base_url}/{ACCOUNT}/{name}"


def _invalid(message: str) -> ApiError:
    return ApiError("InvalidParameterValue", message)


def _bad_receipt() -> ApiError:
    return ApiError("ReceiptHandleIsInvalid", "the receipt handle is not one of this broker's")


def _failure(ident: str, error: ApiError) -> Params:
    return {"Id": ident, "Code": error.query_code, "Message": error.message, "SenderFault": True}


def _each(entries: list[Params], check: Callable[[Params], Any]) -> tuple[list[tuple[str, Any]], list[Params]]:
    """A batch's entries by (id, what ``check`` gave), and the failures of those it refused."""
    good: list[tuple[str, Any]] = []
    failed: list[Params] = []
    for entry in entries:
        try:
            good.append((entry["Id"], check(entry)))
        except ApiError as error:
            failed.append(_failure(entry["Id"], error))
    return good, failed


def _entries(params: Params) -> list[Params]:
    entries = _list(params, "Entries")
    if not entries:
        raise ApiError("EmptyBatchRequest", "the batch is empty")
    if len(entries) > MAX_BATCH:
        raise ApiError("TooManyEntriesInBatchRequest", f"a batch has at most {MAX_BATCH} entries")
    if not all(isinstance(entry, dict) for entry in entries):
        raise _invalid("Entries holds something else than objects")
    idents = [_text(entry, "Id") for entry in entries]
    if not all(_BATCH_ID.fullmatch(ident) for ident in idents):
        raise ApiError("InvalidBatchEntryId", "an entry's id is 1 to 80 letters, digits, hyphens and underscores")
    if len(set(idents)) < len(idents):
        raise ApiError("BatchEntryIdsNotDistinct", "two entries have one id")
    return entries


def _text(params: Params, name: str, default: str | None = None) -> str:
    value = params.get(name, default)
    if value is None:
        raise ApiError("MissingParameter", f"{name} is missing")
    if not isinstance(value, str):
        raise _invalid(f"{name} is no text")
    return value


def _list(params: Params, name: str) -> list[Any]:
    value = params.get(name) or []
    if not isinstance(value, list):
        raise _invalid(f"{name} is no list")
    return value


def _number(params: Params, name: str, default: int, low: int, high: int, code: str = "InvalidParameterValue") -> int:
    value = params.get(name)
    if value is None:
        return default
    if type(value) is not int or not low <= value <= high:
        raise ApiError(code, f"{name} is {low} to {high}, not {str(value)[:40]!r}")
    return value


def _decimal(value: object) -> object:
    """An attribute's number: they come as texts."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10 else value


def _setting(attributes: dict[str, str], name: str) -> int:
    return int(attributes.get(name) or _SETTABLE[name][0])


def _effective(attributes: dict[str, str], name: str) -> str:
    return str(_setting(attributes, name)) if name in _SETTABLE else attributes.get(name, "")


def _size(body: str) -> int:
    return len(body) if body.isascii() else len(body.encode("utf-8", "surrogatepass"))
