"""The plan file's JSON Schema (draft 2020-12), made from the very tables that plans are read by.

It is for editors: what it refuses the validation refuses too, and the validation knows more.
"""

from __future__ import annotations

from typing import Any

from . import plan_http, plan_websocket_actions
from .plan import PLAN, STEP
from .plan_engines import ENGINES
from .plan_http import DATA
from .plan_load import LOAD

TITLE = "Loads plan file"


def json_schema() -> dict[str, Any]:
    """The schema of a file: a project with ``plans``, or one plan."""
    step = _with(STEP.schema(), "load", *ENGINES, "data")
    plan = PLAN.schema()
    plan["properties"]["steps"]["items"] = {"$ref": "#/$defs/step"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": TITLE,
        "type": "object",
        "if": {"required": ["plans"]},
        "then": {"$ref": "#/$defs/project"},
        "else": {"$ref": "#/$defs/plan"},
        "$defs": {
            "project": _project(),
            "plan": plan,
            "step": step,
            "load": LOAD.schema(),
            **{name: engine.table.schema() for name, engine in ENGINES.items()},
            "data": DATA.schema(),
            plan_http.ACTION.name: plan_http.ACTION.definition(),
            plan_websocket_actions.ACTION.name: plan_websocket_actions.ACTION.definition(),
        },
    }


def _project() -> dict[str, Any]:
    plans = {
        "type": "array",
        "minItems": 1,
        "items": {"$ref": "#/$defs/plan"},
        "description": "Plans, chosen by --plan.",
    }
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {"name": {"type": "string", "description": "The project's name."}, "plans": plans},
        "required": ["plans"],
    }


def _with(schema: dict[str, Any], *parts: str) -> dict[str, Any]:
    """A schema in which each of these keys leads to the definition of that name."""
    for key in parts:
        schema["properties"][key] = {"$ref": f"#/$defs/{key}", "description": schema["properties"][key]["description"]}
    return schema
