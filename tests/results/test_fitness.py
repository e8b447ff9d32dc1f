"""Seconds that measured the generator: in the summary, in the timeline, in thresholds that failed, and in words."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from loads.scheduler import live, live_wire, output
from loads.scheduler.live_data import Errors, now_of
from loads.scheduler.results import summary
from loads.scheduler.view import RunView
from rich.console import Console
from run_views import open_load, rows_of, run_view, step_view

from loads_queue.model.ledger import SECOND
from loads_queue.model.summary import Row
from loads_queue.model.thresholds import parse

MS = 1_000_000
HEALTHY = {"engines": 1, "cpu_ns": 100 * MS, "busiest_ns": 100 * MS, "wanted_ns": 150 * MS, "lag_ns": 2 * MS}
SATURATED = {"engines": 1, "cpu_ns": 993 * MS, "busiest_ns": 993 * MS, "wanted_ns": 999 * MS, "lag_ns": 12 * MS}
STOPPED = {**HEALTHY, "lag_ns": 700 * MS}


def run(*seconds: tuple[Mapping[str, int], int, str], thresholds: tuple[str, ...] = (), **more: Any) -> RunView:
    """A run of 10 arrivals a second; by second the engine's vitals, a response time in milliseconds and an outcome."""
    made = [(outcome, ms * MS) for _, ms, outcome in seconds for _ in range(10)]
    rows = []
    for row, (vitals, _, _) in zip(rows_of(made), seconds, strict=True):
        row = replace(row, **vitals)
        row.lateness = type(row.lateness)()
        rows.append(row)
    view = run_view(step_view(tuple(rows), open_load(10, len(seconds))), **more)
    return replace(view, thresholds=tuple(parse(text) for text in thresholds))


def fast(vitals: Mapping[str, int] = HEALTHY) -> tuple[Mapping[str, int], int, str]:
    return vitals, 5, "ok"


def slow(vitals: Mapping[str, int]) -> tuple[Mapping[str, int], int, str]:
    return vitals, 500, "ok"


class TestSummary:
    def test_a_healthy_run(self) -> None:
        found = summary(run(fast(), fast()))
        assert found["fitness"] == {
            "fit_seconds": 2,
            "unfit_seconds": 0,
            "unfit": [],
            "worst": {"lag_ms": 2.0, "cpu": 0.1, "cpu_wanted": 0.15, "lateness_ms": None},
            "verdict": "",
        }
        assert found["steps"][0]["fitness"] == found["fitness"]
        assert [(row["lag"], row["cpu"], row["fit"]) for row in found["timeline"]] == [(2.0, 0.1, True)] * 2

    def test_unfit_seconds_are_stretches_with_their_reasons(self) -> None:
        found = summary(run(fast(), slow(SATURATED), slow({**SATURATED, "lag_ns": 80 * MS}), fast(), slow(STOPPED)))
        fitness = found["fitness"]
        assert (fitness["fit_seconds"], fitness["unfit_seconds"]) == (2, 3)
        assert fitness["unfit"] == [
            {"from": 1, "to": 3, "reasons": ["cpu", "lag"]},
            {"from": 4, "to": 5, "reasons": ["lag"]},
        ]
        assert fitness["worst"] == {"lag_ms": 700.0, "cpu": 0.993, "cpu_wanted": 0.999, "lateness_ms": None}
        assert fitness["verdict"] == (
            "3 of 5 s measured the generator, not the target: engine at 99.3% CPU (in 2), loop 700ms behind (in 2)"
        )
        assert [row["fit"] for row in found["timeline"]] == [True, False, False, True, False]

    def test_without_figures_a_second_is_neither(self) -> None:
        found = summary(run(fast({}), slow({})))
        assert (found["fitness"]["fit_seconds"], found["fitness"]["unfit_seconds"]) == (0, 0)
        assert set(found["fitness"]["worst"].values()) == {None}
        assert [(row["lag"], row["cpu"], row["fit"]) for row in found["timeline"]] == [(None, None, None)] * 2

    def test_of_several_steps_a_second_is_unfit_where_one_is(self) -> None:
        one, two = run(fast(), slow(SATURATED)), run(slow(STOPPED), fast({**STOPPED, "lag_ns": 60 * MS}))
        view = run_view(one.steps[0], replace(two.steps[0], name="buy", index=1))
        found = summary(view)
        assert [step["fitness"]["unfit_seconds"] for step in found["steps"]] == [1, 2]
        assert found["fitness"]["unfit"] == [{"from": 0, "to": 2, "reasons": ["cpu", "lag"]}]
        assert found["timeline"][1]["lag"] == 60.0


class TestBlame:
    """A threshold that failed is the generator's where it holds in the fit seconds, or where there are none."""

    @pytest.mark.parametrize(
        ("seconds", "threshold", "blamed"),
        [
            ([fast()] * 3 + [slow(SATURATED)], "p95 < 100ms", True),
            ([fast()] * 3 + [slow(SATURATED)], "iteration:p95 < 100ms", True),
            ([fast()] * 3 + [slow(SATURATED)], "p95(browse@steady) < 100ms", True),
            ([fast()] * 3 + [slow(SATURATED)], "p95(browse/GET /) < 100ms", True),
            ([slow(SATURATED)] * 3, "p95 < 100ms", True),
            ([slow(HEALTHY)] * 3 + [slow(SATURATED)], "p95 < 100ms", False),
            ([slow(HEALTHY)] * 3 + [fast(SATURATED)], "p95 < 100ms", False),
            ([slow(HEALTHY)] * 3, "p95 < 100ms", False),
            ([slow({})] * 3, "p95 < 100ms", False),
            ([fast(), (SATURATED, 5, "dropped_in_flight")], "dropped == 0", True),
            ([fast(), (SATURATED, 5, "dropped_in_flight")], "dropped < 1%", True),
            ([fast(), (SATURATED, 5, "dropped_in_flight")], "p99 < 100ms", True),
            ([(HEALTHY, 5, "dropped_in_flight"), fast(SATURATED)], "dropped == 0", False),
            ([fast(), (HEALTHY, 5, "dropped_late")], "dropped_late == 0", True),
            ([fast(), (SATURATED, 5, "dropped_in_flight")], "rate > 9/s", True),
            ([(SATURATED, 5, "dropped_in_flight")], "rate > 9/s", True),
            ([fast(), fast(SATURATED)], "rate > 20/s", False),
            ([fast(SATURATED)], "rate < 5/s", False),
            ([fast(), (SATURATED, 5, "failed")], "error_rate < 1%", False),
            ([fast(), (SATURATED, 5, "dropped_in_flight")], "requests > 15", False),
        ],
    )
    def test_whose_it_is(self, seconds: list[tuple[Mapping[str, int], int, str]], threshold: str, blamed: bool) -> None:
        (each,) = summary(run(*seconds, thresholds=(threshold,)))["thresholds"]
        assert (each["passed"], each["generator"]) == (False, blamed)

    def test_what_holds_is_nobodys_fault(self) -> None:
        (each,) = summary(run(fast(SATURATED), thresholds=("p95 < 100ms",)))["thresholds"]
        assert (each["passed"], each["generator"]) == (True, False)


class TestWords:
    def shown(self, view: RunView) -> str:
        console = Console(file=io.StringIO(), width=120)
        console.print(output.report(summary(view), ()))
        return console.file.getvalue()  # type: ignore[attr-defined]

    def test_a_healthy_run_says_nothing(self) -> None:
        shown = self.shown(run(fast(), fast()))
        assert "enerator" not in shown

    def test_the_verdict_blames_the_generator(self) -> None:
        shown = self.shown(run(fast(), slow(SATURATED), thresholds=("p95 < 100ms",)))
        assert re.search(r"FAIL +p95 < 100ms +is 500ms: the generator, not the target *\n", shown)
        assert re.search(
            r"\n  1 of 2 s measured the generator, not the target: engine at 99.3% CPU *\n  at 0:01-0:02", shown
        )
        assert shown.splitlines()[-1].endswith("1 of 1 thresholds failed: the generator, not the target")

    def test_the_verdict_blames_it_for_what_it_did(self) -> None:
        view = run(fast(), slow(SATURATED), thresholds=("p95 < 100ms", "p50 < 1ms"))
        line = output.verdict_line(summary(view)).plain
        assert line.endswith("2 of 2 thresholds failed, 1 of them for the generator, not the target")

    def test_a_pass_says_how_much_of_it_was_unfit(self) -> None:
        line = output.verdict_line(summary(run(fast(), slow(SATURATED)))).plain
        assert line.startswith("PASSED")
        assert line.endswith("ledger balanced, 1 of 2 s measured the generator, not the target")

    def test_a_summary_of_an_older_version_is_shown(self) -> None:
        found = summary(run(slow(SATURATED), thresholds=("p95 < 100ms",)))
        old = {name: value for name, value in found.items() if name != "fitness"}
        old["steps"] = [{name: value for name, value in step.items() if name != "fitness"} for step in found["steps"]]
        old["thresholds"] = [{name: one[name] for name in one if name != "generator"} for one in found["thresholds"]]
        console = Console(file=io.StringIO(), width=120)
        console.print(output.report(old, ()))
        assert "enerator" not in console.file.getvalue()  # type: ignore[attr-defined]

    def test_the_longest_stretches_are_told(self) -> None:
        shown = self.shown(run(*([slow(STOPPED), fast()] * 8), slow(STOPPED), slow(STOPPED)))
        assert "at 0:00-0:01, 0:02-0:03, 0:04-0:05, 0:06-0:07, 0:08-0:09, 0:16-0:18 and 3 more" in shown

    def test_the_live_view_and_the_plain_line(self) -> None:
        view = replace(run(fast(), slow(SATURATED)), state="running", ended_at=None, now_at=None)
        now = now_of(view)
        assert now.unfit == "1 of 2 s measured the generator, not the target: engine at 99.3% CPU"
        console = Console(file=io.StringIO(), width=80)
        console.print(live.picture(view, now, "footer"))
        lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
        assert len(lines) == 21
        assert "unfit     1 of 2 s measured the generator, not the target: engine at 99.3% CPU" in lines
        assert live.plain_line(view, now).endswith("not the target: engine at 99.3% CPU")

    def test_it_goes_over_the_wire_and_may_be_absent(self) -> None:
        view = run(fast(), slow(SATURATED))
        wire = live_wire.to_wire(view, now_of(view))
        assert live_wire.from_wire(wire)[1].unfit.startswith("1 of 2 s measured")
        del wire["now"]["unfit"]
        assert live_wire.from_wire(wire)[1].unfit == ""

    def test_a_row_that_was_amended_is_judged_anew(self) -> None:
        errors = Errors()
        assert now_of(run(fast(), fast()), errors).unfit == ""
        assert now_of(run(fast(), slow(STOPPED)), errors).unfit.startswith("1 of 2 s")


def test_seconds_before_the_load_began_do_not_matter() -> None:
    row = Row(0, engines=1, cpu_ns=SECOND, busiest_ns=SECOND, wanted_ns=SECOND)
    view = run(fast(), fast())
    (step,) = view.steps
    found = summary(replace(view, steps=(replace(step, rows=(row, *step.rows[1:])),)))
    assert found["fitness"]["unfit"] == [{"from": 0, "to": 1, "reasons": ["cpu"]}]
