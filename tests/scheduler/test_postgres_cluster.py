"""A cluster as people run it, on PostgreSQL and signed: a run goes on over a restart of the database server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import services
from loads.scheduler.reader import Reader

LOADS = str(Path(sys.executable).with_name("loads"))
PATIENCE_S = 60
PLAN = """\
name: over-a-restart
steps:
  - name: steady
    load: {{rate: 50, for: 8s}}
    http:
      base_url: {url}
      do:
        - get: /
"""


class Command:
    """A running command; its first line of output, and its log."""

    def __init__(self, folder: Path, environ: Mapping[str, str], *args: str) -> None:
        self.log = folder / f"{args[0]}-{len(list(folder.iterdir()))}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [LOADS, *args], env=environ, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def first_line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode()
        assert line, self.log.read_text()
        return line

    def end(self) -> int:
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LOADS_")}
    with ExitStack() as stack:

        def starting(*args: str, **environ: str) -> Command:
            found = Command(tmp_path, {**clean, "LOADS_HOME": str(tmp_path / "home"), **environ}, *args)
            stack.callback(found.close)
            return found

        yield starting


@contextmanager
def within(seconds: float) -> Iterator[Callable[[bool, object], bool]]:
    """Go on until something holds; after so long it is an error."""
    deadline = time.monotonic() + seconds

    def waits(found: bool, otherwise: object) -> bool:
        assert found or time.monotonic() < deadline, otherwise
        if not found:
            time.sleep(0.1)
        return not found

    yield waits


def test_a_run_goes_on_over_a_restart_of_the_database(
    start: Callable[..., Command], postgres: services.Postgres, tmp_path: Path
) -> None:
    target = start("demo-target", "--port", "0")
    target_url = target.first_line().split()[-1].strip()
    (tmp_path / "plan.yaml").write_text(PLAN.format(url=target_url))
    with postgres.database() as url:
        signed = {"LOADS_SECRET": "our own"}
        scheduler = start("scheduler", "--listen", "127.0.0.1:0", "--log-format", "json", LOADS_DB=url, **signed)
        scheduler.first_line()
        stranger = start("worker", "--name", "stranger", "--slots", "4", LOADS_SECRET="another's")
        stranger.first_line()
        worker = start("worker", "--name", "w1", "--slots", "2", **signed)
        worker.first_line()
        submitted = start("submit", "plan.yaml", "--detach", "--json")
        run = json.loads(submitted.first_line() + submitted.process.stdout.read().decode())["id"]  # type: ignore[union-attr]
        assert submitted.end() == 0, submitted.log.read_text()
        reader = Reader(url)
        with within(PATIENCE_S) as waits:
            while waits((view := reader.run_view(run)) is not None and view.state == "running", scheduler.log):
                pass
        time.sleep(1)
        postgres.kill()
        time.sleep(1)
        postgres.start()
        postgres.wait_ready()
        report: Mapping[str, object] | None = None
        with within(PATIENCE_S) as waits:
            while waits((report := reader.summary(run)) is not None, scheduler.log.read_text()[-3000:]):
                pass
        assert report is not None and report["ledger"]["balanced"], report  # type: ignore[index]
        view = reader.run_view(run)
        assert view is not None and view.final
        (step,) = view.steps
        total = step.ledger.total
        assert total.planned == 400 and total.ok >= 300, total
        assert {claim.worker for claim in step.claims} == {"w1"}
        assert {letter["reason"] for letter in reader.dead_letters()} == {"not signed with this cluster's secret"}
        reader.close()
    lines = [json.loads(line) for line in scheduler.log.read_text().splitlines() if line.startswith("{")]
    about = [line for line in lines if line.get("run") == run]
    assert [line["shard"] for line in about if "finished" in line["message"]] == [0]
    assert any("database" in line["message"] for line in lines)
