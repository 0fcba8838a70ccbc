"""Users, their rights, tokens and sessions; how far a code reaches."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TABLES = ("users", "grants", "tokens", "token_grants", "login_sessions")


def upgrade() -> None:
    """Nobody is a user yet; a code from before reaches everywhere, as the operator's token does."""
    op.add_column("enrolments", sa.Column("reach", sa.Text(), nullable=True))
    op.create_table(
        "users",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("password", sa.Text(), nullable=False),
        sa.Column("disabled", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("must_choose", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("totp", sa.LargeBinary(64), nullable=True),
        sa.Column("totp_step", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_users"),
    )
    op.create_table(
        "tokens",
        sa.Column("number", sa.String(8), nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("label", sa.String(64), nullable=False),
        sa.Column("urgent", sa.Boolean(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_tokens"),
        sa.UniqueConstraint("hash", name="uq_tokens_hash"),
        _of("owner", "users.name", "fk_tokens_owner_users"),
    )
    _create_grants("grants", "user_name", sa.String(64), "users.name")
    _create_grants("token_grants", "token", sa.String(8), "tokens.number")
    op.create_table(
        "login_sessions",
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("number", sa.String(8), nullable=False),
        sa.Column("user_name", sa.String(64), nullable=False),
        sa.Column("fresh_until", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hash", name="pk_login_sessions"),
        _of("user_name", "users.name", "fk_login_sessions_user_name_users"),
    )


def downgrade() -> None:
    """Whoever was a user is none any more; the operator's token is what there was before."""
    for table in reversed(_TABLES):
        op.drop_table(table)
    op.drop_column("enrolments", "reach")


def _create_grants(table: str, column: str, kind: sa.String, of: str) -> None:
    owners = of.partition(".")[0]
    op.create_table(
        table,
        sa.Column(column, kind, nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("unit_id", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint(column, "role", "unit_id", name=f"pk_{table}"),
        _of(column, of, f"fk_{table}_{column}_{owners}"),
        _of("unit_id", "units.id", f"fk_{table}_unit_id_units"),
    )


def _of(column: str, of: str, name: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [of], name=name, ondelete="CASCADE")
