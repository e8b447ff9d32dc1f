"""The API over a store of its own, with a scheduler whose turns the test takes one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flask import Flask
from loads.scheduler.api.app import create_app
from loads.scheduler.api.context import KEY, Context
from loads.scheduler.api.guard import names_of
from loads.scheduler.cluster import Claim, Run, Shard, Worker
from loads.scheduler.effects import Note, PutRows
from loads.scheduler.service import Service
from loads.scheduler.store import Store
from werkzeug.test import TestResponse

from loads_queue.files import FileStore
from loads_queue.messages import Clock, Hello, Totals
from loads_queue.model.plan import load_plan
from loads_queue.model.states import ClaimState, RunState, ShardState

TOKEN = "a-token-of-the-tests"
PREFIX = "/api/v1"
STEP = {
    "name": "only",
    "load": {"rate": 2, "for": "2s"},
    "http": {"base_url": "http://127.0.0.1:9", "do": [{"get": "/"}]},
}
PLAN = {"name": "evening", "steps": [STEP]}


class NoQueue:
    """A broker that takes everything and gives nothing."""

    def declare(self, name: str, visibility_s: int = 20) -> None: ...

    def send(self, name: str, bodies: Sequence[str]) -> None: ...


class Api:
    """An application, its store and its scheduler."""

    def __init__(
        self, folder: Path, listen: str = "127.0.0.1", hosts: tuple[str, ...] = (), app: Flask | None = None
    ) -> None:
        """``app`` is an application for the same names, whose last test is over; making one takes most of the time."""
        self.url = f"sqlite:///{folder / 'loads.sqlite3'}"
        self.now = 10**18
        self.store = Store(self.url)
        self.service = Service(self.store, NoQueue(), lambda: self.now)  # type: ignore[arg-type]
        self.service.start("here.1")
        self.files = FileStore(folder / "files")
        context = Context(self.url, self.files, TOKEN, names_of(listen, hosts), 10_000_000_000)
        self.app: Flask = app or create_app(context)
        self.app.extensions[KEY] = context
        self.client = self.app.test_client()

    def turn(self) -> None:
        """Have the scheduler take its next turn."""
        self.now += 100_000_000
        self.service._turn()

    def call(self, method: str, path: str, **more: Any) -> TestResponse:
        """A call with the token, below the prefix."""
        headers = {"Authorization": f"Bearer {TOKEN}", "Host": "127.0.0.1:8089", **more.pop("headers", {})}
        return self.client.open(PREFIX + path, method=method, headers=headers, **more)

    def get(self, path: str, **query: Any) -> Any:
        """What a GET answers, which must be 200."""
        response = self.call("GET", path, query_string=query)
        assert response.status_code == 200, response.text
        return response.json

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> TestResponse:
        """A POST of JSON."""
        return self.call("POST", path, json=dict(body or {}))

    def running(self, state: RunState = RunState.RUNNING, plan: Mapping[str, Any] = PLAN) -> None:
        """A run ``r1`` of one shard, of whose plan three quarters are done, on a worker ``w``."""
        cluster = self.service.cluster
        run = Run("r1", "shop", "evening", "ann", 0, plan, {}, {}, None, self.now)
        run.state, run.start_at, run.shards = state, self.now, (1,)
        shard = Shard("r1", 0, 0, ShardState.GRANTED, 1, claim="c1")
        claim = Claim("c1", "r1", 0, 0, 1, "w", "life", 0, self.now, self.now, state=ClaimState.RUNNING)
        claim.totals = Totals(next=3, started=3, attempted=3)
        claim.permit_until_ns, claim.bound_iterations, claim.bound_requests = 10**12, 100, 100
        worker = Worker("w", "life", Hello("1", "host", 1), 2, Clock(5, 6), last_report_at=self.now)
        cluster.plans["r1"] = load_plan(plan)
        cluster.runs["r1"], cluster.shards[shard.key] = run, shard
        cluster.claims["c1"], cluster.workers["w"] = claim, worker
        for thing in (run, shard, claim, worker):
            cluster.touch(thing)
        rows = tuple({"second": second, "started": count, "ok": count} for second, count in ((0, 2), (1, 1)))
        notes = [Note("r1", self.now, "submitted", "ann"), Note("r1", self.now + 1, "started on 1 workers")]
        self.store.commit(cluster, notes, [PutRows("r1", 0, 0, "c1", 1, rows)], [], ["job.r1"], [], self.now)


def problems(response: TestResponse) -> dict[str, str]:
    """The problems that a refusal lists, by path."""
    assert response.content_type == "application/problem+json"
    assert response.json is not None
    return {each["path"]: each["message"] for each in response.json.get("problems", ())}
