"""``loads validate``, ``loads schema`` and ``loads init``: what can be done with a plan before it runs."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.argument("file")
@click.option("--plan", "plan_name", help="Only this plan of the file; default: all of them.")
@click.option("--set", "sets", multiple=True, metavar="NAME=VALUE", help="A plan-time name; as often as needed.")
@click.pass_context
def validate(context: click.Context, file: str, plan_name: str | None, sets: tuple[str, ...]) -> None:
    """List every problem of a plan FILE, each with its path and line. Exit 2 where there is one."""
    from loads_queue.model.problems import PlanError

    from . import planfile
    from .overrides import Overrides, parse_sets

    try:
        loaded = planfile.read_all(file, plan_name, Overrides(sets=parse_sets(sets)))
    except PlanError as error:
        for problem in error.problems:
            click.echo(str(problem), err=True)
        count = len(error.problems)
        click.echo(f"{file}: {count} problem{'' if count == 1 else 's'}", err=True)
        context.exit(error.exit_code)
    for one in loaded:
        for warning in one.warnings:
            click.echo(f"warning: {warning}", err=True)
        steps = len(one.plan.steps)
        click.echo(f"{file}: {one.plan.name}: {steps} step{'' if steps == 1 else 's'}, no problems")


@click.command()
def schema() -> None:
    """Print the JSON Schema of plan files, for editors."""
    from loads_queue.model.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


@click.command()
@click.argument("file", default="loads.yaml", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--force", is_flag=True, help="Write over a file that is there.")
def init(file: Path, force: bool) -> None:
    """Write a commented plan to FILE (loads.yaml) to start from."""
    from .plan_template import TEMPLATE

    try:
        with file.open("w" if force else "x", encoding="utf-8") as out:
            out.write(TEMPLATE)
    except FileExistsError:
        raise click.UsageError(f"{file} is there already: choose another name, or --force") from None
    except OSError as error:
        raise click.UsageError(f"can't write {file}: {error.strerror}") from None
    click.echo(f"wrote {file}; next: loads demo-target in another terminal, and loads run {file}")
