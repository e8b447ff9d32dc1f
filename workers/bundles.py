"""What a worker makes once for many engines and keeps: folders by key, and unpacked bundles among them.

Several processes may share such a cache. Locks are the kernel's, so that they end with their process, however that
ends; what a killed process left is found and removed later. Everything here blocks, or waits by ``sleep``: it works in
any thread and in a greenlet.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from loads_queue.bundle import MTIME, BundleError, members, unpack

BUNDLES_KEPT = 50
PATIENCE_S = 120.0
"""How long another process may take to unpack what this one wants, too."""
_POLL_S = 0.05
_LOCKS, _MAKING, _USED = ".locks", "making", "used"
_ENTRY = re.compile(r"([0-9a-f]{32,64})(-.+)?")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class FolderCache:
    """Folders by key (32 to 64 hexadecimal digits), each made once and used by any number of processes.

    ``KEY`` is a link to ``KEY-RANDOM``, put there when that folder is whole: a folder never moves, since a virtual
    environment must not, and one that is replaced stays as it is for those who use it. The ``keep`` most
    recently used keys stay, and all that are in use. ``failure`` is what makers raise, with a text; the cache raises
    it, too.
    """

    def __init__(
        self,
        folder: Path,
        keep: int,
        patience_s: float,
        failure: type[Exception],
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self._keep = keep
        self._patience_s = patience_s
        self._failure = failure
        self._sleep = sleep
        self._clock = clock
        self._held: dict[Path, list[int]] = {}

    def get(self, key: str, make: Callable[[Path], None], whole: Callable[[Path], bool]) -> Path:
        """The folder of a key, which is then in use until it is released, or this process ends.

        ``make`` is called where there is none, or where ``whole`` finds it damaged, with the path to make it at. Of
        several callers at once one makes it and the others wait; they share its failure, which later ones don't.
        """
        (self.folder / _LOCKS).mkdir(mode=0o700, parents=True, exist_ok=True)
        used = self._lock(key, _USED, fcntl.LOCK_SH)
        try:
            # Said exactly: by themselves file systems tell no times apart that are some milliseconds from each other.
            os.utime(used, ns=(time.time_ns(), time.time_ns()))
            found = self._current(key)
            if found is None or not whole(found):
                found = self._make_once(key, make, whole)
        except BaseException:
            os.close(used)
            raise
        self._held.setdefault(found, []).append(used)
        return found

    def release(self, folder: Path) -> None:
        """Take back one ``get`` that returned this folder: it may then be forgotten."""
        os.close(self._held[folder].pop())

    def _make_once(self, key: str, make: Callable[[Path], None], whole: Callable[[Path], bool]) -> Path:
        before = self._failed(key)
        making = self._lock(key, _MAKING, fcntl.LOCK_EX)
        try:
            found = self._current(key)
            if found is not None and whole(found):
                return found
            self._share_failure(key, making, before)
            found = self._make(key, make, making)
        finally:
            os.close(making)
        with contextlib.suppress(OSError):  # What is made is of use although others can't be removed.
            self._forget()
        return found

    def _make(self, key: str, make: Callable[[Path], None], making: int) -> Path:
        target = self.folder / f"{key}-{secrets.token_hex(4)}"
        try:
            make(target)
            link = target.with_name(f"{target.name}.link")
            link.symlink_to(target.name)
            link.replace(self.folder / key)
        except BaseException as error:
            shutil.rmtree(target, ignore_errors=True)
            if isinstance(error, self._failure):
                os.pwrite(making, str(error).encode(errors="replace"), 0)
            raise
        return target

    def _failed(self, key: str) -> tuple[int, int]:
        """Which failure to make a key was the last, as (length of its text, time); (0, _) while it is being made."""
        try:
            found = (self.folder / _LOCKS / f"{key}.{_MAKING}").stat()
        except FileNotFoundError:
            return 0, 0
        return found.st_size, found.st_mtime_ns

    def _share_failure(self, key: str, making: int, before: tuple[int, int]) -> None:
        """Raise what another maker failed of while this one waited for it."""
        failed = self._failed(key)
        if failed[0] and failed != before:
            raise self._failure(os.pread(making, failed[0], 0).decode(errors="replace"))
        os.ftruncate(making, 0)

    def _current(self, key: str) -> Path | None:
        try:
            return self.folder / os.readlink(self.folder / key)
        except OSError:
            return None  # There is none, or no link.

    # Locks

    def _lock(self, key: str, kind: str, mode: int) -> int:
        """The descriptor that holds a lock until it is closed."""
        deadline = self._clock() + self._patience_s
        while True:
            lock = self._try_lock(key, kind, mode)
            if lock is not None:
                return lock
            if self._clock() >= deadline:
                waited = f"waited {self._patience_s:g}s for another process that makes {self.folder / key}"
                raise self._failure(f"{waited}: is it stopped?")
            self._sleep(_POLL_S)

    def _try_lock(self, key: str, kind: str, mode: int) -> int | None:
        path = self.folder / _LOCKS / f"{key}.{kind}"
        while True:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, mode | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(lock), os.stat(path)):
                    return lock
            except BlockingIOError:
                os.close(lock)
                return None
            except FileNotFoundError:
                pass
            except BaseException:
                os.close(lock)
                raise
            os.close(lock)  # Who forgot the key removed the file in between.

    # Forgetting

    def _forget(self) -> None:
        """Remove what is too much, and what killed processes left, as far as nobody uses it."""
        keys = {entry.group(1) for path in self.folder.iterdir() if (entry := _ENTRY.fullmatch(path.name))}
        recent = sorted((key for key in keys if self._current(key)), key=self._last_use, reverse=True)
        for key in keys:
            keep = key in recent[: self._keep]
            with self._unused(key) as unused:
                if unused:
                    self._remove(key, {self.folder / key, self._current(key)} if keep else set())

    def _remove(self, key: str, kept: set[Path | None]) -> None:
        # The link first: what is half removed must not be found.
        for path in (self.folder / key, *self.folder.glob(f"{key}-*")):
            if path in kept:
                continue
            if path.is_symlink():
                path.unlink()
            else:
                shutil.rmtree(path, ignore_errors=True)
        for kind in () if kept else (_MAKING, _USED):
            (self.folder / _LOCKS / f"{key}.{kind}").unlink()

    def _last_use(self, key: str) -> int:
        try:
            return (self.folder / _LOCKS / f"{key}.{_USED}").stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    @contextlib.contextmanager
    def _unused(self, key: str) -> Iterator[bool]:
        """Whether nobody makes or uses a key; nobody does, then, as long as this lasts."""
        locks: list[int] = []
        try:
            for kind in (_MAKING, _USED):
                lock = self._try_lock(key, kind, fcntl.LOCK_EX)
                if lock is None:
                    break
                locks.append(lock)
            yield len(locks) == 2
        finally:
            for lock in locks:
                os.close(lock)


class BundleCache:
    """Unpacked bundles in a folder, by the SHA-256 of their archives; raises BundleError alone."""

    def __init__(self, folder: Path, keep: int = BUNDLES_KEPT, sleep: Callable[[float], object] = time.sleep) -> None:
        self._folders = FolderCache(folder.absolute(), keep, PATIENCE_S, BundleError, sleep)

    def get(self, archive: Path, digest: str) -> Path:
        """The folder of an archive's files, in use until ``release``; ``archive`` must have that digest.

        It is unpacked once, and anew where a file of it has been changed or is gone since. What was added to the
        folder (compiled modules, what tests write) stays.
        """
        if not _DIGEST.fullmatch(digest):
            raise BundleError(f"not a SHA-256 digest: {digest[:80]!r}")
        try:
            return self._folders.get(
                digest, lambda folder: unpack(archive, folder, digest), lambda folder: _unchanged(archive, folder)
            )
        except OSError as error:
            raise BundleError(f"can't keep bundles in {self._folders.folder}: {error}") from error

    def release(self, folder: Path) -> None:
        """Say that one ``get`` of this folder is over: the bundle may be forgotten when others need the room."""
        self._folders.release(folder)


def _unchanged(archive: Path, folder: Path) -> bool:
    """Whether all files are there as they were unpacked, by size, time and kind."""
    for member in members(archive):
        try:
            found = os.lstat(folder / member.name)
        except (FileNotFoundError, NotADirectoryError):
            return False
        executable = bool(found.st_mode & stat.S_IXUSR)
        if not stat.S_ISREG(found.st_mode) or (found.st_size, found.st_mtime) != (member.size, MTIME):
            return False
        if executable != member.executable:
            return False
    return True
