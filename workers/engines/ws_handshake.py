"""The opening handshake of WebSocket (RFC 6455, 4.1), the client's side, as pure functions: request and judgement.

The answer's head comes from ``http1.HeadParser``: names in lower case, values as Latin-1.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from . import ws_deflate
from .errors import ProtocolError, Refused, RequestError
from .http1 import encode_request
from .ws_deflate import Deflate

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_SUBPROTOCOL = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = frozenset({"upgrade", "connection", "content-length", "transfer-encoding"})
"""Headers that no plan sets; nor those that begin with ``sec-websocket-``."""


@dataclass(frozen=True, slots=True)
class Agreed:
    """What a server agreed to: one of the subprotocols, or none, and compression, or none."""

    subprotocol: str | None
    deflate: Deflate | None


def new_key() -> str:
    """A Sec-WebSocket-Key: 16 random bytes in base64, for one handshake."""
    return base64.b64encode(os.urandom(16)).decode()


def accept_of(key: str) -> str:
    """The Sec-WebSocket-Accept that answers a key."""
    return base64.b64encode(hashlib.sha1(key.encode() + _MAGIC, usedforsecurity=False).digest()).decode()


def request(
    host: str,
    target: str,
    key: str,
    headers: Iterable[tuple[str, str]],
    subprotocols: Sequence[str],
    deflate: bool,
) -> bytes:
    """The bytes of the request for an upgrade; ``host`` is the value of Host, unless ``headers`` have one.

    Raises Refused where a header or the target would break out of its place, for headers that the handshake itself
    sets, and for subprotocols that are no words or come twice.
    """
    own = list(headers)
    for name, _ in own:
        if name.lower() in _OURS or name.lower().startswith("sec-websocket-"):
            raise Refused("refused: a header that the handshake sets")
    lines = [] if any(name.lower() == "host" for name, _ in own) else [("Host", host)]
    lines += [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", key),
        ("Sec-WebSocket-Version", "13"),
    ]
    if subprotocols:
        lines.append(("Sec-WebSocket-Protocol", _listed(subprotocols)))
    if deflate:
        lines.append(("Sec-WebSocket-Extensions", ws_deflate.offer()))
    return encode_request("GET", target, lines + own, b"")


def _listed(subprotocols: Sequence[str]) -> str:
    if len(set(subprotocols)) < len(subprotocols):
        raise Refused("refused: a subprotocol that is offered twice")
    if not all(_SUBPROTOCOL.fullmatch(name) for name in subprotocols):
        raise Refused("refused: not a subprotocol's name")
    return ", ".join(subprotocols)


def judge(
    status: int, headers: Iterable[tuple[str, str]], key: str, subprotocols: Sequence[str], deflate_offered: bool
) -> Agreed:
    """What the server agreed to with its answer, of which the body does not matter; raises RequestError."""
    if status != 101:
        raise RequestError(f"status: {status}")
    values: dict[str, str] = {}
    for name, value in headers:
        values[name] = f"{values[name]}, {value}" if name in values else value
    tokens = {token.strip(" \t").lower() for token in values.get("connection", "").split(",")}
    if values.get("upgrade", "").lower() != "websocket" or "upgrade" not in tokens:
        raise ProtocolError("protocol: not an upgrade to websocket")
    if values.get("sec-websocket-accept") != accept_of(key):
        raise ProtocolError("protocol: a wrong Sec-WebSocket-Accept")
    subprotocol = values.get("sec-websocket-protocol")
    if subprotocol is not None and subprotocol not in subprotocols:
        raise ProtocolError("protocol: a subprotocol that was not offered")
    extensions = values.get("sec-websocket-extensions")
    return Agreed(subprotocol, ws_deflate.agree(extensions, ws_deflate.Offer() if deflate_offered else None))
