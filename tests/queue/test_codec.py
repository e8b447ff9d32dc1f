"""The codec: every message comes back as it went, and no bytes make ``decode`` raise anything but DecodeError."""

from __future__ import annotations

import dataclasses
import json
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loads_queue.codec import MAX_DEPTH, DecodeError, EncodeError, decode, encode
from loads_queue.messages import ClaimReport, Control, End, Job, LoadStep, Message, Report

QUEUE = "reports"
SECRET = b"of the cluster"
NOW = 1_700_000_000_000_000_000

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def strategy(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a type as ``messages`` uses them."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is UnionType:
        return st.none() | st.one_of(*(strategy(arg) for arg in args if arg is not NoneType))
    if origin is tuple and args[-1] is not Ellipsis:
        return st.tuples(*map(strategy, args))
    if origin is tuple:
        return st.lists(strategy(args[0]), max_size=2).map(tuple)
    if origin is not None and origin.__name__ == "Mapping":
        return st.dictionaries(texts, strategy(args[1]), max_size=2)
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        return instances(hint)
    simple = {str: texts, int: st.integers(-(2**63), 2**63 - 1), bool: st.booleans(), Any: values}
    return simple[hint]


def instances(cls: type) -> st.SearchStrategy[Any]:
    """Instances of a dataclass, some fields left at their defaults."""
    hints = get_type_hints(cls)
    required = {
        field.name: strategy(hints[field.name])
        for field in dataclasses.fields(cls)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    optional = {name: strategy(hint) for name, hint in hints.items() if name not in required}
    return st.fixed_dictionaries(required, optional=optional).map(lambda made: cls(**made))


messages = st.one_of(*map(instances, (Job, LoadStep, Control, Report)))
REPORT = Report(
    "r", "w", "i", 1, 0, 0, 0, 2, 1, claims=(ClaimReport("c", "run", "s", 0, 0, "ended", end=End("finished")),)
)


def envelope(message: Message = REPORT, **changed: Any) -> str:
    """An envelope with other values in it."""
    return json.dumps({**json.loads(encode(message, QUEUE, NOW)), **changed})


def with_body(body: str) -> str:
    """An envelope of a Job with that body."""
    return envelope(Job("j"), body=body)


def refused(text: str | bytes, **how: Any) -> str:
    """Why an envelope is refused."""
    with pytest.raises(DecodeError) as caught:
        decode(text, QUEUE, **how)
    assert caught.value.data == text
    assert caught.value.reason == str(caught.value)
    return caught.value.reason


@given(messages, st.none() | st.just(SECRET))
def test_every_message_comes_back_as_it_went(message: Message, secret: bytes | None) -> None:
    text = encode(message, QUEUE, NOW, secret)
    assert text.isascii()
    for form in (text, text.encode()):
        found = decode(form, QUEUE, secret=secret)
        assert found.message == message
        assert type(found.message) is type(message)
        assert (found.id, found.time) == (message.id, NOW)


@given(st.text() | st.binary())
@example("")
@example(b"\xff")
@example("[" * 100_000)
@example('{"v":' * 100_000)
@example("1" * 10_000)
@example("NaN")
@example('"\\ud800"')
@example("\ud800")
@example('{"v":1,"v":2}')
@example("[]")
@example("null")
def test_no_text_at_all_raises_anything_else(text: str | bytes) -> None:
    refused(text)


@given(messages, st.data())
def test_no_damage_to_an_envelope_raises_anything_else(message: Message, data: st.DataObject) -> None:
    text = encode(message, QUEUE, NOW).encode()
    at = data.draw(st.integers(0, len(text) - 1))
    damaged = text[:at] + data.draw(st.binary(max_size=3)) + text[at + data.draw(st.integers(0, 4)) :]
    try:
        decode(damaged, QUEUE)
    except DecodeError as error:
        assert error.data == damaged


@given(messages, st.data())
def test_no_value_in_any_place_raises_anything_else(message: Message, data: st.DataObject) -> None:
    wire = json.loads(encode(message, QUEUE, NOW))
    odd = values | st.just(10**50) | st.just("\ud800")
    if data.draw(st.booleans()):
        wire[data.draw(st.sampled_from(sorted(wire)))] = data.draw(odd)
    else:
        body = json.loads(wire["body"])
        names = [field.name for field in dataclasses.fields(message)]
        body[data.draw(st.sampled_from([*names, "unknown"]))] = data.draw(odd)
        wire["body"] = json.dumps(body)
    text = json.dumps(wire)
    try:
        decode(text, QUEUE, secret=data.draw(st.none() | st.just(SECRET)), now_ns=NOW, max_age_ns=1)
    except DecodeError as error:
        assert error.data == text


@given(messages, st.data())
def test_whatever_is_changed_breaks_the_signature(message: Message, data: st.DataObject) -> None:
    wire = json.loads(encode(message, QUEUE, NOW, SECRET))
    name = data.draw(st.sampled_from(["type", "id", "time", "body", "sig"]))
    wire[name] = wire[name] + (1 if name == "time" else "0")
    assert "signed" in refused(json.dumps(wire), secret=SECRET)


def test_a_signature_is_for_one_queue_and_one_secret() -> None:
    text = encode(REPORT, QUEUE, NOW, SECRET)
    assert "written for queue 'reports', came from 'control.w'" in _reason(text, "control.w")
    assert "not signed with this cluster's secret" in refused(text, secret=b"other")
    assert refused(encode(REPORT, QUEUE, NOW), secret=SECRET) == "not signed"
    moved = json.dumps({**json.loads(text), "queue": "control.w"})
    with pytest.raises(DecodeError, match="not signed with"):
        decode(moved, "control.w", secret=SECRET)


def _reason(text: str, queue: str) -> str:
    with pytest.raises(DecodeError) as caught:
        decode(text, queue, secret=SECRET)
    return caught.value.reason


def test_without_a_secret_a_signature_is_not_looked_at() -> None:
    assert decode(encode(REPORT, QUEUE, NOW, SECRET), QUEUE).message == REPORT


def test_parts_of_the_signed_text_can_not_be_shifted_into_each_other() -> None:
    one = json.loads(encode(dataclasses.replace(REPORT, id="a"), "b:1", NOW, SECRET))
    two = json.loads(encode(dataclasses.replace(REPORT, id="a1:b"), "1", NOW, SECRET))
    assert one["sig"] != two["sig"]


@pytest.mark.parametrize("age", [-11, 11])
def test_what_is_too_old_or_from_the_future_is_refused(age: int) -> None:
    text = encode(REPORT, QUEUE, NOW - age)
    assert "apart" in refused(text, now_ns=NOW, max_age_ns=10)
    assert decode(text, QUEUE, now_ns=NOW, max_age_ns=11).time == NOW - age
    assert decode(text, QUEUE, now_ns=NOW).time == NOW - age


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"v": 2}, "envelope: version 2 where this program knows 1"),
        ({"v": True}, "envelope: version True where this program knows 1"),
        ({"type": "Rumour"}, "type 'Rumour' is not known"),
        ({"type": "Job"}, "Job: "),
        ({"more": 1}, "envelope: unknown or missing: ['more']"),
        ({"time": 1.0}, "envelope: time: not a whole number"),
        ({"time": 2**63}, "envelope: time: beyond 64 bits"),
        ({"id": "other"}, "the envelope's id is not the message's"),
        ({"sig": None}, "envelope: sig: not text"),
        ({"body": {}}, "envelope: body: not text"),
    ],
)
def test_reasons_name_what_is_wrong_with_an_envelope(changed: dict[str, Any], reason: str) -> None:
    assert refused(envelope(**changed)).startswith(reason)


def test_a_missing_part_of_an_envelope_is_named() -> None:
    wire = json.loads(envelope())
    del wire["sig"]
    assert refused(json.dumps(wire)) == "envelope: unknown or missing: ['sig']"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('{"id":"j","more":1}', "Job: more: Unknown field."),
        ('{"id":1}', "Job: id: not text"),
        ("{}", "Job: id: Missing data for required field."),
        ('{"id":"j","priority":true}', "Job: priority: not a whole number"),
        ('{"id":"j","priority":1.0}', "Job: priority: not a whole number"),
        ('{"id":"j","priority":9223372036854775808}', "Job: priority: beyond 64 bits"),
        ('{"id":"j","priority":null}', "Job: priority: Field may not be null."),
        ('{"id":"j","env":{"A":1}}', "Job: env.A: not text"),
        ('{"id":"j","env":[]}', "Job: env: not an object"),
        ('{"id":"j","plan":{"x":NaN}}', "Job: not JSON: NaN is no number"),
        ('{"id":"j","plan":{"x":1e999}}', "Job: not JSON: out of range: 1e999"),
        ('{"id":"j","plan":{"x":' + "9" * 41 + "}}", "Job: not JSON: a whole number of 41 digits"),
        ('{"id":"\\ud800"}', "Job: half a surrogate pair"),
        ('{"id":"j","plan":' + '{"a":' * MAX_DEPTH + "1" + "}" * MAX_DEPTH + "}", "Job: nested more than 100 deep"),
        ('{"id":"j","plan":' + "[" * 100_000, "Job: nested too deeply"),
        ("[]", "Job: "),
        ("", "Job: not JSON"),
    ],
)
def test_reasons_name_what_is_wrong_with_a_message(body: str, reason: str) -> None:
    assert refused(with_body(body)).startswith(reason)


def test_reasons_name_the_place_deep_inside() -> None:
    body = json.loads(json.loads(envelope())["body"])
    body["claims"][0]["end"]["cause"] = 7
    assert refused(envelope(body=json.dumps(body))) == "Report: claims.0.end.cause: not text"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (Job("j", priority=1.5), "Job can't be sent: Job: priority: not a whole number"),  # type: ignore[arg-type]
        (Job("j", plan={"x": float("nan")}), "Job can't be sent: Out of range float values"),
        (Job("j", plan={"x": object()}), "Job can't be sent: Object of type object"),
        (Job("j", plan={"x": 10**40}), "Job can't be sent: Job: not JSON: a whole number of 41 digits"),
        (Job("\ud800"), "Job can't be sent: Job: half a surrogate pair"),
        (Job("j", submitted_at=2**63), "Job can't be sent: Job: submitted_at: beyond 64 bits"),
    ],
)
def test_what_could_not_be_read_is_not_written(message: Job, reason: str) -> None:
    with pytest.raises(EncodeError) as caught:
        encode(message, QUEUE, NOW)
    assert str(caught.value).startswith(reason)


def test_a_recursive_plan_is_not_written() -> None:
    plan: dict[str, Any] = {}
    plan["self"] = plan
    with pytest.raises(EncodeError):
        encode(Job("j", plan=plan), QUEUE, NOW)


def test_fields_at_their_default_are_not_sent() -> None:
    assert json.loads(json.loads(encode(Job("j"), QUEUE, NOW))["body"]) == {"id": "j"}
