"""Official client libraries, unmodified, talk through the gateway to providers of every dialect as if to their own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from clients_anthropic import AnthropicMessages
from clients_bedrock import BedrockRuntime
from clients_chat import CohereV2, Mistral
from clients_google import GoogleGenAI
from clients_openai import OpenAIChat, OpenAIResponses
from lines import FINAL, INPUT, OUTPUT, TEXT, THOUGHT
from saying import Client

from house import FACTS, PROVIDERS, House

MAKERS: Mapping[str, Any] = {
    made.name: made
    for made in (OpenAIChat, OpenAIResponses, AnthropicMessages, GoogleGenAI, BedrockRuntime, CohereV2, Mistral)
}
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
# Mistral's provider sends a call in one piece of a stream, and its library takes no other: it has no word for "more".
LOOPS = [
    (name, provider, stream)
    for name, provider, stream in itertools.product(MAKERS, PROVIDERS, (False, True))
    if not (stream and name == "mistralai")
]
PAIRS = pytest.mark.parametrize(("name", "provider"), list(itertools.product(MAKERS, PROVIDERS)))


@pytest.fixture(scope="module")
def clients(house: House) -> Iterator[Mapping[str, Client]]:
    """The clients, by name, each with the gateway's address and a virtual key."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_BEARER_TOKEN_BEDROCK", house.key)
        made = {name: maker(house) for name, maker in MAKERS.items()}
        yield made
        for client in made.values():
            client.close()


@PAIRS
@BOTH
def test_an_answer_and_its_usage(
    house: House, clients: Mapping[str, Client], name: str, provider: str, stream: bool
) -> None:
    client, facts = clients[name], FACTS[provider]
    with house.conversation(provider, "text", 1) as model:
        said = client.text(model, stream=stream)
    assert said.text == TEXT
    assert said.finish == client.stop
    assert (said.input, said.output) in ((INPUT, OUTPUT), (None, None))
    assert said.cached in (None, facts.cached)
    assert said.reasoning in (None, facts.reasoning)


@pytest.mark.parametrize(("name", "provider", "stream"), LOOPS)
def test_a_loop_with_two_calls_at_once(
    house: House, clients: Mapping[str, Client], name: str, provider: str, stream: bool
) -> None:
    client = clients[name]
    with house.conversation(provider, "tool", 2) as model:
        said = client.loop(model, stream=stream, thinking=False)
    assert said.text == FINAL
    assert said.finish == client.stop


@pytest.mark.parametrize(("name", "provider", "stream"), LOOPS)
def test_reasoning_is_shown_and_its_proof_comes_back(
    house: House, clients: Mapping[str, Client], name: str, provider: str, stream: bool
) -> None:
    client = clients[name]
    with house.conversation(provider, "think-proof" if client.carries else "think", 2) as model:
        said = client.loop(model, stream=stream, thinking=client.thinks)
    assert said.text == FINAL
    assert said.thought == (THOUGHT if client.thinks else None)


@PAIRS
@BOTH
def test_a_refusal_is_the_clients_own_exception(
    house: House, clients: Mapping[str, Client], name: str, provider: str, stream: bool
) -> None:
    seen: list[str] = []
    with house.conversation(provider, "refuse", 1) as model:
        failure = clients[name].failure(model, stream=stream, seen=seen.append)
    assert failure.status == 429, failure
    assert seen == []


@PAIRS
def test_a_stream_that_breaks_is_the_clients_own_exception(
    house: House, clients: Mapping[str, Client], name: str, provider: str
) -> None:
    texts: list[str] = []
    there = house.providers[provider]

    def seen(text: str) -> None:
        texts.append(text)
        if "".join(texts) == TEXT:
            there.seen.set()

    there.seen.clear()
    with house.conversation(provider, "break", 1) as model:
        failure = clients[name].failure(model, stream=True, seen=seen)
    assert "".join(texts) == TEXT, failure
