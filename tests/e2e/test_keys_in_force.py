"""What is said of a key is in force at once, for running answers too where asked."""

from __future__ import annotations

import json
import secrets
import time

import pytest

from ostiary.testing.factories import INPUT_PRICE, OUTPUT_PRICE, chat
from ostiary.testing.gateway import Gateway, eventually
from ostiary.testing.provider import FakeProvider
from ostiary.testing.raw import RawConnection, fetch, request
from ostiary.testing.script import Script


def status(gateway: Gateway, key: str, model: str) -> int:
    body = {"model": model, "messages": [{"role": "user", "content": "x"}]}
    return gateway.call("POST", "/v1/chat/completions", body, key=key)[0]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/key/block", {"key": "KEY"}),
        ("/key/delete", {"keys": ["KEY"]}),
        ("/key/update", {"key": "KEY", "models": ["chat-nothing-else"]}),
        ("/key/KEY/regenerate", {}),
    ],
)
def test_a_right_taken_away_is_gone_within_a_second(
    gateway: Gateway, key: str, model: str, path: str, body: dict[str, object]
) -> None:
    assert status(gateway, key, model) == 200
    gateway.admin("POST", path.replace("KEY", key), json.loads(json.dumps(body).replace("KEY", key)))
    eventually(lambda: status(gateway, key, model) in (401, 403), 1.0)


def test_unblocking_gives_it_back(gateway: Gateway, key: str, model: str) -> None:
    gateway.admin("POST", "/key/block", {"key": key})
    eventually(lambda: status(gateway, key, model) == 401, 1.0)
    gateway.admin("POST", "/key/unblock", {"key": key})
    eventually(lambda: status(gateway, key, model) == 200, 1.0)


async def test_blocking_with_cancel_in_flight_ends_running_streams_within_a_second(
    gateway: Gateway, provider: FakeProvider, key: str, model: str
) -> None:
    provider.script(model, Script(hold=2))
    async with RawConnection(gateway.url) as link:
        await link.send(request("POST", "/v1/chat/completions", chat(model, stream=True), key=key))
        await link.receive(until=2)
        at = time.monotonic()
        gateway.admin("POST", "/key/block", {"key": key, "cancel_in_flight": True})
        answer = await link.receive(seconds=2)
        assert time.monotonic() - at < 1.0
    assert "[DONE]" not in answer.events()
    await provider.until(lambda: provider.seen(model)[0].outcome == "aborted")
    (row,) = eventually(lambda: gateway.records(api_key=key))
    assert row["metadata"]["outcome"] == "blocked"
    assert row["spend"] > 0


async def test_blocking_alone_lets_running_answers_finish(
    gateway: Gateway, provider: FakeProvider, key: str, model: str
) -> None:
    provider.script(model, Script(hold=2))
    async with RawConnection(gateway.url) as link:
        await link.send(request("POST", "/v1/chat/completions", chat(model, stream=True), key=key))
        await link.receive(until=2)
        gateway.admin("POST", "/key/block", {"key": key})
        eventually(lambda: status(gateway, key, model) == 401, 1.0)
        provider.release(model)
        answer = await link.receive()
    assert answer.complete
    assert answer.events()[-1] == "[DONE]"


async def test_a_regenerated_key_works_and_keeps_its_limits(gateway: Gateway, model: str) -> None:
    old = gateway.key(models=[model], rpm_limit=7)
    new = gateway.admin("POST", f"/key/{old}/regenerate", {})["key"]
    answer = await fetch(gateway.url, "POST", "/v1/chat/completions", chat(model), key=new)
    assert answer.status == 200
    assert answer.header("x-ratelimit-limit-requests") == "7"
    assert status(gateway, new, "chat-other") == 403


def test_a_key_cannot_administer(gateway: Gateway, key: str) -> None:
    for method, path in (
        ("POST", "/key/generate"),
        ("GET", "/key/list"),
        ("GET", "/global/spend"),
        ("POST", "/model/new"),
    ):
        code, answer = gateway.call(method, path, {} if method == "POST" else None, key=key)
        assert code in (401, 403), (path, answer)


def test_a_key_of_ones_own_choosing(gateway: Gateway, model: str) -> None:
    own = f"sk-{secrets.token_hex(16)}"
    assert gateway.key(key=own) == own
    assert status(gateway, own, model) == 200


def test_spend_is_calculated_at_the_price_that_is_in_force(gateway: Gateway, model: str) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    answer = gateway.admin("POST", "/spend/calculate", {"model": model, "usage": usage})
    assert answer["cost"] == pytest.approx(10 * INPUT_PRICE + 5 * OUTPUT_PRICE)
