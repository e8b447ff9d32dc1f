"""The store's tables. A change here needs a migration in ``migrations/versions``; a test compares the two.

Columns bear the names of the fields that they hold. What is nested stands in JSON columns; what is looked for or
sorted by has columns of its own. Times are Unix nanoseconds.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    false,
)

HEAD = "0003"
"""The newest migration; a fresh database is made from these tables and stamped with it."""

metadata = MetaData()

Serial = BigInteger().with_variant(Integer, "sqlite")
"""A number that the database gives. SQLite gives the highest again once its row is gone, PostgreSQL never.

That matters where people name a row by it (``dead_letters``: AUTOINCREMENT). Elsewhere it does not: orders and projects
stay, the events of a run go with the run and are numbered within it, and what an earlier scheduler knows of the outbox
counts no longer (``Store.sent``).
"""

epochs = Table(
    "epochs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("holder", String(200), nullable=False),
    Column("renewed_at", BigInteger, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("id", String(200), primary_key=True),
    Column("project", Text, nullable=False),
    Column("plan_name", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("document", JSON, nullable=False),
    Column("env", JSON, nullable=False),
    Column("files", JSON, nullable=False),
    Column("workers", Integer),
    Column("created_at", BigInteger, nullable=False),
    Column("state", String(20), nullable=False, index=True),
    Column("reason", Text, nullable=False),
    Column("outcome", String(20), nullable=False),
    Column("waiting_since", BigInteger),
    Column("starting_at", BigInteger),
    Column("start_at", BigInteger),
    Column("stop_at", BigInteger),
    Column("stop_grace_ns", BigInteger, nullable=False),
    Column("changes", JSON, nullable=False),
    Column("load_over_at", BigInteger),
    Column("ended_at", BigInteger),
    Column("shards", JSON, nullable=False),
)

shards = Table(
    "shards",
    metadata,
    Column("run", String(200), primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("index", Integer, primary_key=True),
    Column("state", String(20), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("losses", Integer, nullable=False),
    Column("offered_at", BigInteger),
    Column("claim", String(200)),
)

claims = Table(
    "claims",
    metadata,
    Column("id", String(200), primary_key=True),
    Column("run", String(200), nullable=False, index=True),
    Column("step", Integer, nullable=False),
    Column("shard", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("worker", String(200), nullable=False),
    Column("incarnation", String(200), nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("turns", JSON, nullable=False),
    Column("granted_at", BigInteger, nullable=False),
    Column("advanced_at", BigInteger, nullable=False),
    Column("state", String(20), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("snapshot", BigInteger, nullable=False),
    Column("permit_until_ns", BigInteger),
    Column("bound_iterations", BigInteger, nullable=False),
    Column("bound_requests", BigInteger, nullable=False),
    Column("totals", JSON, nullable=False),
    Column("health", JSON, nullable=False),
    Column("warnings", JSON, nullable=False),
    Column("end", JSON),
    Column("end_sequence", BigInteger, nullable=False),
    Column("holed", Boolean, nullable=False, server_default=false()),
)

workers = Table(
    "workers",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("incarnation", String(200), nullable=False),
    Column("hello", JSON),
    Column("slots", Integer, nullable=False),
    Column("clock", JSON, nullable=False),
    Column("health", JSON, nullable=False),
    Column("former", JSON, nullable=False),
    Column("applied", BigInteger, nullable=False),
    Column("ahead", JSON, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("last_report_at", BigInteger, nullable=False),
    Column("report_sequence", BigInteger, nullable=False),
    Column("report_sent_at", BigInteger, nullable=False),
    Column("control_at", BigInteger, nullable=False),
    Column("leaving", Boolean, nullable=False),
    Column("refused", Text, nullable=False),
    Column("refusals", JSON, nullable=False),
)

rows = Table(
    "rows",
    metadata,
    Column("claim", String(200), primary_key=True),
    Column("second", Integer, primary_key=True),
    Column("run", String(200), nullable=False),
    Column("step", Integer, nullable=False),
    Column("shard", Integer, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Index("rows_by_run", "run", "version"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("queue", String(200), nullable=False),
    Column("body", Text, nullable=False),
)

inbox = Table(
    "inbox",
    metadata,
    Column("id", String(200), primary_key=True),
    Column("at", BigInteger, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("run", String(200), nullable=False, index=True),
    Column("at", BigInteger, nullable=False),
    Column("who", Text, nullable=False),
    Column("what", Text, nullable=False),
)

orders = Table(
    "orders",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("run", String(200), nullable=False),
    Column("action", String(20), nullable=False),
    Column("args", JSON, nullable=False),
    Column("who", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("taken", Boolean, nullable=False, index=True),
)

summaries = Table(
    "summaries",
    metadata,
    Column("run", String(200), primary_key=True),
    Column("verdict", String(20), nullable=False),
    Column("exit_code", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

projects = Table(
    "projects",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("name", String(200), nullable=False, unique=True),
    Column("document", JSON, nullable=False),
    Column("owner", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("queue", String(200), nullable=False),
    Column("kind", String(40), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("body", Text, nullable=False),
    sqlite_autoincrement=True,
)
