"""The files that a plan names: found beside it, and read through before anything starts."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from loads_queue.model.plan_step import FileFacts
from loads_queue.model.rows import read_rows
from loads_queue.model.scenario import LARGEST_BODY_FILES
from loads_queue.model.units import shown

LONGEST_LINE = 1 << 20


class PlanFiles:
    """Checks each file once; ``found`` are the absolute paths of those that can be used, by name in the plan."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.found: dict[str, str] = {}
        self._facts: dict[tuple[str, str], FileFacts | ValueError] = {}

    def check(self, kind: str, name: str) -> FileFacts:
        """What the plan must know of a file, as ``plan_step.CheckFile`` says."""
        key = (kind, name)
        if key not in self._facts:
            try:
                self._facts[key] = self._read(kind, name)
            except ValueError as error:
                self._facts[key] = error
        result = self._facts[key]
        if isinstance(result, ValueError):
            raise result
        return result

    def _read(self, kind: str, name: str) -> FileFacts:
        try:
            path = (self._folder / name).resolve()
            if not path.exists():
                raise ValueError(f"no such file: {shown(name)} (looked for {path})")
            if not path.is_file():
                raise ValueError(f"not a file: {shown(name)}")
            size = path.stat().st_size
            if size == 0 and kind not in ("body", "text"):
                raise ValueError(f"{shown(name)} is empty")
            facts = FileFacts(_READERS[kind](name, path), size)
        except (OSError, RuntimeError) as error:
            raise ValueError(f"can't read {shown(name)}: {error}") from None
        self.found[name] = str(path)
        return facts


def _check_data(name: str, path: Path) -> Sequence[str]:
    columns: Sequence[str] = ()
    rows = 0
    for row in read_rows(name, _lines(name, path)):
        rows += 1
        if rows == 1:
            columns = tuple(row)
    if not rows:
        raise ValueError(f"{shown(name)} has no rows")
    return columns


def _lines(name: str, path: Path) -> Iterator[str]:
    line = 0
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            while text := file.readline(LONGEST_LINE):
                line += 1
                if len(text) == LONGEST_LINE:
                    raise ValueError(f"{shown(name)} line {line}: longer than {LONGEST_LINE} characters")
                yield text
        except UnicodeDecodeError:
            raise ValueError(f"{shown(name)} line {line + 1}: not UTF-8") from None


def _check_ca(name: str, path: Path) -> Sequence[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise ValueError(f"no certificates in PEM form in {shown(path.name)}: {error.reason or error}") from None
    return ()


def _check_cert(name: str, path: Path) -> Sequence[str]:
    """A certificate travels to every worker and is kept there, which a private key must not."""
    if re.search(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----", path.read_bytes()):
        raise ValueError(f"{shown(name)} holds a private key, which would travel with the plan: take it out")
    return _check_ca(name, path)


def _check_body(name: str, path: Path) -> Sequence[str]:
    size = path.stat().st_size
    if size > LARGEST_BODY_FILES:
        raise ValueError(f"{shown(name)} has {size} bytes: the files in a body have at most {LARGEST_BODY_FILES}")
    with path.open("rb"):
        return ()


def _check_text(name: str, path: Path) -> Sequence[str]:
    _check_body(name, path)
    try:
        path.read_bytes().decode()
    except UnicodeDecodeError:
        raise ValueError(f"{shown(name)} is not UTF-8, and is to be sent as text") from None
    return ()


_READERS: dict[str, Callable[[str, Path], Sequence[str]]] = {
    "data": _check_data, "ca": _check_ca, "cert": _check_cert, "body": _check_body,
    "text": _check_text,
}  # fmt: skip
