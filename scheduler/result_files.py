"""Where results go: their folder, files that are written whole or not at all, and words to a reader who may be gone."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .results import EXIT_USAGE
from .results_timeline import timeline_csv


class OutputError(Exception):
    """The files can't be written where they should be."""

    exit_code = EXIT_USAGE


def deliver(found: Mapping[str, Any], out: Path, quiet: bool, problems: Sequence[str] = ()) -> int:
    """Write a summary's files into a folder and print how it went; returns the exit code that goes with it."""
    from . import output

    files = (out / "summary.json", out / "timeline.csv")
    text = json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    written = write_whole(files[0], text) and write_whole(files[1], timeline_csv(found["timeline"]))
    for problem in problems:
        say(f"loads: {problem}", error=True)
    console = output.console()
    with reader_may_be_gone():
        if quiet:
            console.print(output.verdict_line(found), files[0] if written else "", soft_wrap=True)
        else:
            console.print(output.report(found, files if written else ()))
    code: int = found["exit_code"]
    return code if written else code or EXIT_USAGE


def user() -> str:
    """Who runs this process, for people."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def say(text: str, error: bool = False) -> None:
    """A line on standard output, or on standard error."""
    with reader_may_be_gone():
        stream = sys.stderr if error else sys.stdout
        stream.write(text + "\n")
        stream.flush()


@contextlib.contextmanager
def reader_may_be_gone() -> Iterator[None]:
    """Go on where our output goes nowhere any more (``| head``, a full disk): the files are the result."""
    try:
        yield
    except SystemExit:
        # This is how rich ends a program whose reader is gone; it has put /dev/null in the place of the output.
        return
    except OSError as error:
        # What is still buffered would raise again at the interpreter's end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            with contextlib.suppress(OSError):
                sys.stderr.write(f"loads: can't write to standard output: {error.strerror}\n")


def write_whole(path: Path, text: str) -> bool:
    """Write a file, whole or not at all; a failure is told and returned, since the run itself is over."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        say(f"loads: can't write {path}: {error.strerror}", error=True)
        return False
    return True


@contextlib.contextmanager
def results_folder(out: Path) -> Iterator[None]:
    """Make the folder for the results before anything starts; where none came, take it away again."""
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not os.access(out, os.W_OK | os.X_OK):
            raise PermissionError(13, os.strerror(13))
    except OSError as error:
        raise OutputError(f"can't write results to {out}: {error.strerror}: give --out DIR") from None
    try:
        yield
    finally:
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()
