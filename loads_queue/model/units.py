"""Durations, rates and times as people write them, in exact integers and fractions.

Every function here raises ValueError with a message for people, such as ``not a duration: '5 parsecs'``.
"""

from __future__ import annotations

import datetime
import math
import re
from fractions import Fraction

SECOND = 1_000_000_000
LONGEST_NS = 366 * 86_400 * SECOND
FASTEST = Fraction(1_000_000_000)
"""The highest rate a second that is read; beyond it a typing error is likelier than a wish."""

UNITS = {
    "ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000,
    "s": SECOND, "m": 60 * SECOND, "h": 3_600 * SECOND, "d": 86_400 * SECOND,
}  # fmt: skip

_LONGEST_TEXT = 60
_NUMBER = r"[0-9]+(?:\.[0-9]+)?|\.[0-9]+"
_NUMBER_ALONE = re.compile(_NUMBER)
_PART = re.compile(rf"({_NUMBER})(ns|us|µs|ms|s|m|h|d)")
_DURATION = re.compile(rf"(?:(?:{_NUMBER})(?:ns|us|µs|ms|s|m|h|d))+")
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2})?"
)
_MOST_DAYS = (datetime.date(2200, 1, 1) - datetime.date(1970, 1, 1)).days
_RATE = re.compile(rf"({_NUMBER})\s*/\s*(.+)")


def number(value: object) -> Fraction | None:
    """A number, or the text of one (as ``--set`` gives it), exactly as it is written; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return Fraction(value)
    if isinstance(value, float):
        return Fraction(repr(value)) if math.isfinite(value) else None
    if isinstance(value, str) and len(value) <= _LONGEST_TEXT and _NUMBER_ALONE.fullmatch(value.strip()):
        return Fraction(value.strip())
    return None


def parse_duration(value: object, *, unit_needed: bool = False) -> int:
    """``500ms``, ``30s``, ``1h30m``, or (unless ``unit_needed``) a number of seconds, in nanoseconds."""
    seconds = None if unit_needed else number(value)
    if seconds is not None:
        exact = seconds * SECOND
    elif isinstance(value, str) and len(value) <= _LONGEST_TEXT and _DURATION.fullmatch(value.strip()):
        exact = sum((Fraction(amount) * UNITS[unit] for amount, unit in _PART.findall(value)), Fraction(0))
    else:
        raise ValueError(f"not a duration: {shown(value)}")
    if not 0 <= exact <= LONGEST_NS:
        raise ValueError(f"not a duration from 0 to 366 days: {shown(value)}")
    return int(exact)


def parse_rate(value: object) -> Fraction:
    """``50`` and ``50/s`` are 50 a second, ``300/m`` is 5, ``1/10s`` is one every 10 seconds."""
    rate = number(value)
    if rate is None and isinstance(value, str) and len(value) <= _LONGEST_TEXT:
        found = _RATE.fullmatch(value.strip())
        if found:
            rate = _divided(found[1], found[2])
    if rate is None:
        raise ValueError(f"not a rate: {shown(value)}")
    if not 0 <= rate <= FASTEST:
        raise ValueError(f"not a rate from 0 to {FASTEST} a second: {shown(value)}")
    return rate


def parse_time(value: object) -> int:
    """``2026-01-31T10:00:00Z``, ``2026-01-31 10:00+02:00``, or without a zone in UTC, in Unix nanoseconds."""
    if not isinstance(value, str) or not _TIME.fullmatch(value.strip()):
        raise ValueError(f"not a time, such as '2026-01-31T10:00:00Z': {shown(value)}")
    try:
        moment = datetime.datetime.fromisoformat(value.strip())
    except ValueError as error:
        raise ValueError(f"not a time: {shown(value)} ({error})") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    since = moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    if not 0 <= since.days < _MOST_DAYS:
        raise ValueError(f"not a time from 1970 to 2199: {shown(value)}")
    return since // datetime.timedelta(microseconds=1) * 1000


def names_no_zone(value: object) -> bool:
    """Whether a text is a time that leaves open where it is of."""
    found = _TIME.fullmatch(value.strip()) if isinstance(value, str) else None
    return found is not None and found[1] is None


def _divided(amount: str, per: str) -> Fraction | None:
    try:
        period = parse_duration(f"1{per}" if per in UNITS else per, unit_needed=True)
    except ValueError:
        return None
    return Fraction(amount) * SECOND / period if period else None


def format_duration(duration_ns: int) -> str:
    """The shortest exact text that ``parse_duration`` reads back, such as ``1h30m`` or ``1500ms``."""
    if duration_ns == 0:
        return "0s"
    if duration_ns % SECOND:
        unit = next(unit for unit in ("ms", "us", "ns") if duration_ns % UNITS[unit] == 0)
        return f"{duration_ns // UNITS[unit]}{unit}"
    text, rest = "", duration_ns
    for unit in ("h", "m", "s"):
        amount, rest = divmod(rest, UNITS[unit])
        text += f"{amount}{unit}" if amount else ""
    return text


def shown(value: object, limit: int = 60) -> str:
    """A value as a message shows it: in one line, and cut where it is long."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and abs(value) >= 10**limit:
        return "a very large number"
    if isinstance(value, str) and len(value) > limit:
        value = value[: limit - 3] + "..."
    return repr(value)
