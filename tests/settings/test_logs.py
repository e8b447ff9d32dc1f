"""Lines of the log: text or JSON, with run and shard where a line is about one, and one line a record."""

from __future__ import annotations

import json
import logging
import sys

from loads_queue.logs import JsonLines, TextLines


def record(text: str, **extra: object) -> logging.LogRecord:
    found = logging.LogRecord("loads.scheduler", logging.WARNING, "file", 1, "%s", (text,), None)
    found.created, found.msecs = 1_700_000_000.25, 250.0
    found.__dict__.update(extra)
    return found


def test_text_has_the_places_before_the_message() -> None:
    line = TextLines().format(record("lost", run="r1", shard=0, worker="w1"))
    assert line == "2023-11-14T22:13:20.250Z WARNING run r1 shard 0 worker w1: lost"
    assert TextLines().format(record("up")) == "2023-11-14T22:13:20.250Z WARNING up"


def test_json_has_each_place_as_a_field_and_no_empty_ones() -> None:
    line = json.loads(JsonLines().format(record("lost", run="r1", shard=0, step="")))
    assert line == {
        "time": "2023-11-14T22:13:20.250Z", "level": "warning", "logger": "loads.scheduler", "message": "lost",
        "run": "r1", "shard": 0,
    }  # fmt: skip
    assert json.loads(JsonLines().format(record("up"))).keys() == {"time", "level", "logger", "message"}


def test_a_message_cannot_pretend_to_be_two_lines() -> None:
    hostile = record("name\n2023-11-14T22:13:20.250Z INFO forged\x1b[2J")
    assert "\n" not in TextLines().format(hostile) and "\x1b" not in TextLines().format(hostile)
    assert "\n" not in JsonLines().format(hostile)


def test_an_exception_comes_with_its_traceback() -> None:
    try:
        raise ValueError("boom")
    except ValueError:
        found = record("failed", run="r1")
        found.exc_info = sys.exc_info()
    assert "ValueError: boom" in TextLines().format(found)
    assert "ValueError: boom" in json.loads(JsonLines().format(found))["error"]
