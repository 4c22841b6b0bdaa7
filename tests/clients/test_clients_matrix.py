"""Official client libraries, unmodified, talk through the gateway to providers of every dialect as if to their own."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pytest
from clients_anthropic import AnthropicMessages
from clients_openai import OpenAIChat, OpenAIResponses
from lines import FINAL, INPUT, OUTPUT, PIECES, TEXT, THOUGHT
from saying import Client

from house import FACTS, PROVIDERS, House, model_of

MAKERS: Mapping[str, Any] = {made.name: made for made in (OpenAIChat, OpenAIResponses, AnthropicMessages)}
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
PAIRS = pytest.mark.parametrize(("name", "provider"), list(itertools.product(MAKERS, PROVIDERS)))


@pytest.fixture(scope="module")
def clients(house: House) -> Mapping[str, Client]:
    """The clients, by name, each with the gateway's address and a virtual key."""
    return {name: maker(house.url, house.key) for name, maker in MAKERS.items()}


@PAIRS
@BOTH
def test_an_answer_and_its_usage(
    house: House, clients: Mapping[str, Client], name: str, provider: str, stream: bool
) -> None:
    client, facts = clients[name], FACTS[provider]
    model, mark = model_of(provider, "text")
    said = client.text(model, stream=stream)
    house.check(provider, mark, 1)
    assert said.text == TEXT
    assert said.finish == client.stop
    assert (said.input, said.output) in ((INPUT, OUTPUT), (None, None))
    assert said.cached in (None, facts.cached)
    assert said.reasoning in (None, facts.reasoning)


@PAIRS
@BOTH
def test_a_loop_with_two_calls_at_once(
    house: House, clients: Mapping[str, Client], name: str, provider: str, stream: bool
) -> None:
    client = clients[name]
    model, mark = model_of(provider, "tool")
    said = client.loop(model, stream=stream, thinking=False)
    house.check(provider, mark, 2)
    assert said.text == FINAL
    assert said.finish == client.stop


@PAIRS
@BOTH
def test_reasoning_is_shown_and_its_proof_comes_back(
    house: House, clients: Mapping[str, Client], name: str, provider: str, stream: bool
) -> None:
    client = clients[name]
    model, mark = model_of(provider, "think-proof" if client.carries else "think")
    said = client.loop(model, stream=stream, thinking=client.thinks)
    house.check(provider, mark, 2)
    assert said.text == FINAL
    assert said.thought in ((None, THOUGHT) if not client.thinks else (THOUGHT,))


@PAIRS
@BOTH
def test_a_refusal_is_the_clients_own_exception(
    house: House, clients: Mapping[str, Client], name: str, provider: str, stream: bool
) -> None:
    model, mark = model_of(provider, "refuse")
    seen: list[str] = []
    failure = clients[name].failure(model, stream=stream, seen=seen.append)
    house.check(provider, mark, 1)
    assert failure.status == 429, failure
    assert seen == []


@PAIRS
def test_a_stream_that_breaks_is_the_clients_own_exception(
    house: House, clients: Mapping[str, Client], name: str, provider: str
) -> None:
    model, mark = model_of(provider, "break")
    there, texts = house.providers[provider], []

    def seen(text: str) -> None:
        texts.append(text)
        if "".join(texts) == "".join(PIECES):
            there.seen.set()

    there.seen.clear()
    failure = clients[name].failure(model, stream=True, seen=seen)
    house.check(provider, mark, 1)
    assert "".join(texts) == "".join(PIECES), failure
