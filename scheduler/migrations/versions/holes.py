"""A claim remembers whether Reports of it were missing when its run became final."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column; of runs that are final nothing was missing that is still known."""
    op.add_column("claims", sa.Column("holed", sa.Boolean(), nullable=False, server_default=sa.false()))
