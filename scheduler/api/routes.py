"""Routes under Flask-Smorest, which checks what comes in, shapes what goes out and writes the OpenAPI document.

The one place that knows it: handlers are plain functions of keyword arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from flask import Request, Response
from flask_smorest import Api, Blueprint
from marshmallow import Schema
from webargs.flaskparser import FlaskParser
from werkzeug.exceptions import HTTPException

from loads_queue.model.problems import PlanError

from ..planfile import parse_text
from .problems import Refused, from_http

Handler = TypeVar("Handler", bound=Callable[..., Any])
SchemaLike = type[Schema] | Schema


class StrictParser(FlaskParser):
    """Bodies are JSON as plans are: no key twice, no NaN, UTF-8; said to be JSON, or empty."""

    def load_json(self, req: Request, schema: Any) -> Any:
        """The body's value; an empty one is an empty object. Raises Refused."""
        data = req.get_data(cache=False)
        if not data:
            return {}
        if req.max_content_length is not None and len(data) >= req.max_content_length:
            # A body that comes in chunks is cut off there, without a word.
            raise Refused(413, f"the body is longer than {req.max_content_length} bytes")
        if not req.is_json:
            raise Refused(415, "the body must be JSON: send it with `Content-Type: application/json`")
        try:
            value, _ = parse_text(data.decode(), is_json=True)
        except UnicodeDecodeError:
            raise Refused(400, "the body is not UTF-8") from None
        except PlanError as error:
            raise Refused(400, str(error)) from None
        if not isinstance(value, dict):
            raise Refused(400, "the body is no JSON object")
        return value


class _Blueprint(Blueprint):  # type: ignore[misc]
    ARGUMENTS_PARSER = StrictParser()


class ProblemApi(Api):  # type: ignore[misc]
    """Flask-Smorest's API, whose errors are problem details."""

    def handle_http_exception(self, error: HTTPException) -> Response:
        """Every exception that has a status."""
        return from_http(error)


class Routes:
    """A group of routes below ``/api/v1``."""

    def __init__(self, name: str, description: str) -> None:
        self.blueprint = _Blueprint(name, name, description=description)

    def add(
        self,
        method: str,
        rule: str,
        answer: SchemaLike | None = None,
        *,
        status: int = 200,
        body: SchemaLike | None = None,
        query: SchemaLike | None = None,
    ) -> Callable[[Handler], Handler]:
        """Decorate a handler; what ``body`` and ``query`` hold are its keyword arguments. Without ``answer`` it
        returns a whole response."""

        def decorate(handler: Handler) -> Handler:
            view: Any = handler
            if answer is not None:
                view = self.blueprint.response(status, answer)(view)
            if query is not None:
                view = self.blueprint.arguments(query, location="query", as_kwargs=True)(view)
            if body is not None:
                view = self.blueprint.arguments(body, as_kwargs=True)(view)
            self.blueprint.route(rule, methods=[method])(view)
            return handler

        return decorate
