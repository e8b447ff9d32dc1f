"""docs/states.md is what the tables say."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("diagrams", ROOT / "scripts" / "diagrams.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


diagrams = load_script()
PAGE = (ROOT / "docs" / "states.md").read_text()


def test_it_is_up_to_date() -> None:
    assert diagrams.page() == PAGE, "run python scripts/diagrams.py"
    assert diagrams.main(["--check"]) == 0


def test_one_that_is_not_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagrams, "PAGE", tmp_path / "states.md")
    (tmp_path / "states.md").write_text(PAGE + "\n")
    assert diagrams.main(["--check"]) == 1
    diagrams.main([])
    assert diagrams.main(["--check"]) == 0


@pytest.mark.parametrize("machine", diagrams.MACHINES, ids=lambda machine: machine.title)
def test_every_transition_is_an_edge(machine: object) -> None:
    text = diagrams.section(machine)
    edges = re.findall(r"^    (\w+) --> (\w+): (.*)$", text, re.MULTILINE)
    drawn = {(state, event, to) for state, to, events in edges for event in events.split(", ")}
    assert drawn == {(state, event, to) for (state, event), to in machine.table.items()}  # type: ignore[attr-defined]
    assert len(re.findall(r"^    \[\*\] --> \w+$", text, re.MULTILINE)) == 1
    assert re.search(r"^    \w+ --> \[\*\]$", text, re.MULTILINE), "it ends somewhere"
