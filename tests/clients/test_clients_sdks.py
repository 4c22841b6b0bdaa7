"""Official client libraries, unmodified, talk to providers of every dialect as if to their own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import scenes
from clients_anthropic import AnthropicMessages
from clients_bedrock import BedrockRuntime
from clients_chat import CohereV2, Mistral
from clients_google import GoogleGenAI
from clients_openai import OpenAIChat, OpenAIResponses
from saying import Client

from house import PROVIDERS, House

MAKERS: Mapping[str, Any] = {
    made.name: made
    for made in (OpenAIChat, OpenAIResponses, AnthropicMessages, GoogleGenAI, BedrockRuntime, CohereV2, Mistral)
}
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
# Mistral's provider sends a call in one piece of a stream, and its library takes no other: it has no word for "more".
_STREAMED_CALLS = [
    (name, provider, True) for name, provider in itertools.product(MAKERS, PROVIDERS) if name != Mistral.name
]
_WHOLE_CALLS = list(itertools.product(MAKERS, PROVIDERS, (False,)))
LOOPS = pytest.mark.parametrize(("name", "provider", "stream"), _WHOLE_CALLS + _STREAMED_CALLS)
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
    scenes.answer_and_usage(house, clients[name], provider, stream=stream)


@LOOPS
def test_a_loop_with_two_calls_at_once(
    house: House, clients: Mapping[str, Client], name: str, provider: str, stream: bool
) -> None:
    scenes.loop(house, clients[name], provider, stream=stream)


@LOOPS
def test_reasoning_is_shown_and_its_proof_comes_back(
    house: House, clients: Mapping[str, Client], name: str, provider: str, stream: bool
) -> None:
    scenes.reasoning(house, clients[name], provider, stream=stream)


@PAIRS
@BOTH
def test_a_refusal_is_the_clients_own_exception(
    house: House, clients: Mapping[str, Client], name: str, provider: str, stream: bool
) -> None:
    scenes.refusal(house, clients[name], provider, stream=stream)


@PAIRS
def test_a_stream_that_breaks_is_the_clients_own_exception(
    house: House, clients: Mapping[str, Client], name: str, provider: str
) -> None:
    scenes.break_(house, clients[name], provider)
