"""What alembic runs for each migration: the caller brings the connection, and its transaction holds them all."""

from alembic import context

from asterism.store.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
