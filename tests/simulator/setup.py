"""What a world is made of: hosts, plans, the broker's manner, and what happens when. All of it is drawn from a seed.

Everything is a plain value that can be printed, changed and run again, so that a counterexample can be made smaller by
leaving things out.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

from loads.scheduler.cluster import Settings

from tests.simulator.broker import Manner
from tests.simulator.schedulers import CRASHES
from tests.simulator.world import MS, SECOND

FAULTS_END = 16 * SECOND
"""No fault begins later, and the longest of them is over by ``QUIET``."""
QUIET = 26 * SECOND
"""From then on nothing is broken, and every message arrives once and soon."""
LEASE = 5 * SECOND
FINAL = 20 * SECOND


@dataclass(frozen=True)
class HostSetup:
    """One worker's machine."""

    name: str
    slots: int
    boots_at: int = 0
    ppm: int = 0
    offset: int = 0


@dataclass(frozen=True)
class Happening:
    """Something that is done to the world: a fault, or what a person orders."""

    at: int
    kind: str
    who: str = ""
    length: int = 0
    detail: str = ""

    def __str__(self) -> str:
        lasting = f" for {self.length / SECOND:.3f} s" if self.length else ""
        return f"{self.at / SECOND:8.3f} s  {self.kind} {self.who} {self.detail}{lasting}"


@dataclass(frozen=True)
class JobSetup:
    """A plan that is submitted."""

    id: str
    at: int
    plan: dict[str, Any]
    priority: int = 0


@dataclass(frozen=True)
class Setup:
    """A whole world."""

    hosts: tuple[HostSetup, ...]
    jobs: tuple[JobSetup, ...]
    manner: Manner = field(default_factory=Manner)
    happenings: tuple[Happening, ...] = ()
    schedulers: tuple[tuple[int, int], ...] = ((0, 0),)
    """Of each scheduler's clock: (ppm, offset in ns)."""
    crash_share: float = 0.0
    """The share of a scheduler's turns that end in a crash."""
    broken_engines: float = 0.0
    settings: Settings = field(
        default_factory=lambda: Settings(lease_ttl_ns=LEASE, final_after_ns=FINAL, control_every_ns=5 * SECOND)
    )

    @property
    def quiet_at(self) -> int:
        """When everything is in order again."""
        ends = [each.at + each.length for each in self.happenings] + [host.boots_at for host in self.hosts]
        last = max([*ends, *(job.at for job in self.jobs)], default=0)
        return max(last, QUIET) if self.crash_share or not self.manner.orderly else last

    @property
    def faulty(self) -> bool:
        """Whether anything but a person's orders happens."""
        faults = any(each.kind not in ORDERS for each in self.happenings)
        return bool(faults or self.crash_share or self.broken_engines or not self.manner.orderly)

    def describe(self) -> str:
        """For people."""
        lines = [f"manner     {self.manner}", f"crashes    {self.crash_share}, broken engines {self.broken_engines}"]
        lines += [f"scheduler  clock {ppm} ppm, {offset / MS:.0f} ms off" for ppm, offset in self.schedulers]
        lines += [f"host       {host}" for host in self.hosts]
        lines += [f"job        {job}" for job in self.jobs]
        lines += [f"happens    {happening}" for happening in self.happenings]
        return "\n".join(lines)


HTTP = {"base_url": "http://127.0.0.1:9", "do": [{"get": "/"}]}
ORDERS = ("abort", "pause", "resume", "adjust")


def draw(seed: int) -> Setup:
    """The world of a seed."""
    dice = random.Random(f"setup {seed}")
    hosts = tuple(_host(dice, f"w{number}") for number in range(dice.randint(2, 4)))
    slots = sum(host.slots for host in hosts)
    jobs = tuple(_job(dice, f"run{number}", slots) for number in range(dice.choice([1, 1, 1, 2])))
    schedulers = tuple((dice.randint(-50, 50), dice.randint(-60, 60) * MS) for _ in range(dice.choice([1, 2, 2])))
    setup = Setup(hosts, jobs, _manner(dice), schedulers=schedulers)
    calm = dice.random() < 0.15
    faults, orders = ([] if calm else _faults(dice, setup)), _orders(dice, jobs)
    crashes, broken = dice.choice([0, 0, 0, 0.02]), dice.choice([0, 0, 0, 0, 0.1])
    return replace(
        setup,
        happenings=tuple(sorted((*faults, *orders), key=lambda each: each.at)),
        crash_share=0.0 if calm else crashes,
        broken_engines=0.0 if calm else broken,
    )


def _host(dice: random.Random, name: str) -> HostSetup:
    offset = dice.choice([0, dice.randint(-150, 150), dice.randint(-150, 150)])
    return HostSetup(
        name=name,
        slots=dice.choice([1, 2, 2, 3]),
        boots_at=dice.randrange(3 * SECOND),
        ppm=dice.choice([0, dice.randint(-200, 200)]),
        offset=offset * MS,
    )


def _manner(dice: random.Random) -> Manner:
    return Manner(
        duplicate=dice.choice([0, 0, 0.2]),
        slow=dice.choice([0, 0, 0.1, 0.3]),
        slow_up_to=dice.choice([SECOND, 3 * SECOND, 8 * SECOND]),
        hidden=dice.choice([0, 0, 0, 0.03]),
        sticky=dice.random() < 0.5,
    )


def _job(dice: random.Random, name: str, slots: int) -> JobSetup:
    steps: list[dict[str, Any]] = []
    left = slots
    for number in range(dice.choice([1, 1, 2])):
        if not left:
            break
        workers = dice.randint(1, min(3, left))
        left -= workers
        step: dict[str, Any] = {
            "name": f"s{number}",
            "workers": workers,
            "run_delay": f"{dice.choice([0, 0, 700, 2100])}ms",
            "load": _load(dice),
            "http": HTTP,
        }
        if dice.random() < 0.15:
            step["run_max_time"] = f"{dice.randint(2, 9)}s"
        steps.append(step)
    plan: dict[str, Any] = {"name": name, "steps": steps}
    if dice.random() < 0.15:
        plan["on_worker_loss"] = "fail"
    return JobSetup(name, dice.randrange(3 * SECOND), plan, priority=dice.choice([0, 0, 5]))


def _load(dice: random.Random) -> dict[str, Any]:
    kind = dice.choice(["open", "open", "open", "bounded", "closed", "closed", "counted", "counted", "shared"])
    if kind == "open":
        rate = dice.choice([3, 7, 20])
        stages = [{"rate": [0, rate], "for": "1500ms"}, {"rate": rate, "for": f"{dice.randint(3, 12)}s"}]
        if dice.random() < 0.3:
            stages.append({"rate": 0, "for": "1s"})
        load = {"stages": stages, "arrivals": dice.choice(["even", "jittered"]), "graceful_stop": "2s"}
        if dice.random() < 0.2:
            load["max_in_flight"] = 6
        return load
    if kind == "bounded":
        return {"rate": dice.choice([5, 12]), "iterations": dice.randint(10, 90), "graceful_stop": "2s"}
    if kind == "closed":
        users = dice.randint(1, 6)
        stages = [{"users": [0, users], "for": "2s"}, {"users": users, "for": f"{dice.randint(3, 9)}s"}]
        return {"stages": stages, "graceful_stop": "1s", "graceful_ramp_down": "1s"}
    users = dice.randint(3, 6)
    if kind == "counted" and dice.random() < 0.3:
        return {"cycles": [{"users": 2, "iterations": dice.randint(2, 12)}, {"users": users, "iterations": 5}]}
    return {"users": users, "iterations": dice.randint(3, 40), "shared": kind == "shared"}


def _orders(dice: random.Random, jobs: tuple[JobSetup, ...]) -> tuple[Happening, ...]:
    found = []
    for job in jobs:
        kind = dice.choice(["", "", "", "", "abort", "adjust", "pause"])
        at = dice.randrange(SECOND, 12 * SECOND)
        if kind == "abort":
            found.append(Happening(at, "abort", job.id, detail=dice.choice(["", "terminate"])))
        elif kind == "adjust":
            found.append(Happening(at, "adjust", job.id, detail=dice.choice(["0", "1/2", "3/2", "3"])))
            if dice.random() < 0.5 or found[-1].detail == "0":
                later = at + dice.randrange(4 * SECOND)
                found.append(Happening(later, "adjust", job.id, detail=dice.choice(["1", "2/3", "2"])))
        elif kind == "pause":
            found.append(Happening(at, "pause", job.id))
            found.append(Happening(at + dice.randrange(SECOND, 8 * SECOND), "resume", job.id))
    return tuple(found)


def _faults(dice: random.Random, setup: Setup) -> list[Happening]:
    found = []
    for _ in range(dice.choice([0, 1, 1, 2, 2, 3, 5])):
        at = dice.randrange(FAULTS_END)
        kind = dice.choice(FAULT_KINDS)
        who, length, detail = "", dice.randrange(MS, 9 * SECOND), ""
        if kind in SCHEDULER_FAULTS:
            who = f"sched{dice.randrange(len(setup.schedulers))}"
            detail = dice.choice(CRASHES) if kind == "kill_scheduler" else ""
        elif kind not in ("broker_down", "broker_wiped"):
            who = dice.choice(setup.hosts).name
            if kind == "set_clock":
                length, detail = 0, str(dice.choice([-3000, -120, 90, 2000]))
        found.append(Happening(at, kind, who, length, detail))
    return found


HOST_FAULTS = (
    "kill_agent", "kill_agent", "power_off", "pause_host", "pause_agent", "pause_engines", "kill_engine", "set_clock",
    "drain", "drain",
)  # fmt: skip
SCHEDULER_FAULTS = ("kill_scheduler", "kill_scheduler", "pause_scheduler")
FAULT_KINDS = (*HOST_FAULTS, *SCHEDULER_FAULTS, "broker_down", "broker_wiped")
