"""The first schema. It must not change any more: later versions alter it in files of their own."""

from __future__ import annotations

from alembic import op

from ostiary.store.migrations.first import access, audit, isolation, ledger, months, people, responses, stamp

revision = "0001"
down_revision = None
oldest = "0001"  # the oldest version of the schema whose program can work with this one


def upgrade() -> None:
    """Create every table; on PostgreSQL also who may do what."""
    for part in (people, access, ledger, audit, responses, stamp):
        part.create()
    if op.get_bind().dialect.name == "postgresql":
        isolation.isolate()
        months.divide()
