"""Sessions in the summary, the timeline, the report and the live view; runs without any show nothing of them."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loads.scheduler import live, live_wire, output, results, words
from loads.scheduler.cluster import Cluster
from loads.scheduler.effects import PutRows
from loads.scheduler.live_data import Errors, RecentSockets, now_of
from loads.scheduler.results_series import LATENCY_KEYS
from loads.scheduler.results_sockets import TIMELINE_SOCKET_KEYS, merged_sockets
from loads.scheduler.results_timeline import TIMELINE_KEYS, timeline, timeline_csv
from loads.scheduler.run_rows import RunRows
from loads.scheduler.store import Store
from loads.scheduler.view import RunView, StepView
from rich.console import Console
from run_views import STARTED_AT, open_load, rows_of, run_view, simple, step_view, taken_over

from loads_queue.model.ledger import SECOND
from loads_queue.model.sockets import OTHER_CODE, Sockets
from loads_queue.model.summary import OTHER, Row

EVIL = "[bold red]evil[/]\x1b[31m\x07\r\n"
MS = 1_000_000


def drawn(thing: Any, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, height=24, markup=False, highlight=False, emoji=False)
    console.print(thing)
    return re.sub(" +\n", "\n", console.file.getvalue())  # type: ignore[attr-defined]


def talking(*seconds: Sockets, name: str = "chat", index: int = 0, **more: Any) -> StepView:
    """A step of 10 arrivals a second, with these sessions in its seconds."""
    rows = rows_of([("ok", 5 * MS)] * (10 * len(seconds)), name="connect")
    rows = tuple(replace(row, sockets=sockets) for row, sockets in zip(rows, seconds, strict=True))
    return step_view(rows, open_load(10, len(seconds)), name, index, **more)


def example() -> tuple[Sockets, ...]:
    """100 sessions that open in a second, talk in the next one, and of which 97 end in the third."""
    opening = Sockets(opened=100, open=100)
    under_way = Sockets(open=100, messages_out=3000, messages_in=2999, bytes_out=96_000, bytes_in=60_000, unsolicited=7)
    under_way.pings_out, under_way.pongs_in, under_way.pings_in = 20, 19, 1
    under_way.ping.record(2 * MS, 19)
    ending = Sockets(open=100, closed=97, codes={1000: 90, 1006: 4, OTHER_CODE: 3}, failures={"reset: x": 4})
    ending.failures["timeout: y"] = 3
    ending.lifetime.record(1500 * MS, 97)
    return opening, under_way, ending


class TestSummary:
    def test_a_step(self) -> None:
        (step,) = results.summary(run_view(talking(*example())))["steps"]
        found = step["sockets"]
        assert tuple(found) == (
            "opened", "closed", "open_at_end", "most_open", "messages_in", "messages_out", "bytes_in", "bytes_out",
            "unsolicited", "pings_out", "pongs_in", "pings_in", "rates", "ping", "lifetime", "codes", "failures",
        )  # fmt: skip
        assert (found["opened"], found["closed"], found["open_at_end"], found["most_open"]) == (100, 97, 3, 100)
        assert (found["messages_in"], found["messages_out"], found["unsolicited"]) == (2999, 3000, 7)
        assert (found["bytes_in"], found["bytes_out"]) == (60_000, 96_000)
        assert (found["pings_out"], found["pongs_in"], found["pings_in"]) == (20, 19, 1)
        assert found["rates"] == {
            "opened": 100 / 3,
            "closed": 97 / 3,
            "messages_in": 2999 / 3,
            "messages_out": 1000.0,
            "bytes_in": 20_000.0,
            "bytes_out": 32_000.0,
        }
        assert tuple(found["ping"]) == tuple(found["lifetime"]) == LATENCY_KEYS
        assert found["ping"]["p50"] == found["ping"]["max"] == 2.0, "milliseconds"
        assert found["lifetime"]["p50"] == found["lifetime"]["max"] == 1.5, "seconds"
        assert found["codes"] == {OTHER: 3, "1000": 90, "1006": 4}
        assert found["failures"] == [{"message": "reset: x", "count": 4}, {"message": "timeout: y", "count": 3}]

    def test_how_many_are_open_adds_up_over_steps_and_never_over_seconds(self) -> None:
        chat = talking(Sockets(opened=5, open=5), Sockets(open=5), Sockets(open=5))
        feed = talking(Sockets(opened=2, open=2), Sockets(opened=9, open=11), Sockets(open=3), name="feed", index=1)
        found = results.summary(run_view(chat, feed))
        assert [step["sockets"]["most_open"] for step in found["steps"]] == [5, 11]
        assert found["sockets"]["most_open"] == 16
        assert [row["sockets_open"] for row in found["timeline"]] == [7, 16, 8]

    def test_a_step_without_sessions_beside_one_with_some(self) -> None:
        browse = step_view(rows_of([("ok", MS)] * 30), open_load(), "browse", 1)
        late = replace(browse, delay_ns=60 * SECOND)
        found = results.summary(run_view(talking(*example()), late, ended_at=STARTED_AT + 70 * SECOND))
        assert "sockets" not in found["steps"][1]
        assert found["sockets"] == found["steps"][0]["sockets"], "rates are over the time of its own step"

    def test_sessions_of_which_none_ever_opened(self) -> None:
        (step,) = results.summary(run_view(talking(Sockets(), Sockets())))["steps"]
        found = step["sockets"]
        assert (found["opened"], found["most_open"], found["codes"], found["failures"]) == (0, 0, {}, [])
        assert set(found["lifetime"].values()) == set(found["ping"].values()) == {None}

    def test_runs_without_sessions_have_nothing_of_them(self) -> None:
        found = results.summary(simple(["ok"] * 20))
        assert "sockets" not in found and "sockets" not in found["steps"][0]
        assert all(tuple(row) == TIMELINE_KEYS for row in found["timeline"])
        assert timeline_csv(found["timeline"]).splitlines()[0] == ",".join(TIMELINE_KEYS)

    def test_gaps_take_nothing_from_sessions(self) -> None:
        view = taken_over()
        (step,) = view.steps
        before = results.summary(view)["steps"][0]["series"]
        rows = tuple(replace(row, sockets=Sockets(opened=1, open=1)) for row in step.rows)
        (after,) = results.summary(replace(view, steps=(replace(step, rows=rows),)))["steps"]
        assert after["series"] == before, "response_outside_gaps too"
        assert after["sockets"]["opened"] == after["sockets"]["open_at_end"] == len(rows)

    def test_it_is_json(self) -> None:
        found = results.summary(run_view(talking(*example())))
        assert json.loads(json.dumps(found, allow_nan=False)) == found


@st.composite
def claims(draw: st.DrawFn) -> list[list[Sockets]]:
    """By claim the sessions of three seconds, as a claim has them: none ends that has not begun."""
    made = []
    for _ in range(draw(st.integers(1, 3))):
        now, seconds = 0, []
        for _ in range(3):
            opened = draw(st.integers(0, 9))
            closed = draw(st.integers(0, now + opened))
            codes = {1000: closed - closed // 3, 1006: closed // 3}
            messages = draw(st.integers(0, 99))
            seconds.append(Sockets(opened, closed, messages_in=messages, messages_out=messages * 2, open=now + opened))
            seconds[-1].codes = {code: count for code, count in codes.items() if count}
            now += opened - closed
        made.append(seconds)
    return made


@given(claims())
def test_the_timeline_adds_up_to_the_summary(made: list[list[Sockets]]) -> None:
    seconds = []
    for second in range(3):
        row = Row(second)
        for claim in made:
            row.add(Row(second, sockets=claim[second]))
        seconds.append(row.sockets or Sockets())
    found = results.summary(run_view(talking(*seconds)))
    whole = found["sockets"]
    for column, name in zip(TIMELINE_SOCKET_KEYS[1:], ("opened", "closed", "messages_in", "messages_out"), strict=True):
        assert sum(row[column] for row in found["timeline"]) == whole[name]
    assert max(row["sockets_open"] for row in found["timeline"]) == whole["most_open"]
    assert whole["opened"] == whole["closed"] + whole["open_at_end"]
    assert whole["closed"] == sum(whole["codes"].values())
    assert whole["open_at_end"] >= 0
    merged = merged_sockets(Row(second, sockets=claim[second]) for claim in made for second in range(3))
    assert merged is not None and merged.open == whole["most_open"], "claims may be added up before seconds or after"


def test_the_csv_says_what_the_timeline_says() -> None:
    rows = timeline(run_view(talking(*example())))
    read = list(csv.DictReader(io.StringIO(timeline_csv(rows))))
    assert tuple(read[0]) == (*TIMELINE_KEYS, *TIMELINE_SOCKET_KEYS)
    assert [[int(row[key]) for key in TIMELINE_SOCKET_KEYS] for row in read] == [
        [100, 100, 0, 0, 0],
        [100, 0, 0, 2999, 3000],
        [100, 0, 97, 0, 0],
    ]


class TestReport:
    def shown(self, *steps: StepView) -> str:
        return drawn(output.report(results.summary(run_view(*steps)), ()))

    def test_a_step(self) -> None:
        assert """
Sockets
  sessions    100 (33.3/s) opened, 97 (32.3/s) closed, at most 100 open at once
              3 open at the end
  messages    3,000 (1,000/s) out, 2,999 (1,000/s) in
              7 of these unsolicited
  bytes       96.0 kB (32.0 kB/s) out, 60.0 kB (20.0 kB/s) in
  pings       19 of 20 answered  p50 2.00ms  p95 2.00ms  p99 2.00ms  max 2.00ms
  lifetime    p50 1.50s  p95 1.50s  p99 1.50s  max 1.50s
  ended by    90 x 1000 (normal), 4 x 1006 (no close frame), 3 x (other)
  failed      4 x reset: x
              3 x timeout: y

Ledger
""" in self.shown(talking(*example()))

    def test_what_did_not_happen_has_no_line(self) -> None:
        quiet = Sockets(opened=1, closed=1, open=1, codes={1001: 1})
        quiet.lifetime.record(3 * 3600 * SECOND)
        assert """
Sockets
  sessions    1 (1.00/s) opened, 1 (1.00/s) closed, at most 1 open at once
  messages    0 (0/s) out, 0 (0/s) in
  bytes       0 B (0 B/s) out, 0 B (0 B/s) in
  lifetime    p50 3:00:00  p95 3:00:00  p99 3:00:00  max 3:00:00
  ended by    1 x 1001 (going away)

""" in self.shown(talking(quiet))

    def test_a_step_without_sessions_has_no_such_section(self) -> None:
        assert "Sockets" not in drawn(output.report(results.summary(simple(["ok"] * 20)), ()))
        both = self.shown(talking(*example()), step_view(rows_of([("ok", MS)] * 30), open_load(), "browse", 1))
        assert both.count("Sockets") == 1
        assert both.index("Sockets") < both.index("browse")

    def test_long_lists_are_cut_and_foreign_text_is_no_order(self) -> None:
        many = Sockets(closed=20, codes={3000 + number: 1 for number in range(20)})
        many.failures = {f"{EVIL}{number}": 20 - number for number in range(20)}
        shown = self.shown(talking(many))
        assert "1 x 3004 and 15 further ones, in summary.json" in shown
        assert "and 15 further kinds, in summary.json" in shown
        assert "20 x [bold red]evil[/]" in shown
        assert "\x1b" not in shown and "\x07" not in shown


class TestLive:
    def view(self, *seconds: Sockets) -> RunView:
        at = STARTED_AT + (len(seconds) + 1) * SECOND
        return run_view(talking(*seconds, cause=None), state="running", now_at=at, ended_at=None)

    def steady(self, times: int = 1) -> RunView:
        second = Sockets(opened=50 * times, open=4980 * times, messages_in=5000 * times, messages_out=5000 * times)
        second.closed = 50 * (times - 1)
        return self.view(*[second] * 8)

    def test_the_newest_seconds(self) -> None:
        view = self.steady()
        assert now_of(view).sockets == RecentSockets(4980, 50.0, 0.0, 5000.0, 5000.0)
        shown = drawn(live.picture(view, now_of(view), "footer"), 80)
        line = "sockets   open 4,980  opened 50.0/s  closed 0/s  messages 5,000/s out 5,000/s in"
        assert f"\n{line}\n" in shown
        assert "  sockets 4,980  messages 5,000/s out 5,000/s in  " in live.plain_line(view, now_of(view))

    @pytest.mark.parametrize("times", [1, 20, 100])
    @pytest.mark.parametrize("width", [80, 120])
    def test_the_view_keeps_its_size(self, times: int, width: int) -> None:
        view = self.steady(times)
        lines = drawn(live.picture(view, now_of(view), "footer"), width).splitlines()
        without = simple(["ok"] * 80)
        assert len(lines) == len(drawn(live.picture(without, now_of(without), "footer"), width).splitlines())
        assert max(map(len, lines)) <= width
        assert not any("…" in line for line in lines)
        assert any(line.startswith("sockets   open") for line in lines)

    def test_a_run_that_holds_sessions_and_has_none_now(self) -> None:
        view = self.view(*[Sockets(opened=1, closed=1, open=1)] * 2, *[Sockets()] * 6)
        assert now_of(view).sockets == RecentSockets()
        (step,) = view.steps
        quiet = tuple(replace(row, sockets=None) if row.second > 1 else row for row in step.rows)
        view = replace(view, steps=(replace(step, rows=quiet),))
        assert now_of(view).sockets == RecentSockets(), "it is known from earlier rows"
        assert now_of(replace(view, now_at=STARTED_AT)).sockets == RecentSockets()

    def test_runs_without_sessions_have_no_such_line(self) -> None:
        view = simple(["ok"] * 20, now_at=STARTED_AT + 2 * SECOND, state="running", ended_at=None)
        now = now_of(view)
        assert now.sockets is None
        assert "sockets" not in drawn(live.picture(view, now, "footer"))
        assert "sockets" not in live.plain_line(view, now)
        assert "sockets" not in live_wire.to_wire(view, now)["now"]

    def test_it_goes_over_the_wire(self) -> None:
        view = self.steady()
        wire = json.loads(json.dumps(live_wire.to_wire(view, now_of(view, Errors()))))
        assert live_wire.from_wire(wire)[1].sockets == now_of(view).sockets
        wire["now"]["sockets"]["newer"] = 1
        assert live_wire.from_wire(wire)[1].sockets == now_of(view).sockets
        del wire["now"]["sockets"]
        assert live_wire.from_wire(wire)[1].sockets is None


def test_close_codes_in_words() -> None:
    assert words.close_code("1000") == "1000 (normal)"
    assert words.close_code("4321") == "4321"


def test_the_store_keeps_them_and_its_readers_add_them_up(tmp_path: Path) -> None:
    store, held, added = Store(f"sqlite:///{tmp_path / 'loads.db'}"), RunRows(), Row(1)
    epoch = store.take_epoch("me", 1) or 0
    for number, claim in enumerate("abc"):
        row = Row(1, started=1, sockets=example()[number])
        store.commit(Cluster(epoch=epoch), [], [PutRows("run", 0, 0, claim, 1, (row.to_wire(),))], [], [], [], 1)
        added.add(row)
        with store.engine.connect() as connection:
            held.refresh(connection, "run")
        assert held.by_step[0][1] == added
