"""A worker's log on standard error: text for people or JSON lines, each with its run and shard where it has one."""

from __future__ import annotations

import json
import logging
import sys
import time


class TextLines(logging.Formatter):
    """``2024-05-01T12:00:00Z INFO run 7 shard 2: text``."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as a line (and its traceback, if it has one)."""
        run, shard = getattr(record, "run", ""), getattr(record, "shard", None)
        place = f"run {run} " if run else ""
        place += f"shard {shard} " if shard is not None else ""
        text = f"{_time(record)} {record.levelname} {place}{record.getMessage()}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, message, and run, shard and error where there are any."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as a line."""
        line = {"time": _time(record), "level": record.levelname.lower(), "message": record.getMessage()}
        for name in ("run", "shard"):
            if (value := getattr(record, name, None)) not in (None, ""):
                line[name] = value
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


def configure(form: str) -> None:
    """Log to standard error as ``text`` or ``json``; libraries only when something is wrong."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("loads").setLevel(logging.INFO)


def _time(record: logging.LogRecord) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{whole}.{int(record.msecs):03d}Z"
