"""Runs as the store would show them, made by hand: rows and evidence in, the real ledger in between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st
from loads.scheduler.gaps import shard_gaps
from loads.scheduler.view import ClaimView, RunView, StepView

from loads_queue.model.ledger import SECOND, ClaimEvidence, ShardEvidence, shard_ledger
from loads_queue.model.profile import OpenLoad, RateStage
from loads_queue.model.summary import Row, Series

STARTED_AT = 1_700_000_000 * SECOND
OUTCOMES = ("ok", "failed", "interrupted", "dropped_in_flight", "dropped_late", "dropped_resource", "missed")


def open_load(rate: int = 10, seconds: int = 3) -> OpenLoad:
    """A constant rate with one stage called steady."""
    return OpenLoad((RateStage(Fraction(rate), Fraction(rate), seconds * SECOND, "steady"),))


def rows_of(outcomes: Sequence[tuple[str, int]], rate: int = 10, name: str = "GET /") -> tuple[Row, ...]:
    """A row a second for arrivals with these (outcome, nanoseconds taken), one request each."""
    rows: dict[int, Row] = {}
    for arrival, (outcome, taken) in enumerate(outcomes):
        row = rows.setdefault(arrival // rate, Row(arrival // rate))
        setattr(row, outcome, getattr(row, outcome) + 1)
        if outcome not in ("ok", "failed", "interrupted"):
            continue
        row.started, row.began, row.completed = row.started + 1, row.began + 1, row.completed + 1
        row.lateness.record(taken // 100)
        series = row.series.setdefault(name, Series())
        series.attempted += 1
        setattr(series, outcome, getattr(series, outcome) + 1)
        if outcome != "interrupted":
            row.iteration_response.record(taken)
            (series.response_ok if outcome == "ok" else series.response_failed).record(taken)
            series.service.record(taken // 2)
            series.answered += 1
            status = 200 if outcome == "ok" else 500
            series.statuses[status] = series.statuses.get(status, 0) + 1
            if outcome == "failed":
                series.errors["status 500"] = series.errors.get("status 500", 0) + 1
    return tuple(rows[second] for second in sorted(rows))


def step_view(
    rows: tuple[Row, ...], load: OpenLoad, name: str = "browse", index: int = 0, cause: str | None = "finished"
) -> StepView:
    """A step of one shard and one attempt, which ended with ``cause``."""
    claim = ClaimEvidence(
        attempt=1,
        first=0,
        next=sum(row.started + row.dropped + row.missed for row in rows),
        started=sum(row.started for row in rows),
        attempted=sum(series.attempted for row in rows for series in row.series.values()),
        cause=cause,
        rows=rows,
    )
    evidence = ShardEvidence("open", load.shard(0, 1), load.end_ns, claims=(claim,), over=cause is not None)
    view = ClaimView("c1", "local", 0, 1, "ended" if cause else "running", end_cause=cause)
    return StepView(name, index, "open", 1, load, rows=rows, ledger=shard_ledger(evidence), claims=(view,))


def taken_over() -> RunView:
    """Six seconds of 10 arrivals; the first worker is lost after 1.2 s, the second one is there from 3.5 s on."""
    load = open_load(10, 6)
    whole = rows_of([("ok", 500_000_000 if 10 <= arrival < 40 else 5_000_000) for arrival in range(60)])
    kept = [rows_of([("ok", 500_000_000)] * count)[0] for count in (2, 5)]
    first = (whole[0], replace(kept[0], second=1))
    second = (replace(kept[1], second=3), *whole[4:])
    dead = ClaimEvidence(
        1,
        0,
        permit_until_ns=1_800_000_000,
        bound_iterations=40,
        next=12,
        started=12,
        attempted=12,
        rows=first,
        dead=True,
    )
    heir = ClaimEvidence(2, 35, next=60, started=25, attempted=25, rows=second, cause="finished")
    evidence = ShardEvidence("open", load.shard(0, 1), load.end_ns, claims=(dead, heir), over=True)
    claims = (
        ClaimView("c1", "w1", 0, 1, "dead"),
        ClaimView("c2", "w2", 0, 2, "ended", end_cause="finished"),
    )
    ledger = shard_ledger(evidence)
    gaps = shard_gaps(evidence, claims, ledger, 6 * SECOND)
    rows = (*first, *second)
    return run_view(StepView("browse", 0, "open", 1, load, rows=rows, ledger=ledger, claims=claims, gaps=gaps))


def run_view(*steps: StepView, **more: object) -> RunView:
    """A run that is over."""
    given: dict[str, Any] = {"project": "shop", "plan": "evening", "owner": "ann", "state": "finished"}
    given |= {"started_at": STARTED_AT, "ended_at": STARTED_AT + 4 * SECOND}
    return RunView("r1", steps=steps, **(given | more))


def simple(outcomes: Sequence[str], rate: int = 10, taken: int = 5_000_000, **more: object) -> RunView:
    """A run of one step whose arrivals all took the same time."""
    load = open_load(rate, -(-len(outcomes) // rate))
    return run_view(step_view(rows_of([(outcome, taken) for outcome in outcomes], rate), load), **more)


outcomes = st.lists(st.tuples(st.sampled_from(OUTCOMES), st.integers(1, 10**12)), min_size=30, max_size=30)
"""What became of each of the 30 arrivals of ``open_load()``."""
