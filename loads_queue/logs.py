"""The log of every process, on standard error: text for people or JSON lines, with run and shard where it has them.

A line about a run says so by ``extra={"run": ..., "shard": ...}``; ``step``, ``worker`` and ``queue`` may stand beside
them. What has none of them is about the process itself.
"""

from __future__ import annotations

import json
import logging
import sys
import time

PLACES = ("run", "step", "shard", "worker", "queue")


class TextLines(logging.Formatter):
    """``2024-05-01T12:00:00.000Z INFO run 7 shard 2: text``."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as a line (and its traceback, if it has one)."""
        place = " ".join(f"{name} {value}" for name, value in _places(record).items())
        text = f"{_time(record)} {record.levelname} {place}{': ' if place else ''}{_one_line(record.getMessage())}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and places and error where there are any."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as a line."""
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_places(record),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(form: str) -> None:
    """Log to standard error as ``text`` or ``json``; libraries only when something is wrong."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("loads").setLevel(logging.INFO)


def _places(record: logging.LogRecord) -> dict[str, object]:
    found = ((name, getattr(record, name, None)) for name in PLACES)
    return {name: value for name, value in found if value not in (None, "")}


def _one_line(text: str) -> str:
    """What stands in a message may come from anywhere: it must not look like a line of its own."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _time(record: logging.LogRecord) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{whole}.{int(record.msecs):03d}Z"
