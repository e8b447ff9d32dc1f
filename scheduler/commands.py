"""The commands ``loads scheduler`` and ``loads api``; what they need is imported when they run, after gevent has
patched the process."""

from __future__ import annotations

from pathlib import Path

import click

from loads_queue.options import option, settings_of

_PARENT = click.option(
    "--parent-fd", type=click.IntRange(0), hidden=True, help="End when this descriptor reaches end-of-file."
)
_HOSTS = click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="A further name by which clients ask for this server (a proxy's, say); may be repeated.",
)


@click.command()
@option("broker")
@option("queue_prefix")
@option("db")
@option("listen")
@_HOSTS
@option("token")
@option("files")
@click.option(
    "--load",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    metavar="FILE",
    help="Store this project's plans, to be run by name; those that are stored already are kept. May be repeated.",
)
@option("lease_ttl")
@option("max_attempts")
@option("log_format")
@_PARENT
def scheduler(hosts: tuple[str, ...], load: tuple[Path, ...], parent_fd: int | None, **flags: str | None) -> None:
    """Take jobs, offer their shards to workers, and keep the ledger.

    Without options it needs nothing: it starts a broker of its own and keeps everything in LOADS_HOME. It answers
    `loads submit`, `loads status` and the other client commands over HTTP, which need a token; on this machine they
    find it by themselves. When ready it says so on standard output: to a terminal in words, else as one JSON line.

    SIGTERM and Ctrl-C end it and what it started; runs go on when it is started again, or on another scheduler that
    waits on the same database. Prefer LOADS_BROKER, LOADS_DB and LOADS_TOKEN to the options where they hold secrets:
    arguments can be read by every user of the machine.
    """
    settings = settings_of(flags)
    from gevent import monkey

    monkey.patch_all()
    from .launch import launch

    launch(settings, load, hosts, parent_fd)


@click.command(hidden=True)
@option("db")
@option("listen")
@option("files")
@option("token")
@option("lease_ttl")
@option("log_format")
@_HOSTS
@_PARENT
def api(hosts: tuple[str, ...], parent_fd: int | None, **flags: str | None) -> None:
    """Answer HTTP for a scheduler, which starts this itself."""
    settings = settings_of(flags)
    from gevent import monkey

    monkey.patch_all()
    from .api.serve import serve

    serve(settings, hosts, parent_fd)
