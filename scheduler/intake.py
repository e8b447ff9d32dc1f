"""Jobs become runs; Reports become what the scheduler knows of workers and claims."""

from __future__ import annotations

from collections.abc import Callable

from loads_queue.messages import ClaimReport, Job, Report
from loads_queue.model.plan import Plan
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

from .cluster import Claim, Cluster, Life, Refusal, Run, Worker
from .effects import Command, Note, PutRows
from .takeover import beginning

CLOCK_BOUND_NS = 250_000_000
"""How far a worker's clock may be off, beside half its round trip; further off, its schedule could not be trusted."""

MOST_FORMER = 20
MAX_WARNINGS = 50
"""Of a claim; a Report brings only new ones."""

PlanReader = Callable[[Job], Plan]
"""Checks a job's plan; raises PlanError with every problem."""


def take_job(cluster: Cluster, job: Job, read_plan: PlanReader, now: int) -> list[Command]:
    """A new run, waiting for slots; a job whose id is known changes nothing."""
    if job.id in cluster.runs:
        return []
    run = Run(
        id=job.id,
        project=job.project,
        plan_name=str(job.plan.get("name", job.plan_ref or "")),
        owner=job.owner,
        priority=job.priority,
        document=job.plan,
        env=job.env,
        files=job.files,
        workers=job.workers,
        created_at=now,
    )
    cluster.runs[run.id] = run
    cluster.touch(run)
    try:
        plan = read_plan(job)
    except PlanError as error:
        return refuse_run(cluster, run, error, now)
    run.plan_name = plan.name
    run.project = run.project or plan.project
    run.priority = job.priority or plan.priority
    cluster.plans[run.id] = plan
    return [Note(run.id, now, "submitted", job.owner)]


def refuse_run(cluster: Cluster, run: Run, error: PlanError, now: int) -> list[Command]:
    """End a run whose plan can't be run, before anything of it was offered."""
    run.state = after(RUN_STATES, run.state, RunEvent.REFUSE)
    run.reason = f"the plan is wrong: {'; '.join(str(problem) for problem in error.problems)}"
    run.outcome = "refused"
    run.ended_at = now
    cluster.touch(run)
    return [Note(run.id, now, run.reason, run.owner)]


def take_report(cluster: Cluster, report: Report, at: int) -> list[Command]:
    """Take a Report in; one that was taken in before only causes an answer."""
    worker = cluster.workers.get(report.worker)
    if (
        worker is not None
        and worker.incarnation != report.incarnation
        and not _takes_its_place(cluster, worker, report)
    ):
        return _take_former(cluster, worker, report, at)
    if worker is None or worker.incarnation != report.incarnation:
        worker = _new_life(cluster, worker, report, at)
    cluster.heard(worker)
    fresh = worker.take(report.sequence)
    if report.sequence >= worker.report_sequence:
        _newest(cluster, worker, report, at)
    cluster.touch(worker)
    if not fresh:
        return []
    commands: list[Command] = []
    for said in report.claims:
        commands.extend(_take_claim(cluster, worker, report, said, at))
    return commands


def _takes_its_place(cluster: Cluster, worker: Worker, report: Report) -> bool:
    """Whether a Report of another life of a worker is that of its present one.

    Lives follow one another, so a Report that was sent before the newest one of the life that is known is an older
    life's that came late. A clock may have been set in between: where the known life is silent for as long as a lease
    lasts, it is over whatever the clocks say.
    """
    if cluster.silent(worker):
        return True
    return report.incarnation not in worker.former and report.sent_at >= worker.report_sent_at


def _new_life(cluster: Cluster, before: Worker | None, report: Report, at: int) -> Worker:
    """A worker that was not known, or that has started again; its engines of before are gone by then."""
    worker = Worker(report.worker, report.incarnation, last_report_at=at)
    if before is not None:
        lives = {**before.former, before.incarnation: Life(before.applied, before.ahead)}
        own = lives.pop(worker.incarnation, Life())
        worker.applied, worker.ahead = own.applied, own.ahead
        worker.former = dict(list(lives.items())[-MOST_FORMER:])
        for claim in cluster.claims.values():
            if claim.worker == worker.name and claim.incarnation != worker.incarnation and claim.active:
                cluster.forsaken.add(claim.id)
    cluster.workers[worker.name] = worker
    cluster.order(worker.name)
    return worker


def _take_former(cluster: Cluster, worker: Worker, report: Report, at: int) -> list[Command]:
    """Late truth: what an earlier life of a worker measured still counts for the claims that it had."""
    worker.former.setdefault(report.incarnation, Life()).take(report.sequence)
    for oldest in list(worker.former)[:-MOST_FORMER]:
        del worker.former[oldest]
    cluster.touch(worker)
    commands: list[Command] = []
    for said in report.claims:
        claim = cluster.claims.get(said.claim)
        if claim is not None and claim.incarnation == report.incarnation:
            commands.extend(_take_known(cluster, worker, claim, report.sequence, said, at))
    return commands


def _newest(cluster: Cluster, worker: Worker, report: Report, at: int) -> None:
    """What the latest Report says of the worker itself."""
    worker.report_sequence = report.sequence
    worker.report_sent_at = report.sent_at
    worker.last_report_at = at
    worker.slots = report.slots
    worker.clock = report.clock
    worker.health = report.health
    worker.leaving = report.leaving
    if report.hello is not None:
        worker.hello = report.hello
        cluster.order(worker.name)
    refused = _clock_problem(report)
    if refused != worker.refused:
        worker.refused = refused
        cluster.order(worker.name)
    named = {said.claim for said in report.claims}
    for claim in [claim for claim in worker.refusals if claim not in named]:
        del worker.refusals[claim]


def _clock_problem(report: Report) -> str:
    offset, trip = report.clock.offset_ns, report.clock.round_trip_ns
    if offset is None or trip is None or abs(offset) <= CLOCK_BOUND_NS + trip // 2:
        return ""
    return f"clock is {offset / 1e6:.0f} ms off the scheduler's (round trip {trip / 1e6:.0f} ms): set it by NTP"


def _take_claim(cluster: Cluster, worker: Worker, report: Report, said: ClaimReport, at: int) -> list[Command]:
    claim = cluster.claims.get(said.claim)
    if claim is None:
        if said.claim not in worker.refusals:
            refused = _grant(cluster, worker, said, at)
            if refused:
                worker.refusals[said.claim] = Refusal(
                    said.claim, said.run, said.step, said.shard, said.attempt, refused
                )
        cluster.order(worker.name)
        return []
    return _take_known(cluster, worker, claim, report.sequence, said, at)


def _take_known(
    cluster: Cluster, worker: Worker, claim: Claim, sequence: int, said: ClaimReport, at: int
) -> list[Command]:
    """What a Report says of a claim that was granted."""
    commands: list[Command] = []
    if cluster.runs[claim.run].state is RunState.FINISHED:
        # Final is final: what comes after it is told, not counted.
        if said.rows and sequence > claim.sequence:
            claim.sequence = sequence
            note = f"{_named(cluster, claim)}: a report of {worker.name}'s came after the run was final; not counted"
            commands.append(Note(claim.run, at, note, shard=claim.shard))
        return commands
    if said.rows:
        commands.append(PutRows(claim.run, claim.step, claim.shard, claim.id, sequence, tuple(said.rows)))
    if sequence > claim.sequence:
        _advance(cluster, claim, said, sequence, at)
    else:
        claim.warnings = _joined(claim.warnings, said.warnings)
    if said.end is not None and claim.end is None:
        claim.end = said.end
        claim.end_sequence = sequence
        claim.totals = said.totals
        text = f"{_named(cluster, claim)} on {worker.name}: {_ended(said)}"
        commands.append(Note(claim.run, at, text, shard=claim.shard))
        cluster.order(worker.name)
    cluster.touch(claim)
    return commands


def _advance(cluster: Cluster, claim: Claim, said: ClaimReport, sequence: int, at: int) -> None:
    """What the newest Report says of a claim. Totals and permits never go back, so a late one can't undo them."""
    claim.sequence = sequence
    if said.end is None or claim.end is None:
        claim.totals = said.totals
    if said.snapshot > claim.snapshot or said.state in ("claimed", "preparing", "ready"):
        claim.advanced_at = at
        cluster.renew(claim)
    claim.snapshot = max(claim.snapshot, said.snapshot)
    if said.permit_until_ns is not None:
        claim.permit_until_ns = max(said.permit_until_ns, claim.permit_until_ns or 0)
    claim.bound_iterations = max(claim.bound_iterations, said.bound_iterations)
    claim.bound_requests = max(claim.bound_requests, said.bound_requests)
    claim.health = said.health
    claim.warnings = _joined(claim.warnings, said.warnings)
    if claim.active and said.state == "ready":
        claim.state = (
            after(CLAIM_STATES, claim.state, ClaimEvent.READY) if claim.state != ClaimState.RUNNING else claim.state
        )
    elif claim.active and said.state == "running":
        claim.state = after(CLAIM_STATES, claim.state, ClaimEvent.RUN)


def _joined(held: tuple[str, ...], new: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*held, *new)))[:MAX_WARNINGS]


def _grant(cluster: Cluster, worker: Worker, said: ClaimReport, at: int) -> str:
    """Grant a claim by compare-and-set on (shard, attempt); else the reason why not."""
    run = cluster.runs.get(said.run)
    if run is None or run.state in (RunState.FINALISING, RunState.FINISHED):
        return "the run is over"
    if run.state is RunState.STOPPING:
        return "the run is being stopped"
    if worker.refused:
        return worker.refused
    plan = cluster.plans[run.id]
    step = next((step for step in plan.steps if step.name == said.step), None)
    shard = cluster.shards.get((said.run, step.index, said.shard)) if step else None
    if shard is None:
        return "no such shard"
    if shard.state is not ShardState.OFFERED or shard.attempt != said.attempt:
        return "another claim holds the shard" if shard.claim else "the offer is no longer open"
    if said.state == "ended":
        return "ended before it was granted"
    shard.state = after(SHARD_STATES, shard.state, ShardEvent.GRANT)
    shard.claim = said.claim
    cluster.touch(shard)
    first, turns = beginning(cluster, shard, at)
    claim = Claim(
        id=said.claim,
        run=run.id,
        step=shard.step,
        shard=shard.index,
        attempt=said.attempt,
        worker=worker.name,
        incarnation=worker.incarnation,
        first=first,
        granted_at=at,
        advanced_at=at,
        turns=turns,
    )
    cluster.renew(claim)
    cluster.claims[claim.id] = claim
    cluster.touch(claim)
    if said.state == "ready":
        claim.state = after(CLAIM_STATES, claim.state, ClaimEvent.READY)
    return ""


def _named(cluster: Cluster, claim: Claim) -> str:
    run = cluster.runs[claim.run]
    return f"{cluster.plans[claim.run].steps[claim.step].name} shard {claim.shard + 1}/{run.shards[claim.step]}"


def _ended(said: ClaimReport) -> str:
    end = said.end
    assert end is not None
    return f"{end.cause}: {end.detail}" if end.detail else end.cause
