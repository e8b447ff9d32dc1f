"""The engine for ``http:`` steps; see docs/http-engine.md."""

from __future__ import annotations

import time

from loads_queue.model.scenario import HttpScenario

from . import drivers
from .bodies import with_files
from .scenario_run import Scenario
from .serving import serve
from .setting import Setting
from .world import Order


def run(fd_in: int, fd_out: int) -> int:
    """Be one over two descriptors, to the end; the exit status."""
    return serve(prepare, fd_in, fd_out)


def prepare(order: Order) -> Setting:
    """What an ``http:`` step needs; raises ValueError or OSError."""
    spec = HttpScenario.from_wire(order.spec)
    scenario = Scenario(with_files(spec, order.files), lambda: int(time.time()))
    return Setting(
        scenario=scenario,
        driver=drivers.choose(scenario.program, order.path),
        origins=tuple(scenario.origins()),
        data=spec.data,
        dns=spec.dns,
        tls=spec.tls,
        shares=spec.connections.reuse,
    )
