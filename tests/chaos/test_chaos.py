"""One seed of chaos on every broker, and what makes a seed one script.

The seeds are processes of their own and run side by side: they wait most of the time. ``make chaos`` runs more of
them.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import services
from chaos_script import BROKERS, KINDS, LAST_S, WORKERS, script_for

SEEDS = {"embedded": 1, "redis": 8, "sqs": 8, "rabbitmq": 5}
"""Among them every part is killed, stopped and continued, and deliveries come twice, late and out of order."""
SEED_PROGRAM = Path(__file__).with_name("chaos_seed.py")
PATIENCE_S = 300
NEEDS = {"redis": "redis-server", "rabbitmq": "rabbitmq-server"}


class Seeds:
    """The seeds' processes."""

    def __init__(self, folder: Path, brokers: list[str], stack: ExitStack) -> None:
        self.outputs = {broker: folder / broker for broker in brokers}
        self.processes = {broker: self._start(broker, stack) for broker in brokers}

    def _start(self, broker: str, stack: ExitStack) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(SEED_PROGRAM), "--broker", broker, "--seed", str(SEEDS[broker])]
        output = stack.enter_context(self.outputs[broker].open("wb"))
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        stack.callback(_end, process)
        return process


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGINT lets it end what it started."""
    if process.poll() is None:
        process.send_signal(2)
        process.wait(60)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Seeds]:
    """A seed for each broker that is asked for and can be had."""
    wanted = [broker for broker in BROKERS for item in request.session.items if f"[{broker}]" in item.nodeid]
    with ExitStack() as stack:
        yield Seeds(tmp_path_factory.mktemp("chaos"), [each for each in dict.fromkeys(wanted) if _there(each)], stack)


def _there(broker: str) -> bool:
    try:
        return not (need := NEEDS.get(broker)) or bool(services.program(need, f"/usr/lib/rabbitmq/bin/{need}"))
    except (pytest.skip.Exception, pytest.fail.Exception):
        return False


@pytest.mark.parametrize("broker", BROKERS)
def test_a_seed_of_chaos_loses_nothing(broker: str, seeds: Seeds) -> None:
    if need := NEEDS.get(broker):
        services.program(need, f"/usr/lib/rabbitmq/bin/{need}")
    status = seeds.processes[broker].wait(PATIENCE_S)
    assert status == 0, seeds.outputs[broker].read_text()[-20000:]


@pytest.mark.parametrize("broker", BROKERS)
def test_a_seed_is_one_script(broker: str) -> None:
    scripts = [script_for(seed, broker) for seed in range(100)]
    assert scripts == [script_for(seed, broker) for seed in range(100)]
    assert len({script.describe() for script in scripts}) == len(scripts)


def test_the_seeds_of_every_day_kill_and_stop_every_part() -> None:
    scripts = [script_for(seed, broker) for broker, seed in SEEDS.items()]
    kinds = {fault.kind for script in scripts for fault in script.faults}
    parts = ("engine", "agent", "scheduler", "broker")
    assert {f"{part}_kill" for part in parts} | {"scheduler_stop", "broker_stop", "host_stop", "agent_stop"} <= kinds
    assert any(script.disorder.held_back for script in scripts) and any(script.standby for script in scripts)


def test_seeds_bring_every_fault_within_the_load() -> None:
    faults = [fault for seed in range(100) for fault in script_for(seed, "redis").faults]
    assert {fault.kind for fault in faults} == set(KINDS)
    assert all(0 < fault.at_s <= LAST_S and fault.who < WORKERS for fault in faults)


def test_everything_that_is_stopped_goes_on() -> None:
    faults = [fault for seed in range(100) for fault in script_for(seed, "sqs").faults]
    assert all(fault.for_s > 0 for fault in faults if fault.kind != "engine_kill")
