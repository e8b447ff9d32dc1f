"""The scheduler's command; what it needs is imported when it runs, after gevent has patched the process."""

from __future__ import annotations

import click


@click.command()
@click.option("--broker", required=True, metavar="URL", help="The broker's address, as `loads broker` prints it.")
@click.option("--db", required=True, metavar="URL", help="The database, as sqlite:///FILE or postgresql://...")
@click.option("--parent-fd", type=int, hidden=True, help="End when this descriptor reaches end-of-file.")
def scheduler(broker: str, db: str, parent_fd: int | None) -> None:
    """Take jobs, offer their shards to workers, and keep the ledger."""
    from gevent import monkey

    monkey.patch_all()
    from .launch import launch

    launch(broker, db, parent_fd)
