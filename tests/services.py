"""Real services for tests: started as child processes on free ports of 127.0.0.1, stopped by process id.

Each is a context manager over a ``Service``, whose ``kill`` and ``start`` again keep port and data. Where a program is
missing the test is skipped at home and fails with ``CI=true``.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

READY_S = 60


def free_port() -> int:
    """A port of 127.0.0.1 that was free just now."""
    with closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def program(name: str, *elsewhere: str) -> str:
    """A program's path, or the end of the test."""
    for place in (shutil.which(name), *elsewhere):
        if place and os.access(place, os.X_OK):
            return place
    message = f"{name} is not installed"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def loads() -> list[str]:
    """The ``loads`` command of this very interpreter."""
    return [sys.executable, "-c", "from loads_queue.cli import main; main()"]


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and for no name, and its key: files for everyone to read."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loads tests")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    (folder / "cert.pem").write_bytes(made.public_bytes(pem))
    (folder / "key.pem").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return folder / "cert.pem", folder / "key.pem"


class Service:
    """A child process that answers on a port, and perhaps with TLS on another: ``tls_url`` names its certificate."""

    tls_url = ""

    def __init__(
        self, command: Sequence[str], port: int, folder: Path, url: str, environ: Mapping[str, str] | None = None
    ) -> None:
        self.command = list(command)
        self.port = port
        self.folder = folder
        self.url = url
        self.environ = {**os.environ, **(environ or {})}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, in a process group of its own."""
        with (self.folder / "output").open("ab") as output:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=self.environ,
                cwd=self.folder, start_new_session=True,
            )  # fmt: skip

    def wait_ready(self) -> None:
        """Return once it answers; raises where it ends instead."""
        deadline = time.monotonic() + READY_S
        while not self.answers():
            assert self.process is not None
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.command[0]} did not start:\n{(self.folder / 'output').read_text()[-4000:]}")
            time.sleep(0.05)

    def answers(self) -> bool:
        """Whether something listens on the port."""
        with suppress(OSError), closing(socket.create_connection(("127.0.0.1", self.port), timeout=1)):
            return True
        return False

    def stop(self, number: int = signal.SIGTERM) -> int | None:
        """End it with that signal (after 10 s: SIGKILL); its exit status."""
        process, self.process = self.process, None
        if process is None:
            return None
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            return process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return process.wait()

    def kill(self) -> None:
        """SIGKILL to it and all its children."""
        self.stop(signal.SIGKILL)


class Redis(Service):
    """Answers once PING does (a dataset may have to be read first)."""

    def answers(self) -> bool:
        """Whether PING is answered by PONG."""
        with suppress(OSError), closing(socket.create_connection(("127.0.0.1", self.port), timeout=1)) as sock:
            sock.sendall(b"PING\r\n")
            return sock.recv(16).startswith(b"+PONG")
        return False


class RabbitMq(Service):
    """Answers once the AMQP handshake begins; it listens a little earlier."""

    def answers(self) -> bool:
        """Whether connection.start comes."""
        with suppress(OSError), closing(socket.create_connection(("127.0.0.1", self.port), timeout=1)) as sock:
            sock.sendall(b"AMQP\x00\x00\x09\x01")
            return sock.recv(1) == b"\x01"
        return False


class Postgres(Service):
    """Answers once it lets us in; it listens earlier. Its folder is another user's where we are root."""

    def __init__(self, command: Sequence[str], port: int, folder: Path, url: str, user: str | None) -> None:
        super().__init__(command, port, folder, url)
        self._user = user

    def start(self) -> None:
        """Start it, as a user that is not root."""
        with (self.folder / "output").open("ab") as output:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self.folder,
                start_new_session=True, user=self._user, group=self._user,
            )  # fmt: skip

    def answers(self) -> bool:
        """Whether a connection can be made."""
        import psycopg

        with suppress(psycopg.OperationalError):
            psycopg.connect(self.url, connect_timeout=2).close()
            return True
        return False

    def stop(self, number: int = signal.SIGINT) -> int | None:
        """End it with that signal, by default without waiting for its clients."""
        return super().stop(number)

    def query(self, statement: str) -> None:
        """One statement, outside of a transaction."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of a new database, which is dropped in the end."""
        name = f"t{secrets.token_hex(6)}"
        self.query(f"CREATE DATABASE {name}")
        try:
            yield f"{self.url.rpartition('/')[0]}/{name}"
        finally:
            self.query(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


class Embedded(Service):
    """``loads broker``; its URL is what it prints."""

    def start(self) -> None:
        """Start it and read its URL."""
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=self.environ, cwd=self.folder,
            start_new_session=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"loads broker ended with {self.process.wait()}")
        self.url = json.loads(line)["url"]
        self.port = int(self.url.rstrip("/").rpartition(":")[2])

    def stop(self, number: int = signal.SIGTERM) -> int | None:
        """End it with that signal; its exit status."""
        if self.process is not None and self.process.stdout is not None:
            self.process.stdout.close()
        return super().stop(number)


@contextmanager
def running(service: Service) -> Iterator[Service]:
    """Start a service and end it again."""
    service.start()
    try:
        service.wait_ready()
        yield service
    finally:
        service.stop()


def embedded(folder: Path) -> Embedded:
    """The broker for one machine, with its data in that folder."""
    return Embedded([*loads(), "broker", "--data", str(folder)], 0, folder, "")


def redis(folder: Path) -> Redis:
    """A Redis that has every write on disk before it answers."""
    port, tls_port = free_port(), free_port()
    cert, key = certificate(folder)
    options = f"--bind 127.0.0.1 --port {port} --save  --appendonly yes --appendfsync always --dir {folder}"
    options += f" --tls-port {tls_port} --tls-cert-file {cert} --tls-key-file {key} --tls-auth-clients no"
    found = Redis([program("redis-server"), *options.split(" ")], port, folder, f"redis://127.0.0.1:{port}/0")
    found.tls_url = f"rediss://127.0.0.1:{tls_port}/0?ca={cert}"
    return found


def moto(folder: Path) -> Service:
    """Moto's SQS."""
    port = free_port()
    command = [program("moto_server", str(Path(sys.executable).parent / "moto_server")), "-H", "127.0.0.1"]
    return Service([*command, "-p", str(port)], port, folder, f"sqs://key:secret@127.0.0.1:{port}//")


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL of its own, for TCP and with a password. It refuses to run as root: then it is user postgres's, and
    so is its folder, which lies where that user can go."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    initdb, server = (program(name, *(str(place / name) for place in places)) for name in ("initdb", "postgres"))
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="loads-postgres-"))
    try:
        password = secrets.token_hex(8)
        (folder / "password").write_text(password)
        if user is not None:
            for path in (folder, folder / "password"):
                shutil.chown(path, user, user)
        command = [initdb, "-D", str(folder / "data"), "-U", "loads", "-A", "scram-sha-256", "-E", "UTF8"]
        command += ["--locale=C", "--no-sync", f"--pwfile={folder / 'password'}"]
        subprocess.run(command, check=True, capture_output=True, user=user, group=user, cwd=folder)
        port = free_port()
        settings = {
            "listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "fsync": "off",
            "max_connections": 60, "shared_buffers": "16MB",
        }  # fmt: skip
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        url = f"postgresql://loads:{password}@127.0.0.1:{port}/postgres"
        with running(Postgres([server, "-D", str(folder / "data"), *options], port, folder, url, user)) as service:
            assert isinstance(service, Postgres)
            yield service
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def rabbitmq(folder: Path) -> Iterator[RabbitMq]:
    """A RabbitMQ of its own, with its own epmd (which Erlang would leave behind as a daemon); it is starting still:
    ``wait_ready`` waits for it."""
    server = program("/usr/lib/rabbitmq/bin/rabbitmq-server", shutil.which("rabbitmq-server") or "")
    port, tls_port, names, peers = free_port(), free_port(), free_port(), free_port()
    cert, key = certificate(folder)
    (folder / "plugins").write_text("[].\n")
    (folder / "rabbitmq.conf").write_text(
        f"listeners.ssl.1 = 127.0.0.1:{tls_port}\nssl_options.certfile = {cert}\nssl_options.keyfile = {key}\n"
        "ssl_options.verify = verify_none\nssl_options.fail_if_no_peer_cert = false\n"
    )
    environ = {
        "HOME": str(folder),
        "RABBITMQ_NODENAME": f"loads{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(peers),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none",
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(names),
    }
    (folder / "epmd").mkdir()
    epmd = Service([program("epmd")], names, folder / "epmd", "", environ)
    with running(epmd):
        service = RabbitMq([server], port, folder, f"amqp://guest:guest@127.0.0.1:{port}//", environ)
        service.tls_url = f"amqps://guest:guest@127.0.0.1:{tls_port}//?ca={cert}"
        service.start()
        try:
            yield service
        finally:
            service.stop()
