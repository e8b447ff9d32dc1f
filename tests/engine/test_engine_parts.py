"""The engine's pure parts, each by itself: cookies, URLs, rows, the permit, data, and the clockwork."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gevent
import pytest
from engine_harness import SECOND, check_series
from hypothesis import given
from hypothesis import strategies as st
from loads.workers.engines import urls
from loads.workers.engines.clock import boottime_ns
from loads.workers.engines.cookies import CookieJar
from loads.workers.engines.datafile import Exhausted, Rows
from loads.workers.engines.errors import Refused
from loads.workers.engines.exchange import Exchange
from loads.workers.engines.live import Turn
from loads.workers.engines.pacer import Pacer, _LoopTimer
from loads.workers.engines.permit import Permit
from loads.workers.engines.recorder import ARCHIVED_SECONDS, MOST_SERIES, Recorder
from loads.workers.engines.users import next_due

from loads_queue.model.scenario import Data
from loads_queue.model.summary import OTHER, Row, RowSet, total


class TestCookies:
    @pytest.mark.parametrize(
        ("header", "host", "path", "secure", "sent"),
        [
            ("a=1", "h.test", "/x/z", False, "a=1"),
            ("a=1", "h.test", "/", False, ""),
            ("a=1; Path=/", "h.test", "/", False, "a=1"),
            ("a=1; Path=/x", "h.test", "/xy", False, ""),
            ("a=1; Path=/", "sub.h.test", "/", False, ""),
            ("a=1; Path=/; Domain=h.test", "sub.h.test", "/", False, "a=1"),
            ("a=1; Path=/; Domain=.H.test", "sub.h.test", "/", False, "a=1"),
            ("a=1; Path=/; Domain=other.test", "other.test", "/", False, ""),
            ("a=1; Path=/; Domain=test", "h.test", "/", False, ""),
            ("a=1; Path=/; Secure", "h.test", "/", False, ""),
            ("a=1; Path=/; Secure", "h.test", "/", True, "a=1"),
            ("a=1; Path=/; Max-Age=10", "h.test", "/", False, "a=1"),
            ("a=1; Path=/; Max-Age=0", "h.test", "/", False, ""),
            ("a=1; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "h.test", "/", False, ""),
            ("a=1; Path=/; Expires=Fri, 31-Dec-99 23:59:59 GMT", "h.test", "/", False, "a=1"),
            ("a=1; Path=/; Expires=nonsense", "h.test", "/", False, "a=1"),
            ("a=1; Path=/; Max-Age=10; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "h.test", "/", False, "a=1"),
            ("nothing; Path=/", "h.test", "/", False, "nothing"),
            ("; Path=/", "h.test", "/", False, ""),
            ("a=1\x00; Path=/", "h.test", "/", False, ""),
        ],
    )
    def test_who_gets_it_back(self, header: str, host: str, path: str, secure: bool, sent: str) -> None:
        jar = CookieJar()
        jar.take(header, "h.test", "/x/y", 1000)
        assert jar.header(host, path, secure, 1001) == sent

    def test_they_expire_and_are_replaced(self) -> None:
        jar = CookieJar()
        jar.take("a=1; Max-Age=10", "h", "/", 1000)
        jar.take("a=2; Max-Age=20", "h", "/", 1000)
        assert jar.header("h", "/", False, 1019) == "a=2"
        assert jar.header("h", "/", False, 1020) == ""

    def test_the_longest_path_comes_first_and_there_are_not_too_many(self) -> None:
        jar = CookieJar()
        for number in range(1000):
            jar.take(f"c{number}=1; Path=/", "h", "/", 0)
        jar.take("long=1; Path=/a/b", "h", "/", 0)
        sent = jar.header("h", "/a/b/c", False, 1).split("; ")
        assert len(sent) == 200 and sent[0] == "long=1" and sent[-1] == "c999=1"

    @given(st.text(max_size=60), st.sampled_from(["a=1; Domain=", "a=1; Path=", "a=1; Expires=", "a=1; Max-Age=", ""]))
    def test_nothing_that_a_target_sets_breaks_it(self, text: str, start: str) -> None:
        jar = CookieJar()
        jar.take(start + text, "h.test", "/", 1000)
        assert "\n" not in jar.header("h.test", "/", True, 1000)


class TestUrls:
    @pytest.mark.parametrize(
        ("text", "origin", "target"),
        [
            ("http://H.test", ("http", "h.test", 80), "/"),
            ("HTTPS://h.test:8443/a?b#c", ("https", "h.test", 8443), "/a?b"),
            ("http://[::1]:80/é", ("http", "::1", 80), "/%C3%A9"),
            ("http://h?x", ("http", "h", 80), "/?x"),
            ("http://bücher.test/", ("http", "xn--bcher-kva.test", 80), "/"),
        ],
    )
    def test_whole_ones(self, text: str, origin: tuple[str, str, int], target: str) -> None:
        assert urls.parse(text) == (origin, target)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "/x",
            "ftp://h/",
            "http://",
            "http://h:0/",
            "http://h:99999/",
            "http://a b/",
            "http://h/\n",
            "http://[::1/",
        ],
    )
    def test_what_is_none(self, text: str) -> None:
        with pytest.raises(Refused):
            urls.parse(text)

    @pytest.mark.parametrize(
        ("reference", "target"),
        [
            ("/c", "/c"), ("c", "/a/c"), ("./c", "/a/c"), ("../c", "/c"), ("../../../c", "/c"), ("?q", "/a/b?q"),
            ("", "/a/b?x=y"), ("c/..", "/a/"), ("//other/z", "/z"), ("http://other", "/"), ("/a b", "/a%20b"),
        ],
    )  # fmt: skip
    def test_references(self, reference: str, target: str) -> None:
        assert urls.join(urls.parse("http://h/a/b?x=y"), reference).target == target

    def test_the_host_header(self) -> None:
        shown = [urls.parse(text).origin.authority for text in ("http://h:80", "https://h:80", "http://[::1]:8080")]
        assert shown == ["h", "h:80", "[::1]:8080"]


STEPS = st.lists(st.tuples(st.sampled_from("bseiduxnt"), st.integers(0, 3), st.integers(0, 3)), max_size=80)


class TestRecorder:
    @given(STEPS)
    def test_whatever_happens_each_row_and_each_whole_balance(self, steps: list[tuple[str, int, int]]) -> None:
        """Rows handed out over time, each replacing the one before, add up to what happened: nothing is lost."""
        recorder = Recorder(0)
        world = _Happenings(recorder)
        rows, sequence = RowSet(), 0
        for kind, which, forward in steps:
            world.now += forward * SECOND // 3
            if kind == "t":
                sequence += 1
                for wire in recorder.take(world.now // SECOND - 1):
                    assert rows.put("claim", sequence, Row.from_wire(wire))
            else:
                world.happen(kind, which)
        world.finish()
        for wire in recorder.take(1 << 60):
            rows.put("claim", sequence + 1, Row.from_wire(wire))
        assert not recorder._rows and not recorder._series
        whole = total(rows.rows())
        for row in rows.rows():
            assert row.started == row.ok + row.failed + row.interrupted and row.in_flight == 0
        assert (whole.started, whole.dropped + whole.missed) == (world.started, world.dropped)
        assert (recorder.started, recorder.attempted) == (world.started, world.attempted)
        series = whole.series.get("a")
        assert (series.attempted if series else 0) == world.attempted
        if series:
            check_series(series)
            assert series.in_flight == 0 and series.unsent == world.unsent

    def test_names_are_bounded_and_memory_is_given_back(self) -> None:
        recorder = Recorder(0)
        for number in range(MOST_SERIES + 100):
            x = Exchange(f"name {number}", SECOND, False)
            x.sent = 5
            recorder.sent(x)
            x.ended = 6
            recorder.settle(x)
        (row,) = recorder.take(1)
        assert len(row["series"]) == MOST_SERIES + 1 and row["series"][OTHER]["ok"] == 100
        assert recorder._series == {} and recorder.take(1) == []

    def test_a_forgotten_row_is_never_begun_again(self) -> None:
        recorder = Recorder(0)
        recorder.drop("missed", 0)
        recorder.take(10 + ARCHIVED_SECONDS)
        recorder.drop("missed", 0)
        assert [row["second"] for row in recorder.take(0)] == [10 + ARCHIVED_SECONDS]

    def test_hours_leave_nothing_behind(self) -> None:
        recorder = Recorder(0)
        for second in range(5000):
            now = second * SECOND
            turn = recorder.start(now, now, now)
            recorder.end(turn, "ok", now + 5)
            assert len(recorder.take(second - 1)) <= 2
        assert len(recorder._rows) <= 3


class _Happenings:
    """Begins and ends things at random, and counts them the simple way."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.now = 0
        self.turns: list[Turn] = []
        self.sent: list[Exchange] = []
        self.started = self.dropped = self.attempted = self.unsent = 0

    def happen(self, kind: str, which: int) -> None:
        recorder, now = self.recorder, self.now
        if kind == "b":
            self.turns.append(recorder.start(max(0, now - which * SECOND // 2) if which < 2 else now, now, now))
            self.started += 1
        elif kind == "e" and self.turns:
            recorder.end(self.turns.pop(which % len(self.turns)), ("ok", "failed", "interrupted")[which % 3], now)
        elif kind == "d":
            recorder.drop(("dropped_in_flight", "dropped_late", "dropped_resource", "missed")[which], now, which + 1)
            self.dropped += which + 1
        elif kind == "s":
            x = Exchange("a", SECOND, False)
            x.sent = now
            recorder.sent(x)
            self.sent.append(x)
            self.attempted += 1
        elif kind == "u":
            self._end(Exchange("a", SECOND, False), "refused")
            self.attempted += 1
            self.unsent += 1
        elif kind in "xin" and self.sent:
            x = self.sent.pop(which % len(self.sent))
            if kind == "n":
                recorder.unsend(x)
                self.unsent += 1
            x.status = 200 if kind == "x" else None
            self._end(x, "broken" if kind == "n" else None, interrupted=kind == "i")

    def _end(self, x: Exchange, error: str | None, interrupted: bool = False) -> None:
        x.ended, x.error = self.now, error
        if interrupted:
            self.recorder.interrupt(x)
        else:
            self.recorder.settle(x)

    def finish(self) -> None:
        while self.turns:
            self.happen("e", 0)
        while self.sent:
            self.happen("x", 0)


class TestPermit:
    def test_half_of_the_room_may_be_used_before_it_asks(self) -> None:
        permit = Permit()
        assert permit.hungry(0, 0)
        permit.replace(1, 110, 1010, 10, 10)
        assert not permit.hungry(60, 510)
        assert permit.hungry(61, 0) and permit.hungry(0, 511)

    def test_one_at_its_bound_is_hungry_and_one_that_needs_no_more_is_not(self) -> None:
        permit = Permit()
        permit.replace(1, 10, 10, 10, 0)
        assert permit.hungry(10, 0) and not permit.hungry(-1, 0)


@given(st.integers(0, 100), st.integers(1, 20), st.integers(-50, 300))
def test_paced_turns_are_multiples_that_have_not_passed(anchor: int, pace: int, free: int) -> None:
    due = next_due(anchor, pace, free)
    assert (due - anchor) % pace == 0 and due >= max(anchor, free) and (due == anchor or due - pace < free)


class TestData:
    def rows(self, tmp_path: Path, text: str = "a,b\n1,x\n2,y\n3,z\n", **how: Any) -> Rows:
        path = tmp_path / "digest"
        path.write_text(text)
        return Rows(Data("rows.csv", **how), str(path), 1)

    def test_they_begin_again_and_say_so(self, tmp_path: Path) -> None:
        rows = self.rows(tmp_path)
        assert [rows.at(number)["a"] for number in range(3)] == ["1", "2", "3"] and not rows.wrapped
        assert rows.at(4) == {"a": "2", "b": "y"} and rows.wrapped

    def test_or_they_are_used_up(self, tmp_path: Path) -> None:
        rows = self.rows(tmp_path, when_exhausted="stop")
        assert rows.at(2)
        with pytest.raises(Exhausted):
            rows.at(3)

    def test_each_time_round_is_another_permutation(self, tmp_path: Path) -> None:
        text = "a\n" + "".join(f"{number}\n" for number in range(50))
        rows = self.rows(tmp_path, text, order="random")
        first, second = ([rows.at(turn * 50 + number)["a"] for number in range(50)] for turn in (0, 1))
        assert sorted(first) == sorted(second) == sorted(str(number) for number in range(50))
        assert first != second

    def test_json_lines_keep_their_types(self, tmp_path: Path) -> None:
        assert self.rows(tmp_path, '{"a": 1, "b": [2]}\n{"b": null, "a": 3}\n').at(1) == {"a": 3, "b": None}

    @pytest.mark.parametrize("text", ["", "a,b\n", "a,b\n1\n", '{"a": 1}\n{}\n', "\xff"])
    def test_what_is_no_data(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(ValueError, match=r"^data rows\.csv: "):
            self.rows(tmp_path, text)


class TestPacer:
    def ring(self, pacer: Pacer, *after_ms: int) -> list[int]:
        rung: list[int] = []
        start = boottime_ns()
        for after in after_ms:
            pacer.at(start + after * 1_000_000, lambda after=after: rung.append(after))  # type: ignore[misc]
        gevent.sleep(max(after_ms) / 1000 + 0.05)
        return rung

    @pytest.mark.parametrize("timerfd", [True, False])
    def test_in_order_and_not_before_their_time(self, timerfd: bool) -> None:
        loop = gevent.get_hub().loop
        pacer = Pacer(loop, pytest.fail)
        if not timerfd:
            pacer._timer.close()
            pacer._timer = _LoopTimer(loop, pacer._fire)
        assert self.ring(pacer, 30, 10, 20, -5) == [-5, 10, 20, 30]
        assert 0 < pacer.take_lag() < SECOND and pacer.take_lag() == 0
        pacer.close()

    def test_a_callback_that_fails_is_told_and_the_others_ring(self) -> None:
        errors: list[BaseException | None] = []
        pacer = Pacer(gevent.get_hub().loop, lambda: errors.append(sys.exc_info()[1]))
        pacer.at(0, lambda: 1 // 0)
        assert self.ring(pacer, 5) == [5]
        assert [type(error) for error in errors] == [ZeroDivisionError]
        pacer.close()

    def test_cancelled_alarms_are_silent_and_do_not_pile_up(self) -> None:
        pacer = Pacer(gevent.get_hub().loop, pytest.fail)
        for _ in range(20):
            for alarm in [pacer.at(boottime_ns() + 3600 * SECOND, lambda: None) for _ in range(1000)]:
                alarm.cancel()
                alarm.cancel()
        assert len(pacer._heap) < 3000
        assert self.ring(pacer, 5) == [5]
        pacer.close()
