"""Everything that an operator may set: one table, read once by a command into a frozen ``Settings``.

A setting has a name (``lease_ttl``), an environment variable (``LOADS_LEASE_TTL``) and mostly a flag (``--lease-ttl``)
on the commands that it concerns. Flags beat the environment, which beats the defaults; a variable that is set to
nothing is not set. Both are read by the same function, so that they take the same values.

Here no file is read and nothing looked for: what is None has a default that the command finds (a broker of this
machine), as ``Setting.default`` says in words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlsplit

from .model.targets import AllowedTargets
from .model.units import SECOND, parse_duration
from .queue import home_folder

PREFIX = "LOADS_"
PLAN_SECRET = "LOADS_SECRET_"
"""What begins so is a plan's ``${secret.NAME}``, and no setting."""
NO_SETTINGS = ("LOADS_NO_UV",)
LEAST_LEASE_NS = 5 * SECOND
"""Five intervals between two Reports."""
MOST_LEASE_NS = 3600 * SECOND
HIDDEN = "***"
FROM_FLAG, FROM_DEFAULT = "flag", "default"


class SettingsError(Exception):
    """A flag or an environment variable can't be what it is set to; the text names it."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table; ``read`` makes the value of its text, or raises ValueError for people."""

    name: str
    of: tuple[str, ...]
    """Which of ``scheduler``, ``worker``, ``client`` and ``broker`` it concerns."""
    help: str
    default: str
    """In words."""
    read: Callable[[str], Any] = str
    unit: str = ""
    metavar: str = "TEXT"
    secret: bool = False
    """It is never shown."""
    flagless: bool = False
    """It has no flag: arguments can be read by every user of the machine."""
    url: bool = False
    """Its text may hold a password, which is not shown."""

    @property
    def env(self) -> str:
        """The environment variable."""
        return PREFIX + self.name.upper()

    @property
    def flag(self) -> str | None:
        """The option of the command line."""
        return None if self.flagless else "--" + self.name.replace("_", "-")

    @property
    def field(self) -> str:
        """The field of ``Settings``."""
        return f"{self.name}{self.unit}"

    def shown(self, value: object) -> str:
        """A value for people, without what is secret in it."""
        if self.secret:
            return HIDDEN
        if isinstance(value, int) and self.unit == "_ns":
            return f"{value / SECOND:g}s"
        return without_password(str(value)) if self.url else str(value)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a command goes by. Durations are nanoseconds; None is "not set"."""

    home: Path
    broker: str | None
    queue_prefix: str
    secret: bytes | None = field(repr=False)
    """Signs every message of the cluster."""
    db: str
    files: Path
    listen: str
    lease_ttl_ns: int
    max_attempts: int
    slots: int | None
    region: str
    name: str | None
    allowed_targets: str
    """A list for ``AllowedTargets.parse``; empty where everything is allowed."""
    engine_path: str
    """How engines carry iterations out: ``auto``, ``compiled``, ``callbacks`` or ``greenlets``."""
    drain_after_ns: int | None
    server: str | None
    token: str | None = field(repr=False)
    log_format: str
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)
    """By the setting's name: ``flag``, the environment variable, or ``default``."""


def read_settings(environ: Mapping[str, str], flags: Mapping[str, object] | None = None) -> Settings:
    """The settings of a process; ``flags`` by a setting's name, None where the flag was not given.

    Raises SettingsError, which names every flag and variable that is wrong.
    """
    given = {name: str(value) for name, value in (flags or {}).items() if value is not None}
    unknown = sorted(set(given) - set(BY_NAME))
    if unknown:
        raise KeyError(f"no such settings: {unknown}")
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    problems: list[str] = []
    for setting in TABLE:
        text, source = given.get(setting.name), FROM_FLAG
        if text is None:
            text, source = environ.get(setting.env) or None, setting.env
        if text is None:
            sources[setting.name] = FROM_DEFAULT
            continue
        try:
            values[setting.field] = setting.read(text)
            sources[setting.name] = source
        except ValueError as error:
            problems.append(f"{setting.flag if source == FROM_FLAG else source}: {error}")
    if problems:
        raise SettingsError("; ".join(problems))
    return Settings(**{**_defaults(values.get("home") or home_folder(environ)), **values}, sources=_frozen(sources))


def _defaults(home: Path) -> dict[str, Any]:
    return {
        **{setting.field: None for setting in TABLE},
        "home": home,
        "queue_prefix": "loads-",
        "db": f"sqlite:///{quote(str(home / 'loads.sqlite3'))}",
        "files": home / "files",
        "listen": "127.0.0.1:8089",
        "lease_ttl_ns": 10 * SECOND,
        "max_attempts": 5,
        "region": "any",
        "allowed_targets": "",
        "engine_path": "auto",
        "log_format": "text",
    }


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """A line for each variable that looks like a setting and is none, with the nearest that is."""
    known = {setting.env for setting in TABLE}
    found = []
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in known and name not in NO_SETTINGS:
            if name.startswith(PLAN_SECRET) and len(name) > len(PLAN_SECRET):
                continue
            near = get_close_matches(name, known, n=1)
            found.append(f"{name} is not a setting{f': did you mean {near[0]}?' if near else ''}")
    return found


def private_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for a cluster of a run's own, which has its own broker, database, address and names.

    What a plan or this machine needs stays: its secrets, the allowed targets, how long leases last.
    """
    kept = {BY_NAME[name].env for name in ("allowed_targets", "engine_path", "lease_ttl", "max_attempts")}
    settings = {setting.env for setting in TABLE} - kept
    return {name: value for name, value in environ.items() if name not in settings}


def without_password(url: str) -> str:
    """A URL whose userinfo, where it has a password, and whose keys in the query are hidden."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return HIDDEN
    userinfo, at, host = parts.netloc.rpartition("@")
    if ":" in userinfo:
        userinfo = f"{userinfo.partition(':')[0]}:{HIDDEN}"
    shown = url.replace(parts.netloc, f"{userinfo}{at}{host}", 1) if at else url
    return re.sub(r"(?i)([?&](?:password|passwd|token|secret|key)=)[^&#]*", rf"\1{HIDDEN}", shown)


def _frozen(sources: dict[str, str]) -> Mapping[str, str]:
    return MappingProxyType(sources)


# What the texts may be


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        value = text.strip()
        if not (value.isascii() and value.isdecimal() and len(value) <= 9 and low <= int(value) <= high):
            raise ValueError(f"{text!r} is not a whole number from {low} to {high}")
        return int(value)

    return read


def _duration(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        value = parse_duration(text)
        if not low <= value <= high:
            raise ValueError(f"{text!r} is not a duration from {low / SECOND:g}s to {high / SECOND:g}s")
        return value

    return read


def _one_of(*choices: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"{text!r} is not {' or '.join(choices)}")
        return text

    return read


def _matching(pattern: str, what: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{text!r} is not {what}")
        return text

    return read


def _path(text: str) -> Path:
    if "\0" in text or not text:
        raise ValueError("not a folder's name")
    return Path(text).expanduser()


def _targets(text: str) -> str:
    AllowedTargets.parse(text)
    return text


def _address(text: str) -> str:
    host, colon, port = text.rpartition(":")
    plain = re.fullmatch(r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+", host)
    if not (colon and plain and port.isascii() and port.isdecimal() and len(port) < 6 and int(port) < 65536):
        raise ValueError(f"{text!r} is not HOST:PORT")
    return text


_SHORT = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}"
_SHORT_WORDS = "up to 100 letters, digits, '-', '_' and '.', a letter or digit first"
_LONGEST_DRAIN_NS = 7 * 86_400 * SECOND

TABLE: tuple[Setting, ...] = (
    Setting(
        "home", ("scheduler", "worker", "broker", "client"), "Folder for what lasts: database, files, addresses.",
        "loads in the user's state folder", _path, metavar="DIR",
    ),
    Setting(
        "broker", ("scheduler", "worker"), "The broker's address: sqs://, redis://, rediss://, amqp:// or amqps://.",
        "the `loads broker` of LOADS_HOME; a scheduler starts it", metavar="URL", url=True,
    ),
    Setting(
        "queue_prefix", ("scheduler", "worker"), "What the broker's names of the cluster's queues begin with.",
        "loads-", _matching(r"[A-Za-z0-9_-]{1,40}", "up to 40 letters, digits, '-' and '_'"),
    ),
    Setting(
        "secret", ("scheduler", "worker", "client"),
        "Signs every message; the same in all processes of the cluster, or none of them is believed.",
        "messages are not signed", lambda text: text.encode("utf-8", "surrogateescape"), secret=True, flagless=True,
    ),
    Setting(
        "db", ("scheduler",), "The database: sqlite:///FILE or postgresql://USER@HOST/NAME.",
        "loads.sqlite3 in LOADS_HOME", metavar="URL", url=True,
    ),
    Setting(
        "files", ("scheduler", "worker"), "Folder of the plans' files by digest.", "files in LOADS_HOME",
        _path, metavar="DIR",
    ),
    Setting("listen", ("scheduler",), "Where the HTTP API listens.", "127.0.0.1:8089", _address, metavar="HOST:PORT"),
    Setting(
        "lease_ttl", ("scheduler",), "After so much silence of a worker its shards go to others.",
        "10s", _duration(LEAST_LEASE_NS, MOST_LEASE_NS), "_ns", "DURATION",
    ),
    Setting(
        "max_attempts", ("scheduler",), "A shard that was lost so many times ends its run.", "5", _whole(1, 1000),
        metavar="COUNT",
    ),
    Setting("slots", ("worker",), "Engines at once.", "the number of processors", _whole(1, 10_000), metavar="COUNT"),
    Setting(
        "region", ("worker",), "Take the steps of this region, and those of any.", "any",
        _matching(_SHORT, f"a region: {_SHORT_WORDS}"),
    ),
    Setting(
        "name", ("worker",), "The worker's name, unique on its broker.", "made up from the host's",
        _matching(_SHORT, f"not a worker's name: {_SHORT_WORDS}"),
    ),
    Setting(
        "allowed_targets", ("worker",),
        "Send to these alone: names, *.example.com, CIDR blocks, each with :PORT or :LOW-HIGH at will; commas between.",
        "every target is allowed", _targets, metavar="LIST",
    ),
    Setting(
        "engine_path", ("worker",),
        "How engines carry iterations out: the compiled core, callbacks, a greenlet a user, or the fastest that can.",
        "auto", _one_of("auto", "compiled", "callbacks", "greenlets"), metavar="auto|compiled|callbacks|greenlets",
    ),
    Setting(
        "drain_after", ("worker",), "Leave, with exit code 0, after having had nothing to do for so long.", "never",
        _duration(0, _LONGEST_DRAIN_NS), "_ns", "DURATION",
    ),
    Setting(
        "server", ("worker", "client"), "The scheduler's HTTP address.", "that of LOADS_HOME's scheduler",
        _matching(r"https?://[^\s/?#]+/?", "http://HOST:PORT"), metavar="URL", url=True,
    ),
    Setting(
        "token", ("worker", "client", "scheduler"), "Lets one in there.", "LOADS_HOME's own",
        metavar="TOKEN", secret=True,
    ),
    Setting(
        "log_format", ("scheduler", "worker"), "How the log on standard error is written: text, or json lines.",
        "text", _one_of("text", "json"), metavar="text|json",
    ),
)  # fmt: skip

BY_NAME: Mapping[str, Setting] = {setting.name: setting for setting in TABLE}
