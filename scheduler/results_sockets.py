"""What a run's sessions (WebSocket sockets) came to, as JSON-able values; nothing at all for runs without any.

How many were open is added up over workers and steps within a second, and never over seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from loads_queue.model.sockets import OTHER_CODE, SOCKET_COUNTS, Sockets
from loads_queue.model.summary import OTHER, Row

from .results_series import latency, per_second, span_of
from .view import RunView, StepView

TIMELINE_SOCKET_KEYS = ("sockets_open", "sockets_opened", "sockets_closed", "messages_in", "messages_out")
_RATES = ("opened", "closed", "messages_in", "messages_out", "bytes_in", "bytes_out")


def merged_sockets(rows: Iterable[Row]) -> Sockets | None:
    """The sockets of all rows, ``open`` the most of any second; None where no row has any."""
    found: Sockets | None = None
    at_once: Counter[int] = Counter()
    for row in rows:
        if row.sockets is not None:
            found = found or Sockets()
            found.add(row.sockets)
            at_once[row.second] += row.sockets.open
    if found is not None:
        found.open = max(at_once.values())
    return found


def sockets_summary(view: RunView, steps: Sequence[StepView]) -> dict[str, Any]:
    """``sockets`` of these steps, as the summary has it; empty where none of them has any.

    Rates are over the time in which those that have sockets made their load: from the first begin to the last end.
    """
    holding = [step for step in steps if has_sockets(step)]
    found = merged_sockets(row for step in holding for row in step.rows)
    if found is None:
        return {}
    spans = [span_of(view, step) for step in holding]
    span_ns = max(end for _, end in spans) - min(begin for begin, _ in spans)
    return {"sockets": _summary(found, span_ns)}


def _summary(found: Sockets, span_ns: int) -> dict[str, Any]:
    failures = sorted(found.failures.items(), key=lambda item: (-item[1], item[0]))
    return {
        "opened": found.opened,
        "closed": found.closed,
        "open_at_end": found.opened - found.closed,
        "most_open": found.open,
        **{name: getattr(found, name) for name in SOCKET_COUNTS if name not in ("opened", "closed")},
        "rates": {name: per_second(getattr(found, name), span_ns) for name in _RATES},
        "ping": latency(found.ping),
        "lifetime": {key: None if ms is None else ms / 1000 for key, ms in latency(found.lifetime).items()},
        "codes": {OTHER if code == OTHER_CODE else str(code): found.codes[code] for code in sorted(found.codes)},
        "failures": [{"message": message, "count": count} for message, count in failures],
    }


def has_sockets(step: StepView) -> bool:
    """Whether a step holds sessions open, as far as its rows have told."""
    return any(row.sockets is not None for row in step.rows)


def timeline_sockets(rows: Iterable[Row]) -> Mapping[str, int]:
    """The columns of a second in the timeline of a run with sessions; ``rows`` are those of its steps."""
    found = [row.sockets for row in rows if row.sockets is not None]
    names = ("open", "opened", "closed", "messages_in", "messages_out")
    sums = (sum(getattr(sockets, name) for sockets in found) for name in names)
    return dict(zip(TIMELINE_SOCKET_KEYS, sums, strict=True))
