"""What is recorded of sessions, held against the same things counted the simple way, over rows handed out in parts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from loads.workers.engines.recorder import ARCHIVED_SECONDS, MOST_ERRORS, Recorder
from loads.workers.engines.recorder_sockets import MOST_CODES, SocketRecorder

from loads_queue.model.sockets import OTHER_CODE, SOCKET_COUNTS, Sockets
from loads_queue.model.summary import OTHER, Row, RowSet, total

SECOND = 1_000_000_000
BASE = 7 * SECOND + 123
KINDS = ("open", "open", "open", "close", "out", "in", "unsolicited", "ping", "pong", "pinged", "frames", "take")
STEPS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 3), st.sampled_from([0, 1, 0, SECOND // 3, SECOND, 4 * SECOND])),
    max_size=60,
)


@dataclass
class Happenings:
    """The same things for a recorder, and counted by second the simple way; an agent keeps what it is told."""

    settles_after: int
    now: int = BASE
    sockets: dict[int, Sockets] = field(default_factory=dict)
    told: RowSet = field(default_factory=RowSet)
    lifetimes: list[int] = field(default_factory=list)
    opened_at: list[int] = field(default_factory=list)
    sequence: int = 0

    def __post_init__(self) -> None:
        self.recorder = Recorder(BASE)
        self.under_test = SocketRecorder(self.recorder)

    @property
    def second(self) -> int:
        return (self.now - BASE) // SECOND

    def pass_time(self, by: int) -> None:
        for second in range(self.second, (self.now + by - BASE) // SECOND + 1):
            if self.opened_at:
                self._raise(second)
        self.now += by

    def _raise(self, second: int) -> None:
        sockets = self.sockets.setdefault(second, Sockets())
        sockets.open = max(sockets.open, len(self.opened_at))

    def happen(self, kind: str, which: int) -> None:
        if kind == "take":
            self.take()
            return
        mine, its, now = self.sockets.setdefault(self.second, Sockets()), self.under_test, self.now
        if kind == "open":
            its.opened(now)
            self.opened_at.append(now)
            mine.opened += 1
            self._raise(self.second)
        elif kind == "close" and self.opened_at:
            code, failure = (1000, 1001, 1005, 1006)[which], (None, None, "reset: x", "closed: y")[which]
            lifetime = now - self.opened_at.pop(which % len(self.opened_at))
            its.closed(now, code, failure, lifetime)
            mine.closed += 1
            mine.codes[code] = mine.codes.get(code, 0) + 1
            if failure:
                mine.failures[failure] = mine.failures.get(failure, 0) + 1
            mine.lifetime.record(lifetime)
        elif kind == "out":
            its.message_out(now, 100 + which)
            mine.messages_out, mine.bytes_out = mine.messages_out + 1, mine.bytes_out + 100 + which
        elif kind == "in":
            its.message_in(now, 200 + which, which == 3)
            mine.messages_in, mine.bytes_in = mine.messages_in + 1, mine.bytes_in + 200 + which
            mine.unsolicited += which == 3
        elif kind == "unsolicited":
            its.unsolicited(now, which)
            mine.unsolicited += which
        else:
            self._control(kind, which, mine)

    def _control(self, kind: str, which: int, mine: Sockets) -> None:
        its, now = self.under_test, self.now
        if kind == "ping":
            its.ping_out(now, 10)
            mine.pings_out, mine.bytes_out = mine.pings_out + 1, mine.bytes_out + 10
        elif kind == "pong":
            its.pong_in(now, 6, which * 1000 or None)
            mine.pongs_in, mine.bytes_in = mine.pongs_in + 1, mine.bytes_in + 6
            if which:
                mine.ping.record(which * 1000)
        elif kind == "pinged":
            its.ping_in(now, 4)
            its.frame_out(now, 8)
            mine.pings_in, mine.bytes_in, mine.bytes_out = mine.pings_in + 1, mine.bytes_in + 4, mine.bytes_out + 8
        elif kind == "frames":
            its.frame_out(now, which)
            its.frame_in(now, which)
            mine.bytes_in, mine.bytes_out = mine.bytes_in + which, mine.bytes_out + which

    def take(self) -> None:
        self.under_test.cover(self.now)
        self.sequence += 1
        for wire in self.recorder.take(self.second - self.settles_after):
            assert self.told.put("claim", self.sequence, Row.from_wire(wire))


@given(STEPS, st.sampled_from([-1, 0, 2]))
def test_every_row_says_what_happened_in_its_second(steps: list[tuple[str, int, int]], settles_after: int) -> None:
    world = Happenings(settles_after)
    for kind, which, forward in steps:
        world.pass_time(forward)
        world.happen(kind, which)
    world.take()
    told = {row.second: row.sockets or Sockets() for row in world.told.rows()}
    assert {second: sockets for second, sockets in told.items() if sockets != Sockets()} == {
        second: sockets for second, sockets in world.sockets.items() if sockets != Sockets()
    }
    whole = total(world.told.rows()).sockets
    assert whole is not None
    assert whole.opened == whole.closed + world.under_test.open
    assert world.under_test.open == len(world.opened_at)
    assert whole.closed == sum(whole.codes.values()) == whole.lifetime.count
    assert sum(whole.failures.values()) <= whole.closed


@given(st.lists(st.tuples(st.sampled_from(KINDS[:-1]), st.integers(0, 3), st.integers(0, 12)), max_size=40))
def test_nothing_is_lost_where_times_go_back(steps: list[tuple[str, int, int]]) -> None:
    """Callbacks may come with a time that was read a little before another one's, across the border of two seconds."""
    world = Happenings(1)
    counts: Counter[str] = Counter()
    for kind, which, at in steps:
        world.now = BASE + at * SECOND // 4
        world.happen(kind, which)
    for sockets in world.sockets.values():
        counts.update({name: getattr(sockets, name) for name in SOCKET_COUNTS})
    found = total(Row.from_wire(wire) for wire in world.recorder.take(0)).sockets or Sockets()
    assert {name: getattr(found, name) for name in SOCKET_COUNTS} == {name: counts[name] for name in SOCKET_COUNTS}
    assert found.opened == found.closed + world.under_test.open


class TestOpen:
    def rows(self, recorder: Recorder, settled: int = 0) -> dict[int, int]:
        return {row["second"]: row.get("sockets", {}).get("open", 0) for row in recorder.take(settled)}

    def test_it_stands_in_seconds_in_which_nothing_happens(self) -> None:
        recorder = Recorder(BASE)
        sockets = SocketRecorder(recorder)
        sockets.opened(BASE + 5)
        sockets.opened(BASE + SECOND // 2)
        sockets.cover(BASE + 3 * SECOND)
        assert self.rows(recorder) == {0: 2, 1: 2, 2: 2, 3: 2}
        sockets.cover(BASE + 3 * SECOND + 9)
        assert self.rows(recorder) == {}
        sockets.closed(BASE + 5 * SECOND + 1, 1000, None, 5)
        sockets.closed(BASE + 6 * SECOND, 1000, None, 5)
        sockets.cover(BASE + 9 * SECOND)
        assert self.rows(recorder) == {4: 2, 5: 2, 6: 1}

    def test_it_is_the_most_at_once_and_not_how_many_there_were(self) -> None:
        recorder = Recorder(BASE)
        sockets = SocketRecorder(recorder)
        for number in range(10):
            sockets.opened(BASE + number)
            sockets.opened(BASE + number)
            sockets.closed(BASE + number, 1000, None, 0)
            sockets.closed(BASE + number, 1000, None, 0)
        assert self.rows(recorder) == {0: 2}

    def test_there_is_a_row_of_sockets_even_if_none_ever_opens(self) -> None:
        recorder = Recorder(BASE)
        sockets = SocketRecorder(recorder)
        sockets.cover(BASE - SECOND)
        assert recorder.take(0) == []
        sockets.cover(BASE + 2 * SECOND)
        assert recorder.take(0) == [{"second": 2, "sockets": {}}]
        sockets.cover(BASE + 5 * SECOND)
        assert recorder.take(0) == []


class TestOldRows:
    def test_a_row_that_was_packed_is_amended_and_not_begun_anew(self) -> None:
        recorder = Recorder(BASE)
        sockets = SocketRecorder(recorder)
        recorder.drop("missed", BASE)
        sockets.message_in(BASE, 5)
        recorder.take(100)
        sockets.message_in(BASE + 1, 7)
        (row,) = recorder.take(100)
        assert row == {"second": 0, "missed": 1, "sockets": {"messages_in": 2, "bytes_in": 12}}

    def test_what_comes_for_a_row_that_was_forgotten_counts_in_the_first_that_is_kept(self) -> None:
        recorder = Recorder(BASE)
        sockets = SocketRecorder(recorder)
        sockets.message_in(BASE, 5)
        recorder.take(10 + ARCHIVED_SECONDS)
        sockets.message_in(BASE, 7)
        sockets.message_in(BASE, 7)
        (row,) = recorder.take(0)
        assert row == {"second": 10 + ARCHIVED_SECONDS, "sockets": {"messages_in": 2, "bytes_in": 14}}

    def test_rows_change_only_where_something_happened(self) -> None:
        recorder = Recorder(BASE)
        sockets = SocketRecorder(recorder)
        for second in range(600):
            sockets.message_in(BASE + second * SECOND, 1)
            assert [row["second"] for row in recorder.take(second - 15)] == [second]
        assert len(recorder._rows) <= 16

    def test_hours_of_open_sessions_leave_nothing_behind(self) -> None:
        recorder = Recorder(BASE)
        sockets = SocketRecorder(recorder)
        sockets.opened(BASE)
        for second in range(5000):
            sockets.cover(BASE + second * SECOND)
            assert [row["sockets"]["open"] for row in recorder.take(second - 15)] == [1]
        assert len(recorder._rows) <= 16 and len(recorder._archive) <= ARCHIVED_SECONDS + 1


def test_names_are_bounded() -> None:
    recorder = Recorder(0)
    sockets = SocketRecorder(recorder)
    for number in range(MOST_CODES + MOST_ERRORS + 5):
        sockets.opened(number)
        sockets.closed(number, 3000 + number, f"failure {number}", 1)
    (row,) = recorder.take(0)
    found = Sockets.from_wire(row["sockets"])
    assert len(found.codes) == MOST_CODES + 1 and found.codes[OTHER_CODE] == MOST_ERRORS + 5
    assert len(found.failures) == MOST_ERRORS + 1 and found.failures[OTHER] == MOST_CODES + 5
    assert found.closed == sum(found.codes.values())
