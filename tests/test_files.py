"""The content-addressed store: what goes in comes out, verified, or not at all."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loads_queue.files import FileStore, FileStoreError


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "files")


@given(content=st.binary(max_size=4096))
def test_what_goes_in_comes_out_by_its_digest(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    store = FileStore(tmp_path_factory.getbasetemp() / "shared")
    digest = store.put(content)
    assert digest == hashlib.sha256(content).hexdigest()
    assert store.get(digest).read_bytes() == content


def test_a_file_goes_in_as_its_bytes_do(store: FileStore, tmp_path: Path) -> None:
    source = tmp_path / "data.csv"
    source.write_bytes(b"name\n" * 1_000_000)
    assert store.put(source) == store.put(source.read_bytes())


def test_putting_twice_leaves_one_file_and_nothing_else(store: FileStore) -> None:
    digest = store.put(b"x")
    store.put(b"x")
    files = [path for path in store.folder.rglob("*") if path.is_file()]
    assert files == [store.folder / digest[:2] / digest]


def test_a_stored_file_is_not_to_be_written(store: FileStore) -> None:
    assert store.get(store.put(b"x")).stat().st_mode & 0o222 == 0


def test_a_missing_file_says_where_it_was_looked_for(store: FileStore) -> None:
    digest = hashlib.sha256(b"never stored").hexdigest()
    assert not store.has(digest)
    with pytest.raises(FileStoreError, match=f"no file {digest} in .*files"):
        store.get(digest)


def test_a_damaged_file_is_not_given_out_and_can_be_put_again(store: FileStore) -> None:
    digest = store.put(b"right")
    path = store.folder / digest[:2] / digest
    path.chmod(0o644)
    path.write_bytes(b"wrong")
    with pytest.raises(FileStoreError, match="damaged"):
        store.get(digest)
    store.put(b"right")
    assert store.get(digest).read_bytes() == b"right"


@pytest.mark.parametrize("digest", ["", "x", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 65, "0" * 64 + "\n"])
def test_only_a_digest_names_a_file(store: FileStore, digest: str) -> None:
    with pytest.raises(FileStoreError, match="not a SHA-256 digest"):
        store.get(digest)


def test_a_source_that_is_not_there_leaves_nothing_behind(store: FileStore, tmp_path: Path) -> None:
    with pytest.raises(FileStoreError, match=r"no\.csv"):
        store.put(tmp_path / "no.csv")
    assert list(store.folder.iterdir()) == []


def test_a_full_disk_leaves_nothing_behind(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(FileStoreError, match="No space left"):
        store.put(b"x")
    assert list(store.folder.iterdir()) == []
