"""The http engine against real sockets: TLS, data, cookies and credentials over whole processes."""

from __future__ import annotations

import datetime
import ipaddress
import json
import socket
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from engine_harness import SECOND, counted_load, open_load, request, run_engine, run_shards, scenario
from engine_targets import OK, DemoTarget, ScriptedServer, answer


def make_certificate(folder: Path, name: str) -> tuple[Path, ssl.SSLContext]:
    """A self-signed certificate for a host name or address: its file, and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    alternative: x509.GeneralName = x509.DNSName(name)
    if name[0].isdecimal() or ":" in name:
        alternative = x509.IPAddress(ipaddress.ip_address(name))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / f"{name}.pem"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = folder / f"{name}.key"
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, private)
    return pem, context


class TestTls:
    def test_with_its_ca_it_is_trusted_and_kept(self, tmp_path: Path) -> None:
        pem, context = make_certificate(tmp_path, "127.0.0.1")
        names: list[str | None] = []
        context.sni_callback = lambda sock, name, _: names.append(name)
        with ScriptedServer({}, context) as server:
            spec = scenario(server.url, request(), request("/b"), tls={"verify": True, "ca": "ca.pem"})
            engine = run_engine(spec, counted_load(2, 5), files={"ca.pem": str(pem)})
            assert (engine.requests.ok, server.connections) == (20, 2)
            assert engine.requests.bytes_in == 20 * len(OK)
            assert engine.total.failed == 0

    def test_the_host_name_is_sent_and_checked(self, tmp_path: Path) -> None:
        pem, context = make_certificate(tmp_path, "localhost")
        names: list[str | None] = []
        context.sni_callback = lambda sock, name, _: names.append(name)
        with ScriptedServer({}, context) as server:
            tls = {"verify": True, "ca": "ca.pem"}
            spec = scenario(f"https://localhost:{server.port}", request(), request(f"{server.url}/"), tls=tls)
            engine = run_engine(spec, counted_load(1, 1), files={"ca.pem": str(pem)})
            assert names[0] == "localhost"
            assert engine.requests.ok == 1
            (error,) = engine.requests.errors
            assert error.startswith("tls: certificate not trusted: IP address mismatch")

    def test_an_unknown_certificate_is_refused_before_anything_is_sent(self, tmp_path: Path) -> None:
        _, context = make_certificate(tmp_path, "127.0.0.1")
        with ScriptedServer({}, context) as server:
            engine = run_engine(scenario(server.url), counted_load(1, 3))
            assert engine.requests.errors == {"tls: certificate not trusted: self-signed certificate": 3}
            assert (engine.requests.unsent, server.heads) == (3, [])

    def test_unless_the_plan_does_not_ask(self, tmp_path: Path) -> None:
        _, context = make_certificate(tmp_path, "127.0.0.1")
        with ScriptedServer({}, context) as server:
            engine = run_engine(scenario(server.url, tls={"verify": False, "ca": None}), counted_load(1, 3))
            assert engine.requests.ok == 3

    def test_a_target_that_does_not_speak_tls(self) -> None:
        with ScriptedServer({}, greeting=b"HTTP/1.1 400 Bad\r\n\r\n") as server:
            engine = run_engine(scenario(server.url.replace("http:", "https:")), counted_load(1, 2))
            assert engine.requests.errors == {"tls: the handshake failed": 2}

    def test_large_bodies_both_ways(self, tmp_path: Path) -> None:
        _, context = make_certificate(tmp_path, "127.0.0.1")
        page = b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + b"p" * 3_000_000
        with ScriptedServer({"/": answer(page)}, context) as server:
            body = {"kind": "raw", "value": "q" * 2_000_000}
            action = request("/", method="POST", body=body, check={"body": "p" * 1000})
            engine = run_engine(scenario(server.url, action, tls={"verify": False, "ca": None}), counted_load(1, 2))
            assert engine.requests.ok == 2 and server.bodies == [b"q" * 2_000_000] * 2
            assert engine.requests.bytes_out > 4_000_000


class TestEcho:
    def test_what_is_sent_arrives(self, demo: DemoTarget) -> None:
        wanted = {
            "method": "PATCH",
            "path": "/echo",
            "query.q": "a b",
            'headers."x-user"': "0",
            "headers.authorization": "Bearer tok",
            "body": '{"n":0,"s":"tok"}',
        }
        action = request(
            "/echo?q=a%20b",
            method="PATCH",
            headers=[["X-User", "${user.number}"]],
            body={"kind": "json", "value": {"n": "${user.number}", "s": "${secret.TOKEN}"}},
            auth={"bearer": "${secret.TOKEN}"},
            check={"status": [200], "json": wanted},
        )
        engine = run_engine(scenario(demo.url, action), counted_load(1, 2), secrets={"TOKEN": "tok"})
        assert engine.requests.errors == {} and engine.requests.ok == 2
        assert engine.requests.checks == {name: [2, 0] for name in ("status", *(f"json {expr}" for expr in wanted))}
        assert "tok" not in json.dumps(engine.lines)

    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
    def test_every_method(self, demo: DemoTarget, method: str) -> None:
        engine = run_engine(scenario(demo.url, request("/echo", method=method)), counted_load(1, 2))
        assert engine.requests.ok == 2

    def test_a_flaky_target(self, demo: DemoTarget) -> None:
        engine = run_engine(scenario(demo.url, request("/flaky?rate=0.25")), counted_load(4, 25))
        assert (engine.total.ok, engine.total.failed) == (75, 25)
        assert engine.requests.errors == {"status: 500": 25} and engine.requests.statuses == {200: 75, 500: 25}


class TestUsers:
    def test_cookies_and_connections_belong_to_a_user(self) -> None:
        def login(sock: socket.socket, path: str, head: bytes) -> bool:
            number = head.split(b"X-User: ")[1].split(b"\r\n")[0]
            sock.sendall(b"HTTP/1.1 200 OK\r\nSet-Cookie: s=%s\r\nContent-Length: 0\r\n\r\n" % number)
            return True

        who = [["X-User", "${user.number}"]]
        with ScriptedServer({"/login": login}) as server:
            spec = scenario(server.url, request("/a", headers=who), before=[request("/login", headers=who)])
            engine = run_engine(spec, counted_load(3, 4))
            assert engine.total.ok == 12 and server.count == {"/login": 3, "/a": 12} and server.connections == 3
            for head in server.heads:
                number = head.split(b"X-User: ")[1].split(b"\r\n")[0]
                assert (b"Cookie: s=" + number in head) == head.startswith(b"GET /a")

    def test_arrivals_share_connections_but_not_cookies(self) -> None:
        cookie = answer(b"HTTP/1.1 200 OK\r\nSet-Cookie: s=1\r\nContent-Length: 0\r\n\r\n")
        with ScriptedServer({"/": cookie}) as server:
            engine = run_engine(scenario(server.url), open_load(40, 0.5))
            assert engine.total.ok == 20 and server.connections < 10
            assert not any(b"Cookie" in head for head in server.heads)


class TestData:
    def run(self, tmp_path: Path, load: dict, shards: int = 1, **data: object) -> tuple[list[str], list]:
        path = tmp_path / "data"
        path.write_text("id\n" + "".join(f"r{number}\n" for number in range(10)))
        spec = {"file": "d.csv", "order": "sequential", "when_exhausted": "wrap", "per": "iteration", **data}
        with ScriptedServer({}) as server:
            steps = scenario(server.url, request("/${row.id}", name="row"), data=spec)
            engines = run_shards(steps, load, shards, files={"d.csv": str(path)})
            return [head.split(b" ")[1].decode()[1:] for head in server.heads], engines

    def test_shards_share_the_rows_out(self, tmp_path: Path) -> None:
        used, _ = self.run(tmp_path, open_load(20, 0.5), shards=3)
        assert sorted(used) == sorted(f"r{number}" for number in range(10))

    def test_they_begin_again_with_a_warning(self, tmp_path: Path) -> None:
        used, (engine,) = self.run(tmp_path, counted_load(2, 6))
        assert sorted(used) == sorted([f"r{number}" for number in range(10)] + ["r0", "r1"])
        assert engine.snapshots[-1]["warnings"] == [
            "data d.csv: every row was used, and they began again from the first"
        ]

    def test_or_end_the_load(self, tmp_path: Path) -> None:
        used, (engine,) = self.run(tmp_path, counted_load(2, 30), when_exhausted="stop")
        assert len(used) == 10 and engine.end["cause"] == "exhausted"
        assert engine.snapshots[-1]["totals"]["remaining"] == 50
        used, (engine,) = self.run(tmp_path, open_load(100, 1), when_exhausted="stop")
        assert len(used) == 10 and engine.end["cause"] == "exhausted" and engine.snapshots[-1]["totals"]["next"] == 10

    def test_each_user_has_its_own(self, tmp_path: Path) -> None:
        used, _ = self.run(tmp_path, counted_load(3, 2), per="user", order="random")
        assert len(set(used)) == 3 and sorted(used) == sorted([*set(used), *set(used)])


def test_a_timeout_of_the_request_beats_that_of_the_step(demo: DemoTarget) -> None:
    actions = [request("/delay/400", name="short", timeout_ns=SECOND // 10), request("/delay/200", name="long")]
    engine = run_engine(scenario(demo.url, *actions), counted_load(1, 2))
    series = engine.total.series
    assert series["short"].errors == {"timeout: waiting for the response": 2} and series["long"].ok == 2
    assert SECOND // 10 <= series["short"].response.min < SECOND // 5
