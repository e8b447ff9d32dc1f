"""What stands behind the question mark of a broker's URL, and the certificates that it names."""

from __future__ import annotations

import ssl
from urllib.parse import parse_qsl, urlsplit

from .queue import QueueError

TLS = ("rediss", "amqps")
"""The schemes with TLS from the first byte."""


def options_of(url: str, known: tuple[str, ...]) -> dict[str, str]:
    """The options in a URL; raises QueueError where there are others than those known."""
    parts = urlsplit(url)
    found = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := [name for name in found if name not in known]:
        there = f"there {'are' if len(known) > 1 else 'is'} {' and '.join(known)}" if known else "there are none"
        raise QueueError(f"broker URL: {parts.scheme}:// has no option {', '.join(unknown)}; {there}")
    return found


def ca_file(url: str) -> str | None:
    """The file of certificates to trust instead of the system's; raises QueueError where it holds none."""
    file = options_of(url, ("ca",) if urlsplit(url).scheme in TLS else ()).get("ca")
    if file is not None:
        try:
            ssl.create_default_context(cafile=file or "(empty)")
        except (OSError, ssl.SSLError) as error:
            raise QueueError(f"broker URL: ca: {file!r} is not a file of PEM certificates: {error}") from None
    return file
