"""A stream that is passed on as it comes leaves in whole events, wherever the network cuts it or it breaks."""

from __future__ import annotations

import itertools
import json

import pytest

from ostiary.gateway.translation import ObservingTap
from ostiary.wire.framing.event_stream import write_message
from ostiary.wire.registry import DIALECTS


def sse(kind: str, **fields: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind} | fields)}\n\n".encode()


def message(kind: str, **fields: object) -> bytes:
    return write_message({":event-type": kind, ":message-type": "event"}, json.dumps(fields).encode())


USAGE = {"input_tokens": 3, "output_tokens": 2}
SAID = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": USAGE}
ANTHROPIC = [
    sse("message_start", message=SAID | {"stop_reason": None, "stop_sequence": None}),
    sse("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    sse("content_block_delta", index=0, delta={"type": "text_delta", "text": "hello"}),
    sse("content_block_stop", index=0),
    sse("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage=USAGE),
    sse("message_stop"),
]
BEDROCK = [
    message("messageStart", role="assistant"),
    message("contentBlockDelta", delta={"text": "hello"}, contentBlockIndex=0),
    message("contentBlockStop", contentBlockIndex=0),
    message("messageStop", stopReason="end_turn"),
    message("metadata", usage={"inputTokens": 3, "outputTokens": 2, "totalTokens": 5}, metrics={"latencyMs": 1}),
]
LAST = {
    "candidates": [{"content": {"parts": [{"text": "lo"}], "role": "model"}, "finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5},
}
GEMINI = [
    b'data: {"candidates":[{"content":{"parts":[{"text":"hel"}],"role":"model"},"index":0}]}\r\n\r\n',
    b"data: " + json.dumps(LAST).encode() + b"\r\n\r\n",
]
ERRORS = {
    "anthropic_messages": sse("error", error={"type": "overloaded_error", "message": "Overloaded"}),
    "bedrock_converse": write_message(
        {":exception-type": "throttlingException", ":message-type": "exception"}, b'{"message":"slow down"}'
    ),
    "gemini_generate": b'data: {"error":{"code":503,"message":"overloaded","status":"UNAVAILABLE"}}\r\n\r\n',
}
STREAMS = {"anthropic_messages": ANTHROPIC, "bedrock_converse": BEDROCK, "gemini_generate": GEMINI}
EACH = pytest.mark.parametrize("name", STREAMS)


def tap_of(name: str) -> ObservingTap:
    dialect = DIALECTS[name]
    return ObservingTap(dialect.decoder(), dialect.stream_type)


@EACH
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_whole_stream_passes_byte_for_byte(name: str, size: int) -> None:
    stream = b"".join(STREAMS[name])
    tap, told = tap_of(name), b""
    for start in range(0, len(stream), size):
        told += tap.feed(stream[start : start + size])
    told += b"" if tap.done else tap.finish()
    assert told == stream
    assert tap.whole
    assert tap.usage is not None
    assert (tap.usage.input, tap.usage.output) == (3, 2)


@EACH
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_failure_is_told_after_the_events_before_it_and_none_of_its_own_bytes(name: str, size: int) -> None:
    before = b"".join(STREAMS[name][:-1])
    stream = before + ERRORS[name]
    tap, told = tap_of(name), b""
    for start in range(0, len(stream), size):
        told += tap.feed(stream[start : start + size])
        if tap.fault is not None:
            break
    assert told == before
    assert tap.fault is not None
    assert not tap.done


@EACH
def test_a_stream_cut_anywhere_has_left_in_whole_events(name: str) -> None:
    events = STREAMS[name]
    stream = b"".join(events)
    ends = set(itertools.accumulate(map(len, events), initial=0))
    for cut in range(len(stream)):
        tap = tap_of(name)
        told = tap.feed(stream[:cut])
        assert stream.startswith(told)
        assert len(told) in ends


def test_an_event_stream_that_is_none_is_a_failure() -> None:
    tap = tap_of("bedrock_converse")
    assert tap.feed(BEDROCK[0] + b"not a message at all, of any length") == BEDROCK[0]
    assert tap.fault is not None
