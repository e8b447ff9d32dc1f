"""A child of ``loads run``: one of the commands ``broker``, ``scheduler`` and ``worker``, with its imports done early.

    python -P -m loads.scheduler.local_child NAME FD [MODULE...]

It imports the modules while the others start, then reads one line of JSON from the descriptor: ``args`` of the command
and, for one of them, a ``job`` to send first. The broker's URL holds a secret, which so stands in nobody's arguments.
The same descriptor is the command's ``--parent-fd`` from then on; its end before the line ends the child.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from typing import Any


def main(argv: list[str]) -> None:
    """Be the child that the arguments describe."""
    name, fd, modules = argv[1], int(argv[2]), argv[3:]
    if modules:
        from gevent import monkey

        monkey.patch_all()
        for module in modules:
            importlib.import_module(module)
    order = json.loads(_line(fd) or "null")
    if order is None:
        return
    if "job" in order:
        _submit(order["broker"], order["job"])
    from loads_queue.cli import main as command

    command([name, *order["args"], "--parent-fd", str(fd)])


def _submit(broker: str, fields: dict[str, Any]) -> None:
    """Put a job on its queue, as anybody may; here the libraries for it are loaded already."""
    from loads_queue import codec
    from loads_queue.messages import JOBS, Job
    from loads_queue.queue import connect

    queue = connect(broker)
    try:
        queue.declare(JOBS)
        queue.send(JOBS, [codec.encode(Job(**fields), JOBS, time.time_ns())])
    finally:
        queue.close()


def _line(fd: int) -> bytes:
    """One line, and not a byte more: what follows is for whoever reads the descriptor next."""
    found = bytearray()
    while byte := os.read(fd, 1):
        if byte == b"\n":
            return bytes(found)
        found += byte
    return b""


if __name__ == "__main__":
    main(sys.argv)
