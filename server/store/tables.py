"""The station's tables. Whatever changes here needs a revision in `migrations/versions`.

Instants are UTC, in whole seconds since 1970. Nothing here is of one database alone.
"""

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    false,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# Constraints have names, for a later revision can only change what it can name.
_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """What all tables have in common."""

    metadata = MetaData(naming_convention=_NAMES)


class MetaRow(Base):
    """What the database says of itself: `application`, `made_with`; `boot` counts its runs."""

    __tablename__ = "meta"

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class UnitRow(Base):
    """A unit below its parent. The one without a parent is the station; its name is the root's."""

    __tablename__ = "units"
    __table_args__ = (UniqueConstraint("parent_id", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("units.id"))
    name: Mapped[str] = mapped_column(String(64))


class EndpointRow(Base):
    """A registered loudspeaker. `public_key` is null where it is not enrolled, or was revoked."""

    __tablename__ = "endpoints"
    # SQLite can add no column that is unique by itself.
    __table_args__ = (Index(None, "unit_id"), Index(None, "public_key", unique=True))

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    unit_id: Mapped[int] = mapped_column(ForeignKey("units.id"))
    delivery: Mapped[str] = mapped_column(String(32))
    multicast: Mapped[bool]
    latitude: Mapped[float | None]
    longitude: Mapped[float | None]
    volume: Mapped[int]
    muted: Mapped[bool]
    first_seen: Mapped[int | None] = mapped_column(BigInteger)
    last_seen: Mapped[int | None] = mapped_column(BigInteger)
    public_key: Mapped[bytes | None] = mapped_column(LargeBinary(32))
    clear: Mapped[bool] = mapped_column(server_default=false())
    trim_us: Mapped[int] = mapped_column(server_default="0")


class TagRow(Base):
    """A tag of a loudspeaker; it goes with it."""

    __tablename__ = "endpoint_tags"

    endpoint_id: Mapped[int] = mapped_column(
        ForeignKey("endpoints.id", ondelete="CASCADE"), primary_key=True
    )
    tag: Mapped[str] = mapped_column(String(64), primary_key=True)


class ZoneRow(Base):
    """A zone; `definition` is JSON. Where it is `clear`, stock players may hear it."""

    __tablename__ = "zones"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    definition: Mapped[str] = mapped_column(Text)
    clear: Mapped[bool] = mapped_column(server_default=false())


class EnrolmentRow(Base):
    """A code that nobody has used: `secret_hash` checks who knows its secret.

    `number` is hexadecimal. `name` is empty where a person shall name whoever comes; `unit` is a
    path, for the unit may be gone before somebody comes.
    """

    __tablename__ = "enrolments"

    number: Mapped[str] = mapped_column(String(8), primary_key=True)
    secret_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    name: Mapped[str] = mapped_column(String(64))
    unit: Mapped[str | None] = mapped_column(Text)
    expires_at: Mapped[int] = mapped_column(BigInteger)


class ProgrammeRow(Base):
    """What was said to whom; `request` is JSON. While it is on air, `why_ended` is null."""

    __tablename__ = "programmes"

    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(Text)
    priority: Mapped[int]
    request: Mapped[str] = mapped_column(Text)
    playout_delay_ms: Mapped[float]
    began_at: Mapped[int] = mapped_column(BigInteger)
    ended_at: Mapped[int | None] = mapped_column(BigInteger)
    why_ended: Mapped[str | None] = mapped_column(Text)
