"""A worker's host: clocks that are off, one agent at a time, its engines, and a disk that outlives them.

The agent's decisions are the real ones (``loads.workers.agent``); its edge is simulated: publishing takes time and is
tried until the broker has it, lines travel through pipes, an engine takes a while to start, and a killed agent leaves
its engines with the end of their control descriptor.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from loads.workers import agent, agent_events
from loads.workers.agent_state import AgentState
from loads.workers.agent_state import Settings as AgentSettings
from loads.workers.clock import Moment

from loads_queue.messages import REPORTS, Control, Hello, LoadStep, Report, control_queue, steps_queue
from tests.simulator.broker import Broker, BrokerDown, Delivery
from tests.simulator.engines import EngineProcess, make_engine
from tests.simulator.target import Target
from tests.simulator.world import MS, SECOND, HostClock, Process, World

PIPE_NS = 200_000
OFFERS = steps_queue("any", "process")
BATCH = 10
RETRY_NS = SECOND // 2


class Host:
    """One machine with a worker on it."""

    def __init__(self, world: World, broker: Broker, target: Target, name: str, slots: int, clock: HostClock) -> None:
        self.world, self.broker, self.target = world, broker, target
        self.name, self.slots, self.clock = name, slots, clock
        self.dice = world.dice(name)
        self.agent: AgentProcess | None = None
        self.engines: list[EngineProcess] = []
        self.lives = 0
        self.claims = 0
        self.spool: dict[str, dict[int, Report]] = {}
        """Reports on disk, by incarnation and sequence, that the scheduler may not have taken in."""
        self.broken_engines = 0.0
        """The share of engines that can't start."""
        self.granted: Callable[[str], bool] = lambda _: True
        """Whether a claim stands in the database as granted; asked where an engine is started."""

    def boot(self) -> None:
        """Start the agent; it first ends what an earlier one left behind."""
        for engine in self.engines:
            engine.kill()
        self.engines.clear()
        self.lives += 1
        self.agent = AgentProcess(self, self.lives)
        self.world.note(self.name, f"agent starts, life {self.lives}")
        self.broker.subscribe(control_queue(self.name), self.agent)
        self.broker.subscribe(OFFERS, self.agent)
        self.agent.step(agent_events.Tick())

    def kill_agent(self) -> None:
        """SIGKILL to the agent; its engines find their control descriptor at its end."""
        process = self.agent
        if process is None or not process.alive:
            return
        self.world.note(self.name, "agent killed")
        self._leave(process)
        for engine in self.engines:
            engine.after(PIPE_NS, engine.cut_off)

    def power_off(self) -> None:
        """Everything is gone at once; CLOCK_BOOTTIME will begin anew."""
        self.world.note(self.name, "power off")
        if self.agent is not None:
            self._leave(self.agent)
        for engine in self.engines:
            engine.kill()
        self.engines.clear()
        if self.dice.random() < 0.5:
            self.spool.clear()  # Nothing there was forced to the disk.
        self.clock.reboot(self.dice.randrange(SECOND))

    def exited(self, process: AgentProcess) -> None:
        """The agent has ended by itself."""
        self.world.note(self.name, "agent exits")
        if not process.state.claims:
            self.spool.pop(process.state.settings.incarnation, None)
        self._leave(process)
        for engine in self.engines:
            engine.kill()
        self.engines.clear()

    def _leave(self, process: AgentProcess) -> None:
        process.kill()
        self.broker.leave(process)
        if self.agent is process:
            self.agent = None

    def pause(self) -> None:
        """The machine is suspended: nothing runs, and its clocks run on."""
        self.world.note(self.name, "suspended")
        for process in self.processes():
            process.pause()

    def resume(self, processes: list[Process]) -> None:
        """What was suspended goes on."""
        self.world.note(self.name, "goes on")
        for process in processes:
            if process.alive:
                process.resume()

    def processes(self) -> list[Process]:
        """Agent and engines."""
        found: list[Process] = [*self.engines]
        if self.agent is not None:
            found.insert(0, self.agent)
        return found

    def running(self) -> list[EngineProcess]:
        """Engines that live."""
        return [engine for engine in self.engines if engine.alive]


class AgentProcess(Process):
    """The agent around its real core."""

    def __init__(self, host: Host, life: int) -> None:
        super().__init__(host.world, host.name)
        self.host = host
        self.dice = host.dice
        settings = AgentSettings(
            worker=host.name,
            incarnation=f"{host.name}.{life}",
            hello=Hello("simulated", host.name, life),
            slots=host.slots,
            new_id=self._new_claim,
        )
        self.state = AgentState.fresh(settings, host.clock.boot)
        self.engines: dict[str, EngineProcess] = {}
        self.starting: set[str] = set()
        self.prefetch = 0
        self.offers: set[Delivery] = set()
        self._former = [report for life in host.spool.values() for _, report in sorted(life.items())]
        self._outgoing: deque[Report] = deque()
        self._publishing = True
        self._applied = 0
        self._wake: int | None = None
        self._commands: deque[Any] = deque()
        self._busy = False
        self._send_former()

    def _new_claim(self) -> str:
        self.host.claims += 1
        return f"{self.host.name}-c{self.host.claims}"

    @property
    def moment(self) -> Moment:
        """Both clocks of the host."""
        return Moment(self.host.clock.boot, self.host.clock.wall)

    # What the broker asks

    def room(self, queue: str) -> bool:
        """Offers only as many as slots are free; Controls always."""
        return self.alive and (queue != OFFERS or len(self.offers) < self.prefetch)

    def take(self, delivery: Delivery) -> None:
        """A delivery; one in a paused agent's socket waits there."""
        if delivery.queue == OFFERS:
            self.offers.add(delivery)
        self.do(lambda: self._received(delivery))

    def _received(self, delivery: Delivery) -> None:
        message = delivery.message
        if isinstance(message, LoadStep):
            self.step(agent_events.OfferReceived(message, delivery))
        elif isinstance(message, Control):
            self._check_epoch(message)
            self.host.broker.ack(delivery)

    def _check_epoch(self, control: Control) -> None:
        before = (self.state.epoch, self.state.revision)
        orders = {name: claim.order for name, claim in self.state.claims.items()}
        self.step(agent_events.ControlReceived(control))
        if (control.epoch, control.revision) < before and self.alive:
            changed = [
                name for name, order in orders.items()
                if name in self.state.claims and self.state.claims[name].order != order
            ]  # fmt: skip
            if changed or (self.state.epoch, self.state.revision) < before:
                self.world.wrong(f"{self.name} obeyed a Control of {control.epoch}.{control.revision} after {before}")

    # The core

    def step(self, event: Any) -> None:
        """Let the core decide, and carry out what it wants."""
        if not self.alive:
            return
        self._commands.extend(agent.step(self.state, event, self.moment))
        if self.state.applied > self._applied:
            self._trim(self.state.applied)
        if self._busy:
            return
        self._busy = True
        while self._commands and self.alive:
            self._carry_out(self._commands.popleft())
        self._busy = False
        self._sleep()

    def _sleep(self) -> None:
        """Tick when the core wants to."""
        if not self.alive:
            return
        at = agent.wake_at(self.state)
        if self._wake is not None and self._wake <= at:
            return
        self._wake = at

        def tick() -> None:
            if self._wake == at:
                self._wake = None
                self.step(agent_events.Tick())

        self.after(max(self.host.clock.until(at), MS // 2), tick)

    def _carry_out(self, command: Any) -> None:
        match command:
            case agent_events.Publish(report):
                if report.claims:
                    self.host.spool.setdefault(report.incarnation, {})[report.sequence] = report
                self._outgoing.append(report)
                self._publish()
            case agent_events.SendToEngine(claim, line):
                self._tell(claim, line)
            case agent_events.StartEngine(claim, offer):
                self._start(claim, offer)
            case agent_events.KillEngine(claim, signal):
                self._kill(claim, signal)
            case agent_events.SetPrefetch(count):
                self.prefetch = count
                self.after(0, lambda: self.host.broker.pump(OFFERS))
            case agent_events.Ack(delivery):
                self._done(delivery)
                self.host.broker.ack(delivery)
            case agent_events.Release(delivery):
                self._done(delivery)
                self.host.broker.release(delivery)
            case agent_events.Log(level, text, _, shard):
                where = "" if shard is None else f" shard {shard}"
                self.world.note(self.name, f"{level}{where}: {text}")
            case agent_events.Exit(_):
                self.host.exited(self)

    def _done(self, delivery: Any) -> None:
        self.offers.discard(delivery)
        self.after(0, lambda: self.host.broker.pump(OFFERS))

    # Publishing

    def _trim(self, applied: int) -> None:
        """What the scheduler has needs no file any more; nor what former lives left, once that was sent."""
        self._applied = applied
        mine = self.state.settings.incarnation
        for sequence in [each for each in self.host.spool.get(mine, ()) if each <= applied]:
            del self.host.spool[mine][sequence]
        if not self._former:
            for life in [each for each in self.host.spool if each != mine]:
                del self.host.spool[life]

    def _send_former(self) -> None:
        """Before this life says anything: what earlier ones measured."""
        batch, rest = self._former[:BATCH], self._former[BATCH:]
        if not batch:
            self._publishing = False
            self._publish()
            return

        def send() -> None:
            try:
                for report in batch:
                    self.host.broker.send(REPORTS, report)
            except BrokerDown:
                self.after(RETRY_NS, send)
                return
            for report in batch:
                self.host.target.published(report)
            self._former = rest
            self._send_former()

        self.after(self.dice.randrange(MS // 2, 8 * MS), send)

    def _publish(self) -> None:
        if self._publishing or not self._outgoing:
            return
        self._publishing = True
        batch = [self._outgoing.popleft() for _ in range(min(BATCH, len(self._outgoing)))]
        self.after(self.dice.randrange(MS // 2, 8 * MS), lambda: self._send(batch))

    def _send(self, batch: list[Report]) -> None:
        try:
            for report in batch:
                self.host.broker.send(REPORTS, report)
        except BrokerDown:
            self.after(RETRY_NS, lambda: self._send(batch))
            return
        for report in batch:
            self.host.target.published(report)
        self.after(self.dice.randrange(MS // 2, 8 * MS), lambda: self._sent(batch))

    def _sent(self, batch: list[Report]) -> None:
        self._publishing = False
        for report in batch:
            self.step(agent_events.Published(report.sequence))
        self._publish()

    # Engines

    def _start(self, claim: str, offer: LoadStep) -> None:
        if not self.host.granted(claim):
            self.world.wrong(f"{self.name} starts an engine for {claim}, which nobody has granted")
        self.starting.add(claim)

        def start() -> None:
            if claim not in self.starting:
                return
            self.starting.discard(claim)
            engine = make_engine(self.host, claim, offer, lambda line: self._said(claim, line), self._gone(claim))
            self.engines[claim] = engine
            self.host.engines.append(engine)
            self.step(agent_events.EnginePrepared(claim, engine.requests_per_pass))

        self.after(self.dice.randrange(20 * MS, SECOND // 2), start)

    def _said(self, claim: str, line: Mapping[str, Any]) -> None:
        self.after(PIPE_NS, lambda: self.step(agent_events.EngineLine(claim, line)))

    def _gone(self, claim: str) -> Callable[[int], None]:
        def gone(status: int) -> None:
            def hear() -> None:
                self.engines.pop(claim, None)
                self.step(agent_events.EngineExited(claim, status))

            self.after(2 * PIPE_NS, hear)

        return gone

    def _tell(self, claim: str, line: Mapping[str, Any]) -> None:
        engine = self.engines.get(claim)
        if engine is not None:
            engine.after(PIPE_NS, lambda: engine.hear(line))

    def _kill(self, claim: str, signal: str) -> None:
        if claim in self.starting:
            self.starting.discard(claim)
            self.after(PIPE_NS, lambda: self.step(agent_events.EngineExited(claim, -9)))
        elif (engine := self.engines.get(claim)) is not None:
            engine.signal(signal)

    @property
    def idle(self) -> bool:
        """Whether every slot is free again."""
        return self.state.free == self.state.settings.slots and not self.engines
