"""The bench reads its instruments right."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

WRK = """Running 2s test @ http://127.0.0.1:1/v1/chat/completions
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.52ms  399.00us   8.01ms   94.99%
    Req/Sec    42.00k     1.20k   44.00k    75.00%
  Latency Distribution
     50%  980.00us
     75%    1.60ms
     90%    1.90ms
     99%    2.17s
  83670 requests in 2.00s, 75.25MB read
{errors}Requests/sec:  41778.60
Transfer/sec:     37.57MB
"""


@pytest.fixture(autouse=True)
def _at_the_top(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(root))


def test_wrk_report_is_read() -> None:
    from bench.rig import parse_wrk

    load = parse_wrk(WRK.format(errors=""), cpu_seconds=1.91)
    assert (load.requests, load.per_second, load.p50, load.p99, load.bad) == (83670, 41778.6, 0.98, 2170.0, 0)
    assert load.cpu_us == pytest.approx(22.83, abs=0.01)


def test_refused_requests_and_broken_connections_count_as_bad() -> None:
    from bench.rig import parse_wrk

    errors = "  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 5\n"
    assert parse_wrk(WRK.format(errors=errors), cpu_seconds=1.0).bad == 15


def test_processor_time_and_memory_are_those_of_the_whole_tree(tmp_path: Path) -> None:
    from bench.rig import Subject, tree

    burn = "import time\nwhile time.process_time() < 0.3: pass\nprint('x', flush=True); input()"
    # The child does the work; its parent only waits for it.
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        subject = Subject("burning", 0, "", process, tmp_path / "log")
        assert len(tree(process.pid)) == 2
        assert subject.cpu() >= 0.2
        assert subject.resident_mb() > 5
        process.communicate(b"\n")


def test_a_store_is_filled_up_with_keys_that_are_all_different(tmp_path: Path) -> None:
    from bench.gateway import multiply_keys

    with sqlite3.connect(tmp_path / "ostiary.db") as store:
        store.execute(
            "CREATE TABLE virtual_keys (id TEXT PRIMARY KEY, digest BLOB UNIQUE, alias_index BLOB UNIQUE, created_at)"
        )
        store.execute("CREATE TABLE key_digests (digest BLOB PRIMARY KEY, key_id TEXT UNIQUE)")
        digest = os.urandom(32)
        store.execute("INSERT INTO virtual_keys VALUES ('k', ?, x'01', 1)", (digest,))
        store.execute("INSERT INTO key_digests VALUES (?, 'k')", (digest,))
    store.close()
    multiply_keys(tmp_path, 100)
    with sqlite3.connect(tmp_path / "ostiary.db") as store:
        assert store.execute("SELECT count(*), count(DISTINCT digest) FROM virtual_keys").fetchone() == (100, 100)
        joined = "SELECT count(*) FROM virtual_keys JOIN key_digests USING (digest) WHERE key_id = id"
        assert store.execute(joined).fetchone() == (100,)
    store.close()


def test_a_figure_knows_its_good_side() -> None:
    from bench.figures import Figure
    from bench.run import show

    assert Figure("a", 4.5, "x", 4.5).good
    assert not Figure("a", 4.6, "x", 4.5).good
    assert Figure("a", 81, "x", 80, at_most=False).good
    assert not Figure("a", 79, "x", 80, at_most=False).good
    assert "OUTSIDE" in show(Figure("a", 79, "x", 80, at_most=False))
