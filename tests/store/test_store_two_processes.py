"""One SQLite file, two processes: what one has committed, the other must not take away when it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sqlalchemy import text

from ostiary.store.database import connect

# As a command beside the gateway: it comes, writes, and closes what it thinks is the last connection.
OTHER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("INSERT INTO t VALUES (?)", (sys.argv[2],))
connection.commit()
print(sorted(connection.execute("SELECT a FROM t")))
connection.close()
"""


def other(file: Path, value: str) -> str:
    """Let another process write, and say what it sees."""
    done = subprocess.run(
        [sys.executable, "-c", OTHER, str(file), value], capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout.strip()


async def test_a_process_that_ends_leaves_the_log_to_those_that_go_on(tmp_path: Path) -> None:
    file = tmp_path / "x.db"
    database = connect(f"sqlite:///{file}")
    try:
        async with database.write() as connection:
            await connection.execute(text("CREATE TABLE t (a)"))
        # a second connection of this process must not cost the first one its locks
        async with database.read() as first, database.read() as second:
            await first.execute(text("SELECT * FROM t"))
            await second.execute(text("SELECT * FROM t"))
        other(file, "1")
        assert file.with_name("x.db-wal").exists()
        async with database.write() as connection:
            await connection.execute(text("INSERT INTO t VALUES ('2')"))
        assert other(file, "3") == "[('1',), ('2',), ('3',)]"
    finally:
        await database.close()
