"""A seed's script: which faults happen when, to whom, for how long, under which load. Pure: the same seed and broker
give the same script, whoever asks.

Times are seconds from the moment at which the job was handed over. Everything that is stopped goes on, everything that
is killed comes back (but for at most one worker), so that every script leaves slots enough to end the run.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

BROKERS = ("embedded", "redis", "rabbitmq", "sqs")
WORKERS = 3
SLOTS = 2
LEASE_S = 5
SPAN_S = 20
"""How long each load lasts."""
FIRST_S, LAST_S = 0.5, 19.0
RESTART_S = {"embedded": (0.1, 3.0), "redis": (0.1, 3.0), "rabbitmq": (0.1, 1.0), "sqs": (0.1, 2.0)}
"""How long a killed broker stays away; RabbitMQ needs ten seconds more to start."""

ENGINES = ("engine_kill", "engine_stop")
AGENTS = ("agent_kill", "agent_stop", "host_stop", "agent_leave")
SCHEDULER = ("scheduler_kill", "scheduler_stop")
BROKER = ("broker_kill", "broker_stop")
OTHERS = ("disk_full", "clock_jump")
KINDS = (*ENGINES, *AGENTS, *SCHEDULER, *BROKER, *OTHERS)


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong at ``at_s``. ``for_s``: until it goes on, or is started again; ``who``: a number among
    the workers that have engines at that moment (of a clock: among all), or -1; ``renamed``: it comes back under
    another name; ``amount``: of a clock's jump, in seconds."""

    at_s: float
    kind: str
    who: int = -1
    for_s: float = 0.0
    renamed: bool = False
    amount: float = 0.0

    def __str__(self) -> str:
        whom = f" worker {self.who}" if self.who >= 0 else ""
        more = ", renamed" if self.renamed else f", by {self.amount:+.1f} s" if self.amount else ""
        return f"{self.at_s:5.1f} s {self.kind}{whom} for {self.for_s:.1f} s{more}"


@dataclass(frozen=True)
class Disorder:
    """What happens to deliveries in the scheduler and the workers: the shares that are sent twice, handed out twice,
    and held back for up to ``delay_s`` (and so overtaken)."""

    seed: int
    sent_twice: float = 0.0
    given_twice: float = 0.0
    held_back: float = 0.0
    delay_s: float = 0.0


@dataclass(frozen=True)
class Script:
    """All of a seed's run."""

    seed: int
    broker: str
    steps: tuple[dict[str, Any], ...]
    faults: tuple[Fault, ...]
    disorder: Disorder
    standby: bool
    """A second scheduler waits on the same database."""
    jobs: int
    """How often the job is sent."""
    planned: dict[str, int] = field(default_factory=dict)
    """By step, the iterations planned, where the load says how many."""

    def describe(self) -> str:
        """The script for people."""
        loads = ", ".join(f"{step['name']} {step['load']}" for step in self.steps)
        head = f"seed {self.seed} on {self.broker}: {loads}; standby {self.standby}; job sent {self.jobs} times"
        return "\n".join((head, f"  {self.disorder}", *(f"  {fault}" for fault in self.faults)))


def script_for(seed: int, broker: str) -> Script:
    """The script of a seed."""
    rng = random.Random(f"{seed} {broker}")
    steps = _steps(rng)
    disordered = rng.random() < 0.6
    disorder = Disorder(
        rng.randrange(1 << 30),
        sent_twice=rng.uniform(0, 0.3) if disordered else 0.0,
        given_twice=rng.uniform(0, 0.3) if disordered else 0.0,
        held_back=rng.uniform(0, 0.4) if disordered else 0.0,
        delay_s=rng.uniform(0.1, 2.0) if disordered else 0.0,
    )
    planned = {"open": sum(_open_planned(step) for step in steps if step["name"] == "open")}
    planned |= {"turns": sum(_turns_planned(step) for step in steps if step["name"] == "turns")}
    return Script(
        seed, broker, steps, _faults(rng, broker), disorder, standby=rng.random() < 0.3,
        jobs=rng.choice((1, 1, 2, 3)), planned={name: count for name, count in planned.items() if count},
    )  # fmt: skip


def plan_document(steps: tuple[dict[str, Any], ...], target: str, name: str = "chaos") -> dict[str, Any]:
    """A plan that runs these steps against a target; nothing that it measures can fail it."""
    whole = [{**step, "http": {**step["http"], "base_url": target}} for step in steps]
    return {"name": name, "ready_timeout": "60s", "thresholds": ["error_rate <= 100%"], "steps": whole}


def _steps(rng: random.Random) -> tuple[dict[str, Any], ...]:
    """An arrival rate always; users, counted or not, beside it now and then. At most four shards in all."""
    rate = rng.choice((50, 80, 120))
    found = [_step("open", {"rate": rate, "for": f"{SPAN_S}s"}, "/bytes/${iteration.number}", rng.choice((1, 2)))]
    if rng.random() < 0.5:
        found.append(_step("users", {"users": 4, "for": f"{SPAN_S - 2}s"}, "/delay/60", rng.choice((1, 2))))
    else:
        turns = {"users": 4, "iterations": rng.choice((60, 120)), "shared": rng.random() < 0.3}
        found.append(_step("turns", turns, "/delay/${user.number}2", rng.choice((1, 2))))
    return tuple(found)


def _step(name: str, load: dict[str, Any], path: str, workers: int) -> dict[str, Any]:
    do = [{"get": path, "name": name}]
    if name == "turns":
        do.append({"pause": "100ms"})
    return {"name": name, "workers": workers, "load": load, "http": {"timeout": "5s", "do": do}}


def _open_planned(step: dict[str, Any]) -> int:
    return int(step["load"]["rate"]) * SPAN_S


def _turns_planned(step: dict[str, Any]) -> int:
    load = step["load"]
    return int(load["iterations"]) * (1 if load["shared"] else int(load["users"]))


def _faults(rng: random.Random, broker: str) -> tuple[Fault, ...]:
    """One of each group, and some more of any kind; at most two deaths of a broker, one of a slow one."""
    groups = (ENGINES, AGENTS, SCHEDULER, BROKER)
    kinds = [rng.choice(group) for group in groups] + [rng.choice(KINDS) for _ in range(rng.randint(1, 4))]
    most = {"broker_kill": 1 if broker == "rabbitmq" else 2, "agent_leave": 1, "disk_full": 1}
    kinds = [kind for place, kind in enumerate(kinds) if kinds[:place].count(kind) < most.get(kind, 3)]
    faults = [_fault(rng, kind, broker) for kind in kinds]
    return tuple(sorted(faults, key=lambda fault: fault.at_s))


def _fault(rng: random.Random, kind: str, broker: str) -> Fault:
    at = round(rng.uniform(FIRST_S, LAST_S), 2)
    who = rng.randrange(WORKERS) if kind in (*ENGINES, *AGENTS) else -1
    if kind == "engine_kill":
        return Fault(at, kind, who)
    if kind in ("agent_kill", "agent_leave"):
        return Fault(at, kind, who, round(rng.uniform(0.2, 8.0), 2), renamed=rng.random() < 0.3)
    if kind == "broker_kill":
        return Fault(at, kind, who, round(rng.uniform(*RESTART_S[broker]), 2))
    if kind == "scheduler_kill":
        return Fault(at, kind, who, round(rng.uniform(0.1, 4.0), 2))
    if kind == "clock_jump":
        who = rng.randrange(-1, WORKERS)
        amount = rng.choice((-1, 1)) * rng.choice((0.2, 2.0, 3600.0, 400 * 86400.0))
        return Fault(at, kind, who, round(rng.uniform(1.0, 6.0), 2), amount=amount)
    longest = {"engine_stop": 9.0, "agent_stop": 9.0, "host_stop": 12.0, "scheduler_stop": 9.0}.get(kind, 5.0)
    return Fault(at, kind, who, round(rng.uniform(0.5, longest), 2))
