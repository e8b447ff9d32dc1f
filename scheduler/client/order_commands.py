"""The client commands that change a run: ``abort``, ``pause``, ``resume``, ``adjust`` and ``delete``."""

from __future__ import annotations

from typing import Any

import click

from .options import as_json, connected, show_json, to_server


@click.command()
@click.argument("run")
@click.option("--terminate", is_flag=True, help="What is in flight gets no time to end.")
@to_server
@as_json
def abort(run: str, terminate: bool, server: str | None, token: str | None, as_json: bool) -> None:
    """End a RUN now: nothing new starts, and what is in flight gets a second."""
    found = _post(server, token, run, "abort", terminate=terminate)
    over = found["state"] == "finished"
    _told(found, as_json, f"{run} is over already" if over else f"{run} is being aborted: loads status {run}")


@click.command()
@click.argument("run")
@to_server
@as_json
def pause(run: str, server: str | None, token: str | None, as_json: bool) -> None:
    """Have a RUN start nothing until it is resumed. Its schedule goes on: what falls due meanwhile is not planned."""
    _told(_post(server, token, run, "pause"), as_json, f"{run} will pause: loads resume {run} has it go on")


@click.command()
@click.argument("run")
@to_server
@as_json
def resume(run: str, server: str | None, token: str | None, as_json: bool) -> None:
    """Have a paused RUN go on as its plan says."""
    _told(_post(server, token, run, "resume"), as_json, f"{run} will go on")


@click.command()
@click.argument("run")
@click.option("--factor", required=True, metavar="F", help="Of the plan's load: 1.5, 3/2 or 150%.")
@click.option("--step", metavar="STEP", help="One step.  [default: all of them]")
@to_server
@as_json
def adjust(run: str, factor: str, step: str | None, server: str | None, token: str | None, as_json: bool) -> None:
    """Multiply the load of a RUN that goes on; factors replace each other, they don't multiply."""
    found = _post(server, token, run, "adjust", factor=factor, step=step)
    _told(found, as_json, f"{run}: {step or 'every step'} will have {factor} of its load")


@click.command()
@click.argument("run")
@to_server
@as_json
def delete(run: str, server: str | None, token: str | None, as_json: bool) -> None:
    """Delete a RUN that is finished, with everything that it measured."""
    from ..result_files import user
    from .server import path_of

    found = connected(server, token).call("DELETE", path_of(run), query={"who": user()})
    _told(found, as_json, f"{run} will be deleted")


def _post(server: str | None, token: str | None, run: str, action: str, **body: Any) -> Any:
    from ..result_files import user
    from .server import path_of

    return connected(server, token).post(path_of(run, action), who=user(), **body)


def _told(found: Any, as_json: bool, text: str) -> None:
    if as_json:
        show_json(found)
    else:
        click.echo(text)
