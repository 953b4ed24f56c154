"""What alembic runs for every command; the connection comes from `cluster.service.database`."""

from alembic import context

from cluster.service.tables import METADATA

connection = context.config.attributes["connection"]
# Batches: SQLite cannot change a column in place.
context.configure(connection=connection, target_metadata=METADATA, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
