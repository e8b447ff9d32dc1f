"""What goes wrong, as problem details (``application/problem+json``, RFC 9457)."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from flask import Flask, Response
from sqlalchemy.exc import DBAPIError
from werkzeug.exceptions import HTTPException
from werkzeug.http import HTTP_STATUS_CODES

from loads_queue.files import FileStoreError
from loads_queue.model.problems import PlanError, Problem

MEDIA_TYPE = "application/problem+json"

log = logging.getLogger("loads.api")


class Refused(Exception):
    """A request that can't be answered as asked: its status, what is wrong, and each problem where there are many."""

    def __init__(self, status: int, detail: str, problems: Iterable[Problem] = (), **headers: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.problems = tuple(problems)
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def answer(
    status: int, detail: str, problems: Iterable[Problem] = (), headers: Mapping[str, str] | None = None
) -> Response:
    """A problem as a response."""
    title = HTTP_STATUS_CODES.get(status, "Error")
    body: dict[str, Any] = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    if listed := [{"path": each.path, "message": each.message} for each in problems]:
        body["problems"] = listed
    return Response(json.dumps(body) + "\n", status, dict(headers or {}), content_type=MEDIA_TYPE)


def register(app: Flask) -> None:
    """Have an application answer every failure so."""
    app.register_error_handler(Refused, lambda error: answer(error.status, error.detail, error.problems, error.headers))
    app.register_error_handler(PlanError, lambda error: answer(422, _counted(error), error.problems))
    app.register_error_handler(RecursionError, lambda _: answer(400, "the body is nested too deep"))
    app.register_error_handler(FileStoreError, lambda error: answer(500, str(error)))
    app.register_error_handler(DBAPIError, _database)


def from_http(error: HTTPException) -> Response:
    """Werkzeug's and Flask-Smorest's own exceptions."""
    status = error.code or 500
    if status >= 500:
        return answer(status, "something went wrong here; the scheduler's log has the details")
    data = getattr(error, "data", None) or {}
    problems = list(_of_messages((), data.get("messages") or {}))
    if problems:
        return answer(status, f"{len(problems)} problem{'' if len(problems) == 1 else 's'} in the request", problems)
    methods = getattr(error, "valid_methods", None)
    allow = {"Allow": ", ".join(sorted(methods))} if methods else None
    return answer(status, error.description or "", headers=allow)


def _counted(error: PlanError) -> str:
    count = len(error.problems)
    return f"the plan has {count} problem{'' if count == 1 else 's'}"


def _database(error: DBAPIError) -> Response:
    log.error("database: %s", error.orig)
    return answer(503, "the database can't be read just now; try again", headers={"Retry-After": "1"})


def _of_messages(path: tuple[str, ...], messages: Any) -> Iterable[Problem]:
    """Marshmallow's messages, which nest as the data does; the first level is the place (``json``, ``query``)."""
    if isinstance(messages, Mapping):
        for key, inner in messages.items():
            yield from _of_messages((*path, str(key)), inner)
    else:
        for message in messages if isinstance(messages, list) else [messages]:
            yield Problem(".".join(path[1:]), str(message))
