"""``LOADS_ALLOWED_TARGETS`` reaches the engine of a real run, which says why it can't start and sends nothing."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

LOADS = str(Path(sys.executable).with_name("loads"))


def test_a_run_against_a_target_that_is_not_allowed_sends_nothing(tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LOADS_")}
    # A secret of another cluster must not get in the way of a run's own.
    environ = {
        **clean, "LOADS_HOME": str(tmp_path / "home"), "LOADS_ALLOWED_TARGETS": "10.0.0.0/8", "LOADS_SECRET": "other",
    }  # fmt: skip
    with closing(socket.create_server(("127.0.0.1", 0))) as target:
        target.settimeout(0)
        port = target.getsockname()[1]
        command = [LOADS, "hit", f"http://127.0.0.1:{port}/", "--rate", "5", "--for", "1s"]
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60)
        assert done.returncode == 3, done.stdout + done.stderr
        told = " ".join((done.stdout + done.stderr).split())
        assert f"127.0.0.1:{port} is not among this worker's allowed targets (LOADS_ALLOWED_TARGETS)" in told
        assert "5 planned = 0 started" in told and "ledger balanced" in told
        try:
            target.accept()
            raise AssertionError("something connected to the target")
        except BlockingIOError:
            pass
