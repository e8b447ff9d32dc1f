"""Certificates, names, connections and bodies from files: what a plan says, and what is held against it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from loads.scheduler.plan_files import PlanFiles

from loads_queue.model.plan import Plan, load_plan
from loads_queue.model.plan_step import FileFacts
from loads_queue.model.problems import PlanError
from loads_queue.model.scenario import LARGEST_BODY_FILES, Body, Connections, Dns, File, HttpScenario, Part, Tls

USERS = {"users": 2, "iterations": 1}
KEY = "${secret.CLIENT_KEY}"


def plan_of(load: dict[str, Any] = USERS, check_file: Any = None, **http: Any) -> Plan:
    http = {"base_url": "https://h", "do": [{"get": "/"}], **http}
    return load_plan({"steps": [{"load": load, "http": http}]}, check_file=check_file)


def scenario_of(**http: Any) -> HttpScenario:
    return HttpScenario.from_wire(plan_of(**http).steps[0].spec)


def warnings_of(load: dict[str, Any] = USERS, **http: Any) -> list[str]:
    return [str(warning) for warning in plan_of(load, **http).warnings]


def test_what_is_not_said() -> None:
    found = scenario_of()
    assert (found.tls, found.dns, found.connections) == (Tls(), Dns(), Connections())


def test_a_spec_of_an_earlier_version_has_the_defaults() -> None:
    wire = dict(plan_of().steps[0].spec)
    del wire["connections"], wire["dns"]
    wire["tls"] = {"verify": True, "ca": None}
    assert HttpScenario.from_wire(wire) == scenario_of()


def test_names_and_addresses() -> None:
    hosts = {"Shop.Example": ["10.0.0.1", "[::1]"], "other": ["::ffff:10.0.0.2"]}
    found = scenario_of(dns={"resolve": "each", "pick": "pin", "hosts": hosts})
    assert found.dns.hosts[0] == ("shop.example", ("10.0.0.1", "::1"))
    assert (found.dns.resolve, found.dns.pick, len(found.dns.hosts)) == ("each", "pin", 2)


def test_connections() -> None:
    found = scenario_of(keep_alive=True, connections_per_user=2, reuse=False)
    assert found.connections == Connections(True, 2, False)


def test_a_certificate_is_a_file_of_the_plan_and_its_key_a_name() -> None:
    plan = plan_of(tls={"cert": "client.pem", "ca": "ca.pem", "key": KEY})
    assert plan.files == ("ca.pem", "client.pem")
    assert plan.steps[0].spec["tls"] == {"verify": True, "ca": "ca.pem", "cert": "client.pem", "key": KEY}


def test_bodies_of_files_and_parts() -> None:
    parts = [
        {"name": "title", "value": "${iteration.number}"},
        {"name": "photo", "file": "a.png", "content_type": "image/png", "filename": "${iteration.id}.png"},
        {"name": "again", "file": "a.png"},
    ]
    do = [{"put": "/x", "file": "b.bin"}, {"repeat": 2, "do": [{"post": "/y", "multipart": parts}]}]
    plan = plan_of(do=do)
    assert plan.files == ("b.bin", "a.png")
    first, repeat = HttpScenario.from_wire(plan.steps[0].spec).do
    assert first.body == Body("file", File("b.bin"))  # type: ignore[union-attr]
    assert repeat.do[0].body.value == (  # type: ignore[union-attr]
        Part("title", "${iteration.number}"),
        Part("photo", None, File("a.png"), "image/png", "${iteration.id}.png"),
        Part("again", None, File("a.png")),
    )


@pytest.mark.parametrize("part", [{"name": "x"}, {"name": "x", "value": "v", "file": "f"}, {"value": "v"}, 7])
def test_an_engine_refuses_parts_that_are_none(part: Any) -> None:
    wire = dict(plan_of(do=[{"post": "/"}]).steps[0].spec)
    wire["do"] = [{**wire["do"][0], "body": {"kind": "multipart", "value": [part]}}]
    with pytest.raises(ValueError):
        HttpScenario.from_wire(wire)


class TestWarnings:
    def test_what_says_nothing_without_kept_connections(self) -> None:
        text = "says nothing beside keep_alive: false, which closes every connection anyway"
        assert warnings_of(keep_alive=False, reuse=False, connections_per_user=2) == [
            f"steps[0].http.reuse: {text}",
            f"steps[0].http.connections_per_user: {text}",
        ]
        assert warnings_of(keep_alive=False) == warnings_of(reuse=False, connections_per_user=1) == []

    def test_what_only_users_have(self) -> None:
        rate = {"rate": 5, "for": "1s"}
        given: dict[str, Any] = {"connections_per_user": 2, "dns": {"pick": "pin"}}
        assert warnings_of(rate, **given) == [
            "steps[0].http.connections_per_user: not used: the iterations of a rate share their connections",
            "steps[0].http.dns.pick: is rotate here: the iterations of a rate share their connections",
        ]
        assert warnings_of(rate, reuse=False, **given) == warnings_of(USERS, **given) == []

    @pytest.mark.parametrize("place", ["step", "request"])
    def test_a_connection_header_beside_keep_alive_false_is_a_problem(self, place: str) -> None:
        headers = {"headers": {"connection": "keep-alive"}}
        do = [{"get": "/", **(headers if place == "request" else {})}]
        with pytest.raises(PlanError) as error:
            plan_of(keep_alive=False, do=do, **(headers if place == "step" else {}))
        assert [str(each) for each in error.value.problems] == [
            "steps[0].http.keep_alive: the plan has a Connection header too: leave one of them out"
        ]


class TestFiles:
    def problems(self, folder: Path, **http: Any) -> list[str]:
        with pytest.raises(PlanError) as error:
            plan_of(check_file=PlanFiles(folder).check, **http)
        return [str(each) for each in error.value.problems]

    def test_every_file_that_is_missing_is_told_once_with_its_place(self, tmp_path: Path) -> None:
        part = {"name": "f", "file": "no.bin"}
        do = [{"post": "/", "multipart": [part, part]}, {"repeat": 1, "do": [{"put": "/", "file": "nor.bin"}]}]
        found = self.problems(tmp_path, do=do, tls={"cert": "no.pem", "key": KEY})
        assert [each.partition(" (looked")[0] for each in found] == [
            "steps[0].http.tls.cert: no such file: 'no.pem'",
            "steps[0].http.do[0].multipart: no such file: 'no.bin'",
            "steps[0].http.do[1].do[0].file: no such file: 'nor.bin'",
        ]

    def test_a_file_that_is_too_large_and_files_that_are_together(self, tmp_path: Path) -> None:
        for name, size in (("large", LARGEST_BODY_FILES + 1), ("half", LARGEST_BODY_FILES // 2 + 1)):
            with (tmp_path / name).open("wb") as file:
                file.truncate(size)
        half = {"name": "f", "file": "half"}
        do = [{"put": "/", "file": "large"}, {"put": "/", "multipart": [half]}, {"put": "/", "multipart": [half, half]}]
        assert self.problems(tmp_path, do=do) == [
            f"steps[0].http.do[0].file: 'large' has {LARGEST_BODY_FILES + 1} bytes: the files in a body have at most "
            f"{LARGEST_BODY_FILES}",
            f"steps[0].http.do[2].multipart: {2 * (LARGEST_BODY_FILES // 2 + 1)} bytes of files in one request: at "
            f"most {LARGEST_BODY_FILES}",
        ]

    def test_an_empty_file_is_a_body(self, tmp_path: Path) -> None:
        (tmp_path / "empty").touch()
        assert PlanFiles(tmp_path).check("body", "empty") == FileFacts((), 0)

    def test_a_certificate_with_its_key_in_it_would_travel(self, tmp_path: Path) -> None:
        (tmp_path / "c.pem").write_text("-----BEGIN EC PRIVATE KEY-----\nAA==\n-----END EC PRIVATE KEY-----\n")
        assert self.problems(tmp_path, tls={"cert": "c.pem", "key": KEY}) == [
            "steps[0].http.tls.cert: 'c.pem' holds a private key, which would travel with the plan: take it out"
        ]

    def test_a_certificate_that_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "c.pem").write_text("hello")
        (found,) = self.problems(tmp_path, tls={"cert": "c.pem", "key": KEY})
        assert found.startswith("steps[0].http.tls.cert: no certificates in PEM form in 'c.pem'")
