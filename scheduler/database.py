"""Opening a database: SQLite or PostgreSQL, made or migrated to what this program needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from . import tables


class StoreError(Exception):
    """The database can't be used; the text says why, for people."""

    exit_code = 4


def open_engine(url: str, read_only: bool = False) -> Engine:
    """An engine on a database that has this program's tables; raises StoreError."""
    try:
        engine = create_engine(url)
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _sqlite_settings)
        if not read_only:
            with engine.begin() as connection:
                _prepare(connection)
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise StoreError(f"database {_shown(url)}: {error}: give sqlite:///FILE or postgresql://...") from None
    except DBAPIError as error:
        raise StoreError(f"database {_shown(url)}: {error.orig}") from None
    return engine


def _shown(url: str) -> str:
    """A database URL without its password."""
    head, _, tail = url.rpartition("@")
    return f"{head.split('://')[0]}://...@{tail}" if head else url


def _sqlite_settings(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout = 5000")
    cursor.execute("PRAGMA journal_mode = WAL")
    # WAL with NORMAL survives a kill of every process; only a power cut may take the last commits back.
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.close()


def _prepare(connection: Connection) -> None:
    """Make the tables in an empty database, which costs no import of Alembic; migrate an older one."""
    present = inspect(connection).get_table_names()
    if not present:
        tables.metadata.create_all(connection)
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
        connection.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": tables.HEAD})
        return
    stands = None
    if "alembic_version" in present:
        stands = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if stands is None:
        raise StoreError("the database has tables that are not Loads'; give it one of its own")
    if stands != tables.HEAD:
        migrate(connection)


def migrate(connection: Connection, revision: str = "head") -> None:
    """Run the migrations that a database lacks; raises StoreError for one that a newer Loads has made."""
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, revision)
    except CommandError as error:
        raise StoreError(f"the database was made by another version of Loads: {error}") from None
