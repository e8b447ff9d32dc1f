"""``loads run`` and ``loads hit`` from the command line to the files, over the real broker, scheduler and worker."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from run_harness import Command, Target, wait_for

PLAN = """
name: shop
plans:
  - name: evening
    env: {TARGET: "http://127.0.0.1:1"}
    thresholds:
      - p99 < 5s
      - iteration:error_rate(browse) < 1%
      - planned(browse) == 80
      - dropped == 0
    steps:
      - name: browse
        workers: 2
        load: {rate: 40, for: 2s}
        http:
          base_url: ${TARGET}
          do:
            - get: /echo?name=${row.name}
              name: list
              check: {json: {query.name: {exists: true}}}
            - get: /status/404
              name: absent
              check: {status: 404}
        data: {file: names.csv}
      - name: users
        run_delay: 500ms
        load: {users: 2, for: 1s}
        http: {base_url: "${TARGET}", do: [{get: /delay/50}]}
"""


@pytest.fixture(scope="module")
def finished(loads_once: Command, target: Target) -> tuple[Command, subprocess.CompletedProcess[str], int]:
    """A run of two steps that is over, and how many requests the target counted."""
    (loads_once.folder / "plan.yaml").write_text(PLAN)
    (loads_once.folder / "names.csv").write_text("name\nann\nbob\n")
    before = target.count()
    done = loads_once.run("run", "plan.yaml", "--set", f"TARGET={target.url}", "--out", "out")
    return loads_once, done, target.count() - before


class TestAWholeRun:
    def test_it_passes(self, finished) -> None:
        _, done, _ = finished
        assert (done.returncode, done.stderr) == (0, "")
        assert "PASSED" in done.stdout.splitlines()[-1]

    def test_the_ledger_balances_and_agrees_with_the_target(self, finished) -> None:
        loads, _, counted = finished
        found = loads.summary()
        assert found["ledger"]["balanced"] is True
        assert found["verdict"] == "passed"
        requests = found["requests"]
        assert requests["attempted"] == requests["sent"] == requests["answered"] == requests["ok"] == counted

    def test_every_arrival_was_made(self, finished) -> None:
        browse, users = finished[0].summary()["steps"]
        assert (browse["kind"], browse["workers"], browse["ledger"]["ok"]) == ("open", 2, 80)
        assert users["kind"] == "closed"
        assert users["user_seconds"]["planned"] == 2.0
        assert [series["name"] for series in browse["series"]] == ["absent", "list"]
        assert browse["series"][0]["statuses"] == {"404": 80}
        assert sum(check["passed"] for check in browse["series"][1]["checks"].values()) >= 80

    def test_the_timeline_adds_up(self, finished) -> None:
        loads, _, _ = finished
        found = loads.summary()
        for column in ("planned", "started", "ok", "failed"):
            assert sum(row[column] for row in found["timeline"]) == found["ledger"][column]
        assert sum(row["began"] for row in found["timeline"]) == found["ledger"]["started"]
        with open(loads.folder / "out" / "timeline.csv") as stream:
            assert [int(row["planned"]) for row in csv.DictReader(stream)] == [
                row["planned"] for row in found["timeline"]
            ]

    def test_latencies_are_plausible(self, finished) -> None:
        (delay,) = finished[0].summary()["steps"][1]["series"]
        assert 50 <= delay["service"]["min"] <= delay["response"]["max"] < 5000

    def test_it_says_what_the_numbers_are_not(self, finished) -> None:
        loads, done, _ = finished
        assert "coordinated omission" in loads.summary()["notes"][0]
        assert "coordinated omission" in done.stdout

    def test_nothing_is_left(self, finished) -> None:
        loads, _, _ = finished
        assert loads.left_behind() == []
        assert sorted(path.name for path in (loads.folder / "out").iterdir()) == ["summary.json", "timeline.csv"]


def test_hit_makes_exactly_the_request_that_was_asked_for(loads: Command, target: Target) -> None:
    before = target.count()
    done = loads.run(
        "hit", f"{target.url}/echo?a=$b", "--users", "2", "--iterations", "5", "--header", "X-A: ${not.a.name}",
        "--data", "$x", "--quiet",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert target.count() - before == 10
    (line,) = done.stdout.splitlines()
    assert line.startswith("PASSED  10 planned, 10 ok, 0 failed, ledger balanced")
    (folder,) = (loads.folder / "loads-results").iterdir()
    found = json.loads((folder / "summary.json").read_text())
    assert found["run"]["id"] == folder.name
    assert found["steps"][0]["ledger"]["planned"] == 10


def test_a_target_that_is_not_there_is_a_measurement(loads: Command) -> None:
    done = loads.run("hit", "http://127.0.0.1:1/", "--rate", "20", "--for", "1s", "--out", "out")
    assert (done.returncode, done.stderr) == (1, "")
    found = loads.summary()
    assert found["verdict"] == "failed"
    assert found["ledger"]["failed"] == found["requests"]["unsent"] == 20
    ((error,),) = [series["errors"] for series in found["steps"][0]["series"]]
    assert "refused" in error["message"]
    assert error["count"] == 20
    assert loads.left_behind() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_ends_the_run_with_a_summary(loads: Command, target: Target, number: signal.Signals) -> None:
    process = loads.start("hit", f"{target.url}/delay/20", "--users", "5", "--for", "60s", "--out", "out")
    before = target.count()
    wait_for(lambda: target.count() > before + 20)
    process.send_signal(number)
    time.sleep(2)
    silent = target.count()
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, out + err
    assert "ABORTED" in out.splitlines()[-1]
    assert target.count() == silent, "not silent within 2 s"
    found = loads.summary()
    assert (found["verdict"], found["exit_code"]) == ("aborted", 130)
    assert found["ledger"]["balanced"] is True
    assert found["requests"]["answered"] <= silent - before <= found["requests"]["sent"]
    assert loads.left_behind() == []


def test_the_second_signal_leaves_at_once(loads: Command, target: Target) -> None:
    process = loads.start("hit", f"{target.url}/delay/20", "--users", "5", "--for", "60s", "--out", "out")
    before = target.count()
    wait_for(lambda: target.count() > before)
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=5)
    assert process.returncode == 130
    assert "left at once" in err
    wait_for(lambda: not loads.processes())
    assert loads.left_behind() == []
    assert not (loads.folder / "out").exists()


def test_a_signal_before_the_run_began(loads: Command) -> None:
    process = loads.start("hit", "http://127.0.0.1:1/", "--rate", "1", "--for", "60s", "--out", "out")
    wait_for(lambda: list(loads.home.glob("run-*")))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert loads.left_behind() == []


def test_children_end_with_a_command_that_is_killed(loads: Command, target: Target) -> None:
    process = loads.start("hit", target.url, "--rate", "50", "--for", "60s")
    before = target.count()
    wait_for(lambda: target.count() > before)
    process.kill()
    process.wait()
    wait_for(lambda: not loads.processes())
    assert list(loads.home.glob("run-*"))
    done = loads.run("hit", target.url, "--users", "1", "--iterations", "1", "--quiet")
    assert done.returncode == 0
    assert loads.left_behind() == []


def test_a_scheduler_that_dies_is_told_of(loads: Command, target: Target) -> None:
    process = loads.start("hit", target.url, "--rate", "50", "--for", "60s", "--out", "out")
    before = target.count()
    wait_for(lambda: target.count() > before + 50)
    os.kill(_child(loads, "scheduler"), signal.SIGKILL)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 3, out + err
    assert "the scheduler ended by itself (killed by SIGKILL)" in err
    found = loads.summary()
    assert (found["verdict"], found["exit_code"]) == ("incomplete", 3)
    assert any("scheduler ended by itself" in warning for warning in found["warnings"])
    assert loads.left_behind() == []


def test_an_engine_that_dies_is_taken_over(loads: Command, target: Target) -> None:
    process = loads.start("hit", target.url, "--rate", "50", "--for", "8s", "--out", "out")
    before = target.count()
    wait_for(lambda: target.count() > before + 50)
    worker = _child(loads, "worker")
    (engine,) = map(int, Path(f"/proc/{worker}/task/{worker}/children").read_text().split())
    os.kill(engine, signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, ""), out + err
    found = loads.summary()
    (gap,) = found["gaps"]
    ledger = found["ledger"]
    assert (gap["step"], gap["shard"], gap["attempt"], gap["cause"]) == ("hit", 0, 1, "crashed")
    assert 0 <= gap["from"] < gap["to"] <= 8
    assert (gap["missed"], gap["lost"]) == (ledger["missed"], ledger["lost"])
    assert ledger["balanced"] is True
    assert ledger["ok"] + ledger["missed"] + ledger["lost"] == ledger["planned"] == 400
    assert [row["t"] for row in found["timeline"] if row["gap"]] == list(range(int(gap["from"]), math.ceil(gap["to"])))
    assert re.search(r"hit 1/1 +local lost its engine +at 0:0\d, for", out)
    assert "1 gap" in out.splitlines()[-1]
    assert loads.left_behind() == []


def _child(loads: Command, name: str) -> int:
    for pid in loads.processes():
        argv = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        if "loads.scheduler.local_child" in argv and name in argv:
            return pid
    raise AssertionError(f"no {name} runs")


def test_a_wrong_plan_lists_every_problem_before_anything_starts(loads: Command) -> None:
    (loads.folder / "plan.yaml").write_text(
        "steps:\n- {name: a, laod: {}, http: {do: [{get: /}]}}\n- {name: a, load: {rate: x, for: 1s}}\n"
    )
    done = loads.run("run", "plan.yaml")
    assert done.returncode == 2
    assert "laod" in done.stderr
    assert "rate" in done.stderr
    assert "Traceback" not in done.stderr
    assert not loads.home.exists()
    assert not (loads.folder / "loads-results").exists()


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("hit", "http://127.0.0.1:1/", "--rate", "1"), "--for"),
        (("hit", "http://127.0.0.1:1/", "--for", "1s"), "--rate"),
        (("hit", "http://127.0.0.1:1/", "--rate", "1", "--for", "1 parsec"), "parsec"),
        (("hit", "http://127.0.0.1:1/", "--rate", "1", "--for", "1s", "--header", "x"), "not a header"),
        (("hit", "127.0.0.1:1", "--rate", "1", "--for", "1s"), "not a URL"),
        (("run", "nothing.yaml"), "no such file: nothing.yaml (a stored plan runs by its name with --server URL)"),
        (("run", "peak.yaml", "--server", "http://127.0.0.1:1", "--token", "x"), "no such file: peak.yaml"),
        (
            ("run", "peak", "--rate", "5", "--server", "http://127.0.0.1:1", "--token", "x"),
            "a stored plan runs as it is",
        ),
    ],
)
def test_wrong_calls(loads: Command, args: tuple[str, ...], told: str) -> None:
    done = loads.run(*args)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not loads.home.exists()


def test_results_that_can_t_be_written(loads: Command) -> None:
    (loads.folder / "taken").write_text("")
    done = loads.run("hit", "http://127.0.0.1:1/", "--rate", "1", "--for", "1s", "--out", "taken/below")
    assert done.returncode == 2
    assert "--out" in done.stderr
    assert not loads.home.exists()


def test_a_home_that_can_t_be_used(loads: Command) -> None:
    loads.home.write_text("")
    done = loads.run("hit", "http://127.0.0.1:1/", "--rate", "1", "--for", "1s")
    assert done.returncode == 4
    assert "LOADS_HOME" in done.stderr
    assert not (loads.folder / "loads-results").exists()
