"""WebSocket steps from the command line to the files, also over an engine's death."""

from __future__ import annotations

import csv
import os
import signal
from pathlib import Path

from run_harness import Command, Target, wait_for

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "websocket-echo.yaml"
HELD = """
name: held
thresholds: [interrupted < 50%]
steps:
  - name: listeners
    workers: 2
    load:
      stages: [{users: [0, 20], for: 2s}, {users: 20, for: 10s}]
    websocket:
      url: ${TARGET}/ws
      do:
        - every: 500ms
          do: [{send: tick, name: tick, reply: order}]
"""


def _url(target: Target) -> str:
    return target.url.replace("http", "ws")


def test_the_example_runs_as_its_page_says(loads: Command, target: Target) -> None:
    done = loads.run("run", str(EXAMPLE), "--set", f"TARGET={_url(target)}", "--out", "out")
    assert done.returncode == 0, done.stdout + done.stderr
    found = loads.summary()
    sockets, ledger = found["sockets"], found["ledger"]
    assert sockets["opened"] == sockets["closed"] == ledger["ok"] == ledger["planned"] == 185
    assert sockets["open_at_end"] == 0 and sockets["codes"] == {"1000": 185} and sockets["failures"] == []
    assert sockets["messages_out"] == sockets["messages_in"] and sockets["unsolicited"] == 0
    steps = {step["name"]: step for step in found["steps"]}
    series = {one["name"]: one for one in steps["chat"]["series"]}
    assert series["connect"]["statuses"] == {"101": 125} and (
        series["order"]["requests"],
        series["order"]["errors"],
    ) == (375, [])
    with (loads.folder / "out" / "timeline.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(int(row["sockets_opened"]) for row in rows) == 185
    assert sum(int(row["messages_out"]) for row in rows) == sockets["messages_out"]
    assert "Sockets" in done.stdout and "185 planned, 185 ok" in done.stdout
    assert loads.left_behind() == []


def test_an_engine_that_dies_takes_its_sockets_along_and_others_are_opened(loads: Command, target: Target) -> None:
    (loads.folder / "plan.yaml").write_text(HELD)
    process = loads.start("run", "plan.yaml", "--set", f"TARGET={_url(target)}", "--out", "out")
    before = target.count()
    wait_for(lambda: target.count() >= before + 20)
    worker = next(pid for pid in loads.processes() if "worker" in _command(pid))
    engines = list(map(int, Path(f"/proc/{worker}/task/{worker}/children").read_text().split()))
    assert len(engines) == 2
    os.kill(engines[0], signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, ""), out + err
    found = loads.summary()
    lost, *again = found["gaps"]
    sockets, ledger = found["sockets"], found["ledger"]
    assert lost["cause"] == "crashed" and all(gap["cause"] == "reopening" for gap in again)
    assert ledger["balanced"] is True and ledger["ok"] == 20
    # Ten sessions went with their engine; its successor has opened as many again, one after the other.
    assert target.count() - before == 30
    assert sockets["closed"] == 20 <= sockets["opened"] <= 30
    assert sockets["open_at_end"] == sockets["opened"] - 20
    assert ledger["lost"] >= 10
    assert loads.left_behind() == []


def _command(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
