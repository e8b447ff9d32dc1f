"""What people see: a view that keeps its size, plain lines, and tables; nothing from a target is ever markup."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loads.scheduler import live, output, words
from loads.scheduler.live_data import now_of
from loads.scheduler.results import summary
from loads.scheduler.view import ChangeView, EventView, RunView, WorkerView
from rich.console import Console
from run_views import STARTED_AT, open_load, rows_of, run_view, simple, step_view, taken_over

from loads_queue.model.ledger import SECOND, Columns, Requests
from loads_queue.model.states import RunState

EVIL = "[bold red]evil[/]\x1b[31m\x07\r\n[link=http://x]"


def screen(width: int = 80) -> Console:
    return Console(
        file=io.StringIO(), width=width, height=24, force_terminal=True, markup=False, highlight=False, emoji=False
    )


def drawn(thing: Any, width: int = 80) -> str:
    """What a terminal of that width would show, colours left out."""
    console = screen(width)
    console.print(thing)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def running(outcomes: list[str], at_s: float, **more: Any) -> RunView:
    """A run of 10 arrivals a second for 60 s, as it stands after those outcomes."""
    rows = rows_of([(outcome, 5_000_000) for outcome in outcomes])
    now = STARTED_AT + int(at_s * SECOND)
    given = {"state": "running", "now_at": now, "ended_at": None, **more}
    return run_view(step_view(rows, open_load(10, 60), cause=None), **given)


class TestLiveView:
    VIEWS = (
        RunView("r1"),
        RunView("r1", state="waiting", reason="0 of 3 slots free after 20s: start more workers", now_at=STARTED_AT),
        running([], 0.2),
        running(["ok", "failed", "interrupted", "dropped_late"] * 20, 9.5),
        running(["ok"] * 600, 61.0, warnings=("a", "b", EVIL), workers=(WorkerView(EVIL, slots=9, last_report_at=1),)),
        simple(["failed"] * 30, project=EVIL, plan=EVIL * 9),
        replace(
            taken_over(),
            state="stopping",
            reason=EVIL * 9,
            events=tuple(EventView(STARTED_AT, EVIL * 9, EVIL) for _ in range(9)),
            changes=(ChangeView(EVIL * 9, 90 * SECOND, Fraction(3, 2)),),
            workers=tuple(
                WorkerView(f"{EVIL}{number}", slots=9, refused=EVIL, last_report_at=1) for number in range(9)
            ),
            now_at=1,
        ),
    )

    @pytest.mark.parametrize("view", VIEWS)
    @pytest.mark.parametrize("width", [80, 120])
    def test_it_is_as_tall_and_as_wide_whatever_it_shows(self, view: RunView, width: int) -> None:
        lines = drawn(live.picture(view, now_of(view), "footer"), width).splitlines()
        assert len(lines) == 21
        assert max(map(len, lines)) <= width

    def test_it_tells_why_a_run_waits(self) -> None:
        reason = "3 of 8 slots free after 30s: start more workers or lower `workers:`"
        shown = drawn(live.picture(RunView("r1", reason=reason), now_of(RunView("r1")), "footer"))
        assert reason in shown

    def test_it_tells_how_far_a_start_is(self) -> None:
        (step,) = running([], 0.0).steps
        claims = (replace(step.claims[0], state="ready"), replace(step.claims[0], state="granted", shard=1))
        view = RunView("r1", state="starting", steps=(replace(step, workers=2, claims=claims),))
        assert "1 of 2 shards ready" in drawn(live.picture(view, now_of(view), "footer"))
        assert "begins in 1:05" in drawn(live.picture(running([], -65.0), now_of(view), "footer"))

    def test_it_tells_whom_the_end_waits_for(self) -> None:
        (step,) = running([], 0.0).steps
        claims = tuple(
            replace(step.claims[0], worker=name, state=state)
            for name, state in (("w1", "dead"), ("w2", "ended"), ("w1", "dead"))
        )
        view = replace(running(["ok"], 61.0), state="finalising", steps=(replace(step, claims=claims),))
        assert "waits for what w1 may still report" in drawn(live.picture(view, now_of(view), "footer"))
        view = replace(view, reason="aborted by ann")
        assert "finalising: aborted by ann, waits for what w1 may" in live.plain_line(view, now_of(view))
        claims = tuple(replace(claims[0], worker=f"w{number}") for number in range(5))
        view = replace(view, reason="", steps=(replace(step, claims=claims),))
        assert "waits for what w0, w1, w2 and 2 more may still report" in live.plain_line(view, now_of(view))

    def test_it_tells_of_gaps(self) -> None:
        view = taken_over()
        shown = drawn(live.picture(view, now_of(view), "footer"))
        assert "gaps      1: 17 missed, 6 lost; browse 1/1: w1 went silent at 0:01, for 2.3s" in shown
        (step,) = view.steps
        view = replace(view, steps=(replace(step, gaps=(replace(step.gaps[0], end_ns=None),)),))
        assert "w1 went silent at 0:01\n" in re.sub(" +\n", "\n", drawn(live.picture(view, now_of(view), "footer")))

    def test_it_tells_of_the_newest_events(self) -> None:
        events = tuple(EventView(STARTED_AT + second * SECOND, f"event {second}", "ann") for second in (-2, 3, 64))
        view = running(["ok"] * 30, 65.0, events=events)
        shown = drawn(live.picture(view, now_of(view), "footer"))
        assert "event -2" not in shown
        assert re.search(r"events +0:03  ann: event 3", shown)
        assert re.search(r"\n +1:04  ann: event 64", shown)

    @pytest.mark.parametrize(
        ("changes", "shown"),
        [
            ([], "running  "),
            ([(1, "3/2")], "running  x 1.5 "),
            ([(1, "3/2"), (3, "0")], "running  paused "),
            ([(1, "0"), (3, "1")], "running  "),
            ([(1, "0"), (9, "1")], "running  as planned from 0:09"),
            ([(9, "1/3")], "running  x 0.3333 from 0:09"),
        ],
    )
    def test_it_tells_what_the_load_was_set_to(self, changes: list[tuple[int, str]], shown: str) -> None:
        made = tuple(ChangeView("browse", at * SECOND, Fraction(factor)) for at, factor in changes)
        view = running(["ok"] * 30, 5.0, changes=made)
        assert shown in drawn(live.picture(view, now_of(view), "footer")).splitlines()[0]

    def test_a_change_of_one_step_names_it(self) -> None:
        (step,) = running(["ok"] * 30, 5.0).steps
        change = ChangeView("buy", 0, Fraction(0))
        view = running(["ok"] * 30, 5.0, changes=(change,))
        view = replace(view, steps=(step, replace(step, name="buy", index=1)))
        assert "buy paused" in drawn(live.picture(view, now_of(view), "footer")).splitlines()[0]

    def test_several_workers(self) -> None:
        def worker(name: str, quiet: int, free: int, **more: str) -> WorkerView:
            return WorkerView(name, slots=4, free=free, last_report_at=STARTED_AT + (60 - quiet) * SECOND, **more)

        (step,) = running([], 0.0).steps
        claims = (replace(step.claims[0], worker="w2"),)
        view = replace(running([], 60.0), steps=(replace(step, claims=claims),))
        known = (worker("w1", 0, 3), worker("w2", 12, 4), worker("w3", 1, 2), worker("gone", 3600, 4))
        shown = drawn(live.picture(replace(view, workers=known), now_of(view), "footer"))
        assert re.search(r"workers +2 here, 3 of 8 slots busy; w2 quiet for 0:12 *\n", shown)
        refused = (*known, worker("w4", 1, 4, refused="clock is off"))
        shown = drawn(live.picture(replace(view, workers=refused[2:]), now_of(view), "footer"))
        assert "2 here, 2 of 8 slots busy; refused: w4: clock is off" in shown

    def test_big_numbers_fit(self) -> None:
        view = running(["ok"] * 90, 9.5)
        for step in view.steps:
            for name in ("planned", "started", "ok", "failed", "lost", "interrupted", "in_flight", "pending"):
                setattr(step.ledger.total, name, 88_888_888)
                if hasattr(step.ledger.requests, name):
                    setattr(step.ledger.requests, name, 888_888_888)
        lines = drawn(live.picture(view, now_of(view), "footer")).splitlines()
        assert len(lines) <= 23, "a terminal of 24 lines has one for the cursor"
        assert not any("…" in line for line in lines)

    def test_it_shows_where_the_run_stands(self) -> None:
        view = running(["ok"] * 60 + ["failed"] * 25 + ["dropped_in_flight"] * 5, 10.2)
        shown = drawn(live.picture(view, now_of(view), "footer"))
        assert "0:10 / 1:00" in shown
        assert "planned 10.0/s" in shown
        assert "600 planned = 85 started + 5 dropped" in shown
        assert "+ 510 to come" in shown
        assert "p50 5.01ms" in shown or "p50 5.00ms" in shown
        assert re.search(r"errors +25  status 500", shown)

    def test_nothing_from_elsewhere_is_an_order_to_the_terminal(self) -> None:
        view = self.VIEWS[4]
        console = screen()
        console.print(live.picture(view, now_of(view), "footer"))
        text = console.file.getvalue()  # type: ignore[attr-defined]
        assert "[bold red]evil[/]" in text
        assert set(re.findall(r"\x1b[^m]*m?", text)) == set(re.findall(r"\x1b\[[0-9;]*m", text))
        assert "\x1b[31m\x07" not in text
        assert "\x07" not in text

    def test_a_terminal_is_left_as_it_was(self) -> None:
        console = screen()
        terminal = live.screen_for(console, quiet=False)
        assert isinstance(terminal, live.Terminal)
        terminal.update(running(["ok"] * 30, 4.0))
        terminal.close()
        text = console.file.getvalue()  # type: ignore[attr-defined]
        assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1, "the cursor is hidden, then shown again"


class TestPlainLines:
    def lines(self, *views: RunView, clock: float = 0.0) -> list[str]:
        found: list[str] = []
        self.now = 0.0
        plain = live.Plain(found.append, lambda: self.now)
        for view in views:
            plain.update(view)
            self.now += 1.0
        return found

    def test_a_line_every_five_seconds(self) -> None:
        views = [running(["ok"] * 10 * second, second + 1.0) for second in range(12)]
        lines = self.lines(*views)
        assert [line.split()[0] for line in lines] == ["0:01/1:00", "0:06/1:00", "0:11/1:00"]
        assert "planned 10.0/s  started 10.0/s" in lines[-1]
        assert "ok 100 failed 0 dropped 0 in flight 0" in lines[-1]

    def test_waiting_is_told_when_it_lasts(self) -> None:
        waiting = RunView("r1", state="waiting", reason="0 of 3 slots free")
        assert self.lines(*[waiting] * 5) == []
        assert self.lines(*[waiting] * 6) == ["0:00 waiting: 0 of 3 slots free"]

    def test_a_warning_is_told_once(self) -> None:
        lines = self.lines(*[running(["ok"], 2.0, warnings=(EVIL,))] * 3)
        assert sum(line.startswith("warning: [bold red]evil") for line in lines) == 1
        assert not any("\x1b" in line or "\n" in line for line in lines)

    def test_gaps_and_changes_are_told_once_each(self) -> None:
        view = taken_over()
        (step,) = view.steps
        (gap,) = step.gaps
        opened = replace(view, state="running", steps=(replace(step, gaps=(replace(gap, end_ns=None),)),))
        later = replace(opened, steps=(replace(step, gaps=(replace(gap, begin_ns=1_500_000_000, end_ns=None),)),))
        kept = replace(gap, cause="no_permit", begin_ns=SECOND, end_ns=4 * SECOND)
        change = ChangeView("browse", 90 * SECOND, Fraction(0))
        changed = replace(view, steps=(replace(step, gaps=(kept, gap)),), changes=(change,))
        lines = [
            line
            for line in self.lines(opened, later, later, view, changed, changed)
            if line.startswith(("gap", "change"))
        ]
        assert lines == [
            "gap: browse 1/1: w1 went silent at 0:01",
            "gap: browse 1/1: the load goes on, after 2.3s",
            "gap: browse 1/1: w1 was kept from working at 0:01, for 3s",
            "change: browse: paused from 1:30 on",
        ]

    def test_a_pause_is_in_the_line(self) -> None:
        change = ChangeView("browse", SECOND, Fraction(0))
        view = running(["ok"] * 30, 5.0, changes=(change,))
        assert live.plain_line(view, now_of(view)).startswith("0:05/1:00 running, paused  planned")

    def test_where_there_is_no_terminal(self) -> None:
        assert isinstance(live.screen_for(Console(file=io.StringIO()), quiet=False), live.Plain)
        assert isinstance(live.screen_for(screen(), quiet=True), live.Silent)


class TestReport:
    def shown(self, view: RunView, width: int = 80, **more: Any) -> str:
        return drawn(output.report(summary(view, **more), (Path("out/summary.json"), Path("out/timeline.csv"))), width)

    def test_tables(self) -> None:
        shown = self.shown(simple(["ok"] * 20 + ["failed"] * 5 + ["dropped_in_flight"] * 5))
        assert re.search(r"GET / +25 +8\.33/s +20% ", shown)
        assert "30 planned = 25 started + 5 dropped + 0 missed + 0 cancelled" in shown
        assert "25 started = 20 ok + 5 failed + 0 interrupted + 0 lost" in shown
        assert "dropped: 5 in flight" in shown
        assert "25 attempted = 20 ok + 5 failed + 0 interrupted + 0 lost" in shown
        assert re.search(r"pass +iteration:error_rate < 100% +20%", shown)
        assert re.search(r" 5 +status 500 +browse / GET /", shown)
        assert "out/summary.json" in shown
        assert shown.splitlines()[-1].startswith("PASSED  30 planned, 20 ok, 5 failed, ledger balanced")

    def test_a_ledger_that_does_not_balance_is_shouted(self) -> None:
        view = simple(["ok"] * 20)
        view.steps[0].ledger.total.started += 1
        shown = self.shown(view)
        assert "20 planned ≠ 21 started" in shown
        assert "21 started ≠ 20 ok" in shown
        assert "DOES NOT BALANCE" in shown

    def test_a_run_that_was_cut_short_is_not_called_wrong(self) -> None:
        view = replace(simple(["ok"] * 20), state=RunState.RUNNING)
        total = view.steps[0].ledger.total
        total.planned, total.pending = total.planned + 7, 7
        shown = self.shown(view)
        assert "27 planned = 20 started + 0 dropped + 0 missed + 0 cancelled" in shown and "+ 7 to come" in shown
        assert "NOT CLOSED" in shown and "BALANCE" not in shown
        assert shown.splitlines()[-1].startswith(
            "INCOMPLETE  27 planned, 20 ok, 0 failed, 7 not accounted for: cut short"
        )
        total.started += 30  # More than was planned: that is wrong, however it ended.
        assert "DOES NOT BALANCE" in self.shown(view)

    @pytest.mark.parametrize("width", [60, 80, 120])
    def test_names_from_elsewhere_are_shown_as_they_are(self, width: int) -> None:
        rows = rows_of([("failed", 5)] * 10, name=EVIL * 5)
        rows[0].series[EVIL * 5].errors = {EVIL: 10}
        view = run_view(step_view(rows, open_load(10, 1), EVIL), warnings=(EVIL,))
        console = screen(width)
        console.print(output.report(summary(view), ()))
        text = console.file.getvalue()  # type: ignore[attr-defined]
        plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
        assert "[bold red]evil[/]" in plain
        assert "\x1b" not in plain
        assert "\x07" not in plain
        assert "\x1b[31m\x07" not in text

    def test_numbers_are_whole_however_narrow_it_is(self) -> None:
        rows = rows_of([("ok", 123_456_789)] * 30, name="GET /a/rather/long/path/{that}/goes/on/and/on?for=ever")
        shown = self.shown(run_view(step_view(rows, open_load())))
        assert re.search(r"GET /a/.*… +30 +10\.0/s +0% +123ms +123ms +123ms +123ms +123ms", shown)

    def test_gaps_and_changes(self) -> None:
        view = taken_over()
        shown = self.shown(replace(view, changes=(ChangeView("browse", 90 * SECOND, Fraction(3, 2)),)))
        assert re.search(r"Gaps\n +browse 1/1 +w1 went silent +at 0:01, for 2.3s +17 missed, 6 lost", shown)
        assert re.search(r"Changes\n +browse +x 1.5 from 1:30 on", shown)
        line = output.verdict_line(summary(view)).plain
        assert line.endswith("37 ok, 0 failed, ledger balanced, 1 gap: 17 missed, 6 lost")
        without = self.shown(simple(["ok"] * 10))
        assert "Gaps" not in without
        assert "Changes" not in without

    def test_only_the_longest_gaps(self) -> None:
        view = taken_over()
        (step,) = view.steps
        gaps = tuple(replace(step.gaps[0], end_ns=(2 + number) * SECOND, attempt=number) for number in range(15))
        endless = replace(step.gaps[0], end_ns=None, worker="[b]w9")
        shown = self.shown(replace(view, steps=(replace(step, gaps=(*gaps, endless)),)))
        assert "and 6 further ones" in shown
        assert re.search(r"\[b\]w9 went silent +at 0:01, to the end", shown)
        assert "at 0:01, for 14.8s" in shown
        assert "for 0.8s" not in shown

    def test_user_time(self) -> None:
        view = simple(["ok"] * 10)
        view.steps[0].ledger.user_time.planned = view.steps[0].ledger.user_time.held = 3 * SECOND
        assert "3.0s planned = 3.0s held + 0.0s missed + 0.0s cancelled" in self.shown(view)
        assert "user time" not in self.shown(simple(["ok"] * 10))

    def test_only_the_most_frequent_errors(self) -> None:
        view = simple(["failed"] * 10)
        view.steps[0].rows[0].series["GET /"].errors = {f"error {number}": number + 1 for number in range(15)}
        shown = self.shown(view)
        assert "error 14" in shown
        assert "error 3 " not in shown
        assert "and 5 further kinds" in shown

    @pytest.mark.parametrize(
        ("expression", "shown"),
        [
            ("p95 < 6ms", "5.00ms"),
            ("iteration:rate > 1/s", "10.0/s"),
            ("error_rate < 1%", "0%"),
            ("requests == 10", "10"),
            ("ok >= 100%", "100%"),
            ("p95 < 1ms", "is 5ms"),
        ],
    )
    def test_a_threshold_has_its_value(self, expression: str, shown: str) -> None:
        from loads_queue.model.thresholds import parse

        text = self.shown(simple(["ok"] * 10, thresholds=(parse(expression),)))
        assert re.search(rf"(pass|FAIL) +{re.escape(expression)} +{re.escape(shown)} *\n", text)


class TestWords:
    @given(st.text())
    def test_clean_text_is_one_printable_line(self, text: str) -> None:
        assert words.clean(text).isprintable()
        assert len(words.clean(text)) <= 200

    @pytest.mark.parametrize(
        ("ms", "shown"),
        [(None, "-"), (0.0004, "0us"), (0.25, "250us"), (1.5, "1.50ms"), (42.42, "42.4ms"), (250.4, "250ms"),
         (1500, "1.50s"), (61_000, "61.0s")],
    )  # fmt: skip
    def test_latency(self, ms: float | None, shown: str) -> None:
        assert words.latency(ms) == shown

    @pytest.mark.parametrize(
        ("part", "shown"),
        [(None, "-"), (0.0, "0%"), (1.0, "100%"), (0.25, "25%"), (0.00001, "<0.01%"), (0.99999, ">99.99%"),
         (0.0123, "1.23%")],
    )  # fmt: skip
    def test_a_percentage_is_never_rounded_to_all_or_nothing(self, part: float | None, shown: str) -> None:
        assert words.percent(part) == shown

    @pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00"), (61.9, "1:01"), (3661, "1:01:01"), (-1, "0:00")])
    def test_clock(self, seconds: float, shown: str) -> None:
        assert words.clock(seconds) == shown

    @given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 3), st.integers(40, 80))
    def test_folding_changes_no_term(self, started: int, dropped: int, off: int, width: int) -> None:
        columns = Columns(planned=started + dropped + off, started=started, dropped_late=dropped, ok=started)
        equation = words.planned_equation(columns)
        folded = words.fold(equation, width)
        assert " ".join(line.strip() for line in folded) == equation
        assert ("≠" in equation) == bool(off)
        assert all(len(line) <= width or "+" not in line.strip(" +") for line in folded)

    def test_requests(self) -> None:
        asked = Requests(attempted=5, ok=3, failed=1, in_flight=1)
        assert words.requests_equation(asked) == (
            "5 attempted = 3 ok + 1 failed + 0 interrupted + 0 lost + 1 in flight"
        )


def test_the_progress_of_counted_iterations_is_by_what_is_done() -> None:
    from loads_queue.model.profile import IterationsLoad

    view = running(["ok"] * 30, 4.0)
    (step,) = view.steps
    now = now_of(replace(view, steps=(replace(step, load=IterationsLoad(((60, 10),)), kind="iterations"),)))
    assert (now.length_s, now.progress) == (None, 30 / 600)
