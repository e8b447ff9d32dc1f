"""Bodies that are made of parts and files; what is too large to be sent is for who reads the files."""

from __future__ import annotations

from typing import Any

from .plan_fields import At, Field, Fields, Kind, ListOf, text
from .plan_http_parts import ANY_TEXT, HEADER_VALUE

FILE_NAME = text("a file's name")


class _PartFields(Fields):
    """Fields of which one of two is needed."""

    def schema(self) -> dict[str, Any]:
        return {**super().schema(), "oneOf": [{"required": ["value"]}, {"required": ["file"]}]}


PART = _PartFields(
    {
        "name": Field(ANY_TEXT, "The field's name.", required=True),
        "value": Field(ANY_TEXT, "What is in it."),
        "file": Field(FILE_NAME, "Or a file beside the plan, byte for byte."),
        "content_type": Field(HEADER_VALUE, "Default: none for a value, application/octet-stream for a file."),
        "filename": Field(ANY_TEXT, "Default: none for a value, the file's own name for a file."),
    }
)


class Multipart(Kind):
    """A list of parts, each with a value or a file."""

    def read(self, value: object, at: At) -> Any:
        found = _PARTS.read(value, at)
        if found is None or not isinstance(value, list):
            return None
        for index, given in enumerate(value):
            if isinstance(given, dict) and ("value" in given) == ("file" in given):
                at.down(index).problem("needs either value or file")
        return found

    def schema(self) -> dict[str, Any]:
        return _PARTS.schema()


_PARTS = ListOf(PART, most=1000)
MULTIPART = Multipart()


def check_content_type(headers: list[list[str]] | None, at: At) -> None:
    """Report a Content-Type that a multipart body would contradict."""
    for name, _ in headers or []:
        if name.lower() == "content-type":
            at.down("headers").down(name).problem("multipart sets this header itself, with the boundary of its parts")
