"""What a person reads at the end of a run: series, ledger, thresholds, errors, and where the files are.

Everything is made from the summary, so that screen and file can't differ. Names and errors may come from a hostile
target: they are cleaned, and never read as markup.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from loads_queue.model.ledger import Columns, Requests
from loads_queue.model.states import RunState
from loads_queue.model.thresholds import LATENCIES, RATIOS, parse

from . import output_sockets, words
from .results_fitness import NOT_THE_TARGET

Summary = Mapping[str, Any]
STYLES = {"passed": "bold green", "failed": "bold red", "aborted": "bold yellow", "incomplete": "bold red"}
_MOST_ERRORS = 10
_MOST_GAPS = 10
_MOST_STRETCHES = 6
_EQUATION_WIDTH = 64


def report(summary: Summary, files: tuple[Path, ...]) -> RenderableType:
    """Everything about a run that is over."""
    parts: list[RenderableType] = []
    for step in summary["steps"]:
        parts += [_step_title(step), _series_table(step), Text()]
        if step.get("sockets"):
            parts += [*output_sockets.sockets(step["sockets"]), Text()]
    parts += [_heading("Ledger"), *_ledger(summary), Text()]
    parts += [_heading("Thresholds"), _thresholds(summary), Text()]
    if unfit := _unfit(summary):
        parts += [_heading("Generator"), *unfit, Text()]
    if errors := _errors(summary):
        parts += [_heading("Errors"), errors, Text()]
    if summary.get("gaps"):
        parts += [_heading("Gaps"), *_gaps(summary), Text()]
    if summary.get("changes"):
        parts += [_heading("Changes"), _changes(summary), Text()]
    parts += [Text(f"warning: {words.clean(text, 500)}", "yellow") for text in summary["warnings"]]
    parts += [Text(f"note: {words.clean(text, 500)}", "dim") for text in summary["notes"]]
    if summary["warnings"] or summary["notes"]:
        parts.append(Text())
    for number, path in enumerate(files):
        # Never folded: a path is there to be copied.
        parts.append(Text(f"{'' if number else 'Files':<8}", "bold", no_wrap=True, overflow="ignore") + Text(str(path)))
    parts.append(verdict_line(summary))
    return Group(*parts)


def verdict_line(summary: Summary) -> Text:
    """The verdict and the few numbers that matter most, on one line."""
    verdict, ledger = summary["verdict"], summary["ledger"]
    failed = [each for each in summary["thresholds"] if not each["passed"]]
    balance = "ledger balanced" if ledger["balanced"] else "LEDGER DOES NOT BALANCE"
    if cut_short := _cut_short(summary):
        balance = f"{sum(cut_short):,} not accounted for: cut short"
    facts = f"{ledger['planned']:,} planned, {ledger['ok']:,} ok, {ledger['failed']:,} failed, {balance}"
    if gaps := len(summary.get("gaps", ())):
        facts += f", {gaps} gap{'' if gaps == 1 else 's'}: {ledger['missed']:,} missed, {ledger['lost']:,} lost"
    if verdict == "failed":
        facts += f", {len(failed)} of {len(summary['thresholds'])} thresholds failed"
    facts += _blame(summary)
    return Text(verdict.upper(), STYLES[verdict]) + Text(f"  {facts}", "")


def _cut_short(summary: Summary) -> tuple[int, int] | None:
    """Iterations to come and in flight when a run stopped being looked after; None of one whose account is closed,
    right or wrong."""
    ledger = summary["ledger"]
    if ledger["balanced"] or summary["run"]["state"] == RunState.FINISHED:
        return None
    begun = sum(ledger[name] for name in ("started", "dropped", "missed", "cancelled"))
    ended = sum(ledger[name] for name in ("ok", "failed", "interrupted", "lost"))
    found = ledger["planned"] + ledger["surplus"] - begun, ledger["started"] - ended
    return found if min(found) >= 0 and any(found) else None


def _blame(summary: Summary) -> str:
    """Of a verdict: whose the failed thresholds are, or else that the generator had seconds in which it was unfit."""
    failed = [each for each in summary["thresholds"] if not each["passed"]]
    blamed = sum(1 for each in failed if each.get("generator"))
    if summary["verdict"] == "failed" and blamed:
        return f": {NOT_THE_TARGET}" if blamed == len(failed) else f", {blamed} of them for {NOT_THE_TARGET}"
    fitness = summary.get("fitness") or {}
    if unfit := fitness.get("unfit_seconds"):
        return f", {unfit} of {unfit + fitness['fit_seconds']} s measured {NOT_THE_TARGET}"
    return ""


def console(file: Any = None) -> Console:
    """Where to print: as wide as the terminal, or 120 columns where there is none."""
    found = Console(file=file, highlight=False, markup=False, emoji=False, soft_wrap=False)
    return found if found.is_terminal else Console(file=file, width=120, highlight=False, markup=False, emoji=False)


def _heading(text: str) -> Text:
    return Text(text, "bold")


def _step_title(step: Mapping[str, Any]) -> Text:
    shards = f"{step['workers']} shard{'' if step['workers'] == 1 else 's'}"
    return Text(words.clean(step["name"], 60), "bold") + Text(f"  {step['kind']}, {shards}", "dim")


def _series_table(step: Mapping[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    # Only this column may shrink: numbers are shown whole, a long name by its beginning.
    table.add_column("response time of", min_width=12)
    for name in ("count", "rate", "errors", "p50", "p95", "p99", "p99.9", "max"):
        table.add_column(name, justify="right", no_wrap=True)
    for series in step["series"]:
        table.add_row(
            Text(words.clean(series["name"], 80), no_wrap=True, overflow="ellipsis"),
            words.count(series["requests"]),
            f"{words.rate(series['rate'])}/s",
            words.percent(series["error_rate"]),
            *_latencies(series["response"]),
        )
    ledger = step["ledger"]
    ended = ledger["ok"] + ledger["failed"]
    errors = words.percent(ledger["failed"] / ended if ended else None)
    table.add_row(
        Text("whole iterations", "italic"),
        words.count(ledger["started"]),
        "",
        errors,
        *_latencies(step["iteration"]["response"]),
    )
    return table


def _latencies(latency: Mapping[str, float | None]) -> list[str]:
    return [words.latency(latency[name]) for name in ("p50", "p95", "p99", "p99.9", "max")]


def _ledger(summary: Summary) -> list[Text]:
    ledger, by, requests = summary["ledger"], summary["dropped_by"], summary["requests"]
    names = [name for name in ledger if name not in ("balanced", "dropped")]
    columns = Columns(**{name: ledger[name] for name in names}, **{f"dropped_{cause}": by[cause] for cause in by})
    cut_short = _cut_short(summary)
    if cut_short is not None:
        columns.pending, columns.in_flight = cut_short
    asked = Requests(**{name: count for name, count in requests.items() if name != "sent"})
    lines = _equation("iterations", words.planned_equation(columns)) + _equation("", words.started_equation(columns))
    if ledger["dropped"]:
        causes = ", ".join(f"{count:,} {cause.replace('_', ' ')}" for cause, count in by.items() if count)
        lines.append(Text(f"{'':14}dropped: {causes}"))
    lines += _equation("requests", words.requests_equation(asked))
    lines.append(
        Text(f"{'':14}{requests['sent']:,} sent, {requests['answered']:,} answered, {requests['unsent']:,} unsent")
    )
    lines += _user_time(summary)
    if ledger["balanced"]:
        return [*lines, Text("  balanced", "green")]
    if cut_short is not None:
        return [*lines, Text("  NOT CLOSED: the run was cut short before all of it was accounted for", "bold red")]
    return [*lines, Text("  DOES NOT BALANCE: a report was lost or is wrong; don't trust these numbers", "bold red")]


def _equation(label: str, equation: str) -> list[Text]:
    folded = words.fold(equation, _EQUATION_WIDTH)
    return [Text(f"  {label if not number else '':<12}{line}") for number, line in enumerate(folded)]


def _user_time(summary: Summary) -> list[Text]:
    """The equation of user time, where users were planned for a time; rounded to tenths of a second."""
    names = ("planned", "surplus", "held", "missed", "cancelled")
    total = {name: sum(step["user_seconds"][name] for step in summary["steps"]) for name in names}
    if not total["planned"]:
        return []
    shown = {name: f"{value:,.1f}s {name}" for name, value in total.items()}
    left = f"{shown['planned']} + {shown['surplus']}" if total["surplus"] else shown["planned"]
    return _equation("user time", f"{left} = {shown['held']} + {shown['missed']} + {shown['cancelled']}")


def _thresholds(summary: Summary) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2))
    for each in summary["thresholds"]:
        passed = each["passed"]
        value = _value(each["expression"], each["value"]) if passed else each["reason"]
        if each.get("generator"):
            value += f": {NOT_THE_TARGET}"
        table.add_row(
            Text("pass" if passed else "FAIL", "green" if passed else "bold red"),
            Text(words.clean(each["expression"])),
            Text(words.clean(value)),
        )
    return table


def _unfit(summary: Summary) -> list[RenderableType]:
    """Which seconds measured the generator, by step where there are several, the longest stretches first."""
    lines: list[RenderableType] = []
    for step in summary["steps"]:
        fitness = step.get("fitness")
        if not fitness or not fitness["unfit_seconds"]:
            continue
        name = f"{words.clean(step['name'], 30)}: " if len(summary["steps"]) > 1 else ""
        lines.append(Padding(Text(f"{name}{fitness['verdict']}", "yellow"), (0, 0, 0, 2)))
        stretches = sorted(fitness["unfit"], key=lambda one: (one["from"] - one["to"], one["from"]))
        told = sorted(stretches[:_MOST_STRETCHES], key=lambda one: one["from"])
        where = ", ".join(f"{words.clock(one['from'])}-{words.clock(one['to'])}" for one in told)
        further = len(stretches) - len(told)
        more = f" and {further} more, in summary.json" if further > 0 else ""
        lines.append(Padding(Text(f"at {where}{more}", "dim"), (0, 0, 0, 2)))
    return lines


def _value(expression: str, value: float | None) -> str:
    """A threshold's value in its unit."""
    threshold = parse(expression)
    if value is None:
        return ""
    if threshold.metric in LATENCIES:
        return words.latency(value)
    if threshold.metric in RATIOS or threshold.of_planned:
        return words.percent(value)
    return f"{words.rate(value)}/s" if threshold.metric == "rate" else f"{value:,.10g}"


def _errors(summary: Summary) -> Table | None:
    groups = [
        (error["count"], error["message"], f"{step['name']} / {series['name']}")
        for step in summary["steps"]
        for series in step["series"]
        for error in series["errors"]
    ]
    if not groups:
        return None
    groups.sort(key=lambda group: (-group[0], group[1:]))
    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_column(justify="right", no_wrap=True)
    for number, message, where in groups[:_MOST_ERRORS]:
        table.add_row(words.count(number), Text(words.clean(message)), Text(words.clean(where, 80), "dim"))
    if len(groups) > _MOST_ERRORS:
        table.add_row("", Text(f"and {len(groups) - _MOST_ERRORS} further kinds, in summary.json", "dim"), "")
    return table


def _gaps(summary: Summary) -> list[RenderableType]:
    """Where load was not made, the longest first; one without an end is longer than any."""
    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_column(no_wrap=True)
    shards = {step["name"]: step["workers"] for step in summary["steps"]}
    gaps = sorted(summary["gaps"], key=lambda gap: (gap["to"] is not None, gap["from"] - (gap["to"] or 0)))
    for gap in gaps[:_MOST_GAPS]:
        length = "to the end" if gap["to"] is None else f"for {words.seconds(gap['to'] - gap['from'])}"
        table.add_row(
            Text(f"{words.clean(gap['step'], 30)} {gap['shard'] + 1}/{shards[gap['step']]}"),
            Text(f"{words.clean(gap['worker'], 30)} {words.gap_cause(gap['cause'])}"),
            Text(f"at {words.clock(gap['from'])}, {length}", "yellow"),
            f"{gap['missed']:,} missed, {gap['lost']:,} lost",
        )
    further = len(gaps) - _MOST_GAPS
    return [table, Text(f"  and {further} further ones, in summary.json", "dim")] if further > 0 else [table]


def _changes(summary: Summary) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2))
    for change in summary["changes"]:
        step, begin = words.clean(change["step"], 60), words.clock(change["from"])
        table.add_row(Text(step), f"{words.factor(change['factor'])} from {begin} on")
    return table
