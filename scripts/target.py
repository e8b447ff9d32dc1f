"""The demo target as a process of its own on a free port of this machine, for as long as a block runs."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOADS = str(Path(sys.executable).parent / "loads")
"""The command of the environment that runs this."""

HOST = "127.0.0.1"
READY_S = 20.0


@contextmanager
def demo_target() -> Iterator[str]:
    """Start ``loads demo-target``, give its URL once it answers, and stop it. RuntimeError where it does not start.

    It has a session of its own, so that a Ctrl-C in the terminal reaches the load test alone, which still needs it.
    """
    port = _free_port()
    command = [LOADS, "demo-target", "--listen", HOST, "--port", str(port)]
    target = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        _wait(target, port)
        yield f"http://{HOST}:{port}"
    finally:
        target.terminate()
        try:
            target.wait(5)
        except subprocess.TimeoutExpired:
            target.kill()
            target.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(target: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if target.poll() is not None:
            raise RuntimeError(f"the demo target ended at once, with exit code {target.returncode}")
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"the demo target does not answer on {HOST}:{port} after {READY_S:.0f} s")
