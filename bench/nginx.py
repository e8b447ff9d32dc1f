"""The target: nginx with one worker on one core, which serves bodies of fixed sizes and counts the requests itself.

Its count is of every request that any connection began, those that ask for the count included; ``Nginx.count`` leaves
those out. It listens on 127.0.0.1 alone, once plain and once with TLS and a certificate made for it here.
"""

from __future__ import annotations

import http.client
import re
import resource
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from .children import find, last_line, running

HOST = "127.0.0.1"
BODIES = {"/1k": 1024, "/100k": 100 * 1024}
READY_S = 10.0
_CONFIG = """
worker_processes 1;
worker_rlimit_nofile {descriptors};
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    sendfile on;
    tcp_nodelay on;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    open_file_cache max=10 inactive=600s;
    default_type text/plain;
    client_body_temp_path {folder}/temp;
    proxy_temp_path {folder}/temp;
    fastcgi_temp_path {folder}/temp;
    uwsgi_temp_path {folder}/temp;
    scgi_temp_path {folder}/temp;
    server {{
        listen {host}:{plain} backlog=4096;
        root {folder}/bodies;
        location = /count {{ stub_status; }}
    }}
    server {{
        listen {host}:{tls} ssl backlog=4096;
        root {folder}/bodies;
        ssl_certificate {folder}/certificate.pem;
        ssl_certificate_key {folder}/key.pem;
    }}
}}
"""


class Nginx:
    """A running nginx, seen from outside."""

    def __init__(self, process: subprocess.Popen[bytes], plain: int, tls: int) -> None:
        self.process = process
        self._ports = {False: plain, True: tls}
        self._asked = 0
        self._connection = http.client.HTTPConnection(HOST, plain, timeout=10)

    def url(self, path: str = "", tls: bool = False) -> str:
        """Where a body is."""
        return f"http{'s' if tls else ''}://{HOST}:{self._ports[tls]}{path}"

    def count(self) -> int:
        """Requests so far, without those of this method."""
        try:
            text = self._get("/count")
        except ConnectionError:
            # It closes idle connections when it runs short of them, before it reads what is on its way.
            text = self._get("/count")
        self._asked += 1
        return parse_count(text.decode()) - self._asked

    def begun(self) -> int:
        """What rises with a client's first request: the same."""
        return self.count()

    def _get(self, path: str) -> bytes:
        try:
            self._connection.request("GET", path)
            answer = self._connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise
        if answer.status != 200:
            raise RuntimeError(f"nginx answers {path} with {answer.status}")
        return body

    def check(self) -> None:
        """Ask for each body; raises ConnectionError where nobody listens yet, RuntimeError for another answer."""
        for path, size in BODIES.items():
            if len(self._get(path)) != size:
                raise RuntimeError(f"nginx answers {path} with another body")

    def close(self) -> None:
        """Give the connection up."""
        self._connection.close()


def parse_count(text: str) -> int:
    """The requests in an answer of nginx's stub_status."""
    found = re.search(r"^ *\d+ +\d+ +(\d+) *$", text, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"nginx does not count: {text[:100]!r}")
    return int(found.group(1))


@contextmanager
def nginx(core: int, folder: Path) -> Iterator[Nginx]:
    """One that runs as long as the block; its files stand in ``folder``. RuntimeError where it does not start."""
    command = find("nginx")
    if command is None:
        raise RuntimeError("there is no nginx: install it (Debian: apt-get install nginx-light), or run this as root")
    plain, tls = _free_ports()
    _write_files(folder, plain, tls)
    arguments = [command, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
    with running(arguments, core, folder / "output") as process:
        served = Nginx(process, plain, tls)
        with closing(served):
            _await(served, folder)
            yield served


def _await(served: Nginx, folder: Path) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and served.process.poll() is None:
        with suppress(ConnectionError):
            served.check()
            return
        time.sleep(0.05)
    raise RuntimeError(f"nginx did not start: {last_line(folder / 'output')}")


def _free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        first.bind((HOST, 0))
        second.bind((HOST, 0))
        return first.getsockname()[1], second.getsockname()[1]


def _write_files(folder: Path, plain: int, tls: int) -> None:
    # Its worker is another user where it is started by root.
    folder.chmod(0o711)
    bodies = folder / "bodies"
    bodies.mkdir()
    for path, size in BODIES.items():
        (bodies / path.lstrip("/")).write_bytes(b"x" * size)
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    values = {"folder": folder, "host": HOST, "plain": plain, "tls": tls, "descriptors": descriptors}
    (folder / "nginx.conf").write_text(_CONFIG.format(connections=descriptors * 3 // 4, **values))
    _make_certificate(folder)


def _make_certificate(folder: Path) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=IP:{HOST}"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except OSError as error:
        raise RuntimeError(f"openssl can't be run: {error.strerror}") from None
    if done.returncode:
        raise RuntimeError(f"openssl made no certificate: {done.stderr.strip()[-200:]}")
