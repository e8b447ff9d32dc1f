"""A plan on this machine, from its start to the files that say how it went.

The parts run as child processes (``local``); this process only hands the job over, looks at the store twice a second
and shows what it sees. Imports that cost time are made while the children start.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loads_queue.model.plan import Plan

from .interrupts import Interrupts, Leave
from .local import BROKER, SCHEDULER, LocalCluster, LocalError, no_room, run_id
from .result_files import deliver, reader_may_be_gone, results_folder, say, user
from .results import EXIT_INTERRUPTED, INCOMPLETE, summary
from .view import RunView

if TYPE_CHECKING:
    from .live import Screen
    from .reader import Reader

POLL_S = 0.5
START_S = 30.0
"""How long broker and scheduler may take to start, and a job to become a run."""
AFTER_LOSS_S = 15.0
"""How long to wait for the end of a run whose worker is gone: a lease, and some time."""
FULL_S = 5.0
"""How long the disk may be full before the run is given up."""


@dataclass(frozen=True)
class RunRequest:
    """What to run, and where its results go; ``files`` are the plan's, by their names in it."""

    plan: Plan
    document: Mapping[str, Any]
    project: str = ""
    files: Mapping[str, Path] = field(default_factory=dict)
    workers: int | None = None
    out: Path | None = None
    quiet: bool = False

    @property
    def slots(self) -> int:
        """As many as all shards of all steps need at once."""
        return sum(self.plan.shards_of(step, None, self.workers) for step in self.plan.steps)


def perform(request: RunRequest) -> int:
    """Run it, show it, write its files; returns the exit code. Raises LocalError and OutputError."""
    slots = request.slots
    name = run_id()
    out = request.out or Path("loads-results") / name
    with results_folder(out), Interrupts() as interrupts:
        try:
            with LocalCluster(slots) as cluster:
                return _Running(request, name, out, cluster, interrupts).perform()
        except Leave:
            say("loads: left at once; no results were written", error=True)
            return EXIT_INTERRUPTED


class _Running:
    """One run under way."""

    def __init__(
        self, request: RunRequest, name: str, out: Path, cluster: LocalCluster, interrupts: Interrupts
    ) -> None:
        self.request = request
        self.name = name
        self.out = out
        self.cluster = cluster
        self.interrupts = interrupts
        self.problems: list[str] = []
        self.lost_at: float | None = None
        """When the worker was found to have ended."""
        self.full_at: float | None = None
        """Since when nothing can be written."""

    def perform(self) -> int:
        """From the job to the files."""
        if not self._hand_over():
            say("loads: interrupted before the run began", error=True)
            return EXIT_INTERRUPTED
        # Only now: these imports take half a second, in which the children are better served by the processor.
        from . import live, output
        from .reader import Reader

        if not self._await(self.cluster.scheduler_ready, "scheduler"):
            say("loads: interrupted before the run began", error=True)
            return EXIT_INTERRUPTED
        screen = live.screen_for(output.console(), self.request.quiet)
        reader = Reader(self.cluster.database)
        try:
            view = self._follow(reader, screen)
        finally:
            with reader_may_be_gone():
                screen.close()
            reader.close()
        if view is None:
            raise LocalError("\n".join(self.problems) or "the scheduler has not taken the job up")
        return self._finish(view)

    def _hand_over(self) -> bool:
        """Store the files and hand the job over once the broker is there; False where it was interrupted first."""
        from loads_queue.files import FileStore, FileStoreError

        store = FileStore(self.cluster.files)
        try:
            files = {name: store.put(path) for name, path in self.request.files.items()}
        except FileStoreError as error:
            raise LocalError(str(error)) from None
        if not self._await(self.cluster.broker_url, "broker"):
            return False
        broker = self.cluster.broker_url()
        assert broker is not None
        job = {
            "id": self.name,
            "plan": self.request.document,
            "project": self.request.project,
            "files": files,
            "owner": user(),
            "workers": self.request.workers,
            "submitted_at": time.time_ns(),
        }
        self.cluster.submit(broker, job)
        return True

    def _await(self, ready: Any, what: str) -> bool:
        """Wait until it is; raises LocalError after ``START_S``, or where a child ends."""
        deadline = time.monotonic() + START_S
        while not ready():
            self.cluster.check()
            if self.interrupts.count:
                return False
            if time.monotonic() > deadline:
                raise LocalError(f"the {what} has not started within {START_S:.0f} s: is this machine overloaded?")
            self.interrupts.wait(0.02)
        return True

    def _follow(self, reader: Reader, screen: Screen) -> RunView | None:
        """Show the run until it is final; what is known of it where it can't become so."""
        view: RunView | None = None
        aborted = False
        begun = time.monotonic()
        while True:
            looked = time.monotonic()
            view = reader.run_view(self.name) or view
            if view is not None:
                with reader_may_be_gone():
                    screen.update(view)
                if view.final:
                    return view
            if view is not None and not aborted and (self.interrupts.count or self.lost_at is not None):
                aborted = self._abort(reader)
                with reader_may_be_gone():
                    screen.say("Ending the run; Ctrl-C once more leaves at once, without results.")
            if self._given_up(view, begun):
                view = reader.run_view(self.name) or view
                self.cluster.kill()
                return view
            self.interrupts.wait(max(POLL_S, 4 * (time.monotonic() - looked)))

    def _abort(self, reader: Reader) -> bool:
        """Have the scheduler end the run; False where it can't be told, since nothing can be written."""
        from sqlalchemy.exc import OperationalError

        try:
            reader.request_abort(self.name, user() if self.interrupts.count else "the loss of the worker")
        except OperationalError:
            if not self.cluster.is_full():
                raise
            return False
        return True

    def _given_up(self, view: RunView | None, begun: float) -> bool:
        """Whether nothing more will come: a child is gone, or the job was never taken up."""
        now = time.monotonic()
        try:
            self.cluster.check((BROKER, SCHEDULER))
            if self.lost_at is None:
                self.cluster.check()
        except LocalError as error:
            self.problems.append(str(error))
            self.lost_at = self.lost_at or now
            with contextlib.suppress(LocalError):
                self.cluster.check((BROKER, SCHEDULER))
                return False
            return True
        if self._out_of_room(now):
            self.problems.append(no_room(self.cluster.folder))
            return True
        if self.lost_at is not None:
            return now - self.lost_at > AFTER_LOSS_S
        return view is None and now - begun > START_S

    def _out_of_room(self, now: float) -> bool:
        """Whether the disk has been full for so long that the run can't become whole; at once after a Ctrl-C."""
        if not self.cluster.is_full():
            self.full_at = None
            return False
        self.full_at = self.full_at or now
        return bool(self.interrupts.count) or now - self.full_at > FULL_S

    def _finish(self, view: RunView) -> int:
        """Write the files and tell how it went."""
        view = self._with_problems(view)
        found = summary(view, interrupted=bool(self.interrupts.count))
        return deliver(found, self.out, self.request.quiet, (*self.problems, *_endings(view)))

    def _with_problems(self, view: RunView) -> RunView:
        """The run as its own parts' failures leave it: nobody aborted it, it could not be done."""
        if not self.problems:
            return view
        told = tuple(problem.splitlines()[0].rstrip(":") for problem in self.problems)
        view = replace(view, warnings=(*view.warnings, *told), verdict=INCOMPLETE, aborted_by="", reason="")
        return replace(view, no_capacity=view.no_capacity or view.started_at is None)


def _endings(view: RunView) -> list[str]:
    """What engines printed before they ended out of order."""
    return [
        f"{step.name} shard {claim.shard + 1}/{step.workers}: {claim.end_cause}; it printed last:\n"
        f"{_printable(claim.end_output)}"
        for step in view.steps
        for claim in step.claims
        if claim.end_cause in ("crashed", "failed") and claim.end_output.strip()
    ]


def _printable(text: str) -> str:
    from .words import clean

    return "\n".join(f"  {clean(line)}" for line in text.splitlines()[-15:])
