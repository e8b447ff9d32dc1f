"""What a person reads of a step's sessions (WebSocket sockets) at the end of a run, made from the summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from . import words

_MOST_CODES = 5
_MOST_FAILURES = 5


def sockets(found: Mapping[str, Any]) -> list[Text]:
    """A few lines about sessions; ``found`` is ``sockets`` of a step. What did not happen has no line."""
    rates = {name: f"{found[name]:,} ({words.rate(rate)}/s)" for name, rate in found["rates"].items()}
    lines = [
        Text("Sockets", "bold"),
        _line(
            "sessions",
            f"{rates['opened']} opened, {rates['closed']} closed, at most {found['most_open']:,} open at once",
        ),
        *([_line("", f"{found['open_at_end']:,} open at the end", "yellow")] if found["open_at_end"] else []),
        _line("messages", f"{rates['messages_out']} out, {rates['messages_in']} in"),
        *([_line("", f"{found['unsolicited']:,} of these unsolicited")] if found["unsolicited"] else []),
        _line("bytes", f"{_size(found, 'bytes_out')} out, {_size(found, 'bytes_in')} in"),
    ]
    if found["pings_out"]:
        answered = f"{found['pongs_in']:,} of {found['pings_out']:,} answered"
        lines.append(_line("pings", f"{answered}{_times(found['ping'])}"))
    if found["closed"]:
        lifetime = {key: None if s is None else s * 1000 for key, s in found["lifetime"].items()}
        lines.append(_line("lifetime", _times(lifetime).strip()))
        lines.append(_line("ended by", _codes(found["codes"])))
    return lines + _failures(found["failures"])


def _line(label: str, text: str, style: str = "") -> Text:
    return Text(f"  {label:<12}").append(text, style)


def _size(found: Mapping[str, Any], name: str) -> str:
    return f"{words.size(found[name])} ({words.size(int(found['rates'][name]))}/s)"


def _times(latency: Mapping[str, float | None]) -> str:
    """A few of its percentiles; empty where nothing was measured."""
    if latency["max"] is None:
        return ""
    return "".join(f"  {key} {_time(latency[key])}" for key in ("p50", "p95", "p99", "max"))


def _time(ms: float | None) -> str:
    return words.latency(ms) if ms is None or ms < 600_000 else words.clock(ms / 1000)


def _codes(codes: Mapping[str, int]) -> str:
    """How many sessions ended by which close code, the most frequent first."""
    ordered = sorted(codes.items(), key=lambda item: (-item[1], item[0]))
    told = [f"{count:,} x {words.close_code(code)}" for code, count in ordered[:_MOST_CODES]]
    further = len(ordered) - len(told)
    return ", ".join(told) + (f" and {further} further ones, in summary.json" if further > 0 else "")


def _failures(failures: list[Mapping[str, Any]]) -> list[Text]:
    """What sessions failed for, the most frequent first, as the summary has them."""
    lines = [
        _line("" if number else "failed", f"{each['count']:,} x {words.clean(each['message'])}", "red")
        for number, each in enumerate(failures[:_MOST_FAILURES])
    ]
    further = len(failures) - len(lines)
    return [*lines, _line("", f"and {further} further kinds, in summary.json", "dim")] if further > 0 else lines
