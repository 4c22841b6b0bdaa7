"""A real model behind the gateway: its dialect, its numbers and its stream survive the passage."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from ostiary.testing.factories import INPUT_PRICE, OUTPUT_PRICE, configuration, deployment
from ostiary.testing.gateway import Gateway, running_gateway

QUESTION = [{"role": "user", "content": "Say hello in one short sentence."}]


@pytest.fixture(scope="module")
def llama() -> Iterator[str]:
    """The address of a llama.cpp server."""
    program = Path(__file__).with_name("llama_server.py")
    command = [sys.executable, str(program)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            found = next((m for line in process.stdout if (m := re.match(r"listening on (\S+)", line))), None)
            assert found, "the llama.cpp server did not start"
            yield found[1]
        finally:
            process.kill()


@pytest.fixture(scope="module")
def front(llama: str) -> Iterator[Gateway]:
    config = configuration(deployment("smol", f"{llama}/v1"), ostiary={"ledger": {"flush_seconds": 0.05}})
    with running_gateway(config) as gateway:
        yield gateway


@pytest.fixture
def client(front: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=front.base_url, api_key=front.key(), max_retries=0, timeout=60) as made:
        yield made


def test_an_answer_and_its_price(front: Gateway, client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="smol", messages=QUESTION, max_tokens=8, seed=1)
    reply = raw.parse()
    assert reply.choices[0].message.content
    row = front.record(raw.headers["x-litellm-call-id"])
    assert row["prompt_tokens"] == reply.usage.prompt_tokens > 0
    assert row["completion_tokens"] == reply.usage.completion_tokens > 0
    expected = reply.usage.prompt_tokens * INPUT_PRICE + reply.usage.completion_tokens * OUTPUT_PRICE
    assert row["spend"] == pytest.approx(expected)


def test_a_stream_says_the_same_and_ends(front: Gateway, client: openai.OpenAI) -> None:
    plain = client.chat.completions.create(model="smol", messages=QUESTION, max_tokens=8, seed=1, temperature=0)
    with client.chat.completions.with_raw_response.create(
        model="smol", messages=QUESTION, max_tokens=8, seed=1, temperature=0, stream=True
    ).parse() as stream:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert text == plain.choices[0].message.content


def test_the_legacy_completion(client: openai.OpenAI) -> None:
    assert client.completions.create(model="smol", prompt="Once upon a", max_tokens=4).choices[0].text


def test_hanging_up_frees_the_model_for_the_next_caller(client: openai.OpenAI) -> None:
    for _ in range(3):  # more than the server has places
        stream = client.chat.completions.create(model="smol", messages=QUESTION, max_tokens=1500, stream=True)
        next(iter(stream))
        stream.close()
    assert client.chat.completions.create(model="smol", messages=QUESTION, max_tokens=4).choices
