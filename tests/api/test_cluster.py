"""A cluster as people run it, with real processes: submit, watch, steer, abort, report; and who is not let in."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cluster_harness import COMMAND, PATIENCE_S, Cluster, count, plan_text, wait_for

from loads_queue import codec
from loads_queue.messages import Job
from loads_queue.queue import connect, find_broker

LONG = "{rate: 20, for: 60s}"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A scheduler and two workers."""
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        text = plan_text("http://127.0.0.1:9").replace("name: shop", "name: early").replace("evening", "dawn")
        plan = made.write("early.yaml", text)
        made.scheduler("--load", plan)
        made.workers("one", "two")
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def target(cluster: Cluster) -> str:
    """A demo target."""
    return cluster.target()


def submit(cluster: Cluster, target: str) -> str:
    """A long run that nobody follows, once it runs; its id."""
    (plan,) = yaml.safe_load(plan_text(target, LONG))["plans"]
    body = json.dumps({"plan": plan, "owner": "ann"})
    status, answer = cluster.http("POST", "/api/v1/runs", body, Content_Type="application/json")
    assert status == 201, answer
    run: str = json.loads(answer)["id"]
    cluster.state(run, "running", "finished")
    return run


class TestFollowing:
    def test_a_plan_with_a_file_from_submit_to_the_summary(self, cluster: Cluster, target: str) -> None:
        cluster.write("users.csv", "name\nann\nbob\n")
        text = plan_text(target, more="data: {file: users.csv}").replace("/echo", "/echo?name=${row.name}")
        before = count(target)
        done = cluster.loads("submit", cluster.write("plan.yaml", text), "--out", "out")
        assert done.returncode == 0, done.stderr
        assert "PASSED  40 planned, 40 ok, 0 failed, ledger balanced" in done.stdout
        summary = json.loads((cluster.folder / "out" / "summary.json").read_text())
        assert summary["ledger"]["balanced"] and summary["requests"]["answered"] == 40 == count(target) - before
        assert (cluster.folder / "out" / "timeline.csv").read_text().startswith("t,planned")
        run = summary["run"]["id"]
        assert cluster.json("report", run) == summary
        assert cluster.json("status", run)["verdict"] == "passed"

    def test_the_same_id_is_one_run(self, cluster: Cluster, target: str) -> None:
        plan = cluster.write("short.yaml", plan_text(target, "{rate: 20, for: 1s}"))
        before = count(target)
        for _ in range(2):
            done = cluster.loads("submit", plan, "--id", "nightly-1", "--detach")
            assert (done.returncode, done.stdout) == (0, "nightly-1\n")
        followed = cluster.loads("submit", plan, "--id", "nightly-1", "--quiet")
        assert followed.returncode == 0 and followed.stdout.startswith("PASSED"), followed.stderr
        assert count(target) - before == 20
        assert [run["id"] for run in cluster.json("status")["runs"]].count("nightly-1") == 1

    def test_a_threshold_that_fails_is_exit_code_1_here_and_in_the_report(self, cluster: Cluster, target: str) -> None:
        text = plan_text(target, "{rate: 10, for: 1s}", plan="thresholds: [requests > 1000]")
        done = cluster.loads("submit", cluster.write("strict.yaml", text), "--out", "strict")
        assert done.returncode == 1 and "FAILED" in done.stdout
        run = json.loads((cluster.folder / "strict" / "summary.json").read_text())["run"]["id"]
        assert cluster.loads("report", run, "--quiet").returncode == 1
        assert cluster.loads("watch", run).returncode == 1

    def test_ctrl_c_without_a_terminal_aborts(self, cluster: Cluster, target: str) -> None:
        plan = cluster.write("long.yaml", plan_text(target, LONG))
        process = cluster.start("submit", plan, "--id", "interrupted", "--out", "interrupted")
        cluster.state("interrupted", "running")
        begun = time.monotonic()
        assert process.end(signal.SIGINT) == 130
        assert time.monotonic() - begun < 10
        summary = json.loads((cluster.folder / "interrupted" / "summary.json").read_text())
        assert (summary["verdict"], summary["exit_code"]) == ("aborted", 130)
        assert summary["ledger"]["balanced"] and summary["ledger"]["cancelled"] > 1000

    def test_ctrl_c_in_a_terminal_asks_and_detaching_leaves_the_run_alone(self, cluster: Cluster, target: str) -> None:
        plan = cluster.write("asked.yaml", plan_text(target, LONG))
        main, side = pty.openpty()
        process = subprocess.Popen(
            [*COMMAND, "submit", plan, "--id", "asked"], cwd=cluster.folder, env={**cluster.env, "TERM": "xterm"},
            stdin=side, stdout=side, stderr=side, start_new_session=True,
        )  # fmt: skip
        os.close(side)
        try:
            shown = read_until(main, "running")
            process.send_signal(signal.SIGINT)
            shown += read_until(main, "[a]bort it, [d]etach from it, or Enter to go on?")
            os.write(main, b"\n")
            read_until(main, "started")
            process.send_signal(signal.SIGINT)
            read_until(main, "[d]etach")
            os.write(main, b"d\n")
            read_until(main, "loads watch asked")
            assert process.wait(PATIENCE_S) == 130
        finally:
            process.kill()
            process.wait()
            os.close(main)
        assert "Ctrl-C asks" in shown
        assert cluster.get("/runs/asked")["state"] == "running"
        cluster.abort("asked")

    def test_watching_ends_without_ending_the_run(self, cluster: Cluster, target: str) -> None:
        run = submit(cluster, target)
        process = cluster.start("watch", run)
        wait_for(lambda: "running" in process.out.read_text())
        assert process.end(signal.SIGINT) == 130
        assert f"detached; the run goes on: loads watch {run}" in process.out.read_text()
        assert cluster.get(f"/runs/{run}")["state"] == "running"
        assert cluster.json("watch", run)["now"]["ledger"]["failed"] == 0
        cluster.abort(run)


def read_until(descriptor: int, text: str) -> str:
    """What a terminal shows, until it shows that."""
    found = ""
    deadline = time.monotonic() + PATIENCE_S
    while text not in found:
        assert time.monotonic() < deadline, found
        if select.select([descriptor], [], [], 0.2)[0]:
            found += os.read(descriptor, 65536).decode(errors="replace")
    return found


class TestSteering:
    def test_abort_is_silence_and_an_account(self, cluster: Cluster, target: str) -> None:
        run = submit(cluster, target)
        assert "no summary yet" in cluster.loads("report", run).stderr
        done = cluster.loads("abort", run)
        assert done.returncode == 0 and "is being aborted" in done.stdout
        cluster.state(run, "finished")
        before = count(target)
        summary = json.loads(cluster.loads("report", run, "--json").stdout)
        assert summary["verdict"] == "aborted" and summary["ledger"]["balanced"] and summary["ledger"]["cancelled"]
        assert cluster.loads("report", run, "--quiet").returncode == 1
        assert count(target) == before
        assert "is over already" in cluster.loads("abort", run).stdout
        deleted = cluster.loads("delete", run)
        assert deleted.returncode == 0, deleted.stderr
        wait_for(lambda: cluster.get(f"/runs/{run}") is None)

    def test_pause_resume_adjust_are_told_with_who_asked(self, cluster: Cluster, target: str) -> None:
        run = submit(cluster, target)
        for args in (("pause", run), ("resume", run), ("adjust", run, "--factor", "150%", "--step", "browse")):
            done = cluster.loads(*args)
            assert done.returncode == 0, done.stderr
        wait_for(lambda: len([each for each in cluster.get(f"/runs/{run}/events")["events"] if each["who"]]) >= 4)
        refused = cluster.loads("adjust", run, "--factor", "fast", "--step", "nothing")
        assert (
            refused.returncode == 2 and "factor: not a factor" in refused.stderr and "step: no step" in refused.stderr
        )
        assert cluster.abort(run)["outcome"] == "aborted"
        assert cluster.loads("pause", run).returncode == 2

    def test_a_job_published_on_the_broker_itself(self, cluster: Cluster, target: str) -> None:
        broker = find_broker(cluster.home)
        assert broker is not None
        plan = cluster.write("short.yaml", plan_text(target, "{rate: 10, for: 1s}"))
        done = cluster.loads("submit", plan, "--broker", broker, "--id", "published")
        assert (done.returncode, done.stdout) == (0, "published\n")
        wait_for(lambda: cluster.get("/runs/published"))
        assert cluster.loads("watch", "published").returncode == 0
        cluster.write("users.csv", "name\nann\n")
        plan = cluster.write("filed.yaml", plan_text(target, more="data: {file: users.csv}"))
        done = cluster.loads("submit", plan, "--broker", broker)
        assert done.returncode == 2 and "users.csv" in done.stderr

    def test_a_stored_plan_is_run_by_a_job_on_the_broker_that_names_it(self, cluster: Cluster, target: str) -> None:
        broker = find_broker(cluster.home)
        assert broker is not None
        more, env = "data: {file: users.csv}", "env: {TARGET: 'http://127.0.0.1:1'}"
        text = plan_text("${TARGET}", "{rate: 10, for: 1s}", more, env).replace("evening", "night")
        cluster.write("users.csv", "name\nann\n")
        assert cluster.loads("plans", "--load", cluster.write("night.yaml", text)).returncode == 0
        before = count(target)
        named = ("--broker", broker, "--set", f"TARGET={target}", "--id", "named")
        done = cluster.loads("submit", "shop/night", *named)
        assert (done.returncode, done.stdout) == (0, "named\n"), done.stderr
        nowhere = Job("nowhere", plan_ref="shop/nothing")
        queue = connect(broker)
        queue.send("jobs", [codec.encode(nowhere, "jobs", time.time_ns())])
        queue.close()
        refused = cluster.state("nowhere", "finished")
        assert refused["outcome"] == "refused" and "no stored plan is called 'shop/nothing'" in refused["reason"]
        ended = cluster.state("named", "finished")
        assert (ended["project"], ended["plan"], ended["outcome"]) == ("shop", "night", "")
        assert count(target) - before == 10


class TestLooking:
    def test_the_cluster_at_a_glance(self, cluster: Cluster) -> None:
        found = cluster.json("info")
        assert (found["workers"], found["slots"], found["scheduler"]["acting"]) == (2, 2, True)
        assert [worker["name"] for worker in cluster.json("workers")["workers"]] == ["one", "two"]
        assert "2 of 2 slots free" in cluster.loads("info").stdout
        assert "one " in cluster.loads("workers").stdout

    def test_plans_are_stored_at_the_start(self, cluster: Cluster) -> None:
        assert "early/dawn" in [each["reference"] for each in cluster.get("/plans")["plans"]]

    def test_stored_plans_run_by_name(self, cluster: Cluster, target: str) -> None:
        cluster.write("users.csv", "name\nann\n")
        more = "data: {file: users.csv}"
        text = plan_text("${TARGET}", "{rate: 10, for: 1s}", more, "env: {TARGET: 'http://127.0.0.1:1'}")
        plan = cluster.write("stored.yaml", text)
        assert cluster.loads("plans", "--load", plan).stdout == "added shop/evening\n"
        assert cluster.loads("plans", "--load", plan).stdout == "kept shop/evening\n"
        assert "shop/evening" in cluster.loads("plans").stdout
        done = cluster.loads("submit", "evening", "--set", f"TARGET={target}", "--quiet")
        assert done.returncode == 0 and done.stdout.startswith("PASSED"), done.stderr
        missing = cluster.loads("submit", "nothing")
        assert missing.returncode == 2 and "shop/evening" in missing.stderr

    def test_dead_letters(self, cluster: Cluster) -> None:
        broker = find_broker(cluster.home)
        assert broker is not None
        queue = connect(broker)
        queue.declare("jobs")
        queue.send("jobs", ['{"no": "envelope"}'])
        queue.close()
        (letter,) = wait_for(lambda: cluster.get("/dead-letters")["dead_letters"])
        assert letter["queue"] == "jobs" and letter["reason"] in cluster.loads("dead-letters", "list").stdout
        assert '{"no": "envelope"}' in cluster.loads("dead-letters", "show", str(letter["id"])).stdout
        assert cluster.loads("dead-letters", "requeue", str(letter["id"])).returncode == 0
        # It fails again, and is a new one.
        (again,) = wait_for(lambda: [each for each in cluster.get("/dead-letters")["dead_letters"] if each != letter])
        assert cluster.loads("dead-letters", "delete", str(again["id"])).returncode == 0
        wait_for(lambda: not cluster.get("/dead-letters")["dead_letters"])

    def test_wrong_plans_are_refused_with_every_problem(self, cluster: Cluster) -> None:
        plan = cluster.write("wrong.yaml", plan_text("http://127.0.0.1:1", "{rate: fast, for: long}"))
        done = cluster.loads("submit", plan)
        assert done.returncode == 2
        assert "load.rate" in done.stderr and "load.for" in done.stderr and "line" in done.stderr
        body = json.dumps({"plan": {"name": "p", "steps": []}, "env": {"A": "b"}, "workers": 0})
        status, answer = cluster.http("POST", "/api/v1/runs", body, Content_Type="application/json")
        assert status == 422 and b'"path": "workers"' in answer


class TestWhoIsNotLetIn:
    def test_a_wrong_token(self, cluster: Cluster) -> None:
        done = cluster.loads("status", env={"LOADS_TOKEN": "wrong"})
        assert done.returncode == 2 and "token" in done.stderr and "Traceback" not in done.stderr
        assert cluster.http("GET", "/api/v1/info", Authorization="Bearer wrong")[0] == 401
        assert cluster.http("GET", "/api/v1/info", Authorization="")[0] == 401

    def test_a_wrong_host(self, cluster: Cluster) -> None:
        assert cluster.http("GET", "/api/v1/info", Host="evil.example")[0] == 421
        token = cluster.address["token"]
        head = f"GET /api/v1/info HTTP/1.0\r\nAuthorization: Bearer {token}\r\n"
        assert cluster.raw(f"{head}\r\n".encode()).startswith(b"HTTP/1.1 400")

    @pytest.mark.parametrize(
        "data", [b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01" * 50 + b"\r\n"]
    )
    def test_what_is_no_http(self, cluster: Cluster, data: bytes) -> None:
        assert b"Traceback" not in cluster.raw(data)
        assert cluster.http("GET", "/api/v1/info")[0] == 200

    def test_bodies_that_are_too_large(self, cluster: Cluster) -> None:
        headers = {"Content_Type": "application/json"}
        assert cluster.http("POST", "/api/v1/runs", b" " * (9 << 20), **headers)[0] == 413
        chunks = (b" " * (1 << 20) for _ in range(9))
        assert cluster.http("POST", "/api/v1/runs", chunks, **headers)[0] == 413

    @pytest.mark.parametrize("name", ["../token", "..%2ftoken", "%2e%2e/token", "/etc/passwd", "0" * 65])
    def test_paths_that_lead_out_of_the_folder(self, cluster: Cluster, name: str) -> None:
        for method in ("GET", "PUT"):
            status, answer = cluster.http(method, f"/api/v1/files/{name}", b"x" if method == "PUT" else None)
            assert status in (400, 404, 405) and cluster.address["token"].encode() not in answer
        assert (cluster.home / "token").read_text().strip() == cluster.address["token"]

    def test_a_file_that_comes_in_pieces(self, cluster: Cluster) -> None:
        content = os.urandom(3 << 20)
        digest = hashlib.sha256(content).hexdigest()
        pieces = (content[at : at + 100_000] for at in range(0, len(content), 100_000))
        assert cluster.http("PUT", f"/api/v1/files/{digest}", pieces)[0] == 201
        assert cluster.http("GET", f"/api/v1/files/{digest}") == (200, content)

    def test_no_secret_in_arguments_or_logs(self, cluster: Cluster) -> None:
        broker = find_broker(cluster.home)
        assert broker is not None
        secrets = [cluster.address["token"], broker.split(":")[2].partition("@")[0]]
        texts = [Path(f"/proc/{pid}/cmdline").read_text() for pid in cluster.living()]
        texts += [path.read_text() for path in cluster.folder.glob("*.log")]
        assert len(texts) > 6
        assert [text for text in texts for secret in secrets if secret in text] == []

    def test_what_is_kept_is_for_the_user_alone(self, cluster: Cluster) -> None:
        names = ("token", "server.json", "broker.json")
        assert [oct((cluster.home / name).stat().st_mode & 0o777) for name in names] == ["0o600"] * 3
        assert cluster.home.stat().st_mode & 0o777 == 0o700
