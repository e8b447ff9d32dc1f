"""A core that was built from other sources is not used, and whoever asks is told."""

from __future__ import annotations

import shutil
from pathlib import Path

import engine_harness
import pytest
from click.testing import CliRunner
from loads.workers.engines import core_sources
from loads.workers.engines.drivers import choose
from loads.workers.engines.program import Program

from loads_queue.commands import version
from loads_queue.model.scenario import HttpScenario


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sources have changed since the core was built."""
    monkeypatch.setattr(core_sources, "digest", lambda: "0" * 64)


def program() -> Program:
    """One that the core could carry out."""
    return Program(HttpScenario.from_wire(engine_harness.scenario("http://127.0.0.1:9")))


def test_the_core_knows_what_it_was_built_from() -> None:
    pytest.importorskip("loads.workers.engines._core")
    assert core_sources.lack() is None
    assert choose(program(), "auto").__module__.endswith(".compiled")


@pytest.mark.usefixtures("changed")
def test_a_stale_core_is_passed_over() -> None:
    assert choose(program(), "auto").__name__ == "callbacks"
    with pytest.raises(ValueError, match=r"^LOADS_ENGINE_PATH is compiled, but the compiled core was "):
        choose(program(), "compiled")
    told = CliRunner().invoke(version).output
    assert "the engine runs in Python alone" in told and "compiled core is there" not in told


def test_every_byte_and_name_of_the_sources_counts(tmp_path: Path) -> None:
    assert core_sources.digest(tmp_path) is None
    for source in core_sources.HERE.glob("_core*.p[yx]*"):
        shutil.copy(source, tmp_path)
    whole = core_sources.digest()
    assert core_sources.digest(tmp_path) == whole
    tail = tmp_path / "_core_seat.pxi"
    tail.write_bytes(tail.read_bytes() + b"#")
    assert core_sources.digest(tmp_path) not in (whole, None)
    shutil.copy(core_sources.HERE / tail.name, tmp_path)
    tail.rename(tmp_path / "_core_seats.pxi")
    assert core_sources.digest(tmp_path) not in (whole, None)
