"""By how much later than its clock a loudspeaker sounds."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nobody has been trimmed."""
    op.add_column(
        "endpoints", sa.Column("trim_us", sa.Integer(), server_default="0", nullable=False)
    )


def downgrade() -> None:
    """All sound by their clocks."""
    op.drop_column("endpoints", "trim_us")
