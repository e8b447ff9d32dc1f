"""A generator that is starved on purpose says so from the command line to the files; one that is not does not."""

from __future__ import annotations

import contextlib
import csv
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from run_harness import Command, Target, wait_for

PLAN = """
name: starved
thresholds:
  - p90 < 150ms
steps:
  - name: browse
    load: {{rate: 50, for: {seconds}s}}
    http: {{base_url: "{url}", do: [{{get: /}}]}}
"""
MUCH = """
name: too much
thresholds:
  - requests > 0
steps:
  - name: browse
    workers: 1
    load: {{rate: 400000, for: 3s, max_in_flight: 20}}
    http: {{base_url: "{url}", do: [{{get: /}}]}}
"""
WITNESS_S = 0.01
STOOD_STILL_S = 0.03


class Witness:
    """Sleeps for a moment again and again: in which seconds the machine lets that be far too long."""

    def __init__(self) -> None:
        self.stood_still: set[int] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        before = time.monotonic()
        while not self._over.wait(WITNESS_S):
            now = time.monotonic()
            if now - before > WITNESS_S + STOOD_STILL_S:
                self.stood_still |= set(range(int(before), int(now) + 1))
            before = now

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._thread.join()


def engines(loads: Command) -> list[int]:
    """The processes of a run's engines: children of its worker."""
    workers = loads.processes()
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and b"engine_main" in (entry / "cmdline").read_bytes():
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                found += [int(entry.name)] if parent in workers else []
    return found


def test_an_engine_that_is_stopped_again_and_again(loads: Command, target: Target) -> None:
    (loads.folder / "plan.yaml").write_text(PLAN.format(url=target.url, seconds=8))
    before = target.count()
    process = loads.start("run", "plan.yaml", "--out", "out")
    wait_for(lambda: target.count() > before + 50)
    (engine,) = engines(loads)
    for _ in range(4):
        os.kill(engine, signal.SIGSTOP)
        time.sleep(0.5)
        os.kill(engine, signal.SIGCONT)
        time.sleep(0.2)
    out, err = process.communicate(timeout=60)
    found = loads.summary()
    assert (process.returncode, err, found["verdict"]) == (1, "", "failed")
    assert found["ledger"]["balanced"] is True
    fitness = found["fitness"]
    assert fitness["unfit_seconds"] >= 3
    assert {"lag", "lateness"} <= {reason for stretch in fitness["unfit"] for reason in stretch["reasons"]}
    assert fitness["worst"]["lag_ms"] > 400
    (threshold,) = found["thresholds"]
    assert (threshold["passed"], threshold["generator"]) == (False, True)
    assert "1 of 1 thresholds failed: the generator, not the target" in out.splitlines()[-1]
    assert f"{fitness['unfit_seconds']} of " in out
    rows = list(csv.DictReader((loads.folder / "out" / "timeline.csv").open()))
    assert sum(row["fit"] == "false" for row in rows) == fitness["unfit_seconds"]


def test_a_rate_that_no_engine_can_do(loads: Command, target: Target) -> None:
    plan = MUCH.format(url=target.url)
    (loads.folder / "plan.yaml").write_text(plan)
    done = loads.run("run", "plan.yaml", "--out", "out")
    found = loads.summary()
    fitness = found["fitness"]
    assert found["ledger"]["balanced"] is True
    assert fitness["unfit_seconds"] >= 2
    reasons = {reason for stretch in fitness["unfit"] for reason in stretch["reasons"]}
    assert {"cpu", "starved", "lag", "lateness", "dropped_late"} & reasons
    assert "s measured the generator, not the target" in done.stdout.splitlines()[-1]


def test_an_engine_with_little_to_do_is_fit(loads: Command, target: Target) -> None:
    (loads.folder / "plan.yaml").write_text(PLAN.format(url=target.url, seconds=3))
    witness = Witness()
    with witness.watching():
        done = loads.run("run", "plan.yaml", "--out", "out")
    fitness = loads.summary()["fitness"]
    assert 0 < fitness["worst"]["cpu"] < 0.5
    # Where the machine stood still for others too, the engine is right to say so; a second of its own may touch two.
    assert fitness["unfit_seconds"] <= 2 * len(witness.stood_still)
    if not witness.stood_still:
        assert (done.returncode, fitness["unfit"], fitness["verdict"]) == (0, [], "")
        assert fitness["fit_seconds"] >= 3
        assert "not the target" not in done.stdout
