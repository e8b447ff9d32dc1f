"""Archives: the same files make the same bytes, and what was packed is what is unpacked."""

from __future__ import annotations

import hashlib
import io
import os
import random
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loads_queue import bundle
from loads_queue.bundle import MTIME, BundleError, Member, members, pack, stream, unpack
from loads_queue.files import FileStore
from tests.bundle.archives import FILES, Files, read, write


@contextmanager
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@contextmanager
def umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


def packed(folder: Path, files: Files) -> Path:
    archive = folder / "archive"
    archive.write_bytes(pack(write(folder / "from", files), files))
    return archive


@given(files=FILES, seed=st.randoms(use_true_random=False))
def test_the_same_files_make_the_same_bytes(files: Files, seed: random.Random) -> None:
    names = list(files) * 2
    seed.shuffle(names)
    with scratch() as folder:
        first = pack(write(folder / "one", files), files)
        with umask(0o077):
            again = write(folder / "two", {name: files[name] for name in sorted(files, reverse=True)})
        for path in again.rglob("*"):
            os.utime(path, (1, 2))
            path.chmod(path.stat().st_mode | stat.S_IRGRP | stat.S_IXGRP)
        assert pack(again, names) == first
        assert pack(os.path.relpath(again), iter(names)) == first


@given(files=FILES)
def test_what_was_packed_is_what_is_unpacked(files: Files) -> None:
    with scratch() as folder:
        archive = packed(folder, files)
        unpack(archive, folder / "to")
        assert read(folder / "to") == files
        assert members(archive) == [Member(name, len(files[name][0]), files[name][1]) for name in sorted(files)]
        assert sorted(path.name for path in folder.iterdir()) == ["archive", "from", "to"]


@given(files=FILES)
def test_python_reads_it_as_the_tar_file_that_it_is(files: Files) -> None:
    with scratch() as folder, tarfile.open(packed(folder, files), "r:") as archive:
        found = archive.getmembers()
        assert [member.name for member in found] == sorted(files)
        for member in found:
            content = archive.extractfile(member)
            assert content is not None
            assert (content.read(), member.mode == 0o755) == files[member.name]
            assert (member.mtime, member.uid, member.uname) == (MTIME, 0, "")


@given(files=FILES, data=st.data())
def test_what_is_unpacked_is_what_would_be_packed(files: Files, data: st.DataObject) -> None:
    """Whatever bytes are changed, cut off or put in: there is one archive for a folder, or none."""
    with scratch() as folder:
        archive = packed(folder, files)
        changed = bytearray(archive.read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            # Headers are where something may go wrong.
            place = data.draw(st.one_of(st.integers(0, min(511, len(changed))), st.integers(0, len(changed))))
            length = data.draw(st.integers(0, 3))
            changed[place : place + length] = data.draw(st.binary(min_size=0, max_size=3))
        archive.write_bytes(changed)
        try:
            unpack(archive, folder / "to")
        except BundleError:
            assert sorted(path.name for path in folder.iterdir()) == ["archive", "from"]
        else:
            assert pack(folder / "to", read(folder / "to")) == changed


def test_the_bytes_are_these(tmp_path: Path) -> None:
    """A change here makes every worker fetch every bundle anew, and refuse those of other versions."""
    files = {"tests/test_shop.py": (b"def test(): ...\n", False), "run": (b"#!/bin/sh\n", True), "é" * 60: (b"", False)}
    content = pack(write(tmp_path / "from", files), files)
    assert hashlib.sha256(content).hexdigest() == "3d9ac73428e8f1dbc832b1e454907519c4280398448ab6d4d021adaf46719849"


def test_a_store_takes_it_in_chunks(tmp_path: Path) -> None:
    root = write(tmp_path / "from", {"a": (b"x" * 3000, False), "b": (b"", False)})
    digest = FileStore(tmp_path / "files").put(stream(root, ["a", "b"]))
    assert digest == hashlib.sha256(pack(root, ["b", "a"])).hexdigest()


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_only_the_owner_may_write_what_was_unpacked(tmp_path: Path, mask: int) -> None:
    archive = packed(tmp_path, {"a/b/data": (b"1", False), "a/run": (b"2", True)})
    with umask(mask):
        unpack(archive, tmp_path / "to")
    modes = {
        str(path.relative_to(tmp_path)): stat.S_IMODE(path.stat().st_mode)
        for path in [tmp_path / "to", *(tmp_path / "to").rglob("*")]
    }
    assert modes == {"to": 0o755, "to/a": 0o755, "to/a/b": 0o755, "to/a/b/data": 0o644, "to/a/run": 0o755}
    assert (tmp_path / "to/a/b/data").stat().st_mtime == MTIME


def test_a_link_to_a_file_inside_is_packed_as_that_file(tmp_path: Path) -> None:
    root = write(tmp_path / "from", {"real/a": (b"content", True)})
    (root / "b").symlink_to("real/a")
    (root / "c").symlink_to("real")
    archive = tmp_path / "archive"
    archive.write_bytes(pack(root, ["b", "c/a"]))
    unpack(archive, tmp_path / "to")
    assert read(tmp_path / "to") == {"b": (b"content", True), "c/a": (b"content", True)}


def test_what_can_not_be_packed_is_said(tmp_path: Path) -> None:
    root = write(tmp_path / "from", {"a": (b"", False), "A": (b"", False), "f/x": (b"", False), "F/y": (b"", False)})
    (tmp_path / "secret").write_text("x")
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "round").symlink_to("round")
    os.mkfifo(root / "pipe")
    os.mkdir(root / "folder")
    os.close(os.open(os.fsencode(root) + b"/\xff", os.O_CREAT))
    refusals = {
        ("out",): "'out' leads out of .*: copy",
        ("../secret",): "'../secret' leads out of the folder",
        (str(root / "a"),): "absolute",
        ("nothing",): "can't read 'nothing' in .*: No such file",
        ("round",): "can't read 'round' in .*: Too many levels",
        ("pipe",): "'pipe' is not a file",
        ("folder",): "can't read 'folder' in .*: Is a directory",
        ("./a",): "not a plain name",
        ("f//x",): "not a plain name",
        ("f\\x",): "not a plain name",
        ("a\n",): "can't be shown",
        ("a\0",): "can't be shown",
        ("\udcff",): "can't be shown",
        ("",): "'' is no name",
        ("y" * 256,): "is too long",
        ("/".join(["yyy"] * 300),): "is too long",
        ("a", "A"): "'A' and 'a' are one name on some file systems",
        ("f/x", "F/y"): "'F' and 'f' are one name",
        ("a", "a/b"): "can't read 'a/b'",
    }
    for names, reason in refusals.items():
        with pytest.raises(BundleError, match=reason):
            pack(root, names)


def test_a_file_that_grows_is_not_packed_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(tmp_path / "from", {"log": (b"1234", False)})
    real = os.fstat

    def before_the_last_letter(descriptor: int) -> os.stat_result:
        found = real(descriptor)
        return os.stat_result((*found[:6], found.st_size - 1, *found[7:]))

    monkeypatch.setattr(os, "fstat", before_the_last_letter)
    with pytest.raises(BundleError, match="'log' changed while it was packed"):
        pack(root, ["log"])


def test_there_are_limits_on_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = packed(tmp_path, {"a": (b"1" * 600_000, False), "b": (b"2" * 600_000, False)})
    monkeypatch.setattr(bundle, "MOST_BYTES", 1 << 20)
    for act in (lambda: pack(tmp_path / "from", ["a", "b"]), lambda: unpack(archive, tmp_path / "to")):
        with pytest.raises(BundleError, match="'b' with its 600000 bytes is too much: a bundle has at most 1 MiB"):
            act()
    monkeypatch.setattr(bundle, "MOST_FILES", 1)
    for act in (lambda: pack(tmp_path / "from", ["a", "b"]), lambda: unpack(archive, tmp_path / "to")):
        with pytest.raises(BundleError, match="'b' is one too many: a bundle has at most 1 files"):
            act()
    assert not (tmp_path / "to").exists()


def test_a_digest_is_compared_before_anything_is_written(tmp_path: Path) -> None:
    archive = packed(tmp_path, {"a": (b"1", False)})
    with pytest.raises(BundleError, match=r"bundle archive: it is damaged: its digest is [0-9a-f]{64}, not 00"):
        unpack(archive, tmp_path / "to", "0" * 64)
    unpack(archive, tmp_path / "to", hashlib.sha256(archive.read_bytes()).hexdigest())


def test_what_is_there_already_is_left_alone(tmp_path: Path) -> None:
    archive = packed(tmp_path, {"a": (b"1", False)})
    (tmp_path / "to").mkdir()
    with pytest.raises(BundleError, match="is there already"):
        unpack(archive, tmp_path / "to")
    with pytest.raises(BundleError, match=r"can't unpack bundle .*missing into .*new"):
        unpack(tmp_path / "missing", tmp_path / "new")
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="can't unpack"):
        unpack(archive, tmp_path / "file" / "below")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "file", "from", "to"]


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = packed(tmp_path, {"a": (b"1", False), "b": (b"2", False)})

    def full(descriptor: int, times: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "utime", full)
    with pytest.raises(BundleError, match="No space left on device"):
        unpack(archive, tmp_path / "to")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "from"]


def test_reading_members_needs_no_content(tmp_path: Path) -> None:
    content = io.BytesIO(pack(write(tmp_path / "from", {"a": (b"1" * 5000, False)}), ["a"])).getvalue()
    archive = tmp_path / "archive"
    archive.write_bytes(content.replace(b"1" * 5000, b"2" * 5000))
    assert members(archive) == [Member("a", 5000, False)]
    archive.write_bytes(content[:2000])
    with pytest.raises(BundleError, match="bundle archive: it ends too early"):
        members(archive)
    with pytest.raises(BundleError, match="can't read bundle"):
        members(tmp_path / "missing")
