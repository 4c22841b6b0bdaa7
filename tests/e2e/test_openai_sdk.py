"""The official `openai` SDK, validating strictly, cannot tell the gateway from the provider."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator

import openai
import pytest

from ostiary.testing.factories import chat
from ostiary.testing.gateway import Gateway
from ostiary.testing.provider import FakeProvider
from ostiary.testing.raw import fetch
from ostiary.testing.script import Script, Tokens

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather somewhere.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture
def client(gateway: Gateway, key: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=gateway.base_url, api_key=key, max_retries=0, _strict_response_validation=True) as made:
        yield made


@pytest.fixture
async def aclient(gateway: Gateway, key: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=gateway.base_url, api_key=key, max_retries=0, _strict_response_validation=True
    ) as made:
        yield made


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_a_chat_answer_arrives_with_its_usage(client: openai.OpenAI, provider: FakeProvider, model: str) -> None:
    provider.script(model, Script(tokens=Tokens(prompt=30, completion=9, cached=20, reasoning=4)))
    reply = client.chat.completions.create(model=model, messages=user("say nonce-1"))
    assert reply.choices[0].message.content == "nonce-1"
    assert reply.usage.prompt_tokens_details.cached_tokens == 20
    assert reply.usage.completion_tokens_details.reasoning_tokens == 4


async def test_the_async_client_too(aclient: openai.AsyncOpenAI, model: str) -> None:
    reply = await aclient.chat.completions.create(model=model, messages=user("say nonce-2"))
    assert reply.choices[0].message.content == "nonce-2"


def test_the_answer_is_the_providers_byte_for_byte(client: openai.OpenAI, gateway: Gateway, model: str) -> None:
    raw = client.chat.completions.with_raw_response.create(model=model, messages=user("say nonce-3"))
    body = json.loads(raw.content)
    assert body["service_tier"] == "default"  # a field that the gateway has no business with
    assert raw.parse().id == body["id"]


def test_the_headers_that_clients_read_are_there(client: openai.OpenAI, gateway: Gateway, model: str) -> None:
    raw = client.chat.completions.with_raw_response.create(model=model, messages=user("x"))
    headers = raw.headers
    assert headers["x-litellm-call-id"]
    assert headers["x-litellm-model-id"]
    assert float(headers["x-litellm-response-cost"]) == pytest.approx(0.00002)
    assert int(headers["x-litellm-attempted-retries"]) == 0
    assert int(headers["x-litellm-attempted-fallbacks"]) == 0
    assert float(headers["x-litellm-response-duration-ms"]) >= 0


@pytest.mark.parametrize("asked", [True, False])
def test_a_stream_arrives_in_pieces_with_usage_only_if_asked(
    client: openai.OpenAI, provider: FakeProvider, model: str, asked: bool
) -> None:
    provider.script(model, Script(text="one two three", pieces=5))
    options = {"stream_options": {"include_usage": True}} if asked else {}
    chunks = list(client.chat.completions.create(model=model, messages=user("x"), stream=True, **options))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "one two three"
    assert len({chunk.id for chunk in chunks}) == 1
    if asked:
        assert chunks[-1].choices == []
        assert chunks[-1].usage.total_tokens == 15
    else:
        assert all(chunk.usage is None for chunk in chunks)
        assert all(chunk.choices for chunk in chunks)  # no chunk that a client did not ask for


async def test_an_async_stream_can_be_closed_half_way(
    aclient: openai.AsyncOpenAI, provider: FakeProvider, model: str
) -> None:
    provider.script(model, Script(hold=2))
    stream = await aclient.chat.completions.create(model=model, messages=user("x"), stream=True)
    async for _ in stream:
        break
    await stream.close()
    await provider.until(lambda: provider.seen(model)[0].outcome == "aborted", 2)


def test_a_tool_loop_with_the_stream_helper(client: openai.OpenAI, model: str) -> None:
    messages = user("weather in Paris")
    first = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER])
    (call,) = first.choices[0].message.tool_calls
    assert json.loads(call.function.arguments) == {"city": "value"}
    messages += [
        first.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    with client.chat.completions.stream(model=model, messages=messages, tools=[WEATHER]) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content


def test_streamed_tool_arguments_are_put_together(client: openai.OpenAI, model: str) -> None:
    with client.chat.completions.stream(model=model, messages=user("x"), tools=[WEATHER]) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.tool_calls[0].function.name == "weather"
    assert final.choices[0].finish_reason == "tool_calls"


def test_legacy_completions_streamed_or_not(gateway: Gateway, key: str, model: str) -> None:
    # not strictly: the SDK's own type has no null `finish_reason`, which the API sends in all chunks but the last
    with openai.OpenAI(base_url=gateway.base_url, api_key=key, max_retries=0) as client:
        assert client.completions.create(model=model, prompt="say nonce-4").choices[0].text == "nonce-4"
        chunks = client.completions.create(model=model, prompt="say nonce-5", stream=True)
        assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == "nonce-5"


def test_embeddings_as_numbers_and_as_the_sdks_packed_default(gateway: Gateway, key: str, model: str) -> None:
    with openai.OpenAI(base_url=gateway.base_url, api_key=key, max_retries=0) as client:
        packed = client.embeddings.create(model=model, input=["a", "b"])
        plain = client.embeddings.create(model=model, input=["a", "b"], encoding_format="float")
    assert [len(one.embedding) for one in packed.data] == [8, 8]
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding, rel=1e-6)


def test_moderations(client: openai.OpenAI, model: str) -> None:
    assert client.moderations.create(model=model, input="x").results[0].flagged is False


def test_images_made_and_edited(client: openai.OpenAI, provider: FakeProvider, model: str) -> None:
    assert len(client.images.generate(model=model, prompt="a door", n=2).data) == 2
    picture = bytes(range(256)) * 8
    assert client.images.edit(model=model, image=("p.png", picture), prompt="a gate").data
    made, edited = provider.seen(model)
    assert made.target == "/v1/images/generations"
    assert picture in edited.body


def test_speech_is_binary_and_untouched(client: openai.OpenAI, model: str) -> None:
    answer = client.audio.speech.create(model=model, voice="alloy", input="hello")
    assert answer.content.startswith(b"ID3\x04")
    assert b"\x00\xff\xfe" in answer.content


@pytest.mark.parametrize("name", ["model", "renamed"])
def test_transcriptions_carry_the_file_untouched(
    client: openai.OpenAI, provider: FakeProvider, request: pytest.FixtureRequest, name: str
) -> None:
    given = request.getfixturevalue(name)
    public, upstream = (given, given) if isinstance(given, str) else given
    sound = bytes(range(256)) * 40
    heard = client.audio.transcriptions.create(model=public, file=("a.mp3", sound), response_format="verbose_json")
    assert heard.text == "a transcript"
    (seen,) = provider.seen(upstream)
    assert sound in seen.body
    assert seen.header("content-type")[0].startswith("multipart/form-data; boundary=")


def test_rerank_is_relayed(gateway: Gateway, key: str, model: str) -> None:
    body = {"model": model, "query": "q", "documents": ["a", "b"]}
    status, answer = gateway.call("POST", "/v1/rerank", body, key=key)
    assert status == 200
    assert len(answer["results"]) == 2


@pytest.mark.parametrize("route", ["extra_body", "extra_query", "extra_headers"])
def test_files_and_batches(client: openai.OpenAI, provider: FakeProvider, model: str, route: str) -> None:
    named = {route: {"x-litellm-model" if route == "extra_headers" else "model": model}}
    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {"model": model, "messages": []}}
    file = client.files.create(file=("in.jsonl", json.dumps(line).encode()), purpose="batch", **named)
    assert client.files.retrieve(file.id).id == file.id
    assert client.files.content(file.id).content
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    sent = provider.requests[-1].ask.fields
    assert sent["input_file_id"] != file.id  # the provider's own id, which the caller never sees
    assert client.batches.retrieve(batch.id).id == batch.id
    assert client.batches.cancel(batch.id).status == "cancelling"
    assert client.files.delete(file.id).deleted


def test_models_are_those_that_the_key_may_use(gateway: Gateway, model: str) -> None:
    limited = gateway.key(models=[model])
    with openai.OpenAI(base_url=gateway.base_url, api_key=limited, max_retries=0) as client:
        assert {one.id for one in client.models.list()} <= {model}
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("chat-other")


@pytest.mark.parametrize("prefix", ["", "/v1", "/openai/deployments/{model}"])
def test_every_prefix_leads_to_the_same_door(gateway: Gateway, key: str, model: str, prefix: str) -> None:
    body = {"model": model, "messages": user("say nonce-6")}
    status, answer = gateway.call("POST", f"{prefix.format(model=model)}/chat/completions", body, key=key)
    assert status == 200
    assert answer["choices"][0]["message"]["content"] == "nonce-6"


def test_the_azure_client_of_the_sdk(gateway: Gateway, key: str, model: str) -> None:
    with openai.AzureOpenAI(azure_endpoint=gateway.url, api_key=key, api_version="2024-10-21", max_retries=0) as client:
        reply = client.chat.completions.create(model=model, messages=user("say nonce-7"))
    assert reply.choices[0].message.content == "nonce-7"


@pytest.mark.parametrize("header", ["authorization", "api-key", "x-api-key", "x-litellm-api-key"])
async def test_the_key_may_travel_in_any_header_that_clients_use(
    gateway: Gateway, key: str, model: str, header: str
) -> None:
    value = f"Bearer {key}" if header == "authorization" else key
    answer = await fetch(gateway.url, "POST", "/v1/chat/completions", chat(model), headers=[(header, value)])
    assert answer.status == 200
