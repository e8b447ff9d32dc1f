"""An engine that does what its spec says: a program for tests, which speaks the agent's protocol over descriptors.

Its spec may have ``say`` (lines to send at once, after which it goes on), ``print`` (bytes of "x" on stdout), ``do``:
``work`` (the default: ready, then a snapshot every ``every`` seconds, obeying stop), ``crash`` (status 3 and a
traceback), ``blab`` (print its secrets), ``hang`` (ignore TERM, run for ever without a word), ``fail`` (say that it
can't run), ``tell`` (say what it was told, and what it can see).
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from typing import Any


class FakeEngine:
    def __init__(self, reading: int, writing: int) -> None:
        self.reading = reading
        self.writing = writing
        self.pending = b""
        self.started = 0
        self.number = 0
        self.start: int | None = None
        self.permit: dict[str, Any] = {}
        self.heard: list[str] = []

    def say(self, **line: Any) -> None:
        os.write(self.writing, json.dumps(line).encode() + b"\n")

    def hear(self, timeout: float) -> dict[str, Any] | None:
        """The next line, or None; the end of the descriptor ends the process."""
        while b"\n" not in self.pending:
            if not select.select([self.reading], [], [], timeout)[0]:
                return None
            if not (chunk := os.read(self.reading, 65536)):
                os._exit(0)
            self.pending += chunk
        line, self.pending = self.pending.split(b"\n", 1)
        found: dict[str, Any] = json.loads(line)
        self.heard.append(found["type"])
        return found

    def snapshot(self) -> None:
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        rows = []
        if self.start is not None and now >= self.start and now < self.permit.get("until", 0):
            self.started += 1
            rows = [{"second": (now - self.start) // 10**9, "started": 1, "ok": 1}]
        self.number += 1
        totals = {"next": self.started, "started": self.started, "attempted": self.started}
        self.say(type="snapshot", number=self.number, at=now, rows=rows, totals=totals, health={}, hungry=False)

    def work(self, every: float, last: int) -> None:
        self.say(type="ready")
        while True:
            line = self.hear(every)
            if line is None:
                self.snapshot()
                if self.started >= last:
                    self.end("finished")
            elif line["type"] == "start":
                self.start = line["at"]
            elif line["type"] == "permit":
                self.permit = line
            elif line["type"] == "stop":
                self.end("stopped")

    def end(self, cause: str) -> None:
        self.snapshot()
        self.say(type="end", cause=cause, detail=" ".join(self.heard), at_ns=0)
        sys.exit(0)


def main(engine: FakeEngine) -> None:
    told = engine.hear(10)
    assert told is not None and told["type"] == "spec"
    spec = told["spec"]
    for line in spec.get("say", ()):
        engine.say(**line)
    if spec.get("print"):
        sys.stdout.write("x" * spec["print"] + "the end\n")
        sys.stdout.flush()
    match spec.get("do", "work"):
        case "work":
            engine.work(spec.get("every", 0.05), spec.get("last", 1 << 62))
        case "tell":
            engine.say(type="told", line=told, environment=sorted(os.environ), stdin=os.read(0, 1).hex())
        case "crash":
            raise RuntimeError("boom")
        case "blab":
            os.write(1, f"I know {told['secrets']['TOKEN']}\n".encode())
            sys.exit(1)
        case "fail":
            engine.say(type="end", cause="failed", detail="this can't be run")
        case "hang":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            engine.say(type="ready")
            while True:
                pass


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(FakeEngine(int(arguments[arguments.index("--in") + 1]), int(arguments[arguments.index("--out") + 1])))
