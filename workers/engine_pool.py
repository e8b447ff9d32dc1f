"""The engines of an agent, by claim: each is prepared, started, spoken to and ended here.

Lines that are sent while an engine is still being prepared wait for its spec; a kill in that time means that it is
never started. What happens comes back as events.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gevent

from loads_queue.files import FileStore
from loads_queue.messages import LoadStep

from .agent_events import EngineExited, EngineFailed, EngineLine, EnginePrepared, Event
from .engine_process import EngineProcess, PidFiles, engine_command, engine_environment
from .engine_spec import NotPrepared, prepare, requests_per_pass

SHORTEST_HIDDEN = 4
"""Secrets of fewer letters stand in any text by chance; hiding them would only garble it."""
Program = Callable[[str, int, int], list[str]]
"""The command for an engine's name and its two descriptors."""


@dataclass(slots=True)
class _Engine:
    process: EngineProcess | None = None
    waiting: list[Mapping[str, Any]] = field(default_factory=list)
    killed: bool = False
    secrets: list[str] = field(default_factory=list)
    """What must not stand in its output."""


class EnginePool:
    """Engines by claim; ``tell`` gets what happens to them."""

    def __init__(
        self,
        worker: str,
        files: FileStore,
        pids: PidFiles,
        environ: Mapping[str, str],
        tell: Callable[[Event], None],
        program: Program = engine_command,
    ) -> None:
        self._worker = worker
        self._files = files
        self._pids = pids
        self._environ = environ
        self._tell = tell
        self._program = program
        self._engines: dict[str, _Engine] = {}

    def start(self, claim: str, offer: LoadStep) -> None:
        """Begin to prepare an engine; returns at once."""
        self._engines[claim] = _Engine()
        gevent.spawn(self._prepare, claim, offer)

    def send(self, claim: str, line: Mapping[str, Any]) -> None:
        """Send a line, after the spec; one for an engine that is gone is dropped."""
        engine = self._engines.get(claim)
        if engine is None:
            return
        if engine.process is None:
            engine.waiting.append(line)
        else:
            engine.process.send(line)

    def kill(self, claim: str, signal: str) -> None:
        """Send ``TERM`` or ``KILL``."""
        engine = self._engines.get(claim)
        if engine is None:
            return
        engine.killed = True
        if engine.process is not None:
            engine.process.kill(signal)

    def kill_all(self) -> None:
        """Kill every engine."""
        for claim in list(self._engines):
            self.kill(claim, "KILL")

    def pids(self) -> list[int]:
        """The processes that run."""
        return [engine.process.pid for engine in self._engines.values() if engine.process is not None]

    def _prepare(self, claim: str, offer: LoadStep) -> None:
        engine = self._engines[claim]
        try:
            spec = self._spec(offer)
            engine.secrets = [value for value in spec["secrets"].values() if len(value) >= SHORTEST_HIDDEN]
            self._tell(EnginePrepared(claim, requests_per_pass(spec["spec"])))
            if engine.killed:
                del self._engines[claim]
                self._tell(EngineExited(claim, -9))
                return
            engine.process = self._process(claim, offer.engine)
            self._pids.add(engine.process.pid)
        except NotPrepared as error:
            self._failed(claim, str(error))
            return
        except OSError as error:
            self._failed(claim, f"the engine could not be started: {error}")
            return
        for line in (spec, *engine.waiting):
            engine.process.send(line)
        engine.waiting.clear()

    def _spec(self, offer: LoadStep) -> dict[str, Any]:
        arguments = (offer, self._worker, self._files, self._environ)
        if not offer.files and offer.spec is not None:
            return prepare(*arguments)
        # Files may be large, and reading them must not hold up the Reports of other engines.
        found: dict[str, Any] = gevent.get_hub().threadpool.apply(prepare, arguments)
        return found

    def _failed(self, claim: str, detail: str) -> None:
        engine = self._engines.pop(claim)
        if engine.process is not None:
            engine.process.kill("KILL")
        self._tell(EngineFailed(claim, detail))

    def _process(self, claim: str, name: str) -> EngineProcess:
        def exited(status: int, output: str) -> None:
            self._pids.remove(process.pid)
            engine = self._engines.pop(claim, None)
            if engine is not None:
                for secret in engine.secrets:
                    output = output.replace(secret, "(secret)")
                self._tell(EngineExited(claim, status, output))

        process = EngineProcess(
            lambda reading, writing: self._program(name, reading, writing),
            engine_environment(self._environ),
            lambda line: self._tell(EngineLine(claim, line)),
            exited,
        )
        return process
