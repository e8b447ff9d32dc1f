"""What the client commands print: runs, workers, plans and dead letters as tables, in words that fit a terminal.

Names and reasons may come from anybody: they are cleaned, and never read as markup.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from .. import words
from ..output import STYLES

Wire = Mapping[str, Any]


def runs(found: Sequence[Wire], now: datetime.datetime) -> RenderableType:
    """Runs, one a line."""
    if not found:
        return Text("No runs.")
    table = _table("run", "plan", "state", "owner", "age", last="result")
    for run in found:
        table.add_row(
            run["id"],
            words.clean(_plan(run), 40),
            run["state"],
            words.clean(run["owner"], 20),
            _ago(run["created"], now),
            _result(run),
        )
    return table


def run(found: Wire, events: Sequence[Wire]) -> Iterable[RenderableType]:
    """One run and what has happened to it."""
    yield _pairs(
        ("run", found["id"]),
        ("plan", words.clean(_plan(found), 200)),
        ("owner", words.clean(found["owner"], 100)),
        ("state", found["state"]),
        ("shards", ", ".join(map(str, found["shards"])) or "-"),
        ("created", found["created"]),
        ("started", found["started"] or "-"),
        ("ended", found["ended"] or "-"),
        ("result", _result(found)),
    )
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    for event in events:
        who = f"{words.clean(event['who'], 40)}: " if event["who"] else ""
        table.add_row(Text(event["at"][11:23], "dim"), Text(f"{who}{words.clean(event['what'], 500)}"))
    if events:
        yield Text()
        yield table


def info(found: Wire, url: str) -> RenderableType:
    """The cluster at a glance."""
    scheduler = found["scheduler"]
    acts = f"{words.clean(scheduler['holder'], 80)} acts, epoch {scheduler['epoch']}"
    return _pairs(
        ("address", url),
        ("version", found["version"]),
        ("scheduler", acts if scheduler["acting"] else Text("none acts on this database", "bold red")),
        ("workers", f"{found['workers']}, {found['free']} of {found['slots']} slots free"),
        ("runs", f"{found['active']} active, {found['finished']} finished"),
        ("dead letters", str(found["dead_letters"])),
    )


def workers(found: Sequence[Wire], now: datetime.datetime, everyone: bool) -> RenderableType:
    """Workers, one a line; those that are gone only where they are asked for."""
    shown = [worker for worker in found if everyone or worker["present"]]
    if not shown:
        hidden = f"; {len(found)} are gone, --all shows them" if found else ""
        return Text(f"No workers: start `loads worker`{hidden}.")
    table = _table("worker", "host", "slots", "free", "version", "heard", last="note")
    for worker in shown:
        gone = "" if worker["present"] else "gone"
        table.add_row(
            words.clean(worker["name"], 60),
            words.clean(worker["host"], 40),
            str(worker["slots"]),
            str(worker["free"]),
            words.clean(worker["version"], 20),
            _ago(worker["last_report"], now),
            Text(words.clean(worker["refused"], 200) or gone, "red" if worker["refused"] else "dim"),
        )
    return table


def plans(found: Sequence[Wire]) -> RenderableType:
    """Stored plans, one a line."""
    if not found:
        return Text("No stored plans: loads plans --load FILE, or loads scheduler --load FILE.")
    table = _table("plan", last="steps")
    for plan in found:
        table.add_row(words.clean(plan["reference"], 120), words.clean(", ".join(plan["steps"]), 200))
    return table


def dead_letters(found: Sequence[Wire], now: datetime.datetime) -> RenderableType:
    """Dead letters, one a line."""
    if not found:
        return Text("No dead letters.")
    table = _table("id", "queue", "kind", "age", last="reason")
    for letter in found:
        table.add_row(
            str(letter["id"]),
            words.clean(letter["queue"], 40),
            words.clean(letter["kind"], 20),
            _ago(letter["at"], now),
            words.clean(letter["reason"], 300),
        )
    return table


def dead_letter(found: Wire) -> Iterable[RenderableType]:
    """One dead letter and its body."""
    yield _pairs(
        ("id", str(found["id"])),
        ("queue", words.clean(found["queue"], 100)),
        ("kind", words.clean(found["kind"], 100)),
        ("at", found["at"]),
        ("reason", words.clean(found["reason"], 1000)),
    )
    yield Text()
    yield Text(words.clean(found["body"], 1 << 20))


def _table(*columns: str, last: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
    for name in columns:
        # What is typed again must stand there whole.
        table.add_column(name, no_wrap=True, overflow="ellipsis" if name == "plan" else "ignore")
    table.add_column(last, overflow="fold")
    return table


def _pairs(*pairs: tuple[str, str | Text]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    for name, value in pairs:
        table.add_row(Text(name, "bold"), value)
    return table


def _plan(run: Wire) -> str:
    return " / ".join(dict.fromkeys(name for name in (run["project"], run["plan"]) if name))


def _result(run: Wire) -> Text:
    """The verdict where there is one, and the reason."""
    verdict, reason = run["verdict"] or "", words.clean(run["reason"], 300)
    return Text(verdict, STYLES.get(verdict, "")) + Text(f"{': ' if verdict and reason else ''}{reason}", "")


def _ago(at: str | None, now: datetime.datetime) -> str:
    """How long ago, in one unit."""
    if at is None:
        return "-"
    seconds = max(0, int((now - datetime.datetime.fromisoformat(at)).total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"
