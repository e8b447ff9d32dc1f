"""What the API asks of the store beside ``Reader``: a run's row, jobs not taken up yet, the acting scheduler."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine, func, select

from loads_queue.model.states import RunState

from .. import tables
from ..store import EPOCH_FREE_NS

SUBMITTED = "submitted"
"""The state of a job that the scheduler has not taken up yet."""


class Queries:
    """Questions to a database; every answer is a plain value."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def run(self, ident: str) -> Mapping[str, Any] | None:
        """A run as ``Reader.runs`` has it, with ``priority, workers, document, env, files, shards``."""
        runs, summaries = tables.runs.c, tables.summaries.c
        wanted = (
            select(
                runs.id,
                runs.project,
                runs.plan_name.label("plan"),
                runs.owner,
                runs.priority,
                runs.workers,
                runs.state,
                runs.reason,
                runs.outcome,
                summaries.verdict,
                summaries.exit_code,
                runs.created_at,
                runs.start_at.label("started_at"),
                runs.ended_at,
                runs.document,
                runs.env,
                runs.files,
                runs.shards,
            )
            .select_from(tables.runs.outerjoin(tables.summaries, runs.id == summaries.run))
            .where(runs.id == ident)
        )
        with self._engine.connect() as connection:
            row = connection.execute(wanted).mappings().first()
            return None if row is None else dict(row)

    def waiting_jobs(self, ident: str | None = None, limit: int = 1) -> list[Mapping[str, Any]]:
        """Jobs that were submitted here and not taken up yet, newest first, in the form of ``run``."""
        orders = tables.orders.c
        wanted = select(orders.run, orders.args, orders.at).where(orders.taken.is_(False), orders.action == "submit")
        if ident is not None:
            wanted = wanted.where(orders.run == ident)
        with self._engine.connect() as connection:
            found = connection.execute(wanted.order_by(orders.id.desc()).limit(limit)).all()
        return [_waiting(row.args["job"], row.at) for row in found]

    def spent(self, ident: str) -> bool:
        """Whether a job of this id was ever taken in; a deleted run's id stays known."""
        wanted = select(tables.inbox.c.id).where(tables.inbox.c.id == f"job.{ident}")
        with self._engine.connect() as connection:
            return connection.execute(wanted).first() is not None

    def events(self, run: str, after: int, limit: int) -> list[Mapping[str, Any]]:
        """A run's events beyond an id, oldest first: ``id, at, who, what``."""
        events = tables.events.c
        wanted = select(events.id, events.at, events.who, events.what).where(events.run == run, events.id > after)
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(wanted.order_by(events.id).limit(limit)).mappings()]

    def scheduler(self) -> Mapping[str, Any]:
        """Who acts: ``holder, epoch, acting``; ``acting`` is whether it was heard of lately."""
        with self._engine.connect() as connection:
            row = connection.execute(select(tables.epochs)).first()
        if row is None:
            return {"holder": "", "epoch": 0, "acting": False}
        acting = bool(row.holder) and time.time_ns() - row.renewed_at < EPOCH_FREE_NS
        return {"holder": row.holder, "epoch": row.number, "acting": acting}

    def counts(self) -> Mapping[str, int]:
        """How many runs are ``active`` and ``finished``, and how many ``dead_letters`` there are."""
        finished = tables.runs.c.state == RunState.FINISHED
        with self._engine.connect() as connection:
            over = connection.execute(select(func.count()).where(finished)).scalar() or 0
            active = connection.execute(select(func.count()).where(~finished)).scalar() or 0
            letters = connection.execute(select(func.count()).select_from(tables.dead_letters)).scalar() or 0
        return {"active": active, "finished": over, "dead_letters": letters}


def _waiting(job: Mapping[str, Any], at: int) -> Mapping[str, Any]:
    return {
        "id": job["id"],
        "project": job["project"],
        "plan": str(job["plan"].get("name", "")),
        "owner": job["owner"],
        "priority": job["priority"],
        "workers": job["workers"],
        "state": SUBMITTED,
        "reason": "not taken up by the scheduler yet",
        "outcome": "",
        "verdict": None,
        "exit_code": None,
        "created_at": at,
        "started_at": None,
        "ended_at": None,
        "document": job["plan"],
        "env": job["env"],
        "files": job["files"],
        "shards": [],
    }
