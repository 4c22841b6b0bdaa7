"""The fake provider speaks like OpenAI, misbehaves as told, and keeps the truth."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator

import openai
import pytest

from ostiary.testing import script as scripts
from ostiary.testing.provider import FakeProvider, hosted_provider
from ostiary.testing.raw import RawConnection, fetch, request
from ostiary.testing.script import BEFORE_HEAD, Script, Tokens


@pytest.fixture
async def fake() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        yield provider


@pytest.fixture
async def client(fake: FakeProvider) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=fake.url, api_key="sk-x", max_retries=0, _strict_response_validation=True
    ) as made:
        yield made


def chat(**fields: object) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi nonce-42"}]} | fields).encode()


async def test_the_answer_echoes_the_nonce_and_states_the_scripted_usage(
    fake: FakeProvider, client: openai.AsyncOpenAI
) -> None:
    fake.script("m", Script(tokens=Tokens(prompt=30, completion=9, cached=20, reasoning=4)))
    reply = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi nonce-42"}])
    assert reply.choices[0].message.content == "nonce-42"
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (30, 9)
    assert reply.usage.prompt_tokens_details is not None
    assert reply.usage.prompt_tokens_details.cached_tokens == 20


@pytest.mark.parametrize("asked", [True, False])
async def test_usage_in_a_stream_is_null_on_each_chunk_and_stated_last_only_if_asked(
    fake: FakeProvider, asked: bool
) -> None:
    options = {"stream_options": {"include_usage": True}} if asked else {}
    answer = await fetch(fake.url, "POST", "/v1/chat/completions", chat(stream=True, **options))
    *chunks, done = answer.events()
    values = [json.loads(chunk) for chunk in chunks]
    assert done == "[DONE]"
    if asked:
        assert values[-1]["choices"] == []
        assert values[-1]["usage"]["total_tokens"] == 15
        assert all(value["usage"] is None for value in values[:-1])
    else:
        assert all("usage" not in value for value in values)


async def test_tools_are_called_and_their_answer_taken(client: openai.AsyncOpenAI) -> None:
    tools = [
        {
            "type": "function",
            "function": {"name": "f", "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}}},
        }
    ]
    reply = await client.chat.completions.create(
        model="m",
        messages=[{"role": "user", "content": "x"}],
        tools=tools,  # type: ignore[arg-type]
    )
    assert reply.choices[0].finish_reason == "tool_calls"
    (call,) = reply.choices[0].message.tool_calls or []
    assert json.loads(call.function.arguments) == {"n": 1}  # type: ignore[union-attr]


async def test_every_request_is_kept_with_its_exact_headers_and_bytes(fake: FakeProvider) -> None:
    body = b'{ "model":"m",\n "x": 1.0e0, "messages":[] }'
    await fetch(fake.url, "POST", "/v1/chat/completions?q=1", body, headers=[("X-Odd", "a"), ("x-odd", "b")])
    (seen,) = fake.seen("m")
    assert seen.body == body
    assert seen.target == "/v1/chat/completions?q=1"
    assert [pair for pair in seen.headers if pair[0].lower() == "x-odd"] == [("X-Odd", "a"), ("x-odd", "b")]
    assert seen.outcome == "done"


async def test_scripts_are_played_in_order_and_the_last_one_stays(
    fake: FakeProvider, client: openai.AsyncOpenAI
) -> None:
    fake.script("m", scripts.rejected(7), scripts.CONTEXT_WINDOW, scripts.OK)
    with pytest.raises(openai.RateLimitError) as limited:
        await client.chat.completions.create(model="m", messages=[])
    assert limited.value.response.headers["retry-after"] == "7"
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(model="m", messages=[])
    assert refused.value.code == "context_length_exceeded"
    for _ in range(2):
        await client.chat.completions.create(model="m", messages=[])


@pytest.mark.parametrize("events", [0, 1, 3])
async def test_a_cut_at_an_event_leaves_an_answer_without_end(fake: FakeProvider, events: int) -> None:
    fake.script("m", Script(cut_event=events))
    answer = await fetch(fake.url, "POST", "/v1/chat/completions", chat(stream=True))
    assert len(answer.events()) == events
    assert not answer.complete
    assert fake.requests[-1].outcome == "cut"


@pytest.mark.parametrize("count", [1, 9, 40, 300])
async def test_a_cut_at_a_byte_sends_exactly_so_many(fake: FakeProvider, count: int) -> None:
    fake.script("m", Script(cut_byte=count))
    async with RawConnection(fake.url) as link:
        await link.send(request("POST", "/v1/chat/completions", chat()))
        assert len(await link._reader.read(-1)) == count


async def test_a_held_answer_goes_on_when_released(fake: FakeProvider) -> None:
    fake.script("m", Script(hold=2))
    async with RawConnection(fake.url) as link:
        asking = asyncio.create_task(link.ask("POST", "/v1/chat/completions", chat(stream=True)))
        await fake.until(lambda: fake.requests and fake.requests[0].events_sent == 2)
        assert not asking.done()
        fake.release("m")
        assert (await asking).complete


@pytest.mark.parametrize("hold", [BEFORE_HEAD, 0, 2])
async def test_a_peer_that_goes_away_is_seen(fake: FakeProvider, hold: int) -> None:
    fake.script("m", Script(hold=hold))
    async with RawConnection(fake.url) as link:
        await link.send(request("POST", "/v1/chat/completions", chat(stream=True)))
        await fake.until(lambda: fake.requests and fake.requests[0].events_sent == max(hold, 0))
    await fake.until(lambda: fake.requests[0].outcome == "aborted")


async def test_gzip_garbage_and_a_wrong_length_are_what_they_say(fake: FakeProvider) -> None:
    fake.script("m", Script(gzip=True), Script(length=5000), scripts.GARBAGE)
    packed = await fetch(fake.url, "POST", "/v1/chat/completions", chat())
    assert packed.header("content-encoding") == "gzip"
    assert json.loads(gzip.decompress(packed.body))["object"] == "chat.completion"
    short = await fetch(fake.url, "POST", "/v1/chat/completions", chat())
    assert not short.complete
    async with RawConnection(fake.url) as link:
        await link.send(request("POST", "/v1/chat/completions", chat()))
        assert (await link._reader.read(-1)).startswith(b"\x16\x03\x01")


async def test_the_other_endpoints_answer_in_the_shapes_of_the_official_sdk(client: openai.AsyncOpenAI) -> None:
    vector = await client.embeddings.create(model="e", input=["a", "b"], encoding_format="float")
    assert [len(one.embedding) for one in vector.data] == [8, 8]
    assert not (await client.moderations.create(model="o", input="x")).results[0].flagged
    assert (await client.images.generate(model="i", prompt="p", n=2)).data
    assert (await client.images.edit(model="i", image=b"x", prompt="p")).data
    assert (await client.audio.speech.create(model="s", voice="alloy", input="x")).content.startswith(b"ID3")
    heard = await client.audio.transcriptions.create(model="w", file=("a.mp3", b"x"))
    assert heard.text == "a transcript"
    file = await client.files.create(file=("in.jsonl", b"{}"), purpose="batch")
    assert (await client.files.retrieve(file.id)).id == file.id
    assert (await client.files.content(file.id)).content
    assert (await client.files.delete(file.id)).deleted
    batch = await client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    assert (await client.batches.retrieve(batch.id)).id == batch.id
    assert [model.id async for model in client.models.list()] == ["fake-model"]
    text = await client.completions.create(model="c", prompt="say nonce-7")
    assert text.choices[0].text == "nonce-7"


def test_hosted_on_a_thread_it_serves_synchronous_clients() -> None:
    with hosted_provider() as provider, openai.OpenAI(base_url=provider.url, api_key="sk-x") as client:
        reply = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "nonce-1"}])
        assert reply.choices[0].message.content == "nonce-1"
        assert provider.connections == 1


def test_as_a_process_it_says_where_it_listens() -> None:
    command = [sys.executable, "-m", "ostiary.testing.provider", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"listening on (http://127\.0\.0\.1:\d+)\n", line)
        assert found, line
        with (
            openai.OpenAI(base_url=found.group(1) + "/v1", api_key="sk-x", max_retries=0) as client,
            pytest.raises(openai.InternalServerError),
        ):
            client.chat.completions.create(model="fake-500", messages=[])
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 0
