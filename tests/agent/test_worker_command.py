"""``loads worker`` as a user starts it, over the real broker and with the real HTTP engine."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from loads_queue import codec
from loads_queue.messages import (
    REPORTS,
    ClaimOrder,
    ClaimReport,
    Control,
    Echo,
    End,
    Report,
    control_queue,
    steps_queue,
)
from loads_queue.queue import Consumer, Queue, connect
from tests.agent.file_server import FileServer
from tests.agent.world import SECOND, USERS, offer

LOADS = str(Path(sys.executable).with_name("loads"))
STEPS = steps_queue("any", "process")
PATIENCE_S = 30.0


class Process:
    """A command and what it printed; it is killed at the end of the test."""

    def __init__(self, folder: Path, *args: str, **environ: str) -> None:
        self.err = folder / f"{args[0]}.err"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("LOADS_")}
        with open(self.err, "ab") as err:
            self.process = subprocess.Popen(
                [LOADS, *args], env={**clean, **environ}, stdout=subprocess.PIPE, stderr=err, stdin=subprocess.PIPE
            )

    def ready(self) -> dict[str, Any]:
        stdout = self.process.stdout
        assert isinstance(stdout, IO) or stdout is not None
        line: dict[str, Any] = json.loads(stdout.readline() or "{}")
        assert line, self.err.read_text()
        return line

    def end(self) -> int:
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdout, self.process.stdin):
            if pipe is not None:
                pipe.close()


class Scheduler:
    """Grants and starts what a worker claims."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        for name, visibility in ((REPORTS, 20), (STEPS, 10)):
            queue.declare(name, visibility)
        self.consumer: Consumer = queue.consume(REPORTS, 100)
        self.reports: list[Report] = []
        self.action: dict[str, Any] = {"action": "run"}
        self.revision = 0
        self.lease_ttl_ns = 10 * SECOND
        self.answers = True

    def offer(self, **changes: Any) -> None:
        self.queue.send(STEPS, [codec.encode(offer("offer", **changes), STEPS, 0)])

    def until(self, what: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + PATIENCE_S
        while not (found := what()):
            assert time.monotonic() < deadline, self.reports[-2:]
            for delivery in self.consumer.receive(1.0):
                report = codec.decode(delivery.body, REPORTS).message
                assert isinstance(report, Report)
                self.reports.append(report)
                self.consumer.ack([delivery])
                if self.answers:
                    self.answer(report)
        return found

    def answer(self, report: Report) -> None:
        self.revision += 1
        now = time.time_ns()
        orders = tuple(
            ClaimOrder(
                claim.claim, claim.run, claim.step, claim.shard, claim.attempt, "granted", start_at=now + SECOND // 2,
                **self.action,
            )
            for claim in report.claims
        )  # fmt: skip
        control = Control(
            f"c{self.revision}", report.worker, report.incarnation, 1, self.revision, report.sequence, orders,
            lease_ttl_ns=self.lease_ttl_ns,
            echo=Echo(report.sequence, report.sent_at, now, now),
        )  # fmt: skip
        name = control_queue(report.worker)
        self.queue.send(name, [codec.encode(control, name, now)])

    def claims(self) -> list[ClaimReport]:
        return [claim for report in self.reports for claim in report.claims]

    def end(self) -> End | None:
        return next((claim.end for claim in self.claims() if claim.end), None)


@pytest.fixture(scope="module")
def broker_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("broker")
    process = Process(folder, "broker", "--data", str(folder))
    yield process
    process.close()


@pytest.fixture(scope="module")
def broker(broker_process: Process) -> str:
    found: str = broker_process.ready()["url"]
    return found


@pytest.fixture
def scheduler(broker: str, request: pytest.FixtureRequest) -> Iterator[Scheduler]:
    queue = connect(broker, prefix="loads-")
    yield Scheduler(queue)
    queue.delete(STEPS)
    queue.delete(REPORTS)
    queue.close()


@pytest.fixture
def start(broker: str, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    found: list[Process] = []

    def start(*args: str, **environ: str) -> Process:
        base = {"LOADS_HOME": str(tmp_path), "LOADS_BROKER": broker, "LOADS_NAME": "w1"}
        found.append(Process(tmp_path, "worker", *args, **{**base, **environ}))
        return found[-1]

    yield start
    for process in found:
        process.close()


@pytest.fixture
def refused() -> Iterator[str]:
    """An address at which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


def scenario(base_url: str) -> dict[str, Any]:
    check: dict[str, Any] = {"status": [[200, 399]], "body": None, "json": {}, "max_time_ns": None}
    request = {
        "type": "request", "method": "GET", "url": "/", "name": "GET /", "headers": [["X", "${secret.TOKEN}"]],
        "body": None, "auth": None, "timeout_ns": None, "check": check, "extract": [], "on_error": "continue",
    }  # fmt: skip
    pause = {"type": "pause", "low_ns": 20_000_000, "high_ns": 20_000_000}
    return {
        "base_url": base_url, "timeout_ns": SECOND, "headers": [], "tls": {"verify": True, "ca": None},
        "redirects": 5, "cookies": True, "auth": None, "before": [], "do": [request, pause], "data": None,
    }  # fmt: skip


def engines(worker: Process) -> list[int]:
    """The processes that a worker started."""
    children = Path(f"/proc/{worker.process.pid}/task/{worker.process.pid}/children")
    return [int(pid) for pid in children.read_text().split()]


def await_gone(pid: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return
        except OSError:
            return
        assert time.monotonic() < deadline
        time.sleep(0.01)


def await_true(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_shard_runs_from_offer_to_end_and_no_secret_is_shown(
    scheduler: Scheduler, start: Callable[..., Process], refused: str, tmp_path: Path
) -> None:
    worker = start("--slots", "2", "--log-format", "json", LOADS_SECRET_TOKEN="hush-hush")
    assert worker.ready() == {"worker": "w1", "slots": 2}
    scheduler.offer(load=USERS, spec=scenario(refused), graceful_stop_ns=SECOND)
    scheduler.until(lambda: sum(row.get("failed", 0) for claim in scheduler.claims() for row in claim.rows))
    scheduler.action = {"action": "stop", "stop_grace_ns": SECOND}
    end = scheduler.until(scheduler.end)
    assert end.cause == "stopped", end
    worker.process.send_signal(signal.SIGTERM)
    scheduler.until(lambda: scheduler.reports[-1].leaving)
    assert worker.end() == 0
    lines = [json.loads(line) for line in worker.err.read_text().splitlines()]
    assert any(line.get("run") == "run" and line.get("shard") == 0 for line in lines)
    texts = worker.err.read_text() + "".join(codec.encode(report, REPORTS, 0) for report in scheduler.reports)
    assert "hush-hush" not in texts and "embedded:" not in texts
    assert not list((tmp_path / "workers").iterdir())


def test_a_killed_worker_takes_its_engine_with_it_and_may_start_again(
    scheduler: Scheduler, start: Callable[..., Process], refused: str
) -> None:
    worker = start(LOADS_SECRET_TOKEN="x")
    worker.ready()
    scheduler.offer(load=USERS, spec=scenario(refused))
    scheduler.until(lambda: any(claim.state == "running" for claim in scheduler.claims()))
    [engine] = engines(worker)
    worker.process.kill()
    await_gone(engine)
    again = start(LOADS_SECRET_TOKEN="x")
    assert again.ready()["worker"] == "w1"


@pytest.mark.parametrize("name", ["w1", "another"])
def test_what_a_killed_worker_could_not_send_is_sent_by_the_next_one_here(
    scheduler: Scheduler, start: Callable[..., Process], broker_process: Process, refused: str, name: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    worker = start(LOADS_SECRET_TOKEN="x")
    worker.ready()
    scheduler.offer(load=USERS, spec=scenario(refused))
    scheduler.until(lambda: sum(row.get("failed", 0) for claim in scheduler.claims() for row in claim.rows))
    former = scheduler.reports[-1]
    broker_process.process.send_signal(signal.SIGSTOP)
    try:
        await_true(lambda: len(list(tmp_path.glob("workers/w1@*/spool/*/[0-9]*"))) >= 3)
        worker.process.kill()
        worker.end()
    finally:
        broker_process.process.send_signal(signal.SIGCONT)
    scheduler.reports.clear()
    again = start("--name", name, LOADS_SECRET_TOKEN="x")
    again.ready()
    scheduler.until(lambda: scheduler.reports[-1:] and scheduler.reports[-1].incarnation != former.incarnation)
    late, new = scheduler.reports[:-1], scheduler.reports[-1]
    assert new.worker == name and new.hello is not None
    assert {(report.worker, report.incarnation) for report in late} == {("w1", former.incarnation)}
    sequences = {report.sequence for report in late}
    assert len(sequences) >= 2 and sequences >= set(range(former.sequence + 2, max(sequences) + 1))
    assert any(row.get("failed") for report in late for claim in report.claims for row in claim.rows)
    scheduler.until(lambda: not list(tmp_path.glob("workers/*/spool/*/[0-9]*")))
    again.process.send_signal(signal.SIGTERM)
    assert again.end() == 0 and not list((tmp_path / "workers").iterdir())


def test_shards_are_handed_back_quickly_even_where_the_target_hangs(
    scheduler: Scheduler, start: Callable[..., Process]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        worker = start(LOADS_SECRET_TOKEN="x")
        worker.ready()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        spec = {**scenario(url), "timeout_ns": 60 * SECOND}
        scheduler.offer(load=USERS, spec=spec, graceful_stop_ns=30 * SECOND)
        scheduler.until(lambda: any(claim.totals.in_flight == 10 for claim in scheduler.claims()))
        worker.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        end = scheduler.until(scheduler.end)
        assert time.monotonic() - began < 3
        assert end.cause == "lapsed" and end.at_ns is not None
        last = next(claim for claim in scheduler.claims() if claim.end)
        assert last.totals.in_flight == 0 and last.totals.started == 10
        scheduler.until(lambda: scheduler.reports[-1].leaving)
        assert worker.end() == 0


def test_a_worker_that_stood_still_for_a_lease_starts_nothing_before_the_scheduler_has_said_so(
    scheduler: Scheduler, start: Callable[..., Process]
) -> None:
    scheduler.lease_ttl_ns = 4 * SECOND
    with FileServer({}) as target:
        worker = start(LOADS_SECRET_TOKEN="x")
        worker.ready()
        scheduler.offer(load=USERS, spec=scenario(target.url))
        scheduler.until(lambda: len(target.asked) > 50)
        worker.process.send_signal(signal.SIGSTOP)
        time.sleep(4.5)
        asked, heard = len(target.asked), len(scheduler.reports)
        scheduler.answers = False
        worker.process.send_signal(signal.SIGCONT)
        scheduler.until(lambda: any(report.hello for report in scheduler.reports[heard + 1 :]))
        time.sleep(0.5)
        assert len(target.asked) == asked
        scheduler.answers = True
        scheduler.answer(scheduler.reports[-1])
        scheduler.until(lambda: len(target.asked) > asked)


def test_an_engine_that_stood_still_over_its_permits_end_is_gone_and_reported(
    scheduler: Scheduler, start: Callable[..., Process]
) -> None:
    scheduler.lease_ttl_ns = 4 * SECOND
    with FileServer({}) as target:
        worker = start(LOADS_SECRET_TOKEN="x")
        worker.ready()
        scheduler.offer(load=USERS, spec=scenario(target.url))
        scheduler.until(lambda: len(target.asked) > 50)
        [engine] = engines(worker)
        os.kill(engine, signal.SIGSTOP)
        time.sleep(0.5)
        asked = len(target.asked)
        end = scheduler.until(scheduler.end)
        assert end.cause == "crashed" and "stood still" in end.detail
        await_gone(engine)
        assert len(target.asked) == asked


def test_a_second_signal_leaves_at_once(scheduler: Scheduler, start: Callable[..., Process]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        worker = start(LOADS_SECRET_TOKEN="x")
        worker.ready()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        scheduler.offer(load=USERS, spec=scenario(url), graceful_stop_ns=30 * SECOND)
        scheduler.until(lambda: any(claim.totals.in_flight == 10 for claim in scheduler.claims()))
        [engine] = engines(worker)
        worker.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        worker.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert worker.end() == 0 and time.monotonic() - began < 4
        await_gone(engine)


def test_a_worker_with_nothing_to_do_drains(scheduler: Scheduler, start: Callable[..., Process]) -> None:
    began = time.monotonic()
    worker = start("--drain-after", "1s")
    worker.ready()
    scheduler.until(lambda: scheduler.reports and scheduler.reports[-1].leaving)
    assert worker.end() == 0 and time.monotonic() - began > 1


def test_files_are_fetched_from_the_scheduler_and_kept(
    scheduler: Scheduler, start: Callable[..., Process], refused: str, tmp_path: Path
) -> None:
    content = json.dumps(scenario(refused)).encode()
    digest = hashlib.sha256(content).hexdigest()
    with FileServer({digest: content}, "let-me-in") as server:
        worker = start("--server", server.url, LOADS_SECRET_TOKEN="x", LOADS_TOKEN="let-me-in")
        worker.ready()
        scheduler.offer(load=USERS, spec=None, spec_digest=digest)
        scheduler.until(lambda: any(claim.state == "running" for claim in scheduler.claims()))
        assert server.asked == [f"/api/v1/files/{digest}"]
    assert (tmp_path / "files" / digest[:2] / digest).read_bytes() == content


def test_the_end_of_the_parent_ends_worker_and_engine(
    scheduler: Scheduler, start: Callable[..., Process], refused: str
) -> None:
    worker = start("--parent-fd", "0", LOADS_SECRET_TOKEN="x")
    worker.ready()
    scheduler.offer(load=USERS, spec=scenario(refused))
    scheduler.until(lambda: any(claim.state == "running" for claim in scheduler.claims()))
    [engine] = engines(worker)
    assert worker.process.stdin is not None
    worker.process.stdin.close()
    began = time.monotonic()
    assert worker.end() == 0 and time.monotonic() - began < 5
    await_gone(engine)


def test_a_second_worker_of_the_same_name_is_refused(scheduler: Scheduler, start: Callable[..., Process]) -> None:
    start().ready()
    second = start()
    assert second.end() == 2 and "a worker named w1 runs here already" in second.err.read_text()


def test_without_a_broker_it_says_what_to_do(start: Callable[..., Process]) -> None:
    worker = start(LOADS_BROKER="")
    assert worker.end() == 4 and "loads: no broker: give --broker URL" in worker.err.read_text()


def test_a_broker_that_is_not_there_is_said_to_be_away(start: Callable[..., Process], refused: str) -> None:
    worker = start(LOADS_BROKER=refused.replace("http://", "sqs://x:y@") + "//")
    assert worker.end() == 4
    text = worker.err.read_text()
    assert "is it up" in text and "Traceback" not in text


def test_a_name_that_would_leave_its_folder_is_refused(start: Callable[..., Process]) -> None:
    worker = start("--name", "../../x")
    assert worker.end() == 2 and "not a worker's name" in worker.err.read_text()
