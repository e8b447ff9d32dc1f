"""The commands ``loads worker`` and ``loads demo-target``; what they need is imported when they run."""

from __future__ import annotations

import click

from loads_queue.options import option, settings_of


@click.command()
@option("broker")
@option("slots")
@option("name")
@option("region")
@option("files")
@option("queue_prefix")
@option("allowed_targets")
@option("engine_path")
@option("server")
@option("drain_after")
@option("log_format")
@click.option("--parent-fd", type=click.IntRange(0), hidden=True, help="End when this descriptor reaches end of file.")
@click.pass_context
def worker(context: click.Context, /, parent_fd: int | None, **flags: str | None) -> None:
    """Take load steps from the queue and run them, each in an engine process of its own.

    When ready it prints one line, {"worker": NAME, "slots": N}. SIGTERM and SIGINT end it orderly: its shards are
    handed back, for others to go on with; a second one ends it at once. A plan's files that are not in --files are
    fetched from --server, with LOADS_TOKEN. A plan's ${secret.NAME} is the environment variable LOADS_SECRET_NAME of
    this process. Prefer LOADS_BROKER to --broker: the URL holds a secret, and arguments can be read by every user of
    the machine.
    """
    settings = settings_of(flags)
    from gevent import monkey

    monkey.patch_all()
    from .launch import launch

    context.exit(launch(settings, parent_fd))


@click.command("demo-target")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 is any free one.")
@click.option("--listen", default="127.0.0.1", show_default=True, metavar="ADDRESS")
def demo_target(port: int, listen: str) -> None:
    """Serve a small HTTP target for trying things out; it prints its URL when it is ready."""
    from gevent import monkey

    monkey.patch_all()
    from .demo_target import serve

    serve(listen, port)
