"""Bodies from files and of parts: what is made, and what arrives."""

from __future__ import annotations

import email
import email.policy
from pathlib import Path
from typing import Any

import pytest
from engine_harness import EngineProcess, counted_load, request, run_engine, scenario
from engine_targets import ScriptedServer, answer
from loads.workers.engines import bodies
from loads.workers.engines.errors import Refused
from loads.workers.engines.prepared import PreparedRequest
from loads.workers.engines.variables import Fixed, Visit

from loads_queue.model.scenario import LARGEST_BODY_FILES, HttpScenario

BINARY = bytes(range(256)) + b"\r\n--loads-\r\n"


def visit(**variables: Any) -> Visit:
    return Visit(Fixed(), 1, 7, {}, variables, False)


def prepared(folder: Path, body: dict[str, Any], **more: Any) -> PreparedRequest:
    (folder / "a.bin").write_bytes(BINARY)
    wire = scenario("http://h", request("/", method="POST", body=body, **more))
    spec = bodies.with_files(HttpScenario.from_wire(wire), {"a.bin": str(folder / "a.bin")})
    return PreparedRequest(spec, spec.do[0])  # type: ignore[arg-type]


def multipart(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "multipart", "value": list(parts)}


def read(head: bytes, body: bytes) -> list[tuple[str | None, str | None, str, bytes]]:
    """(name, filename, content type or nothing, content) of each part, as another library reads them."""
    (kind,) = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-type:")]
    message = email.message_from_bytes(kind + b"\r\n\r\n" + body, policy=email.policy.HTTP)
    assert message.is_multipart() and not message.defects
    return [
        (
            part.get_param("name", header="content-disposition"),
            part.get_filename(),
            part.get("content-type", ""),
            part.get_payload(decode=True),
        )
        for part in message.iter_parts()  # type: ignore[attr-defined]
    ]


def sent(made: PreparedRequest, by: Visit) -> tuple[bytes, bytes]:
    head, _, body = made.build(by).wire.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}\r\n".encode() in head + b"\r\n"
    return head, body


class TestMultipart:
    def test_fields_and_files(self, tmp_path: Path) -> None:
        made = prepared(
            tmp_path,
            multipart(
                {"name": "title", "value": "é"},
                {"name": "meta", "value": "{}", "content_type": "application/json"},
                {"name": "photo", "file": "a.bin"},
                {"name": "photo", "file": "a.bin", "content_type": "image/png", "filename": "x y.png"},
            ),
        )
        assert read(*sent(made, visit())) == [
            ("title", None, "", "é".encode()),
            ("meta", None, "application/json", b"{}"),
            ("photo", "a.bin", "application/octet-stream", BINARY),
            ("photo", "x y.png", "image/png", BINARY),
        ]
        assert made.fixed is not None and made.build(visit()) is made.fixed

    def test_names_are_filled_in_for_each_iteration(self, tmp_path: Path) -> None:
        made = prepared(
            tmp_path,
            multipart(
                {"name": "n", "value": "${var.x}"},
                {
                    "name": "${var.x}",
                    "file": "a.bin",
                    "filename": "${iteration.id}",
                    "content_type": "${var.t}",
                },
            ),
        )
        assert made.fixed is None
        assert read(*sent(made, visit(x="one", t="a/b"))) == [
            ("n", None, "", b"one"),
            ("one", visit().id, "a/b", BINARY),
        ]

    def test_the_boundary_is_the_same_everywhere_and_not_in_a_file(self, tmp_path: Path) -> None:
        part = {"name": "f", "file": "a.bin"}
        first = prepared(tmp_path, multipart(part)).build(visit()).wire
        assert first == prepared(tmp_path, multipart(part)).build(visit()).wire
        boundary = first.partition(b"boundary=")[2].partition(b"\r\n")[0]
        assert BINARY not in (b"", boundary) and boundary not in BINARY and first.count(boundary) == 3

    def test_a_value_cannot_end_its_part(self, tmp_path: Path) -> None:
        made = prepared(tmp_path, multipart({"name": "n", "value": "${var.x}"}))
        boundary = made.build(visit(x="")).wire.partition(b"boundary=")[2].partition(b"\r\n")[0].decode()
        with pytest.raises(Refused, match="refused: a value with the boundary of its multipart body in it"):
            made.build(visit(x=f"\r\n--{boundary}\r\nContent-Disposition: form-data"))
        assert read(*sent(made, visit(x="a\r\nContent-Type: x\r\n\r\nb"))) == [
            ("n", None, "", b"a\r\nContent-Type: x\r\n\r\nb")
        ]

    def test_names_and_types_cannot_break_out_of_their_line(self, tmp_path: Path) -> None:
        made = prepared(tmp_path, multipart({"name": 'a"\r\nX: y', "value": "v", "filename": "${var.x}"}))
        _, body = sent(made, visit(x='"; evil="\r\n\r\n'))
        assert b'name="a%22%0D%0AX: y"; filename="%22; evil=%22%0D%0A%0D%0A"\r\n\r\nv\r\n' in body
        made = prepared(tmp_path, multipart({"name": "a", "value": "v", "content_type": "${var.x}"}))
        with pytest.raises(Refused, match="line break"):
            made.build(visit(x="a/b\r\nX: y"))


class TestFiles:
    @pytest.mark.parametrize("headers", [[], [["content-type", "image/png"]]])
    def test_a_file_is_sent_byte_for_byte(self, tmp_path: Path, headers: list[list[str]]) -> None:
        made = prepared(tmp_path, {"kind": "file", "value": "a.bin"}, headers=headers)
        head, body = sent(made, visit())
        assert body == BINARY and made.fixed is not None
        assert (b"content-type: image/png" if headers else b"Content-Type: application/octet-stream") in head

    def test_they_arrive_and_a_redirect_that_keeps_the_body_keeps_them(self, tmp_path: Path) -> None:
        path = tmp_path / "photo"
        path.write_bytes(BINARY * 2000)
        there = answer(b"HTTP/1.1 307 T\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n")
        with ScriptedServer({"/": there}) as server:
            form = multipart({"name": "n", "value": "${user.number}"}, {"name": "f", "file": "p"})
            actions = [
                request("/", method="PUT", body={"kind": "file", "value": "p"}),
                request("/m", method="POST", body=form),
            ]
            engine = run_engine(scenario(server.url, *actions), counted_load(2, 2), files={"p": str(path)})
            assert (engine.requests.ok, engine.requests.failed) == (12, 0)
            assert server.count == {"/": 4, "/there": 4, "/m": 4}
            parts = [read(*pair) for pair in zip(server.heads, server.bodies, strict=True) if b" /m " in pair[0]]
            assert {found[0][3] for found in parts} == {b"0", b"1"}
            assert all(found[1] == ("f", "p", "application/octet-stream", BINARY * 2000) for found in parts)
            assert sorted(map(len, server.bodies))[:8] == [len(BINARY) * 2000] * 8

    @pytest.mark.parametrize(
        ("size", "parts", "message"),
        [
            (LARGEST_BODY_FILES + 1, 1, f"the file 'p' of a body is too large: at most {LARGEST_BODY_FILES} bytes"),
            (LARGEST_BODY_FILES // 2 + 1, 2, f"bytes of files in one request: at most {LARGEST_BODY_FILES}"),
            (None, 1, "the file 'p' of a body was not sent along"),
        ],
    )
    def test_an_engine_holds_to_the_bound_itself(
        self, engine: EngineProcess, tmp_path: Path, size: int | None, parts: int, message: str
    ) -> None:
        path = tmp_path / "p"
        with path.open("wb") as file:
            file.truncate(size or 0)
        body = multipart(*[{"name": "f", "file": "p"}] * parts)
        files = {} if size is None else {"p": str(path)}
        engine.spec(scenario("http://127.0.0.1:9", request(method="POST", body=body)), counted_load(1, 1), files=files)
        end = engine.finish()
        assert end["cause"] == "failed" and message in end["detail"]
