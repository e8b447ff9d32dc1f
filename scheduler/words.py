"""Numbers, times and foreign text as people read them in a terminal."""

from __future__ import annotations

from loads_queue.model.ledger import Columns, Requests


def clean(text: str, longest: int = 200) -> str:
    """Text that came from elsewhere, on one line, without anything that a terminal could take for an order."""
    shown = "".join(
        char if char.isprintable() else " " if char in "\t\r\n" else "\N{REPLACEMENT CHARACTER}" for char in text
    )
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"


def count(number: int) -> str:
    """12,345."""
    return f"{number:,}"


def rate(number: float) -> str:
    """A rate a second with three or more digits: 0.05, 49.8, 1,234."""
    if number >= 100 or number == 0:
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 10 else f"{number:.2f}"


def percent(part: float | None) -> str:
    """A ratio as a percentage, - where there is none; what is not quite nothing or everything is not shown as that."""
    if part is None:
        return "-"
    if 0 < part < 0.0001:
        return "<0.01%"
    if 0.9999 < part < 1:
        return ">99.99%"
    return f"{part * 100:.2f}%" if 0 < part < 0.1 else f"{part * 100:.4g}%"


def latency(ms: float | None) -> str:
    """Milliseconds, with a unit that fits; - where there is none."""
    if ms is None:
        return "-"
    if ms < 1:
        return f"{ms * 1000:.0f}us"
    if ms < 10:
        return f"{ms:.2f}ms"
    if ms < 1000:
        return f"{ms:.0f}ms" if ms >= 100 else f"{ms:.1f}ms"
    return f"{ms / 1000:.2f}s" if ms < 10_000 else f"{ms / 1000:.1f}s"


def size(number: int) -> str:
    """Bytes, in units of 1,000."""
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"


def clock(seconds: float) -> str:
    """A duration as 0:05, 1:02 or 1:00:00."""
    whole = max(0, int(seconds))
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def seconds(number: float) -> str:
    """A time in the schedule, or a length of it: 3.5s, 75s, 1:02:05."""
    if number >= 600:
        return clock(number)
    return f"{number:.1f}s" if number < 60 and number != int(number) else f"{number:.0f}s"


def factor(number: float) -> str:
    """What a load was set to, in the plan's own measure."""
    if number == 0:
        return "paused"
    return "as planned" if number == 1 else f"x {number:.4g}"


CAUSES = {
    "silent": "went silent",
    "crashed": "lost its engine",
    "lapsed": "left",
    "failed": "could not start",
    "no_permit": "was kept from working",
    "reopening": "opened its sessions again",
}


def gap_cause(cause: str) -> str:
    """Why there is a gap, as the end of a sentence about the worker."""
    return CAUSES.get(cause) or clean(cause, 40)


CLOSE_CODES = {
    "1000": "normal",
    "1001": "going away",
    "1002": "protocol error",
    "1003": "unsupported data",
    "1005": "no code",
    "1006": "no close frame",
    "1007": "invalid data",
    "1008": "policy violation",
    "1009": "too big",
    "1010": "no extension",
    "1011": "server error",
    "1012": "service restart",
    "1013": "try again later",
    "1014": "bad gateway",
}
"""By RFC 6455, 7.4.1, and the registry that it founded."""


def close_code(code: str) -> str:
    """A WebSocket's close code, with what it means where that is known."""
    return f"{code} ({CLOSE_CODES[code]})" if code in CLOSE_CODES else clean(code, 40)


def planned_equation(columns: Columns) -> str:
    """The first equation of iterations, in numbers; surplus and what is to come only where there is any."""
    left = _terms(columns, "planned") + _terms(columns, "surplus", always=False)
    right = _terms(columns, "started", "dropped", "missed", "cancelled")
    return _equation(left, right + _terms(columns, "pending", always=False, called="to come"))


def started_equation(columns: Columns) -> str:
    """The second equation of iterations, in numbers."""
    return _equation(_terms(columns, "started"), _ends(columns))


def requests_equation(requests: Requests) -> str:
    """The equation of requests, in numbers."""
    return _equation(_terms(requests, "attempted"), _ends(requests))


def fold(equation: str, width: int) -> list[str]:
    """An equation on lines of at most this width where its terms allow it; further lines begin below the right side."""
    left, sign, right = equation.partition(" = ") if " = " in equation else equation.partition(" ≠ ")
    indent = " " * (len(left) + 1)
    lines = [f"{left}{sign}"]
    for number, term in enumerate(right.split(" + ")):
        part = f" + {term}" if number else term
        if number and len(lines[-1]) + len(part) > width:
            lines.append(f"{indent}{part[1:]}")
        else:
            lines[-1] += part
    return lines


Terms = list[tuple[int, str]]


def _ends(ledger: Columns | Requests) -> Terms:
    ends = _terms(ledger, "ok", "failed", "interrupted", "lost")
    return ends + _terms(ledger, "in_flight", always=False, called="in flight")


def _terms(ledger: object, *names: str, always: bool = True, called: str = "") -> Terms:
    return [(getattr(ledger, name), called or name) for name in names if always or getattr(ledger, name)]


def _equation(left: Terms, right: Terms) -> str:
    """Both sides in words, and whether they are equal."""
    sign = "=" if sum(number for number, _ in left) == sum(number for number, _ in right) else "≠"
    sides = (" + ".join(f"{number:,} {name}" for number, name in side) for side in (left, right))
    return f" {sign} ".join(sides)
