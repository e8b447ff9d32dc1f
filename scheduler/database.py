"""Opening a database: SQLite or PostgreSQL, made or migrated to what this program needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from loads_queue.settings import without_password

from . import tables


class StoreError(Exception):
    """The database can't be used; the text says why, for people."""

    exit_code = 4


def open_engine(url: str, read_only: bool = False) -> Engine:
    """An engine on a database that has this program's tables; raises StoreError."""
    try:
        engine = _engine(url)
        if not read_only:
            with engine.begin() as connection:
                _alone(connection)
                _prepare(connection)
    except ImportError as error:
        raise StoreError(
            f"database {without_password(url)}: {error}: postgresql:// needs pip install 'loads-cluster[postgres]'"
        ) from None
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        # A port that is no number is a ValueError of SQLAlchemy's.
        raise StoreError(
            f"database {without_password(url)}: {error}: give sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"
        ) from None
    except DBAPIError as error:
        raise StoreError(f"database {without_password(url)}: {' '.join(str(error.orig).split())}") from None
    return engine


def _engine(text: str) -> Engine:
    url = make_url(text)
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() != "postgresql":
        engine = create_engine(url)
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _sqlite_settings)
        return engine
    # What the URL says itself is left alone. A server that goes away without a word must not hold us for ever.
    given = {name: value for name, value in _POSTGRES.items() if name not in url.query}
    return create_engine(url, pool_pre_ping=True, connect_args=given)


_POSTGRES = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "application_name": "loads",
}


def _alone(connection: Connection) -> None:
    """Keep others that open the same empty database out until the end of the transaction."""
    if connection.dialect.name == "sqlite":
        # Python's module would begin a transaction only at the first INSERT, and make each table in one of its own.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    elif connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


_LOCK = 0x4C6F616473
"""An advisory lock's number; any will do that nobody else uses in a database of ours."""


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
