"""A cluster of real processes for one chaos run: broker, scheduler (and standby), workers, target, database."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import services
from chaos_parts import MARK, Clock, Disk, Part, counted, end_marked, marked, wait_until
from chaos_script import LEASE_S, SLOTS, Disorder, plan_document
from loads.scheduler.reader import Reader

from loads_queue import codec
from loads_queue.messages import JOBS, Job
from loads_queue.queue import QueueError, connect

FINAL_AFTER_S = 12
TEND_S = 0.2
LEAVE_S = 30.0


class Cluster:
    """The parts of a cluster, up and ready; ``close`` ends all of them."""

    def __init__(
        self, folder: Path, broker: str, workers: int, slots: int = SLOTS, disorder: Disorder | None = None,
        standby: bool = False, final_after_s: float = FINAL_AFTER_S, lease_s: float = LEASE_S,
        more: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.folder = folder
        self.mark = uuid.uuid4().hex
        self.slots = slots
        self.stack = ExitStack()
        self.disorder = disorder or Disorder(0)
        self.timing = {
            "CHAOS_FINAL_AFTER": str(final_after_s),
            "LOADS_LEASE_TTL": f"{lease_s}s",
            "LOADS_LISTEN": "127.0.0.1:0",
            **(more or {}),
        }
        self.disk = Disk(folder / "db")
        self.stack.callback(self.disk.close)
        self.database = f"sqlite:///{self.disk.folder / 'loads.sqlite3'}"
        self.clocks: dict[int, Clock] = {}
        self.names: dict[int, str] = {}
        self._tending = threading.Event()
        try:
            self.broker = self._start_broker(broker)
            self.target_part = self._part("target", lambda: ["demo-target", "--port", "0"], -1)
            self.target_part.start()
            self.schedulers = [self._scheduler("scheduler")]
            self.schedulers[0].start()
            self.workers = [self._worker(number) for number in range(workers)]
            for worker in self.workers:
                worker.start()
            self.target = self.target_part.wait_ready().rstrip("/")
            self.schedulers[0].wait_ready()
            for worker in self.workers:
                worker.wait_ready()
            if standby:
                self.schedulers.append(self._scheduler("standby"))
                self.schedulers[1].start()
            self.reader = Reader(self.database)
            self._tender = threading.Thread(target=self._tend, daemon=True)
            self._tender.start()
        except BaseException:
            self.close()
            raise

    def _environ(self, name: str, clock: int) -> Mapping[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("LOADS_", "CHAOS_"))}
        # A home each: they are different machines.
        home = self.folder / f"home.{name}"
        own = {MARK: self.mark, "LOADS_HOME": str(home), "PYTHONUNBUFFERED": "1", **self.timing}
        if any(asdict(self.disorder).values()) and name not in ("target", "broker"):
            own["CHAOS_DISORDER"] = json.dumps(asdict(self.disorder))
        if clock in self.clocks:
            own["CHAOS_CLOCK"] = str(self.clocks[clock].path)
        return {**kept, **own}

    def _part(self, name: str, command: Any, clock: int) -> Part:
        return Part(name, self.folder, command, lambda: self._environ(name, clock))

    def _start_broker(self, kind: str) -> services.Service:
        folder = self.folder / "broker"
        folder.mkdir()
        os.environ[MARK] = self.mark  # for the services, which inherit this process's environment
        if kind == "rabbitmq":
            service: services.Service = self.stack.enter_context(services.rabbitmq(folder))
            service.wait_ready()
        else:
            make = {"embedded": services.embedded, "sqs": services.moto, "redis": services.redis}[kind]
            service = self.stack.enter_context(services.running(make(folder)))
        return service

    def _scheduler(self, name: str) -> Part:
        self.clocks.setdefault(-1, Clock(self.folder / "clock"))
        command = ["scheduler", "--broker", self.broker.url, "--db", self.database]
        return self._part(name, lambda: command, -1)

    def _worker(self, number: int) -> Part:
        clock = self.clocks.setdefault(number, Clock(self.folder / f"clock.{number}"))
        assert clock
        part: Part = self._part(f"worker{number}", lambda: self.worker_command(number), number)
        return part

    def worker_command(self, number: int) -> list[str]:
        """How a worker is started; its name has a letter for each time that it came back as somebody else."""
        name = self.names.setdefault(number, f"w{number}")
        files = str(self.folder / "files")
        return ["worker", "--broker", self.broker.url, "--files", files, "--name", name, "--slots", str(self.slots)]

    def parts(self) -> list[Part]:
        """All that is tended."""
        return [self.target_part, *self.schedulers, *self.workers]

    def _tend(self) -> None:
        while not self._tending.wait(TEND_S):
            for part in self.parts():
                part.tend()

    # Runs

    def submit(self, document: Mapping[str, Any], times: int = 1, workers: int | None = None) -> str:
        """Hand a job over by the queue, so many times; returns the run's id."""
        run = uuid.uuid4().hex[:12]
        job = Job(id=run, plan=document, owner="chaos", workers=workers)
        queue = connect(self.broker.url)
        try:
            for _ in range(times):
                wait_until(lambda: self._sent(queue, job), 30, "the job is sent", 0.3)
        finally:
            queue.close()
        return run

    def _sent(self, queue: Any, job: Job) -> bool:
        try:
            queue.declare(JOBS, 20)
            queue.send(JOBS, [codec.encode(job, JOBS, time.time_ns())])
        except QueueError:
            return False
        return True

    def view(self, run: str) -> Any:
        """A run as the database has it, or None."""
        return self.reader.run_view(run)

    def wait_state(self, run: str, states: tuple[str, ...], seconds: float) -> Any:
        """The view of a run once it is in one of these states."""

        def there() -> Any:
            view = self.view(run)
            return view if view is not None and str(view.state) in states else None

        return wait_until(there, seconds, f"run {run} is {' or '.join(states)}", 0.1)

    def summary(self, run: str, seconds: float) -> dict[str, Any]:
        """A run's summary, once it is final."""
        return dict(wait_until(lambda: self.reader.summary(run), seconds, f"run {run} is final", 0.2))

    def count(self) -> dict[str, Any]:
        """The target's own count."""
        return counted(self.target)

    # The end

    def leave(self) -> list[str]:
        """End all parts orderly; what they left behind, or did wrong on the way."""
        self._tending.set()
        self._tender.join()
        found = [problem for part in self.parts() for problem in part.strange]
        for part in [*self.workers, *self.schedulers, self.target_part]:
            if part.pid is not None and (status := part.leave(LEAVE_S)) != 0:
                found.append(f"{part.name} left with {status} after SIGTERM; see {part.log}")
        self.close()
        wait_until(lambda: True, 1, "")
        found += [f"left behind: {line}" for line in marked(self.mark)]
        ports = SimpleNamespace(broker=self.broker.port, target=int(self.target.rpartition(":")[2]))
        found += [f"port {port} of the {name} is still open" for name, port in vars(ports).items() if _open(port)]
        return found

    def close(self) -> None:
        """End whatever is still there, at once."""
        self._tending.set()
        for part in [
            getattr(self, "target_part", None),
            *getattr(self, "schedulers", ()),
            *getattr(self, "workers", ()),
        ]:
            if part is not None:
                part.kill()
        if reader := getattr(self, "reader", None):
            reader.close()
        self.stack.close()
        os.environ.pop(MARK, None)

    def end_leftovers(self) -> None:
        """The last resort: SIGKILL to what carries the run's mark."""
        end_marked(self.mark)


def _open(port: int) -> bool:
    import socket

    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def cluster(folder: Path, broker: str, workers: int, **options: Any) -> Iterator[Cluster]:
    """A cluster that is gone afterwards, whatever happens."""
    made = Cluster(folder, broker, workers, **options)
    try:
        yield made
    finally:
        made.close()
        made.end_leftovers()


def small_plan(target: str, shards: int) -> dict[str, Any]:
    """A second run that needs every slot, and no fault."""
    step = {
        "name": "after", "workers": shards, "load": {"rate": 20, "for": "3s"}, "http": {"do": [{"get": "/status/204"}]},
    }  # fmt: skip
    return plan_document((step,), target, "after") | {"thresholds": ["error_rate == 0"]}
