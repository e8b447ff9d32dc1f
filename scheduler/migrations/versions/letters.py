"""The id of a dead letter is given once: SQLite would give it again once the newest letter is gone.

PostgreSQL counts on by itself.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_ORDERS = sa.table("orders", sa.column("action", sa.String), sa.column("args", sa.JSON))
_LETTERS = sa.table("dead_letters", sa.column("id", sa.Integer))
_SEQUENCE = sa.table("sqlite_sequence", sa.column("name"), sa.column("seq"))


def upgrade() -> None:
    """Make SQLite's table anew, with AUTOINCREMENT, and go on counting from every id that people have seen."""
    connection = op.get_bind()
    if connection.dialect.name != "sqlite":
        return
    with op.batch_alter_table("dead_letters", recreate="always", table_kwargs={"sqlite_autoincrement": True}):
        pass
    # Letters went only as people ordered it, and the orders are kept.
    asked = sa.select(_ORDERS.c.args).where(_ORDERS.c.action.in_(("requeue", "discard")))
    given = [int(args["id"]) for args in connection.execute(asked).scalars()]
    held = connection.execute(sa.select(sa.func.max(_LETTERS.c.id))).scalar() or 0
    connection.execute(sa.delete(_SEQUENCE).where(_SEQUENCE.c.name == "dead_letters"))
    connection.execute(sa.insert(_SEQUENCE).values(name="dead_letters", seq=max([held, *given])))
