"""The scheduler's decisions: ``step(cluster, event, now)`` changes the state and says what is to be done.

No clock, no I/O and no randomness in here, so that a simulator can drive it through any disorder. The edge
(``service``) writes what changed and the outgoing messages in one transaction, and publishes afterwards.
"""

from __future__ import annotations

from loads_queue.model.problems import PlanError
from loads_queue.model.states import (
    CLAIM_STATES,
    RUN_STATES,
    SHARD_STATES,
    ClaimEvent,
    ClaimState,
    RunEvent,
    RunState,
    ShardEvent,
    ShardState,
    after,
)

from .cluster import Claim, Cluster, Event, JobReceived, ReportReceived, Run, Shard, StopRequested, Tick
from .control import control_for
from .effects import Command, Note
from .intake import PlanReader, refuse_run, take_job, take_report
from .reserve import offer_due, offered_from, reserve

TICK_GAP_NS = 1_000_000_000
"""Leases age only while ticks come at least this often; else the scheduler's own pause would look like the fleet's."""


def step(cluster: Cluster, events: list[Event], now: int, read_plan: PlanReader) -> list[Command]:
    """Take events in, in order, and decide once; all of it belongs in one transaction."""
    commands: list[Command] = []
    for event in events:
        if isinstance(event, JobReceived):
            commands += take_job(cluster, event.job, read_plan, now)
        elif isinstance(event, ReportReceived):
            commands += take_report(cluster, event.report, event.at)
        elif isinstance(event, StopRequested):
            run = cluster.runs.get(event.run)
            if run is not None:
                commands += stop_run(cluster, run, now, f"aborted by {event.who}", "aborted", event.who)
        elif isinstance(event, Tick):
            _tick(cluster, now)
    commands += _decide(cluster, now)
    for name in list(cluster.workers):
        worker = cluster.workers[name]
        quiet = now - worker.control_at >= cluster.settings.control_every_ns
        if name in cluster.control_due or (quiet and now - worker.last_report_at < cluster.settings.lease_ttl_ns):
            commands.append(control_for(cluster, worker, now))
    cluster.control_due.clear()
    return commands


def _tick(cluster: Cluster, now: int) -> None:
    if cluster.last_tick is not None and now - cluster.last_tick > TICK_GAP_NS:
        for claim in cluster.claims.values():
            if claim.active:
                claim.advanced_at = now
                cluster.touch(claim)
    cluster.last_tick = now


def stop_run(cluster: Cluster, run: Run, now: int, reason: str, outcome: str, who: str = "") -> list[Command]:
    """Stop a run: nothing new starts, granted claims are told to stop; a run that is over is left alone."""
    if run.state in (RunState.STOPPING, RunState.FINALISING, RunState.FINISHED):
        return []
    run.state = after(RUN_STATES, run.state, RunEvent.STOP)
    run.stop_at = now
    run.reason = reason
    run.outcome = outcome
    cluster.touch(run)
    for shard in cluster.shards_of(run.id):
        if shard.state in (ShardState.PENDING, ShardState.OFFERED):
            _close(cluster, shard)
    for claim in cluster.claims_of(run.id):
        cluster.order(claim.worker)
    return [Note(run.id, now, reason, who)]


def _close(cluster: Cluster, shard: Shard) -> None:
    shard.state = after(SHARD_STATES, shard.state, ShardEvent.CLOSE)
    cluster.touch(shard)


def _decide(cluster: Cluster, now: int) -> list[Command]:
    commands: list[Command] = []
    for claim in list(cluster.claims.values()):
        commands += _settle(cluster, claim, now)
    waiting = [run for run in cluster.runs.values() if run.state is RunState.WAITING]
    for run in sorted(waiting, key=lambda run: (-run.priority, run.created_at, run.id)):
        commands += _wait(cluster, run, now)
    for run in list(cluster.runs.values()):
        if run.state in (RunState.STARTING, RunState.RUNNING):
            commands += offer_due(cluster, run, now)
        if run.state is RunState.STARTING:
            commands += _start(cluster, run, now)
        commands += _finish(cluster, run, now)
    return commands


def _settle(cluster: Cluster, claim: Claim, now: int) -> list[Command]:
    """A claim that said its end, or whose lease ended."""
    if claim.end is not None and claim.state is not ClaimState.ENDED:
        claim.state = after(CLAIM_STATES, claim.state, ClaimEvent.END)
        cluster.touch(claim)
        cluster.order(claim.worker)
        return _release(cluster, claim, now)
    if claim.active and now - claim.advanced_at >= cluster.settings.lease_ttl_ns:
        claim.state = after(CLAIM_STATES, claim.state, ClaimEvent.EXPIRE)
        cluster.touch(claim)
        silence = (now - claim.advanced_at) / 1e9
        step_name = cluster.plans[claim.run].steps[claim.step].name
        what = f"{step_name} shard {claim.shard + 1}: nothing heard from {claim.worker} for {silence:.0f} s"
        return [Note(claim.run, now, what), *_release(cluster, claim, now)]
    return []


def _release(cluster: Cluster, claim: Claim, now: int) -> list[Command]:
    """What becomes of a shard whose claim is over: before the start it is offered again, after it it is over."""
    shard = cluster.shards[claim.run, claim.step, claim.shard]
    if shard.claim != claim.id or shard.state is not ShardState.GRANTED:
        return []
    run = cluster.runs[claim.run]
    end = claim.end
    again = end is None or end.cause in ("crashed", "lapsed")
    if run.state is RunState.STARTING and again and shard.attempt < cluster.settings.max_attempts:
        shard.state = after(SHARD_STATES, shard.state, ShardEvent.RELEASE)
        shard.claim = None
        cluster.touch(shard)
        return []
    _close(cluster, shard)
    if end is not None and end.cause in ("failed", "crashed", "lapsed") and run.state is RunState.STARTING:
        name = cluster.plans[run.id].steps[claim.step].name
        detail = end.detail or end.cause
        return stop_run(cluster, run, now, f"step {name!r} could not start: {detail}", "failed")
    return []


def _wait(cluster: Cluster, run: Run, now: int) -> list[Command]:
    try:
        reserved = reserve(cluster, run, now)
    except PlanError as error:
        return refuse_run(cluster, run, error, now)
    if not reserved:
        timeout = cluster.plans[run.id].ready_timeout_ns
        if run.waiting_since is not None and now - run.waiting_since >= timeout:
            return stop_run(cluster, run, now, run.reason, "no_capacity")
        return []
    run.state = after(RUN_STATES, run.state, RunEvent.RESERVE)
    run.starting_at = now
    run.reason = ""
    cluster.touch(run)
    return [Note(run.id, now, f"slots reserved: {sum(run.shards)} shards")]


def _start(cluster: Cluster, run: Run, now: int) -> list[Command]:
    """One start time, once every claim that is due at the start is ready."""
    plan = cluster.plans[run.id]
    first = [shard for shard in cluster.shards_of(run.id) if offered_from(plan, plan.steps[shard.step]) == 0]
    claims = [cluster.claims.get(shard.claim or "") for shard in first]
    unready = sum(1 for claim in claims if claim is None or claim.state is not ClaimState.READY)
    if unready:
        assert run.starting_at is not None
        waited = now - run.starting_at
        if waited >= plan.ready_timeout_ns:
            reason = f"{len(first) - unready} of {len(first)} shards ready after {waited // 1_000_000_000}s"
            return stop_run(cluster, run, now, reason, "no_capacity")
        return []
    workers = {claim.worker for claim in claims if claim is not None}
    trips = [cluster.workers[name].clock.round_trip_ns or 0 for name in workers]
    run.start_at = now + 500_000_000 + 2 * max(trips) + 5_000_000 * len(workers)
    run.state = after(RUN_STATES, run.state, RunEvent.START)
    cluster.touch(run)
    for name in workers:
        cluster.order(name)
    return [Note(run.id, now, f"started on {len(workers)} workers")]


def _finish(cluster: Cluster, run: Run, now: int) -> list[Command]:
    if run.state in (RunState.RUNNING, RunState.STOPPING):
        if any(shard.state is not ShardState.OVER for shard in cluster.shards_of(run.id)):
            return []
        run.state = after(RUN_STATES, run.state, RunEvent.LOAD_OVER)
        run.load_over_at = now
        cluster.touch(run)
    if run.state is RunState.FINALISING and all(
        _known(cluster, run, claim, now) for claim in cluster.claims_of(run.id)
    ):
        run.state = after(RUN_STATES, run.state, RunEvent.FINAL)
        run.ended_at = now
        cluster.touch(run)
        return [Note(run.id, now, "final")]
    return []


def _known(cluster: Cluster, run: Run, claim: Claim, now: int) -> bool:
    """Whether nothing more is awaited from a claim: its end and all before it is here, or it is given up."""
    if claim.state is ClaimState.ENDED:
        worker = cluster.workers.get(claim.worker)
        if worker is None or worker.incarnation != claim.incarnation or worker.applied >= claim.end_sequence:
            return True
    silent_from = claim.advanced_at
    if run.start_at is not None and claim.permit_until_ns is not None:
        silent_from = max(silent_from, run.start_at + claim.permit_until_ns)
    return now - silent_from >= cluster.settings.final_after_ns
