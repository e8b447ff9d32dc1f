"""Folders that are made once and kept: by several processes, killed ones among them, and forgotten in their order."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from loads.workers.bundles import BundleCache, FolderCache

from loads_queue.bundle import BundleError, pack
from tests.bundle.archives import read, write

FILES = {"tests/test_a.py": (b"import os\n", False), "run": (b"#!/bin/sh\n", True)}
KEY, OTHER, THIRD, FOURTH = (letter * 32 for letter in "abcd")


class Failed(Exception):
    """What the makers of these tests raise."""


def bundle_of(folder: Path, files: dict[str, tuple[bytes, bool]] | None = None) -> tuple[Path, str]:
    """An archive of files, and its digest."""
    content = pack(write(folder / "from", files or FILES), files or FILES)
    shutil.rmtree(folder / "from")
    digest = hashlib.sha256(content).hexdigest()
    (folder / digest).write_bytes(content)
    return folder / digest, digest


def folders(cache: Path) -> list[str]:
    """What is in a cache, by key."""
    return sorted({path.name.partition("-")[0] for path in cache.iterdir() if path.name != ".locks"})


# Bundles


def test_a_bundle_is_unpacked_once(tmp_path: Path) -> None:
    archive, digest = bundle_of(tmp_path)
    folder = BundleCache(tmp_path / "bundles").get(archive, digest)
    assert read(folder) == FILES
    (folder / "tests/__pycache__").mkdir()
    assert BundleCache(tmp_path / "bundles").get(archive, digest) == folder
    assert (tmp_path / "bundles" / digest).resolve() == folder
    assert (folder / "tests/__pycache__").exists()


def test_another_content_than_the_digest_says_is_refused(tmp_path: Path) -> None:
    archive, digest = bundle_of(tmp_path)
    archive.write_bytes(archive.read_bytes() + b"x")
    cache = BundleCache(tmp_path / "bundles")
    with pytest.raises(BundleError, match="it is damaged: its digest is"):
        cache.get(archive, digest)
    for none in ("../../x", "A" * 64, ""):
        with pytest.raises(BundleError, match="not a SHA-256 digest"):
            cache.get(archive, none)
    with pytest.raises(BundleError, match="can't unpack"):
        cache.get(tmp_path / "missing", digest)
    assert folders(tmp_path / "bundles") == []


@pytest.mark.parametrize("damage", ["changed", "longer", "gone", "link", "mode", "folder"])
def test_a_bundle_that_a_test_has_changed_is_unpacked_anew(tmp_path: Path, damage: str) -> None:
    archive, digest = bundle_of(tmp_path)
    cache = BundleCache(tmp_path / "bundles")
    folder = cache.get(archive, digest)
    path = folder / "tests/test_a.py"
    match damage:
        case "changed":
            path.write_bytes(b"import no\n")
        case "longer":
            path.write_bytes(b"import os, sys\n")
        case "gone":
            shutil.rmtree(path.parent)
        case "link":
            shutil.copy2(path, tmp_path / "copy")
            path.unlink()
            path.symlink_to(tmp_path / "copy")
        case "mode":
            path.chmod(0o755)
        case "folder":
            path.unlink()
            path.mkdir()
    again = cache.get(archive, digest)
    assert again != folder
    assert read(again) == FILES
    # Who still runs in the old one keeps it.
    assert folder.exists()
    cache.release(folder)
    cache.release(again)
    cache.get(*bundle_of(tmp_path, {"other": (b"", False)}))
    assert not folder.exists()
    assert again.exists()


def test_a_folder_that_can_not_be_made_is_said(tmp_path: Path) -> None:
    archive, digest = bundle_of(tmp_path)
    (tmp_path / "bundles").write_text("")
    with pytest.raises(BundleError, match=r"can't keep bundles in .*bundles: "):
        BundleCache(tmp_path / "bundles").get(archive, digest)


# Which are kept


def make(target: Path) -> None:
    target.mkdir()


def whole(folder: Path) -> bool:
    return folder.is_dir()


def cache_of(folder: Path, keep: int = 2) -> FolderCache:
    return FolderCache(folder / "cache", keep, 60, Failed)


def used_at(folder: Path, key: str, seconds: int) -> None:
    os.utime(folder / "cache/.locks" / f"{key}.used", (seconds, seconds))


def test_those_unused_for_longest_are_forgotten(tmp_path: Path) -> None:
    cache = cache_of(tmp_path)
    for seconds, key in enumerate((KEY, OTHER, THIRD)):
        cache.release(cache.get(key, make, whole))
        used_at(tmp_path, key, seconds)
    assert folders(tmp_path / "cache") == [OTHER, THIRD]
    cache.release(cache.get(OTHER, make, whole))
    cache.release(cache.get(FOURTH, make, whole))
    assert folders(tmp_path / "cache") == [OTHER, FOURTH]
    assert len(list((tmp_path / "cache/.locks").iterdir())) == 4


def test_what_is_in_use_is_not_forgotten(tmp_path: Path) -> None:
    """By whomever: each get of the other cache here has locks of its own, as another process has."""
    cache, another = cache_of(tmp_path, keep=1), cache_of(tmp_path, keep=1)
    held = cache.get(KEY, make, whole)
    assert another.get(KEY, make, whole) == held
    used_at(tmp_path, KEY, 0)
    another.release(another.get(OTHER, make, whole))
    assert held.exists()
    cache.release(held)
    another.release(another.get(THIRD, make, whole))
    assert held.exists()
    another.release(held)
    another.release(another.get(FOURTH, make, whole))
    assert folders(tmp_path / "cache") == [FOURTH]
    with pytest.raises(IndexError):
        another.release(held)


def test_what_is_not_the_caches_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "cache/mine").mkdir(parents=True)
    cache = cache_of(tmp_path, keep=0)
    cache.release(cache.get(KEY, make, whole))
    cache.release(cache.get(OTHER, make, whole))
    assert folders(tmp_path / "cache") == [OTHER, "mine"]


def test_who_waits_for_too_long_is_told_for_what(tmp_path: Path) -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    cache = FolderCache(tmp_path, 2, 60, Failed, sleep, lambda: now)
    (tmp_path / ".locks").mkdir()
    with open(tmp_path / ".locks" / f"{KEY}.making", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Failed, match=rf"waited 60s for another process that makes .*{KEY}"):
            cache.get(KEY, make, whole)
    assert 60 <= now < 61
    cache.get(KEY, make, whole)


# Several processes

PROGRAM = """
import os, sys, time
from pathlib import Path
from loads.workers.bundles import FolderCache

class Failed(Exception): pass

base, name, key = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
def say(text):
    print(text, flush=True)
def make(target):
    with open(base / "log", "a") as log:
        log.write(name + "\\n")
    target.mkdir()
    (target / "half").write_text("")
    say("making")
    order = sys.stdin.readline().strip()
    if order == "fail":
        raise Failed(f"{name} had no luck")
    (target / "whole").write_text(name)
def sleep(seconds, said=[]):
    if not said:
        said.append(True)
        say("waiting")
    time.sleep(seconds)
cache = FolderCache(base / "cache", 2, 60, Failed, sleep)
try:
    found = cache.get(key, make, lambda folder: (folder / "whole").exists())
except Failed as error:
    say(f"failed: {error}")
else:
    say(found)
    sys.stdin.readline()
"""


class Other:
    """Another process that wants a folder: it says what it does, and makes it when it is told to."""

    def __init__(self, base: Path, name: str, key: str = KEY) -> None:
        command = [sys.executable, "-c", PROGRAM, str(base), name, key]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def said(self) -> str:
        return pipe(self.process.stdout).readline().strip()

    def tell(self, order: str) -> None:
        pipe(self.process.stdin).write(order + "\n")
        pipe(self.process.stdin).flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


@contextmanager
def processes(base: Path) -> Iterator[Callable[..., Other]]:
    started: list[Other] = []

    def start(name: str, key: str = KEY) -> Other:
        started.append(Other(base, name, key))
        return started[-1]

    try:
        yield start
    finally:
        for other in started:
            other.kill()


def makers(base: Path) -> list[str]:
    return (base / "log").read_text().split()


def test_of_several_processes_one_makes_it_and_all_have_it(tmp_path: Path) -> None:
    with processes(tmp_path) as start:
        first = start("first")
        assert first.said() == "making"
        others = [start(name) for name in ("second", "third")]
        assert [other.said() for other in others] == ["waiting", "waiting"]
        first.tell("make")
        found = {other.said() for other in (first, *others)}
        assert len(found) == 1
        assert (Path(found.pop()) / "whole").read_text() == "first"
        assert makers(tmp_path) == ["first"]


def test_who_is_killed_at_it_holds_nobody_up(tmp_path: Path) -> None:
    with processes(tmp_path) as start:
        first, second = start("first"), start("second")
        says = {first: first.said(), second: second.said()}
        assert sorted(says.values()) == ["making", "waiting"]
        maker, waiter = (first, second) if says[first] == "making" else (second, first)
        maker.kill()
        assert waiter.said() == "making"
        waiter.tell("make")
        found = Path(waiter.said())
        assert found.is_dir()
        assert len(makers(tmp_path)) == 2
        # A user that is killed holds it no longer, and what the killed maker left goes with the next that is made.
        halves = list((tmp_path / "cache").glob("*/half"))
        assert len(halves) == 3, "by its name, by its link, and what was left"
        waiter.kill()
        cache = cache_of(tmp_path)
        cache.release(cache.get(OTHER, make, whole))
        assert {half.resolve() for half in (tmp_path / "cache").glob("*/half")} == {found / "half"}
        cache_of(tmp_path, keep=0).get(THIRD, make, whole)
        assert folders(tmp_path / "cache") == [THIRD]


def test_those_who_wait_share_a_failure_and_those_who_come_later_do_not(tmp_path: Path) -> None:
    with processes(tmp_path) as start:
        first = start("first")
        assert first.said() == "making"
        second = start("second")
        assert second.said() == "waiting"
        first.tell("fail")
        assert first.said() == "failed: first had no luck"
        assert second.said() == "failed: first had no luck"
        third = start("third")
        assert third.said() == "making"
        third.tell("make")
        assert Path(third.said()).is_dir()
        assert makers(tmp_path) == ["first", "third"]
        assert len(list((tmp_path / "cache").glob("*/half"))) == 2, "by its name and by its link"


def test_different_keys_do_not_wait_for_one_another(tmp_path: Path) -> None:
    with processes(tmp_path) as start:
        assert start("first").said() == "making"
        assert start("second", OTHER).said() == "making"
