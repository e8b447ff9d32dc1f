"""Conservation, exclusion and liveness over a thousand worlds, each from its seed.

A seed that fails is a counterexample: ``python -m tests.simulator.many --seed N --shrink`` makes it smaller and tells
what happens in it; ``--seeds 10000`` tries more.
"""

from __future__ import annotations

from dataclasses import replace

from tests.simulator.invariants import problems
from tests.simulator.many import failures
from tests.simulator.seeds import judge
from tests.simulator.setup import HTTP, HostSetup, JobSetup, Setup, draw
from tests.simulator.simulation import Simulation

SEEDS = range(1000)


def plain(load: dict) -> Setup:
    """A world where nothing goes wrong: two workers, one plan of two shards."""
    plan = {"name": "plain", "steps": [{"name": "only", "workers": 2, "load": load, "http": HTTP}]}
    return Setup(hosts=(HostSetup("w0", 2), HostSetup("w1", 2)), jobs=(JobSetup("run0", 0, plan),))


def test_a_thousand_worlds_hold_every_invariant() -> None:
    failed = {seed: found for seed, found in failures(SEEDS, processes=2) if found}
    told = "\n".join(f"python -m tests.simulator.many --seed {seed} --shrink\n    {failed[seed][0]}" for seed in failed)
    assert not failed, f"{len(failed)} of {len(SEEDS)} worlds broke an invariant:\n{told}"


def test_a_seed_is_the_same_world_each_time() -> None:
    first, second = [], []
    judge(7, tell=first.append)
    judge(7, tell=second.append)
    assert first == second and len(first) > 10


def test_a_world_without_faults_does_all_of_it() -> None:
    simulation = Simulation(1, plain({"rate": 50, "for": "4s"}))
    simulation.run()
    assert problems(simulation) == []
    total = simulation.ledgers["run0"].total
    assert (total.planned, total.started, total.missed, total.lost, total.cancelled) == (200, 200, 0, 0, 0)
    assert (
        sum(sends.requests for sends in simulation.target.claims.values()) == simulation.ledgers["run0"].requests.sent
    )


def test_users_for_a_time_and_for_a_number_of_turns_are_done_too() -> None:
    closed = Simulation(2, plain({"users": 4, "for": "4s"}))
    closed.run()
    assert problems(closed) == []
    held = closed.ledgers["run0"].user_time
    assert held.planned == 16_000_000_000 and 0 <= held.planned - held.held - held.missed < 10
    counted = Simulation(3, plain({"users": 4, "iterations": 10}))
    counted.run()
    assert problems(counted) == []
    assert counted.ledgers["run0"].total.started == 40


def test_a_row_that_never_arrives_shows_as_a_ledger_that_does_not_balance() -> None:
    simulation = Simulation(1, plain({"rate": 50, "for": "4s"}))
    simulation.run()
    claim, rows = next(iter(simulation.store.rows.items()))
    del simulation.store.rows[claim][next(iter(rows))]
    assert not simulation.ledger("run0").balanced


def test_reports_that_come_again_in_any_order_change_nothing() -> None:
    setup = draw(7)
    simulation = Simulation(7, setup)
    simulation.run()
    assert problems(simulation) == []
    reports = [report for worker in simulation.target.reports.values() for report in worker]
    simulation.dice.shuffle(reports)
    for report in reports:
        simulation.broker.send("reports", report)
    simulation.world.run(lambda: False, simulation.world.now + 5_000_000_000)
    assert problems(simulation) == []
    assert {run: simulation.ledger(run) for run in simulation.ledgers} == simulation.ledgers


def test_worlds_differ_in_everything_that_may_go_wrong() -> None:
    worlds = [draw(seed) for seed in range(300)]
    kinds = {happening.kind for world in worlds for happening in world.happenings}
    assert kinds >= {"kill_agent", "power_off", "pause_host", "pause_agent", "pause_engines", "kill_engine", "drain"}
    assert kinds >= {"kill_scheduler", "pause_scheduler", "broker_down", "broker_wiped", "set_clock", "abort", "adjust"}
    assert any(world.manner.hidden for world in worlds) and any(world.manner.duplicate for world in worlds)
    assert any(len(world.schedulers) == 2 for world in worlds) and any(not world.faulty for world in worlds)
    assert replace(worlds[0], happenings=()) != worlds[0] or not worlds[0].happenings
