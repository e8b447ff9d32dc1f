"""Data files, read row by row: CSV with a header, or JSON lines; pure, over an iterable of lines.

What is checked when a plan is read and what an engine reads are the same rows: blank lines are none, every row has
the header's columns (JSON lines: the keys of the first row). A file that begins with ``{`` is JSON lines, whatever its
name: an engine has only the content. Lines are counted from 1.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, NoReturn

JSON_LINES = (".jsonl", ".ndjson")


class RowError(ValueError):
    """A line that is no row, with a message for people that names the line."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"line {line}: {message}")
        self.line = line


def read_rows(name: str, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Every row as a mapping, in order; raises ``RowError`` at the first that is none.

    Values of CSV are texts, values of JSON lines any JSON. Lines keep their ends.
    """
    every = iter(lines)
    first = next(every, "")
    whole = chain([first], every)
    if first.startswith("{"):
        return _json_rows(whole)
    if name.lower().endswith(JSON_LINES):
        raise RowError(1, "JSON lines begin with '{'")
    return _csv_rows(whole)


def _csv_rows(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    reader = csv.reader(lines, strict=True)
    header: list[str] | None = None
    try:
        for values in reader:
            if header is None:
                header = values
                _check_header(header, reader.line_num)
                continue
            if not values:
                continue
            if len(values) != len(header):
                raise RowError(reader.line_num, f"{len(values)} values, and the header has {len(header)}")
            yield dict(zip(header, values, strict=True))
    except csv.Error as error:
        raise RowError(reader.line_num, str(error)) from None


def _check_header(header: list[str], line: int) -> None:
    if not header:
        raise RowError(line, "no header: the first line names the columns")
    if not all(header):
        raise RowError(line, "a column without a name")
    for name in header:
        if name != name.strip():
            raise RowError(line, f"a column's name with spaces around it: {name!r}")
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise RowError(line, f"two columns are called {twice!r}")


def _json_rows(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    columns: set[str] | None = None
    for line, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            row = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise RowError(line, f"not JSON: {error}") from None
        if not isinstance(row, dict) or not row:
            raise RowError(line, "not a JSON object with values in it")
        if columns is None:
            columns = set(row)
        if set(row) != columns:
            different = ", ".join(sorted(columns ^ set(row))[:5])
            raise RowError(line, f"not the keys of the first row: {different}")
        yield row


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
