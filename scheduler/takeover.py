"""What becomes of a shard whose claim is over: closed, handed on, or taken over; and where the next attempt begins.

Nothing that may have been done is done again: a takeover begins behind everything that the lost attempt's permit
covered, and a hand-back where its engine, by its own account, ended.
"""

from __future__ import annotations

from collections.abc import Sequence

from loads_queue.model.ledger import ACCOUNTED, ORDERLY
from loads_queue.model.open_load import OpenLoad, OpenShard
from loads_queue.model.plan import Plan, Step
from loads_queue.model.profile import Load
from loads_queue.model.stages import NEVER, Change, normal_changes
from loads_queue.model.states import SHARD_STATES, RunState, ShardEvent, ShardState, after
from loads_queue.model.unheard import behind

from .cluster import Claim, Cluster, Run, Shard

AHEAD_NS = 500_000_000
"""From a grant to the first arrival that a takeover owns: until then nobody would have heard of it."""


def load_of(run: Run, step: Step) -> Load:
    """A step's load as its run's changes have left it."""
    return step.load.changed(changes_of(step, run.changes.get(str(step.index), ())))


def changes_of(step: Step, changes: Sequence[Change]) -> tuple[Change, ...]:
    """Changes in the time of a step's profile, as the profile itself has them."""
    return normal_changes([(at - step.delay_ns, top, bottom) for at, top, bottom in changes])


def accounted(claim: Claim) -> bool:
    """Whether the engine's own last word on a claim is here."""
    end = claim.end
    return end is not None and end.at_ns is not None and end.cause in ACCOUNTED


def orderly(claim: Claim) -> bool:
    """Whether a claim's end was meant to be the end of its shard's load."""
    return accounted(claim) and claim.end is not None and claim.end.cause in ORDERLY


def past_end(run: Run, step: Step, now: int) -> bool:
    """Whether nothing of a step could begin any more if it were granted now."""
    if run.start_at is None:
        return False
    began = run.start_at + step.delay_ns
    if step.run_max_time_ns and now >= began + step.run_max_time_ns:
        return True
    end = load_of(run, step).end_ns
    return end is not None and end != NEVER and now + AHEAD_NS >= began + end


def close(cluster: Cluster, shard: Shard) -> None:
    """No further attempt will come."""
    shard.state = after(SHARD_STATES, shard.state, ShardEvent.CLOSE)
    cluster.touch(shard)


def release(cluster: Cluster, shard: Shard) -> None:
    """Have the shard offered again."""
    shard.state = after(SHARD_STATES, shard.state, ShardEvent.RELEASE)
    shard.claim = None
    cluster.touch(shard)


def settle(cluster: Cluster, claim: Claim, now: int) -> str:
    """Close, or release, the shard of a claim that is over; the reason to end its run for, or empty."""
    shard = cluster.shards[claim.run, claim.step, claim.shard]
    if shard.claim != claim.id or shard.state is not ShardState.GRANTED:
        return ""
    run, plan = cluster.runs[claim.run], cluster.plans[claim.run]
    step = plan.steps[claim.step]
    if run.state not in (RunState.STARTING, RunState.RUNNING) or orderly(claim):
        close(cluster, shard)
        return ""
    if claim.end is not None and claim.end.cause == "failed":
        close(cluster, shard)
        return f"step {step.name!r} could not start: {claim.end.detail}" if run.state is RunState.STARTING else ""
    return _lose(cluster, shard, claim, now)


def _lose(cluster: Cluster, shard: Shard, claim: Claim, now: int) -> str:
    run, plan = cluster.runs[claim.run], cluster.plans[claim.run]
    step = plan.steps[claim.step]
    handed_back = claim.end is not None and claim.end.cause == "lapsed"
    if not handed_back:
        shard.losses += 1
        cluster.touch(shard)
        if run.state is RunState.RUNNING and plan.on_worker_loss == "fail":
            close(cluster, shard)
            return f"{_named(plan, run, claim)} was lost with {claim.worker}, and on_worker_loss is fail"
    if shard.losses >= cluster.settings.max_attempts:
        close(cluster, shard)
        if run.state is RunState.STARTING:
            detail = claim.end.detail if claim.end is not None else "its worker went silent"
            return f"step {step.name!r} could not start in {shard.losses} attempts: {detail}"
    elif past_end(run, step, now):
        close(cluster, shard)
    else:
        release(cluster, shard)
    return ""


def beginning(cluster: Cluster, shard: Shard, now: int) -> tuple[int, tuple[int, ...]]:
    """Where an attempt that is granted now begins: (``first``, ``turns``) as ``messages.ClaimOrder`` has them."""
    run, plan = cluster.runs[shard.run], cluster.plans[shard.run]
    step = plan.steps[shard.step]
    before = _attempts(cluster, shard)
    load = load_of(run, step)
    if isinstance(load, OpenLoad):
        share = load.shard(shard.index, run.shards[shard.step])
        due = 0
        if run.start_at is not None and before:
            due = share.planned_by(now + AHEAD_NS - run.start_at - step.delay_ns)
        return max([due, *(_decided(share, step, claim) for claim in before)]), ()
    first: int = max((_behind(claim) for claim in before), default=0)
    last = before[-1] if before else None
    turns = last.totals.turns if last is not None and accounted(last) else None
    return first, tuple(turns or ())


def _decided(share: OpenShard, step: Step, claim: Claim) -> int:
    """The first arrival, by the plan as it now stands, that an attempt has not decided about."""
    if claim.totals.next is None:
        return claim.first
    return max(claim.first, behind(share, changes_of(step, claim.totals.changes), claim.totals.next))


def _attempts(cluster: Cluster, shard: Shard) -> list[Claim]:
    return sorted(cluster.claims.by_shard.get(shard.key, {}).values(), key=lambda claim: claim.attempt)


def _behind(claim: Claim) -> int:
    """The first turn behind what an attempt of users has, or may have, begun."""
    if accounted(claim) and claim.totals.turns is None:
        return claim.first + claim.totals.started
    return claim.bound_iterations


def _named(plan: Plan, run: Run, claim: Claim) -> str:
    return f"{plan.steps[claim.step].name} shard {claim.shard + 1}/{run.shards[claim.step]}"
