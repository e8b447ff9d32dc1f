"""The embedded broker's HTTP: requests read off a socket, responses made, AWS signatures (version 4) checked.

Only what AWS clients send is understood: HTTP/1.1 with Content-Length. Anything else is a ``BadRequest``, after which
the connection is closed.
"""

from __future__ import annotations

import calendar
import hashlib
import hmac
import re
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

MAX_HEAD = 16 << 10
MAX_BODY = 8 << 20
"""A batch of 1 MiB grows sixfold at most when JSON escapes it."""
MAX_SKEW_S = 15 * 60
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/,\s]+)/(\d{8})/([^/,\s]+)/sqs/aws4_request, ?"
    r"SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})"
)
_REASONS = {200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 500: "Internal Server Error"}


class BadRequest(Exception):
    """What came is no request that is understood here."""


class Socket(Protocol):
    """The part of a socket that is used here."""

    def recv(self, size: int, /) -> bytes:
        """Bytes, or none at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Request:
    """A request; header names are lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Reader:
    """The requests that come in on one connection."""

    def __init__(self, sock: Socket) -> None:
        self._sock = sock
        self._buffer = b""

    def next(self) -> Request | None:
        """The next request; None at the connection's end. Raises BadRequest."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > MAX_HEAD:
                raise BadRequest("header too long")
            if not (data := self._sock.recv(1 << 16)):
                return None
            self._buffer += data
        method, path, headers = _head(self._buffer[:end])
        length = _length(headers)
        rest = self._buffer[end + 4 :]
        parts, got = [rest[:length]], len(rest)
        while got < length:
            if not (data := self._sock.recv(1 << 16)):
                return None
            parts.append(data[: length - got])
            rest, got = data, got + len(data)
        self._buffer = rest[len(rest) - (got - length) :]
        return Request(method, path, headers, b"".join(parts))


def _head(data: bytes) -> tuple[str, str, dict[str, str]]:
    first, *lines = data.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or words[2] != "HTTP/1.1":
        raise BadRequest("not HTTP/1.1")
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadRequest("header without a colon")
        headers[name.lower()] = value.strip()
    return words[0], words[1], headers


def _length(headers: dict[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise BadRequest("Content-Length is needed")
    text = headers.get("content-length", "0")
    if not (text.isascii() and text.isdecimal() and len(text) < 12) or int(text) > MAX_BODY:
        raise BadRequest("body too long")
    return int(text)


def response(status: int, body: bytes, headers: dict[str, str]) -> bytes:
    """A response's bytes."""
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Error')}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def refusal(request: Request, key: str, secret: str, now_s: float) -> tuple[str, str] | None:
    """Why a request may not come in, as (error code, message); None where its signature is right."""
    match = _AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
    stamp = request.headers.get("x-amz-date", "")
    if match is None or not re.fullmatch(r"\d{8}T\d{6}Z", stamp):
        return "MissingAuthenticationToken", "the request is not signed (AWS signature version 4)"
    access, day, region, names, signature = match.groups()
    if access != key:
        return "InvalidClientTokenId", "the access key is not this broker's"
    try:
        signed_at = _seconds(stamp)
    except ValueError:
        return "IncompleteSignature", "X-Amz-Date is no time"
    if abs(now_s - signed_at) > MAX_SKEW_S or not stamp.startswith(day):
        return "SignatureDoesNotMatch", "signed more than 15 minutes off this machine's clock"
    if not {"host", "x-amz-target", "x-amz-date"} <= set(names.split(";")):
        return "IncompleteSignature", "Host, X-Amz-Date and X-Amz-Target must be signed"
    wanted = _signature(request, secret, day, region, stamp, names)
    if not hmac.compare_digest(wanted, signature):
        return "SignatureDoesNotMatch", "the secret is not this broker's"
    return None


@lru_cache(maxsize=64)
def _seconds(stamp: str) -> int:
    return calendar.timegm(time.strptime(stamp, "%Y%m%dT%H%M%SZ"))


def _signature(request: Request, secret: str, day: str, region: str, stamp: str, names: str) -> str:
    path, _, query = request.path.partition("?")
    headers = "".join(f"{name}:{' '.join(request.headers.get(name, '').split())}\n" for name in names.split(";"))
    digest = hashlib.sha256(request.body).hexdigest()
    canonical = "\n".join((request.method, path, query, headers, names, digest)).encode()
    scope = f"{day}/{region}/sqs/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical).hexdigest()}"
    return _hmac(_signing_key(secret, day, region), text).hex()


@lru_cache(maxsize=64)
def _signing_key(secret: str, day: str, region: str) -> bytes:
    key = ("AWS4" + secret).encode()
    for part in (day, region, "sqs", "aws4_request"):
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
