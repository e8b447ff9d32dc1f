"""Alembic migrations of the store; run by ``database.open_engine`` when a database is older than this program."""
