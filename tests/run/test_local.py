"""Folders with owners, children that end, and signals that count."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from loads.scheduler.interrupts import Interrupts, Leave
from loads.scheduler.local import BROKER, Child, LocalCluster, LocalError, _own_folder, is_full, no_room, run_id
from loads.scheduler.run_command import hit_document
from loads.scheduler.run_local import FULL_S, _Running
from run_harness import wait_for
from sqlalchemy.exc import OperationalError

from loads_queue.model.plan import load_plan


class TestFolders:
    def test_a_folder_is_private_and_its_owners_alone(self, tmp_path: Path) -> None:
        first, lock = _own_folder(tmp_path)
        second, other = _own_folder(tmp_path)
        assert first != second
        assert first.is_dir(), "its owner lives"
        assert first.stat().st_mode & 0o777 == 0o700
        os.close(lock)
        third, last = _own_folder(tmp_path)
        assert not first.exists()
        assert second.is_dir()
        assert third.is_dir()
        os.close(other)
        os.close(last)

    def test_what_a_killed_owner_left_is_removed(self, tmp_path: Path) -> None:
        code = "import sys, os, pathlib; from loads.scheduler.local import _own_folder as own\n"
        code += "folder, _ = own(pathlib.Path(sys.argv[1])); (folder / 'x').write_text('x'); os.kill(os.getpid(), 9)"
        assert subprocess.run([sys.executable, "-P", "-c", code, tmp_path]).returncode == -signal.SIGKILL
        (left,) = tmp_path.glob("run-*")
        _, lock = _own_folder(tmp_path)
        assert not left.exists()
        os.close(lock)

    def test_ids_sort_by_time_and_differ(self) -> None:
        ids = [run_id() for _ in range(50)]
        assert len(set(ids)) > 45
        assert [name[:15] for name in ids] == sorted(name[:15] for name in ids)


class TestChildren:
    def test_one_that_ends_by_itself_is_told_of_with_its_last_words(self, tmp_path: Path) -> None:
        child = Child(BROKER, tmp_path)
        child.order({"args": ["--listen", "nonsense"]})
        child.process.wait(30)
        with pytest.raises(LocalError, match=r"(?s)the broker ended by itself \(exit status 2\).*nonsense"):
            child.check()
        child.kill()

    def test_one_ends_with_its_pipe(self, tmp_path: Path) -> None:
        child = Child(BROKER, tmp_path)
        child.close()
        assert child.process.wait(30) == 0

    def test_one_that_serves_ends_when_told(self, tmp_path: Path) -> None:
        child = Child(BROKER, tmp_path)
        child.order({"args": ["--data", str(tmp_path / "data")]})
        wait_for(child.ready_line)
        child.check()
        child.stop(10)
        assert child.process.returncode == 0

    def test_no_secret_stands_in_arguments(self, tmp_path: Path) -> None:
        with LocalCluster(1, tmp_path) as cluster:
            wait_for(cluster.broker_url)
            url = cluster.broker_url()
            assert url is not None
            cluster.submit(url, {"id": "r1", "plan": {"steps": []}})
            wait_for(cluster.scheduler_ready)
            secret = url.split("@")[0].split(":")[-1]
            for child in cluster._children.values():
                assert secret not in Path(f"/proc/{child.process.pid}/cmdline").read_text()
            pids = [child.process.pid for child in cluster._children.values()]
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]

    def test_an_error_in_between_ends_them_too(self, tmp_path: Path) -> None:
        with pytest.raises(ZeroDivisionError), LocalCluster(1, tmp_path) as cluster:
            pids = [child.process.pid for child in cluster._children.values()]
            raise ZeroDivisionError
        assert len(pids) == 3
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """No room on any disk."""

    def no_file(**_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=2, f_frsize=4096))
    monkeypatch.setattr(tempfile, "TemporaryFile", no_file)


class TestAFullDisk:
    def test_there_is_room(self, tmp_path: Path) -> None:
        assert not is_full(tmp_path)
        assert not is_full(tmp_path / "gone"), "something else is the matter"

    def test_little_room_is_room_where_something_can_be_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=0, f_frsize=4096))
        assert not is_full(tmp_path)

    @pytest.mark.usefixtures("full")
    def test_a_child_that_can_t_say_why_it_ended(self, tmp_path: Path) -> None:
        child = Child(BROKER, tmp_path)
        child.process.kill()
        child.process.wait(30)
        with pytest.raises(LocalError, match=f"KILL.: no space is left for {tmp_path.parent}"):
            child.check()
        child.kill()

    @pytest.mark.usefixtures("full")
    @pytest.mark.parametrize(("interrupted", "waited"), [(True, 0.0), (False, FULL_S)])
    def test_a_run_is_given_up(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted: bool, waited: float
    ) -> None:
        cluster = LocalCluster(1, tmp_path)
        cluster.folder = tmp_path / "run-1"
        cluster.folder.mkdir()
        monkeypatch.setattr(cluster, "check", lambda *_: None)
        interrupts = Interrupts()
        interrupts.count = int(interrupted)
        monkeypatch.setattr(interrupts, "wait", lambda _: None)
        clock = itertools.count()
        monkeypatch.setattr(time, "monotonic", lambda: next(clock) / 10)
        shown = []
        screen = SimpleNamespace(update=shown.append, say=shown.append)
        view = SimpleNamespace(final=False)
        running = _Running(SimpleNamespace(), "r", tmp_path, cluster, interrupts)
        assert running._follow(_FullReader(view), screen) is view
        assert running.problems == [no_room(cluster.folder)]
        assert str(tmp_path) in running.problems[0]
        assert next(clock) / 10 >= waited


@dataclass
class _FullReader:
    """A database on a disk that is full."""

    view: object

    def run_view(self, name: str) -> object:
        return self.view

    def request_abort(self, name: str, who: str) -> None:
        raise OperationalError("insert", {}, sqlite3.OperationalError("database or disk is full"))


class TestInterrupts:
    def test_the_first_counts_and_ends_a_wait(self) -> None:
        with Interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGTERM)
            interrupts.wait(60)
            assert interrupts.count == 1

    def test_the_second_leaves_and_further_ones_do_nothing(self) -> None:
        before = signal.getsignal(signal.SIGINT)
        with Interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGINT)
            with pytest.raises(Leave):
                os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            assert interrupts.count == 2
        assert signal.getsignal(signal.SIGINT) is before


class TestHit:
    def test_nothing_is_interpolated(self) -> None:
        document = hit_document("http://127.0.0.1:1/$a?b=${c}", None, ("X-A:  $$ ${x.y}",), "${z}")
        document["steps"][0]["load"] = {"rate": 1, "for": 1}
        (request,) = load_plan(document).steps[0].spec["do"]
        assert request["method"] == "POST"
        assert request["url"].endswith("/$$a?b=$${c}")
        assert request["headers"] == [["X-A", "$$$$ $${x.y}"]]
        assert request["body"]["value"] == "$${z}"

    @pytest.mark.parametrize(("method", "data", "made"), [(None, None, "GET"), (None, "", "POST"), ("put", "x", "PUT")])
    def test_the_method(self, method: str | None, data: str | None, made: str) -> None:
        (action,) = hit_document("http://x", method, (), data)["steps"][0]["http"]["do"]
        assert action["method"] == made

    @pytest.mark.parametrize("header", ["x", ": x", ""])
    def test_a_header_needs_a_name_and_a_colon(self, header: str) -> None:
        with pytest.raises(click.UsageError, match="not a header"):
            hit_document("http://x", None, (header,), None)
