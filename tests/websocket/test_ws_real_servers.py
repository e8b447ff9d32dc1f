"""Servers that nobody here wrote: the library ``websockets``, and ``ws`` of the npm registry."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_harness import counted_load, open_load
from ws_runs import run, sockets_of
from ws_server import ORDER, conversation, expect, ping, send

HERE = Path(__file__).parent
MODULES = Path(sys.prefix) / "node" / "node_modules"
"""Where scripts/services.sh puts the library ``ws``."""


def _command(name: str) -> list[str]:
    if name == "websockets":
        return [sys.executable, str(HERE / "server_websockets.py")]
    node = shutil.which("node")
    if node is None or not (MODULES / "ws").is_dir():
        message = "node or its library ws is not installed: make services"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return [node, str(HERE / "server_ws.js")]


@pytest.fixture(scope="module", params=["websockets", "ws"])
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    """Its URL."""
    env = {**os.environ, "NODE_PATH": str(MODULES)}
    process = subprocess.Popen(_command(request.param), stdout=subprocess.PIPE, env=env)
    assert process.stdout is not None
    try:
        yield f"ws://127.0.0.1:{json.loads(process.stdout.readline())['port']}"
    finally:
        process.kill()
        process.wait()


def stats(server: str) -> dict[str, Any]:
    """What the server counted so far."""
    from websockets.sync.client import connect

    with connect(server + "/stats") as socket:
        found: dict[str, Any] = json.loads(socket.recv())
    return found


SIZES = (0, 1, 125, 126, 65_535, 65_536, 300_000)


@pytest.mark.parametrize("deflate", [False, True], ids=["plain", "deflate"])
@pytest.mark.parametrize("path", ["/echo", "/fragments"])
def test_messages_of_every_size_there_and_back(server: str, path: str, deflate: bool) -> None:
    before = stats(server)
    actions = []
    for size in SIZES:
        text = ("grüße " * (size // 7 + 1)).encode()[:size].decode("utf-8", "ignore")
        actions += [send(text), expect("text", text[:100]), send("AAEC" * (size // 3), "binary"), expect()]
    engine = run(conversation(server + path, *actions, ping(), deflate=deflate), counted_load(2, 2))
    after = stats(server)
    assert engine.total.ok == 4, engine.requests.errors
    assert after["connections"] - before.get("connections", 0) == 4
    assert after["messages"] - before.get("messages", 0) == sockets_of(engine).messages_out == 4 * 2 * len(SIZES)
    assert after["closes"]["1000"] - before["closes"].get("1000", 0) == 4
    assert (sockets_of(engine).codes, sockets_of(engine).ping.count) == ({1000: 4}, 4)


def test_a_hundred_sessions_a_second(server: str) -> None:
    before = stats(server)
    engine = run(conversation(server + "/echo", send("x", reply=ORDER)), open_load(100, 2))
    after = stats(server)
    assert engine.total.ok == 200, engine.requests.errors
    assert after["messages"] - before["messages"] == 200
