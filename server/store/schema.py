"""Which revision of the tables a database has, and how it comes to another."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection

MIGRATIONS = Path(__file__).parent / "migrations"


class NewerError(Exception):
    """The database is of a revision that this program does not know."""


def migrate(connection: Connection) -> None:
    """Bring the tables to the newest revision, within the connection's transaction.

    NewerError, and nothing is changed, if they are beyond it.
    """
    if check_revision(connection) != revisions()[0].revision:
        move(connection, "head")


def check_revision(connection: Connection) -> str | None:
    """That of the tables, None before there are any; NewerError if it is none of ours."""
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is not None and revision not in {script.revision for script in revisions()}:
        raise NewerError(revision)
    return revision


def revisions() -> list[Script]:
    """All that this program knows, the newest first."""
    return list(ScriptDirectory.from_config(_config()).walk_revisions())


def move(connection: Connection, revision: str) -> None:
    """Bring the tables to a revision, up or down, within the connection's transaction.

    `base` is before the first, `head` the newest; one that was never made is a mistake of ours.
    What older tables have no room for is lost.
    """
    config = _config()
    config.attributes["connection"] = connection
    order = ["head", *(script.revision for script in revisions()), "base"]
    now = MigrationContext.configure(connection).get_current_revision() or "base"
    turn = command.upgrade if order.index(revision) < order.index(now) else command.downgrade
    turn(config, revision)


def _config() -> Config:
    config = Config()
    # A percent sign in the path would be an interpolation.
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config
