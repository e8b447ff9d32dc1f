"""``make bench-minute``: one run of ``loads run`` against the demo target on this machine, and its figures.

Every figure comes from this run: the summary that it wrote, the target's own counter, and the processes as the
operating system saw them. The exit code is 1 where a figure misses its bar. Bars are for a machine with nothing else
to do; the table says how busy it was.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from urllib.request import urlopen

import psutil
from rich.console import Console
from rich.table import Table

from scripts.target import LOADS, demo_target

from .roles import role

PLAN = Path(__file__).resolve().parent / "steady.yaml"
WIDTH = 110
WARM_S = 10.0
"""Memory is called flat by how much it grows after the first seconds, in which modules and buffers still come in."""


@dataclass(frozen=True)
class Figure:
    """One line of the table; ``good`` is None where there is no bar."""

    name: str
    measured: str
    bar: str = ""
    good: bool | None = None


@dataclass
class Process:
    """What was seen of one process of the run, from outside."""

    role: str
    resident: list[tuple[float, int]] = field(default_factory=list)
    """(seconds since the command, bytes), a sample a second."""
    cpu_s: float = 0.0


def main() -> int:
    """Run, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", default="500", help="requests a second (default 500)")
    parser.add_argument("--for", dest="duration", default="60s", help="how long (default 60s)")
    parser.add_argument("--workers", default="2", help="engine processes (default 2)")
    parser.add_argument("--out", type=Path, help="folder for the summary and the figures (default: a temporary one)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="loads-bench-") as scratch:
        return measure(options, options.out or Path(scratch) / "results", Path(scratch) / "home")


def measure(options: argparse.Namespace, out: Path, home: Path) -> int:
    """One run; its figures are printed and stand in ``out/figures.json``."""
    load = ["--rate", options.rate, "--for", options.duration, "--workers", options.workers]
    psutil.cpu_percent()
    with demo_target() as url:
        command = [LOADS, "run", str(PLAN), "--set", f"TARGET={url}", *load, "--out", str(out), "--quiet"]
        began = time.monotonic()
        run = subprocess.Popen(command, env={**os.environ, "LOADS_HOME": str(home)}, stdin=subprocess.DEVNULL)
        try:
            first = first_request(run, url, began)
            processes = watch(run, began)
        finally:
            if run.poll() is None:
                run.terminate()
                run.wait()
        counted = counter(url)
    busy = psutil.cpu_percent()
    if run.returncode not in (0, 1):
        sys.stderr.write(f"loads run ended with exit code {run.returncode}\n")
        return run.returncode
    summary = json.loads((out / "summary.json").read_text())
    figures = [
        Figure("exit code of the run", str(run.returncode), "0", run.returncode == 0),
        *exactness(summary, counted),
        *pacing(summary["timeline"]),
        startup(first),
        *memory(processes),
        Figure("CPU of the machine, all of it (%)", f"{busy:.0f}"),
    ]
    (out / "figures.json").write_text(json.dumps([vars(figure) for figure in figures], indent=2) + "\n")
    show(figures, " ".join(["loads run", *load]))
    return int(any(figure.good is False for figure in figures))


def counter(url: str) -> int:
    """How many request heads the target says it received, in all."""
    with urlopen(f"{url}/counter", timeout=5) as answer:
        return int(json.load(answer)["total"])


def first_request(run: subprocess.Popen[bytes], url: str, began: float) -> float | None:
    """Seconds from the command to the first request that the target saw, to 20 ms; None where the run ended first."""
    while run.poll() is None:
        if counter(url):
            return time.monotonic() - began
        time.sleep(0.02)
    return None


def watch(run: subprocess.Popen[bytes], began: float) -> dict[int, Process]:
    """Sample the run's processes once a second until it ends."""
    seen: dict[int, Process] = {}
    while run.poll() is None:
        for process in processes_of(run.pid):
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    record = seen.setdefault(process.pid, Process(role(process.cmdline())))
                    record.resident.append((time.monotonic() - began, process.memory_info().rss))
                    record.cpu_s = times.user + times.system
            except psutil.NoSuchProcess:
                continue
        time.sleep(1)
    return seen


def processes_of(pid: int) -> list[psutil.Process]:
    """A process and all below it; none where it is gone."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def exactness(summary: dict[str, Any], counted: int) -> list[Figure]:
    """Whether nothing was lost sight of: the ledger, and three counts of the same requests."""
    ledger, requests = summary["ledger"], summary["requests"]
    equal = counted == requests["answered"] == requests["sent"]
    started = f"{ledger['started']} of {ledger['planned']} planned"
    return [
        Figure("ledger balanced", str(ledger["balanced"]).lower(), "true", ledger["balanced"] is True),
        Figure("iterations started", started),
        Figure("requests answered", str(requests["answered"]), "sent", equal),
        Figure("requests counted by the target", str(counted), "sent", equal),
        Figure("requests sent", str(requests["sent"])),
    ]


def pacing(timeline: list[dict[str, Any]]) -> list[Figure]:
    """How near the load came to its plan: iterations begun in each second, and in each ten, against those planned."""
    rows = [row for row in timeline if row["planned"]]
    late = [row["lateness_p50"] for row in rows if row["lateness_p50"] is not None]
    one = worst(rows, 1)
    ten = worst(rows, 10)
    return [
        Figure("began against planned, worst second (%)", shown(one), "at most 5", one is not None and one <= 5),
        Figure("began against planned, worst 10 s (%)", shown(ten), "at most 1", None if ten is None else ten <= 1),
        Figure("median lateness of sends, median second (ms)", shown(median(late) if late else None)),
        Figure("median lateness of sends, worst second (ms)", shown(max(late, default=None))),
    ]


def worst(rows: list[dict[str, Any]], seconds: int) -> float | None:
    """The largest deviation of begun from planned over any window of that many seconds, in percent."""
    windows = [rows[at : at + seconds] for at in range(len(rows) - seconds + 1)]
    off = []
    for window in windows:
        planned = sum(row["planned"] for row in window)
        off.append(abs(sum(row["began"] for row in window) - planned) / planned * 100)
    return max(off, default=None)


def startup(first: float | None) -> Figure:
    """From the command to the first request."""
    return Figure(
        "from the command to the first request (s)", shown(first), "at most 3", first is not None and first <= 3
    )


def memory(processes: dict[int, Process]) -> list[Figure]:
    """Resident memory and CPU of each process: once warm, at the end, at most."""
    figures = []
    for pid, process in sorted(processes.items(), key=lambda item: (item[1].role, item[0])):
        warm = [size for at, size in process.resident if at >= WARM_S]
        if not warm:
            continue
        most = max(size for _, size in process.resident)
        text = f"{mebibytes(warm[0])} > {mebibytes(warm[-1])}, at most {mebibytes(most)}; {process.cpu_s:.1f} s CPU"
        flat = process.role in ("engine", "agent")
        grown = warm[-1] - warm[0]
        bar = "+ 10 % or 4 MiB" if flat else ""
        good = grown <= max(warm[0] // 10, 4 << 20) if flat else None
        figures.append(Figure(f"memory of {process.role} {pid}, warm > end (MiB)", text, bar, good))
    return figures


def mebibytes(size: int) -> str:
    """Bytes as MiB."""
    return f"{size / 2**20:.1f}"


def shown(value: float | None) -> str:
    """A number for the table."""
    return "none" if value is None else f"{value:.2f}"


def show(figures: list[Figure], title: str) -> None:
    """Print the table."""
    table = Table(title=title)
    for column in ("figure", "measured", "bar", ""):
        table.add_column(column)
    for figure in figures:
        table.add_row(figure.name, figure.measured, figure.bar, {True: "ok", False: "MISSED", None: ""}[figure.good])
    Console(width=WIDTH).print(table)


if __name__ == "__main__":
    sys.exit(main())
