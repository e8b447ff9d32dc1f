"""Reports on disk: what the scheduler may not have taken in yet outlives the agent.

Each Report is a file, written before it is published and removed once the scheduler has it. The next life of the
worker finds what the former one left, and sends it again as it was: same worker, incarnation and sequence, so that
nothing counts twice. Files are whole or not there; they are not forced to the disk, since they are for a process that
dies, not for a host that does. What would be too much goes oldest first, and the operator is told.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from loads_queue import codec
from loads_queue.messages import REPORTS, Report

MOST_REPORTS = 4096
MOST_BYTES = 64 << 20
_NEW = ".new"

log = logging.getLogger("loads.worker")


class Spool:
    """The Reports of one life of a worker, and those of the lives before it, in ``folder``."""

    def __init__(self, folder: Path, incarnation: str) -> None:
        self._folder = folder
        self._own = folder / f"{time.time_ns():020d}-{incarnation}"
        self._kept: deque[tuple[int, int]] = deque()
        """(sequence, bytes) of this life's, by sequence."""
        self._bytes = 0
        self._last = 0
        self._failed = False
        self._former = sorted(found for found in folder.glob("*") if found.is_dir()) if folder.is_dir() else []
        self._sent_former = False

    def keep(self, reports: Sequence[Report]) -> None:
        """Write Reports that are about to be published; those that say nothing of any claim are not worth it.

        Where the disk takes none the operator is told, and the work goes on without.
        """
        for report in reports:
            if not report.claims or report.sequence <= self._last:
                continue
            self._last = report.sequence
            text = codec.encode(report, REPORTS, report.sent_at)
            try:
                self._write(self._own / _name(report.sequence), text)
                self._failed = False
            except OSError as error:
                if not self._failed:
                    log.warning(
                        "Reports can't be kept in %s: %s; they would be lost with this process", self._own, error
                    )
                self._failed = True
                continue
            self._kept.append((report.sequence, len(text)))
            self._bytes += len(text)
        self._shrink()

    def trim(self, applied: int) -> None:
        """Remove what the scheduler has: this life's up to a sequence, and the former lives' where they were sent."""
        while self._kept and self._kept[0][0] <= applied:
            self._drop_oldest()
        if applied and self._sent_former:
            for folder in self._former:
                shutil.rmtree(folder, ignore_errors=True)
            self._former = []

    def clear(self) -> None:
        """Remove all of this life's: nothing in it is news."""
        while self._kept:
            self._drop_oldest()

    @property
    def empty(self) -> bool:
        """Whether a next life would find nothing."""
        return not self._kept and not self._former

    def former(self) -> Iterator[Report]:
        """What earlier lives left, life by life, in order; what can't be read is told of and passed over."""
        for folder in self._former:
            for path in sorted(folder.glob("[0-9]*")):
                if path.suffix == _NEW:
                    continue  # It was being written when its agent ended, and so was not published.
                try:
                    found = codec.decode(path.read_text("ascii"), REPORTS).message
                    if isinstance(found, Report):
                        yield found
                except (OSError, ValueError, codec.DecodeError) as error:
                    log.warning("what an earlier life left in %s can't be read: %s", path, error)

    def sent_former(self) -> None:
        """The broker has all of ``former``: it may go once the scheduler is heard of."""
        self._sent_former = True

    def _write(self, path: Path, text: str) -> None:
        part = path.with_suffix(_NEW)
        try:
            part.write_text(text, "ascii")
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            part.write_text(text, "ascii")
        os.replace(part, path)

    def _drop_oldest(self) -> None:
        sequence, size = self._kept.popleft()
        self._bytes -= size
        (self._own / _name(sequence)).unlink(missing_ok=True)

    def _shrink(self) -> None:
        dropped = 0
        while len(self._kept) > MOST_REPORTS or self._bytes > MOST_BYTES:
            self._drop_oldest()
            dropped += 1
        if dropped:
            log.warning("%s is full: the oldest %d Reports there are forgotten", self._own, dropped)


def adopt(spool: Path, other: Path) -> int:
    """Take over what another worker of this host and broker, now gone, left in its spool; how many lives.

    Workers whose names are made up never come back under them. The caller holds the other worker's lock.
    """
    found = 0
    for life in sorted(other.glob("*")) if other.is_dir() else []:
        if life.is_dir():
            spool.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.replace(life, spool / life.name)
            found += 1
    return found


def _name(sequence: int) -> str:
    return f"{sequence:012d}"
