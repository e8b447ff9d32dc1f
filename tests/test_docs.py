"""What the documents name exists, the README's plan is valid, and none of them knows somebody's machine."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
FOLDERS = ("loads_queue", "scheduler", "workers", "deploy", "examples", "docs", "bench", "tests", "scripts", ".ci")
MACHINE = re.compile(r"(?<![\w.$}/:])/(?:home|root|Users|work|tmp|mnt|opt)/\w")
REGISTRY = re.compile(r"\b(?:pypi|pythonhosted|npmjs|debian|docker)\.(?:org|io|com)\b", re.IGNORECASE)


def text_files() -> list[Path]:
    """Every file of the project that people wrote."""
    found = [ROOT / name for name in ("Makefile", "setup.py", "pyproject.toml", ".ci/run")] + DOCUMENTS
    for folder in ("loads_queue", "scheduler", "workers", "deploy", "examples", "bench", "scripts", "tests"):
        found += [path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return found


def commands() -> set[str]:
    """The subcommands that are installed."""
    return {point.name for point in importlib.metadata.entry_points(group="loads.commands")}


def targets() -> set[str]:
    """What make can make."""
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", document.read_text())
    assert [link for link in links if "://" not in link and not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_are_named_exist(document: Path) -> None:
    spans = re.findall(r"`([^`\n]+)`", document.read_text())
    paths = {
        span.split("::")[0] for span in spans if span.split("/")[0] in FOLDERS and re.fullmatch(r"[\w./:-]+", span)
    }
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_that_are_named_exist(document: Path) -> None:
    text = document.read_text()
    code = "\n".join(re.findall(r"`([^`\n]+)`", text) + re.findall(r"^    (.+)$", text, re.MULTILINE))
    assert set(re.findall(r"(?:^|[\s/])loads ([a-z][a-z-]+)", code, re.MULTILINE)) <= commands()
    assert set(re.findall(r"(?:^|\s)make ([a-z][a-z-]+)", code, re.MULTILINE)) <= targets()


def test_tests_that_are_named_as_proof_exist() -> None:
    """``docs/loads-v2.md`` names tests as FILE::NAME, FILE alone or several of them."""
    spans = re.findall(r"`(tests/[\w./-]+\.py)::(\w+)`", (ROOT / "docs" / "loads-v2.md").read_text())
    assert spans
    assert [f"{path}::{name}" for path, name in spans if f"def {name}(" not in (ROOT / path).read_text()] == []


def test_the_readmes_plan_is_valid(tmp_path: Path) -> None:
    (plan,) = re.findall(r"^```yaml\n(.+?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "plan.yaml").write_text(plan)
    loads = Path(sys.executable).parent / "loads"
    done = subprocess.run([loads, "validate", "plan.yaml"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ci_runs_what_people_run() -> None:
    text = (ROOT / ".ci" / "run").read_text()
    assert "\nmake check\n" in text
    assert "\nmake test\n" in text


def test_nothing_knows_somebodys_machine_or_a_registrys_host() -> None:
    found = []
    for path in text_files():
        if path.suffix not in (".py", ".md", ".sh", ".yaml", ".toml", "") or path == Path(__file__).resolve():
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if MACHINE.search(line) or REGISTRY.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert found == []
