"""The content-addressed store of a plan's files: put and get, by SHA-256, in a folder.

A file is known by the lower-case hexadecimal SHA-256 of its content and never changes, so it may be written by any
number of processes at once: each writes a temporary file of its own, and whoever renames last changes nothing. What
comes out was verified on the way. Secrets and private keys don't belong here.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

_DIGEST = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 20
_PARTIAL = ".partial-"
Content = bytes | str | os.PathLike[str] | Iterable[bytes]
"""Bytes, the path of a file, or chunks of bytes."""


class FileStoreError(Exception):
    """A file is not in the store, is damaged there, or can't be read or written; the text is for people."""


class DigestMismatch(FileStoreError):
    """What was to be stored under a digest has another one; nothing was stored."""


class FileStore:
    """A folder of files by digest; it is made when something is first put into it."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def put(self, content: Content, expected: str | None = None) -> str:
        """Store bytes, chunks of them, or a copy of the file at a path, and return the digest.

        Either the whole content is there afterwards, also through a crash, or nothing is. Raises FileStoreError, and
        DigestMismatch where the content has not the digest that was ``expected``.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._partial() as (descriptor, partial):
                digest = _copy(_chunks(content), descriptor)
                if expected is not None and digest != expected:
                    raise DigestMismatch(f"the content has the digest {digest}, not {expected[:80]}")
                target = self._path(digest)
                target.parent.mkdir(exist_ok=True)
                os.replace(partial, target)
                _sync_folder(target.parent)
        except OSError as error:
            raise FileStoreError(f"can't store a file in {self.folder}: {error}") from error
        return digest

    def get(self, digest: str) -> Path:
        """The path of the file with that digest, whose content was read and compared; it must not be written to.

        Raises FileStoreError where the file is missing or damaged, or where the digest is none.
        """
        path = self._path(digest)
        found = hashlib.sha256()
        try:
            for chunk in _chunks(path):
                found.update(chunk)
        except FileNotFoundError:
            raise FileStoreError(f"no file {digest} in {self.folder}: is it the folder that the run used?") from None
        except OSError as error:
            raise FileStoreError(f"can't read file {digest} in {self.folder}: {error}") from error
        if found.hexdigest() != digest:
            raise FileStoreError(f"file {digest} in {self.folder} is damaged: remove it and put it there again")
        return path

    def has(self, digest: str) -> bool:
        """Whether a file of that digest is there; its content is not looked at."""
        return self._path(digest).is_file()

    def _path(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise FileStoreError(f"not a SHA-256 digest: {digest[:80]!r}")
        return self.folder / digest[:2] / digest

    @contextlib.contextmanager
    def _partial(self) -> Iterator[tuple[int, str]]:
        descriptor, partial = tempfile.mkstemp(prefix=_PARTIAL, dir=self.folder)
        try:
            yield descriptor, partial
        finally:
            os.close(descriptor)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial)


def _chunks(content: Content) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    if not isinstance(content, (str, os.PathLike)):
        yield from content
        return
    with open(content, "rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _copy(chunks: Iterator[bytes], descriptor: int) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        view = memoryview(chunk)
        while view:
            view = view[os.write(descriptor, view) :]
    os.fchmod(descriptor, 0o444)
    os.fsync(descriptor)
    return digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
