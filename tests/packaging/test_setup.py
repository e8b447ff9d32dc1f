"""The set-up scripts on machines that lack something: a shim that lies, no ensurepip, no test servers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def executable(path: Path, text: str) -> Path:
    """A shell script at a path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def call(*command: object, path: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script with that PATH and, of the rest of this environment, what it needs only."""
    return subprocess.run(
        [str(part) for part in command],
        env={"PATH": path, "HOME": os.environ.get("HOME", "/"), **environment},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )


def test_a_shim_that_lies_is_passed_over(tmp_path: Path) -> None:
    for name in ("python3", "python3.11"):
        executable(tmp_path / name, "echo 'no such version is installed' >&2; exit 127")
    old = executable(tmp_path / "python3.12", "exit 1")
    done = call(SCRIPTS / "python.sh", path=f"{tmp_path}:{os.environ['PATH']}", PYTHON=str(old))
    assert done.returncode == 0, done.stderr
    found = Path(done.stdout.strip())
    assert tmp_path not in found.parents
    assert subprocess.run([found, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]).returncode == 0


def test_without_ensurepip_it_says_what_to_run(tmp_path: Path) -> None:
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    shutil.copy(SCRIPTS / "environment.sh", scripts)
    bare = executable(tmp_path / "bare-python", "exit 1")
    executable(scripts / "python.sh", f"echo {bare}")
    executable(tmp_path / "bin" / "id", "echo 1000")
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    done = call(scripts / "environment.sh", "create", tmp_path / "made", path=path, LOADS_NO_UV="1")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].strip() == "apt-get install -y python3-venv"
    assert not (tmp_path / "made").exists()


@pytest.fixture
def poor_path(tmp_path: Path) -> str:
    """A PATH with a shell and little else, for a user who is not root."""
    executable(tmp_path / "id", "echo 1000")
    for tool in ("bash", "dirname"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or tool)
    return str(tmp_path)


def test_missing_servers_are_named(poor_path: str) -> None:
    done = call(SCRIPTS / "services.sh", path=poor_path)
    assert done.returncode == 0
    assert "will be skipped" in done.stderr
    assert "redis-server" in done.stderr


def test_missing_servers_fail_in_ci(poor_path: str) -> None:
    done = call(SCRIPTS / "services.sh", path=poor_path, CI="true")
    assert done.returncode == 1
    assert "redis-server" in done.stderr


def test_without_a_compiler_the_rest_is_built(tmp_path: Path) -> None:
    pytest.importorskip("Cython", reason="it is what the core is built with")
    setup = (
        sys.executable,
        "setup.py",
        "build_ext",
        "--build-lib",
        tmp_path / "lib",
        "--build-temp",
        tmp_path / "temp",
    )
    done = subprocess.run(
        [str(part) for part in setup],
        cwd=SCRIPTS.parent,
        env={**os.environ, "CC": "false"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert 'building extension "loads.workers.engines._core" failed' in done.stdout + done.stderr
    assert not list(tmp_path.rglob("_core.*.so"))
