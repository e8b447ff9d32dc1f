"""The client commands that look: ``info``, ``status``, ``watch``, ``report``, ``workers`` and ``plans``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from .options import as_json, connected, now, show, show_json, to_server


@click.command()
@to_server
@as_json
def info(server: str | None, token: str | None, as_json: bool) -> None:
    """Show the cluster at a glance: who acts, workers, slots, runs."""
    reached = connected(server, token)
    found = reached.get("/info")
    if as_json:
        show_json(found)
        return
    from . import tables

    show(tables.info(found, reached.url))


@click.command()
@click.argument("run", required=False)
@click.option("--state", metavar="STATE", help="Runs in this state only; `active` are all that are not finished.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@to_server
@as_json
def status(
    run: str | None, state: str | None, limit: int, server: str | None, token: str | None, as_json: bool
) -> None:
    """Show a RUN and what has happened to it; without one, the newest runs."""
    from .server import path_of

    reached = connected(server, token)
    if run is None:
        found = reached.get("/runs", state=state, limit=limit)
        events = None
    else:
        found = reached.get(path_of(run))
        events = reached.get(path_of(run, "events"))["events"]
    if as_json:
        show_json(found if events is None else {**found, "events": events})
        return
    from . import tables

    if events is None:
        show(tables.runs(found["runs"], now()))
    else:
        show(*tables.run(found, events))


@click.command()
@click.argument("run")
@to_server
@as_json
def watch(run: str, server: str | None, token: str | None, as_json: bool) -> None:
    """Show a RUN live until it ends; Ctrl-C goes away and leaves it alone.

    Exits with the run's own code, or 130 after Ctrl-C. With --json: how it stands now, once.
    """
    from .server import path_of

    reached = connected(server, token)
    if as_json:
        show_json(reached.get(path_of(run, "live")))
        return
    from .follow import watch as follow

    sys.exit(follow(reached, run))


@click.command()
@click.argument("run")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Write summary and timeline there."
)
@click.option("--quiet", "-q", is_flag=True, help="Print the verdict only.")
@to_server
@as_json
def report(run: str, out: Path | None, quiet: bool, server: str | None, token: str | None, as_json: bool) -> None:
    """Say how a RUN went that is finished, and exit with its code. --json prints its summary."""
    from .follow import summary_of

    found = summary_of(connected(server, token), run)
    if as_json:
        show_json(found)
    elif out is not None:
        from ..result_files import deliver, results_folder

        with results_folder(out):
            sys.exit(deliver(found, out, quiet))
    else:
        from .. import output

        show(output.verdict_line(found) if quiet else output.report(found, ()))
    sys.exit(found["exit_code"])


@click.command()
@click.option("--all", "everyone", is_flag=True, help="Those that are gone, too.")
@to_server
@as_json
def workers(everyone: bool, server: str | None, token: str | None, as_json: bool) -> None:
    """List the workers, their slots and when they were heard last."""
    found = connected(server, token).get("/workers")
    if as_json:
        show_json(found)
        return
    from . import tables

    show(tables.workers(found["workers"], now(), everyone))


@click.command()
@click.option(
    "--load", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE", help="Store its plans."
)
@click.option("--replace", is_flag=True, help="With --load: instead of those that are stored by the same name.")
@to_server
@as_json
def plans(load: Path | None, replace: bool, server: str | None, token: str | None, as_json: bool) -> None:
    """List the stored plans, which `loads submit NAME` runs; or store those of a FILE."""
    reached = connected(server, token)
    if load is not None:
        from .follow import store_plans

        found = store_plans(reached, load, replace)
        if as_json:
            show_json(found)
            return
        for word in ("added", "replaced", "kept"):
            for name in found[word]:
                click.echo(f"{word} {found['name']}/{name}")
        return
    found = reached.get("/plans")
    if as_json:
        show_json(found)
        return
    from . import tables

    show(tables.plans(found["plans"]))
