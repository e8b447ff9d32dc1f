"""docs/performance.md from what was measured, and the same on the terminal. Pure: data in, text out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from string import Template

from . import tables
from .bars import Judged, best_way, judge
from .clients import BARE, IN_TURN, title
from .echo import DESCRIPTORS
from .samples import LOADS, Data, Part, cpu, per_cpu, ratios
from .scenarios import (
    BY_NAME,
    ECHO,
    HELD,
    HELD_FEW,
    HELD_FLAT_S,
    HELD_RAMP_S,
    IDLE,
    LATENESS,
    PATHS,
    RATES,
    SATURATED,
    SCENARIOS,
    STEADY,
    STEADY_FLAT_S,
    STEADY_RAMP_S,
    TEXT,
    UNNAMED,
    WARM_S,
    WEBSOCKETS,
    about_s,
    clients_of,
)

TEMPLATE = Path(__file__).resolve().parent / "performance.md.in"
NOT_MEASURED = "Not measured yet."
QUIET = 0.3
"""Cores that other things may use, the bench itself with them."""


def document(template: str, data: Data) -> str:
    """The whole page."""
    judged = judge(data)
    parts = [data[scenario.name] for scenario in SCENARIOS if scenario.name in data]
    newest = tables.newest(data)
    return Template(template).substitute(
        summary=summary(data),
        warm=f"{WARM_S:g}",
        window=windows(parts),
        minutes=f"{minutes(data):.0f}",
        paths=paths_sentence(data),
        held=held_sentence(judged),
        bars=tables.bars_table(judged).markdown(),
        ceiling=ceiling_sentence(data),
        saturated=_kind(data, SATURATED),
        besides=tables.besides_table(data["http-1k"]).markdown() if "http-1k" in data else NOT_MEASURED,
        lateness=_kind(data, LATENESS),
        rates=_kind(data, RATES),
        memory=_kind(data, IDLE),
        connections=str(BY_NAME["ws-echo"].connections),
        size=str(len(TEXT)),
        descriptors=f"{DESCRIPTORS:,}",
        echoes="\n\n".join(text for text in (_kind(data, ECHO), better_sentence(data)) if text),
        held_few=str(HELD_FEW),
        held_many=f"{BY_NAME['ws-held'].connections:,}",
        held_ramp=str(HELD_RAMP_S),
        held_flat=str(HELD_FLAT_S),
        held_sockets=_kind(data, HELD),
        steady_many=f"{BY_NAME['ws-rate'].connections:,}",
        steady_ramp=str(STEADY_RAMP_S),
        steady_flat=str(STEADY_FLAT_S),
        steady=_kind(data, STEADY),
        machine=tables.machine_table(newest).markdown() if newest else NOT_MEASURED,
        parts="\n\n".join([tables.parts_table(data).markdown(), *cautions(parts)]),
    )


def _kind(data: Data, kind: str) -> str:
    found = [tables.part_table(data[each.name]) for each in SCENARIOS if each.kind == kind and each.name in data]
    if len(found) == 1:
        return found[0].markdown()
    return "\n\n".join(f"**{table.title}**\n\n{table.markdown()}" for table in found) or NOT_MEASURED


def measured_paths(data: Data) -> list[str]:
    """Those of the engine that any part of HTTP has, the cheapest first."""
    http = [part for part in data.values() if BY_NAME[part.scenario].kind not in WEBSOCKETS]
    seen = {path for part in http for path in part.paths() if part.of(LOADS + path)}
    return [path for path in (*PATHS, UNNAMED) if path in seen]


def summary(data: Data) -> str:
    """The best path against wrk and Locust, in half a sentence."""
    part = data.get("http-1k")
    paths = [path for path in measured_paths(data) if part and part.of(LOADS + path)]
    if not paths:
        return "not measured yet"
    wrk = ratios(part, LOADS + paths[0], "wrk", cpu)
    locust = ratios(part, "locust", LOADS + paths[0], cpu)
    return (
        f"the `{paths[0]}` path takes {tables.shown(wrk)} times wrk's CPU for a request, "
        f"and Locust FastHttpUser takes {tables.shown(locust)} times as much as it"
    )


def paths_sentence(data: Data) -> str:
    """Which paths this installation had."""
    paths = measured_paths(data)
    missing = [path for path in PATHS if path not in paths]
    return f"Not available where this was measured: {', '.join(missing)}." if missing else "All of them were measured."


def held_sentence(judged: Sequence[Judged]) -> str:
    """How many are held."""
    held = sum(each.held is True for each in judged)
    missed = sum(each.held is False for each in judged)
    rest = sum(each.held is None for each in judged)
    compared = "The median is what is compared, and of counts the largest difference."
    return f"{held} held, {missed} missed, {rest} not measured. {compared}"


def ceiling_sentence(data: Data) -> str:
    """What no client can pass that is not cheaper than wrk; nothing where those two were not measured together."""
    found = ratios(data.get("http-1k"), "locust", "wrk", cpu)
    if found is None:
        return ""
    return (
        f"wrk itself is {tables.shown(found)} times better than Locust FastHttpUser here: a path can be better than "
        "Locust by more than that only where it is cheaper than wrk, and one that just keeps its bar against wrk is "
        "better by that much less. The bars against Locust were set where wrk was 22.8 times better."
    )


def better_sentence(data: Data) -> str:
    """Which way of websocket-client is the better one, and how far above it is what no client can pass."""
    part = data.get("ws-echo")
    way = best_way(part)
    if way is None:
        return ""
    found = f"The better way of websocket-client here: {title(way).removeprefix('websocket-client, ')}."
    in_turn, bare = (ratios(part, other, way, per_cpu) for other in (IN_TURN, BARE))
    if in_turn:
        found += f" All in turn makes {tables.shown(in_turn)} times as many round trips for a CPU-second as that."
    if bare:
        found += (
            f" Bare sockets, which know nothing of WebSockets, make {tables.shown(bare)} times as many: a client that "
            "sends and receives each message by itself can't be better than it by much more than that."
        )
    return found


def windows(parts: Iterable[Part]) -> str:
    """The lengths of the windows that were used."""
    found = sorted({part.window_s for part in parts})
    return " or ".join(f"{seconds:g}" for seconds in found) or NOT_MEASURED


def minutes(data: Data) -> float:
    """How long a run with the default settings takes, about, with the paths that there are."""
    paths = measured_paths(data) or list(PATHS)
    total = sum(about_s(each, clients_of(each, paths), each.rounds, DEFAULT_WINDOW_S) for each in SCENARIOS)
    return max(1.0, total / 60)


def cautions(parts: Sequence[Part]) -> list[str]:
    """What a reader should know: parts of several machines, or of one that had other things to do."""
    found = []
    kinds = {(tuple(sorted(part.machine.items())), tuple(sorted(part.versions.items()))) for part in parts}
    if len(kinds) > 1:
        found.append(
            "These parts were not all measured on the same machine with the same versions; the newest one's are shown."
        )
    disturbed = [part.scenario for part in parts if tables.others(part) > QUIET]
    if disturbed:
        found.append(
            f"**The machine was not quiet** (more than {QUIET:g} cores were used by other things): measure again what "
            f"{', '.join(disturbed)} shows. Lateness and rates suffer most, ratios least."
        )
    return found


DEFAULT_WINDOW_S = 6.0


def read_template() -> str:
    """The page without figures."""
    return TEMPLATE.read_text()
