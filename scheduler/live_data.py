"""What the live view shows, taken from a run as it stands: pure, without a terminal.

"Now" is the newest few seconds of the schedule whose rows have had time to come in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from loads_queue.model.histogram import Histogram
from loads_queue.model.ledger import SECOND, Columns, Ledger
from loads_queue.model.summary import Row

from .results import warnings
from .results_fitness import Judged, in_words
from .results_series import milliseconds
from .results_timeline import P50, P95, P99, planned_users
from .view import RunView

RECENT_S = 5
"""How many seconds "now" has."""
LATE_S = 1
"""How long rows take at most to come in, as a rule: a report a second, and its way."""
_NONE = Columns()


@dataclass(frozen=True)
class Recent:
    """The figures of the newest seconds; rates a second, latencies in milliseconds (None: nothing measured)."""

    planned: float = 0.0
    """Arrivals of open loads."""
    started: float = 0.0
    completed: float = 0.0
    requests: float = 0.0
    users: int = 0
    users_planned: int | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None
    lateness: float | None = None


@dataclass(frozen=True)
class RecentSockets:
    """Sessions in the newest seconds: how many are open, and rates a second."""

    open: int = 0
    opened: float = 0.0
    closed: float = 0.0
    messages_in: float = 0.0
    messages_out: float = 0.0


@dataclass(frozen=True)
class Now:
    """The figures of one moment."""

    elapsed_s: float
    length_s: float | None
    """Of the whole schedule; None where only iterations end it."""
    progress: float
    """0 to 1."""
    ledger: Ledger
    """In total; it has no seconds."""
    recent: Recent
    errors: tuple[tuple[str, int], ...] = ()
    """(message, how often), the most frequent first."""
    warnings: tuple[str, ...] = ()
    unfit: str = ""
    """What of it measured the generator, in words; empty where it was fit throughout."""
    sockets: RecentSockets | None = None
    """None for runs without sessions, as far as rows have told."""


@dataclass
class Errors:
    """Errors by message, added up as rows come in; a row that was amended counts as it is now.

    Rows are told apart by identity: a view has the same ``Row`` again for as long as nothing about it changes.
    """

    total: Counter[str] = field(default_factory=Counter)
    judged: Judged = field(default_factory=Judged)
    """Seconds judged by the generator's fitness, kept for the same reason."""
    sockets: bool = False
    """Whether any row had some."""
    _rows: dict[tuple[int, int], Row] = field(default_factory=dict)

    def take(self, view: RunView) -> None:
        """Take in what is new in a view of the same run."""
        for step in view.steps:
            for row in step.rows:
                known = self._rows.get((step.index, row.second))
                if known is row:
                    continue
                if known is not None:
                    self._count(known, -1)
                self._count(row, 1)
                self._rows[step.index, row.second] = row
                self.sockets = self.sockets or row.sockets is not None

    def _count(self, row: Row, sign: int) -> None:
        for series in row.series.values():
            for message, count in series.errors.items():
                self.total[message] += sign * count

    def sorted(self) -> tuple[tuple[str, int], ...]:
        """(message, how often), the most frequent first."""
        found = ((message, count) for message, count in self.total.items() if count)
        return tuple(sorted(found, key=lambda item: (-item[1], item[0])))


def now_of(view: RunView, errors: Errors | None = None) -> Now:
    """The figures of a view; whoever looks at a run again and again keeps its ``errors``, which makes it cheap."""
    errors = errors or Errors()
    errors.take(view)
    ledger = _totals(view)
    elapsed_s = _elapsed_s(view)
    ends = [step.delay_ns + step.load.end_ns for step in view.steps if step.load.end_ns is not None]
    timed = bool(ends) and len(ends) == len(view.steps)
    length_s = max(ends) / SECOND if timed else None
    newest = int(elapsed_s) - LATE_S
    recent = range(max(0, newest - RECENT_S), newest)
    return Now(
        elapsed_s=elapsed_s if length_s is None else min(elapsed_s, length_s),
        length_s=length_s,
        progress=_progress(ledger, elapsed_s, length_s),
        ledger=ledger,
        recent=_recent(view, recent),
        errors=errors.sorted(),
        warnings=tuple(warnings(view)),
        unfit=in_words(errors.judged.of_all(view), phrases=1),
        sockets=_recent_sockets(view, recent) if errors.sockets else None,
    )


def _totals(view: RunView) -> Ledger:
    """The ledgers of all steps, added up in total only: a long run has many seconds."""
    found = Ledger()
    for step in view.steps:
        found.total.add(step.ledger.total)
        found.requests.add(step.ledger.requests)
        found.user_time.add(step.ledger.user_time)
    return found


def _elapsed_s(view: RunView) -> float:
    if view.started_at is None:
        return 0.0
    until = view.ended_at if view.ended_at is not None else view.now_at
    return max(0.0, ((until or view.started_at) - view.started_at) / SECOND)


def _progress(ledger: Ledger, elapsed_s: float, length_s: float | None) -> float:
    if length_s is not None:
        return min(1.0, elapsed_s / length_s) if length_s else 1.0
    planned = ledger.total.planned
    done = planned - ledger.total.pending - ledger.total.in_flight
    return min(1.0, max(0.0, done / planned)) if planned else 0.0


def _recent(view: RunView, seconds: range) -> Recent:
    if not seconds:
        return Recent()
    rows = [row for step in view.steps for row in _within(step.rows, seconds)]
    response, lateness = Histogram(), Histogram()
    for row in rows:
        lateness.merge(row.lateness)
        for series in row.series.values():
            response.merge(series.response)
    planned = sum(
        step.ledger.seconds.get(second, _NONE).planned
        for step in view.steps
        if step.kind == "open"
        for second in seconds
    )
    span, last = len(seconds), seconds[-1]
    planned_now = [planned_users(step, last) for step in view.steps]
    return Recent(
        planned=planned / span,
        started=sum(row.began for row in rows) / span,
        completed=sum(row.completed for row in rows) / span,
        requests=sum(series.attempted for row in rows for series in row.series.values()) / span,
        users=sum(row.users for row in rows if row.second == last),
        users_planned=None if None in planned_now else sum(each or 0 for each in planned_now),
        p50=milliseconds(response.quantile(P50)),
        p95=milliseconds(response.quantile(P95)),
        p99=milliseconds(response.quantile(P99)),
        max=milliseconds(response.max) if response.count else None,
        lateness=milliseconds(lateness.quantile(P50)),
    )


def _recent_sockets(view: RunView, seconds: range) -> RecentSockets:
    rows = [row for step in view.steps for row in _within(step.rows, seconds)]
    found = [(row.second, row.sockets) for row in rows if row.sockets is not None]
    rates = ("opened", "closed", "messages_in", "messages_out")
    return RecentSockets(
        open=sum(sockets.open for second, sockets in found if second == seconds[-1]) if seconds else 0,
        **{name: sum(getattr(sockets, name) for _, sockets in found) / (len(seconds) or 1) for name in rates},
    )


def _within(rows: tuple[Row, ...], seconds: range) -> Iterator[Row]:
    """The rows of these seconds; they are the newest, so the search goes backwards."""
    for row in reversed(rows):
        if row.second < seconds.start:
            return
        if row.second < seconds.stop:
            yield row
