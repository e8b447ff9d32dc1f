"""An echo server with the library ``websockets``, for tests, as ``server_ws.js`` is one with ``ws``."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

counts: Counter[str] = Counter()
closes: Counter[str] = Counter()


async def talk(socket: ServerConnection) -> None:
    path = socket.request.path if socket.request is not None else ""
    if path == "/stats":
        await socket.send(json.dumps({**counts, "closes": closes}))
        await socket.wait_closed()
        return
    counts["connections"] += 1
    try:
        async for message in socket:
            counts["messages"] += 1
            await socket.send(_pieces(message) if path == "/fragments" else message)
            if path == "/fragments":
                await socket.ping()
    except ConnectionClosed:
        pass
    finally:
        await socket.wait_closed()
        closes[str(socket.close_code)] += 1


def _pieces(message: Any) -> list[Any]:
    third = max(1, -(-len(message) // 3))
    return [message[start : start + third] for start in range(0, len(message), third)] or [message]


async def main() -> None:
    async with serve(talk, "127.0.0.1", 0, ping_interval=None) as server:
        print(json.dumps({"port": next(iter(server.sockets)).getsockname()[1]}), flush=True)  # noqa: T201
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
