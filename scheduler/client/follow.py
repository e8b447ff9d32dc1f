"""Following a run from elsewhere: the same screen, files and exit code as ``loads run`` has.

The figures come from the API twice a second. A scheduler that is away for a while is waited for: the run goes on
without it.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..interrupts import Interrupts, Leave
from ..local import run_id
from ..result_files import deliver, reader_may_be_gone, results_folder, say, user
from ..results import ABORTED, EXIT_INTERRUPTED
from .server import Server, ServerError, path_of

if TYPE_CHECKING:
    from ..live import Screen

POLL_S = 0.5
AWAY_S = 120.0
"""How long a scheduler that does not answer is waited for."""
ABORT, DETACH, GO_ON = "abort", "detach", "go on"


class FollowError(Exception):
    """The run can't be followed any more; it may go on all the same."""

    exit_code = 4


@dataclass(frozen=True)
class Submission:
    """What to run: a plan's document with the paths of its files, or the name of a stored plan."""

    document: Mapping[str, Any] | None = None
    plan_ref: str | None = None
    run: str | None = None
    """The run's id; one is made up without it."""
    project: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    workers: int | None = None
    priority: int | None = None


def submit(server: Server, submission: Submission) -> Mapping[str, Any]:
    """Hand files and plan over; the run as the API has it. Raises ServerError and PlanError.

    The id is made here, so that a call that has to be repeated makes no second run.
    """
    digests = {name: digest_of(path) for name, path in submission.files.items()}
    for name, path in submission.files.items():
        server.put_file(path, digests[name])
    body: dict[str, Any] = {
        "id": submission.run or run_id(),
        "plan": submission.document,
        "plan_ref": submission.plan_ref,
        "project": submission.project,
        "env": submission.env,
        "files": digests,
        "workers": submission.workers,
        "priority": submission.priority,
        "owner": user(),
    }
    found: Mapping[str, Any] = server.post(
        "/runs", **{name: value for name, value in body.items() if value is not None}
    )
    return found


def submit_and_follow(server: Server, submission: Submission, out: Path | None = None, quiet: bool = False) -> int:
    """Submit a run, show it, write its files; returns its exit code. Ctrl-C asks whether to abort it or to leave it
    alone; where nobody can be asked, it is aborted. Raises ServerError, PlanError, OutputError and FollowError."""
    run = str(submit(server, submission)["id"])
    return follow(server, run, out, quiet)


def follow(server: Server, run: str, out: Path | None = None, quiet: bool = False) -> int:
    """Follow a run that was submitted here to its end, and write its files; see ``submit_and_follow``."""
    folder = out or Path("loads-results") / run
    with results_folder(folder), Interrupts() as interrupts:
        try:
            following = _Following(server, run, interrupts, quiet)
            if not following.to_the_end():
                say(f"loads: detached; the run goes on: loads watch {run}", error=True)
                return EXIT_INTERRUPTED
            found = summary_of(server, run)
            if following.aborted:
                found = {**found, "verdict": ABORTED, "exit_code": EXIT_INTERRUPTED}
            return deliver(found, folder, quiet)
        except Leave:
            say(f"loads: left at once; see what becomes of the run: loads status {run}", error=True)
            return EXIT_INTERRUPTED


def watch(server: Server, run: str) -> int:
    """Show a run until it ends, without a say in it: Ctrl-C goes away. Returns its exit code, or 130."""
    with Interrupts() as interrupts:
        try:
            if not _Following(server, run, interrupts, quiet=False, own=False).to_the_end():
                say(f"detached; the run goes on: loads watch {run}")
                return EXIT_INTERRUPTED
        except Leave:
            return EXIT_INTERRUPTED
    from .. import output

    found = summary_of(server, run)
    with reader_may_be_gone():
        output.console().print(output.report(found, ()))
    code: int = found["exit_code"]
    return code


def summary_of(server: Server, run: str) -> Mapping[str, Any]:
    """The summary of a finished run, which the scheduler may still be making. Raises ServerError."""
    deadline = time.monotonic() + AWAY_S
    while True:
        try:
            found: Mapping[str, Any] = server.get(path_of(run, "summary"))
            return found
        except ServerError as error:
            if not error.passing or time.monotonic() > deadline:
                raise
        time.sleep(POLL_S / 5)


def store_plans(server: Server, path: Path, replace: bool) -> Mapping[str, Any]:
    """Store the plans of a file, and their files; what came of it, as the API says. Raises ServerError, PlanError."""
    from ..planfile import read_all

    loaded = read_all(str(path))
    plans = []
    for each in loaded:
        digests = {name: digest_of(Path(at)) for name, at in each.files.items()}
        for name, at in each.files.items():
            server.put_file(Path(at), digests[name])
        plans.append({"plan": each.document, "files": digests})
    project = loaded[0].project or path.stem
    found: Mapping[str, Any] = server.post("/projects", name=project, plans=plans, owner=user(), replace=replace)
    return found


def digest_of(path: Path) -> str:
    """The SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Following:
    """One run under way elsewhere."""

    def __init__(self, server: Server, run: str, interrupts: Interrupts, quiet: bool, own: bool = True) -> None:
        self.server = server
        self.run = run
        self.interrupts = interrupts
        self.quiet = quiet
        self.own = own
        """Whether a Ctrl-C here concerns the run."""
        self.aborted = False
        self._abort_told = False
        self._away_since: float | None = None

    def to_the_end(self) -> bool:
        """Show the run until it is final; False where the user went away before."""
        screen = self._screen()
        try:
            while True:
                if self._look(screen):
                    return True
                if self.interrupts.count and not self.aborted:
                    screen.close()
                    choice = self._ask()
                    if choice == DETACH:
                        return False
                    self.aborted = choice == ABORT
                    screen = self._screen()
                self.interrupts.wait(POLL_S)
        finally:
            screen.close()

    def _screen(self) -> Screen:
        from .. import live, output

        footer = f"Run {self.run}. Ctrl-C leaves it alone."
        if self.aborted:
            footer = "Ending the run; Ctrl-C once more leaves at once, without results."
        elif self.own:
            footer = f"Run {self.run}. Ctrl-C asks whether to abort it or to detach."
        screen = live.screen_for(output.console(), self.quiet, footer)
        if isinstance(screen, live.Plain):
            screen.say(footer)
        return screen

    def _look(self, screen: Screen) -> bool:
        """Show how it stands; whether it is final. Raises FollowError where the scheduler stays away."""
        from ..live_wire import from_wire

        try:
            self._tell_abort()
            wire = self.server.get(path_of(self.run, "live"))
        except ServerError as error:
            if not error.passing:
                raise
            self._away(screen, error)
            return False
        if self._away_since is not None:
            self._away_since = None
            screen.say("The scheduler answers again.")
        if wire["now"] is not None:
            screen.update(*from_wire(wire))
        return bool(wire["final"])

    def _away(self, screen: Screen, error: ServerError) -> None:
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
            screen.say(f"{error}. The run goes on; waiting for the scheduler.")
        elif now - self._away_since > AWAY_S:
            raise FollowError(f"{error}; the run may go on: loads watch {self.run}")

    def _ask(self) -> str:
        """What a Ctrl-C was meant to do; a second one, here or later, means abort and away."""
        if not self.own:
            return DETACH
        asked = self.interrupts.last == 2 and sys.stdin.isatty() and sys.stderr.isatty()
        if not asked:
            return ABORT
        try:
            sys.stderr.write(f"\nRun {self.run}: [a]bort it, [d]etach from it, or Enter to go on? ")
            sys.stderr.flush()
            answer = sys.stdin.readline()
        except Leave:
            self.aborted = True
            self._tell_abort()
            raise
        choice = {"a": ABORT, "d": DETACH}.get(answer.strip().lower()[:1], GO_ON if answer else ABORT)
        if choice == GO_ON:
            self.interrupts.forget()
        return choice

    def _tell_abort(self) -> None:
        """Have the run aborted where that was wanted here; a call that fails is made again with the next look."""
        if self.aborted and not self._abort_told:
            self.server.post(path_of(self.run, "abort"), who=user())
            self._abort_told = True
