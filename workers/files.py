"""A plan's files on a worker: from its own folder, and what is not there from the scheduler over HTTP.

What was fetched stays in the folder and is verified by its digest on the way in and each time it is used. Blocking:
for a thread of its own.
"""

from __future__ import annotations

import http.client
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NoReturn

from loads_queue.address import Address
from loads_queue.files import DigestMismatch, FileStore, FileStoreError

RETRY_S = (0.5, 1.0, 2.0)
"""Waits between the attempts to reach the scheduler."""
TIMEOUT_S = 10.0
_CHUNK = 1 << 18

log = logging.getLogger("loads.worker")


class WorkerFiles(FileStore):
    """A folder of files by digest, filled from a scheduler; ``server`` says where that is, if it is known.

    A scheduler of this machine may start after its workers, so it is asked for each time.
    """

    def __init__(
        self, folder: Path, server: Callable[[], Address | None], sleep: Callable[[float], object] = time.sleep
    ) -> None:
        super().__init__(folder)
        self._server = server
        self._sleep = sleep

    def get(self, digest: str) -> Path:
        """As ``FileStore.get``; fetches what is missing, or damaged, first. Raises FileStoreError."""
        here = self.has(digest)
        try:
            return super().get(digest)
        except FileStoreError:
            server = self._server()
            if server is None:
                raise
            if here:
                log.warning("file %s is damaged in %s and is fetched again", digest, self.folder)
        self._fetch(server, digest)
        return super().get(digest)

    def _fetch(self, server: Address, digest: str) -> None:
        for wait in (*RETRY_S, None):
            try:
                self.put(_content(server, digest), expected=digest)
                return
            except DigestMismatch as error:
                raise FileStoreError(f"{server.url} sent a damaged file: {error}") from None
            except _Away as error:
                if wait is None:
                    raise FileStoreError(f"can't fetch file {digest} from {server.url}: {error}") from None
            self._sleep(wait)


class _Away(Exception):
    """The scheduler can't be reached, or broke off; it may be otherwise later."""


def _content(server: Address, digest: str) -> Iterator[bytes]:
    """The file's bytes; raises _Away, and FileStoreError where asking again would not help."""
    url = f"{server.url.rstrip('/')}/api/v1/files/{digest}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {server.token}"})
    try:
        with _OPENER.open(request, timeout=TIMEOUT_S) as response:
            yield from _body(response, response.headers.get("Content-Length"))
    except urllib.error.HTTPError as error:
        with error:
            if error.code < 500:
                _refused(server, digest, error.code)
            raise _Away(f"it answers {error.code}") from None
    except (OSError, http.client.HTTPException) as error:
        raise _Away(getattr(error, "reason", None) or error) from None


def _body(response: IO[bytes], length: str | None) -> Iterator[bytes]:
    found = 0
    while chunk := response.read(_CHUNK):
        found += len(chunk)
        yield chunk
    if length is not None and length != str(found):
        raise _Away(f"it broke off after {found} of {length} bytes")


def _refused(server: Address, digest: str, status: int) -> NoReturn:
    match status:
        case 404:
            raise FileStoreError(f"{server.url} has no file {digest}: submit the plan again")
        case 401 | 403:
            raise FileStoreError(f"{server.url} refuses this worker's token: set LOADS_TOKEN to the scheduler's")
    raise FileStoreError(f"{server.url} answers {status} where file {digest} was asked for: is it a scheduler?")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The token is for one address alone."""

    def redirect_request(self, *_: object) -> None:
        """Follow none: the answer is then an error by its status."""


_OPENER = urllib.request.build_opener(_NoRedirects)
