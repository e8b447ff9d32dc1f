"""Environments for requirements: by a stand-in for uv, which does as it is told, and once with the real thing."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import gevent
import loads.workers
import pytest
from loads.workers.environments import EnvironmentFailed, Environments, normalised, runtime_path, unpinned

import loads_queue

UV = """#!/bin/sh
# A stand-in for uv: it writes down how it is called, and what happens is in UV_DO.
case "$1" in
  --version) echo uv 1.0 ;;
  venv)
    for last; do :; done
    mkdir -p "$last/bin" && ln -s "$UV_INTERPRETER" "$last/bin/python" ;;
  pip)
    shift 6
    while [ $# -gt 0 ]; do echo "$1"; cat "$2"; shift 2; done >>"$UV_NOTES"
    echo end >>"$UV_NOTES"
    eval "$UV_DO" ;;
esac
"""


class World:
    """A folder with the stand-in in its PATH, and what it was asked for."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.notes = base / "notes"
        self.notes.touch()
        (base / "bin").mkdir()
        (base / "bin" / "uv").write_text(UV)
        (base / "bin" / "uv").chmod(0o755)

    def environ(self, do: str = "", **more: str) -> dict[str, str]:
        path = f"{self.base / 'bin'}:/usr/bin:/bin"
        return {"PATH": path, "UV_DO": do, "UV_NOTES": str(self.notes), "UV_INTERPRETER": sys.executable} | more

    def environments(self, do: str = "", *, timeout_s: float = 60, **more: str) -> Environments:
        return Environments(self.base / "environments", 2, timeout_s, self.environ(do, **more))

    def asked(self) -> list[str]:
        return self.notes.read_text().splitlines()

    def left(self) -> list[str]:
        return [path.name for path in (self.base / "environments").iterdir() if path.name != ".locks"]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# Made once


def test_an_environment_is_made_once_for_the_same_requirements(world: World) -> None:
    environments = world.environments()
    python = environments.get("b==2\nA_x==1  # why\n", ["gevent==25.1"])
    assert os.path.samefile(python, sys.executable)
    assert environments.get("a-x == 1\n\nb==2", ["gevent==25.1"]) == python
    assert world.environments().get("b==2\na.x==1", ["gevent==25.1"]) == python
    assert [line for line in world.asked() if line != "-r"] == ["a-x==1", "b==2", "gevent==25.1", "end"]


def test_other_requirements_have_another_one(world: World) -> None:
    environments = world.environments()
    found = {
        environments.get("a==1"), environments.get("a==2"), environments.get("a==1", ["b==1"]),
        environments.get("--pre\na==1"), environments.get(""),
    }  # fmt: skip
    assert len(found) == 5
    assert world.asked().count("end") == 4, "where nothing is required, nothing is installed"


def test_one_that_lost_its_interpreter_is_made_anew(world: World) -> None:
    environments = world.environments()
    python = environments.get("a==1")
    python.unlink()
    python.symlink_to(world.base / "removed")
    assert environments.get("a==1") != python


def test_what_is_released_makes_room(world: World) -> None:
    environments = world.environments()
    first = environments.get("a==1")
    others = [environments.get(f"a=={number}") for number in (2, 3)]
    assert first.exists()
    environments.release(first)
    environments.get("a==4")
    assert not first.exists()
    assert all(python.exists() for python in others)


def test_hashes_concern_what_has_them_and_hold_the_rest_back(world: World) -> None:
    hashes = "b[x]==2 \\\n    --hash=sha256:12 \\\n    --hash=sha256:34\na==1 --hash=sha256:56"
    world.environments().get(f"--index-url https://example.org/simple\n{hashes}", ["gevent==25.1"])
    assert world.asked() == [
        "-r", "--index-url https://example.org/simple", "a==1 --hash=sha256:56",
        "b[x]==2 --hash=sha256:12 --hash=sha256:34", "end",
        "-r", "--index-url https://example.org/simple", "gevent==25.1", "-c", "a==1", "b==2", "end",
    ]  # fmt: skip


# What goes wrong


def test_a_failure_says_the_end_of_what_was_said_and_is_not_kept(world: World) -> None:
    do = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; echo no such package >&2; exit 3"
    with pytest.raises(EnvironmentFailed) as failed:
        world.environments(do).get("a==1")
    lines = str(failed.value).splitlines()
    assert lines[0] == "can't install the requirements (uv: it ended with status 3):"
    assert lines[1:] == [*(f"line {number}" for number in range(2981, 3000)), "no such package"]
    assert world.left() == []
    assert world.environments().get("a==1").exists()


def test_a_long_line_is_cut(world: World) -> None:
    with pytest.raises(EnvironmentFailed) as failed:
        world.environments("head -c 200000 /dev/zero | tr '\\0' x; exit 1").get("a==1")
    assert 2000 < len(str(failed.value)) < 2200


def test_silence_is_said_too(world: World) -> None:
    with pytest.raises(EnvironmentFailed, match=r"status -9\):\n\(it said nothing\)"):
        world.environments("kill -9 $$").get("a==1")


def test_no_secret_is_said(world: World) -> None:
    index = "https://robot:p%40ss%2Fword@index.example/simple"
    environments = world.environments(
        'echo "$UV_INDEX_URL $UV_INDEX_SHOP_PASSWORD $PRIVATE_INDEX_TOKEN"; echo https://who:what@host/x; '
        "echo 'GET /x?token=abc&api_key=def&page=1'; echo 'decoded p@ss/word'; env; exit 1",
        UV_INDEX_URL=index, UV_INDEX_SHOP_PASSWORD="hush-hush", PRIVATE_INDEX_TOKEN="t0ken", LOADS_SECRET_X="ours",
        AWS_SECRET_ACCESS_KEY="theirs", OTHER_TOKEN="not asked for",
    )  # fmt: skip
    requirements = "--extra-index-url https://me:${PRIVATE_INDEX_TOKEN}@example.org/${LOADS_SECRET_X}/simple\na==1"
    with pytest.raises(EnvironmentFailed) as failed:
        environments.get(requirements)
    text = str(failed.value)
    for secret in ("p%40ss", "p@ss", "hush", "t0ken", "who", "what", "abc", "def", "ours", "theirs", "not asked for"):
        assert secret not in text
    assert "GET /x?token=***&api_key=***&page=1" in text
    assert "https://***@host/x" in text
    assert not any("t0ken" in path.read_text() for path in (world.base / "environments/.locks").iterdir())
    assert world.left() == []


def test_installers_see_what_they_need_and_are_not_led_astray(world: World) -> None:
    hidden = ["PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_TARGET", "PIP_USER", "UV_SYSTEM_PYTHON", "UV_PROJECT_X"]
    hidden += ["LOADS_SECRET_X", "AWS_SESSION_TOKEN", "OTHER_TOKEN"]
    kept = ["PIP_INDEX_URL", "UV_CACHE_DIR", "HTTPS_PROXY", "HOME", "SHOP_TOKEN"]
    environments = world.environments('env >"$UV_NOTES"', timeout_s=60, **dict.fromkeys([*hidden, *kept], "x"))
    environments.get("-i https://${SHOP_TOKEN}:${LOADS_SECRET_X}:${AWS_SESSION_TOKEN}@example.org/\na==1")
    found = {line.partition("=")[0] for line in world.asked()}
    assert found & {*hidden, *kept} == set(kept)


def test_time_is_limited_and_nothing_goes_on(world: World) -> None:
    do = f"echo begun; sleep 1000 & echo $$ $! >{world.base}/pids; wait"
    with pytest.raises(EnvironmentFailed, match=r"\(uv: not done after 0.5s\):\nbegun"):
        world.environments(do, timeout_s=0.5).get("a==1")
    assert world.left() == []
    for pid in map(int, (world.base / "pids").read_text().split()):
        status = Path(f"/proc/{pid}/stat")
        assert not status.exists() or status.read_text().rpartition(") ")[2][0] == "Z"


def test_a_uv_that_does_not_run_is_no_uv(world: World) -> None:
    """A shim may be there without what it stands for: then venv and pip are used, as they are when that is wished."""
    interpreter = world.base / "environments"
    (world.base / "bin/uv").write_text("#!/bin/sh\nexit 127\n")
    for no_uv in ("", "1"):
        with pytest.raises(EnvironmentFailed, match=r"can't make an environment \(python.*: not done after 0.01s\)"):
            world.environments(timeout_s=0.01, LOADS_NO_UV=no_uv).get("a==1")
    assert list(interpreter.glob("*-*")) == []


def test_a_folder_that_can_not_be_made_is_said(world: World) -> None:
    (world.base / "environments").write_text("")
    with pytest.raises(EnvironmentFailed, match=r"can't keep environments in .*environments: "):
        world.environments().get("a==1")


GET = """
import json, sys
from pathlib import Path
{patch}
from loads.workers.environments import Environments
base, environ = Path(sys.argv[1]), json.loads(sys.argv[2])
print("go", flush=True)
def get():
    return Environments(base / "environments", 2, 60, environ).get("a==1")
{run}
sys.stdin.readline()
"""
PATCHED = "from gevent import monkey; monkey.patch_all(); import gevent, os"


def getter(
    world: World, environ: Mapping[str, str], patch: str = "", run: str = "print(get())"
) -> subprocess.Popen[str]:
    code = GET.format(patch=patch, run=run)
    command = [sys.executable, "-c", code, str(world.base), json.dumps(environ)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_several_processes_make_one_environment(world: World) -> None:
    environ = world.environ("sleep 0.3")
    processes = [getter(world, environ) for _ in range(3)]
    found = {process.communicate("\n", timeout=60)[0].split()[1] for process in processes}
    assert len(found) == 1
    assert world.asked().count("end") == 1


def test_a_builder_that_is_killed_holds_nobody_up(world: World) -> None:
    started = world.base / "started"
    os.mkfifo(started)
    killed = getter(world, world.environ(f"echo >{started}; exec sleep 1000 3<>/dev/null"))
    started.read_text()
    killed.kill()
    killed.communicate()
    left = orphans(world.base)
    try:
        assert world.environments().get("a==1").exists()
        assert left, "what it had begun goes on by itself, and is in nobody's way"
    finally:
        for pid in left:
            os.kill(pid, signal.SIGKILL)


def orphans(base: Path) -> list[int]:
    """The processes that have the output of a build in this folder open."""
    found = []
    for output in Path("/proc").glob("[0-9]*/fd/1"):
        try:
            if os.readlink(output).startswith(f"{base}/environments/"):
                found.append(int(output.parts[2]))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("run", ["print(gevent.spawn(get).get())", "print(gevent.get_hub().threadpool.apply(get))"])
def test_it_works_where_gevent_has_patched_everything(world: World, run: str) -> None:
    """And takes no child of the agent's from it: the agent waits for its engines by itself."""
    ticks = "n = []; gevent.spawn(lambda: [(n.append(1), gevent.sleep(0.02)) for _ in range(1000)])\n"
    child = "pid = monkey.get_original('os', 'posix_spawn')('/bin/sh', ['sh', '-c', 'exit 7'], {})\n"
    check = "\nprint(len(n) > 5, os.waitpid(pid, 0)[1] >> 8)"
    process = getter(world, world.environ("sleep 0.3"), PATCHED, ticks + child + run + check)
    output, _ = process.communicate("\n", timeout=60)
    assert process.returncode == 0
    assert output.splitlines()[2:] == ["True 7"]
    assert Path(output.splitlines()[1]).exists()


# Requirements


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("# nothing\n\n   \n", []),
        ("Flask_Login==1.0", ["flask-login==1.0"]),
        ("zope.interface  >= 5 ,  < 6  # both", ["zope-interface>=5,<6"]),
        ("b\na\nb\n", ["a", "b"]),
        ("x [B, a] == 1 ; python_version < '3.12'", ["x[b,a]==1 ; python_version < '3.12'"]),
        ("x==1 \\\n  --hash=sha256:aa \\\r\n  --hash=sha256:bb\n", ["x==1 --hash=sha256:aa --hash=sha256:bb"]),
        ("x\n--pre\n-i https://b.example\n--pre\n", ["--pre", "-i https://b.example", "x"]),
        ("x @ https://a.example/x.whl#sha256=aa", ["x @ https://a.example/x.whl#sha256=aa"]),
        ("git+https://a.example/X.git@main", ["git+https://a.example/X.git@main"]),
    ],
)
def test_requirements_are_normalised(text: str, lines: Sequence[str]) -> None:
    assert normalised(text) == lines
    assert normalised("\n".join(lines)) == lines


@pytest.mark.parametrize(
    "line",
    [
        "-r other.txt", "-c constraints.txt", "--constraint=c.txt", "-e .", ".", "./x", "/srv/x.whl", "../x",
        "file:///srv/x", "x @ file:///srv/x", "x @ ./y", "git+file:///srv/x", "!x", "--target /",
        "-f wheels", "--find-links=./wheels",
    ],
)  # fmt: skip
def test_what_needs_another_file_is_refused(line: str, tmp_path: Path) -> None:
    with pytest.raises(
        EnvironmentFailed, match=rf"the requirement '{re.escape(line)}' can't be had: .* names and URLs"
    ):
        Environments(tmp_path).get(f"a==1\n{line}\n")


@pytest.mark.parametrize(
    "line",
    [
        "a==1", "a[x]==1.0.post1", "a===1", "a==1 ; python_version < '3.12'", "a==1 --hash=sha256:aa",
        "a @ https://a.example/a.whl#sha256=0123abc", f"a @ git+https://a.example/a@{'0' * 40}",
        f"git+https://a.example/a@{'f' * 40}#egg=a", "--pre",
    ],
)  # fmt: skip
def test_pins(line: str) -> None:
    assert unpinned(line) == []


@pytest.mark.parametrize(
    "line",
    [
        "a", "a>=1", "a~=1.0", "a==1.*", "a==1,<2", "a<2,==1", "a @ https://a.example/a.whl",
        "git+https://a.example/a@main", "a!=1", "a ; python_version == '3.12'",
    ],
)  # fmt: skip
def test_what_is_no_pin(line: str) -> None:
    assert unpinned(f"x==1\n{line}\n") == [f"{line} is not pinned to one version: write NAME==VERSION"]


def test_a_warning_holds_no_secret() -> None:
    (warning,) = unpinned("git+https://me:secret@a.example/a?token=abc")
    assert "secret" not in warning
    assert "abc" not in warning


# Loads' own code


def test_the_runtime_path_is_links_alone(tmp_path: Path) -> None:
    path = runtime_path(tmp_path / "runtime")
    assert runtime_path(tmp_path / "runtime") == path
    found = {str(at.relative_to(path)): at.is_symlink() and at.resolve() for at in path.rglob("*")}
    queue, workers = Path(str(loads_queue.__file__)).parent, Path(str(loads.workers.__file__)).parent
    assert found == {"loads": False, "loads_queue": queue.resolve(), "loads/workers": workers.resolve()}
    assert [at.name for at in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("harm", ["more", "more in it", "elsewhere"])
def test_a_runtime_path_that_was_tampered_with_is_refused(tmp_path: Path, harm: str) -> None:
    path = runtime_path(tmp_path)
    match harm:
        case "more":
            (path / "requests.py").write_text("")
        case "more in it":
            (path / "loads/scheduler.py").write_text("")
        case "elsewhere":
            (path / "loads_queue").unlink()
            (path / "loads_queue").symlink_to(tmp_path)
    with pytest.raises(EnvironmentFailed, match="is not as Loads made it: remove it"):
        runtime_path(tmp_path)


def test_the_runtime_path_of_an_installed_wheel(tmp_path: Path) -> None:
    """There the packages are plain folders beside all others, and no finder of an editable installation is."""
    site = tmp_path / "site"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(str(Path(str(loads_queue.__file__)).parent), site / "loads_queue", ignore=ignored)
    shutil.copytree(str(Path(str(loads.workers.__file__)).parent), site / "loads" / "workers", ignore=ignored)
    libraries = Path(gevent.__file__).parent.parent
    code = (
        f"import sys; sys.path[1:1] = [{str(site)!r}]; sys.path.append({str(libraries)!r})\n"
        "from loads.workers.environments import runtime_path; from pathlib import Path\n"
        f"print(runtime_path(Path({str(tmp_path)!r})))"
    )
    command = [sys.executable, "-S", "-P", "-c", code]
    done = subprocess.run(command, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.strip())
    assert os.readlink(path / "loads_queue") == str(site / "loads_queue")
    assert os.readlink(path / "loads" / "workers") == str(site / "loads" / "workers")


# With the real thing

SMALL = "iniconfig==2.0.0"
NO_NETWORK = re.compile("Could not find a version|connection|resolve|fetch|network|timed? ?out|not done after", re.I)


def inside(python: Path, path: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code as an engine does: under an environment's interpreter, with Loads' own code in reach."""
    environ = {"PYTHONPATH": str(path), "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([python, "-P", "-c", code], env=environ, cwd=path, capture_output=True, text=True)


def test_an_engine_runs_in_an_environment_without_loads_own_dependencies(tmp_path: Path) -> None:
    environments = Environments(tmp_path / "environments")
    try:
        python = environments.get(f"{SMALL}\n", [f"gevent=={importlib.metadata.version('gevent')}"])
    except EnvironmentFailed as error:
        if os.environ.get("CI") != "true" and NO_NETWORK.search(str(error)):
            pytest.skip(f"nothing can be installed here: {error}")
        raise
    path = runtime_path(tmp_path / "runtime")
    done = inside(
        python, path,
        "import sys, iniconfig, loads.workers.engines.http, loads.workers.engines.websocket\n"
        f"assert sys.prefix.startswith({str(tmp_path)!r}), sys.prefix\n"
        "from loads.workers.engines.core_sources import lack; print(lack())",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    from loads.workers.engines.core_sources import lack

    assert done.stdout.strip() == str(lack())
    for name in ("kombu", "boto3", "click", "marshmallow", "loads.scheduler"):
        done = inside(python, path, f"import {name}")
        assert f"No module named '{name}'" in done.stderr
    engine = subprocess.run(
        [python, "-P", "-m", "loads.workers.engine_main", "nonesuch", "--in", "0", "--out", "1"],
        env={"PYTHONPATH": str(path)}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    assert (engine.returncode, "no engine is called 'nonesuch'" in engine.stderr) == (2, True)
    # A script of a package begins with the interpreter's path, which is why environments never move.
    for script in python.parent.iterdir():
        if script.read_bytes()[:2] == b"#!":
            assert str(python.parent) in "".join(script.read_text().splitlines()[:3])


def test_what_can_not_be_installed_is_said_as_pip_says_it(tmp_path: Path) -> None:
    environments = Environments(tmp_path, environ={**os.environ, "LOADS_NO_UV": "1"})
    with pytest.raises(EnvironmentFailed, match=r"(?s)can't install the requirements \(python: .*no-such-package==1"):
        environments.get("--no-index\nno-such-package==1\n")
    assert [path.name for path in tmp_path.iterdir()] == [".locks"]
