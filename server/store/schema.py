"""Which revision of the tables a database has, and how it comes to the newest."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

MIGRATIONS = Path(__file__).parent / "migrations"


class NewerError(Exception):
    """The database is of a revision that this program does not know."""


def migrate(connection: Connection) -> None:
    """Bring the tables to the newest revision, within the connection's transaction.

    NewerError, and nothing is changed, if they are beyond it.
    """
    config = _config()
    known = ScriptDirectory.from_config(config)
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is not None and revision not in {
        script.revision for script in known.walk_revisions()
    }:
        raise NewerError(revision)
    if revision != known.get_current_head():
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _config() -> Config:
    config = Config()
    # A percent sign in the path would be an interpolation.
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config
