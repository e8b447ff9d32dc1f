"""A job's plan, read and checked: the one way from a message, or the store, to a ``Plan``."""

from __future__ import annotations

from loads_queue.messages import Job
from loads_queue.model.plan import Plan, load_plan
from loads_queue.model.problems import PlanError, Problem


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
