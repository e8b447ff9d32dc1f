"""The engines that a plan knows, by the key of a step that asks for each, and what a plan must know of their parts.

All of them have ``timeout_ns``, ``tls`` and ``data`` in their normalised JSON, and actions (``plan_actions``) under
``do``, and under ``before`` where they have that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from . import plan_http, plan_websocket
from .plan_actions import all_actions
from .plan_fields import At, Fields
from .problems import Path


class PlanEngine(NamedTuple):
    """How one engine's part of a step is read, and what is in it then."""

    doc: str
    table: Fields
    read: Callable[[object, dict[str, Any] | None, At], dict[str, Any] | None]
    """From the raw part, the normalised data of the step, and the place, to the normalised part; None: reported."""
    series: Callable[[Mapping[str, Any]], list[str]]
    """The names of what a normalised part measures as requests, in the plan's order."""
    files_in: Callable[[Mapping[str, Any]], tuple[Path, list[str]]]
    """The files that a normalised action sends, and where below the action the plan names them."""


ENGINES = {
    "http": PlanEngine(
        "What: HTTP requests.", plan_http.HTTP, plan_http.read_http, plan_http.series_of, plan_http.files_in
    ),
    "websocket": PlanEngine(
        "What: WebSocket sessions.",
        plan_websocket.WEBSOCKET,
        plan_websocket.read_websocket,
        plan_websocket.series_of,
        plan_websocket.files_in,
    ),
}


def files_of(engine: str, spec: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of all files that a normalised part needs, each once."""
    names = [spec["tls"]["ca"], spec["tls"]["cert"], (spec["data"] or {}).get("file")]
    for action in all_actions(spec):
        names.extend(ENGINES[engine].files_in(action)[1])
    return tuple(dict.fromkeys(name for name in names if name is not None))
