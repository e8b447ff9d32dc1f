"""A test's files as one archive: its bytes, and the way back into a folder; ``bundle_files`` says which files.

The archive is a tar file that any tar program reads, in a form that leaves nothing to choose, so that the same files
make the same bytes (and digest) on every machine:

* files only, in the order of their names' UTF-8 bytes; folders are implied, links are followed when packing;
* a ustar header each: mode 0000644, or 0000755 where the owner may execute it, owner and group 0 without names,
  time ``MTIME``; a name that is not ASCII or longer than 100 bytes stands in a pax header with the one record
  ``path`` before it;
* each content is filled up with zeros to 512 bytes, and two blocks of zeros end the archive;
* it is not compressed: what a compressor makes of the same bytes depends on its version.

``unpack`` takes that form and no other, so what it takes is what ``pack`` would make of the result. Everything here
raises BundleError, whose text is for people, and blocks.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import stat
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

MOST_FILES = 10_000
MOST_BYTES = 64 << 20
"""Of the contents together."""
LONGEST_NAME, LONGEST_PART = 1024, 255
"""Bytes of a name, and of one part of it."""
MTIME = 315_532_800
"""The time of every file, 1980-01-01: no earlier one fits into a zip file, should a test make one."""
_BLOCK, _CHUNK, _LONGEST_PAX = 512, 1 << 20, 2048
_ZEROS = bytes(_BLOCK)
_FILE, _PAX, _MAGIC = b"0", b"x", b"ustar\x0000"
_KINDS = {
    b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"5": "a folder",
    b"6": "a named pipe", b"S": "a sparse file",
}  # fmt: skip


class BundleError(Exception):
    """A bundle can't be made, or must not be unpacked; the text says what is wrong with which file."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive; ``size`` in bytes."""

    name: str
    size: int
    executable: bool


# What a bundle may hold


class Contents:
    """The files of one bundle so far."""

    def __init__(self) -> None:
        self._files, self._bytes = 0, 0
        self._known: dict[str, tuple[str, bool]] = {}

    def add(self, name: str, size: int) -> None:
        """Take one more, of ``size`` bytes; raises BundleError where it must not join the others."""
        if problem := name_problem(name):
            raise BundleError(f"{shown(name)} {problem}")
        parts = name.split("/")
        for count in range(1, len(parts) + 1):
            self._join("/".join(parts[:count]), count == len(parts))
        self._files += 1
        self._bytes += size
        if self._files > MOST_FILES:
            raise BundleError(f"{shown(name)} is one too many: a bundle has at most {MOST_FILES} files; include fewer")
        if self._bytes > MOST_BYTES:
            most = f"a bundle has at most {MOST_BYTES >> 20} MiB; include less"
            raise BundleError(f"{shown(name)} with its {size} bytes is too much: {most}")

    def _join(self, name: str, is_file: bool) -> None:
        # Some file systems take names for the same that differ in capitals, or in how letters are put together.
        key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
        known, known_file = self._known.get(key, (None, False))
        if known is None:
            self._known[key] = (name, is_file)
        elif known != name:
            raise BundleError(f"{shown(known)} and {shown(name)} are one name on some file systems: rename one")
        elif is_file or known_file:
            what = "stands there twice" if is_file and known_file else "is a file and a folder"
            raise BundleError(f"{shown(name)} {what}")


def name_problem(name: str) -> str | None:
    """Why a file of a bundle can't have that name, as the end of a sentence; None where it can."""
    if any(ord(letter) < 32 or 127 <= ord(letter) < 160 or 0xD800 <= ord(letter) < 0xE000 for letter in name):
        return "has letters in its name that can't be shown: rename it"
    parts = name.split("/")
    if not parts[0]:
        return "is an absolute name" if name else "is no name"
    if ".." in parts:
        return "leads out of the folder"
    if "" in parts or "." in parts or "\\" in name:
        return "is not a plain name (parts with '/' between them, no '.' and no '\\')"
    if len(name.encode()) > LONGEST_NAME or any(len(part.encode()) > LONGEST_PART for part in parts):
        return f"is too long: names have at most {LONGEST_NAME} bytes, and {LONGEST_PART} in each part"
    return None


def shown(name: str) -> str:
    """A name in quotes for a message, whatever is in it."""
    return repr(name if len(name) <= 200 else f"{name[:200]}...")


# Packing


def pack(root: str | os.PathLike[str], files: Iterable[str]) -> bytes:
    """The archive of files by their names relative to ``root``, in any order; see ``stream``."""
    return b"".join(stream(root, files))


def stream(root: str | os.PathLike[str], files: Iterable[str]) -> Iterator[bytes]:
    """The archive, one chunk a file, as ``FileStore.put`` takes it.

    Raises BundleError where a file is missing, changes meanwhile or is none, leads out of ``root``, has a name that
    not every machine can have, or where there are too many.
    """
    base, contents = os.path.realpath(root), Contents()
    for name in sorted(set(files)):
        if problem := name_problem(name):
            raise BundleError(f"{shown(name)} {problem}")
        try:
            descriptor = os.open(inside(base, name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(descriptor, "rb") as file:
                found = os.fstat(descriptor)
                if not stat.S_ISREG(found.st_mode):
                    raise BundleError(f"{shown(name)} is not a file")
                contents.add(name, found.st_size)
                content = file.read(found.st_size + 1)
        except OSError as error:
            raise BundleError(f"can't read {shown(name)} in {base}: {error.strerror}") from error
        if len(content) != found.st_size:
            raise BundleError(f"{shown(name)} changed while it was packed: try again")
        member = Member(name, len(content), bool(found.st_mode & stat.S_IXUSR))
        yield _header(member) + content + bytes(-len(content) % _BLOCK)
    yield _ZEROS * 2


def inside(base: str, name: str) -> str:
    """The real path of a name below ``base``, which is one; raises BundleError where that is elsewhere."""
    real = os.path.realpath(os.path.join(base, name))
    if os.path.commonpath((base, real)) != base:
        raise BundleError(f"{shown(name)} leads out of {base}: copy the file to where the link is")
    return real


def _header(member: Member) -> bytes:
    name = member.name.encode()
    pax = b""
    if len(name) > 100 or not name.isascii():
        record = _pax_record(name)
        pax = _ustar(b"././@PaxHeader", len(record), False, _PAX) + record + bytes(-len(record) % _BLOCK)
    short = member.name.encode("ascii", "replace")[:100]
    return pax + _ustar(short, member.size, member.executable, _FILE)


def _pax_record(name: bytes) -> bytes:
    """``LENGTH path=NAME`` and a line feed; the length counts itself."""
    rest = b" path=" + name + b"\n"
    length = len(rest) + len(str(len(rest)))
    length = len(rest) + len(str(length))
    return str(length).encode() + rest


def _ustar(name: bytes, size: int, executable: bool, kind: bytes) -> bytes:
    mode = b"0000755\0" if executable else b"0000644\0"
    owner = b"0000000\0" * 2
    before = name.ljust(100, b"\0") + mode + owner + b"%011o\0%011o\0" % (size, MTIME)
    after = kind + bytes(100) + _MAGIC + bytes(247)
    checksum = b"%06o\0 " % sum(before + b" " * 8 + after)
    return before + checksum + after


# Unpacking


def members(archive: Path) -> list[Member]:
    """What is in an archive, by its headers alone; raises BundleError as ``unpack`` does, but for contents."""
    try:
        with open(archive, "rb") as file:
            return list(_members(file))
    except BundleError as error:
        raise BundleError(f"bundle {archive.name}: {error}") from None
    except OSError as error:
        raise BundleError(f"can't read bundle {archive}: {error.strerror}") from error


def unpack(archive: Path, folder: Path, digest: str | None = None) -> None:
    """Make ``folder``, which must not exist, of an archive: whole, or not at all.

    Whatever the umask, everyone may read its files and the owner alone may write them. Raises BundleError where the
    archive has not the SHA-256 ``digest`` (hexadecimal), is not one that ``pack`` writes, or is too large.
    """
    if os.path.lexists(folder):
        raise BundleError(f"bundle {archive.name}: {folder} is there already")
    partial = folder.with_name(f"{folder.name}.unpacking-{secrets.token_hex(4)}")
    try:
        with open(archive, "rb") as file:
            if digest is not None and (found := hashlib.file_digest(file, "sha256").hexdigest()) != digest:
                raise BundleError(f"it is damaged: its digest is {found}, not {digest[:80]}")
            partial.mkdir(mode=0o700, parents=True)
            made: set[str] = set()
            for member in _members(file):
                _write(file, member, partial, made)
        partial.chmod(0o755)
        os.rename(partial, folder)
    except BundleError as error:
        raise BundleError(f"bundle {archive.name}: {error}") from None
    except OSError as error:
        raise BundleError(f"can't unpack bundle {archive} into {folder}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _members(file: BinaryIO) -> Iterator[Member]:
    """The files of an archive; at each the position is where its content begins, and may be moved by the caller."""
    contents, last, place = Contents(), "", 0
    while True:
        file.seek(place)
        block = _exactly(file, _BLOCK)
        if block == _ZEROS:
            if file.read(_BLOCK + 1) != _ZEROS:
                raise BundleError(f"it does not end where it should, at byte {place + _BLOCK}")
            return
        member, header = _member(file, block)
        contents.add(member.name, member.size)
        if _header(member) != header:
            raise BundleError(f"the header of {shown(member.name)} is not one that Loads writes")
        if member.name <= last:
            raise BundleError(f"{shown(member.name)} is not in its place: the names are not in order")
        last = member.name
        content = file.tell()
        yield member
        place = content + member.size + -member.size % _BLOCK


def _member(file: BinaryIO, block: bytes) -> tuple[Member, bytes]:
    """A member and all bytes of its header; only what is looked at here is known to be right."""
    header, name = block, None
    if block[156:157] == _PAX and block[257:265] == _MAGIC:
        size = _size(block)
        if size > _LONGEST_PAX:
            raise BundleError(f"a pax header of {size} bytes is too long")
        record = _exactly(file, size + -size % _BLOCK)
        block = _exactly(file, _BLOCK)
        header += record + block
        _, found, path = record[:size].partition(b" path=")
        name = _text(path.removesuffix(b"\n")) if found else None
    if block[257:265] != _MAGIC:
        raise BundleError(f"it is not an archive that Loads made (at byte {file.tell() - _BLOCK})")
    name = _text(block[:100].rstrip(b"\0")) if name is None else name
    if (kind := block[156:157]) != _FILE:
        raise BundleError(f"{shown(name)} is {_KINDS.get(kind, 'of an unknown kind')}: a bundle has files only")
    return Member(name, _size(block), block[100:107] == b"0000755"), header


def _size(block: bytes) -> int:
    field = block[124:136]
    if not re.fullmatch(rb"[0-7]{11}\0", field):
        raise BundleError(f"{shown(_text(block[:100].rstrip(bytes(1))))} has a size that can't be read")
    return int(field[:11], 8)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise BundleError("it ends too early: it is not whole")
    return data


def _write(file: BinaryIO, member: Member, folder: Path, made: set[str]) -> None:
    *above, _ = member.name.split("/")
    for count in range(1, len(above) + 1):
        if (name := "/".join(above[:count])) not in made:
            made.add(name)
            (folder / name).mkdir()
            (folder / name).chmod(0o755)
    # It is a new folder of ours and holds no links, so that a name of it leads nowhere else.
    descriptor = os.open(folder / member.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as out:
        for begin in range(0, member.size, _CHUNK):
            out.write(_exactly(file, min(_CHUNK, member.size - begin)))
        out.flush()
        os.fchmod(descriptor, 0o755 if member.executable else 0o644)
        os.utime(descriptor, (MTIME, MTIME))
    if any(_exactly(file, -member.size % _BLOCK)):
        raise BundleError(f"there is something between {shown(member.name)} and what follows")
