"""Real processes: lines both ways, output, crashes, engines that won't end, and agents that are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gevent
import pytest
from loads.workers.engine_process import EngineProcess, PidFiles, engine_environment, parse_line

FAKE = str(Path(__file__).with_name("fake_engine.py"))
PATIENCE_S = 20


class Watched:
    """An engine process and all that it said."""

    def __init__(self, spec: Mapping[str, Any], program: list[str] | None = None) -> None:
        self.lines: list[Mapping[str, Any] | None] = []
        self.ended: list[tuple[int, str]] = []
        program = program or [sys.executable, "-S", "-E", FAKE]
        self.process = EngineProcess(
            lambda reading, writing: [*program, "--in", str(reading), "--out", str(writing)],
            engine_environment(os.environ),
            self.lines.append,
            lambda status, output: self.ended.append((status, output)),
        )
        self.process.send({"type": "spec", "spec": spec})

    def types(self) -> list[object]:
        return [line and line.get("type") for line in self.lines]

    def until(self, what: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not what():
            assert time.monotonic() < deadline, (self.lines[-3:], self.ended)
            gevent.sleep(0.005)

    def end(self) -> tuple[int, str]:
        self.until(lambda: self.ended)
        return self.ended[0]


@pytest.fixture
def watched() -> Iterator[Callable[..., Watched]]:
    found: list[Watched] = []

    def start(spec: Mapping[str, Any], program: list[str] | None = None) -> Watched:
        found.append(Watched(spec, program))
        return found[-1]

    yield start
    for each in found:
        each.process.kill("KILL")
        each.end()


def gone(pid: int) -> bool:
    """Whether a process that is nobody's child here any more has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def test_lines_go_both_ways_and_an_orderly_end_is_status_0(watched: Callable[..., Watched]) -> None:
    engine = watched({})
    engine.until(lambda: "snapshot" in engine.types())
    engine.process.send({"type": "stop", "grace_ns": 0, "cause": "stopped"})
    assert engine.end() == (0, "")
    assert engine.types()[0] == "ready" and engine.types()[-1] == "end"


def test_it_reads_nothing_leads_its_own_session_and_has_no_secrets(
    watched: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOADS_SECRET_X", "LOADS_BROKER", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "DB_PASSWORD", "API_KEY"):
        monkeypatch.setenv(name, "hidden")
    monkeypatch.setenv("HARMLESS", "seen")
    engine = watched({"do": "tell"})
    engine.end()
    told = engine.lines[0]
    assert told is not None and told["stdin"] == ""
    assert "HARMLESS" in told["environment"] and "PATH" in told["environment"]
    assert not {name for name in told["environment"] if name.startswith(("LOADS", "AWS")) or "KEY" in name}
    assert not {"GITHUB_TOKEN", "DB_PASSWORD"} & set(told["environment"])


def test_a_crash_brings_status_and_the_end_of_the_output(watched: Callable[..., Watched]) -> None:
    status, output = watched({"do": "crash"}).end()
    assert status == 1 and "RuntimeError: boom" in output


def test_megabytes_of_output_are_read_and_only_the_end_is_kept(watched: Callable[..., Watched]) -> None:
    engine = watched({"print": 8 << 20, "do": "fail"})
    status, output = engine.end()
    assert status == 0 and len(output) == 4096 and output.endswith("xthe end\n")
    assert engine.types() == ["end"]


def test_an_endless_loop_that_ignores_term_is_killed(watched: Callable[..., Watched]) -> None:
    engine = watched({"do": "hang"})
    engine.until(lambda: engine.lines)
    engine.process.kill("TERM")
    gevent.sleep(0.1)
    assert not engine.ended
    engine.process.kill("KILL")
    assert engine.end()[0] == -signal.SIGKILL


def test_the_end_of_the_control_descriptor_ends_the_engine(watched: Callable[..., Watched]) -> None:
    engine = watched({})
    engine.until(lambda: engine.lines)
    os.dup2(os.open(os.devnull, os.O_WRONLY), engine.process._in)
    assert engine.end()[0] == 0


def test_what_the_engine_started_ends_with_it(watched: Callable[..., Watched]) -> None:
    code = "import os, sys; pid = os.fork()\nif pid == 0:\n    import time; time.sleep(60)\nprint(pid)"
    status, output = watched({}, [sys.executable, "-S", "-E", "-c", code]).end()
    assert status == 0
    child = int(output)
    deadline = time.monotonic() + PATIENCE_S
    while not gone(child):
        assert time.monotonic() < deadline
        gevent.sleep(0.01)


def test_a_program_that_is_not_there_is_status_127_with_the_reason(watched: Callable[..., Watched]) -> None:
    status, output = watched({}, ["/nonexistent/engine"]).end()
    assert status == 127 and "/nonexistent/engine" in output


def test_lines_before_a_crash_are_handed_over_before_its_end(watched: Callable[..., Watched]) -> None:
    engine = watched({"say": [{"type": "n", "n": number} for number in range(500)], "do": "crash"})
    engine.end()
    assert [line and line["n"] for line in engine.lines] == list(range(500))


def test_descriptors_are_closed_again(watched: Callable[..., Watched]) -> None:
    watched({"do": "fail"}).end()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        watched({"do": "fail"}).end()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    "data",
    [
        b"", b"nonsense", b"[1]", b'"x"', b'{"a": NaN}', b'{"a": -Infinity}', b"\xff", b"[" * 100_000,
        b'{"a": %s}' % (b"9" * 50),
    ],
)  # fmt: skip
def test_a_line_that_no_report_could_carry_is_none(data: bytes) -> None:
    assert parse_line(data) is None


def test_half_a_surrogate_pair_is_replaced() -> None:
    assert parse_line(b'{"a": "\\ud800 \\ud83d\\ude00"}') == {"a": "? \U0001f600"}


AGENT = """
import json, os, sys, gevent
from pathlib import Path
from loads.workers.engine_process import EngineProcess, PidFiles
started = []
def line(found):
    print(engine.pid, flush=True)
program = [sys.executable, "-S", "-E", sys.argv[1]]
command = lambda reading, writing: [*program, "--in", str(reading), "--out", str(writing)]
engine = EngineProcess(command, os.environ, line, lambda status, output: None)
PidFiles(Path(sys.argv[2])).add(engine.pid)
engine.send({"type": "spec", "spec": {"do": "hang"}})
gevent.sleep(60)
"""


def test_a_killed_agent_takes_an_endless_engine_with_it(tmp_path: Path) -> None:
    agent = subprocess.Popen([sys.executable, "-c", AGENT, FAKE, str(tmp_path)], stdout=subprocess.PIPE)
    assert agent.stdout is not None
    engine = int(agent.stdout.readline())
    assert not gone(engine)
    agent.kill()
    agent.wait()
    agent.stdout.close()
    deadline = time.monotonic() + PATIENCE_S
    while not gone(engine):
        assert time.monotonic() < deadline
        time.sleep(0.01)


# What an earlier agent left behind


def test_leftovers_of_an_earlier_agent_are_ended(tmp_path: Path, watched: Callable[..., Watched]) -> None:
    engine = watched({"do": "hang"})
    engine.until(lambda: engine.lines)
    PidFiles(tmp_path).add(engine.process.pid)
    assert PidFiles(tmp_path).end_leftovers() == [engine.process.pid]
    assert engine.end()[0] == -signal.SIGKILL
    assert not list(tmp_path.iterdir())


def test_another_process_with_the_number_of_a_leftover_is_left_alone(
    tmp_path: Path, watched: Callable[..., Watched]
) -> None:
    engine = watched({})
    engine.until(lambda: engine.lines)
    pids = PidFiles(tmp_path)
    pids.add(engine.process.pid)
    path = tmp_path / str(engine.process.pid)
    path.write_text(json.dumps({**json.loads(path.read_text()), "started": 1}))
    assert pids.end_leftovers() == [] and not engine.ended


def test_a_half_written_leftover_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / "1").write_text('{"pid"')
    (tmp_path / "2").write_text("{}")
    assert PidFiles(tmp_path).end_leftovers() == [] and not list(tmp_path.iterdir())


def test_no_folder_means_no_leftovers(tmp_path: Path) -> None:
    assert PidFiles(tmp_path / "none").end_leftovers() == []
