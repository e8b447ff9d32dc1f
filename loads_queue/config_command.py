"""The command ``loads config``: every setting as this environment gives it, and where each comes from."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass

import click

from .address import SERVER_FILE, TOKEN_FILE, find_server
from .queue import ADDRESS_FILE, find_broker
from .settings import FROM_DEFAULT, HIDDEN, TABLE, Setting, Settings, read_settings, unknown_variables


@dataclass(frozen=True, slots=True)
class Line:
    """A setting as it stands; ``value`` is for people, None where there is none."""

    setting: Setting
    value: str | None
    source: str


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead.")
def config(as_json: bool) -> None:
    """Show every setting of this environment, its value, and where that comes from.

    Passwords and secrets are hidden. A flag of a command beats what stands here.
    """
    lines = list(effective(read_settings(os.environ)))
    if as_json:
        shown = [
            {
                "name": line.setting.name,
                "value": line.value,
                "source": line.source,
                "env": line.setting.env,
                "flag": line.setting.flag,
                "of": list(line.setting.of),
                "help": line.setting.help,
            }
            for line in lines
        ]
        click.echo(json.dumps(shown, indent=2))
    else:
        _print_table(lines)
    for problem in unknown_variables(os.environ):
        click.echo(f"loads: {problem}", err=True)


def effective(settings: Settings) -> Iterator[Line]:
    """Every setting, in the table's order, with what a command would find for those that are not set."""
    found = _found(settings)
    for setting in TABLE:
        source = settings.sources[setting.name]
        value = getattr(settings, setting.field)
        if source != FROM_DEFAULT:
            yield Line(setting, setting.shown(value), source)
        elif setting.name in found:
            yield Line(setting, *found[setting.name])
        elif value in (None, ""):
            yield Line(setting, None, f"default: {setting.default}")
        else:
            yield Line(setting, setting.shown(value), FROM_DEFAULT)


def _found(settings: Settings) -> dict[str, tuple[str, str]]:
    """What lies in LOADS_HOME, or belongs to the machine, as (shown, source), by name."""
    found = {"slots": (str(len(os.sched_getaffinity(0))), "default: the number of processors")}
    broker = find_broker(settings.home)
    if broker is not None:
        setting = next(each for each in TABLE if each.name == "broker")
        found["broker"] = (setting.shown(broker), f"{ADDRESS_FILE} in LOADS_HOME")
    server = find_server(settings.home)
    if server is not None:
        found["server"] = (server.url, f"{SERVER_FILE} in LOADS_HOME")
        found["token"] = (HIDDEN, f"{SERVER_FILE} in LOADS_HOME")
    elif (settings.home / TOKEN_FILE).exists():
        found["token"] = (HIDDEN, f"{TOKEN_FILE} in LOADS_HOME")
    return found


def _print_table(lines: list[Line]) -> None:
    rows = [(line.setting.env, line.value if line.value is not None else "-", line.source) for line in lines]
    first, second = (max(len(row[place]) for row in rows) for place in (0, 1))
    for env, value, source in rows:
        click.echo(f"{env:<{first}}  {value:<{min(second, 60)}}  {source}")
