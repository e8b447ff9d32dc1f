"""Whole engines against scripted servers, and the laws that hold of whatever they did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine_harness import EngineProcess

from loads_queue.model.sockets import Sockets


def sockets_of(engine: EngineProcess) -> Sockets:
    """All that an engine counted of its sessions."""
    found = engine.total.sockets
    assert found is not None, "no row has sockets"
    return found


def check(engine: EngineProcess) -> None:
    """What holds at an engine's end."""
    found = engine.total.sockets
    if found is not None:
        assert found.opened == found.closed == sum(found.codes.values()), found
        assert found.lifetime.count == found.closed
        assert sum(found.failures.values()) <= found.closed
        assert found.unsolicited <= found.messages_in
    total = engine.total
    assert total.in_flight == 0 and total.started == total.ok + total.failed + total.interrupted


def run(spec: Mapping[str, Any], load: Mapping[str, Any], **more: Any) -> EngineProcess:
    """A whole run of a step with one shard and an endless permit; the ended engine."""
    engine = EngineProcess("websocket")
    try:
        engine.spec(spec, load, **more)
        engine.until_ready()
        engine.permit()
        engine.start(0.1)
        engine.finish()
        check(engine)
    finally:
        engine.close()
    return engine
