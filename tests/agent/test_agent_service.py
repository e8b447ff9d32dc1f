"""The edge, with real processes: from an offer on a queue to the Report of its end."""

from __future__ import annotations

import itertools
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from loads.workers.agent_state import Settings
from loads.workers.engine_pool import EnginePool
from loads.workers.engine_process import PidFiles
from loads.workers.service import Service

from loads_queue import codec
from loads_queue.files import FileStore
from loads_queue.messages import (
    REPORTS,
    ClaimOrder,
    ClaimReport,
    Control,
    Echo,
    End,
    Hello,
    Report,
    control_queue,
    steps_queue,
)
from tests.agent.memory_queue import MemoryQueue
from tests.agent.world import SECOND, USERS, offer

FAKE = str(Path(__file__).with_name("fake_engine.py"))
PATIENCE_S = 20
STEPS = steps_queue("any", "process")


def fake_program(name: str, reading: int, writing: int) -> list[str]:
    return [sys.executable, "-S", "-E", FAKE, name, "--in", str(reading), "--out", str(writing)]


class Cluster:
    """A service over a queue in memory, with a scheduler that grants and starts whatever is claimed."""

    def __init__(self, folder: Path, slots: int = 2) -> None:
        self.queue = MemoryQueue()
        self.queue.declare(REPORTS)
        self.reports: list[Report] = []
        self.revision = 0
        self.action: dict[str, Any] = {"action": "run"}
        self.grants = True
        ids = itertools.count(1)
        self.pids = PidFiles(folder / "engines")
        settings = Settings("w1", "life1", Hello("0", "host", 1), slots, lambda: f"claim{next(ids)}", leave_wait_ns=0)
        self.files = FileStore(folder / "files")
        self.environ = dict(os.environ)
        self.service = Service(
            settings,
            self.queue,
            lambda tell: EnginePool("w1", self.files, self.pids, self.environ, tell, fake_program),
        )
        self.ready = False
        self.running = gevent.spawn(self.service.run, self._ready)
        self.scheduler = gevent.spawn(self._schedule)

    def _ready(self) -> None:
        self.ready = True

    def _schedule(self) -> None:
        while True:
            while self.queue.bodies[REPORTS]:
                report = codec.decode(self.queue.bodies[REPORTS].pop(0), REPORTS).message
                assert isinstance(report, Report)
                self.reports.append(report)
                self.answer(report)
            gevent.sleep(0.003)

    def answer(self, report: Report) -> None:
        self.revision += 1
        now = time.time_ns()
        orders = tuple(
            ClaimOrder(
                claim.claim, claim.run, claim.step, claim.shard, claim.attempt,
                "granted" if self.grants else "refused", start_at=now + SECOND // 5, **self.action,
            )
            for claim in report.claims
        )  # fmt: skip
        echo = Echo(report.sequence, report.sent_at, now, now)
        control = Control(f"c{self.revision}", "w1", "life1", 1, self.revision, report.sequence, orders, echo=echo)
        name = control_queue("w1")
        self.queue.send(name, [codec.encode(control, name, now)])

    def offer(self, ident: str = "offer", **changes: Any) -> None:
        self.queue.send(STEPS, [codec.encode(offer(ident, **changes), STEPS, 0)])

    def until(self, what: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not what():
            assert time.monotonic() < deadline, self.reports[-3:]
            gevent.sleep(0.003)

    def claims(self) -> list[ClaimReport]:
        return [claim for report in self.reports for claim in report.claims]

    def ends(self) -> list[End]:
        return [claim.end for claim in self.claims() if claim.end]

    def close(self) -> None:
        self.service.terminate(at_once=True)
        self.running.join(PATIENCE_S)
        self.scheduler.kill()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    found = Cluster(tmp_path)
    found.until(lambda: found.ready)
    yield found
    found.close()


def test_an_offer_becomes_a_run_and_its_report(cluster: Cluster) -> None:
    cluster.offer(load=USERS, spec={"last": 5})
    cluster.until(cluster.ends)
    end = cluster.ends()[0]
    # The engine has the start and a permit, in whatever order they were published.
    assert end.cause == "finished" and {"start", "permit"} <= set(end.detail.split())
    rows = {row["second"]: row for claim in cluster.claims() for row in claim.rows}
    assert rows[0]["started"] == 1
    states = [claim.state for claim in cluster.claims()]
    assert states[0] == "claimed" and {"preparing", "running"} <= set(states) and states[-1] == "ended"
    assert len(cluster.queue.consumers[STEPS].acked) == 1
    cluster.until(lambda: not list(cluster.pids.folder.iterdir()))


def test_a_missing_secret_fails_the_claim_and_frees_the_slot(cluster: Cluster) -> None:
    cluster.offer(spec={"url": "${secret.NOT_SET_ANYWHERE}"})
    cluster.until(cluster.ends)
    end = cluster.ends()[0]
    assert end.cause == "failed" and "LOADS_SECRET_NOT_SET_ANYWHERE" in end.detail
    cluster.until(lambda: cluster.reports[-1].free == 2)


def test_a_secret_that_an_engine_prints_does_not_travel(cluster: Cluster) -> None:
    cluster.environ["LOADS_SECRET_TOKEN"] = "hush-hush"
    cluster.offer(spec={"do": "blab", "header": "${secret.TOKEN}"})
    cluster.until(cluster.ends)
    assert cluster.ends()[0].output == "I know (secret)\n"


def test_files_of_an_offer_are_there_for_its_engine(cluster: Cluster) -> None:
    cluster.offer(spec={"do": "fail"}, files={"data.csv": cluster.files.put(b"name\n")})
    cluster.until(cluster.ends)
    assert cluster.ends()[0].detail == "this can't be run"


def test_a_file_that_is_not_here_fails_the_claim(cluster: Cluster) -> None:
    cluster.offer(files={"data.csv": "0" * 64})
    cluster.until(cluster.ends)
    assert cluster.ends()[0].cause == "failed" and "0" * 64 in cluster.ends()[0].detail


def test_a_crash_is_reported_with_its_output(cluster: Cluster) -> None:
    cluster.offer(spec={"do": "crash"})
    cluster.until(cluster.ends)
    end = cluster.ends()[0]
    assert end.cause == "crashed" and "status 1" in end.detail and "RuntimeError: boom" in end.output


def test_an_engine_that_is_stuck_is_ended_when_stopped(cluster: Cluster) -> None:
    cluster.offer(spec={"do": "hang"})
    cluster.until(lambda: any(claim.state == "running" for claim in cluster.claims()))
    cluster.action = {"action": "stop", "stop_grace_ns": 0}
    cluster.until(cluster.ends)
    end = cluster.ends()[0]
    assert end.cause == "crashed" and "KILL" in end.detail


def test_a_refused_claim_starts_no_process(cluster: Cluster) -> None:
    cluster.grants = False
    cluster.offer()
    cluster.until(lambda: any(report.claims for report in cluster.reports))
    cluster.until(lambda: not cluster.reports[-1].claims and cluster.reports[-1].free == 2)
    assert not cluster.service.engines.pids()


def test_garbage_on_its_queues_is_dropped(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "loads.worker"):
        for name in (STEPS, control_queue("w1")):
            cluster.queue.send(name, ["{nonsense"])
            cluster.queue.send(name, [codec.encode(cluster.reports[0], name, 0)] if cluster.reports else [])
        cluster.offer(load=USERS, spec={"last": 1})
        cluster.until(cluster.ends)
    assert "dropped" in caplog.text and cluster.ends()[0].cause == "finished"


def test_it_works_on_through_an_outage_of_the_broker(cluster: Cluster) -> None:
    cluster.offer(load=USERS, spec={"every": 0.02})
    cluster.until(lambda: any(claim.rows for claim in cluster.claims()))
    cluster.queue.down = True
    before = len(cluster.reports)
    gevent.sleep(0.6)
    cluster.queue.down = False
    cluster.queue.consumers[control_queue("w1")].changed.set()
    cluster.until(lambda: len(cluster.reports) > before)
    sequences = [report.sequence for report in cluster.reports]
    cluster.action = {"action": "stop", "stop_grace_ns": 0}
    cluster.until(cluster.ends)
    assert sequences == sorted(sequences) and cluster.ends()[0].cause == "stopped"


def test_told_to_end_it_stops_its_engines_says_goodbye_and_returns_0(cluster: Cluster) -> None:
    cluster.offer(load=USERS, spec={"every": 0.02})
    cluster.until(lambda: any(claim.rows for claim in cluster.claims()))
    cluster.service.terminate()
    cluster.until(lambda: cluster.running.ready())
    assert cluster.running.get() == 0
    cluster.until(lambda: cluster.reports[-1].leaving)
    assert cluster.ends()[0].cause == "lapsed" and not cluster.service.engines.pids()


def test_told_to_end_at_once_it_leaves_no_process(cluster: Cluster) -> None:
    cluster.offer(spec={"do": "hang"})
    cluster.until(lambda: any(claim.state == "running" for claim in cluster.claims()))
    [pid] = cluster.service.engines.pids()
    cluster.service.terminate(at_once=True)
    cluster.until(lambda: cluster.running.ready())
    assert cluster.running.get() == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_what_breaks_inside_ends_the_service_with_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(tmp_path)
    cluster.until(lambda: cluster.reports)

    def broken(*_: object) -> str:
        raise ValueError("a fault of ours")

    monkeypatch.setattr("loads.workers.service.codec.encode", broken)
    cluster.running.join(PATIENCE_S)
    cluster.scheduler.kill()
    assert isinstance(cluster.running.exception, ValueError)
