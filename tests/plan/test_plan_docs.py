"""The reference for users: its plans are right, and it has every key and default."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from loads.scheduler.jobs import check_jmespath
from loads.scheduler.planfile import parse_text

from loads_queue.model.names import FUNCTIONS
from loads_queue.model.plan import PLAN, STEP, load_plan
from loads_queue.model.plan_fields import Fields
from loads_queue.model.plan_http import ACTIONS, CHECK, DATA, HTTP
from loads_queue.model.plan_http_bodies import PART
from loads_queue.model.plan_http_net import DNS, TLS
from loads_queue.model.plan_load import LOAD, STAGE
from loads_queue.model.plan_websocket import WEBSOCKET
from loads_queue.model.plan_websocket_actions import ACTIONS as WEBSOCKET_ACTIONS
from loads_queue.model.plan_websocket_parts import CLOSE, CONTENT, EXPECTED, PING, REPLY
from loads_queue.model.template import FIXED_NAMES, WORKER_NAMES
from loads_queue.model.thresholds import METRICS

TEXT = (Path(__file__).parents[2] / "docs" / "plan-file.md").read_text()
PLANS = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
TABLES = [
    PLAN, STEP, LOAD, STAGE, HTTP, TLS, DNS, PART, CHECK, DATA, *ACTIONS.values(), WEBSOCKET, CLOSE, CONTENT, EXPECTED,
    PING, REPLY, *WEBSOCKET_ACTIONS.values(),
]  # fmt: skip


def documents() -> list[dict[str, Any]]:
    found = [parse_text(text)[0] for text in PLANS]
    return [plan for document in found for plan in document.get("plans", [document])]


@pytest.mark.parametrize("document", documents(), ids=lambda document: document["name"])
def test_its_plans_are_right(document: dict[str, Any]) -> None:
    assert load_plan(document, check_jmespath=check_jmespath).warnings == ()


@pytest.mark.parametrize("table", TABLES)
def test_every_key_is_in_it(table: Fields) -> None:
    missing = [key for key in table.fields if not re.search(rf"\b{key}\b", TEXT)]
    assert missing == []


@pytest.mark.parametrize("table", [PLAN, STEP, LOAD, HTTP, WEBSOCKET, DATA])
def test_every_default_is_in_it(table: Fields) -> None:
    for key, entry in table.fields.items():
        row = re.search(rf"^\| `{key}` \|(.*?)\|", TEXT, re.MULTILINE)
        if isinstance(entry.default, str | int) and not isinstance(entry.default, bool):
            assert row is not None, key
            assert f"`{entry.default}`" in row[1], key


@pytest.mark.parametrize("name", [*sorted(FIXED_NAMES), *sorted(WORKER_NAMES), *FUNCTIONS, *METRICS])
def test_every_name_and_metric_is_in_it(name: str) -> None:
    assert re.search(rf"(?<![\w.]){re.escape(name)}(?![\w])", TEXT)
