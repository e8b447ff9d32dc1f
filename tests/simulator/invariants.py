"""What must be true of every world, whatever happened in it: conservation, exclusion, liveness.

What can only be seen at the moment it happens (a send beyond what was published, a Control of an older epoch that was
obeyed, an engine for a claim that nobody granted) is noted by ``world.wrong`` there. Here is what is judged at the end.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

from loads.scheduler.cluster import Run, Shard

from loads_queue.model.ledger import Ledger
from tests.simulator.setup import Setup
from tests.simulator.simulation import Simulation
from tests.simulator.world import SECOND

UNKNOWABLE = (": no", "are known of", "were done twice")
"""What is said of a world where more was done than anybody can know of."""


def problems(simulation: Simulation) -> list[str]:
    """Every broken invariant of a world that has been run, in words."""
    found = list(simulation.world.problems)
    found += _epochs(simulation)
    found += _slots(simulation)
    for job in simulation.setup.jobs:
        run = simulation.runs().get(job.id)
        if run is None:
            found.append(f"{job.id}: the job was lost")
        elif job.id not in simulation.ledgers:
            found.append(f"{job.id}: not final by {simulation.limit / SECOND:.0f} s, but {run.state} ({run.reason})")
        else:
            found += [f"{job.id}: {what}" for what in _run(simulation, run)]
    return found


def _run(simulation: Simulation, run: Run) -> list[str]:
    ledger = simulation.ledgers[run.id]
    found = _balance(simulation, run, ledger)
    found += _requests(simulation, run, ledger)
    found += _iterations(simulation, run)
    found += _health(simulation, run)
    if simulation.ledger(run.id) != ledger:
        found.append(f"the ledger changed after it was final: {ledger.total} became {simulation.ledger(run.id).total}")
    last = simulation.target.last_send.get(run.id, 0)
    if last > simulation.final_at[run.id]:
        found.append(f"a request at {last / SECOND:.3f} s, after it was final")
    if not simulation.setup.faulty:
        found += _faultless(simulation, run, ledger)
    return found


# Conservation


def _balance(simulation: Simulation, run: Run, ledger: Ledger) -> list[str]:
    found = []
    total = ledger.total
    if not total.balanced:
        found.append(f"iterations do not balance: {total}")
    if not ledger.requests.balanced:
        found.append(f"requests do not balance: {ledger.requests}")
    if not ledger.user_time.balanced:
        found.append(f"user time does not balance: {ledger.user_time}")
    wrong = {second: columns for second, columns in ledger.seconds.items() if not columns.balanced}
    if wrong and total.balanced:
        found.append(f"seconds do not balance: {wrong}")
    if total.pending or total.in_flight or ledger.user_time.pending or ledger.requests.in_flight:
        found.append(f"final, and still undecided: {total}, {ledger.requests}, {ledger.user_time}")
    if run.shards:
        planned = sum(_planned(simulation, run, step) for step in simulation.plan(run).steps)
        if planned is not None and not _has_closed(simulation, run) and planned != total.planned:
            found.append(f"{planned} iterations were planned, {total.planned} are accounted for")
    negative = [name for name in total.__slots__ if getattr(total, name) < 0]
    if negative:
        found.append(f"negative: {negative} in {total}")
    return found


def _planned(simulation: Simulation, run: Run, step: Any) -> int:
    from loads.scheduler.takeover import load_of

    load = load_of(run, step)
    return 0 if load.kind == "closed" else load.planned


def _has_closed(simulation: Simulation, run: Run) -> bool:
    return any(step.load.kind == "closed" for step in simulation.plan(run).steps)


def _requests(simulation: Simulation, run: Run, ledger: Ledger) -> list[str]:
    """answered <= the target's count <= sent; and what is known to have been done was done."""
    mine = [
        simulation.target.of(claim)
        for claim, place in simulation.target.places.items()
        if place[0] == run.id and claim in {each.id for each in simulation.claims(run.id)}
    ]
    requests = ledger.requests
    reached, written = sum(each.reached for each in mine), sum(each.requests for each in mine)
    if not requests.answered <= reached <= written <= requests.sent:
        return [f"answered {requests.answered} <= target {reached} <= written {written} <= sent {requests.sent}: no"]
    known = requests.attempted - requests.lost
    attempted = sum(each.attempted for each in mine)
    if not known <= attempted <= requests.attempted:
        return [f"{known} requests are known of, {attempted} were made, {requests.attempted} are accounted for"]
    return []


def _iterations(simulation: Simulation, run: Run) -> list[str]:
    """What was really started is between what is known and what is accounted for; nothing was done twice."""
    found = []
    plan = simulation.plan(run)
    for (step, shard), ledger in simulation.shard_ledgers(run.id).items():
        really = simulation.target.of_shard(run.id, plan.steps[step].name, shard)
        total = ledger.total
        known = total.started - total.lost
        where = f"{plan.steps[step].name} shard {shard}"
        if not known <= really.total() <= total.started:
            found.append(f"{where}: {known} starts are known of, {really.total()} were made, of {total.started}")
        again = really.total() - len(really)
        if again > total.surplus and plan.steps[step].load.kind != "closed":
            twice = sorted(key for key, times in really.items() if times > 1)
            found.append(f"{where}: {again} iterations were done twice, surplus is {total.surplus}: {twice[:10]}")
    return found


# Exclusion


def _epochs(simulation: Simulation) -> list[str]:
    commits = simulation.store.commits
    if any(later < earlier for earlier, later in pairwise(commits)):
        return ["a scheduler committed after another one had the epoch"]
    return []


def _health(simulation: Simulation, run: Run) -> list[str]:
    """No lease ends where nothing was wrong but with the scheduler; no shard is held twice for one attempt."""
    found = []
    claims = simulation.claims(run.id)
    twice = [place for place, times in Counter((c.step, c.shard, c.attempt) for c in claims).items() if times > 1]
    if twice:
        found.append(f"granted twice: {twice}")
    if not _troubled(simulation.setup):
        lost = [shard.key for shard in simulation.store.all(Shard) if shard.run == run.id and shard.losses]
        if lost:
            found.append(f"{lost} were taken from their workers, and only the scheduler was ever in trouble")
    return found


def _troubled(setup: Setup) -> bool:
    """Whether anything happened to workers or to messages."""
    harmless = ("kill_scheduler", "pause_scheduler", "broker_down", "abort", "pause", "resume", "adjust")
    return bool(
        any(each.kind not in harmless for each in setup.happenings)
        or setup.broken_engines
        or setup.manner.hidden
        or (setup.manner.slow and setup.manner.slow_up_to > SECOND)
    )


# Liveness


def _slots(simulation: Simulation) -> list[str]:
    """Once all is over every agent is there, every slot is free, and offered for."""
    found = []
    if len(simulation.final_at) < len(simulation.setup.jobs):
        return found
    for host in simulation.hosts.values():
        agent = host.agent
        if agent is None:
            found.append(f"{host.name}: no agent at the end")
        elif not agent.idle:
            held = {name: str(claim.state) for name, claim in agent.state.claims.items()}
            found.append(f"{host.name}: {agent.state.free} of {host.slots} slots free at the end: {held}")
        elif agent.prefetch != host.slots and not agent.state.worker_refused:
            found.append(f"{host.name}: takes {agent.prefetch} offers for {host.slots} slots at the end")
        if host.running():
            found.append(f"{host.name}: engines at the end: {[engine.claim for engine in host.running()]}")
    return found


def _faultless(simulation: Simulation, run: Run, ledger: Ledger) -> list[str]:
    """Where nothing goes wrong, everything planned is done."""
    found = []
    total = ledger.total
    if run.outcome not in ("", "aborted"):
        found.append(f"{run.outcome} ({run.reason}), and nothing went wrong")
    if total.lost or total.missed or total.surplus or ledger.requests.lost or ledger.user_time.missed:
        found.append(f"nothing went wrong, and yet: {total}, {ledger.requests}, {ledger.user_time}")
    if total.cancelled and not run.outcome and not any(step.run_max_time_ns for step in simulation.plan(run).steps):
        found.append(f"cancelled without a reason: {total}")
    return found
