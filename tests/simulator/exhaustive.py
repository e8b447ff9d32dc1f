"""Every world of two shards, two hosts, two schedulers and up to three faults.

``python -m tests.simulator.exhaustive --faults 2`` enumerates, for one plan of two shards (``--load open``, ``closed``
or ``counted``; some seven seconds long) on two hosts of two slots, with an acting and a waiting scheduler on one
database: every combination of up to so many faults, each at every distinguished moment of the life that the world has
with the faults before it. The kinds of faults, what a moment is, and which combinations are the same one stand in
``exhaustive_faults``; that nothing is left to chance, in ``exhaustive_world``. Each world is judged by the invariants
of the simulator. How many worlds that makes stands in ``docs/chaos.md``.

What is not enumerated: other plans and sizes, people's orders (abort, pause, adjust), clocks that are off, other delays
than the middle one, other lengths of a fault than one, and moments within a stage of the protocol. Those are left to
the seeds (``many``).

``--part 3/40`` does the third of forty parts, each with its share of the worlds of one fault less than most. Progress
goes to standard error. A counterexample is printed with the command that runs it alone, and tells what happens in it.
Exit status 1 where there is one.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator

from tests.simulator.exhaustive_search import Found, Task, quick, run, search, tasks, world_of
from tests.simulator.exhaustive_world import LOADS
from tests.simulator.many import say

TELL_EVERY_S = 10


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulator.exhaustive", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--faults", type=int, default=3, choices=range(4), help="at most so many (default 3)")
    parser.add_argument("--load", choices=(*LOADS, "all"), default="open", help="of the plan (default open)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="default: one for each processor")
    parser.add_argument("--part", type=part, default=(0, 1), metavar="I/N", help="only the I-th of N parts (1 to N)")
    parser.add_argument("--world", help="this one alone, with a trace; as a counterexample names it")
    options = parser.parse_args(arguments)
    if options.world is not None:
        return alone(options.world)
    began, found = time.monotonic(), Found()
    for load in LOADS if options.load == "all" else (options.load,):
        found.add(whole(load, options.faults, options.part, options.processes))
    say(f"{told(found)}, {time.monotonic() - began:.0f} s")
    return 1 if found.failed else 0


def part(text: str) -> tuple[int, int]:
    """``3/40`` as (2, 40)."""
    number, _, count = text.partition("/")
    if not 1 <= int(number) <= int(count):
        raise ValueError(text)
    return int(number) - 1, int(count)


def alone(name: str) -> int:
    """Run one world and print what happens; 1 where it fails."""
    load, prefix = world_of(name)
    world, wrong = run(load, prefix, say)
    say("")
    for problem in wrong:
        say(problem)
    say(f"{name}: {'a fault meets nothing' if world.vacuous else 'fails' if wrong else 'holds'}")
    return 1 if wrong else 0


def whole(load: str, most: int, share: tuple[int, int], processes: int) -> Found:
    """The search for one load, or a part of it, with counterexamples printed as they are found."""
    shares = {most - 1: share} if most > 1 else {}
    with quick():
        found, wanted = tasks(load, most, shares)
    show(found)
    began = told_at = time.monotonic()
    for done, some in enumerate(results([(load, task, most) for task in wanted], processes), 1):
        show(some)
        found.add(some)
        now = time.monotonic()
        if now - told_at > TELL_EVERY_S or done == len(wanted):
            told_at = now
            left = (now - began) / done * (len(wanted) - done)
            sys.stderr.write(f"{load}: {done} of {len(wanted)} tasks, {told(found)}, {left:.0f} s left\n")
    return found


def results(wanted: list[tuple[str, Task, int]], processes: int) -> Iterator[Found]:
    """What came of each task."""
    if processes <= 1:
        with quick():
            yield from map(one, wanted)
        return
    with multiprocessing.get_context("spawn").Pool(processes, initializer=quickly) as pool:
        yield from pool.imap_unordered(one, wanted)


def quickly() -> None:
    """In a process that does nothing else."""
    quick().__enter__()


def one(task: tuple[str, Task, int]) -> Found:
    """A task."""
    return search(*task)


def show(found: Found) -> None:
    """Counterexamples."""
    for name, wrong in found.failed:
        say(f'fails: python -m tests.simulator.exhaustive --world "{name}"')
        for problem in wrong[:4]:
            say(f"    {problem}")


def told(found: Found) -> str:
    """In a line."""
    counts = ", ".join(f"{count} of {faults}" for faults, count in sorted(found.worlds.items()))
    untold = f", {found.untold} with a Report lost for good" if found.untold else ""
    return f"{sum(found.worlds.values())} worlds (by faults: {counts}){untold}, {len(found.failed)} failed"


if __name__ == "__main__":
    sys.exit(main())
