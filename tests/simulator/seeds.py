"""One seed's world from its setup to the judgement; counterexamples made smaller."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from tests.simulator.invariants import UNKNOWABLE, problems
from tests.simulator.setup import Setup, draw
from tests.simulator.simulation import Simulation


@dataclass(frozen=True)
class Outcome:
    """What came of a world."""

    seed: int
    setup: Setup
    problems: tuple[str, ...]


def judge(seed: int, setup: Setup | None = None, tell: Callable[[str], None] | None = None) -> Outcome:
    """Run a seed's world (or another one with its dice) and judge it."""
    setup = draw(seed) if setup is None else setup
    simulation = Simulation(seed, setup, tell)
    simulation.run()
    found = problems(simulation)
    if _may_be_untold(setup):
        found = [problem for problem in found if not any(text in problem for text in UNKNOWABLE)]
    return Outcome(seed, setup, tuple(found))


def _may_be_untold(setup: Setup) -> bool:
    """Whether a Report that the broker had confirmed may have been lost with the broker's memory, and its worker's
    disk too: of what it told nobody can know, so that only the columns can be held against one another."""
    kinds = {happening.kind for happening in setup.happenings}
    return {"broker_wiped", "power_off"} <= kinds


def smaller(seed: int, setup: Setup, failing: Callable[[Outcome], bool]) -> Setup:
    """A setup with less in it that still fails."""
    going = True
    while going:
        going = False
        for candidate in _candidates(setup):
            if failing(judge(seed, candidate)):
                setup, going = candidate, True
                break
    return setup


def _candidates(setup: Setup) -> Iterator[Setup]:
    """Setups with one thing less, the biggest things first."""
    for job in setup.jobs:
        if len(setup.jobs) > 1:
            yield replace(setup, jobs=tuple(each for each in setup.jobs if each is not job))
    for happening in setup.happenings:
        yield replace(setup, happenings=tuple(each for each in setup.happenings if each is not happening))
    if setup.crash_share:
        yield replace(setup, crash_share=0.0)
    if setup.broken_engines:
        yield replace(setup, broken_engines=0.0)
    for name in ("duplicate", "slow", "hidden"):
        if getattr(setup.manner, name):
            yield replace(setup, manner=replace(setup.manner, **{name: 0.0}))
    if len(setup.schedulers) > 1:
        yield replace(setup, schedulers=setup.schedulers[:1])
    if any(clock != (0, 0) for clock in setup.schedulers):
        yield replace(setup, schedulers=((0, 0),) * len(setup.schedulers))
    for host in setup.hosts:
        if len(setup.hosts) > 1:
            yield replace(setup, hosts=tuple(each for each in setup.hosts if each is not host))
    for host in setup.hosts:
        if host.ppm or host.offset or host.boots_at:
            plain = replace(host, ppm=0, offset=0, boots_at=0)
            yield replace(setup, hosts=tuple(plain if each is host else each for each in setup.hosts))
    for job in setup.jobs:
        for index, step in enumerate(job.plan["steps"]):
            rest = [each for number, each in enumerate(job.plan["steps"]) if number != index]
            less = [rest] if rest else []
            if step["workers"] > 1:
                less.append([{**each, "workers": 1} if each is step else each for each in job.plan["steps"]])
            for steps in less:
                plan = {**job.plan, "steps": steps}
                yield replace(
                    setup, jobs=tuple(replace(each, plan=plan) if each is job else each for each in setup.jobs)
                )
