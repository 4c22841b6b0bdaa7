"""The positive control: the scanner finds a canary that was written on purpose, in every encoding and every kind of
place that the tests of stored data search. A scan that never found anything proves nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
import subprocess
import sys
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from kit_stored import Planter, files_below, scan

from ostiary.testing.postgres import PostgresServer, hosted_postgres

WAYS: dict[str, Callable[[str], bytes]] = {
    "plain": str.encode,
    "in JSON": lambda text: json.dumps({"said": f'"{text}"\n'}).encode(),
    "escaped letter by letter": lambda text: "".join(f"\\u{ord(letter):04x}" for letter in text).encode(),
    "hex": lambda text: text.encode().hex().encode(),
    "HEX": lambda text: text.encode().hex().upper().encode(),
    "URL": lambda text: urllib.parse.quote(f"?q={text}").encode(),
    "percent": lambda text: "".join(f"%{ord(letter):02X}" for letter in text).encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-16 BE": lambda text: text.encode("utf-16-be"),
    "base64": lambda text: base64.b64encode(text.encode()),
    "base64, one later": lambda text: base64.b64encode(f"a{text}".encode()),
    "base64, two later": lambda text: base64.urlsafe_b64encode(f"ab{text}-".encode()),
    "base64 in JSON": lambda text: base64.b64encode(json.dumps({"a": text}).encode()),
    "reversed": lambda text: text[::-1].encode(),
    "cut at the edge of a page": lambda text: text[:14].encode() + b"\0" * 4096 + text[14:].encode(),
    "md5": lambda text: hashlib.md5(text.encode()).digest(),
    "sha256": lambda text: hashlib.sha256(text.encode()).digest(),
    "sha256 in hex": lambda text: hashlib.sha256(text.encode()).hexdigest().encode(),
    "md5 in HEX": lambda text: hashlib.md5(text.encode()).hexdigest().upper().encode(),
}


@pytest.fixture(scope="module")
def leaky() -> Iterator[PostgresServer]:
    with hosted_postgres(log_statement="all") as server:
        yield server


@pytest.mark.parametrize("write", WAYS.values(), ids=WAYS)
def test_prv_01_the_scanner_finds_every_encoding(write: Callable[[str], bytes]) -> None:
    planter = Planter()
    hits = scan(planter, {"here": b"\x00\xffbefore" + write(planter("a place")) + b"after", "there": b"nothing"})
    assert {hit.sink for hit in hits} == {"here"}


def test_the_scanner_says_what_it_found() -> None:
    planter = Planter()
    planter("another")
    assert any(hit.place == "the place" for hit in scan(planter, {"here": planter("the place").encode()}))


def test_nothing_is_found_where_nothing_is() -> None:
    planter, other = Planter(), Planter()
    planter("a place")
    assert scan(planter, {"here": other("a place").encode() * 1000 + bytes(range(256)) * 1000}) == []


@pytest.mark.parametrize("closed", [True, False], ids=["in the file", "in the WAL"])
def test_prv_01_the_scanner_finds_what_sqlite_keeps(tmp_path: Path, closed: bool) -> None:
    planter = Planter()
    with closing(sqlite3.connect(tmp_path / "a.db")) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE t (x TEXT, y BLOB)")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.execute("INSERT INTO t VALUES (?, ?)", (planter("text"), planter("blob").encode() * 2000))
        database.commit()
        if closed:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        sinks = dict(files_below(tmp_path))
    assert {Path(hit.sink).name for hit in scan(planter, sinks)} == {"a.db" if closed else "a.db-wal"}


def test_prv_01_the_scanner_finds_what_postgresql_keeps(leaky: PostgresServer) -> None:
    planter = Planter()
    leaky.create_database("leaky")
    leaky.sql("CREATE TABLE t (x text, y bytea)", "leaky")
    values = planter("text"), planter("blob").encode().hex(), planter("gone")
    leaky.sql(f"INSERT INTO t VALUES ('{values[0]}', '\\x{values[1]}'), ('{values[2]}', NULL)", "leaky")
    leaky.sql(f"DELETE FROM t WHERE x = '{values[2]}'", "leaky")
    leaky.sql("CHECKPOINT", "leaky")
    ((oid,),) = leaky.sql("SELECT oid FROM pg_database WHERE datname = 'leaky'")
    sinks = {
        "files": b"".join(data for _, data in files_below(leaky.data / "base" / oid)),
        "log of changes": b"".join(data for _, data in files_below(leaky.data / "pg_wal")),
        "dump": leaky.dump("leaky"),
        "log": leaky.log.read_bytes(),
    }
    assert {hit.sink for hit in scan(planter, sinks)} == set(sinks)
    assert {hit.disguise for hit in scan(planter, {"dump": sinks["dump"]})} >= {"plain", "hex"}


def test_prv_01_the_scanner_finds_what_a_process_writes(tmp_path: Path) -> None:
    planter = Planter()
    program = "import sys, tempfile; print(sys.argv[1]); f = tempfile.NamedTemporaryFile(delete=False); "
    program += "f.write(sys.argv[2].encode()); sys.stderr.write(sys.argv[3])"
    words = [planter("output"), planter("temporary file"), planter("errors")]
    done = subprocess.run(
        [sys.executable, "-c", program, *words], env={"TMPDIR": str(tmp_path)}, capture_output=True, check=True
    )
    sinks = {"output": done.stdout, "errors": done.stderr, **dict(files_below(tmp_path))}
    assert len({hit.sink for hit in scan(planter, sinks)}) == 3
