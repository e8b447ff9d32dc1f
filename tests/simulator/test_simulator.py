"""Conservation, over many seeds: every planned arrival ends in exactly one column, whatever the world does.

A seed that fails is a counterexample that can be run again alone: ``pytest -k 'seed[17]'``.
"""

from __future__ import annotations

import random

import pytest
from sim_world import Faults, World

from loads_queue import codec
from loads_queue.messages import JOBS, Job
from loads_queue.model.states import RunState

SECOND = 1_000_000_000
RUN = "run1"


def plan(dice: random.Random) -> dict:
    """A plan of one or two steps of the open model."""
    steps = []
    for name in ("first", "second")[: dice.randint(1, 2)]:
        rate = dice.choice([3, 7, 20])
        stages = [{"rate": [0, rate], "for": "1500ms"}, {"rate": rate, "for": f"{dice.randint(1, 4)}s"}]
        if dice.random() < 0.3:
            stages.append({"rate": 0, "for": "1s"})
        steps.append({
            "name": name,
            "workers": dice.randint(1, 3),
            "run_delay": f"{dice.choice([0, 0, 700, 2100])}ms",
            "load": {"stages": stages, "arrivals": dice.choice(["even", "jittered"])},
            "http": {"base_url": "http://127.0.0.1:9", "do": [{"get": "/"}]},
        })  # fmt: skip
    return {"name": "simulated", "steps": steps}


def simulate(seed: int) -> World:
    """One world from a seed, run until its one run is final."""
    dice = random.Random(seed)
    faults = Faults(
        duplicate=dice.choice([0, 0.3]),
        slow=dice.choice([0, 0, 0.2]),
        agent_kills=dice.choice([0, 0, 1]),
        scheduler_crashes=dice.choice([0, 0, 0.03]),
        stop_at_s=dice.choice([None, None, None, dice.uniform(0.5, 6)]),
    )
    world = World(seed, faults)
    for number in range(3):
        world.later(dice.randrange(2 * SECOND), lambda name=f"w{number}": world.add_host(name, 2))
    job = Job(id=RUN, plan=plan(dice), owner="simulator", submitted_at=1)
    world.send(JOBS, codec.encode(job, JOBS, 1))
    if faults.agent_kills:
        world.later(dice.randrange(2 * SECOND, 8 * SECOND), lambda: dice.choice(world.hosts).kill())
    if faults.stop_at_s is not None:
        world.later(int(faults.stop_at_s * SECOND), lambda: world.orders.append((RUN, "somebody")))
    assert world.run_until(lambda: world.finished(RUN), limit_s=400), f"seed {seed}: the run never became final"
    return world


@pytest.mark.parametrize("seed", range(80), ids=lambda seed: f"seed[{seed}]")
def test_every_planned_arrival_ends_in_exactly_one_column(seed: int) -> None:
    world = simulate(seed)
    run = world.disk.cluster.runs[RUN]
    assert run.state is RunState.FINISHED
    if not run.shards:
        assert world.truth.total() == 0
        return
    ledger = world.ledger(RUN)
    total = ledger.total
    assert ledger.balanced, (seed, total, ledger.requests)
    assert total.planned == sum(step.load.planned for step in world.disk.cluster.plans[RUN].steps)
    assert total.pending == total.in_flight == 0
    sends = world.truth.total()
    assert ledger.requests.answered <= sends <= ledger.requests.sent
    assert all(times == 1 for times in world.truth.values()) or len(world.disk.cluster.plans[RUN].steps) == 2
    if not world.faults.agent_kills and world.crashes == 0:
        assert total.lost == 0
        assert sends == ledger.requests.sent == total.started


def test_a_world_without_faults_does_all_of_it() -> None:
    world = World(1, Faults())
    for number in range(2):
        world.add_host(f"w{number}", 2)
    load = {"rate": 50, "for": "4s"}
    step = {
        "name": "only",
        "workers": 2,
        "load": load,
        "http": {"base_url": "http://127.0.0.1:9", "do": [{"get": "/"}]},
    }
    world.send(JOBS, codec.encode(Job(id=RUN, plan={"name": "plain", "steps": [step]}), JOBS, 1))
    assert world.run_until(lambda: world.finished(RUN), limit_s=60)
    total = world.ledger(RUN).total
    assert (total.planned, total.missed, total.lost, total.cancelled, total.surplus) == (200, 0, 0, 0, 0)
    assert total.started + total.dropped_in_flight == 200
    assert world.truth.total() == total.started


def test_a_row_that_never_arrives_shows_as_a_ledger_that_does_not_balance() -> None:
    world = simulate(0)
    assert world.ledger(RUN).balanced
    key = next(key for key, (_, row) in world.disk.rows.items() if row.get("started"))
    del world.disk.rows[key]
    assert not world.ledger(RUN).balanced
