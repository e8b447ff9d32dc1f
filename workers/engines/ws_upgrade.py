"""The handshake of a WebSocket step, made for each session from what the plan says."""

from __future__ import annotations

import re

from loads_queue.model.template import Template
from loads_queue.model.websocket import WebSocketScenario

from . import urls
from .errors import Refused
from .prepared import USER_AGENT, auth_template, authorization
from .urls import Origin
from .variables import ANYBODY, Visit
from .ws_handshake import new_key, request
from .ws_program import sayable

_SCHEME = re.compile(r"(?i:ws(s?)):(?=//)")


class Upgrade:
    """Makes handshakes. Raises ValueError for what can't be run."""

    def __init__(self, spec: WebSocketScenario) -> None:
        self._url = Template.parse(spec.url)
        given = {name.lower() for name, _ in spec.headers}
        own = () if "user-agent" in given else (("User-Agent", USER_AGENT),)
        self._headers = [(name, Template.parse(value)) for name, value in (*own, *spec.headers)]
        self._auth = [] if "authorization" in given else auth_template(spec.auth)
        self._subprotocols = spec.subprotocols
        self._deflate = spec.deflate
        self._fixed = self._target(ANYBODY) if self._url.literal is not None else None

    def origin(self) -> Origin | None:
        """Where it goes, as far as that is known beforehand."""
        return self._fixed.origin if self._fixed is not None else None

    def build(self, visit: Visit) -> tuple[Origin, bytes, str]:
        """Where to connect, the handshake's bytes, and its key; raises Refused."""
        with sayable():
            url = self._fixed or self._target(visit)
            headers = [(name, value.text(visit.resolve)) for name, value in self._headers]
            if self._auth:
                headers.append(("Authorization", authorization([part.text(visit.resolve) for part in self._auth])))
        origin, key = url.origin, new_key()
        wire = request(origin.authority, url.target, key, headers, self._subprotocols, self._deflate)
        return origin, wire, key

    def _target(self, visit: Visit) -> urls.Url:
        text, found = _SCHEME.subn(r"http\1:", self._url.text(visit.resolve), count=1)
        if not found:
            raise Refused("refused: not a ws URL")
        return urls.parse(text)
