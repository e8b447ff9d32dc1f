"""``loads scheduler`` as a daemon: what it starts and ends, and what it survives."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_harness import COMMAND, PATIENCE_S, Cluster, count, plan_text, wait_for
from test_cluster import read_until

from loads_queue.queue import find_broker


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Nothing yet."""
    made = Cluster(tmp_path)
    try:
        yield made
    finally:
        made.close()


def answers(cluster: Cluster) -> bool:
    try:
        return cluster.get("/info") is not None
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_it_ends_in_order_with_all_that_it_started(cluster: Cluster) -> None:
    scheduler = cluster.scheduler()
    assert len(cluster.living()) == 3
    begun = time.monotonic()
    assert scheduler.end(signal.SIGINT) == 0
    assert time.monotonic() - begun < 6
    assert cluster.living() == []
    assert not (cluster.home / "server.json").exists() and not (cluster.home / "broker.json").exists()
    assert "Traceback" not in scheduler.log.read_text()
    refused = cluster.loads("status")
    assert refused.returncode == 4 and "loads scheduler" in refused.stderr


def test_a_kill_takes_its_children_along_and_the_run_goes_on_with_the_next(cluster: Cluster) -> None:
    listen = ("--listen", f"127.0.0.1:{free_port()}")
    scheduler = cluster.scheduler(*listen)
    token = cluster.address["token"]
    target = cluster.target("one", "two")
    plan = cluster.write("plan.yaml", plan_text(target, "{rate: 20, for: 8s}"))
    following = cluster.start("submit", plan, "--id", "r", "--out", "out")
    cluster.state("r", "running")
    workers = 2 * 2 + 2  # each with its engine, the target, and who follows
    scheduler.end(signal.SIGKILL)
    wait_for(lambda: len(cluster.living()) <= workers, 5)
    cluster.scheduler(*listen)
    assert cluster.address["token"] == token
    assert following.popen.wait(2 * PATIENCE_S) == 0, following.log.read_text()
    assert "waiting for the scheduler" in following.out.read_text()
    summary = json.loads((cluster.folder / "out" / "summary.json").read_text())
    assert summary["ledger"]["balanced"] and summary["ledger"]["planned"] == 160
    assert summary["requests"]["answered"] <= count(target) <= summary["requests"]["sent"]


def test_a_child_that_dies_comes_back_where_it_was(cluster: Cluster) -> None:
    scheduler = cluster.scheduler()
    before = cluster.address["url"], find_broker(cluster.home)
    for name in ("api", "broker"):
        child = cluster.child_of(scheduler, name)
        os.kill(child, signal.SIGKILL)
        wait_for(lambda name=name, child=child: cluster.child_of(scheduler, name) not in (0, child))  # type: ignore[misc]
        assert f"the {name} ended by itself (killed by SIGKILL); starting it again" in scheduler.log.read_text()
    wait_for(lambda: find_broker(cluster.home))
    wait_for(lambda: answers(cluster))
    assert cluster.loads("info").returncode == 0
    assert (cluster.address["url"], find_broker(cluster.home)) == before
    cluster.workers("one")
    wait_for(lambda: cluster.get("/info")["workers"] == 1)
    assert scheduler.end() == 0
    wait_for(lambda: len(cluster.living()) <= 1)


def test_what_cannot_be_used_is_told_in_a_line_and_leaves_nothing_running(cluster: Cluster) -> None:
    cluster.write("file", "")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        wrong = {
            f"can't listen on 127.0.0.1:{port}": (("--listen", f"127.0.0.1:{port}"), {}, 4),
            "Connection refused": (("--broker", "redis://127.0.0.1:9"), {}, 4),
            "set LOADS_HOME to a folder of yours": ((), {"LOADS_HOME": str(cluster.folder / "file")}, 4),
            "steps": (("--load", cluster.write("wrong.yaml", "steps: 1")), {}, 2),
        }
        started = [
            cluster.start(
                "scheduler", "--listen", "127.0.0.1:0", *args, env={"LOADS_HOME": f"{cluster.home}-{number}", **env}
            )
            for number, (args, env, _) in enumerate(wrong.values())
        ]
        for process, (words, (_, _, code)) in zip(started, wrong.items(), strict=True):
            assert (process.popen.wait(PATIENCE_S), process.out.read_text()) == (code, ""), process.log.read_text()
            assert words in process.log.read_text() and "Traceback" not in process.log.read_text()
    assert cluster.living() == []


def test_a_second_scheduler_on_the_same_home_stands_by(cluster: Cluster) -> None:
    first = cluster.scheduler()
    broker = find_broker(cluster.home)
    cluster.start("worker", "--slots", "2", "--name", "one").ready()
    plan = cluster.write("plan.yaml", plan_text(cluster.target(), "{rate: 20, for: 1s}"))
    second = cluster.start("scheduler", "--listen", "127.0.0.1:0")
    wait_for(lambda: "waiting for it to end" in second.log.read_text())
    assert not second.out.read_text()
    first.popen.kill()
    first.popen.wait()
    # The broker was the first one's own and went with it: the second one takes its place, where workers know it.
    second.ready()
    assert find_broker(cluster.home) == broker
    wait_for(lambda: cluster.json("info")["workers"] == 1)
    assert cluster.loads("submit", plan, "--quiet").returncode == 0


def test_what_a_person_reads_when_it_is_ready(cluster: Cluster) -> None:
    main, side = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "scheduler", "--listen", "127.0.0.1:0"], cwd=cluster.folder, env=cluster.env, stdin=side,
        stdout=side, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    os.close(side)
    try:
        shown = read_until(main, "started again.")
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
        os.close(main)
    assert cluster.living() == []
    assert "http://127.0.0.1:" in shown and f"LOADS_HOME={cluster.home} loads worker" in shown
    assert "loads submit plan.yaml" in shown and "loads status" in shown
    assert (cluster.home / "token").read_text().strip() not in shown
