"""Stored plans: projects of the database, and how a plan in them is found.

A project's document is ``{"plans": [{"name", "plan", "files"}]}``: the plan as a Job takes it, and the SHA-256 of each
file that it names. Only plans that were checked are stored.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, insert, select, update

from . import tables


class PlanNotStored(Exception):
    """No stored plan, or more than one, goes by that name; the text lists what there is."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class StoredPlan:
    """A plan with the project that it stands in."""

    project: str
    name: str
    document: Mapping[str, Any]
    files: Mapping[str, str]

    @property
    def reference(self) -> str:
        """What a run of it is asked for by."""
        return f"{self.project}/{self.name}"


@dataclass(frozen=True, slots=True)
class Stored:
    """What storing came to: the names of the plans that are new, replaced, and kept as they stood."""

    added: tuple[str, ...]
    replaced: tuple[str, ...]
    kept: tuple[str, ...]


class Projects:
    """The projects of a database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def store(self, name: str, plans: Iterable[StoredPlan], owner: str, replace: bool = False) -> Stored:
        """Add plans to a project, which is made where there is none; those whose name it has are kept as they stand,
        unless ``replace``."""
        with self._engine.begin() as connection:
            held = _plans_of(connection, name)
            made = {plan["name"]: plan for plan in held or ()}
            added: list[str] = []
            replaced: list[str] = []
            kept: list[str] = []
            for plan in plans:
                wire = {"name": plan.name, "plan": dict(plan.document), "files": dict(plan.files)}
                (added if plan.name not in made else replaced if replace else kept).append(plan.name)
                if replace or plan.name not in made:
                    made[plan.name] = wire
            document = {"plans": list(made.values())}
            if held is None:
                values = {"name": name, "document": document, "owner": owner, "created_at": time.time_ns()}
                connection.execute(insert(tables.projects).values(**values))
            elif added or replaced:
                changed = update(tables.projects).where(tables.projects.c.name == name)
                connection.execute(changed.values(document=document))
        return Stored(tuple(added), tuple(replaced), tuple(kept))

    def plans(self) -> list[StoredPlan]:
        """Every stored plan, by project."""
        wanted = select(tables.projects.c.name, tables.projects.c.document).order_by(tables.projects.c.name)
        with self._engine.connect() as connection:
            rows = connection.execute(wanted).all()
        return [
            StoredPlan(row.name, plan["name"], plan["plan"], plan["files"])
            for row in rows
            for plan in row.document["plans"]
        ]

    def list(self) -> list[Mapping[str, Any]]:
        """Every project: ``name, owner, created_at, plans`` (their names)."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(tables.projects).order_by(tables.projects.c.name)).all()
        return [
            {
                "name": row.name,
                "owner": row.owner,
                "created_at": row.created_at,
                "plans": [plan["name"] for plan in row.document["plans"]],
            }
            for row in rows
        ]

    def find(self, reference: str) -> StoredPlan:
        """The plan called ``project/plan``, or by its own name where one project alone has it; raises PlanNotStored."""
        plans = self.plans()
        exact = [plan for plan in plans if plan.reference == reference]
        found = exact or [plan for plan in plans if plan.name == reference]
        if len(found) == 1:
            return found[0]
        names = ", ".join(plan.reference for plan in found or plans) or "none"
        if found:
            raise PlanNotStored(f"{len(found)} stored plans are called {reference!r}: choose one of {names}")
        raise PlanNotStored(f"no stored plan is called {reference!r}; there are: {names}")


def _plans_of(connection: Connection, name: str) -> list[Mapping[str, Any]] | None:
    wanted = select(tables.projects.c.document).where(tables.projects.c.name == name).with_for_update()
    document = connection.execute(wanted).scalar()
    return None if document is None else list(document["plans"])
