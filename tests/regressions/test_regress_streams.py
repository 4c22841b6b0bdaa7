"""Streams that are not chats end otherwise; answers are read by what they are, not by how their type is spelt."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from ostiary.testing.factories import chat, configuration, deployment
from ostiary.testing.gateway import Gateway, running_gateway
from ostiary.testing.provider import FakeProvider
from ostiary.testing.raw import RawAnswer, fetch
from ostiary.testing.script import CONTEXT_WINDOW, OK, SERVER_ERROR, Script, error_body

USAGE = {"input_tokens": 10, "output_tokens": 20, "total_tokens": 30}


@pytest.fixture(scope="module")
def plain(provider: FakeProvider) -> Iterator[Gateway]:
    rows = [deployment(name, provider.url, model=f"r-{name}") for name in ("pictures", "speech", "words", "chatty")]
    rows += [deployment("spare", provider.url, model="r-spare")]
    router = {"num_retries": 0, "disable_cooldowns": True, "fallbacks": [{"*": ["spare"]}]}
    ours = {"ledger": {"flush_seconds": 0.05}}
    with running_gateway(configuration(*rows, router_settings=router, ostiary=ours)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def caller(plain: Gateway) -> str:
    return plain.key()


def event(kind: str, **fields: object) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + json.dumps({"type": kind, **fields}).encode() + b"\n\n"


def answer_of(body: bytes, kind: str = "text/event-stream") -> Script:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return Script(raw=head.encode() + body)


def form(**fields: str) -> bytes:
    parts = "".join(f'--X\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in fields.items())
    head = 'Content-Disposition: form-data; name="file"; filename="a.mp3"\r\nContent-Type: audio/mpeg'
    return f"{parts}--X\r\n{head}\r\n\r\nABC\r\n--X--\r\n".encode()


async def post(gateway: Gateway, key: str, path: str, body: bytes, *, kind: str = "application/json") -> RawAnswer:
    return await fetch(gateway.url, "POST", path, body, key=key, headers=[("content-type", kind)], seconds=10)


async def test_a_stream_of_pictures_arrives_whole_and_is_a_completed_request(
    plain: Gateway, caller: str, provider: FakeProvider
) -> None:
    whole = event("image_generation.partial_image", b64_json="AA", partial_image_index=0)
    whole += event("image_generation.completed", b64_json="BB", usage=USAGE)
    provider.script("r-pictures", answer_of(whole))
    body = json.dumps({"model": "pictures", "prompt": "x", "stream": True, "partial_images": 1}).encode()
    answer = await post(plain, caller, "/v1/images/generations", body)
    assert answer.body == whole
    row = plain.record(answer.header("x-litellm-call-id"))
    assert (row["metadata"]["outcome"], row["metadata"]["usage"]) == ("completed", {"input": 10, "output": 20})


async def test_a_stream_of_a_transcript_arrives_whole_and_is_a_completed_request(
    plain: Gateway, caller: str, provider: FakeProvider
) -> None:
    whole = event("transcript.text.delta", delta="hi") + event("transcript.text.done", text="hi", usage=USAGE)
    provider.script("r-words", answer_of(whole))
    answer = await post(
        plain, caller, "/v1/audio/transcriptions", form(model="words", stream="true"),
        kind="multipart/form-data; boundary=X",
    )  # fmt: skip
    assert answer.body == whole
    assert plain.record(answer.header("x-litellm-call-id"))["metadata"]["outcome"] == "completed"


async def test_speech_in_events_arrives_whole_and_is_a_completed_request(
    plain: Gateway, caller: str, provider: FakeProvider
) -> None:
    whole = event("speech.audio.delta", audio="AA") + event("speech.audio.done", usage=USAGE)
    provider.script("r-speech", answer_of(whole))
    body = json.dumps({"model": "speech", "input": "x", "voice": "a", "stream_format": "sse"}).encode()
    answer = await post(plain, caller, "/v1/audio/speech", body)
    assert answer.body == whole
    assert plain.record(answer.header("x-litellm-call-id"))["metadata"]["outcome"] == "completed"


@pytest.mark.parametrize("kind", ["Application/JSON", "application/json;charset=UTF-8", "APPLICATION/json; x=y"])
async def test_a_media_type_means_the_same_in_capitals(
    plain: Gateway, caller: str, provider: FakeProvider, kind: str
) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 1}
    provider.script("r-chatty", answer_of(json.dumps({"choices": [], "usage": usage}).encode(), kind))
    answer = await post(plain, caller, "/v1/chat/completions", chat("chatty"))
    assert (answer.status, answer.header("x-litellm-model-group")) == (200, "chatty")
    assert answer.header("x-litellm-attempted-fallbacks") == "0"


async def test_a_client_error_with_a_long_body_is_still_a_client_error(
    plain: Gateway, caller: str, provider: FakeProvider
) -> None:
    provider.script("r-chatty", Script(status=400, body=error_body("x" * 100_000, "invalid_request_error", None)))
    before = len(provider.seen("r-spare"))
    answer = await post(plain, caller, "/v1/chat/completions", chat("chatty"))
    assert answer.status == 400
    assert len(provider.seen("r-spare")) == before


async def test_a_number_of_retries_that_is_null_is_none_given(
    plain: Gateway, caller: str, provider: FakeProvider
) -> None:
    provider.script("r-chatty", SERVER_ERROR)
    answer = await post(plain, caller, "/v1/chat/completions", chat("chatty", num_retries=None))
    assert (answer.status, answer.header("x-litellm-attempted-fallbacks")) == (200, "1")


@pytest.mark.parametrize("script", [OK, SERVER_ERROR])
async def test_a_number_of_retries_that_is_none_is_refused_before_anybody_is_asked(
    plain: Gateway, caller: str, provider: FakeProvider, script: Script
) -> None:
    provider.script("r-chatty", script)
    before = len(provider.seen("r-chatty"))
    answer = await post(plain, caller, "/v1/chat/completions", chat("chatty", num_retries="many"))
    assert answer.status == 400
    assert len(provider.seen("r-chatty")) == before


async def test_the_fake_provider_answers_with_any_status(plain: Gateway, caller: str, provider: FakeProvider) -> None:
    provider.script("r-chatty", Script(status=529, body=error_body("Overloaded.", "overloaded_error", None)))
    answer = await fetch(provider.url.removesuffix("/v1"), "POST", "/v1/chat/completions", chat("r-chatty"), seconds=2)
    assert answer.status == 529
    provider.script("r-chatty", CONTEXT_WINDOW)
