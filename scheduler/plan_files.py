"""The files that a plan names: found beside it, and read through before anything starts."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path

from loads_queue.model.rows import read_rows
from loads_queue.model.units import shown

LONGEST_LINE = 1 << 20


class PlanFiles:
    """Checks each file once; ``found`` are the absolute paths of those that can be used, by name in the plan."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.found: dict[str, str] = {}
        self._columns: dict[tuple[str, str], Sequence[str] | ValueError] = {}

    def check(self, kind: str, name: str) -> Sequence[str]:
        """The columns of a data file, none for a CA file; raises ValueError for what can't be used."""
        key = (kind, name)
        if key not in self._columns:
            try:
                self._columns[key] = self._read(kind, name)
            except ValueError as error:
                self._columns[key] = error
        result = self._columns[key]
        if isinstance(result, ValueError):
            raise result
        return result

    def _read(self, kind: str, name: str) -> Sequence[str]:
        try:
            path = (self._folder / name).resolve()
            if not path.exists():
                raise ValueError(f"no such file: {shown(name)} (looked for {path})")
            if not path.is_file():
                raise ValueError(f"not a file: {shown(name)}")
            if path.stat().st_size == 0:
                raise ValueError(f"{shown(name)} is empty")
            columns = _check_data(name, path) if kind == "data" else _check_ca(path)
        except (OSError, RuntimeError) as error:
            raise ValueError(f"can't read {shown(name)}: {error}") from None
        self.found[name] = str(path)
        return columns


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


def _check_ca(path: Path) -> Sequence[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise ValueError(f"no certificates in PEM form in {shown(path.name)}: {error.reason or error}") from None
    return ()
