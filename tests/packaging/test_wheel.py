"""What the built wheel holds, and that the smoke tests pass against it where nothing of the repository is in reach."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "loads-results", "names")


def run(*command: object, cwd: Path, **environment: str) -> str:
    """Run a command to its end; what it printed, or a failed test with all of it."""
    parts = [str(part) for part in command]
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        parts, cwd=cwd, env={**kept, **environment}, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, f"{' '.join(parts)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def has_uv() -> bool:
    """Whether uv is there and runs (a shim may not)."""
    path = shutil.which("uv")
    return bool(path) and subprocess.run([str(path), "--version"], capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: a build folder that lies about would bring files in that are long gone."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "source", ignore=LEFT_OUT)
    installer = ("--installer", "uv") if has_uv() else ()
    run(sys.executable, "-m", "build", "--wheel", *installer, "--outdir", folder, folder / "source", cwd=folder)
    (found,) = folder.glob("*.whl")
    return found


def test_the_top_level_is_ours_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"loads", "loads_queue"}
    assert len(top) == 3
    assert {name.split("/")[1] for name in names if name.startswith("loads/")} == {"scheduler", "workers", "deploy"}


def test_every_module_of_the_repository_is_in_it(wheel: Path) -> None:
    folders = {"loads_queue": "loads_queue", **{name: f"loads/{name}" for name in ("scheduler", "workers", "deploy")}}
    wanted = {
        "/".join((inside, *path.relative_to(ROOT / folder).parts))
        for folder, inside in folders.items()
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".mako", ".typed") and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        assert wanted - set(archive.namelist()) == set()


def test_smoke_tests_pass_against_it(wheel: Path, tmp_path: Path) -> None:
    """A fresh virtual environment with the wheel and its declared dependencies, another folder, no repository."""
    environment, folder = tmp_path / "environment", tmp_path / "elsewhere"
    script = ROOT / "scripts" / "environment.sh"
    run(script, "create", environment, cwd=tmp_path, PYTHON=sys.executable)
    run(script, "install", environment, wheel, "pytest", "hypothesis", cwd=tmp_path)
    marked = [path for path in (ROOT / "tests").rglob("test_*.py") if "mark.smoke" in path.read_text()]
    marked.remove(Path(__file__).resolve())
    assert marked
    for path in [*marked, ROOT / "tests" / "conftest.py"]:
        copy = folder / path.relative_to(ROOT / "tests")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers -p no:cacheprovider\n")
    python = environment / "bin" / "python"
    where = run(python, "-c", "import loads_queue; print(loads_queue.__file__)", cwd=folder)
    assert Path(where.strip()).is_relative_to(environment)
    printed = run(python, "-m", "pytest", "-q", "-m", "smoke", folder, cwd=folder)
    assert re.search(r"^[1-9]\d* passed", printed, re.MULTILINE), printed
    assert "skipped" not in printed
