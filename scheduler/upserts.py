"""Writing many things with few statements: prepared upserts, one ``executemany`` a table.

A statement is built once: building, hashing and compiling one costs more than running it. Values are taken from a
dataclass by the names of its fields, which are those of the table's columns.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from operator import attrgetter
from typing import Any, cast

from sqlalchemy import Connection, Executable, Table

from . import tables
from .cluster import Claim, Run, Shard, Worker
from .effects import PutRows

TABLES: dict[type, Table] = {
    Run: tables.runs,
    Shard: tables.shards,
    Claim: tables.claims,
    Worker: tables.workers,
}


class Upserts:
    """Prepared statements for one kind of database; ``insert`` is its dialect's."""

    def __init__(self, insert: Callable[[Table], Any]) -> None:
        self._insert = insert
        self._things = {kind: self.of(table) for kind, table in TABLES.items()}
        self._rows = self._of_rows()

    def of(self, table: Table) -> Executable:
        """The statement that writes rows of a table, replacing those that are there."""
        statement = self._insert(table)
        keys = [column.name for column in table.primary_key]
        changed = {column.name: statement.excluded[column.name] for column in table.c if column.name not in keys}
        made: Executable = statement.on_conflict_do_update(index_elements=keys, set_=changed)
        return made

    def _of_rows(self) -> Executable:
        statement = self._insert(tables.rows)
        excluded = statement.excluded
        made: Executable = statement.on_conflict_do_update(
            index_elements=["claim", "second"],
            set_={"sequence": excluded.sequence, "version": excluded.version, "data": excluded.data},
            where=tables.rows.c.sequence < excluded.sequence,
        )
        return made

    def save(self, connection: Connection, things: Iterable[Run | Shard | Claim | Worker]) -> None:
        """Write things as they are now."""
        by_kind: dict[type, list[dict[str, Any]]] = {}
        for thing in things:
            by_kind.setdefault(type(thing), []).append(values_of(thing))
        for kind, values in by_kind.items():
            connection.execute(self._things[kind], values)

    def put_rows(self, connection: Connection, puts: Iterable[PutRows], version: int) -> int:
        """Write rows, numbered from ``version`` on; the last number given. Of one (claim, second) the higher
        sequence counts, whether the other is in the table or in this very batch."""
        newest: dict[tuple[str, int], tuple[PutRows, Mapping[str, Any]]] = {}
        for put in puts:
            for row in put.rows:
                key = put.claim, row["second"]
                held = newest.get(key)
                if held is None or held[0].sequence < put.sequence:
                    newest[key] = put, row
        values = []
        for (claim, second), (put, row) in newest.items():
            version += 1
            values.append(
                {
                    "claim": claim,
                    "second": second,
                    "run": put.run,
                    "step": put.step,
                    "shard": put.shard,
                    "sequence": put.sequence,
                    "version": version,
                    "data": pack_row(row),
                }
            )
        if values:
            connection.execute(self._rows, values)
        return version


def pack_row(row: Mapping[str, Any]) -> bytes:
    """A row's wire form as the store keeps it."""
    return zlib.compress(json.dumps(row, separators=(",", ":")).encode(), 1)


def unpack_row(data: bytes) -> dict[str, Any]:
    """What ``pack_row`` packed."""
    found: dict[str, Any] = json.loads(zlib.decompress(data))
    return found


@cache
def _reading(kind: Any) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]:
    names = tuple(each.name for each in fields(kind))
    return names, attrgetter(*names)


def values_of(thing: Any) -> dict[str, Any]:
    """A thing's fields as columns take them."""
    names, values = _reading(cast(Any, type(thing)))
    return {name: _plain(value) for name, value in zip(names, values(thing), strict=True)}


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind is int or kind is str or value is None:
        return value
    if is_dataclass(kind):
        return values_of(value)
    if kind is set:
        return sorted(value)
    if kind is tuple:
        return [_plain(item) for item in value]
    if kind is dict:
        return {name: _plain(item) for name, item in value.items()}
    return value
