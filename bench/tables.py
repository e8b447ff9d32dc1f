"""What was measured, as tables: the same for the terminal and for docs/performance.md. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .bars import Judged, besides_engine
from .clients import title
from .roles import ENGINE
from .samples import LOADS, Data, Figure, Part, Sample, Spread, cpu, figure, named, per_cpu, ratios
from .scenarios import (
    BY_NAME,
    ECHO,
    HELD,
    IDLE,
    LATENESS,
    LATENESS_RATES,
    RATES,
    SATURATED,
    SCENARIOS,
    SESSIONS_PATH,
    SHARES,
    STEADY,
)

NOTHING = "-"


@dataclass(frozen=True)
class Table:
    """Cells of text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """As in a document, without its title."""
        lines = [self.columns, tuple("---" for _ in self.columns), *self.rows]
        return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines)


def number(value: float) -> str:
    """With three digits that mean something, and no more."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"


def shown(found: Spread | None, factor: float = 1.0) -> str:
    """``median (minimum to maximum)``."""
    if found is None:
        return NOTHING
    low, middle, high = (number(value * factor) for value in (found.low, found.median, found.high))
    return middle if low == high else f"{middle} ({low} to {high})"


def bars_table(judged: Sequence[Judged]) -> Table:
    """Each bar, and whether it is held."""
    words = {True: "held", False: "**missed**", None: "not measured"}
    rows = [
        (each.bar.name, each.path, limit(each), shown(each.found), words[each.held], each.bar.source) for each in judged
    ]
    return Table("Bars", ("figure", "path", "bar", "measured", "", "from"), tuple(rows))


def limit(judged: Judged) -> str:
    """What a bar asks for."""
    return f"{judged.bar.how} {judged.bar.limit:g} {judged.bar.unit}"


def saturated_table(part: Part) -> Table:
    """CPU per request of every client, against wrk's and Locust's."""
    costs = ("CPU-s per 100,000 requests", "against wrk", "times better than Locust")
    columns = ("client", *costs, "requests/s", "PSS, MiB", "RSS, MiB", "server busy, %")
    rows: list[tuple[str, ...]] = []
    for client in part.clients():
        if not part.of(client):
            rows.append((title(client), _failures(part, client), *[NOTHING] * (len(columns) - 2)))
            continue
        rows.append(
            (
                title(client),
                shown(figure(part, client, cpu)),
                shown(ratios(part, client, "wrk", cpu)),
                shown(ratios(part, "locust", client, cpu)),
                shown(figure(part, client, _rate)),
                shown(figure(part, client, lambda sample: sample.pss), 2**-20),
                shown(figure(part, client, lambda sample: sample.rss), 2**-20),
                shown(figure(part, client, _server_busy)),
            )
        )
    return Table(BY_NAME[part.scenario].title, columns, tuple(rows))


def _rate(sample: Sample) -> float | None:
    return sample.rate


def _server_busy(sample: Sample) -> float | None:
    return sample.server_cpu_s / sample.seconds * 100 if sample.seconds else None


def _failures(part: Part, client: str) -> str:
    reasons = dict.fromkeys(sample.error for sample in part.samples if sample.client == client and sample.error)
    return f"not measured: {'; '.join(reasons)}"


def besides_table(part: Part) -> Table:
    """CPU of what is not the engine, in ms a second."""
    roles = sorted({role for sample in part.samples for role in sample.roles if role != ENGINE})

    def of(role: str) -> Figure:
        return lambda sample: sample.roles.get(role, 0.0) / sample.seconds * 1_000 if sample.seconds else None

    rows = [
        (path, *(shown(figure(part, LOADS + path, each)) for each in [*map(of, roles), besides_engine]))
        for path in part.paths()
    ]
    return Table("CPU besides the engine, ms a second", ("path", *roles, "together"), tuple(rows))


def lateness_table(part: Part) -> Table:
    """Median and p99 at each rate: of the middle second, and of the worst."""
    columns = ("path", "rate", "median, ms", "its worst second", "p99, ms", "its worst second", "off the plan, %")
    names = ("p50_ms", "p50_worst_ms", "p99_ms", "p99_worst_ms", "off_percent")
    rows = []
    for path in part.paths():
        for rate in LATENESS_RATES:
            cells = (shown(figure(part, LOADS + path, named(f"{rate}_{name}"))) for name in names)
            rows.append((_or_failed(part, path), f"{rate:,}/s", *cells))
    return Table(BY_NAME[part.scenario].title, columns, tuple(rows))


def rates_table(part: Part) -> Table:
    """How far off the plan each share of the saturation rate was."""
    columns = ("path", "saturated at, requests/s", *(f"{share} %" for share in SHARES))
    rows = []
    for path in part.paths():
        cells = (shown(figure(part, LOADS + path, named(f"{share}_off_percent"))) for share in SHARES)
        rows.append((_or_failed(part, path), shown(figure(part, LOADS + path, named("saturation"))), *cells))
    return Table("Achieved off planned, in percent, by share of the saturation rate", columns, tuple(rows))


def memory_table(part: Part) -> Table:
    """What an idle user takes."""
    columns = ("path", "KB a user", "engine with few, MiB", "engine with many, MiB")
    rows = [
        (
            _or_failed(part, path),
            shown(figure(part, LOADS + path, named("user_bytes")), 1e-3),
            shown(figure(part, LOADS + path, named("few_bytes")), 2**-20),
            shown(figure(part, LOADS + path, named("many_bytes")), 2**-20),
        )
        for path in part.paths()
    ]
    return Table(BY_NAME[part.scenario].title, columns, tuple(rows))


def echo_table(part: Part) -> Table:
    """Round trips for a CPU-second of every client, and how many times as many Loads makes."""
    rate = "round trips for a CPU-second"
    columns = ("client", rate, "Loads against it", "round trips/s", "PSS, MiB", "server busy, %")
    rows: list[tuple[str, ...]] = []
    for client in part.clients():
        if not part.of(client):
            rows.append((title(client), _failures(part, client), *[NOTHING] * (len(columns) - 2)))
            continue
        rows.append(
            (
                title(client),
                shown(figure(part, client, per_cpu)),
                shown(ratios(part, LOADS + SESSIONS_PATH, client, per_cpu)),
                shown(figure(part, client, _rate)),
                shown(figure(part, client, lambda sample: sample.pss), 2**-20),
                shown(figure(part, client, _server_busy)),
            )
        )
    return Table(BY_NAME[part.scenario].title, columns, tuple(rows))


HELD_FIGURES = (
    ("KB a connection", "connection_bytes", 1e-3),
    ("engine with few, MiB", "few_bytes", 2**-20),
    ("engine with many, MiB", "many_bytes", 2**-20),
    ("engine's CPU with few, % of a core", "few_percent", 1.0),
    ("with many", "many_percent", 1.0),
    ("p99 of connecting, ms", "connect_p99_ms", 1.0),
)
STEADY_FIGURES = (
    ("response p50, ms", "p50_ms", 1.0),
    ("response p99, ms", "p99_ms", 1.0),
    ("service p50, ms", "service_p50_ms", 1.0),
    ("service p99, ms", "service_p99_ms", 1.0),
    ("engine's CPU, % of a core", "engine_percent", 1.0),
)
"""Columns: title, the sample's own figure, what it is multiplied with."""


def held_table(part: Part) -> Table:
    """What held connections take."""
    return _own_figures(part, HELD_FIGURES)


def steady_table(part: Part) -> Table:
    """How long echoes at a rate took, in the flat stage."""
    return _own_figures(part, STEADY_FIGURES, ("echoes/s", _rate), ("server busy, %", _server_busy))


def _own_figures(part: Part, columns: Sequence[tuple[str, str, float]], *others: tuple[str, Figure]) -> Table:
    rows = [
        (
            _or_failed(part, path),
            *(shown(figure(part, LOADS + path, named(name)), factor) for _, name, factor in columns),
            *(shown(figure(part, LOADS + path, of)) for _, of in others),
        )
        for path in part.paths()
    ]
    titles = ("path", *(text for text, _, _ in columns), *(text for text, _ in others))
    return Table(BY_NAME[part.scenario].title, titles, tuple(rows))


def _or_failed(part: Part, path: str) -> str:
    return path if part.of(LOADS + path) else f"{path}: {_failures(part, LOADS + path)}"


def parts_table(data: Data) -> Table:
    """When each part was measured, how, and how busy the machine was with other things."""
    loads = ("runs of Loads whose counts agree", "its requests that failed")
    columns = ("part", "measured", "rounds", "window, s", "cores used by other things", *loads)
    rows = []
    for part in _in_order(data):
        good = [sample for sample in part.samples if not sample.error and sample.seconds]
        exact = [sample.exact for sample in good if sample.exact is not None]
        counted = f"{sum(exact)} of {len(exact)}"
        failed = f"{sum(sample.failed for sample in good):,}"
        most = f"{number(others(part))} at most"
        rows.append((part.scenario, part.measured, str(part.rounds), f"{part.window_s:g}", most, counted, failed))
    return Table("Parts", columns, tuple(rows))


def others(part: Part) -> float:
    """The most cores that other things used while a client was measured."""
    return max((each.others_cpu_s / each.seconds for each in part.samples if each.seconds), default=0.0)


def machine_table(part: Part) -> Table:
    """What it was measured on and with."""
    rows = [*part.machine.items(), *part.versions.items()]
    return Table("Machine and versions", ("", ""), tuple(rows))


_TABLES = {
    LATENESS: lateness_table,
    RATES: rates_table,
    IDLE: memory_table,
    SATURATED: saturated_table,
    ECHO: echo_table,
    HELD: held_table,
    STEADY: steady_table,
}


def part_table(part: Part) -> Table:
    """The table that its kind has."""
    return _TABLES[BY_NAME[part.scenario].kind](part)


def _in_order(data: Data) -> list[Part]:
    return [data[scenario.name] for scenario in SCENARIOS if scenario.name in data]


def newest(data: Data) -> Part | None:
    """The part that was measured last."""
    return max(data.values(), key=lambda part: part.measured, default=None)
