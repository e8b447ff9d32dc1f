"""``make chaos``: seeds of the chaos suite, one after another or several side by side, and seeds of the simulator.

Each seed on each broker is one reproducible script of faults on real processes (``docs/chaos.md``); what fails is
shown whole, with the command that runs it again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console

ROOT = Path(__file__).resolve().parent.parent
SEED = ROOT / "tests" / "chaos" / "chaos_seed.py"
BROKERS = ("embedded", "redis", "rabbitmq", "sqs")


def main() -> int:
    """Run what is asked for; 1 where anything failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="how many, on each broker (default 5)")
    parser.add_argument("--first", type=int, default=1, help="the first seed (default 1)")
    parser.add_argument("--broker", choices=("all", *BROKERS), default="all")
    parser.add_argument("--side-by-side", type=int, default=2, help="how many at once (default 2: two cores do it)")
    parser.add_argument("--simulated", type=int, default=0, help="seeds of the simulator, before all that (default 0)")
    parser.add_argument(
        "--exhaustive", type=int, default=0, choices=range(4), help="every small world with so many faults, before that"
    )
    options = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    failed = simulate(options.simulated) + exhaust(options.exhaustive)
    brokers = BROKERS if options.broker == "all" else (options.broker,)
    wanted = [(seed, broker) for seed in range(options.first, options.first + options.seeds) for broker in brokers]
    with ThreadPoolExecutor(options.side_by_side) as pool:
        for seed, broker, status, output in pool.map(run, *zip(*wanted, strict=True)):
            console.print(line(seed, broker, status, output), style="red" if status else None)
            if status:
                failed += 1
                console.print("\n".join(output.splitlines()[:-1]), markup=False)
                console.print(f"again: .venv/bin/python {SEED.relative_to(ROOT)} --broker {broker} --seed {seed}")
    console.print(f"{len(wanted)} seeds, {failed} failed")
    return 1 if failed else 0


def simulate(seeds: int) -> int:
    """The simulator's seeds; 1 where one of them failed."""
    if not seeds:
        return 0
    command = [sys.executable, "-m", "tests.simulator.many", "--seeds", str(seeds)]
    return int(subprocess.run(command, cwd=ROOT, check=False).returncode != 0)


def exhaust(faults: int) -> int:
    """The simulator's small worlds with up to so many faults; 1 where one of them failed."""
    if not faults:
        return 0
    command = [sys.executable, "-m", "tests.simulator.exhaustive", "--faults", str(faults)]
    return int(subprocess.run(command, cwd=ROOT, check=False).returncode != 0)


def run(seed: int, broker: str) -> tuple[int, str, int, str]:
    """One seed; its number, broker, exit status and output."""
    command = [sys.executable, str(SEED), "--broker", broker, "--seed", str(seed)]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return seed, broker, done.returncode, done.stdout + done.stderr


def line(seed: int, broker: str, status: int, output: str) -> str:
    """A seed's result in a line."""
    found = next(results(output), {})
    columns = found.get("ledger") or {}
    told = ", ".join(
        f"{columns[name]} {name}" for name in ("planned", "ok", "lost", "missed", "surplus") if name in columns
    )
    took = found.get("seconds", {}).get("all", "?")
    verdict, faults = "FAILED" if status else "ok", len(found.get("done", ()))
    return f"seed {seed:3} {broker:9} {verdict:6} {took:>5} s  {faults} faults: {told}"


def results(output: str) -> Iterator[dict[str, dict[str, int]]]:
    """The JSON line at the end of a seed's output, where it came to that."""
    for text in reversed(output.splitlines()):
        if text.startswith('{"seed"'):
            yield json.loads(text)


if __name__ == "__main__":
    sys.exit(main())
