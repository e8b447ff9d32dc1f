"""The embedded broker's actions as SQS defines them: attributes, limits, batches, errors."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loads_queue.embedded_api import MAX_MESSAGE, Api, ApiError
from loads_queue.embedded_store import Store

URL = "http://127.0.0.1:1/000000000000/"


@pytest.fixture
def woken() -> list[str]:
    """The queues whose pollers were woken."""
    return []


@pytest.fixture
def api(tmp_path: Path, woken: list[str]) -> Api:
    """The actions over a new store whose clock stands still."""
    return Api(Store(tmp_path / "f", lambda: 1_000_000), "http://127.0.0.1:1", woken.append)


def create(api: Api, name: str, **attributes: str) -> str:
    """Create a queue; its URL."""
    made = api.call("CreateQueue", {"QueueName": name, "Attributes": attributes})
    assert made is not None
    return str(made["QueueUrl"])


def receive(api: Api, url: str, **params: Any) -> list[dict[str, Any]]:
    """Receive without waiting."""
    found = api.received(api.receive(api.receive_request({"QueueUrl": url, **params})))
    return list(found.get("Messages", []))


def code(api: Api, action: str, params: dict[str, Any]) -> str:
    """The error that an action gives."""
    with pytest.raises(ApiError) as caught:
        if action == "ReceiveMessage":
            api.receive(api.receive_request(params))
        else:
            api.call(action, params)
    return caught.value.code


def attributes(api: Api, url: str) -> dict[str, str]:
    """All attributes of a queue."""
    found = api.call("GetQueueAttributes", {"QueueUrl": url, "AttributeNames": ["All"]})
    assert found is not None
    return dict(found["Attributes"])


def test_a_queue_is_made_once_and_found_by_name_and_prefix(api: Api) -> None:
    assert create(api, "a", VisibilityTimeout="5") == URL + "a"
    assert create(api, "a", VisibilityTimeout="5") == URL + "a"
    assert create(api, "a") == URL + "a"
    create(api, "b")
    assert api.call("GetQueueUrl", {"QueueName": "a"}) == {"QueueUrl": URL + "a"}
    assert api.call("ListQueues", {"QueueNamePrefix": "b"}) == {"QueueUrls": [URL + "b"]}
    assert api.call("ListQueues", {"QueueNamePrefix": "c"}) == {}
    assert code(api, "CreateQueue", {"QueueName": "a", "Attributes": {"VisibilityTimeout": "6"}}) == "QueueNameExists"
    assert attributes(api, URL + "a")["VisibilityTimeout"] == "5"


def test_attributes_have_sqs_defaults_and_can_be_set(api: Api) -> None:
    url = create(api, "a")
    found = attributes(api, url)
    assert found["VisibilityTimeout"] == "30"
    assert found["MaximumMessageSize"] == "1048576"
    assert found["MessageRetentionPeriod"] == "345600"
    assert found["QueueArn"] == "arn:aws:sqs:us-east-1:000000000000:a"
    api.call("SetQueueAttributes", {"QueueUrl": url, "Attributes": {"DelaySeconds": "3"}})
    assert attributes(api, url)["DelaySeconds"] == "3"
    api.call("SendMessage", {"QueueUrl": url, "MessageBody": "x"})
    assert attributes(api, url)["ApproximateNumberOfMessagesDelayed"] == "1"


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("VisibilityTimeout", "43201", "InvalidAttributeValue"),
        ("VisibilityTimeout", "-1", "InvalidAttributeValue"),
        ("VisibilityTimeout", "ten", "InvalidAttributeValue"),
        ("DelaySeconds", "901", "InvalidAttributeValue"),
        ("MaximumMessageSize", "1048577", "InvalidAttributeValue"),
        ("RedrivePolicy", "{}", "InvalidAttributeValue"),
        ("RedrivePolicy", "[", "InvalidAttributeValue"),
        ("RedrivePolicy", '{"deadLetterTargetArn":"arn:x:none","maxReceiveCount":3}', "InvalidAttributeValue"),
        ("FifoQueue", "true", "InvalidAttributeName"),
    ],
)
def test_wrong_attributes_are_refused(api: Api, name: str, value: str, error: str) -> None:
    assert code(api, "CreateQueue", {"QueueName": "a", "Attributes": {name: value}}) == error
    assert code(api, "GetQueueUrl", {"QueueName": "a"}) == "QueueDoesNotExist"


@pytest.mark.parametrize("name", ["", "a.b", "a.fifo", "x" * 81, "ä", 7])
def test_wrong_names_are_refused(api: Api, name: object) -> None:
    assert code(api, "CreateQueue", {"QueueName": name}) == "InvalidParameterValue"


def test_a_message_goes_round_with_its_digest_and_count(api: Api, woken: list[str]) -> None:
    url = create(api, "a")
    sent = api.call("SendMessage", {"QueueUrl": url, "MessageBody": "hé"})
    assert sent is not None
    md5 = hashlib.md5("hé".encode()).hexdigest()
    assert sent["MD5OfMessageBody"] == md5
    assert woken == ["a"]
    (message,) = receive(api, url, VisibilityTimeout=0)
    assert (message["Body"], message["MD5OfBody"], message["MessageId"]) == ("hé", md5, sent["MessageId"])
    assert message["Attributes"]["ApproximateReceiveCount"] == "1"
    (message,) = receive(api, url)
    assert message["Attributes"]["ApproximateReceiveCount"] == "2"
    api.call("DeleteMessage", {"QueueUrl": url, "ReceiptHandle": message["ReceiptHandle"]})
    assert attributes(api, url)["ApproximateNumberOfMessagesNotVisible"] == "0"


def test_sizes_are_limited_like_those_of_sqs(api: Api) -> None:
    url = create(api, "a", MaximumMessageSize="1024")
    big = create(api, "big")
    api.call("SendMessage", {"QueueUrl": url, "MessageBody": "é" * 512})
    assert code(api, "SendMessage", {"QueueUrl": url, "MessageBody": "é" * 512 + "x"}) == "InvalidParameterValue"
    assert code(api, "SendMessage", {"QueueUrl": url, "MessageBody": ""}) == "InvalidParameterValue"
    api.call("SendMessage", {"QueueUrl": big, "MessageBody": "x" * MAX_MESSAGE})
    assert (
        code(api, "SendMessage", {"QueueUrl": big, "MessageBody": "x" * (MAX_MESSAGE + 1)}) == "InvalidParameterValue"
    )
    halves = [{"Id": str(n), "MessageBody": "x" * (MAX_MESSAGE // 2 + n)} for n in (0, 1)]
    assert code(api, "SendMessageBatch", {"QueueUrl": big, "Entries": halves}) == "BatchRequestTooLong"


@pytest.mark.parametrize("text", ["\x00", "a\x0b", "\ufffe", "\ud800"])
def test_characters_that_sqs_refuses_are_refused(api: Api, text: str) -> None:
    url = create(api, "a")
    assert code(api, "SendMessage", {"QueueUrl": url, "MessageBody": text}) == "InvalidMessageContents"


def test_a_batch_succeeds_and_fails_by_entry(api: Api) -> None:
    url = create(api, "a")
    entries = [{"Id": "good", "MessageBody": "x"}, {"Id": "bad", "MessageBody": "\x00"}]
    sent = api.call("SendMessageBatch", {"QueueUrl": url, "Entries": entries})
    assert sent is not None
    assert [entry["Id"] for entry in sent["Successful"]] == ["good"]
    assert [(entry["Id"], entry["Code"]) for entry in sent["Failed"]] == [("bad", "InvalidMessageContents")]
    (message,) = receive(api, url)
    handles = [{"Id": "good", "ReceiptHandle": message["ReceiptHandle"]}, {"Id": "bad", "ReceiptHandle": "none"}]
    for action, more in (("ChangeMessageVisibilityBatch", {"VisibilityTimeout": 60}), ("DeleteMessageBatch", {})):
        done = api.call(action, {"QueueUrl": url, "Entries": [{**entry, **more} for entry in handles]})
        assert done is not None
        assert [entry["Id"] for entry in done["Successful"]] == ["good"]
        assert [(entry["Id"], entry["Code"]) for entry in done["Failed"]] == [("bad", "ReceiptHandleIsInvalid")]


@pytest.mark.parametrize(
    ("entries", "error"),
    [
        (None, "EmptyBatchRequest"),
        ([], "EmptyBatchRequest"),
        ([{"Id": str(n), "MessageBody": "x"} for n in range(11)], "TooManyEntriesInBatchRequest"),
        ([{"Id": "a", "MessageBody": "x"}] * 2, "BatchEntryIdsNotDistinct"),
        ([{"Id": "a b", "MessageBody": "x"}], "InvalidBatchEntryId"),
        ([{"MessageBody": "x"}], "MissingParameter"),
        ([1], "InvalidParameterValue"),
        ({"Id": "a"}, "InvalidParameterValue"),
    ],
)
def test_wrong_batches_are_refused(api: Api, entries: object, error: str) -> None:
    url = create(api, "a")
    assert code(api, "SendMessageBatch", {"QueueUrl": url, "Entries": entries}) == error
    assert receive(api, url) == []


def test_poison_goes_to_the_dead_letter_queue_and_wakes_its_pollers(api: Api, woken: list[str]) -> None:
    create(api, "dead")
    policy = json.dumps({"deadLetterTargetArn": attributes(api, URL + "dead")["QueueArn"], "maxReceiveCount": "2"})
    url = create(api, "a", RedrivePolicy=policy)
    api.call("SendMessage", {"QueueUrl": url, "MessageBody": "poison"})
    for _ in range(2):
        assert len(receive(api, url, VisibilityTimeout=0)) == 1
    woken.clear()
    assert receive(api, url) == []
    assert woken == ["dead"]
    assert [message["Body"] for message in receive(api, URL + "dead")] == ["poison"]


def test_loans_change_and_purged_queues_are_empty(api: Api) -> None:
    url = create(api, "a")
    api.call("SendMessage", {"QueueUrl": url, "MessageBody": "x"})
    (message,) = receive(api, url)
    change = {"QueueUrl": url, "ReceiptHandle": message["ReceiptHandle"], "VisibilityTimeout": 0}
    api.call("ChangeMessageVisibility", change)
    assert code(api, "ChangeMessageVisibility", change) == "MessageNotInflight"
    assert code(api, "ChangeMessageVisibility", {**change, "VisibilityTimeout": 43201}) == "InvalidParameterValue"
    assert code(api, "ChangeMessageVisibility", {**change, "ReceiptHandle": "?"}) == "ReceiptHandleIsInvalid"
    assert code(api, "DeleteMessage", {"QueueUrl": url, "ReceiptHandle": "?"}) == "ReceiptHandleIsInvalid"
    api.call("PurgeQueue", {"QueueUrl": url})
    assert receive(api, url) == []


def test_a_deleted_queue_is_gone(api: Api, woken: list[str]) -> None:
    url = create(api, "a")
    api.call("DeleteQueue", {"QueueUrl": url})
    assert woken == ["a"]
    for action in ("SendMessage", "ReceiveMessage", "DeleteQueue", "GetQueueAttributes"):
        assert code(api, action, {"QueueUrl": url, "MessageBody": "x"}) == "QueueDoesNotExist"


def test_messages_that_could_not_be_delivered_are_there_at_once(api: Api, woken: list[str]) -> None:
    url = create(api, "a")
    api.call("SendMessage", {"QueueUrl": url, "MessageBody": "x"})
    request = api.receive_request({"QueueUrl": url})
    api.hand_back(request, api.receive(request))
    assert woken == ["a", "a"]
    assert len(receive(api, url)) == 1


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(URL + "a"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["Id", "MessageBody"]), inner),
    max_leaves=4,
)
NAMES = ["QueueUrl", "QueueName", "Attributes", "AttributeNames", "Entries", "MessageBody", "ReceiptHandle"]


@given(
    st.sampled_from(["CreateQueue", "SendMessage", "SendMessageBatch", "DeleteMessageBatch", "GetQueueAttributes",
                     "SetQueueAttributes", "ChangeMessageVisibilityBatch", "ListQueues", "ReceiveMessage", "Nonsense"]),
    st.dictionaries(st.sampled_from([*NAMES, "MaxNumberOfMessages", "DelaySeconds", "QueueNamePrefix"]), anything),
)  # fmt: skip
def test_no_parameters_are_more_than_an_sqs_error(
    tmp_path_factory: pytest.TempPathFactory, action: str, params: dict[str, Any]
) -> None:
    api = Api(Store(tmp_path_factory.mktemp("fuzz") / "f", lambda: 1_000_000), "http://127.0.0.1:1", lambda _: None)
    create(api, "a")
    try:
        if action == "ReceiveMessage":
            api.receive(api.receive_request({"QueueUrl": URL + "a", **params}))
        else:
            api.call(action, {"QueueUrl": URL + "a", **params})
    except ApiError as error:
        assert error.code and error.message
