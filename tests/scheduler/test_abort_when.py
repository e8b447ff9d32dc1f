"""A run whose ``abort_when`` holds is ended by the scheduler itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loads_queue.messages import REPORTS, ClaimReport
from loads_queue.model.summary import Row, Series
from tests.scheduler.test_service import PLAN, Rig, job, report

SECOND = 1_000_000_000


def row(second: int, ok: int, failed: int) -> Any:
    found = Row(second, started=ok + failed, ok=ok, failed=failed)
    found.series["GET /"] = Series(attempted=ok + failed, answered=ok + failed, ok=ok, failed=failed)
    return found.to_wire()


@pytest.mark.parametrize(("failed", "ended"), [(1, False), (4, True)])
def test_it_is_judged_over_the_rows_that_came_in(tmp_path: Path, failed: int, ended: bool) -> None:
    rig = Rig(f"sqlite:///{tmp_path / 'loads.db'}")
    load = {"rate": 5, "for": "60s"}
    step = {**PLAN["steps"][0], "load": load}  # type: ignore[index]
    rig.arrive("jobs", job(plan={**PLAN, "abort_when": ["error_rate > 50% for 3s"], "steps": [step]}))
    rig.arrive(REPORTS, report(1))
    rig.turn()
    said = ClaimReport("c", "r1", "only", 0, 1, "claimed")
    rig.arrive(REPORTS, report(2, said))
    rig.turn()
    rig.arrive(REPORTS, report(3, ClaimReport("c", "r1", "only", 0, 1, "ready")))
    rig.turn()
    run = rig.service.cluster.runs["r1"]
    for second in range(9):
        rig.now = run.start_at + (second + 1) * SECOND
        rows = (row(second, 5 - failed, failed),)
        rig.arrive(REPORTS, report(4 + second, ClaimReport("c", "r1", "only", 0, 1, "running", second + 1, rows=rows)))
        rig.turn()
    assert (run.stop_at is not None) is ended
    assert (run.reason == "abort_when: error_rate > 50% for 3s") is ended
