"""What people see: a view that keeps its size, plain lines, and tables; nothing from a target is ever markup."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loads.scheduler import live, output, words
from loads.scheduler.live_data import now_of
from loads.scheduler.results import summary
from loads.scheduler.view import RunView, WorkerView
from rich.console import Console
from run_views import STARTED_AT, open_load, rows_of, run_view, simple, step_view

from loads_queue.model.ledger import SECOND, Columns, Requests

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
    )

    @pytest.mark.parametrize("view", VIEWS)
    @pytest.mark.parametrize("width", [80, 120])
    def test_it_is_as_tall_and_as_wide_whatever_it_shows(self, view: RunView, width: int) -> None:
        lines = drawn(live.picture(view, now_of(view), "footer"), width).splitlines()
        assert len(lines) == 21
        assert max(map(len, lines)) <= width

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
