"""Units, loudspeakers and their tags, zones, programmes; what the database says of itself."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """The first tables."""
    op.create_table(
        "meta",
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_meta"),
    )
    op.create_table(
        "zones",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_zones"),
    )
    _create_programmes()
    _create_units_and_endpoints()


def _create_programmes() -> None:
    op.create_table(
        "programmes",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("playout_delay_ms", sa.Double(), nullable=False),
        sa.Column("began_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("why_ended", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("number", name="pk_programmes"),
    )


def _create_units_and_endpoints() -> None:
    op.create_table(
        "units",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("parent_id", sa.Integer(), nullable=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_units"),
        sa.UniqueConstraint("parent_id", "name", name="uq_units_parent_id_name"),
        sa.ForeignKeyConstraint(["parent_id"], ["units.id"], name="fk_units_parent_id_units"),
    )
    op.create_table(
        "endpoints",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("unit_id", sa.Integer(), nullable=False),
        sa.Column("delivery", sa.String(32), nullable=False),
        sa.Column("multicast", sa.Boolean(), nullable=False),
        sa.Column("latitude", sa.Double(), nullable=True),
        sa.Column("longitude", sa.Double(), nullable=True),
        sa.Column("volume", sa.Integer(), nullable=False),
        sa.Column("muted", sa.Boolean(), nullable=False),
        sa.Column("first_seen", sa.BigInteger(), nullable=True),
        sa.Column("last_seen", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_endpoints"),
        sa.UniqueConstraint("name", name="uq_endpoints_name"),
        sa.ForeignKeyConstraint(["unit_id"], ["units.id"], name="fk_endpoints_unit_id_units"),
    )
    op.create_index("ix_endpoints_unit_id", "endpoints", ["unit_id"])
    op.create_table(
        "endpoint_tags",
        sa.Column("endpoint_id", sa.Integer(), nullable=False),
        sa.Column("tag", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("endpoint_id", "tag", name="pk_endpoint_tags"),
        sa.ForeignKeyConstraint(
            ["endpoint_id"],
            ["endpoints.id"],
            name="fk_endpoint_tags_endpoint_id_endpoints",
            ondelete="CASCADE",
        ),
    )


def downgrade() -> None:
    """Nothing is left; what refers to another table goes before it."""
    for table in ("endpoint_tags", "endpoints", "units", "programmes", "zones", "meta"):
        op.drop_table(table)
