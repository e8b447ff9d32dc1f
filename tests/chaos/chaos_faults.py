"""Does what a script says, at the moments that it says, each fault in a thread of its own so that they overlap."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable

from chaos_cluster import Cluster
from chaos_parts import Part, children, held
from chaos_script import Fault

LEAVE_S = 25.0


class Chaos:
    """The faults of a script, on a cluster; ``done`` says what was done, ``problems`` what could not be."""

    def __init__(self, cluster: Cluster, faults: tuple[Fault, ...]) -> None:
        self.cluster = cluster
        self.done: list[str] = []
        self.problems: list[str] = []
        self._broker = threading.Lock()
        """A broker is down, or stopped, once at a time."""
        self._began = time.monotonic()
        self._threads = [threading.Thread(target=self._perform, args=(fault,), daemon=True) for fault in faults]

    def start(self) -> None:
        """Begin; the script's times count from now."""
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        """Return once everything goes on again."""
        for thread in self._threads:
            thread.join()

    def _perform(self, fault: Fault) -> None:
        time.sleep(max(0.0, fault.at_s - (time.monotonic() - self._began)))
        act: Callable[[Fault], str] = getattr(self, fault.kind)
        try:
            what = act(fault)
            self.done.append(f"{fault}{what and f' ({what})'}")
        except Exception as error:
            self.problems.append(f"{fault}: {error!r}")

    # Engines and agents

    def engine_kill(self, fault: Fault) -> str:
        """SIGKILL to one engine of a worker."""
        return self._engines(fault, signal.SIGKILL)

    def engine_stop(self, fault: Fault) -> str:
        """An engine hangs; its agent doesn't."""
        return self._engines(fault, signal.SIGSTOP)

    def _engines(self, fault: Fault, number: signal.Signals) -> str:
        worker = self._worker(fault)
        pids = worker.engines()[:1]
        with held(pids) as engines:
            for engine in engines:
                engine.signal(number)
            if number is signal.SIGSTOP:
                time.sleep(fault.for_s)
                for engine in engines:
                    engine.signal(signal.SIGCONT)
        return f"{worker.name}, {len(pids)} engines"

    def agent_kill(self, fault: Fault) -> str:
        """SIGKILL to an agent; later it starts again, as itself or as somebody else."""
        worker = self._worker(fault)
        count = len(worker.engines())
        worker.kill()
        time.sleep(fault.for_s)
        self._return(fault, worker)
        return f"{worker.name}, {count} engines"

    def agent_leave(self, fault: Fault) -> str:
        """SIGTERM to an agent: it hands back what it holds."""
        worker = self._worker(fault)
        count = len(worker.engines())
        status = worker.leave(LEAVE_S)
        if status != 0:
            self.problems.append(f"{fault}: {worker.name} left with {status}; see {worker.log}")
        time.sleep(fault.for_s)
        self._return(fault, worker)
        return f"{worker.name}, {count} engines"

    def _return(self, fault: Fault, worker: Part) -> None:
        if fault.renamed:
            self.cluster.names[self.cluster.workers.index(worker)] += "x"
        worker.start()

    def agent_stop(self, fault: Fault) -> str:
        """An agent hangs; its engines don't."""
        worker = self._worker(fault)
        count = len(worker.engines())
        self._pause(worker, fault)
        return f"{worker.name}, {count} engines"

    def host_stop(self, fault: Fault) -> str:
        """An agent and its engines stand still: a machine that was suspended."""
        worker = self._worker(fault)
        with held(worker.engines()) as engines:
            for engine in engines:
                engine.signal(signal.SIGSTOP)
            self._pause(worker, fault)
            for engine in engines:
                engine.signal(signal.SIGCONT)
        return f"{worker.name}, {len(engines)} engines"

    def _worker(self, fault: Fault) -> Part:
        """The worker that is meant: counted among those that have engines, where any has, since others miss nothing."""
        workers = self.cluster.workers
        busy = [worker for worker in workers if worker.engines()] or workers
        return busy[fault.who % len(busy)]

    @staticmethod
    def _pause(part: Part, fault: Fault) -> None:
        part.signal(signal.SIGSTOP)
        time.sleep(fault.for_s)
        part.signal(signal.SIGCONT)

    # Scheduler, broker, disk, clocks

    def scheduler_kill(self, fault: Fault) -> str:
        """SIGKILL to a scheduler that is up; it starts again."""
        up = [part for part in self.cluster.schedulers if part.pid is not None]
        if not up:
            return "none was up"
        up[0].kill()
        time.sleep(fault.for_s)
        up[0].start()
        return up[0].name

    def scheduler_stop(self, fault: Fault) -> str:
        """All schedulers stand still (a standby would take over, and that is tried by kills)."""
        for part in self.cluster.schedulers:
            part.signal(signal.SIGSTOP)
        time.sleep(fault.for_s)
        for part in self.cluster.schedulers:
            part.signal(signal.SIGCONT)
        return ""

    def broker_kill(self, fault: Fault) -> str:
        """SIGKILL to the broker; it starts again on its data, if it keeps any."""
        with self._broker:
            self.cluster.broker.kill()
            time.sleep(fault.for_s)
            began = time.monotonic()
            self.cluster.broker.start()
            self.cluster.broker.wait_ready()
            return f"ready {time.monotonic() - began:.1f} s after its start"

    def broker_stop(self, fault: Fault) -> str:
        """The broker stands still, its connections with it."""
        with self._broker:
            process = self.cluster.broker.process
            assert process is not None
            with held([process.pid, *children(process.pid)]) as found:
                for each in found:
                    each.signal(signal.SIGSTOP)
                time.sleep(fault.for_s)
                for each in found:
                    each.signal(signal.SIGCONT)
        return ""

    def disk_full(self, fault: Fault) -> str:
        """No byte is left for the database."""
        disk = self.cluster.disk
        if not disk.small:
            return "passed over: it needs a file system of its own, and that root"
        disk.fill()
        time.sleep(fault.for_s)
        disk.clear()
        return ""

    def clock_jump(self, fault: Fault) -> str:
        """The wall clock of a worker, or of the scheduler, is set wrong, and set right again."""
        clock = self.cluster.clocks[fault.who]
        clock.set(fault.amount)
        time.sleep(fault.for_s)
        clock.set(0.0)
        return "scheduler's" if fault.who < 0 else f"worker {fault.who}'s"
