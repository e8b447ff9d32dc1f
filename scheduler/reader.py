"""Reading runs from the store, for the command line and the API: never writes but to leave an order.

A ``Reader`` remembers the rows that it has read and asks only for newer ones, so that looking at a long run twice a
second stays cheap.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

from sqlalchemy import Connection, Engine, insert, select
from sqlalchemy.exc import OperationalError, ProgrammingError

from loads_queue.messages import Job
from loads_queue.model.ledger import ACCOUNTED, SECOND, ClaimEvidence, Ledger, ShardEvidence, shard_ledger
from loads_queue.model.plan import Plan, Step
from loads_queue.model.problems import PlanError
from loads_queue.model.profile import Load
from loads_queue.model.states import ClaimState, RunState, ShardState
from loads_queue.model.summary import Row

from . import tables
from .abort import Judged, StepRows, first_held
from .cluster import Claim, Run, Shard, Worker
from .database import open_engine
from .gaps import shard_gaps
from .jobs import read_plan
from .run_rows import RunRows
from .store import claim_from, run_from, shard_from, worker_from
from .takeover import changes_of, load_of
from .upserts import unpack_row
from .view import ChangeView, ClaimView, EventView, GapView, RunView, StepView, WorkerView


class Reader:
    """A database as its readers use it."""

    def __init__(self, database: str | Engine) -> None:
        self.engine = open_engine(database, read_only=True) if isinstance(database, str) else database
        self._rows: dict[str, RunRows] = {}
        self._plans: dict[str, Plan | None] = {}

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()

    def forget(self, run_id: str) -> None:
        """Drop what is remembered of a run."""
        self._rows.pop(run_id, None)
        self._plans.pop(run_id, None)

    def run_view(self, run_id: str) -> RunView | None:
        """A run as it stands; None where the store has none of that id (yet)."""
        try:
            with self.engine.connect() as connection:
                row = connection.execute(select(tables.runs).where(tables.runs.c.id == run_id)).mappings().first()
                return None if row is None else self._view(connection, run_from(dict(row)))
        except (OperationalError, ProgrammingError):
            if self._ready():
                raise
            return None

    def abort_reason(self, run: Run, plan: Plan, now: int, judged: Judged) -> str:
        """Why a running run's ``abort_when`` ends it now; empty where it does not. ``judged`` is kept for the run."""
        if run.start_at is None or not plan.abort_when:
            return ""
        rows = self._rows.setdefault(run.id, RunRows())
        with self.engine.connect() as connection:
            rows.refresh(connection, run.id)
        steps = [
            StepRows(step.name, load_of(run, step), step.delay_ns, rows.by_step.get(step.index, {}))
            for step in plan.steps
        ]
        condition = first_held(plan.abort_when, steps, (now - run.start_at) // SECOND, judged)
        return "" if condition is None else f"abort_when: {condition.expression}"

    def request_abort(self, run_id: str, who: str) -> None:
        """Leave word for the scheduler that a run is to end now."""
        self.order(run_id, "abort", {}, who)

    def order(self, run_id: str, action: str, args: Mapping[str, Any], who: str) -> None:
        """Leave word for the scheduler, which acts on it within its next turns.

        Actions: ``submit``, ``abort``, ``pause``, ``resume``, ``adjust``, ``delete``; ``requeue`` and ``discard`` of a
        dead letter.
        """
        values = {"run": run_id, "action": action, "args": dict(args), "who": who, "at": time.time_ns()}
        with self.engine.begin() as connection:
            connection.execute(insert(tables.orders).values(**values, taken=False))

    def runs(self, limit: int = 50, offset: int = 0, state: str | None = None) -> list[Mapping[str, Any]]:
        """Runs, newest first: ``id, project, plan, owner, state, reason, outcome, verdict, exit_code, created_at,
        started_at, ended_at``; ``state`` also ``active`` (not finished)."""
        runs, summaries = tables.runs.c, tables.summaries.c
        wanted = select(
            runs.id,
            runs.project,
            runs.plan_name.label("plan"),
            runs.owner,
            runs.state,
            runs.reason,
            runs.outcome,
            summaries.verdict,
            summaries.exit_code,
            runs.created_at,
            runs.start_at.label("started_at"),
            runs.ended_at,
        ).select_from(tables.runs.outerjoin(tables.summaries, runs.id == summaries.run))
        if state == "active":
            wanted = wanted.where(runs.state != RunState.FINISHED)
        elif state is not None:
            wanted = wanted.where(runs.state == state)
        wanted = wanted.order_by(runs.created_at.desc(), runs.id).limit(limit).offset(offset)
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(wanted).mappings()]

    def summary(self, run_id: str) -> Mapping[str, Any] | None:
        """The summary that the scheduler wrote when a run became final; None until then."""
        wanted = select(tables.summaries.c.data).where(tables.summaries.c.run == run_id)
        with self.engine.connect() as connection:
            data = connection.execute(wanted).scalar()
        return None if data is None else unpack_row(data)

    def workers(self) -> list[WorkerView]:
        """Every worker that has ever said hello, by name; see ``last_report_at`` for those that are gone."""
        with self.engine.connect() as connection:
            claims = [
                claim_from(dict(row))
                for row in connection.execute(
                    select(tables.claims).where(tables.claims.c.state.in_(("granted", "ready", "running")))
                ).mappings()
            ]
            found = connection.execute(select(tables.workers).order_by(tables.workers.c.name)).mappings()
            return [_worker(worker_from(dict(row)), claims) for row in found]

    def dead_letters(self, limit: int = 50, offset: int = 0) -> list[Mapping[str, Any]]:
        """Messages that could not be taken in, newest first: ``id, queue, kind, at, reason, body``."""
        wanted = select(tables.dead_letters).order_by(tables.dead_letters.c.id.desc()).limit(limit).offset(offset)
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(wanted).mappings()]

    def dead_letter(self, ident: int) -> Mapping[str, Any] | None:
        """One of them, or None."""
        wanted = select(tables.dead_letters).where(tables.dead_letters.c.id == ident)
        with self.engine.connect() as connection:
            row = connection.execute(wanted).mappings().first()
            return None if row is None else dict(row)

    def _ready(self) -> bool:
        """Whether a scheduler has made the tables."""
        from sqlalchemy import inspect

        return "alembic_version" in inspect(self.engine).get_table_names()

    def _plan(self, run: Run) -> Plan | None:
        if run.id not in self._plans:
            try:
                job = Job(id=run.id, plan=run.document, project=run.project, env=run.env, files=run.files)
                self._plans[run.id] = read_plan(job)
            except PlanError:
                self._plans[run.id] = None
        return self._plans[run.id]

    def _view(self, connection: Connection, run: Run) -> RunView:
        plan = self._plan(run)
        claims = [
            claim_from(dict(row))
            for row in connection.execute(
                select(tables.claims).where(tables.claims.c.run == run.id).order_by(tables.claims.c.attempt)
            ).mappings()
        ]
        shards = [
            shard_from(dict(row))
            for row in connection.execute(
                select(tables.shards)
                .where(tables.shards.c.run == run.id)
                .order_by(tables.shards.c.step, tables.shards.c.index)
            ).mappings()
        ]
        workers = [worker_from(dict(row)) for row in connection.execute(select(tables.workers)).mappings()]
        events = connection.execute(
            select(tables.events).where(tables.events.c.run == run.id).order_by(tables.events.c.id)
        )
        rows = self._rows.setdefault(run.id, RunRows())
        rows.refresh(connection, run.id)
        taken = [claim for claim in claims if claim.state is not ClaimState.GRANTED or claim.snapshot or claim.end]
        return RunView(
            id=run.id,
            project=run.project,
            plan=run.plan_name,
            owner=run.owner,
            state=run.state,
            reason=run.reason,
            created_at=run.created_at,
            started_at=run.start_at,
            ended_at=run.ended_at,
            aborted_by=run.reason.removeprefix("aborted by ") if run.outcome == "aborted" else "",
            no_capacity=run.outcome == "no_capacity",
            verdict={"aborted": "aborted", "failed": "incomplete"}.get(run.outcome),
            steps=tuple(
                _step(run, plan, index, [shard for shard in shards if shard.step == index], claims, rows)
                for index in range(len(plan.steps) if plan else 0)
            ),
            workers=tuple(_worker(worker, claims) for worker in workers),
            thresholds=plan.thresholds if plan else (),
            warnings=tuple(dict.fromkeys(text for claim in taken for text in claim.warnings)),
            events=tuple(EventView(row.at, row.what, row.who) for row in events),
            changes=_changes(run, plan),
            now_at=time.time_ns(),
        )


def _changes(run: Run, plan: Plan | None) -> tuple[ChangeView, ...]:
    made = [
        ChangeView(step.name, at, Fraction(top, bottom))
        for step in (plan.steps if plan else ())
        for at, top, bottom in run.changes.get(str(step.index), ())
    ]
    return tuple(sorted(made, key=lambda change: change.at_ns))


def _step(
    run: Run,
    plan: Plan | None,
    index: int,
    shards: list[Shard],
    claims: list[Claim],
    rows: RunRows,
) -> StepView:
    assert plan is not None
    step = plan.steps[index]
    load = load_of(run, step)
    own = [claim for claim in claims if claim.step == index]
    ledger = Ledger()
    gaps: list[GapView] = []
    now_ns = None if run.start_at is None else (run.ended_at or time.time_ns()) - run.start_at
    if not shards:
        shards = [Shard(run.id, index, 0, ShardState.OVER if run.stop_at is not None else ShardState.PENDING)]
    for shard in shards:
        attempts = [claim for claim in own if claim.shard == shard.index]
        evidence = _evidence(run, step, load, shard, len(shards), attempts, rows)
        found = shard_ledger(evidence)
        gaps += shard_gaps(evidence, [_claim(claim) for claim in attempts], found, now_ns)
        ledger.add(found)
    return StepView(
        name=step.name,
        index=index,
        kind=load.kind,
        workers=len(run.shards and shards),
        load=load,
        delay_ns=step.delay_ns,
        rows=tuple(
            rows.by_step.get(index, {}).get(second, Row(second)) for second in sorted(rows.by_step.get(index, {}))
        ),
        ledger=ledger,
        gaps=tuple(gaps),
        claims=tuple(_claim(claim) for claim in own),
    )


def _evidence(
    run: Run,
    step: Step,
    load: Load,
    shard: Shard,
    count: int,
    claims: list[Claim],
    rows: RunRows,
) -> ShardEvidence:
    end = load.end_ns
    return ShardEvidence(
        kind=load.kind,
        share=load.shard(shard.index, count),
        end_ns=None if end is None else step.delay_ns + end,
        delay_ns=step.delay_ns,
        claims=tuple(claim_evidence(claim, step, rows.by_claim.get(claim.id, {})) for claim in claims),
        over=shard.state is ShardState.OVER,
        stopped_ns=_stopped(run),
    )


def _stopped(run: Run) -> int | None:
    """When a run was stopped, in schedule time; one that never started was stopped before its schedule."""
    if run.stop_at is None:
        return None
    return run.stop_at - run.start_at if run.start_at is not None else -1


def claim_evidence(claim: Claim, step: Step, rows: Mapping[int, Row]) -> ClaimEvidence:
    """What the ledger must know of a claim."""
    totals = claim.totals
    end = claim.end
    # An end without a schedule time is one before the schedule began: the engine had nothing to account for.
    cause = end.cause if end is not None and end.at_ns is not None else None
    until = claim.permit_until_ns
    if end is not None and end.at_ns is not None and until is not None:
        # An engine that is known to be gone did nothing later, whatever its permit said.
        until = min(until, end.at_ns)
    return ClaimEvidence(
        attempt=claim.attempt,
        first=claim.first,
        base=sum(claim.turns) if claim.turns else None,
        permit_until_ns=until,
        bound_iterations=claim.bound_iterations,
        bound_requests=claim.bound_requests,
        next=totals.next,
        started=totals.started,
        attempted=totals.attempted,
        remaining=totals.remaining,
        held_from_ns=totals.held_from_ns,
        covered_ns=totals.covered_ns,
        cause=cause,
        dead=claim.state is ClaimState.DEAD or (end is not None and cause not in ACCOUNTED),
        holed=claim.holed,
        rows=tuple(rows[second] for second in sorted(rows)),
        ended_ns=end.at_ns if end is not None else None,
        changes=changes_of(step, totals.changes),
    )


def _claim(claim: Claim) -> ClaimView:
    end = claim.end
    view = ClaimView(
        claim=claim.id,
        worker=claim.worker,
        shard=claim.shard,
        attempt=claim.attempt,
        state=claim.state,
        warnings=claim.warnings,
        users=claim.totals.users,
        in_flight=claim.totals.in_flight,
        path=str(claim.health.get("path") or ""),
    )
    if end is None:
        return view
    return replace(view, end_cause=end.cause, end_detail=end.detail, end_output=end.output, ended_ns=end.at_ns)


def _worker(worker: Worker, claims: list[Claim]) -> WorkerView:
    busy = sum(1 for claim in claims if claim.worker == worker.name and claim.active)
    return WorkerView(
        name=worker.name,
        host=worker.hello.host if worker.hello else "",
        slots=worker.slots,
        free=max(0, worker.slots - busy),
        version=worker.hello.version if worker.hello else "",
        last_report_at=worker.last_report_at,
        clock_offset_ns=worker.clock.offset_ns,
        round_trip_ns=worker.clock.round_trip_ns,
        health=worker.health,
        refused=worker.refused,
    )
