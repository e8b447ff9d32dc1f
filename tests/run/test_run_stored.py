"""``loads run NAME --server URL``: a stored plan, run where it is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from loads.scheduler.client import follow, server
from loads.scheduler.run_command import run

SERVER = ("--server", "http://127.0.0.1:1/", "--token", "secret")


def test_it_is_handed_over_and_followed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    called: list[Any] = []

    def submit_and_follow(*args: Any) -> int:
        called.extend(args)
        return 3

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(follow, "submit_and_follow", submit_and_follow)
    args = ["shop/peak", *SERVER, "--set", "A=1", "--workers", "4", "--out", "there", "--quiet"]
    done = CliRunner().invoke(run, args)
    assert done.exit_code == 3, done.output
    reached, submission, out, quiet = called
    assert isinstance(reached, server.Server)
    assert reached.url == "http://127.0.0.1:1"
    assert submission == follow.Submission(plan_ref="shop/peak", env={"A": "1"}, workers=4)
    assert (out, quiet) == (Path("there"), True)


def test_a_file_runs_here_or_is_submitted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plan.yaml").write_text("steps: []")
    done = CliRunner().invoke(run, ["plan.yaml", *SERVER])
    assert done.exit_code == 2
    assert "`loads submit` runs it on a cluster" in done.output
