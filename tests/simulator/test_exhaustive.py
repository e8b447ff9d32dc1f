"""The exhaustive search: a slice of it, that it enumerates everything once, and that it finds what is wrong.

``python -m tests.simulator.exhaustive`` does all of it; see there what that is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
from loads.scheduler import core
from loads.scheduler.effects import Publish

from tests.simulator.exhaustive import main, part
from tests.simulator.exhaustive_faults import KINDS, Prefix, alike, faults, faults_at, moments, rank
from tests.simulator.exhaustive_search import START, Found, name_of, quick, run, search, visit, world_of
from tests.simulator.exhaustive_world import LOADS
from tests.simulator.mutations import MUTATIONS, Mutation
from tests.simulator.schedulers import SchedulerProcess

SLICES = {2: (0, 200), 3: (0, 150)}
"""Of the worlds with two and three faults, what ``make test`` looks at: some seconds' worth."""

FOUND = (
    "messages are acknowledged before the commit",
    "commits are not guarded by the epoch",
    "workers obey a lower epoch",
    "claims are granted without comparing",
    "an engine has its permit before the Report is out",
    "leases age while the scheduler can't hear",
    "a takeover begins where the lost attempt was last heard of",
    "a run is final without waiting",
)
"""What a single fault shows, of the rules switched off. Rule 3 (reserved slots) needs a second run, and the rest of
rule 8 (changes that were not heard of) needs a change: neither is in the small world."""


@pytest.fixture(autouse=True)
def _quickly() -> Iterator[None]:
    with quick():
        yield


def told(found: Found) -> str:
    """Counterexamples, with the commands that run them."""
    return "\n".join(
        f'python -m tests.simulator.exhaustive --world "{name}"\n    {wrong[0]}' for name, wrong in found.failed
    )


# What it looks at


def test_all_worlds_with_one_fault_and_a_slice_of_those_with_more_hold_every_invariant() -> None:
    found = search("open", START, 3, SLICES)
    assert not found.failed, told(found)
    assert found.worlds[1] > 150 and found.worlds[2] > 50 and found.worlds[3] > 50


@pytest.mark.parametrize("load", [load for load in LOADS if load != "open"])
def test_other_loads_hold_with_any_one_fault(load: str) -> None:
    found = search(load, START, 1)
    assert not found.failed, told(found)
    assert found.worlds[1] > 100


# What it enumerates


def test_each_kind_of_fault_is_tried_at_each_moment_of_the_protocol() -> None:
    world, _ = run("open", ())
    stages = moments(world, None)
    assert len(stages) >= 10
    for at, name in stages:
        kinds = {(fault.kind, fault.detail) for fault in faults_at(world, (), at)}
        few = {("kill_scheduler", where) for where in ("half-published", "unmarked")}
        assert kinds >= set(KINDS) - few, name  # A turn that sends little can't be cut off in the middle of that.
    assert {(fault.kind, fault.detail) for fault in faults(world, ())} == set(KINDS)


def test_the_moments_are_those_of_the_protocol() -> None:
    world, _ = run("open", ())
    names = " / ".join(name for _, name in moments(world, None))
    for stage in ("claimed", "granted", "ready", "run running", "soon after schedule begun", "halfway", "soon before"):
        assert stage in names
    killed, _ = run("open", _first(world, "power_off", "soon after schedule begun"))
    later = " / ".join(name for _, name in moments(killed, killed.setup.happenings[0].at))
    for stage in ("soon before shard 0 offered 2", "shard 0 granted 2", "run finalising"):
        assert stage in later


def _first(world: Any, kind: str, moment: str) -> Prefix:
    at = next(at for at, name in moments(world, None) if name == moment)
    return (next(fault for fault in faults_at(world, (), at) if fault.kind == kind),)


def test_nothing_is_enumerated_twice() -> None:
    seen: set[frozenset[Any]] = set()
    for (first,), _ in visit("open", START, 1, {1: (0, 3)}, Found()):
        world, _ = run("open", (first,))
        following = [] if world.vacuous else faults(world, (first,))
        for fault in following:
            assert rank(fault) > rank(first)
            assert frozenset((first, fault)) not in seen
            seen.add(frozenset((first, fault)))
    assert len(seen) > 5_000


def test_of_two_hosts_that_are_alike_only_one_is_a_victim() -> None:
    world, _ = run("open", ())
    running = next(at for at, name in moments(world, None) if name == "soon after schedule begun")
    assert alike(world.record, (), running)
    assert {fault.who for fault in faults_at(world, (), running)} == {"w0", "", "sched0"}
    first = _first(world, "kill_agent", "soon after schedule begun")
    assert {fault.who for fault in faults(run("open", first)[0], first)} >= {"w0", "w1"}


def test_a_world_is_read_from_its_name_and_is_the_same_each_time() -> None:
    world, _ = run("open", ())
    prefix = _first(world, "kill_agent", "soon after schedule begun")
    prefix += (faults(run("open", prefix)[0], prefix)[-1],)
    name = name_of("open", prefix)
    assert world_of(name) == ("open", prefix)
    first: list[str] = []
    second: list[str] = []
    assert run("open", prefix, first.append)[1] == run("open", prefix, second.append)[1]
    assert first == second and len(first) > 10
    with pytest.raises(ValueError):
        world_of("open steal_agent:w0@5")


def test_parts_are_disjoint_and_together_all() -> None:
    assert part("3/40") == (2, 40)
    names = [
        sorted(name_of("open", prefix) for prefix, _ in visit("open", START, 1, shares, Found()))
        for shares in ({}, {1: (0, 2)}, {1: (1, 2)})
    ]
    assert names[0] == sorted(names[1] + names[2]) and names[1] and names[2]


def test_the_command_tells_what_it_has_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--faults", "0", "--load", "all", "--processes", "1"]) == 0
    assert "3 worlds (by faults: 3 of 0), 0 failed" in capsys.readouterr().out
    assert main(["--world", "open broker_down@1309600000"]) == 0
    assert "broker_down" in capsys.readouterr().out


# What it finds


def first_failure(load: str) -> str:
    """The first counterexample of up to one fault; empty where there is none."""
    found = Found()
    for task in [START, *visit(load, START, 1, {}, Found())]:
        visit(load, task, 0, {}, found)
        if found.failed:
            name, wrong = found.failed[0]
            assert "the simulator raised" not in wrong[0], wrong[0]
            return name
    return ""


@pytest.mark.parametrize("mutation", [each for each in MUTATIONS if each.what in FOUND], ids=str)
def test_with_a_rule_switched_off_one_fault_is_enough(mutation: Mutation) -> None:
    with mutation.off():
        name = first_failure("open")
    assert name
    assert run(*world_of(name))[1] == ()


def test_each_rule_that_one_fault_shows_is_there() -> None:
    assert {each.what for each in MUTATIONS} >= set(FOUND)


@contextmanager
def published_before_the_commit() -> Iterator[None]:
    """What is sent is out when a turn is cut off before its commit."""
    decided: list[Any] = []
    step, cut = core.step, SchedulerProcess._cut

    def remembered(*args: Any) -> list[Any]:
        decided[:] = step(*args)
        return list(decided)

    def cut_off(self: SchedulerProcess, where: str) -> bool:
        if where == self.crash_at == "uncommitted":
            for command in decided:
                if isinstance(command, Publish):
                    self.broker.send(command.queue, command.message)
        return cut(self, where)

    with mock.patch.object(core, "step", remembered), mock.patch.object(SchedulerProcess, "_cut", cut_off):
        yield


def test_messages_before_the_commit_are_found_out_by_one_crash() -> None:
    with published_before_the_commit():
        name = first_failure("open")
    assert "kill_scheduler.uncommitted" in name
    assert run(*world_of(name))[1] == ()
