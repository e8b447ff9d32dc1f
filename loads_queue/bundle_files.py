"""Which files a test needs in its bundle, by name below a root; ``bundle`` packs them.

Everything here reads the file system and raises BundleError, whose text is for people. What a test imports is not
followed: what is neither beside it as pytest wants it, nor in its requirements, is named by ``include``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from .bundle import BundleError, Contents, inside, name_problem, shown

NEVER = frozenset({".git", ".hg", ".svn", ".venv", "__pycache__", "loads-results"})
"""Nothing from folders of these names, nor from a virtual environment of another name, gets into a bundle."""
REQUIREMENTS = "requirements.txt"

_PYTEST_SETTINGS = {
    "pytest.ini": "", ".pytest.ini": "", "pyproject.toml": "[tool.pytest", "tox.ini": "[pytest]",
    "setup.cfg": "[tool:pytest]",
}  # fmt: skip
"""Where pytest looks for its settings, in its order, and what such a file has in it."""
_EVERYTHING = ("**", "*")
_NESTED = re.compile(r"\s*(?:-r|--requirement\b)[\s=]*(\S.*?)\s*(?:\s#.*)?")
_DEEPEST = 20
"""Requirements files that name one another; more is a circle, or as bad."""

Root = str | os.PathLike[str]


def collect(root: Root, test: str, include: Iterable[str] = (), requirements: str | None = None) -> list[str]:
    """The names of the files that a test needs, relative to ``root`` and in order.

    They are: the test's file (or the Python files of its folder), the ``__init__.py`` of the packages that it is in,
    each ``conftest.py`` from there up to ``root``, pytest's settings file, what ``include`` matches, and the
    requirements file with those that it names. In ``include`` ``*``, ``?`` and ``[...]`` are as in a shell, and stand
    for no name that begins with a dot; ``**`` is any folders, but not through links; a folder's name means everything
    in it. Raises BundleError where one leads out of ``root`` or matches nothing, or where they are too many.
    """
    base = os.path.realpath(root)
    try:
        found = set(_tests(base, locate(base, test)))
        for pattern in include:
            found.update(_included(base, pattern))
        if name := requirements_file(base, test, requirements):
            found.update(file for file, _ in _requirement_lines(base, name, _DEEPEST))
        contents = Contents()
        for name in sorted(found):
            if never := NEVER.intersection(name.split("/")):
                raise BundleError(f"{shown(name)} is in {', '.join(never)}, from where nothing gets into a bundle")
            contents.add(name, os.stat(inside(base, name)).st_size)
    except BundleError as error:
        raise BundleError(f"the bundle of {shown(test)}: {error}") from None
    except OSError as error:
        raise BundleError(f"the bundle of {shown(test)}: {error}") from error
    return sorted(found)


def locate(root: Root, test: str) -> str:
    """The file, or folder, of ``path``, ``path::name`` or ``dotted.name``, relative to ``root``; or BundleError."""
    base = os.path.realpath(root)
    path = test.partition("::")[0]
    name = os.path.normpath(path) if path else ""
    if name and os.path.lexists(os.path.join(base, name)):
        if problem := name_problem(name):
            raise BundleError(f"{shown(name)} {problem}: give the test's path below {base}")
        inside(base, name)
        return name
    parts = path.split(".")
    for count in range(len(parts) if all(part.isidentifier() for part in parts) else 0, 0, -1):
        stem = "/".join(parts[:count])
        for name in (f"{stem}.py", f"{stem}/__init__.py"):
            if os.path.isfile(os.path.join(base, name)):
                return name
    raise BundleError(f"there is no test {shown(test)} below {base}: give PATH::NAME or MODULE.NAME as seen from there")


def requirements_file(root: Root, test: str, requirements: str | None = None) -> str | None:
    """The requirements file of a test, relative to ``root``: the one that is told, or that beside it, if there is one.

    ``""`` tells that it has none. Raises BundleError where there is no such file.
    """
    base = os.path.realpath(root)
    if requirements is None:
        own = locate(base, test)
        folder = own if os.path.isdir(os.path.join(base, own)) else os.path.dirname(own)
        name = _join(folder, REQUIREMENTS)
        return name if os.path.isfile(os.path.join(base, name)) else None
    return _requirements_name(base, requirements) if requirements else None


def read_requirements(root: Root, name: str) -> str:
    """The text of a requirements file, with that of the files it names by ``-r`` in their place; or BundleError."""
    base = os.path.realpath(root)
    return "".join(f"{line}\n" for _, line in _requirement_lines(base, name, _DEEPEST) if line is not None)


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


# The test itself


def _tests(base: str, own: str) -> Iterator[str]:
    if os.path.isdir(os.path.join(base, own)):
        yield from _matching(base, own, ("**", "*.py"))
        folder = own
    else:
        yield own
        folder = os.path.dirname(own)
    yield from _around(base, folder)


def _around(base: str, folder: str) -> Iterator[str]:
    """What concerns the tests of a folder, from there up to the root."""
    in_package, settings = True, False
    while True:
        here = os.path.join(base, folder)
        in_package = in_package and os.path.isfile(os.path.join(here, "__init__.py"))
        if in_package:
            yield _join(folder, "__init__.py")
        if os.path.isfile(os.path.join(here, "conftest.py")):
            yield _join(folder, "conftest.py")
        if not settings and (name := _pytest_settings(here)):
            settings = True
            yield _join(folder, name)
        if not folder:
            return
        folder = os.path.dirname(folder)


def _pytest_settings(folder: str) -> str | None:
    for name, mark in _PYTEST_SETTINGS.items():
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            with open(path, encoding="utf-8", errors="replace") as file:
                if mark in file.read():
                    return name
    return None


# What is included


def _included(base: str, pattern: str) -> set[str]:
    parts = pattern.split("/")
    if pattern.startswith("/") or ".." in parts:
        raise BundleError(f"include {shown(pattern)} leads out of {base}: give a pattern relative to it")
    parts = [part for part in parts if part not in ("", ".")]
    found = set(_matching(base, "", tuple(parts) or _EVERYTHING))
    if not found:
        raise BundleError(f"include {shown(pattern)} matches no file below {base}")
    return found


def _matching(base: str, folder: str, parts: tuple[str, ...]) -> Iterator[str]:
    """The files below a folder that a pattern matches."""
    first, rest = parts[0], parts[1:]
    if first == "**":
        while rest[:1] == ("**",):
            rest = rest[1:]
        rest = rest or ("*",)
        yield from _matching(base, folder, rest)
    for entry in sorted(os.scandir(os.path.join(base, folder)), key=lambda entry: entry.name):
        name = _join(folder, entry.name)
        if entry.name in NEVER or not _fits(entry.name, "*" if first == "**" else first):
            continue
        if first == "**":
            if entry.is_dir(follow_symlinks=False) and not _is_environment(entry):
                yield from _matching(base, name, ("**", *rest))
        elif rest or (entry.is_dir() and not _is_wild(first)):
            if entry.is_dir() and not _is_environment(entry):
                inside(base, name)
                yield from _matching(base, name, rest or _EVERYTHING)
        elif entry.is_file() or (entry.is_symlink() and not os.path.exists(entry)):
            inside(base, name)
            yield name


def _fits(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) and (name[:1] != "." or pattern[:1] == ".")


def _is_wild(pattern: str) -> bool:
    return any(letter in pattern for letter in "*?[")


def _is_environment(entry: os.DirEntry[str]) -> bool:
    return os.path.isfile(os.path.join(entry.path, "pyvenv.cfg"))


# Requirements


def _requirements_name(base: str, name: str) -> str:
    name = os.path.normpath(name)
    if problem := name_problem(name):
        raise BundleError(f"the requirements file {shown(name)} {problem}")
    if not os.path.isfile(inside(base, name)):
        raise BundleError(f"there is no requirements file {shown(name)} below {base}")
    return name


def _requirement_lines(base: str, name: str, depth: int) -> Iterator[tuple[str, str | None]]:
    """(file, line) of a requirements file and all that it names; (file, None) where a file begins."""
    name = _requirements_name(base, name)
    if not depth:
        raise BundleError(f"the requirements file {shown(name)} is named by itself, or through too many others")
    yield name, None
    try:
        with open(os.path.join(base, name), encoding="utf-8-sig") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"the requirements file {shown(name)} can't be read: {error}") from error
    for line in lines:
        nested = _NESTED.fullmatch(line)
        if nested is None:
            yield name, line
        elif "://" in nested[1]:
            raise BundleError(f"the requirements file {shown(name)} names {shown(nested[1])}: copy that file here")
        else:
            yield from _requirement_lines(base, os.path.join(os.path.dirname(name), nested[1]), depth - 1)
