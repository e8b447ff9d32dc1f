"""Talking to a scheduler's HTTP API: where it is, one call, and what went wrong in words for people."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from loads_queue.address import find_server
from loads_queue.model.problems import PlanError, Problem
from loads_queue.settings import Settings

PREFIX = "/api/v1"
PATIENCE_S = 30.0
EXIT_USAGE, EXIT_NO_SERVER = 2, 4


class ServerError(Exception):
    """The scheduler can't be reached, or refused; ``status`` is the HTTP status, None where no answer came."""

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status

    @property
    def exit_code(self) -> int:
        """4 where it is away or in trouble, 2 where it refused."""
        return EXIT_NO_SERVER if self.passing else EXIT_USAGE

    @property
    def passing(self) -> bool:
        """Whether the same call may succeed later."""
        return self.status is None or self.status >= 500


def server_of(settings: Settings) -> Server:
    """The scheduler that the settings name, or that of this machine; raises ServerError."""
    here = find_server(settings.home)
    if settings.server is None:
        if here is None:
            raise ServerError(
                "no scheduler: start `loads scheduler` on this machine, or give --server URL and LOADS_TOKEN "
                f"(looked in {settings.home})"
            )
        return Server(here.url, settings.token or here.token)
    url = settings.server.rstrip("/")
    token = settings.token or (here.token if here is not None and here.url == url else None)
    if token is None:
        raise ServerError(f"a token is needed for {url}: set LOADS_TOKEN (it is in `token` in its LOADS_HOME)", 401)
    return Server(url, token)


class Server:
    """A scheduler's API at a URL; one connection, made anew where it has to be. Not for several threads."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        self._connection: http.client.HTTPConnection | None = None

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def get(self, path: str, **query: object) -> Any:
        """The JSON at a path below ``/api/v1``; raises ServerError."""
        return self.call("GET", path, query=query)

    def post(self, path: str, **body: object) -> Any:
        """Send an object; the JSON that comes back. Raises ServerError and PlanError."""
        return self.call("POST", path, body)

    def call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, query: Mapping[str, object] | None = None
    ) -> Any:
        """One call; None where the answer has no body."""
        data = None if body is None else json.dumps(body, allow_nan=False).encode()
        headers = {} if data is None else {"Content-Type": "application/json"}
        given = {name: value for name, value in (query or {}).items() if value is not None}
        _, answer = self._send(method, f"{path}{'?' if given else ''}{urlencode(given)}", data, headers)
        return json.loads(answer) if answer else None

    def put_file(self, path: Path, digest: str) -> None:
        """Have the server keep a file, unless it does already; raises ServerError."""
        target = f"/files/{digest}"
        try:
            self._send("HEAD", target, None, {})
            return
        except ServerError as error:
            if error.status != 404:
                raise
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            self._send("PUT", target, file, {"Content-Type": "application/octet-stream", "Content-Length": str(size)})

    def _send(self, method: str, target: str, body: Any, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Send and read the whole answer. A kept connection that turns out to be closed is made anew once, which is
        safe: every call may be repeated."""
        for attempt in (1, 2):
            kept = self._connection is not None
            try:
                connection = self._connected()
                connection.request(method, PREFIX + target, body, {**self._headers, **headers})
                response = connection.getresponse()
                answer = response.read()
                break
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if kept and attempt == 1 and not isinstance(error, TimeoutError):
                    if hasattr(body, "seek"):
                        body.seek(0)
                    continue
                raise ServerError(f"no answer from the scheduler at {self.url}: {_reason(error)}") from None
        if response.status >= 400:
            raise _refusal(self.url, response.status, answer)
        return response.status, answer

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            parts = urlsplit(self.url)
            make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
            self._connection = make(parts.hostname or "", parts.port, timeout=PATIENCE_S)
        return self._connection


def path_of(run: str, *rest: str) -> str:
    """The path of a run, or of something of it."""
    return "/".join(("/runs", quote(run, safe=""), *rest))


def _refusal(url: str, status: int, answer: bytes) -> Exception:
    try:
        problem = json.loads(answer)
        detail = str(problem["detail"])
        problems = [Problem(str(each["path"]), str(each["message"])) for each in problem.get("problems", ())]
    except (ValueError, KeyError, TypeError):
        return ServerError(f"{url} answered with HTTP status {status}: is it a Loads scheduler?", status)
    if status == 401:
        detail = f"{url} does not take this token: it stands in the file `token` in its LOADS_HOME; set LOADS_TOKEN"
    if problems and status == 422:
        return PlanError(problems)
    return ServerError(detail, status)


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    if isinstance(error, (TimeoutError, socket.timeout)):
        return "it took too long"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return "it is no HTTP server" if isinstance(error, http.client.BadStatusLine) else str(error)
