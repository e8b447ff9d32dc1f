"""What comes in and goes out, for checking and for the OpenAPI document. Times go out as ISO 8601 in UTC."""

from __future__ import annotations

import re
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate

from ..results_series import iso_time

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
_DIGEST = validate.Regexp(r"[0-9a-f]{64}\Z", error="not a SHA-256 in lower-case hexadecimal")
WHO = validate.And(validate.Length(max=200), validate.Predicate("isprintable", error="not printable"))


class Moment(fields.Field[Any]):
    """Unix nanoseconds, which go out as text."""

    def _serialize(self, value: int | None, attr: str | None, obj: Any, **_: Any) -> str | None:
        return iso_time(value)


def _run_id(value: str) -> None:
    if not NAME.fullmatch(value):
        raise ValidationError("1 to 100 letters, digits, '.', '_' and '-', the first one a letter or digit")


def _files() -> fields.Dict:
    """The SHA-256 of each file that a plan names."""
    return fields.Dict(keys=fields.String(), values=fields.String(validate=_DIGEST), load_default=dict)


class WhoSchema(Schema):
    """Who asks."""

    who = fields.String(load_default="", validate=WHO, metadata={"description": "Who asks, for the run's events."})


class SubmissionSchema(Schema):
    """A run to be made: one of ``plan`` and ``plan_ref``."""

    plan = fields.Dict(metadata={"description": "One plan, as it stands in a plan file."})
    plan_ref = fields.String(metadata={"description": "A stored plan: PROJECT/PLAN, or PLAN."})
    id = fields.String(validate=_run_id, metadata={"description": "Submitting the same id again changes nothing."})
    env = fields.Dict(keys=fields.String(), load_default=dict, metadata={"description": "Beats the plan's own env."})
    project = fields.String(load_default="", validate=validate.Length(max=200))
    owner = fields.String(load_default="", validate=WHO)
    priority = fields.Integer(strict=True, validate=validate.Range(-1000, 1000))
    files = _files()
    workers = fields.Integer(strict=True, validate=validate.Range(1, 10_000))


class RunSchema(Schema):
    """A run."""

    id = fields.String()
    project = fields.String()
    plan = fields.String()
    owner = fields.String()
    state = fields.String()
    reason = fields.String()
    outcome = fields.String()
    verdict = fields.String(allow_none=True)
    exit_code = fields.Integer(allow_none=True)
    created = Moment(attribute="created_at")
    started = Moment(attribute="started_at")
    ended = Moment(attribute="ended_at")


class WholeRunSchema(RunSchema):
    """A run with all that it was made of."""

    priority = fields.Integer()
    workers = fields.Integer(allow_none=True)
    shards = fields.List(fields.Integer())
    document = fields.Dict()
    env = fields.Dict()
    files = fields.Dict()


class RunsSchema(Schema):
    """Runs, newest first."""

    runs = fields.List(fields.Nested(RunSchema))


class PageSchema(Schema):
    """Which part of a list."""

    limit = fields.Integer(load_default=50, validate=validate.Range(1, 1000))
    offset = fields.Integer(load_default=0, validate=validate.Range(0, 1 << 40))


class RunsQuerySchema(PageSchema):
    """Which runs."""

    state = fields.String(metadata={"description": "A state, or `active`: all that are not finished."})


class SummaryQuerySchema(Schema):
    """Which summary."""

    unfinished = fields.Boolean(
        data_key="partial", load_default=False, metadata={"description": "Also of a run that is not finished."}
    )


class SinceSchema(Schema):
    """From where on."""

    since = fields.Integer(load_default=0, validate=validate.Range(0, 1 << 40), metadata={"description": "Second."})


class AfterSchema(Schema):
    """Beyond which event."""

    after = fields.Integer(load_default=0, validate=validate.Range(0, 1 << 60))
    limit = fields.Integer(load_default=1000, validate=validate.Range(1, 10_000))


class EventSchema(Schema):
    """Something that happened to a run."""

    id = fields.Integer()
    at = Moment()
    who = fields.String()
    what = fields.String()


class EventsSchema(Schema):
    """Events, oldest first."""

    events = fields.List(fields.Nested(EventSchema))


class TimelineSchema(Schema):
    """A row for each second of the schedule."""

    timeline = fields.List(fields.Dict())


class OrderedSchema(Schema):
    """Word was left for the scheduler, which acts on it at once; the run's events say what came of it."""

    run = fields.String()
    action = fields.String()
    state = fields.String(metadata={"description": "The run's, before the scheduler has acted."})


class AbortSchema(WhoSchema):
    """How to end a run."""

    terminate = fields.Boolean(load_default=False, metadata={"description": "What is in flight gets no time."})


class AdjustSchema(WhoSchema):
    """How to change a load."""

    factor = fields.Raw(required=True, metadata={"description": 'Of the plan\'s load: 1.5, "3/2", "150%"; 0 pauses.'})
    step = fields.String(allow_none=True, load_default=None, metadata={"description": "One step; all without it."})


class SchedulerSchema(Schema):
    """The acting scheduler."""

    holder = fields.String()
    epoch = fields.Integer()
    acting = fields.Boolean()


class InfoSchema(Schema):
    """The cluster at a glance."""

    version = fields.String()
    time = Moment()
    scheduler = fields.Nested(SchedulerSchema)
    workers = fields.Integer()
    slots = fields.Integer()
    free = fields.Integer()
    active = fields.Integer()
    finished = fields.Integer()
    dead_letters = fields.Integer()


class WorkerSchema(Schema):
    """A worker."""

    name = fields.String()
    host = fields.String()
    present = fields.Boolean(metadata={"description": "Heard of within a lease."})
    slots = fields.Integer()
    free = fields.Integer()
    version = fields.String()
    last_report = Moment(attribute="last_report_at")
    clock_offset_ns = fields.Integer(allow_none=True)
    round_trip_ns = fields.Integer(allow_none=True)
    health = fields.Dict()
    refused = fields.String()


class WorkersSchema(Schema):
    """Workers, by name."""

    workers = fields.List(fields.Nested(WorkerSchema))


class NewPlanSchema(Schema):
    """A plan to be stored."""

    plan = fields.Dict(required=True)
    files = _files()


class NewProjectSchema(Schema):
    """Plans to be stored in a project."""

    name = fields.String(required=True, validate=validate.Length(1, 200))
    plans = fields.List(fields.Nested(NewPlanSchema), required=True, validate=validate.Length(1, 1000))
    owner = fields.String(load_default="", validate=WHO)
    replace = fields.Boolean(load_default=False, metadata={"description": "Plans of the same name are replaced."})


class StoredSchema(Schema):
    """What storing came to: names of plans."""

    name = fields.String()
    added = fields.List(fields.String())
    replaced = fields.List(fields.String())
    kept = fields.List(fields.String())


class ProjectSchema(Schema):
    """A project."""

    name = fields.String()
    owner = fields.String()
    created = Moment(attribute="created_at")
    plans = fields.List(fields.String())


class ProjectsSchema(Schema):
    """Projects, by name."""

    projects = fields.List(fields.Nested(ProjectSchema))


class PlanSchema(Schema):
    """A stored plan."""

    reference = fields.String()
    project = fields.String()
    name = fields.String()
    steps = fields.List(fields.String())
    document = fields.Dict()
    files = fields.Dict()


class PlansSchema(Schema):
    """Stored plans, by project."""

    plans = fields.List(fields.Nested(PlanSchema))


class BriefLetterSchema(Schema):
    """A message that could not be taken in."""

    id = fields.Integer()
    queue = fields.String()
    kind = fields.String()
    at = Moment()
    reason = fields.String()


class DeadLetterSchema(BriefLetterSchema):
    """A message that could not be taken in, with its body."""

    body = fields.String()


class DeadLettersSchema(Schema):
    """Dead letters, newest first."""

    dead_letters = fields.List(fields.Nested(BriefLetterSchema))
