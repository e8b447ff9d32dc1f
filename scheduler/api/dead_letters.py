"""Messages that could not be taken in: kept with the reason, to be looked at, tried again or dropped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .context import here
from .problems import Refused
from .routes import Routes
from .schemas import BriefLetterSchema, DeadLetterSchema, DeadLettersSchema, PageSchema, WhoSchema

routes = Routes("dead letters", "Messages that could not be taken in.")


@routes.add("GET", "/dead-letters", DeadLettersSchema, query=PageSchema)
def list_letters(limit: int, offset: int) -> Mapping[str, Any]:
    """Dead letters, newest first, without their bodies."""
    return {"dead_letters": here().reader.dead_letters(limit, offset)}


@routes.add("GET", "/dead-letters/<int:ident>", DeadLetterSchema)
def letter(ident: int) -> Mapping[str, Any]:
    """One dead letter."""
    return _known(ident)


@routes.add("POST", "/dead-letters/<int:ident>/requeue", BriefLetterSchema, status=202, body=WhoSchema)
def requeue(ident: int, who: str) -> Mapping[str, Any]:
    """Have it put on its queue once more."""
    return _order(ident, "requeue", who)


@routes.add("DELETE", "/dead-letters/<int:ident>", BriefLetterSchema, status=202, query=WhoSchema)
def discard(ident: int, who: str) -> Mapping[str, Any]:
    """Have it deleted."""
    return _order(ident, "discard", who)


def _known(ident: int) -> Mapping[str, Any]:
    found = here().reader.dead_letter(ident) if ident < 1 << 62 else None
    if found is None:
        raise Refused(404, f"there is no dead letter {ident}")
    return found


def _order(ident: int, action: str, who: str) -> Mapping[str, Any]:
    found = _known(ident)
    here().reader.order("", action, {"id": ident}, who or "the API")
    return found
