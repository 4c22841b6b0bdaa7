"""The tables, as SQLAlchemy sees them, each column with its class. It must not be used to create them on PostgreSQL:
migrations do that.

Times are Unix milliseconds, money is nanodollars. What a caller wrote is inside sealed columns only.
"""

from __future__ import annotations

from ostiary.store.schema import access, audit, ledger, people, responses, stamp
from ostiary.store.schema.columns import metadata

__all__ = ["access", "audit", "ledger", "metadata", "people", "responses", "stamp"]
