"""The demo model speaks through the codec: what it says, streamed or whole, the official SDK understands."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from ostiary.core.fault import Fault
from ostiary.gateway.demo import Demo
from ostiary.gateway.upstream.response import Response
from ostiary.wire.conversation.fold import fold
from ostiary.wire.conversation.parts import Text
from ostiary.wire.dialects.openai_chat.reply import decode_reply
from ostiary.wire.dialects.openai_chat.stream_decode import StreamDecoder

CHAT = {"model": "demo", "messages": [{"role": "user", "content": "two words"}]}


class Collected:
    """A sink that keeps the bytes."""

    def __init__(self) -> None:
        self.data = b""
        self.over = asyncio.Event()

    def on_data(self, data: bytes) -> None:
        self.data += data

    def on_end(self) -> None:
        self.over.set()

    def on_fault(self, fault: Fault) -> None:
        raise fault


@pytest.fixture
async def demo(monkeypatch: pytest.MonkeyPatch) -> Demo:
    monkeypatch.setattr("ostiary.gateway.demo.WORD_SECONDS", 0)
    return Demo(asyncio.get_running_loop(), lambda: 1.0)


async def whole(response: Response) -> Any:
    return json.loads(await response.read(10**6))


async def streamed(response: Response) -> bytes:
    sink = Collected()
    response.attach(sink)
    await asyncio.wait_for(sink.over.wait(), 10)
    return sink.data


async def test_the_streamed_answer_is_the_whole_answer(demo: Demo) -> None:
    body = await demo.send("chat.completions", json.dumps(CHAT).encode()).read(10**6)
    ChatCompletion.model_validate_json(body, strict=True)
    asked = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    stream = await streamed(demo.send("chat.completions", json.dumps(asked).encode()))
    for event in stream.split(b"\n\n")[:-2]:
        ChatCompletionChunk.model_validate_json(event.removeprefix(b"data: "), strict=True)
    decoder = StreamDecoder()
    reply = fold([*decoder.feed(stream), *decoder.finish()])
    assert reply == decode_reply(body)
    (part,) = reply.choices[0].parts
    assert isinstance(part, Text)
    assert reply.usage is not None
    assert reply.usage.output == len(part.text.split())


async def test_without_asking_there_is_no_usage_in_the_stream(demo: Demo) -> None:
    stream = await streamed(demo.send("chat.completions", json.dumps({**CHAT, "stream": True}).encode()))
    assert b"usage" not in stream
    assert stream.endswith(b"data: [DONE]\n\n")


async def test_legacy_completions_and_embeddings_are_answered(demo: Demo) -> None:
    completion = await whole(demo.send("completions", b'{"prompt":"say something"}'))
    assert completion["choices"][0]["text"]
    stream = await streamed(demo.send("completions", b'{"prompt":["a"],"stream":true}'))
    words = [json.loads(event[6:])["choices"] for event in stream.split(b"\n\n")[:-2]]
    assert "".join(choice["text"] for choices in words for choice in choices) == completion["choices"][0]["text"]
    embeddings = await whole(demo.send("embeddings", b'{"input":["a","b"]}'))
    assert len(embeddings["data"]) == 2


@pytest.mark.parametrize(
    ("endpoint", "body", "status"),
    [("chat.completions", b"{", 400), ("chat.completions", b"{}", 400), ("completions", b"[]", 400),
     ("images.generations", b"{}", 404)],
)  # fmt: skip
async def test_what_it_cannot_answer_it_says(demo: Demo, endpoint: str, body: bytes, status: int) -> None:
    response = demo.send(endpoint, body)
    assert response.status == status
    assert (await whole(response))["error"]["message"]
