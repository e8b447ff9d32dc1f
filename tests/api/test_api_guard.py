"""Who is let in, and how failures are told."""

from __future__ import annotations

from pathlib import Path

import pytest
from api_harness import PLAN, PREFIX, TOKEN, Api
from loads.scheduler.api.serve import ApiError, parse_listen

PATHS = ("/info", "/runs", "/runs/r1", "/files/" + "0" * 64, "/openapi.json", "/nowhere")


class TestToken:
    @pytest.mark.parametrize("path", PATHS)
    @pytest.mark.parametrize(
        "given", [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", "Bearer \xff"]
    )
    def test_nothing_is_answered_without_it(self, refusing: Api, path: str, given: str | None) -> None:
        headers = {"Host": "127.0.0.1"} | ({} if given is None else {"Authorization": given})
        response = refusing.client.get(PREFIX + path, headers=headers)
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="loads"'
        assert response.content_type == "application/problem+json"
        assert TOKEN not in response.text

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
    def test_nor_done(self, refusing: Api, method: str) -> None:
        assert refusing.client.open(f"{PREFIX}/runs", method=method, json={"plan": PLAN}).status_code == 401
        assert refusing.get("/runs") == {"runs": []}

    def test_the_scheme_may_be_written_as_one_likes(self, refusing: Api) -> None:
        assert refusing.call("GET", "/info", headers={"Authorization": f"bearer  {TOKEN} "}).status_code == 200


class TestHost:
    @pytest.mark.parametrize(
        "host", ["127.0.0.1", "127.0.0.1:1", "localhost:8089", "LOCALHOST", "localhost.", "[::1]:80"]
    )
    def test_loopback_is_called_so(self, refusing: Api, host: str) -> None:
        assert refusing.call("GET", "/info", headers={"Host": host}).status_code == 200

    @pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "0.0.0.0:8089", "[::2]"])
    def test_another_name_is_refused_also_with_the_token(self, refusing: Api, host: str) -> None:
        response = refusing.call("GET", "/info", headers={"Host": host})
        assert response.status_code == 421 and "--host" in response.json["detail"]

    @pytest.mark.parametrize("host", ["", "a b", "127.0.0.1:port", "127.0.0.1@evil", "[::1", "127.0.0.1/", "x\u00e4"])
    def test_what_is_no_host_is_refused(self, refusing: Api, host: str) -> None:
        environ = {"HTTP_HOST": host, "HTTP_AUTHORIZATION": f"Bearer {TOKEN}"}
        assert refusing.client.get(f"{PREFIX}/info", environ_overrides=environ).status_code == 400

    def test_an_open_server_answers_to_addresses_and_to_the_names_it_was_given(self, tmp_path: Path) -> None:
        opened = Api(tmp_path, "0.0.0.0", ("Loads.Example",))
        codes = {
            host: opened.call("GET", "/info", headers={"Host": host}).status_code
            for host in ("10.1.2.3:8089", "[fe80::1]", "loads.example:443", "evil.example", "any")
        }
        assert codes == {
            "10.1.2.3:8089": 200,
            "[fe80::1]": 200,
            "loads.example:443": 200,
            "evil.example": 421,
            "any": 421,
        }


class TestListen:
    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("127.0.0.1:8089", ("127.0.0.1", 8089)),
            ("localhost:0", ("127.0.0.1", 0)),
            ("0.0.0.0:80", ("0.0.0.0", 80)),
            ("[::1]:80", ("::1", 80)),
        ],
    )
    def test_addresses(self, text: str, found: tuple[str, int]) -> None:
        assert parse_listen(text) == found

    @pytest.mark.parametrize("text", ["", ":", ":80", "8089", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "host:80"])
    def test_what_is_no_address(self, text: str) -> None:
        with pytest.raises(ApiError, match="can't listen"):
            parse_listen(text)


class TestBodies:
    @pytest.mark.parametrize(
        ("body", "kind", "status"),
        [
            (b"{", "application/json", 400),
            (b"\xff\xfe", "application/json", 400),
            (b"[]", "application/json", 400),
            (b'"text"', "application/json", 400),
            (b'{"plan": {"steps": NaN}}', "application/json", 400),
            (b'{"id": "a", "id": "b"}', "application/json", 400),
            (b'{"priority": ' + b"9" * 5000 + b"}", "application/json", 400),
            (b'{"plan":' * 50_000, "application/json", 400),
            (b'{"plan": {}}', "text/plain", 415),
            (b'{"plan": {}}', "application/x-www-form-urlencoded", 415),
            (b"", "application/json", 422),
            (b'{"plan": {}, "plan_ref": "x"}', "application/json", 422),
            (b'{"plan": []}', "application/json", 422),
            (b'{"plan": {}, "nonsense": 1}', "application/json", 422),
            (b" " * (9 << 20), "application/json", 413),
        ],
    )
    def test_what_cannot_be_read_is_refused(self, refusing: Api, body: bytes, kind: str, status: int) -> None:
        response = refusing.call("POST", "/runs", data=body, content_type=kind)
        assert response.status_code == status, response.text
        assert response.content_type == "application/problem+json"
        assert response.json["status"] == status and response.json["detail"]
        assert refusing.get("/runs") == {"runs": []}

    def test_unknown_paths_and_methods(self, refusing: Api) -> None:
        assert refusing.call("GET", "/nowhere").status_code == 404
        response = refusing.call("PATCH", "/runs")
        assert response.status_code == 405 and "POST" in response.headers["Allow"]
        assert response.json["title"] == "Method Not Allowed"

    def test_a_fault_of_ours_tells_nothing_of_itself(self, refusing: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object, **__: object) -> None:
            raise RuntimeError("a secret of the inside")

        monkeypatch.setattr("loads.scheduler.reader.Reader.workers", broken)
        refusing.app.config["PROPAGATE_EXCEPTIONS"] = False
        response = refusing.call("GET", "/workers")
        assert response.status_code == 500 and "secret" not in response.text
        assert response.content_type == "application/problem+json"


def test_the_openapi_document_has_every_route(refusing: Api) -> None:
    document = refusing.get("/openapi.json")
    routes = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    wanted = {
        "GET /info", "GET /workers", "GET /runs", "POST /runs", "GET /runs/{run}", "DELETE /runs/{run}",
        "GET /runs/{run}/live", "GET /runs/{run}/summary", "GET /runs/{run}/timeline", "GET /runs/{run}/events",
        "POST /runs/{run}/abort", "POST /runs/{run}/pause", "POST /runs/{run}/resume", "POST /runs/{run}/adjust",
        "GET /projects", "POST /projects", "GET /plans", "PUT /files/{digest}", "GET /files/{digest}",
        "GET /dead-letters", "GET /dead-letters/{ident}", "DELETE /dead-letters/{ident}",
        "POST /dead-letters/{ident}/requeue",
    }  # fmt: skip
    assert {f"{each.split()[0]} {PREFIX}{each.split()[1]}" for each in wanted} <= routes
    assert document["security"] == [{"token": []}]
