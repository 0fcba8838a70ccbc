"""What Alembic runs a migration in: the connection that `server.store.schema` hands over."""

from alembic import context

from server.store.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # SQLite cannot alter a table: Alembic then makes it anew and copies the rows.
    render_as_batch=True,
    # The store begins the transaction, so that a migration happens whole or not at all.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
