"""A step's data: rows for ``row.*``, each shard taking its own share of them."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from typing import Any

from loads_queue.model import shard as shares
from loads_queue.model.scenario import Data


class Exhausted(Exception):
    """Every row is used and the plan says to stop."""


class Rows:
    """The rows of a file, by a cluster-wide number that no two users or iterations share."""

    def __init__(self, spec: Data, path: str, seed: int) -> None:
        """Raises ValueError where the file can't be read or has no rows."""
        self.per_user = spec.per == "user"
        self.wrapped = False
        """Whether a row was used again."""
        self._stops = spec.when_exhausted == "stop"
        self._random = spec.order == "random"
        self._seed = seed
        try:
            self._names, self._rows = _read(path)
        except (OSError, UnicodeError, csv.Error) as error:
            raise ValueError(f"data {spec.file}: {error}") from None
        if not self._rows:
            raise ValueError(f"data {spec.file}: no rows")

    def at(self, number: int) -> Mapping[str, Any]:
        """The row for a user or iteration; raises Exhausted."""
        length = len(self._rows)
        turn, index = divmod(number, length)
        if turn:
            if self._stops:
                raise Exhausted
            self.wrapped = True
        if self._random:
            index = shares.permuted(index, length, self._seed + turn)
        row = self._rows[index]
        return dict(zip(self._names, row, strict=False)) if self._names is not None else row


def _read(path: str) -> tuple[list[str] | None, list[Any]]:
    """(names, rows) of a CSV file with a header; (None, objects) of JSON lines."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        start = file.read(1)
        file.seek(0)
        if start == "{":
            return None, [_object(line, number) for number, line in enumerate(file, 1) if line.strip()]
        reader = csv.reader(file, strict=True)
        names = next(reader, [])
        return names, [row for row in reader if row]


def _object(line: str, number: int) -> dict[str, Any]:
    value = json.loads(line)
    if not isinstance(value, dict):
        raise ValueError(f"line {number} is not a JSON object")
    return value
