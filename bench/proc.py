"""What the operating system says a tree of processes used: processor time and memory, from ``/proc``.

Processor time is user and system time of every member of the tree, and of the children that a member has waited for.
So whoever ends within a window is counted still: while it is a zombie by its own line, then by its parent's. One whose
parent ends first becomes a child of the nearest subreaper, which is this process after ``adopt_orphans``; it stays a
member by what was seen of it before, and while nobody waits for it its line stays. Times are in clock ticks, of 10 ms
as a rule, so a window should be seconds long.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_SET_CHILD_SUBREAPER = 36
KIB = 1024


@dataclass(frozen=True)
class Stat:
    """One line of ``/proc/PID/stat``; times in clock ticks."""

    pid: int
    parent: int
    own: int
    """User and system time, of threads that have ended too."""
    reaped: int
    """The same of children that it has waited for, and of theirs."""
    started: int
    """With the pid it names a process for good: pids come again."""

    @property
    def key(self) -> tuple[int, int]:
        """Which process it is."""
        return self.pid, self.started


@dataclass(frozen=True)
class Memory:
    """Bytes: resident, and with what several processes share divided by their number."""

    rss: int = 0
    pss: int = 0


def parse_stat(line: str) -> Stat:
    """The line's fields; the name in it may hold blanks and brackets."""
    pid = int(line.split(" ", 1)[0])
    fields = line.rpartition(")")[2].split()
    user, system, waited_user, waited_system = (int(field) for field in fields[11:15])
    return Stat(pid, int(fields[1]), user + system, waited_user + waited_system, int(fields[19]))


def parse_memory(text: str) -> Memory:
    """From the text of ``/proc/PID/smaps_rollup``."""
    found = {line.split(":")[0]: int(line.split()[1]) * KIB for line in text.splitlines() if line.endswith(" kB")}
    return Memory(found.get("Rss", 0), found.get("Pss", 0))


def below(root: int, stats: Iterable[Stat], known: Iterable[tuple[int, int]] = ()) -> dict[int, Stat]:
    """The tree below a process with itself, by pid; ``known`` ones are in it, wherever they hang now."""
    all_of_them = {stat.pid: stat for stat in stats}
    known = set(known)
    found = {pid: stat for pid, stat in all_of_them.items() if pid == root or stat.key in known}
    grown = True
    while grown:
        new = {pid: stat for pid, stat in all_of_them.items() if stat.parent in found and pid not in found}
        found |= new
        grown = bool(new)
    return found


def ticks(tree: Mapping[int, Stat]) -> int:
    """Processor time of a whole tree, with what its members have waited for."""
    return sum(stat.own + stat.reaped for stat in tree.values())


def spent(before: Mapping[int, Stat], after: Mapping[int, Stat]) -> int:
    """Ticks that a tree used between two looks at it."""
    return ticks(after) - ticks(before)


def spent_by(roles: Mapping[int, str], before: Mapping[int, Stat], after: Mapping[int, Stat]) -> dict[str, int]:
    """The same by what each process is; who has no role counts as ``other``, as does who has ended by now."""
    found: dict[str, int] = {}
    for pid, stat in after.items():
        earlier = before.get(pid)
        used = stat.own + stat.reaped - (earlier.own + earlier.reaped if earlier else 0)
        role = roles.get(pid, "other")
        found[role] = found.get(role, 0) + used
    gone = sum(stat.own + stat.reaped for pid, stat in before.items() if pid not in after)
    if gone:
        found["other"] = found.get("other", 0) - gone
    return found


class Tree:
    """A running process and what is below it."""

    def __init__(self, root: int) -> None:
        self.root = root
        self._known: set[tuple[int, int]] = set()

    def look(self) -> dict[int, Stat]:
        """Its members now. Looks again where one ended meanwhile, so that none is in neither place."""
        found = self._once()
        for _ in range(5):
            again = self._once()
            if again.keys() == found.keys():
                return again
            found = again
        return found

    def _once(self) -> dict[int, Stat]:
        found = below(self.root, read_stats(), self._known)
        self._known.update(stat.key for stat in found.values())
        return found


def read_stats() -> list[Stat]:
    """Every process of this machine; parents mostly before their children, so that nothing is counted twice."""
    found = []
    for name in sorted((name for name in os.listdir(PROC) if name.isdigit()), key=int):
        try:
            found.append(parse_stat((PROC / name / "stat").read_text(errors="replace")))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def command_line(pid: int) -> list[str]:
    """The words that a process was started with; none where it is gone."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except (FileNotFoundError, ProcessLookupError):
        return []


def memory_of(pids: Iterable[int]) -> Memory:
    """Of several processes together; what can't be read (a zombie has none) is 0."""
    rss = pss = 0
    for pid in pids:
        try:
            memory = parse_memory((PROC / str(pid) / "smaps_rollup").read_text())
        except OSError:
            continue
        rss, pss = rss + memory.rss, pss + memory.pss
    return Memory(rss, pss)


def busy_ticks() -> int:
    """What all processors of this machine have worked since it started."""
    user, nice, system, _, _, irq, softirq, *_ = (
        int(field) for field in (PROC / "stat").read_text().split("\n", 1)[0].split()[1:]
    )
    return user + nice + system + irq + softirq


def ticks_per_second() -> int:
    """How the kernel counts for user space."""
    return os.sysconf("SC_CLK_TCK")


def adopt_orphans() -> None:
    """Be the parent of whatever is left without one below this process. Linux alone knows this."""
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
