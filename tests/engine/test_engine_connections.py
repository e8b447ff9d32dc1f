"""How connections are made and kept: addresses, IPv6, policies, and who the engine says it is."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from engine_harness import EngineProcess, counted_load, open_load, request, run_engine, scenario
from engine_targets import ScriptedServer
from loads.workers.engines.errors import Refused, RequestError
from loads.workers.engines.guard import REFUSED, Guard
from loads.workers.engines.resolve import Resolver
from test_engine_features import make_certificate

from loads_queue.model.scenario import Dns


def connections(**more: Any) -> dict[str, Any]:
    return {"keep_alive": True, "per_user": 8, "reuse": True, **more}


def dns(**more: Any) -> dict[str, Any]:
    return {"resolve": "cached", "pick": "rotate", "hosts": [], **more}


def servers(count: int, **options: Any) -> list[ScriptedServer]:
    """Servers on 127.0.0.1, 127.0.0.2, ... that have the same port."""
    first = ScriptedServer({}, host="127.0.0.1", **options)
    others = [ScriptedServer({}, host=f"127.0.0.{n + 1}", port=first.port, **options) for n in range(1, count)]
    return [first, *others]


def hosts_of(made: list[ScriptedServer]) -> list[list[Any]]:
    return [["shop.test", [f"127.0.0.{number + 1}" for number in range(len(made))]]]


class TestPolicies:
    def test_without_keep_alive_each_request_has_a_connection(self) -> None:
        with ScriptedServer({}) as server:
            spec = scenario(server.url, request("/a"), request("/b"), connections=connections(keep_alive=False))
            engine = run_engine(spec, counted_load(2, 3))
            assert engine.requests.ok == 12 == server.connections
            assert all(b"\r\nConnection: close" in head for head in server.heads)
            assert engine.requests.connect.count == 12

    def test_without_reuse_a_users_connections_end_with_its_iteration(self) -> None:
        with ScriptedServer({}) as server:
            spec = scenario(server.url, request("/a"), request("/b"), connections=connections(reuse=False))
            engine = run_engine(spec, counted_load(2, 3))
            assert engine.requests.ok == 12 and server.connections == 6
            assert not any(b"Connection:" in head for head in server.heads)

    def test_without_reuse_no_iteration_of_a_rate_has_anothers(self) -> None:
        with ScriptedServer({}) as server:
            spec = scenario(server.url, request("/a"), request("/b"), connections=connections(reuse=False))
            engine = run_engine(spec, open_load(20, 0.5))
            assert engine.requests.ok == 20 and server.connections == 10

    def test_cookies_stay_though_connections_do_not(self) -> None:
        def set_cookie(sock: socket.socket, path: str, head: bytes) -> bool:
            sock.sendall(b"HTTP/1.1 200 OK\r\nSet-Cookie: s=1\r\nContent-Length: 0\r\n\r\n")
            return True

        with ScriptedServer({"/": set_cookie}) as server:
            run_engine(scenario(server.url, connections=connections(reuse=False)), counted_load(1, 3))
            assert [b"Cookie: s=1" in head for head in server.heads] == [False, True, True]

    @pytest.mark.parametrize(("most", "opened"), [(1, 6), (2, 2)])
    def test_a_user_has_so_many_open_and_no_more(self, most: int, opened: int) -> None:
        """With one connection, two origins in turn cost a connection each time."""
        with ScriptedServer({}) as one, ScriptedServer({}) as other:
            actions = [request(f"{server.url}/", name=server.url) for server in (one, other)]
            engine = run_engine(scenario("", *actions, connections=connections(per_user=most)), counted_load(1, 3))
            assert engine.requests.ok == 6 and one.connections + other.connections == opened


class TestAddresses:
    def test_new_connections_take_turns_and_host_stays(self) -> None:
        made = servers(3)
        spec = scenario(
            f"http://shop.test:{made[0].port}", connections=connections(keep_alive=False), dns=dns(hosts=hosts_of(made))
        )
        engine = run_engine(spec, counted_load(1, 9))
        assert engine.requests.ok == 9 and engine.requests.dns.count == 0
        assert [server.connections for server in made] == [3, 3, 3]
        assert all(b"Host: shop.test:%d" % made[0].port in server.heads[0] for server in made)

    def test_a_user_keeps_to_its_own(self) -> None:
        made = servers(3)
        who = request("/", headers=[["X-User", "${user.number}"]])
        spec = scenario(
            f"http://shop.test:{made[0].port}",
            who,
            connections=connections(keep_alive=False),
            dns=dns(hosts=hosts_of(made), pick="pin"),
        )
        engine = run_engine(spec, counted_load(6, 4))
        assert engine.requests.ok == 24
        assert [server.connections for server in made] == [8, 8, 8]
        seen = [{head.split(b"X-User: ")[1].split(b"\r\n")[0] for head in server.heads} for server in made]
        assert [len(users) for users in seen] == [2, 2, 2] and len(set.union(*seen)) == 6

    def test_pinned_iterations_of_a_rate(self) -> None:
        made = servers(2)
        spec = scenario(
            f"http://shop.test:{made[0].port}",
            request("/a"),
            connections=connections(reuse=False),
            dns=dns(hosts=hosts_of(made), pick="pin"),
        )
        engine = run_engine(spec, open_load(20, 0.5))
        assert engine.requests.ok == 10 and [server.connections for server in made] == [5, 5]

    def test_one_that_does_not_listen_is_passed_over(self) -> None:
        with ScriptedServer({}, host="127.0.0.2") as server:
            given = dns(hosts=[["shop.test", ["127.0.0.1", "127.0.0.2"]]])
            spec = scenario(f"http://shop.test:{server.port}", connections=connections(keep_alive=False), dns=given)
            engine = run_engine(spec, counted_load(1, 4))
            assert engine.requests.ok == 4 == server.connections

    def test_the_name_stays_in_tls(self, tmp_path: Path) -> None:
        pem, context = make_certificate(tmp_path, "shop.test")
        names: list[str | None] = []
        context.sni_callback = lambda sock, name, _: names.append(name)
        with ScriptedServer({}, context) as server:
            spec = scenario(
                f"https://shop.test:{server.port}",
                tls={"verify": True, "ca": "ca.pem"},
                dns=dns(hosts=[["shop.test", ["127.0.0.1"]]]),
            )
            engine = run_engine(spec, counted_load(1, 2), files={"ca.pem": str(pem)})
            assert engine.requests.ok == 2 and names == ["shop.test"]

    def test_each_connection_looks_its_name_up(self) -> None:
        with ScriptedServer({}) as server:
            spec = scenario(
                f"http://localhost:{server.port}", connections=connections(keep_alive=False), dns=dns(resolve="each")
            )
            engine = run_engine(spec, counted_load(1, 5))
            assert engine.requests.ok == 5 == engine.requests.dns.count

    def test_what_a_plan_says_of_a_name_does_not_pass_the_guard(self) -> None:
        with ScriptedServer({}) as server:
            given = dns(hosts=[["shop.test", ["127.0.0.1"]]])
            known = scenario(f"http://shop.test:{server.port}", dns=given)
            made = scenario("", request(f"http://${{STEP_NAME}}.test:{server.port}/", name="made"), dns=given)
            engine = run_engine(made, counted_load(1, 2), step="shop", allowed_targets="shop.test")
            assert engine.requests.errors == {REFUSED: 2} and server.connections == 0
            engine = EngineProcess()
            try:
                engine.spec(known, counted_load(1, 1), allowed_targets="shop.test")
                end = engine.finish()
                assert end["cause"] == "failed" and "is not among this worker's allowed targets" in end["detail"]
            finally:
                engine.close()
            allowed = run_engine(known, counted_load(1, 2), allowed_targets="127.0.0.0/8")
            assert allowed.requests.ok == 2


class TestResolver:
    """Without a network: which addresses come in which order."""

    def resolver(self, allowed: str = "", **more: Any) -> Resolver:
        given = {"shop.test": ("10.0.0.1", "10.0.0.2", "::1")}
        return Resolver(None, Guard(allowed), Dns(hosts=tuple(given.items()), **more))

    def first(self, resolver: Resolver, pins: Any = None) -> str:
        found = resolver.remembered("shop.test", 80, pins)
        assert found is not None and len(set(found)) == len(found)
        return str(found[0][1][0])

    def test_in_turn(self) -> None:
        resolver = self.resolver()
        assert [self.first(resolver) for _ in range(4)] == ["10.0.0.1", "10.0.0.2", "::1", "10.0.0.1"]
        assert resolver.known("shop.test", 80)[2] == (socket.AF_INET6, ("::1", 80, 0, 0))
        assert resolver.pins() is None

    def test_pinned(self) -> None:
        resolver = self.resolver(pick="pin")
        mine, yours = resolver.pins(), resolver.pins()
        assert [self.first(resolver, pins) for pins in (mine, yours, mine, yours)] == [
            "10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.2",
        ]  # fmt: skip

    def test_of_those_that_are_allowed(self) -> None:
        resolver = self.resolver("10.0.0.2")
        assert [self.first(resolver) for _ in range(2)] == ["10.0.0.2", "10.0.0.2"]
        for allowed in ("shop.test", "127.0.0.1", "10.0.0.0/8:443"):
            with pytest.raises(Refused, match="allowed targets"):
                self.resolver(allowed).remembered("shop.test", 80)

    def test_looked_up_the_preferred_kind_takes_turns_and_the_others_come_last(self, monkeypatch: Any) -> None:
        answers = [("10.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6), ("10.0.0.2", socket.AF_INET)]
        found = tuple((family, (address, 80)) for address, family in answers)
        monkeypatch.setattr("loads.workers.engines.resolve._getaddrinfo", lambda host, port: found)
        resolver = Resolver(Hub(), Guard())
        seen = [[address[1][0] for address in resolver.lookup("h", 80)] for _ in range(3)]
        assert seen == [["10.0.0.1", "10.0.0.2", "::1"], ["10.0.0.2", "10.0.0.1", "::1"], seen[0]]

    def test_each_time_anew_and_never_out_of_turn(self, monkeypatch: Any) -> None:
        asked: list[str] = []

        def shuffled(host: str, port: int) -> Any:
            asked.append(host)
            ends = (1, 2) if len(asked) % 2 else (2, 1)
            return tuple((socket.AF_INET, (f"10.0.0.{end}", port)) for end in ends)

        monkeypatch.setattr("loads.workers.engines.resolve._getaddrinfo", shuffled)
        resolver = Resolver(Hub(), Guard(), Dns(resolve="each"))
        assert [resolver.lookup("h", 80)[0][1][0] for _ in range(4)] == ["10.0.0.1", "10.0.0.2"] * 2
        assert asked == ["h"] * 4 and resolver.remembered("h", 80) is None

    def test_a_name_that_is_not_found_is_asked_for_again(self, monkeypatch: Any) -> None:
        monkeypatch.setattr(
            "loads.workers.engines.resolve._getaddrinfo", lambda host, port: RequestError("dns: no such name")
        )
        resolver = Resolver(Hub(), Guard())
        for _ in range(2):
            with pytest.raises(RequestError, match="no such name"):
                resolver.lookup("h", 80)


class Hub:
    """Runs what a thread would at once."""

    @property
    def threadpool(self) -> Hub:
        return self

    def spawn(self, function: Any, *args: Any) -> Hub:
        made = Hub()
        made.result = function(*args)  # type: ignore[attr-defined]
        return made

    def rawlink(self, done: Any) -> None:
        done(self)

    def get(self) -> Any:
        return self.result  # type: ignore[attr-defined]


class TestIpv6:
    def test_a_target_is_reached(self) -> None:
        with ScriptedServer({}, host="::1") as server:
            engine = run_engine(scenario(server.url), counted_load(2, 3), allowed_targets="::1")
            assert engine.requests.ok == 6 and server.connections == 2
            assert b"\r\nHost: [::1]:%d" % server.port in server.heads[0]

    def test_and_refused_where_it_is_not_allowed(self) -> None:
        with ScriptedServer({}, host="::1") as server:
            engine = run_engine(
                scenario("", request(f"http://[::${{user.number}}]:{server.port}/", name="x")),
                counted_load(2, 1),
                allowed_targets="[::0]:80",
            )
            assert engine.requests.errors == {REFUSED: 2} and server.connections == 0

    def test_redirects_and_cookies(self) -> None:
        def redirect(sock: socket.socket, path: str, head: bytes) -> bool:
            sock.sendall(
                b"HTTP/1.1 302 F\r\nLocation: http://[0:0::1]:%d/there\r\nSet-Cookie: s=1\r\nContent-Length: 0\r\n\r\n"
                % sock.getsockname()[1]
            )
            return True

        with ScriptedServer({"/": redirect}, host="::1") as server:
            engine = run_engine(scenario(server.url), counted_load(1, 2))
            assert engine.requests.ok == 4 and server.count == {"/": 2, "/there": 2}

    def test_with_tls(self, tmp_path: Path) -> None:
        pem, context = make_certificate(tmp_path, "::1")
        with ScriptedServer({}, context, host="::1") as server:
            spec = scenario(server.url, tls={"verify": True, "ca": "ca.pem"})
            engine = run_engine(spec, counted_load(1, 2), files={"ca.pem": str(pem)})
            assert engine.requests.ok == 2, engine.requests.errors

    def test_a_name_with_both_kinds_of_addresses(self) -> None:
        with ScriptedServer({}, host="::1") as six, ScriptedServer({}, port=six.port) as four:
            spec = scenario(
                f"http://both.test:{six.port}",
                connections=connections(keep_alive=False),
                dns=dns(hosts=[["both.test", ["::1", "127.0.0.1"]]]),
            )
            engine = run_engine(spec, counted_load(1, 4))
            assert engine.requests.ok == 4 and (six.connections, four.connections) == (2, 2)


def issue(folder: Path, name: str, issuer: tuple[Any, Any] | None = None, password: bytes | None = None) -> Any:
    """A certificate ``NAME.pem`` with its key ``NAME.key``; (certificate, key)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .sign(issuer[1] if issuer else key, hashes.SHA256())
    )
    hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    pkcs8 = serialization.PrivateFormat.PKCS8
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, pkcs8, hidden))
    return certificate, key


class TestClientCertificates:
    @pytest.fixture
    def target(self, tmp_path: Path) -> Any:
        """A target that asks for a certificate of its own authority."""
        ca = issue(tmp_path, "ca")
        for name in ("server", "client", "other"):
            issue(tmp_path, name, ca)
        issue(tmp_path, "stranger")
        issue(tmp_path, "locked", ca, b"password")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(tmp_path / "ca.pem")
        with ScriptedServer({}, context) as server:
            yield server

    def tried(self, target: ScriptedServer, folder: Path, cert: str | None, key: str) -> EngineProcess:
        files = {"ca.pem": str(folder / "ca.pem"), "client.pem": str(folder / f"{cert}.pem")}
        tls = {"verify": True, "ca": "ca.pem"}
        if cert is not None:
            tls |= {"cert": "client.pem", "key": "${secret.CLIENT_KEY}"}
        engine = EngineProcess()
        try:
            engine.spec(scenario(target.url, tls=tls), counted_load(2, 3), files=files, secrets={"CLIENT_KEY": key})
            line = engine.read()
            assert line is not None
            if line["type"] == "ready":
                engine.permit()
                engine.start()
            engine.finish()
        finally:
            engine.close()
        return engine

    @pytest.mark.parametrize("form", ["pem", "escaped", "path"])
    def test_the_target_is_told_who_it_is(self, target: ScriptedServer, tmp_path: Path, form: str) -> None:
        path = tmp_path / "client.key"
        key = {"pem": path.read_text(), "escaped": path.read_text().replace("\n", "\\n"), "path": str(path)}[form]
        engine = self.tried(target, tmp_path, "client", key)
        assert engine.requests.ok == 6 and target.connections == 2, engine.end
        assert "PRIVATE KEY" not in str(engine.lines) and engine.output() == ""

    @pytest.mark.parametrize("cert", [None, "stranger"])
    def test_a_target_that_does_not_know_it_refuses(
        self, target: ScriptedServer, tmp_path: Path, cert: str | None
    ) -> None:
        key = (tmp_path / f"{cert or 'client'}.key").read_text()
        requests = self.tried(target, tmp_path, cert, key).requests
        assert (requests.ok, requests.failed, requests.answered, target.heads) == (0, 6, 0, [])
        assert set(requests.errors) <= {
            f"tls: the target sent an alert: {'unknown ca' if cert else 'certificate required'}",
            "reset: by the target",
            "closed: before the response",
        }

    @pytest.mark.parametrize(
        ("cert", "key", "message"),
        [
            ("client", "other.key", "tls.key: is not the key of the certificate in tls.cert"),
            ("client", "locked.key", "tls.key: is encrypted, and nobody is there to be asked for its password"),
            ("client", "client.pem", "tls.cert, tls.key: not a certificate and its key in PEM form"),
            ("client", "", "tls.key: the secret is empty"),
            ("client", "nowhere", "tls.key: the secret is neither a key in PEM form nor a file's path"),
        ],
    )
    def test_a_key_that_does_not_fit_fails_the_step_before_it_starts(
        self, target: ScriptedServer, tmp_path: Path, cert: str, key: str, message: str
    ) -> None:
        path = tmp_path / key
        engine = self.tried(target, tmp_path, cert, path.read_text() if key and path.exists() else key)
        assert engine.end is not None and engine.end["cause"] == "failed"
        assert message in engine.end["detail"] and "PRIVATE" not in engine.end["detail"]
        assert target.connections == 0
