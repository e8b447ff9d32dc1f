"""Any number of seeds, in parallel processes: ``python -m tests.simulator.many --seeds 10000``.

Progress goes to standard error; each failure is printed with its seed. ``--seed 17`` runs one alone and prints what
happened in it, ``--shrink`` first leaves out whatever the failure does not need. Exit status 1 where any failed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator

from tests.simulator.seeds import Outcome, judge, smaller
from tests.simulator.setup import Setup, draw


def say(line: str) -> None:
    """A line of the answer."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def check(seed: int) -> tuple[int, tuple[str, ...]]:
    """The problems of a seed; what the simulator itself raises is one of them."""
    try:
        return seed, judge(seed).problems
    except Exception:
        return seed, (f"the simulator raised {traceback.format_exc(limit=-4)}",)


def failures(seeds: range, processes: int) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Each seed as it is done, with its problems."""
    if processes <= 1:
        yield from map(check, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(check, seeds, chunksize=8)


def alone(seed: int, shrink: bool) -> int:
    """Run one seed and print what happens; 1 where it fails."""
    setup = draw(seed)
    if shrink:
        setup = _shrunk(seed, setup)
    say(setup.describe() + "\n")
    outcome = judge(seed, setup, say)
    say("")
    for problem in outcome.problems:
        say(f"seed {seed}: {problem}")
    say(f"seed {seed}: {'fails' if outcome.problems else 'holds'}")
    return 1 if outcome.problems else 0


def _shrunk(seed: int, setup: Setup) -> Setup:
    first = judge(seed, setup)
    if not first.problems:
        return setup
    kind = _kind(first.problems[0])

    def failing(outcome: Outcome) -> bool:
        return any(_kind(problem) == kind for problem in outcome.problems)

    return smaller(seed, setup, failing)


def _kind(problem: str) -> str:
    """A problem without its particulars."""
    return "".join(letter for letter in problem.split("(")[0][:60] if not letter.isdigit())


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator.many", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many (default 1000)")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first one (default 0)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, help="this one alone, with a trace of what happens")
    parser.add_argument("--shrink", action="store_true", help="with --seed: leave out what the failure does not need")
    options = parser.parse_args(arguments)
    if options.seed is not None:
        return alone(options.seed, options.shrink)
    return _many(range(options.first, options.first + options.seeds), options.processes)


def _many(seeds: range, processes: int) -> int:
    began = time.monotonic()
    kinds: Counter[str] = Counter()
    failed = 0
    for done, (seed, problems) in enumerate(failures(seeds, processes), 1):
        if problems:
            failed += 1
            kinds[_kind(problems[0])] += 1
            say(f"seed {seed} fails: python -m tests.simulator.many --seed {seed} --shrink")
            for problem in problems[:4]:
                say(f"    {problem}")
        if done % 100 == 0 or done == len(seeds):
            rate = done / (time.monotonic() - began)
            sys.stderr.write(f"{done} of {len(seeds)} seeds, {failed} failed, {rate:.0f} a second" + "\n")
    for kind, times in kinds.most_common():
        say(f"{times:6} x {kind}")
    say(f"{len(seeds)} seeds, {failed} failed, {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
