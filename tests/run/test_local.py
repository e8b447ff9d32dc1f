"""Folders with owners, children that end, and signals that count."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from loads.scheduler.interrupts import Interrupts, Leave
from loads.scheduler.local import BROKER, Child, LocalCluster, LocalError, _own_folder, run_id
from loads.scheduler.run_command import hit_document
from run_harness import wait_for

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
