"""A job's plan, read and checked: the one way from a message, or the store, to a ``Plan``."""

from __future__ import annotations

from loads_queue.messages import Job
from loads_queue.model.plan import Plan, load_plan
from loads_queue.model.problems import PlanError, Problem

LONGEST_ID = 190
_MOST = (1 << 31) - 1


def field_problem(job: Job) -> str | None:
    """Why a job can't be kept as it is, whatever its plan says, or None."""
    if not 0 < len(job.id) <= LONGEST_ID or not job.id.isprintable():
        return f"id: not a name of up to {LONGEST_ID} printable characters"
    for name in ("project", "owner", "plan_ref"):
        if "\0" in (getattr(job, name) or ""):
            return f"{name}: has a zero byte"
    for name in ("priority", "workers"):
        if abs(getattr(job, name) or 0) > _MOST:
            return f"{name}: beyond 32 bits"
    return None


def read_plan(job: Job) -> Plan:
    """The plan of a job; raises PlanError with every problem, files that were not sent along among them."""
    plan = load_plan(job.plan, dict(job.env), project=job.project, check_jmespath=check_jmespath)
    missing = sorted({name for step in plan.steps for name in step.files if name not in job.files})
    if missing:
        raise PlanError(Problem("files", f"{name!r} was not sent along with the job") for name in missing)
    return plan


def check_jmespath(expression: str) -> str | None:
    """Why an expression is no JMESPath, or None."""
    import jmespath
    from jmespath.exceptions import JMESPathError

    try:
        jmespath.compile(expression)
    except JMESPathError as error:
        return str(error).splitlines()[0]
    return None
