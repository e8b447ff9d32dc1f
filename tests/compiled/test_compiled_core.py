"""The compiled core by itself: nobody is starved by it, the books balance, and what is gone is not touched."""

from __future__ import annotations

import os
import random
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from core_world import FOREVER, OK, CoreWorld, is_closed
from engine_harness import pause, request

made: list[CoreWorld] = []


@pytest.fixture(autouse=True)
def no_faults() -> Iterator[None]:
    made.clear()
    yield
    for world in made:
        world.close()
        assert not world.faults


def world_of(*actions: dict[str, Any], **more: Any) -> CoreWorld:
    made.append(CoreWorld(*actions, **more))
    return made[-1]


def repeat(times: int, *actions: dict[str, Any]) -> dict[str, Any]:
    return {"type": "repeat", "times": times, "do": list(actions)}


def serve(world: CoreWorld, seat: Any, data: bytes = OK) -> None:
    """Read what the seat has sent, and answer."""
    end = world.ends[id(seat)]
    with suppress(BlockingIOError):
        end.recv(65536)
    end.sendall(data)


# Others have their turn


def test_requests_that_end_at_once_do_not_keep_the_loop() -> None:
    world = world_of(repeat(1000, request("/${var.nothing}")))
    seat = world.user()
    world.ride(seat)
    assert 0 < world.gate.attempts < 100 and not world.over
    world.turn()
    assert 0 < world.gate.attempts < 200
    world.until(lambda: world.over)
    total = world.look()
    (series,) = total.series.values()
    assert (series.unsent, series.failed, total.failed) == (1000, 1000, 1)


def test_an_iteration_that_ends_at_once_all_the_time_can_be_interrupted() -> None:
    world = world_of(repeat(1_000_000, request("/${var.nothing}")))
    seat = world.user()
    world.ride(seat)
    seat.interrupt()
    assert world.over == [seat] and not seat.busy
    total = world.look()
    assert (total.interrupted, total.in_flight) == (1, 0)


def test_many_alarms_at_once_do_not_keep_the_loop() -> None:
    world = world_of(pause(0.001), request("/"))
    seats = [world.user() for _ in range(10_000)]
    for seat in seats:
        world.ride(seat)
    time.sleep(0.01)
    world.core.drain()
    assert 0 < len(world.wanted) < len(seats) // 2
    world.until(lambda: len(world.wanted) == len(seats))
    for seat in seats:
        seat.interrupt()
    world.look()


def test_arrivals_take_whichever_connection_is_free_first() -> None:
    world = world_of(request("/"))
    seats = [world.guest() for _ in range(100)]
    for seat in seats:
        world.ride(seat)
    assert len(world.wanted) == 64  # So many are opened at once.
    first = world.wanted[0][0]
    world.give()
    for answered in range(1, 101):
        serve(world, first)
        world.until(lambda: len(world.over) == answered)  # noqa: B023
    total = world.look()
    (series,) = total.series.values()
    assert (total.ok, series.connect.count) == (100, 1)
    # What was opened for others meanwhile is kept for those to come.
    asked = len(world.wanted)
    world.give()
    world.ride(first)
    assert len(world.wanted) == asked - 1


def test_arrivals_that_wait_for_a_connection_may_give_up_and_be_refused() -> None:
    world = world_of(request("/", timeout_ns=50_000_000))
    seats = [world.guest() for _ in range(70)]
    for seat in seats:
        world.ride(seat)
    seats[69].interrupt()  # Nothing is opened for it.
    seats[0].interrupt()  # Its place is another one's.
    assert len(world.wanted) == 63
    world.refuse()
    world.turn()
    assert len(world.wanted) == 64
    world.abandoned = (1, 0, 0)
    world.until(lambda: len(world.over) == 70)
    total = world.look()
    (series,) = total.series.values()
    assert (total.interrupted, total.failed) == (2, 68)
    assert series.errors == {"refused: nothing listens there": 1, "timeout: connecting": 67}
    assert not world.wanted


def test_slow_endings_at_once_do_not_keep_the_loop() -> None:
    world = world_of(request("/"))
    seats = [world.user() for _ in range(60)]
    for seat in seats:
        world.ride(seat)
        world.give()
        serve(world, seat)

    def slow(seat: Any) -> None:
        time.sleep(0.001)
        world.over.append(seat)

    world.on_over = slow
    world.core.drain()
    assert 0 < len(world.over) < 20
    world.until(lambda: len(world.over) == len(seats))
    assert world.look().ok == 60


# The books


def test_more_is_asked_for_whoever_else_was_told_of_in_between() -> None:
    world = world_of(request("/a"), request("/b"))
    first, second = world.user(), world.user()
    world.ride(second)
    world.give()
    serve(world, second)
    world.turn()
    world.ride(first)
    world.give()
    serve(world, first)  # It begins another request, and then the other one's end is told.
    serve(world, second)
    world.asked = 0
    world.core.drain()
    assert world.over == [second]
    assert world.asked == 1


@pytest.mark.parametrize("at", [0, 1])
def test_a_fault_finds_balanced_books(at: int) -> None:
    world = world_of(request("/a"), request("/b", check={"body": "x"}))
    seats = [world.user(), world.user()]
    world.ride(seats[at])
    world.give()
    serve(world, seats[at])
    world.turn()
    world.ride(seats[1 - at])
    world.give()
    for seat in seats:
        serve(world, seat)

    def broken(block: bytes) -> None:
        raise RuntimeError("a fault")

    world.heads.known = broken
    world.core.drain()  # One begins another request, the other meets the fault, and the books are looked at.
    assert [str(fault) for fault in world.faults] == ["a fault"]
    assert world.recorder.attempted == 4
    world.faults.clear()


def test_how_long_what_was_done_took_stands_where_the_rest_took_too_long() -> None:
    world = world_of(request("/", timeout_ns=20_000_000))
    world.abandoned = (2, 5, 7)
    world.ride(world.user())
    world.until(lambda: world.over)
    (series,) = world.look().series.values()
    assert series.errors == {"timeout: shaking hands": 1}
    assert (series.dns.count, series.connect.count, series.unsent) == (1, 1, 1)


# Connections


def test_the_core_is_closed_from_within_a_batch() -> None:
    world = world_of(request("/"))
    seats = [world.guest() for _ in range(20)]
    for seat in seats:
        world.ride(seat)
        world.give()
    for seat in seats[1:]:
        serve(world, seat)
    world.turn()
    world.on_over = lambda seat: world.core.close()
    serve(world, seats[0])
    for seat in seats[1:]:
        world.ends[id(seat)].close()  # Events of connections that are gone come in the same batch, and behind it.
    world.core.drain()
    assert world.look().ok == 20
    assert is_closed(world.ends[id(seats[0])])


def test_places_that_a_target_thinks_up_do_not_stay_for_good() -> None:
    world = world_of(request("/"))
    seat = world.user()
    for number in range(3000):
        world.ride(seat)
        if world.wanted:
            world.give()
        serve(world, seat, b"HTTP/1.1 302 F\r\nLocation: http://h%d.test/\r\nContent-Length: 0\r\n\r\n" % number)
        world.until(lambda: world.wanted)
        assert world.wanted[0][1].host == f"h{number}.test"
        world.refuse("dns: no such name")
    assert len(world.core.origins) < 1100
    (series,) = world.look().series.values()
    assert (series.attempted, series.redirects, series.unsent) == (6000, 3000, 3000)


def test_numbers_of_places_are_not_given_to_others_while_they_are_used() -> None:
    world = world_of(request("/"), redirects=1, cookies=False)
    seats = [world.user() for _ in range(1200)]
    for number, seat in enumerate(seats):
        world.ride(seat)
        end = world.give()
        serve(world, seat, b"HTTP/1.1 302 F\r\nLocation: http://h%d.test/\r\nContent-Length: 0\r\n\r\n" % number)
        world.until(lambda: world.wanted)
        assert world.wanted[0][1].host == f"h{number}.test"
        end.close()
        end = world.give()
        assert f"Host: h{number}.test".encode() in end.recv(1000)
        if number % 2:
            serve(world, seat)
        end.close()
        world.turn()
    assert len(world.over) == 1200
    total = world.look()
    assert (total.ok, total.failed) == (600, 600)


def test_no_user_has_more_connections_open_than_it_may() -> None:
    world = world_of(request("/"), redirects=20)
    seat = world.user()
    world.ride(seat)
    ends = []
    for number in range(9):
        ends.append(world.give())
        assert sum(not is_closed(end) for end in ends) <= 8
        serve(world, seat, b"HTTP/1.1 302 F\r\nLocation: http://h%d.test/\r\nContent-Length: 0\r\n\r\n" % number)
        world.until(lambda: world.wanted)


class PlainTls:
    """Says that it is TLS, and encrypts nothing: each line is a record."""

    def __init__(self) -> None:
        self.come: list[bytes] = []
        self.out = b""

    def write(self, data: bytes) -> None:
        self.out += data

    def take_output(self) -> bytes:
        out, self.out = self.out, b""
        return out

    def put_input(self, data: bytes) -> None:
        self.come += data.split(b"|")

    def put_end(self) -> None:
        self.come.append(b"")

    def read(self) -> bytes | None:
        return self.come.pop(0) if self.come else None


@pytest.mark.parametrize("extra", [b"|", b"|HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"])
def test_a_record_behind_the_answer_is_no_answer_to_the_next_request(extra: bytes) -> None:
    world = world_of(request("/"))
    seat = world.user()
    world.ride(seat)
    end = world.give(PlainTls())
    serve(world, seat, OK + extra)
    world.until(lambda: world.over)
    assert is_closed(end)
    world.over.clear()
    world.ride(seat)
    end = world.give(PlainTls())
    serve(world, seat)
    world.until(lambda: world.over)
    assert not is_closed(end)
    assert world.look().ok == 2


@pytest.mark.skipif("LOADS_CORE" in os.environ, reason="AddressSanitizer keeps for a while what was freed")
def test_an_interrupted_answer_is_given_back() -> None:
    def resident() -> int:
        with open("/proc/self/statm") as found:
            return int(found.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    world = world_of(request("/", check={"body": "x"}))
    seat = world.user()
    world.ride(seat)
    end = world.give()
    end.setblocking(True)
    end.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 60000000\r\n\r\n")
    for _ in range(400):
        end.sendall(b"x" * 100_000)
        world.core.drain()
    before = resident()
    seat.interrupt()
    assert before - resident() > 30_000_000


# Anything at all

ANSWERS = [
    OK,
    OK,
    b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    b"HTTP/1.1 204 No\r\n\r\n",
    b"HTTP/1.1 304 No\r\nContent-Length: 9\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 302 F\r\nLocation: /c\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 302 F\r\nLocation: http://other.test/c\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 500 No\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",
    b"HTTP/1.1 200 OK\r\n\r\nto the end",
    b"HTTP/1.1 200 OK\r\nX: y\r\n folded\r\nContent-Length: 0\r\n\r\n",
    OK + OK,
    b"rubbish\r\n\r\n",
    b"",
]


class Chaos:
    """A target, an agent and a load model with a die each."""

    def __init__(self, seed: int, guests: bool) -> None:
        self.dice = dice = random.Random(seed)
        body = {"kind": "raw", "value": "x" * 1_000_000}
        actions = [
            request("/a", timeout_ns=30_000_000),
            request("/b", method="HEAD"),
            request("/c", check={"body": "ok"}),
            request("/d", method="POST", body=body, on_error="end_iteration"),
            pause(0.001),
        ]
        dice.shuffle(actions)
        self.world = world = world_of(*actions, max_in_flight=6)
        self.seats = [world.guest() if guests else world.user() for _ in range(10)]
        self.ends: list[socket.socket] = []
        world.on_over = self.over
        self.bound = 0
        self.begun: set[Any] = set()

    def over(self, seat: Any) -> None:
        self.world.over.append(seat)
        if self.dice.random() < 0.5:
            self.world.ride(seat)

    def step(self) -> None:
        dice, world = self.dice, self.world
        kind = dice.randrange(9)
        if kind == 0:
            seat = dice.choice(self.seats)
            if not seat.busy and (seat in world.over or seat not in self.begun):
                self.begin(seat)
        elif kind == 1 and world.wanted:
            if dice.random() < 0.8:
                self.ends.append(world.give())
            else:
                world.refuse()
        elif kind in (2, 3, 4) and self.ends:
            self.answer(dice.choice(self.ends))
        elif kind == 5 and dice.random() < 0.2:
            dice.choice(self.seats).interrupt()
        elif kind == 6:
            self.permit()
        elif kind == 7 and dice.random() < 0.02:
            time.sleep(0.03)
        else:
            world.turn()

    def begin(self, seat: Any) -> None:
        self.begun.add(seat)
        while seat in self.world.over:
            self.world.over.remove(seat)
        self.world.ride(seat)

    def permit(self) -> None:
        world = self.world
        until = FOREVER if self.dice.random() < 0.7 else 0
        self.bound = max(self.bound, world.gate.attempts) + self.dice.randrange(20)
        world.permit.replace(until, FOREVER, self.bound, 0, world.gate.attempts)
        world.core.wake()

    def answer(self, end: socket.socket) -> None:
        dice = self.dice
        with suppress(OSError):
            while dice.random() < 0.8 and end.recv(300_000):
                pass
        data = dice.choice(ANSWERS)
        data = data[: dice.randrange(len(data) + 1)] if dice.random() < 0.3 else data
        with suppress(OSError):
            end.send(data)
        last = dice.random()
        if last < 0.1:
            end.shutdown(socket.SHUT_WR)
        if last < 0.2:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.close()
            self.ends.remove(end)


@pytest.mark.parametrize("guests", [True, False])
def test_whatever_happens_the_books_balance(guests: bool) -> None:
    seeds = 300 if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else 30
    for seed in range(seeds):
        chaos = Chaos(seed, guests)
        world = chaos.world
        for number in range(600):
            chaos.step()
            if number % 50 == 0:
                world.look()
            assert world.gate.attempts <= world.permit.requests
        world.on_over = world.over.append
        for seat in chaos.seats:
            seat.interrupt()
        for _ in range(5):
            world.turn()
        assert not any(seat.busy for seat in chaos.seats)
        total = world.look()
        assert total.in_flight == 0, seed
        assert all(series.in_flight == 0 for series in total.series.values()), seed
        assert not world.faults, seed
        for end in chaos.ends:
            end.close()
        chaos.seats.clear()
        world.close()
