"""What all client commands share: where the scheduler is, JSON for scripts, and what they print."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from loads_queue.options import option, settings_of

if TYPE_CHECKING:
    from rich.console import RenderableType

    from .server import Server

Command = TypeVar("Command", bound=Callable[..., Any])


def to_server(command: Command) -> Command:
    """The options ``--server`` and ``--token``, as parameters of these names."""
    return option("server")(option("token")(command))


as_json = click.option("--json", "as_json", is_flag=True, help="Print what the API answers, for scripts.")


def connected(server: str | None, token: str | None) -> Server:
    """The scheduler that the options, the environment or this machine name; raises ServerError, SettingsError."""
    from .server import server_of

    return server_of(settings_of({"server": server, "token": token}))


def now() -> datetime.datetime:
    """The time, as what the API answers is compared with it."""
    return datetime.datetime.now(datetime.UTC)


def show_json(value: Any) -> None:
    """A value on standard output, as JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def show(*parts: RenderableType) -> None:
    """Things on standard output, as wide as the terminal."""
    from .. import output
    from ..result_files import reader_may_be_gone

    console = output.console()
    with reader_may_be_gone():
        for part in parts:
            console.print(part)
