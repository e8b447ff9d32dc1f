"""The cluster at a glance, and its workers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from ..view import WorkerView
from .context import here
from .routes import Routes
from .schemas import InfoSchema, WorkersSchema

routes = Routes("cluster", "The cluster at a glance, and its workers.")


@routes.add("GET", "/info", InfoSchema)
def info() -> Mapping[str, Any]:
    """The cluster at a glance."""
    context = here()
    now = time.time_ns()
    there = [worker for worker in context.reader.workers() if _present(worker, now)]
    return {
        "version": version("loads-cluster"),
        "time": now,
        "scheduler": context.queries.scheduler(),
        "workers": len(there),
        "slots": sum(worker.slots for worker in there),
        "free": sum(worker.free for worker in there),
        **context.queries.counts(),
    }


@routes.add("GET", "/workers", WorkersSchema)
def workers() -> Mapping[str, Any]:
    """Every worker that has ever said hello."""
    now = time.time_ns()
    return {"workers": [{**asdict(each), "present": _present(each, now)} for each in here().reader.workers()]}


def _present(worker: WorkerView, now: int) -> bool:
    return worker.last_report_at is not None and now - worker.last_report_at < here().lease_ttl_ns
