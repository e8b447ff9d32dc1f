"""Virtual environments for tests' requirements, made once and kept; and Loads' own code for engines that run in them.

An environment has what the requirements name, what the engine adds to them, and nothing of Loads' own dependencies.
It is made by uv where that runs (unless LOADS_NO_UV is set), else by venv and pip, which take their own settings from
the environment and their files. Building blocks in its waits alone, which are ``sleep``: it works in any thread and
in a greenlet. Processes are started by the system's own functions: as gevent patches them, and ``subprocess``, they
work in one thread only, and take from the agent the ends of its engines.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import secrets
import shutil
import signal
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

from gevent.monkey import get_original

from .bundles import FolderCache
from .engine_process import engine_environment

ENVIRONMENTS_KEPT = 10
BUILD_TIMEOUT_S = 600.0
KEPT_LINES, KEPT_LETTERS = 20, 2000
"""Of what an installer said, at most."""

_posix_spawn: Callable[..., int] = get_original("os", "posix_spawn")
_waitpid: Callable[[int, int], tuple[int, int]] = get_original("os", "waitpid")
_POLL_S = 0.02
_SEEN = 64 << 10
_INSTALLERS = re.compile(r"PIP_|UV_")
_ASTRAY = re.compile(
    r"PYTHON.*|VIRTUAL_ENV|CONDA_PREFIX|__PYVENV_LAUNCHER__"
    r"|PIP_(TARGET|PREFIX|ROOT|USER|PYTHON|REQUIREMENT|CONSTRAINT|DRY_RUN|NO_DEPS|REPORT|LOG|QUIET|VERBOSE)"
    r"|UV_(PROJECT.*|SYSTEM_PYTHON|PYTHON|PREFIX|TARGET|CONSTRAINT|OVERRIDE|NO_DEPS)"
)
"""What would have installers install elsewhere, or something else, or run other code."""
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
"""As pip has them in requirements."""
_SECRET = re.compile(r"PASSW|TOKEN|SECRET|CREDENTIAL")
_USERINFO = re.compile(r"(?<=://)[^/\s'\"<>]+(?=@)")
_QUERY_SECRET = re.compile(r"(?i)(?<=[?&])([a-z_-]*(?:token|passw|secret|key|signature)[a-z_-]*=)[^&#\s'\"]+")
_SHORTEST_HIDDEN = 4

_OPTIONS = frozenset({
    "-i", "--index-url", "--extra-index-url", "-f", "--find-links", "--no-index", "--pre", "--prefer-binary",
    "--no-binary", "--only-binary", "--require-hashes", "--trusted-host",
})  # fmt: skip
"""Of a requirements file, those that name no other file."""
_PLACES = ("-f", "--find-links", "-i", "--index-url", "--extra-index-url")
"""Those of them that may name a folder: one of the machine, since there is no other."""
_NAMED = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(\[[^]]*\])?\s*(?=$|[=<>!~;@\s(])(.*)")
_AROUND = re.compile(r"\s*(===|==|~=|!=|<=|>=|<|>|,)\s*")
_PINNED = re.compile(r"[a-z0-9-]+(\[[^]]*\])?={2,3}[^\s*,;]+(?=$|[\s;])")
_PINNED_URL = re.compile(r"\S+://\S+(#(.*&)?sha(256|384|512)=[0-9a-f]+|@[0-9a-f]{40}(#\S*)?)(?=$|[\s;])")
_HASH = re.compile(r"\s--hash[=\s]\S+")


class EnvironmentFailed(Exception):
    """There is no environment for these requirements; the text says why, for people, and holds no secret."""


# Requirements, as text


def normalised(requirements: str) -> list[str]:
    """A requirements file's lines, options first and the rest in order, so that the same file always gives the same.

    Comments are gone, continued lines are one, names are as PEP 503 has them. Raises EnvironmentFailed for a line that
    needs another file, which an environment doesn't have.
    """
    options: dict[str, None] = {}
    named: set[str] = set()
    for raw in re.sub(r"\\\r?\n", " ", requirements).splitlines():
        line = " ".join(re.sub(r"(^|\s)#.*", "", raw).split())
        if line.startswith("-"):
            option, *value = re.split(r"[\s=]", line, maxsplit=1)
            if option not in _OPTIONS or (option in _PLACES and not re.match(r".*://|/|\$\{", "".join(value))):
                raise EnvironmentFailed(f"the requirement {_clean(line)!r} can't be had: {_NO_FILES}")
            options[line] = None
        elif line:
            named.add(_normalised_requirement(line))
    return [*options, *sorted(named)]


_NO_FILES = "a bundle's environment is made of names and URLs alone, without other files and folders"


def _normalised_requirement(line: str) -> str:
    if "://" in line.split(" ")[0] and not re.match(r"([a-z]+\+)?file:", line):
        return line
    match = _NAMED.fullmatch(line)
    if match is None or re.match(r"@\s*(file:|[./])", match[3]):
        raise EnvironmentFailed(f"the requirement {_clean(line)!r} can't be had: {_NO_FILES}")
    name = re.sub(r"[-_.]+", "-", match[1]).lower() + (match[2] or "").replace(" ", "").lower()
    versions, rest = re.match(r"([^;@]*?)((?:\s*[;@]|\s--).*)?$", match[3]).groups()  # type: ignore[union-attr]
    return name + _AROUND.sub(r"\1", versions.strip()) + (" " + rest.strip() if rest else "")


def unpinned(requirements: str) -> list[str]:
    """For people, what keeps the same requirements from giving the same environment elsewhere, or later."""
    return [
        f"{_clean(line)} is not pinned to one version: write NAME==VERSION"
        for line in normalised(requirements)
        if not (line.startswith("-") or _PINNED.match(line) or _PINNED_URL.search(line))
    ]


def _constraints(lines: Sequence[str]) -> list[str]:
    """The pins among requirements, as a file that only holds versions back: no hashes, no extras, no options."""
    return [re.sub(r"\[[^]]*\]", "", _HASH.sub("", line), count=1) for line in lines if _PINNED.match(line)]


# Environments


class Environments:
    """Virtual environments in a folder, one for each (requirements, extra, Python); raises EnvironmentFailed alone.

    ``environ`` is what the installers see, but for what an engine doesn't see either and what would lead them astray.
    """

    def __init__(
        self,
        folder: Path,
        keep: int = ENVIRONMENTS_KEPT,
        timeout_s: float = BUILD_TIMEOUT_S,
        environ: Mapping[str, str] | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._environ = dict(os.environ if environ is None else environ)
        self._timeout_s = timeout_s
        self._sleep = sleep
        # Who waits for a build of another process waits for as long as that may take, and a little.
        self._folders = FolderCache(folder.absolute(), keep, timeout_s + 30, EnvironmentFailed, sleep)

    def get(self, requirements: str, extra: Sequence[str] = ()) -> Path:
        """The interpreter of an environment with the requirements (a file's text) and ``extra`` ones of the engine.

        It is in use until ``release``. Where ``extra`` contradicts the requirements there is no such environment.
        Raises EnvironmentFailed also with the end of what the installer said.
        """
        lines, extras = normalised(requirements), normalised("\n".join(extra))
        python = [sys.implementation.cache_tag, sys.version, sysconfig.get_platform()]
        key = hashlib.sha256(json.dumps([python, lines, extras]).encode()).hexdigest()[:32]
        try:
            folder = self._folders.get(
                key, lambda target: self._build(target, lines, extras), lambda made: os.access(_python(made), os.X_OK)
            )
        except OSError as error:
            raise EnvironmentFailed(f"can't keep environments in {self._folders.folder}: {error}") from error
        return _python(folder)

    def release(self, python: Path) -> None:
        """Say that one ``get`` of this interpreter is over: its environment may be forgotten."""
        self._folders.release(python.parents[1])

    def _build(self, target: Path, lines: Sequence[str], extras: Sequence[str]) -> None:
        """Make an environment at ``target``; what there is of one where that fails is the caller's."""
        environ = _installers_environment(self._environ, lines)
        hidden = _hidden(environ, lines)
        with tempfile.TemporaryDirectory(prefix=f"{target.name}.", dir=target.parent) as folder:
            commands = _Commands(Path(folder), environ, hidden, self._timeout_s, self._sleep)
            install = _create(commands, target, None if self._environ.get("LOADS_NO_UV") else environ.get("PATH"))
            if not any(_HASH.search(line) for line in lines):
                _install(commands, install, [*lines, *extras])
                return
            # One hash among the requirements means one for all of them, and the engine's have none.
            _install(commands, install, lines)
            options = [line for line in lines if line.startswith("-") and line != "--require-hashes"]
            _install(commands, install, [*options, *extras], _constraints(lines))


def _python(folder: Path) -> Path:
    return folder / "bin" / "python"


def _create(commands: _Commands, target: Path, uv_path: str | None) -> list[str]:
    """Make an environment with nothing in it; how the command begins that installs into it."""
    uv = shutil.which("uv", path=uv_path) if uv_path else None
    if uv is not None and commands.run(uv, "--version") == 0:  # A shim may lead nowhere.
        commands.must("make an environment", uv, "venv", "--quiet", "--no-project", "--python", sys.executable, target)
        return [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(_python(target))]
    if importlib.util.find_spec("ensurepip") is None:
        raise EnvironmentFailed(
            f"{sys.executable} can't make virtual environments, as it has no ensurepip: install that"
            " (`apt-get install python3-venv` on Debian) or uv"
        )
    commands.must("make an environment", sys.executable, "-I", "-m", "venv", target)
    pip = [str(_python(target)), "-I", "-m", "pip", "install"]
    return [*pip, "--quiet", "--no-input", "--disable-pip-version-check"]


def _install(commands: _Commands, install: Sequence[str], lines: Sequence[str], pins: Sequence[str] = ()) -> None:
    if all(line.startswith("-") for line in lines):
        return
    files = ["-r", commands.file("requirements.txt", lines)]
    files += ["-c", commands.file("constraints.txt", pins)] if pins else []
    commands.must("install the requirements", *install, *files)


# Installers


def _installers_environment(environ: Mapping[str, str], lines: Sequence[str]) -> dict[str, str]:
    """The engines' environment, the installers' own settings, and the variables that the requirements name."""
    asked = {name for line in lines for name in _VARIABLE.findall(line) if not name.startswith(("LOADS_", "AWS_"))}
    kept = {name: value for name, value in environ.items() if name in asked or _INSTALLERS.match(name)}
    kept |= engine_environment(environ)
    return {"NO_COLOR": "1"} | {name: value for name, value in kept.items() if not _ASTRAY.fullmatch(name)}


def _hidden(environ: Mapping[str, str], lines: Sequence[str]) -> list[str]:
    """What must not stand in an installer's output, the longest first."""
    named = {name for line in lines for name in _VARIABLE.findall(line)}
    found = {value for name, value in environ.items() if name in named or _SECRET.search(name)}
    for text in (*lines, *(value for name, value in environ.items() if _INSTALLERS.match(name))):
        for userinfo in _USERINFO.findall(text):
            found |= {userinfo, unquote(userinfo.partition(":")[2]), userinfo.partition(":")[2]}
    return sorted((text for text in found if len(text) >= _SHORTEST_HIDDEN), key=len, reverse=True)


def _clean(text: str, hidden: Sequence[str] = ()) -> str:
    for secret in hidden:
        text = text.replace(secret, "***")
    return _QUERY_SECRET.sub(r"\1***", _USERINFO.sub("***", text))


class _Commands:
    """Commands, one after another, within one time limit; what they say goes into a file of ``folder``."""

    def __init__(
        self,
        folder: Path,
        environ: Mapping[str, str],
        hidden: Sequence[str],
        timeout_s: float,
        sleep: Callable[[float], object],
    ) -> None:
        self._folder = folder
        self._environ = environ
        self._hidden = hidden
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._sleep = sleep

    def file(self, name: str, lines: Sequence[str]) -> str:
        """The path of a new file of lines, which may hold passwords."""
        path = self._folder / name
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", errors="replace")
        return str(path)

    def must(self, purpose: str, *command: str | Path) -> None:
        """Run a command that has to end well; raises EnvironmentFailed with the end of what it said."""
        status = self.run(*command)
        if status == 0:
            return
        with open(self._output, "rb") as file:
            file.seek(max(0, self._output.stat().st_size - _SEEN))
            said = _clean(file.read().decode(errors="replace"), self._hidden).strip()
        last = "\n".join(said.splitlines()[-KEPT_LINES:])[-KEPT_LETTERS:]
        reason = f"it ended with status {status}" if status is not None else f"not done after {self._timeout_s:g}s"
        raise EnvironmentFailed(f"can't {purpose} ({Path(command[0]).name}: {reason}):\n{last or '(it said nothing)'}")

    def run(self, *command: str | Path) -> int | None:
        """The exit status of a command (negative for a signal), None where the time is over; nothing of it stays."""
        arguments = [str(part) for part in command]
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, self._output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        defaults = (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)
        pid = _posix_spawn(
            arguments[0], arguments, self._environ, file_actions=actions, setpgroup=0, setsigdef=defaults, setsigmask=()
        )
        over = False
        try:
            # It is not reaped yet, so that its number, and its group's, is nobody else's.
            while not (over := os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None):
                if time.monotonic() >= self._deadline:
                    break
                self._sleep(_POLL_S)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            _, status = _waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status) if over else None

    @property
    def _output(self) -> Path:
        return self._folder / "output"


# Loads' own code


def runtime_path(folder: Path) -> Path:
    """A folder, below ``folder``, of links to this installation's ``loads_queue`` and ``loads.workers`` alone.

    It is for the PYTHONPATH of an engine under an environment's interpreter, which finds there what Loads itself has
    and nothing of what is installed beside it. Each installation has a folder of its own. Raises EnvironmentFailed.
    """
    links = {"loads_queue": _package("loads_queue"), "loads/workers": _package("loads.workers")}
    name = hashlib.sha256(json.dumps(links, sort_keys=True).encode()).hexdigest()[:16]
    path = folder.absolute() / name
    try:
        if not path.exists():
            partial = path.with_name(f"{name}-{secrets.token_hex(4)}")
            (partial / "loads").mkdir(parents=True)
            for link, target in links.items():
                (partial / link).symlink_to(target)
            try:
                partial.rename(path)
            except OSError:
                shutil.rmtree(partial)  # Another process was first.
        found = {str(at.relative_to(path)): os.readlink(at) if at.is_symlink() else None for at in path.rglob("*")}
        if found != {**links, "loads": None}:
            raise EnvironmentFailed(f"{path} is not as Loads made it: remove it")
    except OSError as error:
        raise EnvironmentFailed(f"can't make the links to Loads in {path}: {error}") from error
    return path


def _package(name: str) -> str:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None or not os.path.isfile(spec.origin):
        raise EnvironmentFailed(f"{name} is not installed as files, which engines need")
    return os.path.dirname(os.path.abspath(spec.origin))
