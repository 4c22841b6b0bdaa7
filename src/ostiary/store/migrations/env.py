"""Where Alembic runs: on the connection it is given, inside the caller's transaction. It must not open its own."""

from __future__ import annotations

from alembic import context

from ostiary.store.schema import metadata

given = context.config.attributes
context.configure(
    connection=given["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    on_version_apply=given["applied"],
)
context.run_migrations()
