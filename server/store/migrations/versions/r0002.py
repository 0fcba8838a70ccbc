"""Keys of loudspeakers, codes to enrol them with, and what may sound in clear."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Whoever was registered before is so still, and has yet to be enrolled.

    Columns are added to the tables as they are: to make `endpoints` anew, as SQLite would need for
    more, would take every loudspeaker's tags with it.
    """
    op.add_column("endpoints", sa.Column("public_key", sa.LargeBinary(32), nullable=True))
    op.create_index("ix_endpoints_public_key", "endpoints", ["public_key"], unique=True)
    for table in ("endpoints", "zones"):
        op.add_column(
            table, sa.Column("clear", sa.Boolean(), server_default=sa.false(), nullable=False)
        )
    op.create_table(
        "enrolments",
        sa.Column("number", sa.String(8), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("unit", sa.Text(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_enrolments"),
    )


def downgrade() -> None:
    """Loudspeakers are registered still; their keys, and who might have come, are forgotten."""
    op.drop_table("enrolments")
    for table in ("endpoints", "zones"):
        op.drop_column(table, "clear")
    op.drop_index("ix_endpoints_public_key", "endpoints")
    op.drop_column("endpoints", "public_key")
