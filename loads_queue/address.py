"""Where the scheduler of this machine answers HTTP, and the token that lets one in: ``LOADS_HOME/server.json``.

The file is for the user alone and there while the scheduler runs. The token is kept beside it, so that a scheduler
that comes back is reached by those who knew it before.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from .queue import home_folder

SERVER_FILE = "server.json"
TOKEN_FILE = "token"


@dataclass(frozen=True, slots=True)
class Address:
    """A scheduler's HTTP address, as ``http://127.0.0.1:8089``, and its token."""

    url: str
    token: str


def find_server(folder: Path | None = None) -> Address | None:
    """The scheduler that runs on this machine with that folder (by default ``home_folder()``), or None."""
    try:
        found = json.loads(((folder or home_folder()) / SERVER_FILE).read_text())
        address, pid = Address(found["url"], found["token"]), found["pid"]
        if not all(isinstance(each, str) for each in (address.url, address.token)) or type(pid) is not int or pid <= 0:
            return None
        os.kill(pid, 0)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return address


def write_address(folder: Path, address: Address) -> None:
    """Say where this process answers; whole or not at all, for the user alone. Raises OSError."""
    _write_private(
        folder / SERVER_FILE, json.dumps({"url": address.url, "token": address.token, "pid": os.getpid()}) + "\n"
    )


def remove_address(folder: Path) -> None:
    """Take back what ``write_address`` of this process said; another process's word stays."""
    path = folder / SERVER_FILE
    try:
        if json.loads(path.read_text()).get("pid") == os.getpid():
            path.unlink()
    except (OSError, ValueError, AttributeError):
        return


def kept_token(folder: Path) -> str:
    """The folder's token, made at random where it has none. Raises OSError."""
    path = folder / TOKEN_FILE
    try:
        if token := path.read_text().strip():
            return token
    except FileNotFoundError:
        pass
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write_private(path, secrets.token_urlsafe(32) + "\n")
    return path.read_text().strip()


def _write_private(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    part.replace(path)
