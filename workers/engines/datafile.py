"""A step's data: rows for ``row.*``, each shard taking its own share of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loads_queue.model import shard as shares
from loads_queue.model.rows import RowError, read_rows
from loads_queue.model.scenario import Data


class Exhausted(Exception):
    """Every row is used and the plan says to stop."""


class Rows:
    """The rows of a file, by a cluster-wide number that no two users or iterations share."""

    def __init__(self, spec: Data, path: str, seed: int) -> None:
        """Raises ValueError where the file can't be read or has no rows."""
        self.name = spec.file
        self.per_user = spec.per == "user"
        self.wrapped = False
        """Whether a row was used again."""
        self._stops = spec.when_exhausted == "stop"
        self._random = spec.order == "random"
        self._seed = seed
        try:
            with open(path, encoding="utf-8-sig", newline="") as file:
                rows = read_rows(spec.file, file)
                first = next(rows, None)
                if first is None:
                    raise ValueError("no rows")
                self._names = tuple(first)
                # Tuples: a row as a mapping of its own would take several times the memory.
                self._rows = [tuple(first.values()), *(tuple(row[name] for name in self._names) for row in rows)]
        except (OSError, UnicodeError, RowError, ValueError) as error:
            raise ValueError(f"data {spec.file}: {error}") from None

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
        return dict(zip(self._names, self._rows[index], strict=True))
