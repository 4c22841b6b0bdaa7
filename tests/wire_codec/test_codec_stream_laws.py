"""A stream tells the same answer as the whole body, however it is cut, and never ends where it did not."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from codec_kit import FUNCTIONS, answering, chunks, cuts, raw, replies, sse, told, value_of
from hypothesis import assume, given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionChunk
from test_codec_reply_laws import CONVENTIONS, strangers, written

from ostiary.core.fault import Fault, Kind, Retry
from ostiary.core.usage import Usage
from ostiary.wire.conversation.events import (
    Aside,
    Event,
    Failed,
    Finished,
    Metered,
    Opened,
    PartDelta,
    PartEnd,
    PartStart,
)
from ostiary.wire.conversation.fold import fold
from ostiary.wire.conversation.parts import Audio, Link, Reasoning, Refusal, Seal, Text, ToolCall, UnknownPart
from ostiary.wire.conversation.reply import Finish, Reason, Reply
from ostiary.wire.conversation.unknown import Extra, Loss, LossKind
from ostiary.wire.dialects.openai_chat.reply import decode_reply
from ostiary.wire.dialects.openai_chat.stream_decode import StreamDecoder
from ostiary.wire.dialects.openai_chat.stream_encode import StreamEncoder

PLACES = st.lists(st.integers(0, 5000), max_size=10)


def decoded(pieces: list[bytes]) -> list[Event]:
    decoder = StreamDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)] + decoder.finish()


def encoder(*, include_usage: bool = True) -> StreamEncoder:
    return StreamEncoder(answering(usage=include_usage))


def encoded(events: list[Event], *, include_usage: bool = True) -> bytes:
    writer = encoder(include_usage=include_usage)
    data = b"".join([*map(writer.encode, events), writer.end()])
    assert writer.losses == []
    return data


def documents(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(event[6:]) for event in data.split(b"\n\n") if event and event != b"data: [DONE]"]


@given(data=st.data(), reply=replies(FUNCTIONS, plain=True), places=PLACES)
def test_a_stream_and_the_whole_body_tell_the_same_answer(data: st.DataObject, reply: Reply, places: list[int]) -> None:
    body = written(reply)
    stream = sse(data.draw(chunks(body)), done=data.draw(st.booleans()))
    events = decoded([stream])
    assert fold(events) == decode_reply(body)
    assert decoded(cuts(stream, places)) == events
    assert decoded([stream[i : i + 1] for i in range(len(stream))]) == events


@given(data=st.data(), reply=replies())
def test_a_reply_told_in_events_and_folded_is_the_reply(data: st.DataObject, reply: Reply) -> None:
    events = data.draw(told(reply))
    assert fold(events) == reply
    assert fold(decoded([encoded(events)])) == reply


@given(data=st.data(), reply=replies(FUNCTIONS, plain=True), asked=st.booleans())
def test_the_official_sdk_knows_every_member_of_a_chunk(data: st.DataObject, reply: Reply, asked: bool) -> None:
    stream = encoded(data.draw(told(reply)), include_usage=asked)
    assert stream.endswith(b"data: [DONE]\n\n")
    for event in stream.split(b"\n\n")[:-2]:
        chunk = ChatCompletionChunk.model_validate_json(event.removeprefix(b"data: "), strict=True)
        assert strangers(chunk) <= {*CONVENTIONS, "annotations", "x_a", "x_b"}


@given(data=st.data(), reply=replies(), asked=st.booleans())
def test_usage_is_null_in_each_chunk_but_the_last_and_absent_where_not_asked_for(
    data: st.DataObject, reply: Reply, asked: bool
) -> None:
    found = documents(encoded(data.draw(told(reply)), include_usage=asked))
    assert all(("usage" in chunk) is asked for chunk in found)
    stating = [chunk for chunk in found if chunk.get("usage") is not None]
    assert stating == ([found[-1]] if asked and reply.usage is not None else [])
    assert all(chunk["choices"] == [] for chunk in stating)


@given(data=st.data(), reply=replies(FUNCTIONS, plain=True))
def test_a_stream_cut_anywhere_before_its_last_finish_fails(data: st.DataObject, reply: Reply) -> None:
    events = data.draw(chunks(written(reply)))
    stream = sse(events)
    last = max(place for place, event in enumerate(events) if any(c["finish_reason"] for c in event["choices"]))
    safe = len(sse(events[: last + 1], done=False)) - 2  # a blank line may be missing
    length = data.draw(st.integers(0, safe - 1))
    assume(not _some_choices_unheard_of(events, length))
    assert isinstance(decoded([stream[:length]])[-1], Failed)
    assert not any(isinstance(event, Failed) for event in decoded([stream[:safe]]))


def _some_choices_unheard_of(events: list[dict[str, Any]], length: int) -> bool:
    """Whether every choice that has begun within `length` bytes has ended there, and another would have followed.

    Without `[DONE]` nobody who does not know how many choices were asked for could tell.
    """
    whole = [event for place, event in enumerate(events) if len(sse(events[: place + 1], done=False)) - 2 <= length]
    heard = {choice["index"] for event in whole for choice in event["choices"]}
    ended = {choice["index"] for event in whole for choice in event["choices"] if choice["finish_reason"]}
    return bool(heard) and heard == ended


FRAGMENTS = st.sampled_from(
    [
        b"data: ",
        b"{}",
        b"[DONE]",
        b"\n\n",
        b"\xff",
        b'{"choices":',
        b'[{"finish_reason":"stop"}]}',
        b'{"choices":[{"delta":{"content":"a"}}]}',
        b'{"choices":[5]}',
        b'{"choices":[{"index":-1}]}',
        b'{"choices":[{"delta":{"tool_calls":[{}]}}]}',
        b'{"choices":[{"delta":{"tool_calls":[7,{"type":"mcp"}],"content":[{"type":"x"}]}}]}',
        b'{"error":{}}',
    ]
)


@given(data=st.binary(max_size=150) | st.lists(FRAGMENTS).map(b"".join), places=PLACES)
def test_arbitrary_bytes_are_events_the_same_however_cut(data: bytes, places: list[int]) -> None:
    events = decoded([data])
    assert decoded(cuts(data, places)) == events
    failed = [event for event in events if isinstance(event, Failed)]
    assert failed in ([], [events[-1]]) if events else not failed
    if not failed:
        fold(events)
        encoded(events)


def chunk(
    delta: dict[str, Any] | None = None, finish: str | None = None, index: int = 0, **more: Any
) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": delta or {}, "finish_reason": finish}], **more}


def calls(*items: dict[str, Any]) -> list[dict[str, Any]]:
    return [chunk({"tool_calls": [item]}) for item in items] + [chunk(finish="tool_calls")]


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        (  # no index at all
            [{"id": "1", "function": {"name": "f", "arguments": "{"}}, {"function": {"arguments": "}"}}],
            [ToolCall("1", "f", "{}")],
        ),
        (  # every call under index 0
            [
                {"index": 0, "id": "1", "function": {"name": "f", "arguments": "{}"}},
                {"index": 0, "id": "2", "function": {"name": "g", "arguments": "[]"}},
            ],
            [ToolCall("1", "f", "{}"), ToolCall("2", "g", "[]")],
        ),
        (  # the name after the id, arguments before it
            [
                {"index": 0, "id": "1", "function": {"arguments": "{"}},
                {"index": 0, "function": {"name": "f", "arguments": "}"}},
            ],
            [ToolCall("1", "f", "{}")],
        ),
        ([{"index": 0, "id": "1", "function": {"arguments": "{}"}}], [ToolCall("1", "", "{}")]),  # no name ever
        ([{"index": 0, "id": "1", "custom": {"name": "f", "input": "x"}}], [ToolCall("1", "f", "x", free=True)]),
    ],
)
def test_tool_calls_are_told_apart_as_servers_really_send_them(
    items: list[dict[str, Any]], expected: list[ToolCall]
) -> None:
    assert list(fold(decoded([sse(calls(*items))])).choices[0].parts) == expected


def test_a_call_of_another_kind_is_kept_whole() -> None:
    item = {"index": 0, "type": "mcp", "server": "s"}
    (part,) = fold(decoded([sse(calls(item))])).choices[0].parts
    assert isinstance(part, UnknownPart)
    assert (part.place, value_of(part.value)) == ("tool_calls", item)


def test_events_come_in_the_order_of_the_stream_and_usage_once() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2}
    events = decoded(
        [sse([chunk({"content": "a"}, id="i", model="m", usage=usage), chunk(finish="stop", usage=usage)])]
    )
    text = next(event for event in events if isinstance(event, PartStart)).index
    assert events == [
        Opened("i", "m"),
        PartStart(0, text, Text("")),
        PartDelta(0, text, "a"),
        Metered(Usage(1, 2)),
        PartEnd(0, text),
        Finished(0, Finish(Reason.STOP)),
    ]


def test_the_end_mark_ends_choices_that_gave_no_reason_and_a_second_reason_changes_nothing() -> None:
    events = decoded([sse([chunk({"content": "a"}), chunk({"content": "b"}, index=1), chunk(finish="length"),
                           chunk(finish="stop")])])  # fmt: skip
    assert [choice.finish.reason for choice in fold(events).choices] == [Reason.LENGTH, Reason.OTHER]


def test_nothing_follows_a_failure_or_the_end() -> None:
    error = {"error": {"message": "secret words", "code": 429}}
    events = decoded([sse([chunk({"content": "a"}), error, chunk({"content": "b"})])])
    assert isinstance(events[-1], Failed)
    assert (events[-1].kind, events[-1].retry) == (Kind.UPSTREAM_RATE_LIMIT, Retry.NEXT)
    assert not any(isinstance(event, PartDelta) and event.text == "b" for event in events)
    with pytest.raises(Fault) as caught:
        fold(events)
    assert caught.value.kind is Kind.UPSTREAM_RATE_LIMIT
    assert decoded([sse([chunk(finish="stop")]) + sse([chunk({"content": "late"})])]) == decoded(
        [sse([chunk(finish="stop")])]
    )


def test_what_surrounds_a_stream_is_told_once_and_pieces_within_a_choice_are_joined() -> None:
    logprobs = [{"content": [{"token": token}], "refusal": None} for token in "ab"]
    events = [
        {**chunk({"content": "a"}), "system_fingerprint": "fp", "obfuscation": "xxx"},
        {**chunk({"content": "b"}), "system_fingerprint": "fp", "obfuscation": "y"},
        chunk({"annotations": [{"n": 1}], "odd": 1}),
        chunk({"annotations": [{"n": 2}], "odd": 2}),
        chunk(finish="stop"),
    ]
    for event, piece in zip(events, logprobs, strict=False):
        event["choices"][0]["logprobs"] = piece
    found = decoded([sse(events)])
    assert sum(isinstance(event, Aside) and event.choice is None for event in found) == 1
    reply = fold(found)
    rest = {extra.path: value_of(extra.value) for extra in reply.choices[0].rest}
    assert rest[("logprobs", "content")] == [{"token": "a"}, {"token": "b"}]
    assert rest[("message", "annotations")] == [{"n": 1}, {"n": 2}]
    assert rest[("message", "odd")] == 2
    assert [extra.path for extra in reply.rest] == [("system_fingerprint",)]


def test_pieces_that_are_objects_are_joined_by_member_and_unreadable_ones_give_way() -> None:
    def aside(value: bytes) -> Aside:
        return Aside(0, Extra("openai_chat", ("x",), msgspec.Raw(value)))

    joined = fold([aside(b'{"a":[1],"b":1}'), aside(b'{"a":[2],"c":3}')]).choices[0].rest[0]
    assert value_of(joined.value) == {"a": [1, 2], "b": 1, "c": 3}
    assert bytes(fold([aside(b"1"), aside(b"[" * 5000)]).choices[0].rest[0].value) == b"[" * 5000


@pytest.mark.parametrize("bad", [{"choices": [5]}, {"choices": [{"index": -1}]}, {"choices": [{"index": 128}]}])
def test_a_choice_that_cannot_be_is_rubbish(bad: dict[str, Any]) -> None:
    events = decoded([sse([chunk({"content": "a"}), bad, chunk(finish="stop")])])
    assert isinstance(events[-1], Failed)
    assert events[-1].kind is Kind.BAD_ANSWER


def test_a_piece_of_an_answer_only_we_understand_is_written_into_the_delta() -> None:
    aside = Aside(0, Extra("openai_chat", ("message", "annotations"), raw([1])))
    opening, piece = documents(encoder().encode(aside))
    assert opening["choices"][0]["delta"]["role"] == "assistant"
    assert piece["choices"][0]["delta"] == {"annotations": [1]}


def test_reasoning_is_sealed_when_it_ends() -> None:
    seal = Seal("anthropic", "s")
    events: list[Event] = [PartStart(0, 0, Reasoning("a")), PartDelta(0, 0, "b"), PartEnd(0, 0, seal)]
    assert fold(events).choices[0].parts == (Reasoning("ab", seal),)


@pytest.mark.parametrize(
    ("events", "losses"),
    [
        ([PartStart(0, 0, Refusal("a")), PartEnd(0, 0, Seal("x", "s"))], [Loss(LossKind.SEAL, "choices.0.parts.0")]),
        ([Finished(0, Finish(Reason.STOP, stop="END"))], [Loss(LossKind.MARK, "choices.0.finish.stop")]),
        ([PartStart(0, 0, Text("a")), PartStart(0, 1, Text("b"))], [Loss(LossKind.SHAPE, "choices.0.parts.1")]),
        ([Aside(0, Extra("gemini_generate", ("x",), raw(1)))], [Loss(LossKind.UNKNOWN, "choices.0.x")]),
        ([Aside(None, Extra("gemini_generate", ("x",), raw(1)))], [Loss(LossKind.UNKNOWN, "x")]),
    ],
)
def test_what_a_stream_cannot_say_is_a_declared_loss(events: list[Event], losses: list[Loss]) -> None:
    writer = encoder()
    for event in events:
        writer.encode(event)
    assert writer.losses == losses


@pytest.mark.parametrize("part", [Audio(Link("https://e.x/i")), UnknownPart("gemini_generate", "parts", raw({}))])
def test_content_a_stream_cannot_say_is_refused(part: Any) -> None:
    with pytest.raises(Fault):
        encoder().encode(PartStart(0, 0, part))


def test_a_failed_or_unfinished_stream_is_not_ended_but_says_so() -> None:
    writer = encoder()
    writer.encode(PartStart(0, 0, Text("a")))
    fault = json.loads(writer.end().removeprefix(b"data: "))
    assert fault["error"]["code"] == "502"
    assert writer.end() == b""
    writer = encoder()
    failed = writer.encode(Failed.of(Fault(Kind.TIMEOUT, "too late", retry=Retry.SAME)))
    assert json.loads(failed.removeprefix(b"data: "))["error"]["message"] == "too late"
    assert writer.encode(Finished(0, Finish(Reason.STOP))) + writer.end() == b""
