"""Stored plans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loads_queue.messages import Job
from loads_queue.model.problems import PlanError, Problem

from ..projects import StoredPlan
from .context import here
from .routes import Routes
from .schemas import NewProjectSchema, PlansSchema, ProjectsSchema, StoredSchema
from .submissions import checked

routes = Routes("projects", "Stored plans, which run by name.")


@routes.add("GET", "/projects", ProjectsSchema)
def list_projects() -> Mapping[str, Any]:
    """Projects, by name."""
    return {"projects": here().projects.list()}


@routes.add("POST", "/projects", StoredSchema, body=NewProjectSchema)
def store(name: str, plans: list[Mapping[str, Any]], owner: str, replace: bool) -> Mapping[str, Any]:
    """Store plans in a project. Those that it has by the same name are kept, unless `replace`."""
    context = here()
    found: list[StoredPlan] = []
    problems: list[Problem] = []
    for index, each in enumerate(plans):
        job = Job(id="", plan=each["plan"], project=name, files=each["files"])
        try:
            plan = checked(job, context.files)
        except PlanError as error:
            problems += [Problem(f"plans[{index}].plan.{each.path}", each.message) for each in error.problems]
            continue
        if any(plan.name == other.name for other in found):
            problems.append(Problem(f"plans[{index}].plan.name", f"a second plan {plan.name!r}"))
        found.append(StoredPlan(name, plan.name, job.plan, job.files))
    if problems:
        raise PlanError(problems)
    stored = context.projects.store(name, found, owner, replace)
    return {"name": name, "added": stored.added, "replaced": stored.replaced, "kept": stored.kept}


@routes.add("GET", "/plans", PlansSchema)
def list_plans() -> Mapping[str, Any]:
    """Stored plans, by project."""
    return {
        "plans": [
            {
                "reference": plan.reference,
                "project": plan.project,
                "name": plan.name,
                "steps": [str(step.get("name", "")) for step in plan.document.get("steps", [])],
                "document": plan.document,
                "files": plan.files,
            }
            for plan in here().projects.plans()
        ]
    }
