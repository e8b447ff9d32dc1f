"""Options of the command line that are settings: one decorator each, with flag and help from the table.

The options hand their texts over as they are, or None; ``settings_of`` reads them together with the environment:

    @click.command()
    @option("broker")
    @option("slots")
    @click.option("--parent-fd", type=int)
    def worker(parent_fd: int | None, **flags: str | None) -> None:
        settings = settings_of(flags)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from .settings import BY_NAME, Settings, read_settings

F = TypeVar("F", bound=Callable[..., Any])


def option(name: str) -> Callable[[F], F]:
    """The option of a setting, for a click command; its parameter is the setting's name."""
    setting = BY_NAME[name]
    assert setting.flag is not None, f"{setting.env} has no flag"
    return click.option(
        setting.flag,
        setting.name,
        metavar=setting.metavar,
        help=f"{setting.help}  [env {setting.env}; default: {setting.default}]",
    )


def settings_of(flags: Mapping[str, object] | None = None) -> Settings:
    """The settings of this process, with the texts that its options were given. Raises SettingsError."""
    return read_settings(os.environ, flags)
