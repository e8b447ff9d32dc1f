"""The commands ``loads worker`` and ``loads demo-target``; what they need is imported when they run."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option(
    "--broker",
    envvar="LOADS_BROKER",
    metavar="URL",
    help="The broker's address.  [env LOADS_BROKER; default: that of the `loads broker` which runs here]",
)
@click.option("--slots", type=click.IntRange(1), help="Engines at once.  [default: the number of processors]")
@click.option("--name", help="The worker's name, unique on its broker.  [default: made up from the host's]")
@click.option("--region", default="any", show_default=True, help="Take the steps of this region, and those of any.")
@click.option(
    "--files",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the plans' files by digest.  [default: files in LOADS_HOME]",
)
@click.option("--parent-fd", type=click.IntRange(0), hidden=True, help="End when this descriptor reaches end of file.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.pass_context
def worker(
    context: click.Context,
    broker: str | None,
    slots: int | None,
    name: str | None,
    region: str,
    files: Path | None,
    parent_fd: int | None,
    log_format: str,
) -> None:
    """Take load steps from the queue and run them, each in an engine process of its own.

    When ready it prints one line, {"worker": NAME, "slots": N}. SIGTERM and SIGINT end it orderly: engines are
    stopped, their last measurements reported; a second one ends it at once. A plan's ${secret.NAME} is the
    environment variable LOADS_SECRET_NAME of this process. Prefer LOADS_BROKER to --broker: the URL holds a secret,
    and arguments can be read by every user of the machine.
    """
    from gevent import monkey

    monkey.patch_all()
    from .launch import Options, launch

    context.exit(launch(Options(broker, slots, name, region, files, parent_fd, log_format)))


@click.command("demo-target")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 is any free one.")
@click.option("--listen", default="127.0.0.1", show_default=True, metavar="ADDRESS")
def demo_target(port: int, listen: str) -> None:
    """Serve a small HTTP target for trying things out; it prints its URL when it is ready."""
    from gevent import monkey

    monkey.patch_all()
    from .demo_target import serve

    serve(listen, port)
