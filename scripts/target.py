"""The demo target as a process of its own on a free port of this machine, for as long as a block runs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOADS = str(Path(sys.executable).parent / "loads")
"""The command of the environment that runs this."""


@contextmanager
def demo_target() -> Iterator[str]:
    """Start ``loads demo-target``, give the URL that it prints once it listens, and stop it.

    It has a session of its own, so that a Ctrl-C in the terminal reaches the load test alone, which still needs it.
    RuntimeError where it ends without a URL; what it says of that is on this process's stderr.
    """
    command = [LOADS, "demo-target", "--listen", "127.0.0.1", "--port", "0"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as target:
        try:
            found = re.search(r"http://\S+:\d+", target.stdout.readline() if target.stdout else "")
            if not found:
                raise RuntimeError("the demo target did not start")
            yield found.group()
        finally:
            target.terminate()
            try:
                target.wait(5)
            except subprocess.TimeoutExpired:
                target.kill()
