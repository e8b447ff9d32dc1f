"""The plan file's JSON Schema (draft 2020-12), made from the very tables that plans are read by.

It is for editors: what it refuses the validation refuses too, and the validation knows more.
"""

from __future__ import annotations

from typing import Any

from .plan import PLAN, STEP
from .plan_http import ACTIONS, DATA, HTTP
from .plan_load import LOAD

TITLE = "Loads plan file"


def json_schema() -> dict[str, Any]:
    """The schema of a file: a project with ``plans``, or one plan."""
    step = _with(STEP.schema(), load="load", http="http", data="data")
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
            "http": HTTP.schema(),
            "data": DATA.schema(),
            "action": {"anyOf": [_action(verb) for verb in ACTIONS]},
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


def _action(verb: str) -> dict[str, Any]:
    made = ACTIONS[verb].schema()
    return {**made, "required": sorted({verb, *made.get("required", [])})}


def _with(schema: dict[str, Any], **parts: str) -> dict[str, Any]:
    for key, name in parts.items():
        schema["properties"][key] = {
            "$ref": f"#/$defs/{name}",
            "description": schema["properties"][key]["description"],
        }
    return schema
