"""What was submitted becomes a Job; every problem is found before anything is stored."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from loads_queue.files import FileStore
from loads_queue.messages import Job
from loads_queue.model.plan import Plan
from loads_queue.model.problems import PlanError, Problem

from ..jobs import read_plan
from ..local import run_id
from ..projects import PlanNotStored, Projects
from .problems import Refused


def job_of(fields: Mapping[str, Any], projects: Projects, files: FileStore) -> Job:
    """The Job that a submission asks for; raises PlanError and Refused."""
    if ("plan" in fields) == ("plan_ref" in fields):
        raise Refused(422, "give one of `plan` and `plan_ref`")
    document, sent, project = fields.get("plan"), fields["files"], fields["project"]
    if document is None:
        try:
            stored = projects.find(fields["plan_ref"])
        except PlanNotStored as error:
            raise Refused(422, str(error), [Problem("plan_ref", str(error))]) from None
        document, sent, project = stored.document, {**stored.files, **sent}, project or stored.project
    job = Job(
        id=fields.get("id") or run_id(),
        plan=document,
        plan_ref=fields.get("plan_ref"),
        project=project,
        env=fields["env"],
        files=sent,
        owner=fields["owner"],
        workers=fields.get("workers"),
        submitted_at=time.time_ns(),
    )
    plan = checked(job, files)
    priority = fields.get("priority")
    return Job(**{**_values(job), "priority": plan.priority if priority is None else priority})


def checked(job: Job, files: FileStore) -> Plan:
    """The plan of a job, whose files are all here; raises PlanError with every problem."""
    problems: list[Problem] = []
    try:
        plan = read_plan(job)
    except PlanError as error:
        plan = None
        problems += error.problems
    for name, digest in job.files.items():
        if not files.has(digest):
            problems.append(Problem(f"files[{name!r}]", f"no file {digest} is stored here: PUT it to /files first"))
    if plan is not None:
        problems += _shard_problems(plan, job.workers)
    if problems or plan is None:
        raise PlanError(problems)
    return plan


def _shard_problems(plan: Plan, workers: int | None) -> list[Problem]:
    found: list[Problem] = []
    for step in plan.steps:
        try:
            plan.shards_of(step, None, workers)
        except PlanError as error:
            found += error.problems
    return found


def _values(job: Job) -> dict[str, Any]:
    return {name: getattr(job, name) for name in Job.__dataclass_fields__}
