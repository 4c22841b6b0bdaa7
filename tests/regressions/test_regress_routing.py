"""Fallbacks, wildcards and prices, where the name asked for is not the name that serves."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from ostiary.testing.factories import chat, configuration, deployment
from ostiary.testing.gateway import Gateway, running_gateway
from ostiary.testing.provider import FakeProvider
from ostiary.testing.raw import RawAnswer, fetch
from ostiary.testing.script import SERVER_ERROR, Script, error_body


@pytest.fixture(scope="module")
def routes(provider: FakeProvider) -> Iterator[Gateway]:
    url = provider.url
    rows = [deployment(name, url, model=f"v-{name}") for name in ("main", "spare", "busy")]
    rows.append(deployment("named", url, model="v-named", info={"id": "the-id"}))
    rows.append(deployment("wild/*", url, model="v-*"))
    rows.append(
        {
            "model_name": "painter",
            "litellm_params": {"model": "openai/gpt-image-1", "api_base": url, "api_key": "k"},
        }
    )
    router = {
        "num_retries": 1,
        "cooldown_time": 1,
        "fallbacks": [{"main": ["the-id"]}, {"wild/*": ["spare"]}],
    }
    ours = {"ledger": {"flush_seconds": 0.05}}
    with running_gateway(configuration(*rows, router_settings=router, ostiary=ours)) as gateway:
        yield gateway


async def ask(gateway: Gateway, key: str, model: str) -> RawAnswer:
    return await fetch(gateway.url, "POST", "/v1/chat/completions", chat(model), key=key, seconds=10)


async def test_a_fallback_to_a_deployment_serves_whoever_may_use_its_model(
    routes: Gateway, provider: FakeProvider
) -> None:
    provider.script("v-main", SERVER_ERROR)
    key = routes.key(models=["main", "named"])
    answer = await ask(routes, key, "main")
    assert (answer.status, answer.header("x-litellm-model-id")) == (200, "the-id")


async def test_a_fallback_to_a_deployment_does_not_serve_whoever_may_not_use_its_model(
    routes: Gateway, provider: FakeProvider
) -> None:
    provider.script("v-main", SERVER_ERROR)
    before = len(provider.seen("v-named"))
    answer = await ask(routes, routes.key(models=["main"]), "main")
    assert answer.status == 500
    assert len(provider.seen("v-named")) == before


async def test_the_fallbacks_of_a_wildcard_are_those_of_every_model_it_serves(
    routes: Gateway, provider: FakeProvider
) -> None:
    provider.script("v-one", SERVER_ERROR)
    answer = await ask(routes, routes.key(), "wild/one")
    assert (answer.status, answer.header("x-litellm-attempted-fallbacks")) == (200, "1")


async def test_a_provider_account_without_money_is_the_gateways_trouble_and_falls_back(
    routes: Gateway, provider: FakeProvider
) -> None:
    """402 is about the account whose credential was sent: the operator's, not the caller's."""
    provider.script("v-main", Script(status=402, body=error_body("Insufficient Balance", "unknown_error", None)))
    answer = await ask(routes, routes.key(), "main")
    assert (answer.status, answer.header("x-litellm-model-id")) == (200, "the-id")


async def test_a_server_error_with_retry_after_is_tried_again_after_that_time(
    routes: Gateway, provider: FakeProvider
) -> None:
    busy = Script(status=503, headers=(("retry-after", "1"),), body=error_body("Busy.", "server_error", None))
    provider.script("v-busy", busy, Script())
    answer = await ask(routes, routes.key(), "busy")
    assert answer.status == 200
    first, second = provider.seen("v-busy")
    assert second.at - first.at >= 1.0


async def test_the_lines_of_a_batch_file_name_the_model_that_the_wildcard_stands_for(
    routes: Gateway, provider: FakeProvider
) -> None:
    request = {"model": "wild/lines", "messages": [{"role": "user", "content": "x"}]}
    line = json.dumps({"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": request})
    fields = "".join(
        f'--X\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in (("purpose", "batch"), ("model", "wild/lines"))
    )
    file = f'--X\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n{line}\r\n--X--\r\n'
    headers = [("content-type", "multipart/form-data; boundary=X")]
    answer = await fetch(
        routes.url, "POST", "/v1/files", (fields + file).encode(), key=routes.key(), headers=headers, seconds=10
    )
    assert answer.status == 200
    sent = next(
        seen for seen in provider.requests if seen.target.endswith("/files") and seen.body.startswith(b"--X\r\n")
    )
    assert b'"v-lines"' in sent.body
    assert b"v-*" not in sent.body


async def test_a_picture_whose_price_names_no_rate_for_it_is_not_given_away_to_a_key_with_a_budget(
    routes: Gateway,
) -> None:
    """The table prices this model by tokens; the provider states none, so nobody knows what the picture cost."""
    key = routes.key(max_budget=0.01)
    body = json.dumps({"model": "painter", "prompt": "x", "n": 3}).encode()
    answer = await fetch(routes.url, "POST", "/v1/images/generations", body, key=key, seconds=10)
    spent = routes.admin("GET", f"/key/info?key={key}")["info"]["spend"]
    assert answer.status == 400 or spent > 0 or float(answer.header("x-litellm-response-cost") or 0) > 0
