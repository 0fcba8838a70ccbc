"""The station's tables. Whatever changes here needs a revision in `migrations/versions`.

Instants are UTC, in whole seconds since 1970. Nothing here is of one database alone.
"""

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    Index,
    Integer,
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
    path, for the unit may be gone before somebody comes. `reach` is a JSON list of the units at
    and below which it admits, null for everywhere.
    """

    __tablename__ = "enrolments"

    number: Mapped[str] = mapped_column(String(8), primary_key=True)
    secret_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    name: Mapped[str] = mapped_column(String(64))
    unit: Mapped[str | None] = mapped_column(Text)
    expires_at: Mapped[int] = mapped_column(BigInteger)
    reach: Mapped[str | None] = mapped_column(Text)


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


# As an integer it is the place of the row itself in SQLite, and needs no index beside the table.
_NUMBER = BigInteger().with_variant(Integer, "sqlite")


class AuditRow(Base):
    """A row of the audit log, as `server.audit.row` has it; `at` is in nanoseconds since 1970.

    Rows are added, and never changed. `details` is canonical JSON.
    """

    __tablename__ = "audit"

    seq: Mapped[int] = mapped_column(_NUMBER, primary_key=True, autoincrement=False)
    at: Mapped[int] = mapped_column(BigInteger)
    who: Mapped[str] = mapped_column(Text)
    address: Mapped[str] = mapped_column(Text)
    what: Mapped[str] = mapped_column(Text)
    details: Mapped[str] = mapped_column(Text)
    why: Mapped[str] = mapped_column(Text)
    outcome: Mapped[str] = mapped_column(Text)
    hash: Mapped[bytes] = mapped_column(LargeBinary(32))


class AuditHeadRow(Base):
    """A signed head of the audit log: who holds the file alone cannot make one."""

    __tablename__ = "audit_heads"

    seq: Mapped[int] = mapped_column(_NUMBER, primary_key=True, autoincrement=False)
    at: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    station: Mapped[bytes] = mapped_column(LargeBinary(136))
    delegate: Mapped[bytes] = mapped_column(LargeBinary(112))
    signature: Mapped[bytes] = mapped_column(LargeBinary(64))


class UserRow(Base):
    """A person. `password` is a PHC string; `totp` the secret of one-time codes, null without."""

    __tablename__ = "users"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    password: Mapped[str] = mapped_column(Text)
    disabled: Mapped[bool] = mapped_column(server_default=false())
    must_choose: Mapped[bool] = mapped_column(server_default=false())
    totp: Mapped[bytes | None] = mapped_column(LargeBinary(64))
    totp_step: Mapped[int] = mapped_column(BigInteger, server_default="0")


class GrantRow(Base):
    """A role of a user at a unit; it goes with either."""

    __tablename__ = "grants"

    user_name: Mapped[str] = mapped_column(
        ForeignKey("users.name", ondelete="CASCADE"), primary_key=True
    )
    role: Mapped[str] = mapped_column(String(16), primary_key=True)
    unit_id: Mapped[int] = mapped_column(
        ForeignKey("units.id", ondelete="CASCADE"), primary_key=True
    )


class TokenRow(Base):
    """What a program shows for its owner: `hash` is of its text, and `number` opens nothing."""

    __tablename__ = "tokens"

    number: Mapped[str] = mapped_column(String(8), primary_key=True)
    hash: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    owner: Mapped[str] = mapped_column(ForeignKey("users.name", ondelete="CASCADE"))
    label: Mapped[str] = mapped_column(String(64))
    urgent: Mapped[bool]
    expires_at: Mapped[int] = mapped_column(BigInteger)


class TokenGrantRow(Base):
    """A role that a token has at a unit, as far as its owner has it too."""

    __tablename__ = "token_grants"

    token: Mapped[str] = mapped_column(
        ForeignKey("tokens.number", ondelete="CASCADE"), primary_key=True
    )
    role: Mapped[str] = mapped_column(String(16), primary_key=True)
    unit_id: Mapped[int] = mapped_column(
        ForeignKey("units.id", ondelete="CASCADE"), primary_key=True
    )


class LoginSessionRow(Base):
    """Somebody who signed in; `hash` is of the session's text, which is kept nowhere."""

    __tablename__ = "login_sessions"

    hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    number: Mapped[str] = mapped_column(String(8))
    user_name: Mapped[str] = mapped_column(ForeignKey("users.name", ondelete="CASCADE"))
    fresh_until: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[int] = mapped_column(BigInteger)
    used_at: Mapped[int] = mapped_column(BigInteger)
