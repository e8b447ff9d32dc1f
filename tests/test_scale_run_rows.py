"""What readers hold of a run's rows is what a fresh look at the store gives, however it came about."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from loads.scheduler.cluster import Cluster
from loads.scheduler.effects import PutRows
from loads.scheduler.run_rows import RunRows
from loads.scheduler.store import Store

from loads_queue.model.histogram import Histogram
from loads_queue.model.summary import Row, Series


def row(second: int, count: int, names: tuple[str, ...]) -> Row:
    times = Histogram()
    times.record(1_000_000 * (second + 1), count)
    series = {name: Series(attempted=count, answered=count, ok=count, response_ok=times) for name in names}
    return Row(second, started=count, ok=count, lateness=times.copy(), series=series)


def total(rows: list[Row], second: int) -> Row:
    found = Row(second)
    for each in rows:
        found.add(each)
    return found


class Source:
    """A store that rows are put into, and what they come to."""

    def __init__(self, url: str) -> None:
        self.store = Store(url)
        self.epoch = self.store.take_epoch("me", 1) or 0
        self.sequence = 0
        self.truth: dict[tuple[int, str, int], Row] = {}

    def put(self, step: int, claim: str, found: Row) -> None:
        self.sequence += 1
        self.truth[step, claim, found.second] = found
        put = PutRows("run", step, 0, claim, self.sequence, (found.to_wire(),))
        self.store.commit(Cluster(epoch=self.epoch), [], [put], [], [], [], 1)

    def agrees(self, held: RunRows) -> None:
        with self.store.engine.connect() as connection:
            held.refresh(connection, "run")
        for step, second in {(step, second) for step, _, second in self.truth}:
            parts = [row for (of, _, at), row in self.truth.items() if (of, at) == (step, second)]
            assert held.by_step[step][second] == total(parts, second)
        for (_, claim, second), whole in self.truth.items():
            slim = held.by_claim[claim][second]
            assert (slim.started, slim.ok) == (whole.started, whole.ok)
            assert sum(each.attempted for each in slim.series.values()) == whole.started * len(whole.series)
            assert slim.lateness.count == 0


@pytest.mark.parametrize("seed", range(5))
def test_rows_that_come_and_change_in_any_order_add_up(seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)
    source = Source(f"sqlite:///{tmp_path / 'loads.db'}")
    held = RunRows()
    for _ in range(12):
        for _ in range(dice.randrange(6)):
            step = dice.randrange(2)
            names = tuple("abc"[: dice.randrange(1, 4)])
            source.put(step, f"{step}.{dice.randrange(3)}", row(dice.randrange(3), dice.randrange(1, 9), names))
        source.agrees(held)
    source.agrees(RunRows())


def test_what_was_given_out_stays_as_it_was(tmp_path: Path) -> None:
    source = Source(f"sqlite:///{tmp_path / 'loads.db'}")
    held = RunRows()
    source.put(0, "a", row(0, 2, ("x",)))
    source.agrees(held)
    given = held.by_step[0][0]
    source.put(0, "b", row(0, 3, ("x",)))
    source.put(0, "a", row(0, 4, ("x",)))
    source.agrees(held)
    assert (given.started, held.by_step[0][0].started) == (2, 7)
