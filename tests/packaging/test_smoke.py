"""The few tests that show that an installation works: run in the repository, and against the built wheel."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import pkgutil
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.smoke

LOADS = Path(sys.executable).parent / "loads"
PACKAGES = ("loads_queue", "loads.scheduler", "loads.workers", "loads.deploy")


def loads(*arguments: str, cwd: Path, home: Path) -> subprocess.CompletedProcess[str]:
    """Run the installed command with a state folder of its own."""
    return subprocess.run(
        [LOADS, *arguments],
        cwd=cwd,
        env={**os.environ, "LOADS_HOME": str(home)},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=90,
    )


def modules() -> Iterator[str]:
    """The name of every module that is installed, but for migration scripts, which the store's tool loads itself."""
    for name in PACKAGES:
        yield name
        for found in pkgutil.walk_packages(importlib.import_module(name).__path__, name + "."):
            if ".migrations" not in found.name:
                yield found.name


def test_every_module_can_be_imported() -> None:
    names = list(modules())
    assert len(names) > 10
    done = subprocess.run([sys.executable, "-c", "import " + ", ".join(names)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("group", ["loads.commands", "loads.engines"])
def test_entry_points_lead_somewhere(group: str) -> None:
    points = importlib.metadata.entry_points(group=group)
    assert points
    for point in points:
        assert callable(point.load()), point


def test_the_command_names_its_subcommands(tmp_path: Path) -> None:
    done = loads("--help", cwd=tmp_path, home=tmp_path)
    assert done.returncode == 0, done.stderr
    points = importlib.metadata.entry_points(group="loads.commands")
    names = {point.name for point in points if not point.load().hidden}
    assert names <= set(re.findall(r"^  ([a-z-]+)", done.stdout, re.MULTILINE))


def test_version_is_the_installed_one(tmp_path: Path) -> None:
    done = loads("version", cwd=tmp_path, home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert importlib.metadata.version("loads-cluster") in done.stdout


def test_a_written_plan_is_valid(tmp_path: Path) -> None:
    assert loads("init", "plan.yaml", cwd=tmp_path, home=tmp_path).returncode == 0
    done = loads("validate", "plan.yaml", cwd=tmp_path, home=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def target(tmp_path: Path) -> Iterator[str]:
    """The demo target on a port of its own choice, by the URL that it prints."""
    command: list[str | Path] = [LOADS, "demo-target", "--port", "0"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
    assert process.stdout is not None
    try:
        found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        assert found, "the demo target said nothing of its address"
        yield found.group()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
        process.stdout.close()


def test_a_load_test_runs_through(target: str, tmp_path: Path) -> None:
    arguments = ("hit", target, "--rate", "20", "--for", "2s", "--out", "results", "--quiet")
    done = loads(*arguments, cwd=tmp_path, home=tmp_path / "home")
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((tmp_path / "results" / "summary.json").read_text())
    assert summary["verdict"] == "passed"
    assert summary["ledger"]["balanced"] is True
    assert summary["ledger"]["planned"] == 40
    assert summary["requests"]["answered"] == summary["ledger"]["ok"]
