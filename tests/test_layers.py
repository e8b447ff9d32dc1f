"""The arrows between the folders, read from the imports, and that importing a module does nothing else."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"loads_queue": "loads_queue", "scheduler": "loads.scheduler", "workers": "loads.workers"}
PACKAGES["deploy"] = "loads.deploy"
OURS = ("loads", "loads_queue", *PACKAGES)
ONLY_IN = {
    "kombu": ("loads_queue/kombu_queue.py",),
    "boto3": ("loads_queue/kombu_queue.py",),
    "botocore": ("loads_queue/kombu_queue.py",),
}
"""Third-party packages that one file alone may know."""


def sources(folder: str) -> list[Path]:
    """The Python files below a folder of the repository."""
    return sorted(path for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts)


def module_name(path: Path) -> str:
    """By which name a file of ours is imported."""
    first, *rest = path.relative_to(ROOT).with_suffix("").parts
    parts = [PACKAGES[first], *rest]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """(absolute module name, line) of each import in a file, wherever it stands; relative ones are resolved."""
    inside = module_name(path).split(".") if path.relative_to(ROOT).parts[0] in PACKAGES else []
    if path.name == "__init__.py":
        inside = [*inside, "__init__"]
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = inside[: -node.level] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield name, node.lineno
            for alias in node.names if name in ("loads", "") else []:
                yield f"{name}.{alias.name}".lstrip("."), node.lineno


def within(name: str, package: str) -> bool:
    """Whether a module is a package or lies in it."""
    return name == package or name.startswith(package + ".")


def offenders(folder: str, allowed: tuple[str, ...]) -> list[str]:
    """Imports of ours in a folder that lead out of ``allowed``."""
    return [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sources(folder)
        for name, line in imports(path)
        if name.split(".")[0] in OURS and name != "loads" and not any(within(name, package) for package in allowed)
    ]


@pytest.mark.parametrize(
    ("folder", "allowed"),
    [
        ("loads_queue", ("loads_queue",)),
        ("scheduler", ("loads_queue", "loads.scheduler")),
        ("workers", ("loads_queue", "loads.workers")),
        ("deploy", ("loads_queue", "loads.deploy")),
    ],
)
def test_folders_import_downwards_only(folder: str, allowed: tuple[str, ...]) -> None:
    assert offenders(folder, allowed) == []


@pytest.mark.parametrize("folder", sorted(PACKAGES))
def test_imports_inside_a_folder_are_relative(folder: str) -> None:
    absolute = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources(folder)
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.ImportFrom) and not node.level and within(node.module or "", PACKAGES[folder]))
        or (isinstance(node, ast.Import) and any(within(alias.name, PACKAGES[folder]) for alias in node.names))
    ]
    assert absolute == []


def test_the_model_needs_the_standard_library_alone() -> None:
    outside = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sources("loads_queue/model")
        for name, line in imports(path)
        if not within(name, "loads_queue.model") and name.split(".")[0] not in sys.stdlib_module_names
    ]
    assert outside == []


IMPURE = {"time", "socket", "threading", "subprocess", "asyncio", "os", "pathlib", "sqlite3", "multiprocessing"}


def test_the_model_reads_no_clock_and_does_no_io() -> None:
    impure = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sources("loads_queue/model")
        for name, line in imports(path)
        if name.split(".")[0] in IMPURE
    ]
    assert impure == []


@pytest.mark.parametrize("package", sorted(ONLY_IN))
def test_one_file_alone_knows(package: str) -> None:
    knowing = {
        str(path.relative_to(ROOT))
        for folder in PACKAGES
        for path in sources(folder)
        for name, _ in imports(path)
        if within(name, package)
    }
    assert knowing <= set(ONLY_IN[package])


def test_nothing_imports_a_folder_by_its_bare_name() -> None:
    """``import workers`` from the repository's root would be a second copy of ``loads.workers``."""
    bare = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for folder in (*PACKAGES, "tests", "bench", "scripts")
        for path in sources(folder)
        for name, line in imports(path)
        if name.split(".")[0] in ("scheduler", "workers", "deploy")
    ]
    assert bare == []


def test_the_guard_sees_each_way_to_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "workers" / "engines"
    folder.mkdir(parents=True)
    source = folder / "http.py"
    source.write_text(
        "import workers.agent\nfrom loads.scheduler import core\nfrom loads import scheduler\n"
        "def late():\n    from ... import scheduler\n    from .. import agent\n    from . import wire\n"
    )
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    found = {name for name, _ in imports(source)}
    assert {"workers.agent", "loads.scheduler", "loads.workers", "loads.workers.engines"} <= found
    assert len(offenders("workers", ("loads_queue", "loads.workers"))) == 4


PROBE = """
import importlib, json, os, signal, socket, sys, threading, warnings

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE, signal.SIGHUP)
def state():
    return {
        "threads": threading.active_count(),
        "environment": dict(os.environ),
        "signals": [str(signal.getsignal(one)) for one in SIGNALS],
        "socket": socket.socket.__module__,
        "lock": threading.Lock.__module__ + "." + threading.Lock.__qualname__,
        "sockets": sum(os.readlink(f"/proc/self/fd/{fd}").startswith("socket:") for fd in open_descriptors()),
        "children": open_children(),
        "folder": sorted(os.listdir(".")),
    }
def open_descriptors():
    for fd in os.listdir("/proc/self/fd"):
        if os.path.lexists(f"/proc/self/fd/{fd}"):
            yield fd
def open_children():
    return open("/proc/self/task/%d/children" % os.getpid()).read().split() if os.path.exists(
        "/proc/self/task/%d/children" % os.getpid()) else []

before = state()
problems = []
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
    after = state()
    for key in before:
        if after[key] != before[key]:
            problems.append(f"importing {name} changes {key}: {before[key]!r} -> {after[key]!r}")
    before = after
print(json.dumps(problems))
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads /proc")
def test_importing_does_nothing_else(tmp_path: Path) -> None:
    """No import patches, starts a thread or process, opens a socket, writes a file or changes the environment."""
    names = [module_name(path) for folder in PACKAGES for path in sources(folder)]
    names = [name for name in names if not name.endswith(".__main__") and ".migrations" not in name]
    command = [sys.executable, "-c", PROBE, json.dumps(names)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_importing_the_messages_stays_light() -> None:
    """The command line starts many processes: what all of them import must not pull the libraries in."""
    heavy = "{'kombu', 'boto3', 'sqlalchemy', 'rich', 'requests', 'marshmallow', 'gevent', 'click', 'alembic'}"
    code = f"import sys, loads_queue.messages, loads_queue.model.summary; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
