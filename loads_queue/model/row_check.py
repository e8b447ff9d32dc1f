"""Rows as they come from workers: checked cheaply on their way in, read safely on their way out.

A row holds dozens of histograms, and decoding one costs more than everything else about it. So ``check`` looks at
what the ledger adds up (every count, every name) and, of a histogram, only whether it is the text of one; ``read``
decodes, and leaves a histogram out that makes no sense: its counts stand, its times were never measured.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from typing import Any

from .histogram import Histogram
from .sockets import SOCKET_HISTOGRAMS, SOCKET_NUMBERS, Sockets
from .summary import ROW_COUNTS, ROW_HISTOGRAMS, ROW_MAXIMA, SERIES_COUNTS, SERIES_HISTOGRAMS, Row, Series

_ROW_NUMBERS = frozenset((*ROW_COUNTS, *ROW_MAXIMA))
_ROW_HISTOGRAMS = frozenset(ROW_HISTOGRAMS)
_SERIES_COUNTS = frozenset(SERIES_COUNTS)
_SERIES_HISTOGRAMS = frozenset(SERIES_HISTOGRAMS)
_SOCKET_NUMBERS = frozenset(SOCKET_NUMBERS)
_SOCKET_HISTOGRAMS = frozenset(SOCKET_HISTOGRAMS)


def check(wire: Mapping[str, Any]) -> None:
    """Raise ValueError for what ``read`` could not make a row of, or one before the schedule."""
    if not _quick(wire):
        Row.from_wire(wire)
    if wire["second"] < 0:
        raise ValueError("second: before the schedule")


def read(wire: Mapping[str, Any]) -> Row:
    """The row; histograms that can't be decoded are empty. Raises ValueError where ``check`` does for other reasons."""
    try:
        return Row.from_wire(wire)
    except ValueError:
        return Row.from_wire(_mended(wire))


def _quick(wire: Any) -> bool:
    """Whether nothing but the inside of a histogram can be wrong. False is no verdict."""
    if type(wire) is not dict or type(wire.get("second")) is not int:
        return False
    for name, value in wire.items():
        if name in _ROW_NUMBERS:
            if type(value) is not int or value < 0:
                return False
        elif name in _ROW_HISTOGRAMS:
            if not _encoded(value):
                return False
        elif name == "series":
            if type(value) is not dict or not all(map(_quick_series, value.values())):
                return False
        elif name == "sockets":
            if not _quick_sockets(value):
                return False
        elif name != "second":
            return False
    return True


def _quick_sockets(wire: Any) -> bool:
    if type(wire) is not dict:
        return False
    for name, value in wire.items():
        if name in _SOCKET_NUMBERS:
            if type(value) is not int or value < 0:
                return False
        elif name in _SOCKET_HISTOGRAMS:
            if not _encoded(value):
                return False
        else:
            try:
                Sockets.from_wire({name: value})
            except ValueError:
                return False
    return True


def _quick_series(wire: Any) -> bool:
    if type(wire) is not dict:
        return False
    for name, value in wire.items():
        if name in _SERIES_COUNTS:
            if type(value) is not int or value < 0:
                return False
        elif name in _SERIES_HISTOGRAMS:
            if not _encoded(value):
                return False
        elif name == "statuses":
            if type(value) is not dict or not all(map(_status, value)) or not all(map(_count, value.values())):
                return False
        elif name in ("errors", "checks"):
            try:
                Series.from_wire({name: value})
            except ValueError:
                return False
        else:
            return False
    return True


def _count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _status(text: str) -> bool:
    return len(text) == 3 and text.isascii() and text.isdecimal() and text[0] != "0"


def _encoded(value: Any) -> bool:
    try:
        return type(value) is str and binascii.a2b_base64(value, strict_mode=True)[:1] == b"\1"
    except ValueError:
        return False


def _mended(wire: Mapping[str, Any]) -> dict[str, Any]:
    """The row less the histograms that can't be decoded."""
    row = {name: value for name, value in wire.items() if name not in _ROW_HISTOGRAMS or _decodes(value)}
    if "sockets" in wire:
        row["sockets"] = {
            name: value for name, value in wire["sockets"].items() if name not in _SOCKET_HISTOGRAMS or _decodes(value)
        }
    if "series" in wire:
        row["series"] = {
            series: {name: value for name, value in of.items() if name not in _SERIES_HISTOGRAMS or _decodes(value)}
            for series, of in wire["series"].items()
        }
    return row


def _decodes(text: str) -> bool:
    try:
        Histogram.from_text(text)
    except ValueError:
        return False
    return True
