"""Changing a running load: a pause, its end, and factors on the rate or the users, from one schedule time on.

A change is part of the plan from then on: every shard hears the same list, the ledger plans by it, and it stands in
the run's events. A pause does not move the schedule: its clock and its end stand.
"""

from __future__ import annotations

from fractions import Fraction

from loads_queue.model.states import RunState

from .cluster import Cluster, Run
from .effects import Command, Note

AHEAD_NS = 2_000_000_000
"""A change lies at least this far ahead, so that every worker has heard of it when it comes into force."""
SECOND = 1_000_000_000
MOST_FACTOR = 1_000_000


def pause(cluster: Cluster, run: Run, now: int, who: str) -> list[Command]:
    """Have nothing new start, in every step."""
    return _change(cluster, run, None, Fraction(0), now, who, "paused")


def resume(cluster: Cluster, run: Run, now: int, who: str) -> list[Command]:
    """Go on at the factors from before the pause."""
    if run.state is not RunState.RUNNING:
        return [_refused(run, now, who, "resume")]
    at = _when(run, now)
    done = False
    for step in cluster.plans[run.id].steps:
        factors = run.changes.get(str(step.index), ())
        if factors and factors[-1][1] == 0:
            before = next((factor for factor in reversed(factors) if factor[1]), (0, 1, 1))
            _append(run, step.index, (at, before[1], before[2]))
            done = True
    if not done:
        return [Note(run.id, now, "nothing is paused", who)]
    return _announce(cluster, run, now, at, who, "resumed")


def adjust(cluster: Cluster, run: Run, step: str | None, factor: str, now: int, who: str) -> list[Command]:
    """Multiply a step's rate or users, or every step's, by a factor of the plan's own."""
    try:
        value = Fraction(factor)
    except (ValueError, ZeroDivisionError):
        return [Note(run.id, now, f"adjust refused: {factor[:40]!r} is no factor", who)]
    if not 0 <= value <= MOST_FACTOR or value.denominator > MOST_FACTOR:
        return [Note(run.id, now, f"adjust refused: a factor is from 0 to {MOST_FACTOR}", who)]
    return _change(cluster, run, step, value, now, who, f"set to {float(value):g} of the plan")


def _change(
    cluster: Cluster, run: Run, step: str | None, factor: Fraction, now: int, who: str, what: str
) -> list[Command]:
    if run.state is not RunState.RUNNING:
        return [_refused(run, now, who, what)]
    steps = [each for each in cluster.plans[run.id].steps if step is None or each.name == step]
    if not steps:
        return [Note(run.id, now, f"adjust refused: no step is called {step!r}", who)]
    at = _when(run, now)
    for each in steps:
        _append(run, each.index, (at, factor.numerator, factor.denominator))
    return _announce(cluster, run, now, at, who, what if step is None else f"{step}: {what}")


def _when(run: Run, now: int) -> int:
    """The schedule time of a change: a full second, so that no second of the timeline has two plans."""
    assert run.start_at is not None
    return max(0, -(-(now + AHEAD_NS - run.start_at) // SECOND) * SECOND)


def _append(run: Run, step: int, change: tuple[int, int, int]) -> None:
    """Add a change; of two for the same time the later one counts."""
    kept = tuple(each for each in run.changes.get(str(step), ()) if each[0] < change[0])
    run.changes = {**run.changes, str(step): (*kept, change)}


def _announce(cluster: Cluster, run: Run, now: int, at: int, who: str, what: str) -> list[Command]:
    cluster.touch(run)
    for claim in cluster.claims_of(run.id):
        cluster.order(claim.worker)
    return [Note(run.id, now, f"{what} from {at // SECOND} s of the schedule on", who)]


def _refused(run: Run, now: int, who: str, what: str) -> Note:
    return Note(run.id, now, f"not {what}: the run is {run.state}", who)
