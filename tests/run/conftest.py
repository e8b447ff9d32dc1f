"""A target that counts, and the ``loads`` command."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from run_harness import COMMAND, Command, Target, wait_for


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A demo target of the tests' own."""
    out = tmp_path_factory.mktemp("target") / "out"
    with open(out, "wb") as stream:
        process = subprocess.Popen([*COMMAND, "demo-target", "--port", "0"], stdout=stream)
    try:
        wait_for(lambda: out.read_text().endswith("\n"))
        yield Target(out.read_text().split()[0].rstrip("/"))
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def loads(tmp_path: Path) -> Iterator[Command]:
    """The command; what a failed test left running is ended."""
    yield from _command(tmp_path)


@pytest.fixture(scope="module")
def loads_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """The command, for a run that several tests look at."""
    yield from _command(tmp_path_factory.mktemp("loads"))


def _command(folder: Path) -> Iterator[Command]:
    command = Command(folder)
    try:
        yield command
    finally:
        for process in command.started:
            if process.poll() is None:
                process.kill()
            process.wait()
        for pid in command.processes():
            os.kill(pid, 9)
