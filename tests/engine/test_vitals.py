"""How an engine measures itself: by virtual clocks, and an engine that is stopped and let go on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest
from engine_harness import EngineProcess, open_load, scenario
from engine_targets import DemoTarget
from loads.workers.engines import vitals
from loads.workers.engines.recorder import SECOND, Recorder
from loads.workers.engines.vitals import PROBE_NS, Vitals

BASE = 100 * SECOND
MS = SECOND // 1000


class Machine:
    """Clocks that stand still unless told, and a pacer whose alarms ring when they are due."""

    def __init__(self, at: int = BASE) -> None:
        self.now = at
        self.cpu = self.waited = 0
        self.alarms: list[tuple[int, Callable[[], object]]] = []
        self.recorder = Recorder(BASE)
        self.vitals = Vitals(self, BASE, lambda: self.now, lambda: self.cpu, lambda: self.waited)  # type: ignore[arg-type]
        self.vitals.begin()

    def at(self, due: int, callback: Callable[[], object]) -> Machine:
        self.alarms.append((due, callback))
        return self

    def cancel(self) -> None:
        self.alarms.clear()

    def run(self, until_ms: int, share: float = 0.0, waiting: float = 0.0) -> None:
        """Live on to a time of the schedule, every alarm on time, with such a share of the processor."""
        end = BASE + until_ms * MS
        while self.alarms and self.alarms[0][0] <= end:
            due, callback = self.alarms.pop(0)
            self.go_to(max(due, self.now), share, waiting)
            callback()
        self.go_to(end, share, waiting)

    def go_to(self, at: int, share: float, waiting: float) -> None:
        self.cpu += int((at - self.now) * share)
        self.waited += int((at - self.now) * waiting)
        self.now = at

    def stall(self, ms: int, share: float = 0.0) -> None:
        """No alarm rings for so long; then those that are due do."""
        self.go_to(self.now + ms * MS, share, 0)
        self.run((self.now - BASE) // MS)

    def row(self, second: int) -> tuple[int, int, int, int]:
        """Engines, processor time, what was wanted of it, and lag, in milliseconds; rounded to whole ones."""
        self.recorder.live(second)
        self.vitals.note(self.recorder)
        row = self.recorder.live(second).row
        assert row.cpu_ns == row.busiest_ns
        return (row.engines, *(round(value / MS) for value in (row.busiest_ns, row.wanted_ns, row.lag_ns)))


def test_each_second_has_its_own_share() -> None:
    machine = Machine()
    machine.run(1000, share=0.5, waiting=0.25)
    machine.run(2000, share=0.99)
    assert [machine.row(second) for second in (0, 1, 2)] == [(1, 500, 750, 0), (1, 990, 990, 0), (0, 0, 0, 0)]


def test_what_was_before_the_schedule_counts_nowhere() -> None:
    machine = Machine(BASE - 5 * SECOND)
    machine.run(0, share=1.0)
    machine.run(1000, share=0.25)
    assert machine.row(0) == (1, 250, 250, 0)


def test_a_stall_stands_in_every_second_that_it_touched() -> None:
    machine = Machine()
    machine.run(900)
    machine.stall(2300)
    assert [machine.row(second)[3] for second in range(5)] == [2280, 2200, 1200, 200, 0]


def test_a_callback_that_works_long_is_lag_and_processor_time() -> None:
    machine = Machine()
    machine.run(200)
    machine.stall(100, share=1.0)
    machine.run(1000)
    assert machine.row(0) == (1, 100, 100, 80)


def test_less_than_half_a_second_is_no_share_of_its_own() -> None:
    machine = Machine()
    machine.run(100)
    machine.stall(2800, share=0.0)
    machine.run(3000, share=1.0)  # A tenth of a second at full speed: it caught up.
    machine.run(4000, share=0.5)
    assert [machine.row(second)[1] for second in range(4)] == [0, 0, 600, 500]


@pytest.mark.parametrize(("ms", "engines"), [(499, 0), (500, 1)])
def test_the_last_second_counts_where_it_was_long_enough(ms: int, engines: int) -> None:
    machine = Machine()
    machine.run(1000)
    machine.run(1000 + ms, share=0.75)
    machine.vitals.finish()
    assert machine.row(1) == (engines, engines * 750, engines * 750, 0)
    assert not machine.alarms


def test_seconds_in_which_nothing_happened_get_no_row() -> None:
    machine = Machine()
    machine.run(3000, share=1.0)
    machine.vitals.note(machine.recorder)
    assert machine.recorder.take(0) == []


def test_a_row_that_is_begun_late_gets_its_figures_and_is_told_once() -> None:
    machine = Machine()
    machine.run(3000, share=0.5)
    machine.vitals.note(machine.recorder)
    assert machine.row(1)[1] == 500
    assert len(machine.recorder.take(0)) == 1
    machine.vitals.note(machine.recorder)
    assert machine.recorder.take(0) == []


def test_it_remembers_a_minute_and_no_more() -> None:
    machine = Machine()
    for second in range(1, 200):
        machine.run(second * 1000, share=0.5)
        machine.vitals.note(machine.recorder)
    assert len(machine.vitals._lags) < 65 > len(machine.vitals._shares)


def test_where_the_kernel_does_not_count_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_args: object, **_more: object) -> object:
        raise FileNotFoundError

    monkeypatch.setattr(vitals, "open", absent, raising=False)
    assert vitals.waited_ns() == 0


def test_an_engine_that_was_stopped_says_so(engine: EngineProcess, demo: DemoTarget) -> None:
    engine.spec(scenario(demo.url), open_load(50, 3))
    engine.until_ready()
    engine.start()
    engine.permit()
    engine.until("snapshot")
    time.sleep(1.2)
    os.kill(engine.process.pid, signal.SIGSTOP)
    began = time.monotonic()
    time.sleep(0.4)
    os.kill(engine.process.pid, signal.SIGCONT)
    stood_still = (time.monotonic() - began) * SECOND
    assert engine.finish()["cause"] == "finished"
    assert max(row.lag_ns for row in engine.rows.values()) >= stood_still - 2 * PROBE_NS
    assert all(
        row.engines == 1 and 0 < row.busiest_ns <= row.wanted_ns for row in engine.rows.values() if row.second < 3
    )
