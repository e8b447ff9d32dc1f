"""URLs and headers of a plan: what can never be sent is refused before the run."""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

from .template import Ref, Template, to_text

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
METHOD = re.compile(r"[A-Z][A-Z0-9_-]{0,30}")
OWN_HEADERS = frozenset({"content-length", "transfer-encoding"})
LONGEST_NAME = 200

_CONTROL = re.compile(r"[\x00-\x20\x7f]")
_NOT_IN_HEADERS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]+\]")
HOST_NAME = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9._-]{1,253}")


def parse_base_url(value: object) -> tuple[str, str]:
    """(scheme, host and port; path without its last slash); raises ValueError for people."""
    url = to_text(value)
    origin, path, rest = _cut(url)
    if rest:
        raise ValueError(f"has no query and no fragment: {url!r}")
    return origin, quote(path.rstrip("/"), safe="/%:@!$&'()*+,;=~-._")


def _cut(url: str) -> tuple[str, str, str]:
    """(origin, path, what follows) of a whole URL without names in it; raises ValueError."""
    if _CONTROL.search(url):
        raise ValueError(f"a URL has no spaces and line breaks: {url!r}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"not a URL: {url!r} ({error})") from None
    if parts.scheme.lower() not in ("http", "https"):
        raise ValueError(f"not an http:// or https:// URL: {url!r}")
    if "@" in parts.netloc:
        raise ValueError("a URL has no user and password in it: use `auth: {basic: [USER, PASSWORD]}`")
    host = parts.netloc.rpartition(":")[0] if port is not None else parts.netloc.removesuffix(":")
    if not host or not _HOST.fullmatch(host) or port == 0:
        raise ValueError(f"not a host and port: {parts.netloc!r} in {url!r}")
    origin = f"{parts.scheme.lower()}://{host.lower()}" + (f":{port}" if port is not None else "")
    return (
        origin,
        parts.path,
        (f"?{parts.query}" if parts.query else "") + (f"#{parts.fragment}" if parts.fragment else ""),
    )


def url_problem(template: Template) -> str | None:
    """What is wrong with a request's URL, or None: it begins with ``/``, ``http://``, ``https://`` or a name."""
    if not template.parts:
        return "an empty URL (write / for the root)"
    literal = "".join(part for part in template.parts if not isinstance(part, Ref))
    if _CONTROL.search(literal):
        return "a URL has no spaces and line breaks: write %20 for a space"
    if "#" in literal:
        return "a fragment (#...) is never sent: leave it out"
    first = template.parts[0]
    if isinstance(first, Ref) or first.startswith("/"):
        return None
    if not re.match(r"https?://", first, re.IGNORECASE):
        return f"not a path from / or an http:// or https:// URL: {first[:60]!r}"
    if len(template.parts) > 1 and not re.search(r"[/?]", first.partition("://")[2]):
        return None
    try:
        _cut(first.partition("?")[0])
    except ValueError as error:
        return str(error)
    return None


def is_path(template: Template) -> bool:
    """Whether a URL is below ``base_url``."""
    first = template.parts[0] if template.parts else ""
    return not isinstance(first, Ref) and first.startswith("/")


def encoded(template: Template, prefix: str = "") -> str:
    """The template's text again, below a path, with what is not ASCII percent-encoded."""
    texts = [
        f"${{{part.source()}}}"
        if isinstance(part, Ref)
        else quote(part, safe="".join(map(chr, range(33, 127)))).replace("$", "$$")
        for part in template.parts
    ]
    return prefix.replace("$", "$$") + "".join(texts)


def default_name(method: str, template: Template) -> str:
    """The series of a request without a name: method and path template, names in braces, without the query."""
    text = "".join(f"{{{part.source()}}}" if isinstance(part, Ref) else part for part in template.parts)
    return f"{method} {text.partition('?')[0]}"[:LONGEST_NAME]


def header_name_problem(name: str) -> str | None:
    """What is wrong with a header's name, or None."""
    if not TOKEN.fullmatch(name):
        return "not a header's name"
    if name.lower() in OWN_HEADERS:
        return "the engine sets this header from the body"
    return None


def header_value_problem(template: Template) -> str | None:
    """What is wrong with a header's value, or None."""
    literal = "".join(part for part in template.parts if not isinstance(part, Ref))
    if _NOT_IN_HEADERS.search(literal):
        return "a header has no line breaks and control characters"
    return None
