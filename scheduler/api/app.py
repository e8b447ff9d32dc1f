"""The application: routes, guard, problem details; nothing is opened before the first request."""

from __future__ import annotations

from flask import Flask, request

from . import dead_letters, files, info, problems, projects, runs, steering
from .context import KEY, Context
from .guard import check
from .routes import ProblemApi

PREFIX = "/api/v1"
LARGEST_BODY = 8 << 20
"""Of JSON: a plan of the largest size, and what goes with it."""


def create_app(context: Context) -> Flask:
    """The API over a store, as a WSGI application."""
    app = Flask(__name__, static_folder=None)
    app.config.update(
        API_TITLE="Loads",
        API_VERSION="v1",
        OPENAPI_VERSION="3.0.3",
        OPENAPI_URL_PREFIX=PREFIX,
        OPENAPI_JSON_PATH="openapi.json",
        MAX_CONTENT_LENGTH=LARGEST_BODY,
    )
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.extensions[KEY] = context

    @app.before_request
    def guard() -> None:
        check(context.token, context.hosts)
        if request.endpoint == files.UPLOAD:
            request.max_content_length = files.LARGEST

    token = {"type": "http", "scheme": "bearer"}
    api = ProblemApi(
        app,
        spec_kwargs={
            "info": {"description": "The scheduler of a Loads cluster. Failures are application/problem+json."},
            "components": {"securitySchemes": {"token": token}},
            "security": [{"token": []}],
        },
    )
    for module in (runs, steering, info, projects, files, dead_letters):
        api.register_blueprint(module.routes.blueprint, url_prefix=PREFIX)
    problems.register(app)
    return app
