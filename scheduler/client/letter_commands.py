"""The command ``loads dead-letters`` and its subcommands."""

from __future__ import annotations

import click

from .options import as_json, connected, now, show, show_json, to_server


@click.group("dead-letters")
def dead_letters() -> None:
    """Look at messages that could not be taken in; try them again or delete them."""


@dead_letters.command("list")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@to_server
@as_json
def list_letters(limit: int, server: str | None, token: str | None, as_json: bool) -> None:
    """List them, newest first."""
    found = connected(server, token).get("/dead-letters", limit=limit)
    if as_json:
        show_json(found)
        return
    from . import tables

    show(tables.dead_letters(found["dead_letters"], now()))


@dead_letters.command("show")
@click.argument("ident", type=click.IntRange(1), metavar="ID")
@to_server
@as_json
def show_letter(ident: int, server: str | None, token: str | None, as_json: bool) -> None:
    """Show one with its body."""
    found = connected(server, token).get(f"/dead-letters/{ident}")
    if as_json:
        show_json(found)
        return
    from . import tables

    show(*tables.dead_letter(found))


@dead_letters.command("requeue")
@click.argument("ident", type=click.IntRange(1), metavar="ID")
@to_server
@as_json
def requeue(ident: int, server: str | None, token: str | None, as_json: bool) -> None:
    """Put one on its queue once more, once what was wrong is mended."""
    from ..result_files import user

    found = connected(server, token).post(f"/dead-letters/{ident}/requeue", who=user())
    show_json(found) if as_json else click.echo(f"dead letter {ident} will be put on {found['queue']} again")


@dead_letters.command("delete")
@click.argument("ident", type=click.IntRange(1), metavar="ID")
@to_server
@as_json
def discard(ident: int, server: str | None, token: str | None, as_json: bool) -> None:
    """Delete one for good."""
    from ..result_files import user

    found = connected(server, token).call("DELETE", f"/dead-letters/{ident}", query={"who": user()})
    show_json(found) if as_json else click.echo(f"dead letter {ident} will be deleted")
