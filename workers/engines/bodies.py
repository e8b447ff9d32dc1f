"""Bodies of requests: what is the same for everyone is made once; parts and files as multipart/form-data (RFC 7578).

``maker`` gives what makes a body for one iteration. The boundary of a multipart body comes from its fixed content, so
that it is the same in every engine; a value that has it in it is refused, as it would end its part.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote_plus

from loads_queue.model.scenario import (
    LARGEST_BODY_FILES,
    Action,
    Body,
    File,
    HttpScenario,
    OneOf,
    Part,
    Repeat,
    Request,
)
from loads_queue.model.template import Template, to_text

from .errors import Refused
from .http1 import header_line
from .variables import ANYBODY, Visit

_TYPES = {
    "json": "application/json",
    "form": "application/x-www-form-urlencoded",
    "file": "application/octet-stream",
}
_ESCAPED = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})
"""As browsers write names into a part's head."""


class Maker(Protocol):
    """Makes the body of a request."""

    type: str
    """Its Content-Type, empty where it has none of its own."""
    fixed: bool
    """It is the same for every iteration."""

    def make(self, visit: Visit) -> bytes:
        """The body's bytes for one iteration; raises Refused."""


def maker(body: Body | None) -> Maker:
    """What makes a request's body; files have been read."""
    if body is None:
        return _Fixed("", b"")
    if body.kind == "file":
        return _Fixed(_TYPES["file"], _content(body.value))
    made: Maker = _Multipart(body.value) if body.kind == "multipart" else _Text(body)
    return _Fixed(made.type, made.make(ANYBODY)) if made.fixed else made


class _Fixed:
    """The same for everyone."""

    __slots__ = ("_bytes", "fixed", "type")

    def __init__(self, type: str, content: bytes) -> None:
        self.type = type
        self.fixed = True
        self._bytes = content

    def make(self, visit: Visit) -> bytes:
        return self._bytes


class _Text:
    """JSON, a form, or a text as it is."""

    __slots__ = ("_kind", "_template", "fixed", "type")

    def __init__(self, body: Body) -> None:
        self._kind = body.kind
        self._template = _parsed(body.value)
        self.type = _TYPES.get(body.kind, "")
        self.fixed = not _has_names(self._template)

    def make(self, visit: Visit) -> bytes:
        value = _rendered(self._template, visit)
        if self._kind == "json":
            text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        elif self._kind == "form":
            text = "&".join(f"{_form(name)}={_form(content)}" for name, content in value)
        else:
            text = to_text(value)
        return _encoded(text)


class _Multipart:
    """Parts; runs of fixed bytes are kept whole, and what has names in it is made in between."""

    __slots__ = ("_boundary", "_pieces", "fixed", "type")

    def __init__(self, parts: tuple[Part, ...]) -> None:
        self._boundary = _boundary(parts)
        self.type = f"multipart/form-data; boundary={self._boundary.decode()}"
        pieces: list[bytes | Callable[[Visit], bytes]] = []
        for part in parts:
            pieces += [b"--" + self._boundary + b"\r\n", *self._part(part), b"\r\n"]
        self._pieces = list(_joined([*pieces, b"--" + self._boundary + b"--\r\n"]))
        self.fixed = all(isinstance(piece, bytes) for piece in self._pieces)

    def make(self, visit: Visit) -> bytes:
        return b"".join(piece if isinstance(piece, bytes) else piece(visit) for piece in self._pieces)

    def _part(self, part: Part) -> list[bytes | Callable[[Visit], bytes]]:
        filename, kind = part.filename, part.content_type
        if part.file is not None:
            filename = Path(part.file.name).name.replace("$", "$$") if filename is None else filename
            kind = kind or _TYPES["file"]
        head = _PartHead(part.name, filename, kind)
        start = head.make(ANYBODY) if head.fixed else head.make
        if part.file is not None:
            return [start, _content(part.file)]
        value = Template.parse(part.value or "")
        return [start, _encoded(value.literal) if value.literal is not None else self._value(value)]

    def _value(self, template: Template) -> Callable[[Visit], bytes]:
        def make(visit: Visit) -> bytes:
            found = _encoded(template.text(visit.resolve))
            if self._boundary in found:
                raise Refused("refused: a value with the boundary of its multipart body in it")
            return found

        return make


class _PartHead:
    """The lines before a part's content."""

    __slots__ = ("_filename", "_kind", "_name", "fixed")

    def __init__(self, name: str, filename: str | None, kind: str | None) -> None:
        self._name, self._filename, self._kind = (
            None if text is None else Template.parse(text) for text in (name, filename, kind)
        )
        given = (self._name, self._filename, self._kind)
        self.fixed = all(text is None or text.literal is not None for text in given)

    def make(self, visit: Visit) -> bytes:
        """Raises Refused for a content type that would break out of its line; names can't, they are escaped."""
        name, filename, kind = (
            None if text is None else text.text(visit.resolve) for text in (self._name, self._filename, self._kind)
        )
        disposition = f'form-data; name="{(name or "").translate(_ESCAPED)}"'
        if filename is not None:
            disposition += f'; filename="{filename.translate(_ESCAPED)}"'
        lines = [header_line("Content-Disposition", disposition)]
        if kind is not None:
            lines.append(header_line("Content-Type", kind))
        return "".join(lines).encode() + b"\r\n"


def _boundary(parts: tuple[Part, ...]) -> bytes:
    fixed = [_content(part.file) if part.file is not None else _encoded(part.value or "") for part in parts]
    digest = hashlib.sha256()
    for content in fixed:
        digest.update(b"%d:" % len(content) + content)
    while True:
        found = f"loads-{digest.hexdigest()[:40]}".encode()
        if not any(found in content for content in fixed):
            return found
        digest.update(found)


def _joined(
    pieces: Iterable[bytes | Callable[[Visit], bytes]],
) -> Iterable[bytes | Callable[[Visit], bytes]]:
    run: list[bytes] = []
    for piece in pieces:
        if isinstance(piece, bytes):
            run.append(piece)
            continue
        yield b"".join(run)
        run = []
        yield piece
    yield b"".join(run)


def with_files(spec: HttpScenario, files: Mapping[str, str]) -> HttpScenario:
    """A scenario with the content of its bodies' files in it, each read once; raises ValueError."""
    read: dict[str, bytes] = {}

    def filled(file: File) -> File:
        if file.name not in read:
            read[file.name] = _read(file.name, files)
        return replace(file, content=read[file.name])

    before, do = (_filled(actions, filled) for actions in (spec.before, spec.do))
    return replace(spec, before=before, do=do) if read else spec


def _filled(actions: tuple[Action, ...], filled: Callable[[File], File]) -> tuple[Action, ...]:
    found: list[Action] = []
    for action in actions:
        if isinstance(action, Request):
            found.append(replace(action, body=_filled_body(action.body, filled)))
        elif isinstance(action, OneOf):
            ways = tuple(replace(way, do=_filled(way.do, filled)) for way in action.branches)
            found.append(replace(action, branches=ways))
        elif isinstance(action, Repeat):
            found.append(replace(action, do=_filled(action.do, filled)))
        else:
            found.append(action)
    return tuple(found)


def _filled_body(body: Body | None, filled: Callable[[File], File]) -> Body | None:
    if body is None or body.kind not in ("file", "multipart"):
        return body
    if body.kind == "file":
        return replace(body, value=filled(body.value))
    parts = tuple(part if part.file is None else replace(part, file=filled(part.file)) for part in body.value)
    size = sum(len(part.file.content or b"") for part in parts if part.file is not None)
    if size > LARGEST_BODY_FILES:
        raise ValueError(f"{size} bytes of files in one request: at most {LARGEST_BODY_FILES}")
    return replace(body, value=parts)


def _read(name: str, files: Mapping[str, str]) -> bytes:
    if name not in files:
        raise ValueError(f"the file {name!r} of a body was not sent along")
    with open(files[name], "rb") as file:
        content = file.read(LARGEST_BODY_FILES + 1)
    if len(content) > LARGEST_BODY_FILES:
        raise ValueError(f"the file {name!r} of a body is too large: at most {LARGEST_BODY_FILES} bytes")
    return content


def _content(file: File) -> bytes:
    if file.content is None:
        raise ValueError(f"the file {file.name!r} of a body was not read")
    return file.content


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _form(value: object) -> str:
    return quote_plus(to_text(value), errors="surrogatepass")


def _parsed(value: Any) -> Any:
    """A JSON value with its texts as templates."""
    if isinstance(value, str):
        return Template.parse(value)
    if isinstance(value, Mapping):
        return {name: _parsed(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_parsed(item) for item in value]
    return value


def _has_names(value: Any) -> bool:
    if isinstance(value, Template):
        return value.literal is None
    if isinstance(value, dict):
        return any(_has_names(item) for item in value.values())
    return isinstance(value, list) and any(_has_names(item) for item in value)


def _rendered(value: Any, visit: Visit) -> Any:
    if isinstance(value, Template):
        return value.render(visit.resolve)
    if isinstance(value, dict):
        return {name: _rendered(item, visit) for name, item in value.items()}
    if isinstance(value, list):
        return [_rendered(item, visit) for item in value]
    return value
