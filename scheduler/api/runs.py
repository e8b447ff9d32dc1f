"""Runs: submitting them, and how they stand."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from flask import Response, jsonify, make_response, url_for

from loads_queue.model.states import RunState

from ..results import summary as summary_of
from ..view import RunView
from .context import here
from .problems import Refused
from .queries import SUBMITTED
from .routes import Routes
from .schemas import (
    AfterSchema,
    EventsSchema,
    RunsQuerySchema,
    RunsSchema,
    SinceSchema,
    SubmissionSchema,
    SummaryQuerySchema,
    TimelineSchema,
    WholeRunSchema,
)
from .submissions import job_of

routes = Routes("runs", "Runs: submitting them, and how they stand.")
SUMMARY_NS = 60_000_000_000
"""How long the scheduler may take to write a final run's summary, before it is made here."""
STATES = (SUBMITTED, "active", *RunState)


def known(run: str) -> Mapping[str, Any]:
    """A run, or a job that is about to be one; raises Refused."""
    found = _known(run)
    if found is None:
        raise Refused(404, f"there is no run {run[:100]!r}")
    return found


def _known(run: str) -> Mapping[str, Any] | None:
    queries = here().queries
    # In this order: a job that is taken up between the two looks is found as a run.
    waiting = next(iter(queries.waiting_jobs(run)), None)
    return queries.run(run) or waiting


@routes.add("GET", "/runs", RunsSchema, query=RunsQuerySchema)
def list_runs(limit: int, offset: int, state: str | None = None) -> Mapping[str, Any]:
    """Runs, newest first."""
    if state is not None and state not in STATES:
        raise Refused(422, f"no such state: {state[:40]!r}: one of {', '.join(STATES)}")
    context = here()
    waiting = [] if offset or state not in (None, "active", SUBMITTED) else context.queries.waiting_jobs(limit=limit)
    taken = [] if state == SUBMITTED else context.reader.runs(limit, offset, state)
    ids = {run["id"] for run in taken}
    return {"runs": [*(job for job in waiting if job["id"] not in ids), *taken][:limit]}


@routes.add("POST", "/runs", WholeRunSchema, status=201, body=SubmissionSchema)
def submit(**fields: Any) -> Any:
    """Submit a run. Answers 200 where the id is known already: nothing has changed then."""
    context = here()
    if "id" in fields:
        found = _known(fields["id"])
        if found is not None:
            return found, 200
        if context.queries.spent(fields["id"]):
            raise Refused(409, f"run {fields['id']} was deleted: choose another id")
    job = job_of(fields, context.projects, context.files)
    context.reader.order(job.id, "submit", {"job": asdict(job)}, job.owner)
    return known(job.id), 201, {"Location": url_for("runs.run", run=job.id)}


@routes.add("GET", "/runs/<string:run>", WholeRunSchema)
def run(run: str) -> Mapping[str, Any]:
    """One run."""
    return known(run)


@routes.add("GET", "/runs/<string:run>/live")
def live(run: str) -> Response:
    """How a run stands, with the figures of the newest seconds; `now` is null until the scheduler has taken it up."""
    found = here().views.live(run)
    if found is None:
        job = known(run)
        found = {"id": run, "state": job["state"], "reason": job["reason"], "final": False, "now": None}
    return make_response(jsonify(found))


@routes.add("GET", "/runs/<string:run>/summary", query=SummaryQuerySchema)
def summary(run: str, unfinished: bool) -> Response:
    """The summary of a run that is finished, as `summary.json` has it."""
    return make_response(jsonify(_summary(run, unfinished)))


@routes.add("GET", "/runs/<string:run>/timeline", TimelineSchema, query=SinceSchema)
def timeline(run: str, since: int) -> Mapping[str, Any]:
    """The timeline of a run, as far as it has come."""
    return {"timeline": [row for row in _summary(run, True)["timeline"] if row["t"] >= since]}


@routes.add("GET", "/runs/<string:run>/events", EventsSchema, query=AfterSchema)
def events(run: str, after: int, limit: int) -> Mapping[str, Any]:
    """What has happened to a run, oldest first."""
    known(run)
    return {"events": here().queries.events(run, after, limit)}


def _summary(run: str, unfinished: bool) -> Mapping[str, Any]:
    context = here()
    found = context.reader.summary(run)
    if found is not None:
        return found
    view = context.views.get(run)
    if view is None:
        known(run)
        view = RunView(id=run)
    if not (view.final or unfinished):
        raise Refused(409, f"run {run} is not finished, it is {view.state}: it has no summary yet (`?partial=true`)")
    if view.final and view.ended_at is not None and time.time_ns() - view.ended_at < SUMMARY_NS:
        raise Refused(503, f"the summary of run {run} is being made; try again", Retry_After="1")
    return summary_of(view)
