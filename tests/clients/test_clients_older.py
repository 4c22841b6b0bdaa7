"""Libraries of an older generation, LlamaIndex among them, talk to providers of every dialect."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import pytest
import scenes
from clients_apart import older
from saying import Client

from house import ONE_OF_EACH, House

NAMES = ("llama-index", "openai-2")
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
LOOPS = pytest.mark.parametrize(
    ("name", "provider", "stream"), list(itertools.product(NAMES, ONE_OF_EACH, (False, True)))
)
PAIRS = pytest.mark.parametrize(("name", "provider"), list(itertools.product(NAMES, ONE_OF_EACH)))


@pytest.fixture(scope="module")
def clients(house: House) -> Iterator[Mapping[str, Client]]:
    """The clients by name, in a process of their own."""
    with older(house) as made:
        assert tuple(made) == NAMES
        yield made


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
