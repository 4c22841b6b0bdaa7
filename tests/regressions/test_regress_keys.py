"""Keys that were replaced, deleted, blocked or reset: what the data plane must forget, and when."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterator

import pytest

from ostiary.core.key import VirtualKey
from ostiary.gateway.ledger.account import Account
from ostiary.gateway.policy.keys import KeyIndex
from ostiary.testing.factories import configuration, deployment
from ostiary.testing.gateway import Gateway, eventually, running_gateway
from ostiary.testing.provider import FakeProvider

DIME = 0.01  # dollars per token: one short answer costs 15 cents


@pytest.fixture(scope="module")
def costly(provider: FakeProvider) -> Iterator[Gateway]:
    rows = [deployment("m", provider.url), deployment("dear", provider.url, input_cost_per_token=DIME)]
    rows[1]["litellm_params"]["output_cost_per_token"] = DIME
    with running_gateway(configuration(*rows, ostiary={"ledger": {"flush_seconds": 0.05}})) as gateway:
        yield gateway


def use(gateway: Gateway, key: str, model: str = "m") -> int:
    status, _ = gateway.call("POST", "/v1/chat/completions", _chat(model), key=key)
    return status


def _chat(model: str) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}


def _regenerated(gateway: Gateway, key: str, **fields: object) -> str:
    made: str = gateway.admin("POST", f"/key/{key}/regenerate", fields)["key"]
    return made


def test_a_text_that_was_replaced_answers_no_more_even_after_an_earlier_one_had_its_grace(costly: Gateway) -> None:
    first = costly.key()
    assert use(costly, first) == 200
    second = _regenerated(costly, first, grace_period="60s")
    assert (use(costly, first), use(costly, second)) == (200, 200)
    third = _regenerated(costly, second)
    assert use(costly, third) == 200
    assert use(costly, second) == 401


def test_no_text_of_a_deleted_key_works(costly: Gateway) -> None:
    first = costly.key()
    assert use(costly, first) == 200
    second = _regenerated(costly, first, grace_period="60s")
    assert (use(costly, first), use(costly, second)) == (200, 200)
    third = _regenerated(costly, second)
    costly.admin("POST", "/key/delete", {"keys": [third]})
    assert [use(costly, text) for text in (first, second, third)] == [401, 401, 401]


def test_a_new_limit_holds_for_both_texts_of_a_key_in_its_grace(costly: Gateway) -> None:
    first = costly.key()
    assert use(costly, first) == 200
    second = _regenerated(costly, first, grace_period="60s")
    token = costly.admin("GET", f"/key/info?key={second}")["key"]
    assert (use(costly, first), use(costly, second)) == (200, 200)
    eventually(lambda: len(costly.records(api_key=token)) >= 3)  # all is saved: the accounts rest
    costly.admin("POST", "/key/update", {"key": second, "rpm_limit": 0})
    assert (use(costly, first), use(costly, second)) == (429, 429)


@pytest.mark.parametrize("how", ["reset_spend", "update"])
def test_spend_that_was_reset_is_what_the_budget_counts_from(costly: Gateway, how: str) -> None:
    key = costly.key(max_budget=0.4)
    while use(costly, key, "dear") == 200:
        pass
    if how == "reset_spend":
        costly.admin("POST", f"/key/{key}/reset_spend", {"reset_to": 0})
    else:
        costly.admin("POST", "/key/update", {"key": key, "spend": 0})
    assert use(costly, key, "dear") == 200


def test_what_a_key_has_spent_is_told_as_soon_as_it_is_spent(provider: FakeProvider) -> None:
    rows = [deployment("dear", provider.url, input_cost_per_token=DIME, output_cost_per_token=DIME)]
    with running_gateway(configuration(*rows, ostiary={"ledger": {"flush_seconds": 30}})) as gateway:
        key = gateway.key(max_budget=5)
        assert use(gateway, key, "dear") == 200
        spent = gateway.admin("GET", f"/key/info?key={key}")["info"]["spend"]
        assert spent == pytest.approx(0.15)


# --- a key that changes while the store is being asked for it ---


class Clock:
    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class SlowStore:
    """Reads the row at once, and gives it when it is let go on."""

    def __init__(self, key: VirtualKey) -> None:
        self.key: VirtualKey | None = key
        self.read = asyncio.Event()
        self.go_on = asyncio.Event()

    async def find(self, _digest: bytes) -> VirtualKey | None:
        found = self.key
        self.read.set()
        await self.go_on.wait()
        return found


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _index(store: SlowStore) -> KeyIndex:
    return KeyIndex(_digest, store, lambda key: Account(key, time.time()), Clock())


async def test_a_key_blocked_while_it_is_being_looked_up_is_not_kept_as_it_was() -> None:
    key = VirtualKey(id="k", digest=_digest("sk-text"), revision=1)
    store = SlowStore(key)
    index = _index(store)
    looking = asyncio.create_task(index.find("sk-text", "10.0.0.1"))
    await store.read.wait()
    store.key = VirtualKey(id="k", digest=_digest("sk-text"), revision=2, blocked=True)
    index.put(store.key)
    store.go_on.set()
    await asyncio.gather(looking, return_exceptions=True)
    resident = index.resident("sk-text")
    assert resident is None or resident.key.blocked


async def test_a_key_deleted_while_it_is_being_looked_up_is_not_kept() -> None:
    key = VirtualKey(id="k", digest=_digest("sk-text"), revision=1)
    store = SlowStore(key)
    index = _index(store)
    looking = asyncio.create_task(index.find("sk-text", "10.0.0.1"))
    await store.read.wait()
    store.key = None
    index.drop("k", _digest("sk-text"))
    store.go_on.set()
    await asyncio.gather(looking, return_exceptions=True)
    assert index.resident("sk-text") is None
