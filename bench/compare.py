"""``make bench``: Loads beside other load generators, in the same minutes, and docs/performance.md from what it finds.

Traffic goes to an nginx and to an echo server of its own, on 127.0.0.1 alone. Everything that it starts is bounded in
time and ends with it.
The exit code is 1 where a bar that was measured now is missed, 2 where nothing could be measured.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable

from . import measuring, report, scenarios, sessions, tables
from .bars import BARS, judge
from .children import allow_many_sockets, end_in_order
from .clients import title
from .echo import Echo, echo
from .machine import machine, versions
from .measuring import Bench
from .nginx import Nginx, nginx
from .proc import adopt_orphans
from .samples import LOADS, DataError, Part, Sample, load, save
from .scenarios import BY_NAME, PATHS, SCENARIOS, Scenario, about_s, clients_of, order

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "bench" / "results" / "performance.json"
DOCUMENT = ROOT / "docs" / "performance.md"
WIDTH = 140
PROBE_S = 1


def main() -> int:
    """Measure what was asked for, keep it, print it, write the page."""
    options = _options()
    end_in_order()
    console = Console(width=WIDTH, highlight=False)
    try:
        if options.source is not None:
            data = load(options.source)
            measured: list[str] = []
        else:
            data = load(options.data)
            measured = [scenario.name for scenario in options.only]
            _measure(options, data, console)
    except (DataError, RuntimeError) as error:
        sys.stderr.write(f"loads bench: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("loads bench: interrupted; parts that were whole are kept\n")
        return 130
    _write_page(options.document, data)
    _show(console, data, measured or list(data))
    console.print(f"wrote {_short(options.document)}")
    judged = judge(data, [bar for bar in BARS if set(bar.scenarios) & set(measured)])
    return int(any(each.held is False for each in judged))


def _write_page(path: Path, data: dict[str, Part]) -> None:
    path.write_text(report.document(report.read_template(), data))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description="Loads beside other load generators.")
    names = ", ".join(BY_NAME)
    parser.add_argument("--only", type=_scenarios, default=list(SCENARIOS), metavar="NAME,...", help=f"of: {names}")
    parser.add_argument("--rounds", type=int, help="how often each (default: as the part has it, 5 where it has bars)")
    parser.add_argument("--window", type=float, default=report.DEFAULT_WINDOW_S, help="seconds of each (default 6)")
    parser.add_argument("--paths", type=_paths, metavar="NAME,...", help=f"of Loads' engine: {', '.join(PATHS)}")
    parser.add_argument(
        "--every-path", action="store_true", help="each path in every part, not in those with bars alone"
    )
    parser.add_argument(
        "--from", dest="source", type=Path, metavar="FILE", help="measure nothing; the page from a file"
    )
    parser.add_argument("--data", type=Path, default=DATA, help=f"where the figures are kept ({_short(DATA)})")
    parser.add_argument("--document", type=Path, default=DOCUMENT, help=f"the page ({_short(DOCUMENT)})")
    return parser.parse_args()


def _scenarios(text: str) -> list[Scenario]:
    unknown = [name for name in text.split(",") if name not in BY_NAME]
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: there are {', '.join(BY_NAME)}")
    return [scenario for scenario in SCENARIOS if scenario.name in text.split(",")]


def _paths(text: str) -> list[str]:
    unknown = [name for name in text.split(",") if name not in PATHS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: there are {', '.join(PATHS)}")
    return [path for path in PATHS if path in text.split(",")]


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def _cores() -> tuple[int, int]:
    """(the server's, the clients'); this process moves off the clients'."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise RuntimeError("two cores are needed: one for the server, one for the clients")
    os.sched_setaffinity(0, set(cores[1:-1]) or {cores[0]})
    return cores[0], cores[-1]


@dataclass(frozen=True)
class Benches:
    """By what is measured; None where no part needs it, or where it can't be had."""

    http: Bench[Nginx] | None
    websockets: Bench[Echo] | None

    def of(self, scenario: Scenario) -> Bench[Nginx] | Bench[Echo] | None:
        """The one that a part needs."""
        return self.websockets if scenario.kind in scenarios.WEBSOCKETS else self.http


def _measure(options: argparse.Namespace, data: dict[str, Part], console: Console) -> None:
    """Every scenario, each kept as soon as it is whole."""
    allow_many_sockets()
    adopt_orphans()
    server, core = _cores()
    with ExitStack() as stack:
        benches = _targets(stack, options, server, core, console)
        paths = available(benches.http, options.paths or PATHS, console) if benches.http else []
        plan = [
            (each, clients_of(each, paths, options.every_path), options.rounds or each.rounds)
            for each in options.only
            if benches.of(each)
        ]
        total = sum(about_s(scenario, clients, rounds, options.window) for scenario, clients, rounds in plan)
        console.print(f"{len(plan)} parts, about {max(1, total / 60):.0f} minutes")
        machine_, versions_ = machine(), versions()
        for scenario, clients, rounds in plan:
            measured = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            samples = _rounds(benches, scenario, clients, rounds, console)
            data[scenario.name] = Part(
                scenario.name, measured, rounds, options.window, machine_, versions_, tuple(samples)
            )
            save(options.data, data)
            # With each part: an interrupted run leaves a page that fits what is kept.
            _write_page(options.document, load(options.data))  # As whoever makes it again from the file has it.


def _targets(stack: ExitStack, options: argparse.Namespace, server: int, core: int, console: Console) -> Benches:
    """Start the servers that are needed. RuntimeError where nothing could be measured without one of them."""
    scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="loads-bench-")))
    scratch.chmod(0o711)
    kinds = [scenario.kind in scenarios.WEBSOCKETS for scenario in options.only]
    http, websockets = None, None
    if not all(kinds):
        folder = _made(scratch / "nginx")
        http = Bench(stack.enter_context(nginx(server, folder)), core, options.window, scratch)
    if any(kinds):
        folder = _made(scratch / "echo")
        try:
            websockets = Bench(stack.enter_context(echo(server, folder)), core, options.window, scratch)
        except RuntimeError as error:
            if all(kinds):
                raise
            console.print(f"WebSockets are not measured: {error}", markup=False)
    return Benches(http, websockets)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def available(bench: Bench[Nginx], paths: Sequence[str], console: Console) -> list[str]:
    """Which paths Loads' engine has here: a run of a second each, whose summary says which one ran.

    Where a summary names none, it can't be told which one was measured, and no bar of a path is judged.
    """
    settings = {"USERS": 1, "SECONDS": PROBE_S + 1, "BODY": "/1k", "TARGET": bench.target.url()}
    found = []
    for path in paths:
        try:
            sample, _ = measuring.run_loads(bench, "saturate", settings, path, lambda _: Sample("", 0))
        except RuntimeError as error:
            console.print(f"Loads, {path}: not available: {error}")
            continue
        if not sample.path:
            console.print("Loads' summary does not name its engine's path: no bar of a path can be judged")
            return [scenarios.UNNAMED]
        if sample.path == path:
            found.append(path)
        else:
            console.print(f"Loads, {path}: not available: {sample.path} ran")
    if not found:
        raise RuntimeError("Loads made no request in any way")
    return found


def _rounds(
    benches: Benches, scenario: Scenario, clients: Sequence[str], rounds: int, console: Console
) -> list[Sample]:
    console.rule(f"{scenario.name}: {scenario.title}", align="left")
    saturation: dict[str, float] = {}
    if scenario.kind == scenarios.RATES and benches.http:
        saturation = {client: _saturation(benches.http, scenario, client) for client in clients}
    samples = []
    for round_ in range(rounds):
        for client in order(clients, round_):
            began = time.monotonic()
            try:
                sample = _one(benches, scenario, client, round_, saturation)
            except (RuntimeError, OSError) as error:
                sample = Sample(client, round_, error=str(error))
            samples.append(sample)
            took = time.monotonic() - began
            console.print(
                f"  round {round_ + 1}/{rounds}  {title(client):<20}  {_told(sample)}  [{took:.0f} s]", markup=False
            )
    # By client as the scenario has them, whatever the order was.
    return sorted(samples, key=lambda sample: (clients.index(sample.client), sample.round))


def _one(benches: Benches, scenario: Scenario, client: str, round_: int, saturation: dict[str, float]) -> Sample:
    http, websockets = benches.http, benches.websockets
    if scenario.kind in scenarios.WEBSOCKETS:
        assert websockets is not None, "its parts are measured where there is an echo server"
        return _one_of_websockets(websockets, scenario, client, round_)
    assert http is not None, "nginx runs where a part needs it"
    match scenario.kind:
        case scenarios.LATENESS:
            return measuring.lateness(http, scenario, client, round_)
        case scenarios.RATES:
            return measuring.rates(http, scenario, client, round_, saturation[client])
        case scenarios.IDLE:
            return measuring.idle(http, scenario, client, round_)
        case _:
            return measuring.measure(http, scenario, client, round_, http.window_s)


def _one_of_websockets(bench: Bench[Echo], scenario: Scenario, client: str, round_: int) -> Sample:
    match scenario.kind:
        case scenarios.HELD:
            return sessions.held(bench, scenario, client, round_)
        case scenarios.STEADY:
            return sessions.steady(bench, scenario, client, round_)
        case _:
            return sessions.echoes(bench, scenario, client, round_, bench.window_s)


def _saturation(bench: Bench[Nginx], scenario: Scenario, client: str) -> float:
    """The rate at which a client is saturated, now."""
    return measuring.measure(bench, scenario, client, 0, bench.window_s).rate or 0.0


def _told(sample: Sample) -> str:
    """A sample in a line."""
    if sample.error:
        return f"not measured: {sample.error}"
    words = [f"{name} {tables.number(value)}" for name, value in sample.figures.items()]
    if not words:
        words = [f"{sample.cpu_per_100k or 0:.2f} CPU-s per 100,000", f"{sample.rate or 0:,.0f}/s"]
    if sample.failed:
        words.append(f"{sample.failed:,} FAILED OR INTERRUPTED")
    if sample.exact is False:
        words.append(f"COUNTS DIFFER {dict(sample.counts)}")
        words += [f"sessions {dict(sample.sessions)}"] if sample.sessions else []
    if sample.path and sample.path != sample.client.removeprefix(LOADS):
        words.append(f"ran {sample.path}")
    return ", ".join(words)


def _show(console: Console, data: dict[str, Part], names: Sequence[str]) -> None:
    parts = [data[name] for name in names if name in data]
    shown = [tables.part_table(part) for part in parts]
    if "http-1k" in names and "http-1k" in data:
        shown.append(tables.besides_table(data["http-1k"]))
    shown.append(tables.bars_table(judge(data)))
    for table in shown:
        printed = RichTable(title=table.title, title_justify="left")
        for column in table.columns:
            printed.add_column(column)
        for row in table.rows:
            printed.add_row(*(cell.replace("**", "") for cell in row))
        console.print(printed)


if __name__ == "__main__":
    sys.exit(main())
