"""``make demo``: runs examples/quickstart.yaml against the demo target, and exits with the run's exit code.

What is added on the command line goes to ``loads run``.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from scripts.target import LOADS, demo_target

PLAN = Path(__file__).resolve().parent.parent / "examples" / "quickstart.yaml"


def main(arguments: list[str]) -> int:
    """Start the target, run the plan with the terminal as its own, stop the target."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with demo_target() as url:
        run = subprocess.Popen([LOADS, "run", str(PLAN), "--set", f"TARGET={url}", *arguments])
        try:
            return _wait(run)
        finally:
            if run.poll() is None:
                run.terminate()
                run.wait()


def _wait(run: subprocess.Popen[bytes]) -> int:
    """The run's exit code. A Ctrl-C reaches the run as well, which aborts and says what it has: wait for that."""
    while True:
        try:
            return run.wait()
        except KeyboardInterrupt:
            continue


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
