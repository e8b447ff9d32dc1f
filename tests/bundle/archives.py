"""Folders of files and archives for the tests of bundles: honest ones and hostile ones."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from hypothesis import strategies as st

from loads_queue.bundle import BundleError, Contents

Files = Mapping[str, tuple[bytes, bool]]
"""Content and whether it is executable, by name."""

_LETTERS = st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="/\\")
_PARTS = st.one_of(
    st.sampled_from(["a", "b", "tests", "data.json", "Ä", " x", "-f", "ß" * 60, "long" * 40]),
    st.text(_LETTERS, min_size=1, max_size=8),
).filter(lambda part: part not in (".", ".."))
NAMES = st.lists(_PARTS, min_size=1, max_size=3).map("/".join)


def _fitting(drawn: Files) -> Files:
    """Those that may stand in one bundle."""
    contents, kept = Contents(), {}
    for name, file in drawn.items():
        try:
            contents.add(name, len(file[0]))
        except BundleError:
            # What was refused half-way may have left its folders behind, which only refuses more.
            continue
        kept[name] = file
    return kept


FILES = st.dictionaries(NAMES, st.tuples(st.binary(max_size=1500), st.booleans()), max_size=6).map(_fitting)


def write(folder: Path, files: Files) -> Path:
    """Make a folder of files."""
    folder.mkdir(parents=True)
    for name, (content, executable) in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o744 if executable else 0o600)
    return folder


def read(folder: Path) -> dict[str, tuple[bytes, bool]]:
    """The files of a folder, as ``write`` takes them; a link, or anything else that is no file, is an error."""
    found = {}
    for path in folder.rglob("*"):
        assert not path.is_symlink()
        if not path.is_dir():
            assert path.is_file()
            found[str(path.relative_to(folder))] = (path.read_bytes(), os.access(path, os.X_OK))
    return found


def tar(members: Iterable[tarfile.TarInfo], form: int = tarfile.USTAR_FORMAT) -> bytes:
    """An archive as Python's own module writes it; files are filled with as many letters as they have bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(b"x" * member.size) if member.isreg() else None)
    return out.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    """A member for ``tar``."""
    found = tarfile.TarInfo(name)
    found.type, found.linkname, found.size = kind, link, size
    return found
