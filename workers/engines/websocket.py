"""The engine for ``websocket:`` steps; see docs/websockets.md."""

from __future__ import annotations

from loads_queue.model.websocket import WebSocketScenario

from .serving import serve
from .setting import Setting
from .world import Order, World
from .ws_program import Script
from .ws_seats import Talks
from .ws_upgrade import Upgrade


def run(fd_in: int, fd_out: int) -> int:
    """Be one over two descriptors, to the end; the exit status."""
    return serve(prepare, fd_in, fd_out)


def prepare(order: Order) -> Setting:
    """What a ``websocket:`` step needs; raises ValueError or OSError."""
    spec = WebSocketScenario.from_wire(order.spec)
    script, upgrade = Script(spec, order.files), Upgrade(spec)
    origin = upgrade.origin()

    def driver(world: World) -> Talks:
        return Talks(world, spec, script, upgrade)

    return Setting(
        scenario=spec,
        driver=driver,
        origins=() if origin is None else (origin,),
        data=spec.data,
        dns=spec.dns,
        tls=spec.tls,
        shares=False,
        sources=spec.source_addresses,
    )
