"""The jobs of one turn: each id once, by whichever way it came, and with the plan that its reference names.

A reference is looked up once, when the job is taken in; from then on the run has the plan as it stood.
"""

from __future__ import annotations

from dataclasses import replace

from loads_queue.messages import Job
from loads_queue.model.plan import Plan
from loads_queue.model.problems import PlanError, Problem

from . import jobs
from .cluster import Event, JobReceived
from .store import Store


class NewJobs:
    """What ``sift`` lets through of the jobs that came; ``read_plan`` is for these alone."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.idents: list[str] = []
        """What those that were let through are to be known by."""
        self._wrong: dict[str, PlanError] = {}

    def sift(self, events: list[Event]) -> list[Event]:
        """The events without the jobs that are known."""
        fresh: list[Event] = []
        for event in events:
            if isinstance(event, JobReceived):
                ident = f"job.{event.job.id}"
                if ident in self.idents or self.store.received(ident):
                    continue
                self.idents.append(ident)
                event = JobReceived(self._with_plan(event.job))
            fresh.append(event)
        return fresh

    def _with_plan(self, job: Job) -> Job:
        """A job that only names its plan, with what is stored by that name; what it brings itself comes first."""
        if job.plan or not job.plan_ref:
            return job
        # A scheduler of `loads run` never needs it.
        from .projects import PlanNotStored, Projects

        try:
            stored = Projects(self.store.engine).find(job.plan_ref)
        except PlanNotStored as error:
            self._wrong[job.id] = PlanError([Problem("plan_ref", str(error))])
            return job
        files = {**stored.files, **job.files}
        return replace(job, plan=stored.document, files=files, project=job.project or stored.project)

    def read_plan(self, job: Job) -> Plan:
        """The plan of a job; raises PlanError with every problem, or with why its reference leads to none."""
        if job.id in self._wrong:
            raise self._wrong[job.id]
        return jobs.read_plan(job)
