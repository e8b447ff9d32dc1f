"""How an engine on gevent's loop speaks its protocol, whatever it does: one session, to its end."""

from __future__ import annotations

import os

import gevent

from .channel import Channel
from .session import Session
from .setting import Prepare


def serve(prepare: Prepare, fd_in: int, fd_out: int) -> int:
    """Speak the engine's protocol over two descriptors until the end; the exit status. See ``engine_main``."""
    hub = gevent.get_hub()
    main = gevent.getcurrent()
    over: list[int] = []

    def finish() -> None:
        over.append(0)
        hub.loop.run_callback(main.switch)

    def lost(reason: str) -> None:
        # Nobody is there to report to, and nothing may be sent without a permit: leave at once.
        os._exit(3)

    channel = Channel(hub, fd_in, fd_out)
    session = Session(hub, channel, finish, prepare)
    channel.listen(session.take, lost)
    hub.switch()
    channel.drain()
    return over[0]
