"""Files that a worker lacks are fetched from the scheduler, verified, and kept; what goes wrong is said in words."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path

import pytest
from loads.workers.files import RETRY_S, WorkerFiles

from loads_queue.address import Address
from loads_queue.files import FileStore, FileStoreError
from tests.agent.file_server import FileServer

CONTENT = b"a,b\n1,2\n" * 100_000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Waits(list[float]):
    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def files(folder: Path, server: FileServer | None, token: str = "token", waits: Waits | None = None) -> WorkerFiles:
    address = Address(server.url + "/", token) if server is not None else None
    return WorkerFiles(folder, lambda: address, waits if waits is not None else Waits())


def test_a_missing_file_is_fetched_once(tmp_path: Path) -> None:
    with FileServer({DIGEST: CONTENT}) as server:
        found = files(tmp_path, server)
        assert found.get(DIGEST).read_bytes() == CONTENT
        assert found.get(DIGEST) == FileStore(tmp_path).get(DIGEST)
        assert server.asked == [f"/api/v1/files/{DIGEST}"]


def test_what_is_there_is_not_asked_for(tmp_path: Path) -> None:
    FileStore(tmp_path).put(CONTENT)
    with FileServer({}) as server:
        assert files(tmp_path, server).get(DIGEST).read_bytes() == CONTENT
        assert server.asked == []


def test_a_damaged_file_is_fetched_anew(tmp_path: Path) -> None:
    path = tmp_path / FileStore(tmp_path).put(CONTENT)
    path = FileStore(tmp_path).get(DIGEST)
    path.chmod(0o644)
    path.write_bytes(b"damaged")
    with FileServer({DIGEST: CONTENT}) as server:
        assert files(tmp_path, server).get(DIGEST).read_bytes() == CONTENT


def test_a_scheduler_that_is_busy_is_asked_again(tmp_path: Path) -> None:
    waits = Waits()
    with FileServer({DIGEST: CONTENT}, statuses=(503, 200)) as server:
        assert files(tmp_path, server, waits=waits).get(DIGEST).read_bytes() == CONTENT
    assert waits == list(RETRY_S[:2])


def test_one_that_is_away_is_given_up_in_words(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url, waits = f"http://127.0.0.1:{held.getsockname()[1]}", Waits()
        with pytest.raises(FileStoreError, match=f"can't fetch file {DIGEST} from {url}: .*refused"):
            WorkerFiles(tmp_path, lambda: Address(url, "token"), waits).get(DIGEST)
    assert waits == list(RETRY_S)


@pytest.mark.parametrize(
    ("served", "token", "status", "words"),
    [
        ({}, "token", None, "has no file .*submit the plan again"),
        ({DIGEST: CONTENT}, "wrong", None, "refuses this worker's token: set LOADS_TOKEN"),
        ({DIGEST: b"something else"}, "token", None, "sent a damaged file"),
        ({DIGEST: CONTENT}, "token", 302, "answers 302 .*is it a scheduler"),
    ],
)
def test_what_asking_again_would_not_mend_is_said_at_once(
    tmp_path: Path, served: dict[str, bytes], token: str, status: int | None, words: str
) -> None:
    waits = Waits()
    with FileServer(served, statuses=() if status is None else (status,)) as server:
        with pytest.raises(FileStoreError, match=words):
            files(tmp_path, server, token, waits).get(DIGEST)
        assert len(server.asked) == 1 and waits == []  # A redirect would have taken the token elsewhere.
    assert not FileStore(tmp_path).has(DIGEST)
    assert not list(tmp_path.glob(".partial-*"))


def test_without_a_scheduler_it_says_what_the_folder_lacks(tmp_path: Path) -> None:
    with pytest.raises(FileStoreError, match=f"no file {DIGEST} in"):
        files(tmp_path, None).get(DIGEST)


@pytest.mark.parametrize("digest", ["../../etc/passwd", "A" * 64, ""])
def test_what_is_no_digest_is_never_asked_for(tmp_path: Path, digest: str) -> None:
    with FileServer({}) as server:
        with pytest.raises(FileStoreError):
            files(tmp_path, server).get(digest)
        assert server.asked == []
