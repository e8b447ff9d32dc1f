"""One engine's life: spec, start, permits, snapshots, stop, end.

Everything here runs in the hub, in callbacks that never block; users run in greenlets of their own. After ``ready``
a snapshot goes out every second, and early when the permit runs short; the last one precedes ``end``.
"""

from __future__ import annotations

import gc
import resource
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from gevent import GreenletExit

from loads_queue.model import profile
from loads_queue.model.template import Template

from .arrivals import Arrivals
from .channel import Channel
from .clock import boottime_ns
from .closed import ClosedUsers
from .counted import CountedUsers
from .datafile import Rows
from .fence import NOTICE_NS, Fence
from .guard import Guard
from .http1 import Limits
from .net import Net
from .pacer import Alarm, Pacer
from .permit import Permit
from .recorder import Recorder
from .resolve import Resolver
from .setting import Prepare, Setting
from .tls import Trust
from .variables import Fixed, Visit
from .vitals import Vitals
from .world import Load, Order, World

SECOND = 1_000_000_000
EARLY_NS = 50_000_000
KEPT_SECONDS = 15
"""Rows stay in memory that long, for changes of the profile that are heard of late."""
_PHASE_NS = 20_000_000
"""Snapshots come a little after full seconds of the schedule, when a second's requests have mostly been answered."""


class Session:
    """The engine that one agent speaks to over a channel; ``done`` is called once it has nothing more to do."""

    def __init__(self, hub: Any, channel: Channel, done: Callable[[], None], prepare: Prepare) -> None:
        self._prepare = prepare
        self._hub = hub
        self._channel = channel
        self._done = done
        self._pacer = Pacer(hub.loop, self._crash)
        self._order: Order | None = None
        self._world: World | None = None
        self._vitals: Vitals | None = None
        self._load: Load | None = None
        self._parts: tuple[profile.Load, Setting, Net, Rows | None] | None = None
        self._changes: list[profile.Change] = []
        self._closing: str | None = None
        self._detail = ""
        self._ended = False
        self._number = 0
        self._last_snapshot = 0
        self._tick: Alarm | None = None
        self._early: Alarm | None = None
        self._asked = False
        self._fence = Fence()
        self._lapse: Alarm | None = None
        self._waiters: dict[int, Callable[[], object]] = {}
        self._waits = 0
        self._warnings: list[str] = []
        self.permit = Permit()
        self.attempts = 0

    # What the agent says

    def take(self, line: Mapping[str, Any]) -> None:
        """One line from the agent."""
        handlers: dict[str, Callable[[Mapping[str, Any]], None]] = {
            "spec": self._take_spec,
            "start": self._take_start,
            "permit": self._take_permit,
            "adjust": self._take_adjust,
            "stop": self._take_stop,
        }
        handler = handlers.get(str(line.get("type")))
        if handler is None:
            self._fail(f"the agent sent a line of unknown type {line.get('type')!r:.40}")
            return
        with self.guard():
            try:
                handler(line)
            except (KeyError, TypeError, ValueError) as error:
                if self._world is not None:
                    raise
                self._fail(f"{line.get('type')}: {error}")

    def _take_spec(self, line: Mapping[str, Any]) -> None:
        order = Order.from_line(line)
        setting = self._prepare(order)
        load = profile.from_wire(order.load)
        load.shard(order.shard, order.shards)
        guard = Guard(order.allowed_targets)
        guard.check_origins(setting.origins, dict(setting.dns.hosts))
        resolver = _resolver(self._hub, guard, setting, load)
        net = Net(self._hub, self._pacer, self, Limits(), resolver, _trust(setting, order), setting.sources)
        if any(origin.scheme == "https" for origin in setting.origins):
            net.prepare_tls()
        data = setting.data
        rows = Rows(data, order.files[data.file], order.seed) if data is not None else None
        self._order = order
        self._parts = (load, setting, net, rows)
        gc.collect()
        gc.freeze()  # Plan and data stay to the end: no collection need look at them again.
        self._channel.write({"type": "ready"})
        self._tick = self._pacer.at(boottime_ns() + SECOND, self._on_tick)

    def _take_start(self, line: Mapping[str, Any]) -> None:
        if self._parts is None or self._order is None or self._world is not None or self._closing is not None:
            return
        load, setting, net, rows = self._parts
        order, base, heard = self._order, int(line["at"]), boottime_ns()
        first, turns = int(line.get("first", 0)), [int(turn) for turn in line.get("turns") or ()]
        if line.get("changes") is not None:
            self._changes = _changes(line["changes"])
        self._world = world = World(
            hub=self._hub,
            pacer=self._pacer,
            base=base,
            order=order,
            permit=self.permit,
            net=net,
            recorder=Recorder(base),
            scenario=setting.scenario,
            fixed=Fixed(order.run, order.step, order.names(), order.secrets, order.seed),
            rows=rows,
            load_over=self._load_over,
            exhausted=self._exhausted,
            maybe_over=self._maybe_over,
            ask_for_more=self._ask_for_more,
            await_permit=self.await_permit,
            forget=self.forget,
            guard=self.guard,
        )
        world.seats = setting.driver(world)
        self._load = self._model(world, load, first, turns, heard)
        self._vitals = Vitals(self._pacer, base)
        self._vitals.begin()
        self._schedule_tick(heard)
        if order.run_max_time_ns:
            self._pacer.at(base + order.delay_ns + order.run_max_time_ns, self._max_time)
        self._load.begin()

    def _model(self, world: World, load: profile.Load, first: int, turns: Sequence[int], heard: int) -> Load:
        changes = self._own_changes()
        if isinstance(load, profile.OpenLoad):
            return Arrivals(world, load.changed(changes) if changes else load, first, heard)
        if isinstance(load, profile.ClosedLoad):
            return ClosedUsers(world, load.changed(changes) if changes else load, first, heard)
        return CountedUsers(world, load, first, heard, turns, changes)

    def _take_permit(self, line: Mapping[str, Any]) -> None:
        if self._load is not None:
            self._load.settle()
        used = self._load.used() if self._load is not None else 0
        self._fence_in(int(line["until"]))
        until = int(line["until"]) - NOTICE_NS
        self.permit.replace(until, int(line["iterations"]), int(line["requests"]), used, self.attempts)
        self._asked = False
        self._wake()
        if self._load is not None:
            self._ask_for_more()

    def _take_adjust(self, line: Mapping[str, Any]) -> None:
        self._changes = _changes(line["changes"])
        if self._load is not None:
            self._load.change(self._own_changes())

    def _own_changes(self) -> Sequence[profile.Change]:
        """The changes in the profile's own time; of those before its start, the last one holds from its start on."""
        delay = self._order.delay_ns if self._order is not None else 0
        found: dict[int, profile.Change] = {}
        for at, top, bottom in sorted(self._changes):
            found[max(0, at - delay)] = (max(0, at - delay), top, bottom)
        return tuple(found.values())

    def _take_stop(self, line: Mapping[str, Any]) -> None:
        self._close(str(line.get("cause") or "stopped"), int(line.get("grace_ns", 0)))

    # How it ends

    def _load_over(self) -> None:
        assert self._order is not None, "a load runs after its spec came"
        self._close("finished", self._order.graceful_stop_ns)

    def _exhausted(self) -> None:
        assert self._order is not None, "a load runs after its spec came"
        self._detail = "every row of the data is used"
        self._close("exhausted", self._order.graceful_stop_ns)

    def _max_time(self) -> None:
        if self._closing is None:
            self._close("max_time", 0)
        elif self._closing != "finished":
            self._interrupt()

    def _close(self, cause: str, grace_ns: int) -> None:
        """Nothing starts any more; what is in flight has ``grace_ns``. A later call may only shorten that."""
        if self._closing is None:
            self._closing = cause
        if self._load is None:
            self._soon(self._end)
            return
        self._load.stop()
        if self._world is not None:
            self._world.seats.stop()
        if grace_ns:
            self._pacer.at(boottime_ns() + grace_ns, self._interrupt)
        else:
            self._soon(self._interrupt)
        self._maybe_over()

    def _soon(self, callback: Callable[[], None]) -> None:
        """From anywhere: call back in the hub, once what runs now has come to a rest."""
        if not self._ended:
            self._pacer.at(boottime_ns(), callback)

    def _interrupt(self) -> None:
        if self._load is not None:
            self._load.interrupt()
        self._maybe_over()

    def _maybe_over(self) -> None:
        if self._closing is not None and self._world is not None and not self._world.recorder.in_flight:
            self._soon(self._end)

    def _fail(self, detail: str) -> None:
        if not self._ended:
            self._closing = self._closing or "failed"
            self._detail = detail
            self._end()

    def _end(self) -> None:
        if self._ended:
            return
        self._ended = True
        now = boottime_ns()
        if self._world is not None and self._load is not None:
            self._load.close()
        if self._vitals is not None:
            self._vitals.finish()
        self._snapshot(now)
        at = now - self._world.base if self._world is not None else None
        self._channel.write({"type": "end", "cause": self._closing, "detail": self._detail, "at_ns": at})
        self._pacer.close()
        self._fence.disarm()
        self._done()

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Whatever escapes from here is a fault of the engine's: it ends as ``crashed``, with the traceback."""
        try:
            yield
        except GreenletExit:
            pass
        except Exception:
            self._crash()

    def _crash(self) -> None:
        """In an ``except`` clause: a fault of the engine's own ends it."""
        traceback.print_exc()
        if not self._ended:
            self._closing = "crashed"
            self._detail = traceback.format_exc(limit=-3)[-2000:]
            self._end()

    # The permit

    def _fence_in(self, until: int) -> None:
        """Have the kernel see to it that nothing is sent from then on, unless this process does so itself before."""
        if self._lapse is not None:
            self._lapse.cancel()
            self._lapse = None
        if self._ended or until - NOTICE_NS <= boottime_ns():
            self._fence.disarm()
            return
        self._fence.arm(until)
        self._lapse = self._pacer.at(until - NOTICE_NS, self._fence.disarm)

    def await_permit(self, resume: Callable[[], object]) -> int:
        """Have ``resume`` called once, in the hub, when the permit may have changed; a number for ``forget``."""
        self._ask_for_more()
        self._waits += 1
        self._waiters[self._waits] = resume
        return self._waits

    def forget(self, waiter: int) -> None:
        """Do not call it; harmless after it was called."""
        self._waiters.pop(waiter, None)

    def _wake(self) -> None:
        for number in list(self._waiters):
            resume = self._waiters.pop(number, None)
            if resume is not None:  # Else it left while another one went on.
                resume()

    def _hungry(self) -> bool:
        if self._load is None or self._closing is not None:
            return False
        return self.permit.hungry(self._load.used(), self.attempts)

    def _ask_for_more(self) -> None:
        """A snapshot soon, where the permit runs short; once for each permit."""
        if self._asked or self._early is not None or not self._hungry():
            return
        self._asked = True
        self._early = self._pacer.at(max(boottime_ns(), self._last_snapshot + EARLY_NS), self._on_early)

    def _on_early(self) -> None:
        self._early = None
        if not self._ended:
            self._snapshot(boottime_ns())

    # Snapshots

    def _schedule_tick(self, now: int) -> None:
        """The next snapshot: at the next full second of the schedule, plus a little."""
        if self._tick is not None:
            self._tick.cancel()
        base = self._world.base if self._world is not None else now
        since = now - base - _PHASE_NS
        self._tick = self._pacer.at(base + (since // SECOND + 1) * SECOND + _PHASE_NS, self._on_tick)

    def _on_tick(self) -> None:
        now = boottime_ns()
        if self._channel.clear:
            self._snapshot(now)
        self._schedule_tick(now)

    def _snapshot(self, now: int) -> None:
        self._number += 1
        self._last_snapshot = now
        rows: list[dict[str, Any]] = []
        totals: dict[str, Any] = {
            "next": None,
            "users": 0,
            "remaining": 0,
            "held_from_ns": None,
            "covered_ns": 0,
        }
        world, load = self._world, self._load
        counts = {"started": 0, "attempted": 0, "in_flight": 0}
        if world is not None and load is not None:
            load.cover(now)
            world.seats.cover(now)
            if self._vitals is not None:
                self._vitals.note(world.recorder)
            rows = world.recorder.take(load.settled_before(now) - KEPT_SECONDS)
            totals = {**load.totals(), "changes": [list(change) for change in self._changes]}
            counts = {name: getattr(world.recorder, name) for name in counts}
        self._note()
        self._channel.write(
            {
                "type": "snapshot",
                "number": self._number,
                "at": now,
                "rows": rows,
                "totals": {**totals, **counts},
                "health": self._health(),
                "hungry": self._hungry(),
                "warnings": self._warnings,
            }
        )

    def _health(self) -> dict[str, Any]:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "cpu_s": round(used.ru_utime + used.ru_stime, 3),
            "rss_bytes": _resident(used.ru_maxrss),
            "lag_ns": self._pacer.take_lag(),
            "path": self._world.seats.path if self._world is not None else None,
        }

    def _note(self) -> None:
        """Warnings are a state: each stands in every snapshot from when it is first true."""
        rows = self._parts[3] if self._parts is not None else None
        if rows is not None and rows.wrapped and not self._warnings:
            self._warnings.append(f"data {rows.name}: every row was used, and they began again from the first")


def _resolver(hub: Any, guard: Guard, setting: Setting, load: profile.Load) -> Resolver:
    """Iterations of a rate may share their connections: none of them has an address of its own to keep to."""
    shared = isinstance(load, profile.OpenLoad) and setting.shares
    return Resolver(hub, guard, replace(setting.dns, pick="rotate") if shared else setting.dns)


def _trust(setting: Setting, order: Order) -> Trust:
    tls = setting.tls
    ca, cert = (order.files[name] if name is not None else None for name in (tls.ca, tls.cert))
    key = Template.parse(tls.key or "").text(Visit(Fixed(secrets=order.secrets), 0, 0, {}, {}, False).resolve)
    return Trust(tls.verify, ca, cert, key)


def _changes(value: Any) -> list[profile.Change]:
    return [(int(at), int(top), int(bottom)) for at, top, bottom in value]


def _resident(otherwise_kib: int) -> int:
    """Resident memory in bytes; its highest so far where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        return otherwise_kib * 1024
