"""The quick way through the codec gives what the schemas give, for everything that may come in."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import marshmallow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loads_queue import codec, quick
from loads_queue.messages import (
    ClaimOrder,
    ClaimReport,
    Clock,
    Control,
    Echo,
    End,
    Hello,
    Job,
    LoadStep,
    Message,
    Report,
    Totals,
)

ORDER = ClaimOrder(
    "c", "r", "s", 0, 1, "granted", "run", start_at=5, turns=(1, 2), changes=((1, 2, 3),), hosts={"a": ("x", "y")}
)
CLAIM = ClaimReport(
    "c", "r", "s", 0, 1, "ended", rows=({"second": 1},), totals=Totals(next=3, turns=(1,)), end=End("finished")
)
MESSAGES: list[Message] = [
    Job("j", {"steps": []}, env={"A": "b"}, workers=3),
    LoadStep("o", "r", "s", 0, "load", 0, 1, 1, "process", "any", "http", {"do": []}, {"kind": "open"}),
    Control("k", "w", "life", 1, 2, 3, (ORDER,), refused="no", echo=Echo(1, 2, 3, 4)),
    Report("p", "w", "life", 1, 0, 0, 9, 2, 1, Clock(1, 2), {"rss": 1}, (CLAIM,), Hello("1", "h", 1, ("::1",)), True),
]
ODD = [None, True, 0, -1, 1 << 63, 1.5, "", "x", [], [None], {}, {"x": 1}, [[1, 2]], [[1, 2, 3]]]


def by_schema(cls: type, value: Any) -> Any | None:
    try:
        return codec._schema(cls).load(value)
    except marshmallow.ValidationError:
        return None


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) inside a JSON value."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [place for key in keys for place in [(value, key), *places(value[key])]]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_what_is_right_is_read_alike_and_written_alike(message: Message) -> None:
    schema = codec._schema(type(message))
    wire = json.loads(json.dumps(quick.dump(message)))
    assert wire == json.loads(json.dumps(schema.dump(message)))
    assert quick.load(type(message), wire) == schema.load(wire) == message


@given(st.sampled_from(MESSAGES), st.data())
def test_whatever_stands_in_any_place_both_ways_agree(message: Message, data: st.DataObject) -> None:
    wire = json.loads(json.dumps(quick.dump(message)))
    container, key = data.draw(st.sampled_from(places(wire)))
    if data.draw(st.booleans()) or isinstance(container, list):
        container[key] = data.draw(st.sampled_from(ODD))
    else:
        del container[key]
    if data.draw(st.booleans()) and isinstance(container, dict):
        container["unknown"] = 1
    found = quick.load(type(message), wire)
    assert found == by_schema(type(message), wire)


def test_what_no_schema_would_read_is_not_written() -> None:
    for wrong in (replace(MESSAGES[3], slots="2"), replace(MESSAGES[3], claims=None), replace(MESSAGES[2], echo=3)):
        with pytest.raises(codec.EncodeError):
            codec.encode(wrong, "reports", 1)
