"""A real model that speaks three dialects, asked in five: what it says and counts comes through, streamed or not."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from ostiary.testing.factories import configuration, deployment
from ostiary.testing.gateway import Gateway, running_gateway
from ostiary.wire.conversation.events import Metered, PartDelta
from ostiary.wire.registry import DIALECTS

ASK = "Say hello in one short sentence."
MODELS = ("chat", "messages", "responses")  # the dialect in which the model is asked


@pytest.fixture(scope="module")
def front() -> Iterator[Gateway]:
    program = Path(__file__).with_name("llama_server.py")
    with subprocess.Popen(
        [sys.executable, str(program)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            found = next((m for line in process.stdout if (m := re.match(r"listening on (\S+)", line))), None)
            assert found, "the llama.cpp server did not start"
            chat, messages = deployment("chat", f"{found[1]}/v1"), deployment("messages", found[1])
            responses = deployment("responses", f"{found[1]}/v1")
            chat["litellm_params"]["model"] = "openai_like/smol"
            messages["litellm_params"]["model"] = "anthropic/smol"
            responses["model_info"] = {**responses.get("model_info", {}), "mode": "responses"}
            config = configuration(chat, messages, responses, ostiary={"ledger": {"flush_seconds": 0.05}})
            with running_gateway(config) as gateway:
                yield gateway
        finally:
            process.kill()


def chat(model: str, stream: bool) -> tuple[str, dict[str, Any]]:
    body = {"model": model, "messages": [{"role": "user", "content": ASK}], "max_tokens": 12, "stream": stream}
    return "/v1/chat/completions", {**body, **({"stream_options": {"include_usage": True}} if stream else {})}


def responses(model: str, stream: bool) -> tuple[str, dict[str, Any]]:
    return "/v1/responses", {"model": model, "input": ASK, "max_output_tokens": 12, "stream": stream}


def messages(model: str, stream: bool) -> tuple[str, dict[str, Any]]:
    body = {"model": model, "max_tokens": 12, "messages": [{"role": "user", "content": ASK}], "stream": stream}
    return "/v1/messages", body


def gemini(model: str, stream: bool) -> tuple[str, dict[str, Any]]:
    verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
    contents = [{"role": "user", "parts": [{"text": ASK}]}]
    return f"/v1beta/models/{model}:{verb}", {"contents": contents, "generationConfig": {"maxOutputTokens": 12}}


def converse(model: str, stream: bool) -> tuple[str, dict[str, Any]]:
    turns = [{"role": "user", "content": [{"text": ASK}]}]
    path = f"/bedrock/model/{model}/converse" + ("-stream" if stream else "")
    return path, {"messages": turns, "inferenceConfig": {"maxTokens": 12}}


CLIENTS: dict[str, Callable[[str, bool], tuple[str, dict[str, Any]]]] = {
    "openai_chat": chat,
    "openai_responses": responses,
    "anthropic_messages": messages,
    "gemini_generate": gemini,
    "bedrock_converse": converse,
}


@pytest.fixture(scope="module")
def client(front: Gateway) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=front.url, headers={"authorization": f"Bearer {front.key()}"}, timeout=60) as made:
        yield made


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("dialect", CLIENTS)
def test_a_real_answer_comes_in_the_clients_dialect(
    front: Gateway, client: httpx2.Client, dialect: str, model: str
) -> None:
    path, body = CLIENTS[dialect](model, False)
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    reply = DIALECTS[dialect].decode_reply(answer.content)
    assert any(getattr(part, "text", "") for part in reply.choices[0].parts)
    assert reply.usage is not None
    assert reply.usage.input > 0
    row = front.record(answer.headers["x-litellm-call-id"])
    assert (row["prompt_tokens"], row["completion_tokens"]) == (reply.usage.input, reply.usage.output)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("dialect", CLIENTS)
def test_a_real_stream_comes_in_the_clients_dialect_and_ends_whole(
    front: Gateway, client: httpx2.Client, dialect: str, model: str
) -> None:
    path, body = CLIENTS[dialect](model, True)
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith(DIALECTS[dialect].stream_type.decode())
    decoder = DIALECTS[dialect].decoder()
    events = [*decoder.feed(answer.content), *decoder.finish()]
    assert "".join(event.text for event in events if isinstance(event, PartDelta))
    assert not [event for event in events if type(event).__name__ == "Failed"]
    usage = [event.usage for event in events if isinstance(event, Metered)][-1]
    row = front.record(answer.headers["x-litellm-call-id"])
    assert row["status"] == "success"
    assert (row["prompt_tokens"], row["completion_tokens"]) == (usage.input, usage.output)


@pytest.mark.parametrize("dialect", CLIENTS)
def test_an_unknown_model_is_refused_in_the_clients_dialect(client: httpx2.Client, dialect: str) -> None:
    path, body = CLIENTS[dialect]("nobody", False)
    answer = client.post(path, json=body)
    assert answer.status_code == 404
    json.loads(answer.content)
    fault = DIALECTS[dialect].decode_fault(404, answer.content, None)
    assert fault.answer is not None, "the error has the shape of the dialect"
