"""The ``loads`` command: what it lists, how it fails, and that it loads no more than it needs."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import EntryPoint

import click
import pytest

from loads_queue import cli
from loads_queue.model.problems import PlanError, Problem

MAIN = "import sys; from loads_queue.cli import main; main(sys.argv[1:])"


def loads(*args: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run([sys.executable, "-c", MAIN, *args], capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> dict[str, click.Command]:
    """Stand-ins for the installed commands, by name."""
    found: dict[str, click.Command] = {}

    class Point(EntryPoint):
        def load(self) -> click.Command:
            return found[self.name]

    def points(group: str) -> list[EntryPoint]:
        assert group == "loads.commands"
        return [Point(name, "module:name", group) for name in found]

    monkeypatch.setattr(cli, "entry_points", points)
    monkeypatch.delitem(cli.loads.__dict__, "points", raising=False)
    return found


def run(*args: str) -> int:
    """The exit code of ``main`` in this process."""
    with pytest.raises(SystemExit) as caught:
        cli.main(args)
    code = caught.value.code
    assert isinstance(code, int)
    cli.loads.__dict__.pop("points", None)
    return code


def raising(error: BaseException) -> click.Command:
    """A command that raises."""

    def callback() -> None:
        raise error

    return click.Command("x", callback=callback)


@pytest.mark.smoke
def test_help_lists_every_command() -> None:
    done = loads("--help")
    assert done.returncode == 0
    names = {line.split()[0] for line in done.stdout.partition("Commands:")[2].splitlines() if line.strip()}
    assert {"broker", "version", "worker", "scheduler", "run", "hit", "validate", "schema", "init"} <= names


@pytest.mark.smoke
def test_version_names_what_it_runs_on() -> None:
    done = loads("version")
    assert done.returncode == 0
    shown = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert {"loads", "python", "kombu", "gevent", "platform"} <= set(shown)
    assert shown["python"].startswith(".".join(map(str, sys.version_info[:3])))


def test_an_unknown_command_says_the_nearest(
    commands: dict[str, click.Command], capsys: pytest.CaptureFixture[str]
) -> None:
    commands["broker"] = click.Command("broker")
    assert run("brokr") == 2
    assert "No such command 'brokr'. Did you mean 'broker'?" in capsys.readouterr().err
    assert run("xyzzy") == 2
    assert "No such command 'xyzzy'. 'loads --help' lists the commands." in capsys.readouterr().err


def test_a_wrong_option_is_a_wrong_call(commands: dict[str, click.Command], capsys: pytest.CaptureFixture[str]) -> None:
    commands["x"] = click.Command("x")
    assert run("x", "--nonsense") == 2
    assert "No such option" in capsys.readouterr().err
    assert run() == 2


@pytest.mark.parametrize("code", [1, 2, 3, 4, 130])
def test_an_error_for_people_has_no_traceback(
    commands: dict[str, click.Command], capsys: pytest.CaptureFixture[str], code: int
) -> None:
    error = RuntimeError("three words here")
    error.exit_code = code  # type: ignore[attr-defined]
    commands["x"] = raising(error)
    assert run("x") == code
    assert capsys.readouterr().err == "loads: three words here\n"


def test_several_problems_are_one_a_line(
    commands: dict[str, click.Command], capsys: pytest.CaptureFixture[str]
) -> None:
    commands["x"] = raising(PlanError([Problem("steps", "needs a step", 3), Problem("", "no name")]))
    assert run("x") == 2
    assert capsys.readouterr().err == "steps: needs a step (line 3)\nno name\nloads: 2 problems; nothing was started\n"


def test_any_other_error_keeps_its_traceback(commands: dict[str, click.Command]) -> None:
    commands["x"] = raising(RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["x"])


def test_a_terminal_without_the_letters_gets_question_marks() -> None:
    code = "import click; from loads_queue import cli\ncli.loads.get_command = lambda *_: click.Command("
    code += "'x', callback=lambda: print('gr\\xf6\\xdfe'))\ncli.main(['version'])"
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=env)
    assert (done.stdout, done.stderr, done.returncode) == ("gr??e\n", "", 0)


def test_ctrl_c_is_130(commands: dict[str, click.Command]) -> None:
    commands["x"] = raising(KeyboardInterrupt())
    assert run("x") == 130


def test_a_command_says_its_own_exit_code(commands: dict[str, click.Command]) -> None:
    commands["exits"] = raising(click.exceptions.Exit(4))
    commands["returns"] = click.Command("returns", callback=lambda: 1)
    commands["is done"] = click.Command("is done", callback=lambda: None)
    assert [run("exits"), run("returns"), run("is done")] == [4, 1, 0]


@pytest.mark.parametrize("args", [["version"], ["broker", "--help"]])
def test_a_command_loads_no_more_than_it_needs(args: list[str]) -> None:
    script = f"import atexit; atexit.register(lambda: sys.stderr.write(' '.join(sys.modules))); {MAIN}"
    done = subprocess.run([sys.executable, "-c", script, *args], capture_output=True, text=True, timeout=60, check=True)
    heavy = {"kombu", "boto3", "gevent", "marshmallow", "sqlalchemy", "rich", "requests"}
    assert heavy & set(done.stderr.split()) == set()


def test_the_broker_needs_gevent_and_the_standard_library_alone() -> None:
    script = "import loads_queue.embedded, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert {"kombu", "boto3", "marshmallow", "sqlalchemy", "click"} & set(done.stdout.split()) == set()
