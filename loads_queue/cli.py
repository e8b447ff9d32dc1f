"""The ``loads`` command: it gathers its subcommands from the entry-point group ``loads.commands``.

A subcommand's module is imported when it is called (or its help is shown), so that none pays for another, and no
package of ours imports another for it. An exception with an ``exit_code`` is a message for people: it is printed
without a traceback and ends the command with that code.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

GROUP = "loads.commands"


class Commands(click.Group):
    """The subcommands of all installed distributions, by the names of their entry points."""

    @cached_property
    def points(self) -> dict[str, EntryPoint]:
        """Every entry point of the group, by name."""
        return {point.name: point for point in entry_points(group=GROUP)}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, sorted."""
        return sorted(self.points)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one subcommand."""
        point = self.points.get(cmd_name)
        if point is None:
            return None
        command: click.Command = point.load()
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but an unknown name gets the nearest known one."""
        if args[0] not in self.points and not args[0].startswith("-"):
            near = get_close_matches(args[0], self.points, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else "'loads --help' lists the commands."
            ctx.fail(f"No such command {args[0]!r}. {hint}")
        return super().resolve_command(ctx, args)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def loads() -> None:
    """Run load tests on one machine or many; every planned request is accounted for."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code: 2 for a wrong call, 130 after Ctrl-C."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that knows no more than ASCII or Latin-1 gets question marks, never a traceback.
        sys.stdout.reconfigure(errors="replace")
    try:
        code = loads.main(args, prog_name="loads", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except Exception as error:
        code = _told(error)
    sys.exit(code if isinstance(code, int) else 0)


def _told(error: Exception) -> int:
    """Print an exception that is meant for people and give its exit code; any other goes on."""
    code: Any = getattr(error, "exit_code", None)
    if not isinstance(code, int):
        raise error
    problems = getattr(error, "problems", ())
    if len(problems) > 1:
        click.echo(f"{error}\nloads: {len(problems)} problems; nothing was started", err=True)
    else:
        click.echo(f"loads: {error}", err=True)
    return code
