"""What the store promises however many things one decision writes at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from loads.scheduler import tables
from loads.scheduler.cluster import Cluster
from loads.scheduler.effects import PutRows
from loads.scheduler.store import Store
from loads.scheduler.upserts import unpack_row
from sqlalchemy import select

SECOND = 1_000_000_000


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'loads.db'}"


def commit(store: Store, epoch: int, rows: list[PutRows], messages: list[tuple[str, str]] | None = None) -> Any:
    return store.commit(Cluster(epoch=epoch), [], rows, messages or [], [], [], 1)


def put(claim: str, sequence: int, *rows: dict[str, Any]) -> PutRows:
    return PutRows("run", 0, 0, claim, sequence, rows)


def held(store: Store) -> dict[tuple[str, int], tuple[int, dict[str, Any]]]:
    with store.engine.connect() as connection:
        found = connection.execute(select(tables.rows))
        return {(row.claim, row.second): (row.sequence, unpack_row(row.data)) for row in found}


def versions(store: Store) -> list[int]:
    with store.engine.connect() as connection:
        return sorted(connection.execute(select(tables.rows.c.version)).scalars())


def test_of_two_rows_of_one_second_in_one_decision_the_later_report_counts(url: str) -> None:
    store = Store(url)
    epoch = store.take_epoch("me", 1) or 0
    early, late = {"second": 3, "ok": 1}, {"second": 3, "ok": 2}
    commit(store, epoch, [put("a", 8, late), put("a", 7, early), put("b", 1, early)])
    assert held(store) == {("a", 3): (8, late), ("b", 3): (1, early)}
    commit(store, epoch, [put("a", 7, early)])
    assert held(store)["a", 3] == (8, late)


def test_a_standby_numbers_on_from_what_the_other_scheduler_wrote_meanwhile(url: str) -> None:
    first, standby = Store(url), Store(url)
    epoch = first.take_epoch("first", 1) or 0
    commit(first, epoch, [put("a", 1, {"second": second}) for second in range(5)], [("control.w", "{}")])
    assert standby.take_epoch("standby", 2) is None
    first.free_epoch(epoch)
    epoch = standby.take_epoch("standby", 3) or 0
    (sent,) = commit(standby, epoch, [put("a", 2, {"second": 9})], [("control.w", "{}")])
    assert versions(standby) == [1, 2, 3, 4, 5, 6], "a reader that has seen 5 rows asks for those after them"
    assert [each.id for each in standby.outgoing()] == [sent.id - 1, sent.id]
