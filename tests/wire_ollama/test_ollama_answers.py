"""An Ollama answer tells the same whole or as a stream, however it is cut, and never ends where it did not."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ollama_kit import (
    ANSWERING,
    PNG,
    US,
    body_of,
    cuts,
    lines,
    ndjson,
    outcome,
    raw,
    replies,
    respelled,
    told,
    value_of,
)

from ostiary.core.fault import Fault, Kind, Retry
from ostiary.core.usage import Usage
from ostiary.wire.conversation.events import (
    Aside,
    Cited,
    Event,
    Failed,
    Finished,
    Metered,
    Opened,
    PartDelta,
    PartEnd,
    PartStart,
    Scored,
)
from ostiary.wire.conversation.fold import fold
from ostiary.wire.conversation.parts import (
    Audio,
    Citation,
    Image,
    Inline,
    Link,
    Reasoning,
    Refusal,
    Seal,
    Text,
    ToolCall,
    UnknownPart,
)
from ostiary.wire.conversation.reply import Chance, Choice, Finish, Reason, Reply, Score
from ostiary.wire.conversation.unknown import Extra, LossKind
from ostiary.wire.dialect import Encoder
from ostiary.wire.dialects.ollama_chat.wire import DIALECT

PLACES = st.lists(st.integers(0, 5000), max_size=10)


def written(reply: Reply) -> bytes:
    encoded = DIALECT.encode_reply(reply, ANSWERING)
    assert encoded.losses == ()
    return encoded.body


def decoded(pieces: list[bytes]) -> list[Event]:
    decoder = DIALECT.decoder()
    return [event for piece in pieces for event in decoder.feed(piece)] + decoder.finish()


def encoder() -> Encoder:
    return DIALECT.encoder(ANSWERING)


def encoded(events: list[Event]) -> bytes:
    writer = encoder()
    data = b"".join([*map(writer.encode, events), writer.end()])
    assert writer.losses == []
    return data


def documents(data: bytes) -> list[dict[str, Any]]:
    assert data.endswith(b"\n")
    return [json.loads(line) for line in data.split(b"\n")[:-1]]


def answer(message: dict[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": "hello"} if message is None else {"role": "assistant", **message}
    head = {"model": "qwen3", "created_at": "2026-01-02T03:04:05.678Z", "message": said}
    return {**head, "done": True, "done_reason": "stop", **members}


def read(message: dict[str, Any] | None = None, **members: Any) -> Reply:
    return DIALECT.decode_reply(body_of(answer(message, **members)))


@given(reply=replies())
def test_a_reply_comes_back_equal(reply: Reply) -> None:
    assert DIALECT.decode_reply(written(reply)) == reply


@given(data=st.data(), reply=replies(plain=True), places=PLACES)
def test_a_stream_and_the_whole_body_tell_the_same_answer(data: st.DataObject, reply: Reply, places: list[int]) -> None:
    body = written(reply)
    stream = ndjson(data.draw(lines(body)))
    events = decoded([stream])
    assert fold(events) == DIALECT.decode_reply(body)
    assert decoded(cuts(stream, places)) == events
    assert decoded([stream[i : i + 1] for i in range(len(stream))]) == events


@given(data=st.data(), reply=replies())
def test_a_reply_told_in_events_and_folded_is_the_reply(data: st.DataObject, reply: Reply) -> None:
    events = data.draw(told(reply))
    assert fold(events) == reply
    assert respelled(fold(decoded([encoded(events)]))) == reply


@given(data=st.data(), reply=replies(plain=True))
def test_a_stream_cut_anywhere_before_its_end_fails(data: st.DataObject, reply: Reply) -> None:
    stream = ndjson(data.draw(lines(written(reply))))
    length = data.draw(st.integers(0, len(stream) - 2))  # the end of the last line may be missing
    assert isinstance(decoded([stream[:length]])[-1], Failed)
    assert not any(isinstance(event, Failed) for event in decoded([stream[:-1]]))


@given(body=st.binary(max_size=80) | replies().map(lambda reply: written(reply)[:-3] + b"}"))
def test_arbitrary_bytes_are_a_reply_or_a_fault(body: bytes) -> None:
    value, fault = outcome(DIALECT.decode_reply, body)
    assert isinstance(value, Reply) or fault in (Kind.BAD_ANSWER, Kind.TRUNCATED, Kind.UPSTREAM_ERROR)
    usage, fault = outcome(DIALECT.usage_of, body)
    assert usage is None or isinstance(usage, Usage)


FRAGMENTS = st.sampled_from(
    [
        b"{}",
        b"\n",
        b"\r\n",
        b"\xff",
        b"[]",
        b'{"message":{"content":"a","thinking":"b"}}',
        b'{"message":5,"done":"x"}',
        b'{"message":{"images":[5,"iVBORw0KGgo"],"tool_calls":[7,{},{"function":{"name":"f"}}]}}',
        b'{"logprobs":[{"token":"a"}],"x":1}',
        b'{"done":true}',
        b'{"error":"no"}',
        b'{"error":{}}',
    ]
)


@given(data=st.binary(max_size=150) | st.lists(FRAGMENTS).map(b"".join), places=PLACES)
def test_arbitrary_bytes_are_events_the_same_however_cut(data: bytes, places: list[int]) -> None:
    events = decoded([data])
    assert decoded(cuts(data, places)) == events
    failed = [event for event in events if isinstance(event, Failed)]
    assert failed in ([], [events[-1]])
    if not failed:
        fold(events)
        writer = encoder()
        documents(b"".join([*map(writer.encode, events), writer.end()]))


@given(found=st.lists(FRAGMENTS.map(lambda fragment: fragment + b"\n"), max_size=8))
def test_lines_in_any_order_are_told_or_fail(found: list[bytes]) -> None:
    events = decoded(found)
    assert [event for event in events[:-1] if isinstance(event, Failed)] == []
    if not isinstance(events[-1], Failed):
        fold(events)


def test_an_answer_is_read() -> None:
    logprobs = [{"token": "hi", "logprob": -0.5, "bytes": [104, 105], "top_logprobs": [{"token": "yo", "logprob": -1}]}]
    reply = read(
        {"thinking": "hm", "content": "hi", "images": [PNG]},
        total_duration=4935886791,
        prompt_eval_count=26,
        eval_count=282,
        logprobs=logprobs,
    )
    (choice,) = reply.choices
    assert choice.parts == (Reasoning("hm"), Text("hi"), Image(Inline("image/png", PNG)))
    assert choice.scores == (Score(Chance("hi", -0.5, (104, 105)), (Chance("yo", -1.0),)),)
    assert (reply.usage, reply.model, reply.rest) == (Usage(26, 282), "qwen3", ())


def test_calls_without_ids_get_one_that_no_other_answer_gives() -> None:
    calls = [{"function": {"name": "f", "arguments": {"x": 1}}}, {"id": "own", "function": {"name": "g", "index": 1}}]
    message = {"content": "", "tool_calls": calls}
    reply = read(message)
    first, second = reply.choices[0].parts
    assert first == ToolCall("call_20260102030405678_0", "f", '{"x": 1}')
    assert second == ToolCall("own", "g", "{}")
    assert reply.choices[0].finish.reason is Reason.TOOL_CALLS
    later = read(message, created_at="2026-01-02T03:04:06Z")
    assert later.choices[0].parts[0] != first
    early = {**answer({"content": "so"}), "done": False}
    stream = body_of(early) + b"\n" + body_of({**answer(message), "created_at": "2026-01-02T03:04:09Z"}) + b"\n"
    streamed = fold(decoded([stream])).choices[0]
    assert streamed.parts == (Text("so"), first, second)
    assert streamed.finish.reason is Reason.TOOL_CALLS
    timeless = answer(message)
    del timeless["created_at"]
    assert DIALECT.decode_reply(body_of(timeless)).choices[0].parts[0] == ToolCall("call_0", "f", '{"x": 1}')


def test_events_come_in_the_order_of_the_stream_and_end_with_the_last_line() -> None:
    stream = ndjson(
        [
            {"model": "m", "message": {"content": "a"}, "done": False},
            {"model": "m", "message": {"content": ""}, "done": True, "done_reason": "length", "eval_count": 2},
        ]
    )
    decoder = DIALECT.decoder()
    events = decoder.feed(stream)
    assert decoder.over
    assert decoder.feed(stream) == decoder.finish() == []
    text = next(event for event in events if isinstance(event, PartStart)).index
    assert events == [
        Opened("", "m"),
        PartStart(0, text, Text("")),
        PartDelta(0, text, "a"),
        PartEnd(0, text),
        Finished(0, Finish(Reason.LENGTH)),
        Metered(Usage(0, 2)),
    ]


@pytest.mark.parametrize(
    ("word", "finish"),
    [
        ("stop", Finish(Reason.STOP)),
        ("length", Finish(Reason.LENGTH)),
        ("load", Finish(Reason.OTHER, "load", US)),
        (None, Finish(Reason.OTHER)),
    ],
)
def test_why_the_model_stopped(word: str | None, finish: Finish) -> None:
    assert read(done_reason=word).choices[0].finish == finish


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b'{"error":"secret words"}', Kind.UPSTREAM_ERROR),
        (b'{"error":"the input length exceeds the context length"}', Kind.CONTEXT_WINDOW),
        (b'{"error":"blocked by content policy"}', Kind.CONTENT_POLICY),
        (b"oh", Kind.BAD_ANSWER),
    ],
)
def test_a_failure_within_a_stream_is_the_last_event(line: bytes, kind: Kind) -> None:
    events = decoded([body_of({"message": {"content": "a"}}) + b"\n" + line + b"\n" + body_of(answer()) + b"\n"])
    assert [type(event) for event in events] == [PartStart, PartDelta, Failed]
    failed = events[-1]
    assert isinstance(failed, Failed)
    assert failed.kind is kind
    assert "secret" not in failed.public
    with pytest.raises(Fault):
        fold(events)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", Kind.BAD_ANSWER),
        (b"{}", Kind.BAD_ANSWER),
        (b"\xff", Kind.BAD_ANSWER),
        (b'{"error":"no"}', Kind.UPSTREAM_ERROR),
        (b'{"message":{"content":"a"},"done":false}', Kind.TRUNCATED),
    ],
)
def test_what_is_no_answer_is_not_made_one(body: bytes, kind: Kind) -> None:
    assert outcome(DIALECT.decode_reply, body) == (None, kind)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"prompt_eval_count": 3, "eval_count": 2}, Usage(3, 2)),
        ({"eval_count": 2}, Usage(0, 2)),  # the prompt was cached, older servers say nothing of it
        ({"prompt_eval_count": -3}, None),
        ({"eval_count": 10**13}, None),
        ({"eval_count": "2"}, None),
        ({}, None),
    ],
)
def test_only_usage_that_makes_sense_counts(members: dict[str, Any], expected: Usage | None) -> None:
    body = body_of(answer(**members))
    assert DIALECT.usage_of(body) == DIALECT.decode_reply(body).usage == expected


def test_an_answer_is_written_with_its_time() -> None:
    parts = (Text("a"), ToolCall("i", "f", '{"x":1}'))
    reply = Reply(choices=(Choice(0, parts, Finish(Reason.TOOL_CALLS)),), usage=Usage(3, 2))
    assert json.loads(written(reply)) == {
        "model": "m",
        "created_at": "1970-01-01T00:00:01Z",
        "message": {
            "role": "assistant",
            "content": "a",
            "tool_calls": [
                {"id": "i", "type": "function", "function": {"name": "f", "arguments": {"x": 1}, "index": 0}}
            ],
        },
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": 3,
        "eval_count": 2,
    }


def test_a_call_is_streamed_whole_on_one_line() -> None:
    events: list[Event] = [
        PartStart(0, 0, ToolCall("i", "f", "")),
        PartDelta(0, 0, '{\n  "x":'),
        PartDelta(0, 0, " 1\n}"),
        Finished(0, Finish(Reason.TOOL_CALLS)),
    ]
    first, last = documents(encoded(events))
    assert first["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": {"x": 1}, "index": 0}
    assert (first["done"], last["done"], last["done_reason"]) == (False, True, "stop")


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(choices=(Choice(0, (Refusal("no"),)),)), [(LossKind.MARK, "choices.0.parts.0")]),
        (Reply(choices=(Choice(0, (Reasoning("a", Seal("x", "s")),)),)), [(LossKind.SEAL, "choices.0.parts.0")]),
        (Reply(choices=(Choice(0, (Text("a"), Reasoning("b"))),)), [(LossKind.SHAPE, "choices.0")]),
        (Reply(choices=(Choice(0, (Text("a"), Text("b"))),)), [(LossKind.SHAPE, "choices.0")]),
        (Reply(choices=(Choice(0, (Text("a", citations=(Citation("u"),)),)),)), [
            (LossKind.MARK, "choices.0.parts.0.citations")
        ]),
        (Reply(choices=(Choice(0, (), Finish(Reason.STOP, stop="x")),)), [(LossKind.MARK, "choices.0.finish.stop")]),
        (Reply(choices=(Choice(0, (), Finish(Reason.CONTENT_FILTER)),)), [(LossKind.MARK, "choices.0.finish")]),
        (Reply(choices=(), rest=(Extra("other", ("x",), raw(1)),), tier="flex"), [
            (LossKind.UNKNOWN, "x"), (LossKind.MARK, "tier")
        ]),
    ],
)  # fmt: skip
def test_what_an_answer_cannot_say_is_a_declared_loss(reply: Reply, expected: list[tuple[LossKind, str]]) -> None:
    assert [(loss.kind, loss.where) for loss in DIALECT.encode_reply(reply, ANSWERING).losses] == expected


@pytest.mark.parametrize(
    ("events", "kinds"),
    [
        ([PartStart(0, 0, Reasoning("a")), PartEnd(0, 0, Seal("x", "s"))], [LossKind.SEAL]),
        ([PartStart(0, 0, Text("a")), PartStart(0, 1, Reasoning("b"))], [LossKind.SHAPE]),
        ([PartStart(0, 0, Text("a")), PartStart(0, 1, Text("b"))], [LossKind.SHAPE]),
        ([PartStart(0, 0, Text("a")), Cited(0, 0, Citation("u"))], [LossKind.MARK]),
        ([PartStart(0, 0, Refusal("no"))], [LossKind.MARK]),
        ([Aside(0, Extra("other", ("x",), raw(1)))], [LossKind.UNKNOWN]),
        ([Opened("i", "m", "flex")], [LossKind.MARK]),
    ],
)
def test_what_a_stream_cannot_say_is_a_declared_loss(events: list[Event], kinds: list[LossKind]) -> None:
    writer = encoder()
    data = b"".join([*map(writer.encode, events), writer.encode(Finished(0, Finish(Reason.STOP))), writer.end()])
    assert [loss.kind for loss in writer.losses] == kinds
    assert documents(data)[-1]["done"] is True


def test_content_without_a_word_here_is_refused() -> None:
    for part in (Image(Link("https://e.x")), Audio(Inline("audio/wav", "AA")), ToolCall("1", "f", "5")):
        with pytest.raises(Fault) as caught:
            DIALECT.encode_reply(Reply(choices=(Choice(0, (part,)),)), ANSWERING)
        assert (caught.value.kind, caught.value.retry) == (Kind.INVALID_REQUEST, Retry.NEXT)
    with pytest.raises(Fault):
        DIALECT.encode_reply(Reply(choices=(Choice(0, ()), Choice(1, ()))), ANSWERING)
    for event in (
        PartStart(0, 0, Image(Link("https://e.x"))),
        PartStart(1, 0, Text("a")),
        Finished(1, Finish(Reason.STOP)),
    ):
        with pytest.raises(Fault):
            encoder().encode(event)
    writer = encoder()
    writer.encode(PartStart(0, 0, ToolCall("1", "f", "{oh")))
    with pytest.raises(Fault):
        writer.encode(PartEnd(0, 0))


def test_a_stream_that_did_not_finish_ends_in_an_error_and_nothing_follows() -> None:
    writer = encoder()
    writer.encode(PartStart(0, 0, Text("a")))
    last = writer.end()
    (document,) = documents(last)
    assert document.keys() == {"error"}
    assert (writer.end(), writer.encode(PartDelta(0, 0, "b"))) == (b"", b"")
    assert isinstance(decoded([last])[-1], Failed)
    failed = Failed(Kind.UPSTREAM_ERROR, "it broke", 502)
    assert documents(encoder().encode(failed)) == [{"error": "it broke"}]


def test_members_kept_as_they_came_do_not_break_a_line() -> None:
    extra = Extra(US, ("x",), msgspec.Raw(b'{\n"a":\r\n1}'))
    events: list[Event] = [Aside(None, extra), Finished(0, Finish(Reason.STOP))]
    (kept,) = fold(decoded([encoded(events)])).rest
    assert value_of(kept.value) == {"a": 1}


def test_a_line_is_one_line_to_a_client_that_splits_text() -> None:
    events: list[Event] = [PartStart(0, 0, Text("a\x85b\u2028c\u2029d\ne")), Finished(0, Finish(Reason.STOP))]
    stream = encoded(events)
    assert len(stream.decode().splitlines()) == stream.count(b"\n") == 2
    assert fold(decoded([stream])).choices[0].parts == (Text("a\x85b\u2028c\u2029d\ne"),)


def test_an_image_of_no_known_format_is_kept_whole() -> None:
    (part,) = read({"content": "", "images": ["AAAA"]}).choices[0].parts
    assert part == UnknownPart(US, "images", raw("AAAA"))


def test_a_ping_says_nothing_and_is_a_line_as_any_other() -> None:
    decoder = DIALECT.decoder()
    assert decoder.feed(DIALECT.ping + b"\n\r\n") == []
    assert documents(DIALECT.ping) == [{"message": {"role": "assistant", "content": ""}, "done": False}]


def test_chances_are_streamed_as_they_come() -> None:
    score = Score(Chance("a", -1.0, (97,)), (Chance("b", -2.0),))
    events: list[Event] = [Scored(0, (score,)), Finished(0, Finish(Reason.STOP))]
    first = documents(encoded(events))[0]
    assert first["logprobs"] == [
        {"token": "a", "logprob": -1.0, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -2.0}]}
    ]
    assert fold(decoded([encoded(events)])).choices[0].scores == (score,)


@pytest.mark.parametrize(
    ("status", "body", "kind", "told_status", "retry", "relayed"),
    [
        (400, b'{"error":"the input length exceeds the context length"}',
         Kind.CONTEXT_WINDOW, 400, Retry.NEVER, True),
        (500, b'{"error":"the request exceeds the available context size"}',
         Kind.CONTEXT_WINDOW, 400, Retry.NEVER, False),
        (400, b'{"error":"refused by content filter"}', Kind.CONTENT_POLICY, 400, Retry.NEVER, True),
        (400, b'{"error":"\\"m\\" does not support tools"}', Kind.UPSTREAM_REJECTED, 400, Retry.NEVER, True),
        (401, b'{"error":"unauthorized"}', Kind.UPSTREAM_AUTH, 502, Retry.NEXT, False),
        (402, b'{"error":"pay"}', Kind.UPSTREAM_AUTH, 502, Retry.NEXT, False),
        (404, b'{"error":"model \'m\' not found"}', Kind.UPSTREAM_REJECTED, 404, Retry.NEXT, True),
        (408, b"", Kind.TIMEOUT, 504, Retry.SAME, False),
        (429, b'{"error":"too many requests"}', Kind.UPSTREAM_RATE_LIMIT, 429, Retry.NEXT, False),
        (503, b'{"error":"server busy"}', Kind.UPSTREAM_ERROR, 503, Retry.SAME, False),
        (200, b"", Kind.BAD_ANSWER, 502, Retry.NEXT, False),
    ],
)  # fmt: skip
def test_what_an_error_means(
    status: int, body: bytes, kind: Kind, told_status: int, retry: Retry, relayed: bool
) -> None:
    fault = DIALECT.decode_fault(status, body, 7.0)
    assert (fault.kind, fault.status, fault.retry) == (kind, told_status, retry)
    assert fault.answer == (body if relayed else None)
    assert (fault.retry_after == 7.0) is (status in (408, 429, 503))


@given(status=st.integers(100, 599), body=st.binary(max_size=80))
def test_any_error_answer_is_a_fault(status: int, body: bytes) -> None:
    assert isinstance(DIALECT.decode_fault(status, body, None), Fault)
    assert DIALECT.decode_fault(400, b" " * 70_000, None).answer is None


def test_a_fault_is_told_in_ollamas_words() -> None:
    fault = Fault(Kind.RATE_LIMITED, "too fast")
    assert json.loads(DIALECT.encode_fault(fault)) == {"error": "too fast"}
    assert DIALECT.encode_fault(Fault(Kind.UPSTREAM_REJECTED, "x", answer=b"{}")) == b"{}"
    assert documents(DIALECT.encode_fault_event(fault)) == [{"error": "too fast"}]
