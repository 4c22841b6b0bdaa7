"""Where Alembic runs: on the connection it is given, inside the caller's transaction. It must not open its own."""

from __future__ import annotations

from alembic import context

from ostiary.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
context.run_migrations()
