"""A run while it goes on: a view that stands still on a terminal, or a plain line every few seconds elsewhere.

A screen is anything with ``update(view)`` and ``close()``; what it shows comes from ``live_data`` and ``live_lines``.
Names and errors may come from a hostile target: they are cleaned, and never read as markup.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from loads_queue.model.states import RunState

from . import live_lines, words
from .live_data import Errors, Now, now_of
from .view import RunView

PLAIN_EVERY_S = 5.0
FOOTER = "Ctrl-C ends the run with a summary; twice leaves at once."
_WIDTH, _LABEL = 80, 10
_EQUATIONS = 6
_ERRORS = 2
_EVENTS = 2
_NAMES = 32


class Screen(Protocol):
    """Where a run is shown while it goes on."""

    def update(self, view: RunView, now: Now | None = None) -> None:
        """Show how the run stands; ``now`` are its figures where the view comes without the rows to make them from."""

    def say(self, text: str) -> None:
        """Show a message to the user, once."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class Silent:
    """Shows nothing."""

    def update(self, view: RunView, now: Now | None = None) -> None:
        """Nothing is shown."""

    def say(self, text: str) -> None:
        """Nothing is shown."""

    def close(self) -> None:
        """Nothing is left."""


class Plain:
    """A line every ``PLAIN_EVERY_S``, and each warning, gap and change as it comes."""

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._next = clock() + PLAIN_EVERY_S
        self._told: set[object] = set()
        self._state = ""
        self._errors = Errors()

    def update(self, view: RunView, now: Now | None = None) -> None:
        """Write a line where one is due, or where the state changed."""
        now = now or now_of(view, self._errors)
        for notice in live_lines.notices(view):
            self._tell(notice.key, notice.text)
        for warning in now.warnings:
            self._tell(warning, f"warning: {words.clean(warning, 300)}")
        changed = view.state != self._state and view.state not in (RunState.WAITING, RunState.STARTING)
        if self._clock() >= self._next or changed:
            self._state = view.state
            self._next = self._clock() + PLAIN_EVERY_S
            self._write(plain_line(view, now))

    def _tell(self, key: object, text: str) -> None:
        if key not in self._told:
            self._told.add(key)
            self._write(text)

    def say(self, text: str) -> None:
        """Write a line."""
        self._write(text)

    def close(self) -> None:
        """Nothing is left to do."""


def plain_line(view: RunView, now: Now) -> str:
    """How a run stands, on one line."""
    time_text = words.clock(now.elapsed_s) + (f"/{words.clock(now.length_s)}" if now.length_s is not None else "")
    total = now.ledger.total
    parts = [f"{time_text} {view.state}{', ' if (steered := live_lines.steering(view)) else ''}{steered}"]
    told = live_lines.standing(view)
    if view.state in (RunState.WAITING, RunState.STARTING) or told:
        parts[0] += f"{': ' if told else ''}{told}"
    if view.state in (RunState.WAITING, RunState.STARTING) or not total.started:
        return parts[0]
    if any(step.kind == "open" for step in view.steps):
        parts.append(f"planned {words.rate(now.recent.planned)}/s")
    parts.append(f"started {words.rate(now.recent.started)}/s")
    if now.recent.users or now.recent.users_planned:
        parts.append(f"users {now.recent.users}")
    if now.sockets is not None:
        sent, came = words.rate(now.sockets.messages_out), words.rate(now.sockets.messages_in)
        parts.append(f"sockets {now.sockets.open:,}  messages {sent}/s out {came}/s in")
    parts.append(
        f"p50 {words.latency(now.recent.p50)} p95 {words.latency(now.recent.p95)} p99 {words.latency(now.recent.p99)}"
    )
    parts.append(f"ok {total.ok:,} failed {total.failed:,} dropped {total.dropped:,} in flight {total.in_flight:,}")
    if now.errors:
        message, number = now.errors[0]
        parts.append(f"{number:,} x {words.clean(message, 60)}")
    if now.unfit:
        parts.append(words.clean(now.unfit))
    return "  ".join(parts)


class Terminal:
    """A view that is redrawn in place; it fits into 24 lines of 80 columns and goes away at the end."""

    def __init__(self, console: Console, footer: str) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=True, vertical_overflow="crop")
        self._live.start()
        self._said = footer
        self._errors = Errors()

    def update(self, view: RunView, now: Now | None = None) -> None:
        """Redraw."""
        self._live.update(picture(view, now or now_of(view, self._errors), self._said), refresh=True)

    def say(self, text: str) -> None:
        """Show a message in the last line from now on."""
        self._said = text

    def close(self) -> None:
        """Take the view away."""
        self._live.stop()


def picture(view: RunView, now: Now, footer: str) -> RenderableType:
    """The whole view, as tall whatever it has to say (numbers of eight digits apart), so that it does not jump."""
    total, requests = now.ledger.total, now.ledger.requests
    equations = [
        *_folded("ledger", words.planned_equation(total)),
        *_folded("", words.started_equation(total)),
        *_folded("requests", words.requests_equation(requests)),
    ]
    parts: list[RenderableType] = [_title(view), _bar(view, now), *_facts(view, now), _sockets(now)]
    parts += _padded(equations, _EQUATIONS)
    parts.append(_line("unfit", words.clean(now.unfit), "yellow") if now.unfit else Text())
    errors = [f"{count:>9,}  {words.clean(text)}" for text, count in now.errors[:_ERRORS]]
    events = [live_lines.event(view, one) for one in view.events[-_EVENTS:]]
    parts += _block("errors", errors, "red", _ERRORS)
    parts += _block("workers", _some(live_lines.workers(view)), "", 1)
    parts += _block("gaps", _some(live_lines.gaps(view)), "yellow", 1)
    parts += _block("events", events, "", _EVENTS)
    parts += _block("warnings", [words.clean(text) for text in now.warnings[-1:]], "yellow", 1)
    return Group(*parts, Text(footer, "dim", no_wrap=True, overflow="ellipsis"))


def _some(text: str) -> list[str]:
    return [text] if text else []


def _block(label: str, values: list[str], style: str, height: int) -> list[Text]:
    if not values:
        return _padded([_line(label, "none", "dim")], height)
    return _padded([_line("" if number else label, value, style) for number, value in enumerate(values)], height)


def _padded(lines: list[Text], height: int) -> list[Text]:
    return lines + [Text() for _ in range(height - len(lines))]


def _line(label: str, value: str, style: str = "") -> Text:
    return Text(no_wrap=True, overflow="ellipsis").append(f"{label:<{_LABEL}}", "bold").append(value, style)


def _title(view: RunView) -> Table:
    names = words.clean(" / ".join(name for name in dict.fromkeys((view.project, view.plan)) if name), _NAMES)
    table = Table.grid(expand=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    table.add_column(justify="right", no_wrap=True)
    steered = live_lines.steering(view)
    title = Text(names, "bold").append(f"  {view.state}", "cyan")
    table.add_row(title.append(f"  {steered}" if steered else "", "yellow"), Text(words.clean(view.id, 24), "dim"))
    return table


def _bar(view: RunView, now: Now) -> RenderableType:
    """How far the run is; while it isn't under way, what it waits for."""
    told = live_lines.standing(view)
    if told:
        return Text(told, "yellow", no_wrap=True, overflow="ellipsis")
    table = Table.grid(expand=True, padding=(0, 1))
    table.add_column(ratio=1)
    table.add_column(justify="right", no_wrap=True)
    length = "" if now.length_s is None else f" / {words.clock(now.length_s)}"
    bar = ProgressBar(total=1.0, completed=now.progress)
    table.add_row(bar, f"{now.progress * 100:3.0f}%  {words.clock(now.elapsed_s)}{length}")
    return table


def _facts(view: RunView, now: Now) -> list[Text]:
    recent = now.recent
    planned = f"{words.rate(recent.planned)}/s" if any(step.kind == "open" for step in view.steps) else "-"
    users = f"{recent.users:,}" + (f" of {recent.users_planned:,}" if recent.users_planned else "")
    rates = {"started": recent.started, "done": recent.completed, "requests": recent.requests}
    latencies = {"p50": recent.p50, "p95": recent.p95, "p99": recent.p99, "max": recent.max}
    return [
        _cells("rate", f"planned {planned}", *(f"{name} {words.rate(value)}/s" for name, value in rates.items())),
        _cells("response", *(f"{name} {words.latency(value)}" for name, value in latencies.items())),
        _cells(
            "users", users, f"in flight {now.ledger.total.in_flight:,}", f"lateness {words.latency(recent.lateness)}"
        ),
    ]


def _sockets(now: Now) -> Text:
    """How sessions stand; an empty line for runs without any. Shorter where great numbers would not fit."""
    recent = now.sockets
    if recent is None:
        return Text()
    opened, closed = f"{words.rate(recent.opened)}/s", f"{words.rate(recent.closed)}/s"
    messages = f"messages {words.rate(recent.messages_out)}/s out {words.rate(recent.messages_in)}/s in"
    text = f"open {recent.open:,}  opened {opened}  closed {closed}  {messages}"
    if len(text) > _WIDTH - _LABEL:
        text = f"open {recent.open:,}  +{opened} -{closed}  {messages}"
    return _line("sockets", text)


def _cells(label: str, *values: str) -> Text:
    return _line(label, " ".join(f"{value:<16}" for value in values).rstrip())


def _folded(label: str, equation: str) -> list[Text]:
    folded = words.fold(equation, _WIDTH - _LABEL)
    return [_line(label if not number else "", line) for number, line in enumerate(folded)]


def screen_for(console: Console, quiet: bool, footer: str = FOOTER) -> Screen:
    """The screen that suits where the output goes; ``footer`` says what Ctrl-C does."""
    if quiet:
        return Silent()
    if console.is_terminal and not console.is_dumb_terminal:
        return Terminal(console, footer)
    return Plain(lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True))
