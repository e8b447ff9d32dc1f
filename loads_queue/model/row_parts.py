"""What rows are made of, to JSON and back: counts, histograms, and counts by name or by number. Zeros are left out.

Whatever comes in may be anything: every ``read_`` function raises ValueError, with the name of the field, for what the
other direction would not have made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .histogram import Histogram


def counts(value: object, names: tuple[str, ...]) -> dict[str, Any]:
    """The counts of an object that are not zero, by name."""
    return {name: count for name in names if (count := getattr(value, name))}


def histograms(value: object, names: tuple[str, ...]) -> dict[str, Any]:
    """The histograms of an object that are not empty, by name, as text."""
    return {name: histogram.to_text() for name in names if (histogram := getattr(value, name)).count}


def by_number(of: Mapping[int, int]) -> dict[str, int]:
    """Counts by number, as JSON has names: texts."""
    return {str(number): count for number, count in of.items()}


def add_counts(into: dict[Any, int], other: Mapping[Any, int]) -> None:
    """Add counts by name, or by number, to others."""
    for name, count in other.items():
        into[name] = into.get(name, 0) + count


def read_counts(wire: Mapping[str, Any], names: tuple[str, ...], known: set[str]) -> dict[str, Any]:
    """The counts that are there; ``known`` are the fields that there may be."""
    if not isinstance(wire, Mapping):
        raise ValueError("not an object")
    if unknown := set(wire) - known:
        raise ValueError(f"unknown: {', '.join(sorted(map(str, unknown)))}")
    return {name: read_count(wire[name], name) for name in names if name in wire}


def read_histograms(wire: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The histograms that are there."""
    found = {}
    for name in names:
        if name in wire:
            if not isinstance(wire[name], str):
                raise ValueError(f"{name}: not a histogram")
            found[name] = Histogram.from_text(wire[name])
    return found


def read_mapping(wire: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object with texts for names; an empty one where there is none."""
    value = wire.get(name, {})
    if not isinstance(value, Mapping):
        raise ValueError(f"{name}: not an object")
    if not all(isinstance(key, str) for key in value):
        raise ValueError(f"{name}: a name that is not text")
    return value


def read_by_name(wire: Mapping[str, Any], name: str) -> dict[str, int]:
    """Counts by name."""
    return {key: read_count(count, name) for key, count in read_mapping(wire, name).items()}


def read_by_number(wire: Mapping[str, Any], name: str, called: str) -> dict[int, int]:
    """Counts by number; ``called`` is what a number is."""
    found = {}
    for key, count in read_mapping(wire, name).items():
        if not key.isdecimal() or key != str(int(key)):
            raise ValueError(f"{name}: not {called}: {key!r}")
        found[int(key)] = read_count(count, name)
    return found


def read_count(value: object, name: str) -> int:
    """A count: a whole number from 0 on."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{name}: not a count")
    return value
