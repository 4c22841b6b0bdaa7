"""What is asked of every client with every provider, and what has to come of it. It must not know a client."""

from __future__ import annotations

from lines import FINAL, INPUT, OUTPUT, TEXT, THOUGHT
from saying import Client

from house import FACTS, House


def answer_and_usage(house: House, client: Client, provider: str, *, stream: bool) -> None:
    """The text is whole, the end is in the client's word, and the tokens are the provider's."""
    facts = FACTS[provider]
    with house.conversation(provider, "text", 1) as model:
        said = client.text(model, stream=stream)
    assert said.text == TEXT
    assert said.finish == client.stop
    assert (said.input, said.output) in ((INPUT, OUTPUT), (None, None))
    assert said.cached in (None, facts.cached)
    assert said.reasoning in (None, facts.reasoning)


def loop(house: House, client: Client, provider: str, *, stream: bool) -> None:
    """Two calls at once come with whole arguments, and their results go back under the provider's own ids."""
    with house.conversation(provider, "tool", 2) as model:
        said = client.loop(model, stream=stream, thinking=False)
    assert said.text == FINAL
    assert said.finish == client.stop


def reasoning(house: House, client: Client, provider: str, *, stream: bool) -> None:
    """Reasoning is shown, and its proof is back with the results where the client keeps proofs at all."""
    with house.conversation(provider, "think-proof" if client.carries else "think", 2) as model:
        said = client.loop(model, stream=stream, thinking=client.thinks)
    assert said.text == FINAL
    assert said.thought == (THOUGHT if client.thinks else None)


def refusal(house: House, client: Client, provider: str, *, stream: bool) -> None:
    """A provider's refusal is the client's own exception for it."""
    seen: list[str] = []
    with house.conversation(provider, "refuse", 1) as model:
        failure = client.failure(model, stream=stream, seen=seen.append)
    assert failure.status == 429, failure
    assert seen == []


def break_(house: House, client: Client, provider: str) -> None:
    """What came before the break arrives, and the end is the client's own exception."""
    texts: list[str] = []
    there = house.providers[provider]

    def seen(text: str) -> None:
        texts.append(text)
        if "".join(texts) == TEXT:
            there.seen.set()

    there.seen.clear()
    with house.conversation(provider, "break", 1) as model:
        failure = client.failure(model, stream=True, seen=seen)
    assert "".join(texts) == TEXT, failure
