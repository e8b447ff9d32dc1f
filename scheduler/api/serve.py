"""The API's process: an address of this machine, gevent's WSGI server, and an end in order.

The process must have been monkey-patched by gevent before this is imported.
"""

from __future__ import annotations

import errno
import ipaddress
import json
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path

import gevent
import gevent.event
import gevent.pool
from gevent.os import make_nonblocking, nb_read
from gevent.pywsgi import WSGIHandler, WSGIServer

from loads_queue.address import Address, find_server, kept_token, remove_address, write_address
from loads_queue.files import FileStore
from loads_queue.logs import configure
from loads_queue.settings import Settings

from .app import create_app
from .context import KEY, Context
from .guard import names_of

MOST_CONNECTIONS = 512
SILENT_S = 120
"""How long a connection may stay silent, between requests and within one."""

PATIENCE_S = 2.0
SAY_EVERY_S = 1.0

log = logging.getLogger("loads.api")


class ApiError(Exception):
    """The API can't answer where it should; the text says what to do."""

    exit_code = 4


class _Handler(WSGIHandler):  # type: ignore[misc]
    """Gevent's, but a peer that falls silent is let go of."""

    def handle(self) -> None:
        self.socket.settimeout(SILENT_S)
        super().handle()

    def handle_error(self, t: type[BaseException], v: BaseException, tb: object) -> None:
        if issubclass(t, TimeoutError):
            self.close_connection = True
            return
        super().handle_error(t, v, tb)


def serve(settings: Settings, hosts: tuple[str, ...] = (), parent_fd: int | None = None) -> None:
    """Answer until SIGTERM, SIGINT or the parent's end; one JSON line on standard output says where, once it does.

    ``hosts`` are further names of this server. Raises ApiError.
    """
    configure(settings.log_format)
    host, port = parse_listen(settings.listen)
    listener = _listener(host, port)
    app = create_app(_context(settings, names_of(host, hosts)))
    pool = gevent.pool.Pool(MOST_CONNECTIONS)
    # Without a name it would ask the DNS for one.
    named = {"SERVER_NAME": host}
    server = WSGIServer(listener, app, log=None, error_log=log, spawn=pool, handler_class=_Handler, environ=named)
    stop = gevent.event.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, stop.set)
    if parent_fd is not None:
        make_nonblocking(parent_fd)
        gevent.spawn(_await_end, parent_fd).link(lambda _: stop.set())
    server.start()
    url = f"http://{_shown(host)}:{server.server_port}"
    try:
        _say(settings.home, Address(url, app.extensions[KEY].token))
        sys.stdout.write(json.dumps({"url": url, "listen": f"{_bracketed(host)}:{server.server_port}"}) + "\n")
        sys.stdout.flush()
        while not stop.wait(SAY_EVERY_S):
            # A scheduler that ended here may have been the last to say where it is.
            if find_server(settings.home) is None:
                _say(settings.home, Address(url, app.extensions[KEY].token))
    finally:
        remove_address(settings.home)
        server.stop(timeout=1)


def _context(settings: Settings, names: frozenset[str]) -> Context:
    try:
        token = settings.token or kept_token(settings.home)
    except OSError as error:
        raise ApiError(f"can't use {settings.home}: {error.strerror}: set LOADS_HOME to a folder of yours") from None
    return Context(settings.db, FileStore(settings.files), token, names, settings.lease_ttl_ns)


def parse_listen(listen: str) -> tuple[str, int]:
    """``HOST:PORT`` of this machine, the host as a number; raises ApiError."""
    host, colon, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
        if not (colon and port.isascii() and port.isdecimal() and int(port) < 65536):
            raise ValueError
    except ValueError:
        raise ApiError(f"can't listen on {listen!r}: write 127.0.0.1:8089, 0.0.0.0:8089 or [::1]:8089") from None
    return str(address), int(port)


def _listener(host: str, port: int) -> socket.socket:
    """A socket that listens; a process that had the port and is about to end is waited for."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, port))
            sock.listen(256)
            return sock
        except OSError as error:
            sock.close()
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                why, any_port = os.strerror(error.errno or 0), f"--listen {_bracketed(host)}:0"
                raise ApiError(f"can't listen on {host}:{port}: {why}: give {any_port} for any port") from None
            gevent.sleep(0.1)


def _shown(host: str) -> str:
    """A host as it stands in a URL that this machine can use."""
    return _bracketed({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host))


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _say(home: Path, address: Address) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_address(home, address)
    except OSError as error:
        raise ApiError(f"can't write to {home}: {error.strerror}: set LOADS_HOME to a folder of yours") from None


def _await_end(descriptor: int) -> None:
    while nb_read(descriptor, 1024):
        pass
