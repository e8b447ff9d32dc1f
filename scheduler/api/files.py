"""The plans' files, by the SHA-256 of their content. A file is put first, then named in a submission."""

from __future__ import annotations

import re
from collections.abc import Iterator

from flask import Response, request, send_file

from loads_queue.files import DigestMismatch

from .context import here
from .problems import Refused
from .routes import Routes

routes = Routes("files", "The plans' files, by the SHA-256 of their content.")
UPLOAD = "files.put"
LARGEST = 4 << 30
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_CHUNK = 1 << 18


@routes.add("PUT", "/files/<string:digest>")
def put(digest: str) -> Response:
    """Store the body under its SHA-256: 201, or 200 where it is here already."""
    store = here().files
    _check(digest)
    if store.has(digest):
        return Response(status=200)
    try:
        store.put(_body(), digest)
    except DigestMismatch as error:
        raise Refused(422, str(error)) from None
    return Response(status=201)


@routes.add("GET", "/files/<string:digest>")
def get(digest: str) -> Response:
    """The content of a file. HEAD asks whether it is here."""
    store = here().files
    _check(digest)
    if not store.has(digest):
        raise Refused(404, f"no file {digest} is stored here")
    response = send_file(store.get(digest), "application/octet-stream", etag=False, max_age=0)
    response.set_etag(digest)
    return response


def _check(digest: str) -> None:
    if not _DIGEST.fullmatch(digest):
        raise Refused(400, "not a SHA-256 in lower-case hexadecimal")


def _body() -> Iterator[bytes]:
    while chunk := request.stream.read(_CHUNK):
        yield chunk
