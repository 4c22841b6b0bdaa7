"""PostgreSQL goes and comes back: nothing is lost, nothing counts twice, no wrong answer is given meanwhile."""

from __future__ import annotations

import json
import random
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e.cutter import cutter

from ostiary.testing.factories import chat, configuration, deployment
from ostiary.testing.gateway import Gateway, eventually, running_gateway
from ostiary.testing.postgres import PostgresServer, hosted_postgres
from ostiary.testing.provider import FakeProvider

CUTS = 100
HEALED_WITHIN = 10.0
CALLERS = 4


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with hosted_postgres() as server:
        yield server


def config(provider: FakeProvider, grace: float = 3600.0) -> dict[str, Any]:
    return configuration(
        deployment("outage-*", provider.url),
        ostiary={"ledger": {"flush_seconds": 0.05}, "store": {"grace_seconds": grace}},
    )


def database(url: str) -> dict[str, str]:
    return {"DATABASE_URL": url}


def ready(gateway: Gateway) -> bool:
    return gateway.call("GET", "/health/readiness")[0] == 200


def ask(gateway: Gateway, model: str, key: str) -> int:
    return gateway.call("POST", "/v1/chat/completions", json.loads(chat(model)), key=key, timeout=30)[0]


class Load:
    """Callers that ask without pause, and count what they were answered."""

    def __init__(self, gateway: Gateway, model: str, key: str) -> None:
        self.answers: list[int] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(gateway, model, key)) for _ in range(CALLERS)]
        for thread in self._threads:
            thread.start()

    def _call(self, gateway: Gateway, model: str, key: str) -> None:
        while not self._stop.is_set():
            self.answers.append(ask(gateway, model, key))

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)


@pytest.mark.slow
@pytest.mark.attack("AVL-04")
def test_avl_04_a_hundred_cuts_under_load_lose_no_record_and_count_none_twice(
    server: PostgresServer, provider: FakeProvider
) -> None:
    url = server.create_database("cuts")
    dice = random.Random(20261123)
    with cutter(("127.0.0.1", server.port)) as relay:
        cut_url = url.replace(str(server.port), str(relay.port))
        with running_gateway(config(provider), env=database(cut_url)) as gateway:
            key = gateway.key()
            assert ask(gateway, "outage-cuts", key) == 200
            load = Load(gateway, "outage-cuts", key)
            for _ in range(CUTS):
                time.sleep(dice.uniform(0.005, 0.12))
                relay.cut()
                time.sleep(dice.uniform(0.0, 0.05))
                relay.mend()
            load.stop()
            assert set(load.answers) == {200}  # a known key goes on
            expected = len(load.answers) + 1
            assert len(provider.seen("outage-cuts")) == expected
            rows = eventually(lambda: _all(gateway, key, expected), 30, every=0.3)
            assert len({row["request_id"] for row in rows}) == len(rows) == expected
            total = sum(round(row["spend"] * 1e9) for row in rows)
            spend = gateway.admin("GET", f"/key/info?key={key}")["info"]["spend"]
            assert round(spend * 1e9) == total
    assert server.sql('SELECT count(*), count(DISTINCT id) FROM "usage"', "cuts") == [[str(expected)] * 2]


def _all(gateway: Gateway, key: str, expected: int) -> list[dict[str, Any]]:
    try:
        rows = gateway.records(api_key=key)
    except RuntimeError:  # the pool may still hold a connection that was cut
        return []
    return rows if len(rows) >= expected else []


@pytest.mark.attack("AVL-04")
def test_avl_04_a_store_that_is_down_at_the_start_means_not_ready_and_heals_by_itself(
    server: PostgresServer, provider: FakeProvider
) -> None:
    url = server.create_database("late")
    with cutter(("127.0.0.1", server.port)) as relay:
        relay.cut()
        cut_url = url.replace(str(server.port), str(relay.port))
        with running_gateway(config(provider), env=database(cut_url)) as gateway:
            assert gateway.call("GET", "/health/liveliness")[0] == 200
            status, body = gateway.call("GET", "/health/readiness")
            assert status == 503
            assert body["db"] == "not connected"
            assert ask(gateway, "outage-late", "sk-nobody-knows-this-key-01234") == 503  # never 401
            assert gateway.call("POST", "/key/generate", {}, key=gateway.admin_key)[0] == 503
            assert ask(gateway, "outage-late", gateway.admin_key) == 200  # the administrator's key is not in the store

            relay.mend()
            eventually(lambda: ready(gateway), HEALED_WITHIN, every=0.1)
            assert ask(gateway, "outage-late", "sk-nobody-knows-this-key-01234") == 401
            assert ask(gateway, "outage-late", gateway.key()) == 200
            # what was asked for meanwhile was kept, and is in the store now
            eventually(lambda: len(gateway.records()) == 2, 10, every=0.2)


@pytest.mark.attack("AVL-04")
def test_avl_04_known_keys_go_on_for_their_grace_and_no_longer(server: PostgresServer, provider: FakeProvider) -> None:
    url = server.create_database("grace")
    with cutter(("127.0.0.1", server.port)) as relay:
        cut_url = url.replace(str(server.port), str(relay.port))
        with running_gateway(config(provider, grace=3.0), env=database(cut_url)) as gateway:
            known, unknown = gateway.key(), gateway.key()
            assert ask(gateway, "outage-grace", known) == 200
            relay.cut()
            assert ask(gateway, "outage-grace", known) == 200
            assert ask(gateway, "outage-grace", unknown) == 503
            eventually(lambda: ask(gateway, "outage-grace", known) == 503, 15, every=0.2)
            assert not ready(gateway)
            relay.mend()
            eventually(lambda: ask(gateway, "outage-grace", known) == 200, HEALED_WITHIN, every=0.2)
            eventually(lambda: ready(gateway), HEALED_WITHIN, every=0.1)


@pytest.mark.slow
@pytest.mark.attack("AVL-04")
def test_avl_04_a_server_that_hangs_is_answered_for_in_time_and_one_that_crashed_is_found_again(
    provider: FakeProvider,
) -> None:
    with hosted_postgres() as server:
        url = server.create_database("hang")
        with running_gateway(config(provider), env=database(url)) as gateway:
            known, unknown = gateway.key(), gateway.key()
            assert ask(gateway, "outage-hang", known) == 200
            server.pause()
            try:
                began = time.monotonic()
                assert ask(gateway, "outage-hang", known) == 200
                assert time.monotonic() - began < 2.0
                assert ask(gateway, "outage-hang", unknown) == 503
                assert time.monotonic() - began < 12.0
            finally:
                server.resume()
            eventually(lambda: ask(gateway, "outage-hang", unknown) == 200, HEALED_WITHIN, every=0.2)
            server.stop(signal.SIGQUIT)
            assert ask(gateway, "outage-hang", known) == 200
            server.start()
            eventually(lambda: len(_records(gateway)) == 4, 20, every=0.2)


def _records(gateway: Gateway) -> list[dict[str, Any]]:
    try:
        return gateway.records()
    except RuntimeError:
        return []
