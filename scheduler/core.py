"""The scheduler's decisions: ``step(cluster, event, now)`` changes the state and says what is to be done.

No clock, no I/O and no randomness in here, so that a simulator can drive it through any disorder. The edge
(``service``) writes what changed and the outgoing messages in one transaction, and publishes afterwards.
"""

from __future__ import annotations

from loads_queue.model.problems import PlanError
from loads_queue.model.states import (
    CLAIM_STATES,
    RUN_STATES,
    ClaimEvent,
    ClaimState,
    RunEvent,
    RunState,
    ShardState,
    after,
)

from . import steering
from .cluster import Claim, Cluster, Event, JobReceived, ReportReceived, Run, SteerRequested, StopRequested, Tick
from .control import control_for
from .effects import Command, Note
from .intake import PlanReader, refuse_run, take_job, take_report
from .pace import report_interval
from .reserve import offer_due, offered_from, reserve
from .takeover import close, settle

TICK_GAP_NS = 1_000_000_000
"""Leases age only while ticks come at least this often; else the scheduler's own pause would look like the fleet's."""
PARDONED_REPORTS = 3
"""So many Reports' time a lease has at least after a pause of the scheduler's own."""


def step(cluster: Cluster, events: list[Event], now: int, read_plan: PlanReader) -> list[Command]:
    """Take events in, in order, and decide once; all of it belongs in one transaction."""
    commands: list[Command] = []
    for event in events:
        commands += _take(cluster, event, now, read_plan)
    commands += _decide(cluster, now)
    settings = cluster.settings
    cluster.report_interval_ns = report_interval(
        len(cluster.present(now)), settings.report_interval_ns, settings.lease_ttl_ns
    )
    for name in list(cluster.workers):
        worker = cluster.workers[name]
        quiet = now - worker.control_at >= cluster.settings.control_every_ns
        if name in cluster.control_due or (quiet and now - worker.last_report_at < cluster.settings.lease_ttl_ns):
            commands.append(control_for(cluster, worker, now))
    cluster.control_due.clear()
    return commands


def _take(cluster: Cluster, event: Event, now: int, read_plan: PlanReader) -> list[Command]:
    match event:
        case JobReceived(job):
            return take_job(cluster, job, read_plan, now)
        case ReportReceived(report, at):
            return take_report(cluster, report, at)
        case StopRequested(run_id, who, reason, at_once):
            run = cluster.runs.get(run_id)
            grace = 0 if at_once else cluster.settings.abort_grace_ns
            why = reason or f"aborted by {who}"
            return stop_run(cluster, run, now, why, "aborted", who, grace) if run is not None else []
        case SteerRequested():
            return _steer(cluster, event, now)
        case Tick(healthy, drained):
            _tick(cluster, now, healthy, drained)
    return []


def _steer(cluster: Cluster, event: SteerRequested, now: int) -> list[Command]:
    run = cluster.runs.get(event.run)
    if run is None:
        return []
    if event.action == "pause":
        return steering.pause(cluster, run, now, event.who)
    if event.action == "resume":
        return steering.resume(cluster, run, now, event.who)
    return steering.adjust(cluster, run, event.step, event.factor, now, event.who)


def _tick(cluster: Cluster, now: int, healthy: bool, drained: bool) -> None:
    """Age the leases, unless what would renew them may be waiting in the broker.

    After an outage each has its full time again. After a pause of the scheduler's own it has as much as the pause took,
    and a few Reports' time at least: a scheduler that stumbles every few seconds must still see that a worker is gone.
    """
    gap = now - cluster.last_tick if cluster.last_tick is not None else 0
    cluster.last_tick = now
    if healthy and not cluster.healthy:
        cluster.renewed = dict.fromkeys(cluster.renewed, cluster.age)
    elif gap > TICK_GAP_NS:
        cluster.pardon(max(gap, PARDONED_REPORTS * cluster.report_interval_ns))
    elif healthy and drained:
        cluster.age += max(0, gap)
    cluster.healthy, cluster.drained = healthy, drained


def stop_run(
    cluster: Cluster, run: Run, now: int, reason: str, outcome: str, who: str = "", grace_ns: int | None = None
) -> list[Command]:
    """Stop a run: nothing new starts, granted claims are told to stop; a run that is over is left alone."""
    if run.state in (RunState.STOPPING, RunState.FINALISING, RunState.FINISHED):
        return []
    run.state = after(RUN_STATES, run.state, RunEvent.STOP)
    run.stop_at = now
    run.stop_grace_ns = cluster.settings.abort_grace_ns if grace_ns is None else grace_ns
    run.reason = reason
    run.outcome = outcome
    cluster.touch(run)
    for shard in cluster.shards_of(run.id):
        if shard.state in (ShardState.PENDING, ShardState.OFFERED):
            close(cluster, shard)
    for claim in cluster.claims_of(run.id):
        cluster.order(claim.worker)
    return [Note(run.id, now, reason, who)]


def _decide(cluster: Cluster, now: int) -> list[Command]:
    commands: list[Command] = []
    for claim in list(cluster.claims.values()):
        commands += _settle(cluster, claim, now)
    for run in list(cluster.runs.values()):
        if run.state in (RunState.STARTING, RunState.RUNNING):
            commands += offer_due(cluster, run, now)
    waiting = [run for run in cluster.runs.values() if run.state is RunState.WAITING]
    for run in sorted(waiting, key=lambda run: (-run.priority, run.created_at, run.id)):
        commands += _wait(cluster, run, now)
    for run in list(cluster.runs.values()):
        if run.state is RunState.STARTING:
            commands += offer_due(cluster, run, now)
            commands += _start(cluster, run, now)
        commands += _finish(cluster, run, now)
    return commands


def _settle(cluster: Cluster, claim: Claim, now: int) -> list[Command]:
    """A claim that said its end, or whose lease ended."""
    commands: list[Command] = []
    if claim.end is not None and claim.state is not ClaimState.ENDED:
        claim.state = after(CLAIM_STATES, claim.state, ClaimEvent.END)
    elif claim.active and (claim.id in cluster.forsaken or _expired(cluster, claim)):
        claim.state = after(CLAIM_STATES, claim.state, ClaimEvent.EXPIRE)
        why = f"{claim.worker} has started again"
        if claim.id not in cluster.forsaken:
            why = f"nothing heard from {claim.worker} for {cluster.lease_age(claim) / 1e9:.0f} s"
        name = cluster.plans[claim.run].steps[claim.step].name
        commands.append(Note(claim.run, now, f"{name} shard {claim.shard + 1}: {why}", shard=claim.shard))
    else:
        return []
    cluster.forsaken.discard(claim.id)
    cluster.touch(claim)
    cluster.order(claim.worker)
    reason = settle(cluster, claim, now)
    run = cluster.runs[claim.run]
    return [*commands, *(stop_run(cluster, run, now, reason, "failed") if reason else ())]


def _expired(cluster: Cluster, claim: Claim) -> bool:
    return cluster.lease_age(claim) >= cluster.settings.lease_ttl_ns


def _wait(cluster: Cluster, run: Run, now: int) -> list[Command]:
    plan = cluster.plans[run.id]
    if plan.start_at_ns is not None and now < plan.start_at_ns - plan.ready_timeout_ns:
        if not run.reason:
            run.reason = "waiting for the time that its plan starts at"
            cluster.touch(run)
        return []
    try:
        reserved = reserve(cluster, run, now)
    except PlanError as error:
        return refuse_run(cluster, run, error, now)
    if not reserved:
        if run.waiting_since is not None and now - run.waiting_since >= plan.ready_timeout_ns:
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
    soonest = now + 500_000_000 + 2 * max(trips) + 5_000_000 * len(workers)
    run.start_at = max(soonest, plan.start_at_ns or 0)
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
    known = all(_known(cluster, run, claim, now) for claim in cluster.claims_of(run.id))
    if run.state is RunState.FINALISING and known:
        run.state = after(RUN_STATES, run.state, RunEvent.FINAL)
        run.ended_at = now
        cluster.touch(run)
        for claim in cluster.claims_of(run.id):
            worker = cluster.workers.get(claim.worker)
            if worker is not None and worker.whole_until(claim.incarnation) < claim.sequence:
                claim.holed = True
                cluster.touch(claim)
        return [Note(run.id, now, "final")]
    return []


def _known(cluster: Cluster, run: Run, claim: Claim, now: int) -> bool:
    """Whether nothing more is awaited from a claim: its end and all before it is here, or it is given up."""
    if claim.state is ClaimState.ENDED:
        worker = cluster.workers.get(claim.worker)
        if worker is None or worker.whole_until(claim.incarnation) >= claim.end_sequence:
            return True
    silent_from = claim.advanced_at
    if run.start_at is not None and claim.permit_until_ns is not None:
        silent_from = max(silent_from, run.start_at + claim.permit_until_ns)
    return now - silent_from >= cluster.settings.final_after_ns and _aged(cluster, claim)


def _aged(cluster: Cluster, claim: Claim) -> bool:
    """Whether the scheduler was up, and could hear, for all of the time that it waited."""
    return cluster.lease_age(claim) >= cluster.settings.final_after_ns
