"""The commands ``loads broker`` and ``loads version``; what they need is imported when they run."""

from __future__ import annotations

import json
from pathlib import Path

import click

CORE = "loads.workers.engines.core_sources"
"""The extension module that the HTTP engine is faster with."""


@click.command()
@click.option(
    "--listen",
    default="127.0.0.1:0",
    show_default=True,
    metavar="127.0.0.1:PORT",
    help="Port 0 is last time's where that is free, else any.",
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for messages and address.  [default: LOADS_HOME, or loads in the user's state folder]",
)
@click.option("--listen-fd", type=click.IntRange(0), help="Accept on this inherited listening socket instead.")
@click.option("--parent-fd", type=click.IntRange(0), help="End when this inherited descriptor reaches end of file.")
def broker(listen: str, data: Path | None, listen_fd: int | None, parent_fd: int | None) -> None:
    """Run the message broker for one machine.

    It is SQS-compatible, listens on 127.0.0.1 alone, and keeps its messages in a file that outlives it. When ready it
    prints one line, {"url": URL}; its URL holds a secret. SIGTERM and SIGINT end it.
    """
    from .embedded import HOST, Settings, serve
    from .queue import home_folder

    host, _, port = listen.rpartition(":")
    if host != HOST or not (port.isascii() and port.isdecimal() and int(port) < 65536):
        raise click.BadParameter(f"{listen!r} is not {HOST}:PORT", param_hint="--listen")
    serve(
        Settings(data or home_folder(), int(port), listen_fd, parent_fd),
        lambda url: click.echo(json.dumps({"url": url})),
    )


@click.command()
def version() -> None:
    """Show the versions of Loads and of what it runs on, and whether the HTTP engine has its compiled core."""
    import platform
    from importlib import import_module
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as version_of

    click.echo(f"loads {version_of('loads-cluster')}")
    click.echo(f"python {platform.python_version()} ({platform.python_implementation()})")
    for name in ("kombu", "boto3", "gevent", "redis"):
        try:
            click.echo(f"{name} {version_of(name)}")
        except PackageNotFoundError:
            click.echo(f"{name} is not installed")
    lacking = import_module(CORE).lack()
    click.echo(f"compiled core {f'{lacking}: the engine runs in Python alone' if lacking else 'is there'}")
    click.echo(f"platform {platform.platform()}")
