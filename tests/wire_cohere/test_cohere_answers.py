"""A Cohere answer tells the same whole or as a stream, however it is cut, and never ends where it did not."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from cohere_kit import ANSWERING, US, body_of, chunks, cuts, outcome, raw, replies, sse, told, value_of
from hypothesis import given
from hypothesis import strategies as st

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
from ostiary.wire.conversation.parts import Citation, Image, Link, Reasoning, Refusal, Seal, Text, ToolCall
from ostiary.wire.conversation.reply import Chance, Choice, Finish, Reason, Reply, Score
from ostiary.wire.conversation.unknown import Extra, LossKind
from ostiary.wire.dialect import Encoder
from ostiary.wire.dialects.cohere_chat.wire import DIALECT

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
    found = []
    for event in data.decode().split("\n\n")[:-1]:
        name, text = event.split("\n")
        document = json.loads(text.removeprefix("data: "))
        assert name == f"event: {document['type']}"
        found.append(document)
    return found


def answer(**members: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": [{"type": "text", "text": "hello"}]}
    return {"id": "1", "finish_reason": "COMPLETE", "message": message, **members}


def read(**members: Any) -> Reply:
    return DIALECT.decode_reply(body_of(answer(**members)))


@given(reply=replies())
def test_a_reply_comes_back_equal(reply: Reply) -> None:
    assert DIALECT.decode_reply(written(reply)) == reply


@given(data=st.data(), reply=replies(plain=True), places=PLACES)
def test_a_stream_and_the_whole_body_tell_the_same_answer(data: st.DataObject, reply: Reply, places: list[int]) -> None:
    body = written(reply)
    stream = sse(data.draw(chunks(body)))
    events = decoded([stream])
    assert fold(events) == DIALECT.decode_reply(body)
    assert decoded(cuts(stream, places)) == events
    assert decoded([stream[i : i + 1] for i in range(len(stream))]) == events


@given(data=st.data(), reply=replies())
def test_a_reply_told_in_events_and_folded_is_the_reply(data: st.DataObject, reply: Reply) -> None:
    events = data.draw(told(reply))
    assert fold(events) == reply
    assert fold(decoded([encoded(events)])) == reply


@given(data=st.data(), reply=replies(plain=True))
def test_a_stream_cut_anywhere_before_its_end_fails(data: st.DataObject, reply: Reply) -> None:
    stream = sse(data.draw(chunks(written(reply))))
    length = data.draw(st.integers(0, len(stream) - 3))  # the blank line of the last event may be missing
    assert isinstance(decoded([stream[:length]])[-1], Failed)
    assert not any(isinstance(event, Failed) for event in decoded([stream[:-2]]))


@given(body=st.binary(max_size=80) | replies().map(lambda reply: written(reply)[:-3] + b"}"))
def test_arbitrary_bytes_are_a_reply_or_a_fault(body: bytes) -> None:
    value, fault = outcome(DIALECT.decode_reply, body)
    assert isinstance(value, Reply) or fault in (Kind.BAD_ANSWER, Kind.UPSTREAM_ERROR, Kind.TIMEOUT)
    usage, fault = outcome(DIALECT.usage_of, body)
    assert usage is None or isinstance(usage, Usage)


FRAGMENTS = st.sampled_from(
    [
        b"data: ",
        b"event: content-delta\n",
        b"{}",
        b"[DONE]",
        b"\n\n",
        b"\xff",
        b'{"type":"message-start","id":"i"}',
        b'{"type":"content-start","index":-1}',
        b'{"type":"content-start","delta":{"message":{"content":{"type":"video"}}}}',
        b'{"type":"content-delta","index":1,"delta":{"message":{"content":{"text":"a","thinking":"b"}}}}',
        b'{"type":"content-end"}',
        b'{"type":"tool-call-start","delta":{"message":{"tool_calls":[]}}}',
        b'{"type":"tool-call-start","delta":{"message":{"tool_calls":{"type":"mcp"}}}}',
        b'{"type":"tool-call-delta","delta":{"message":{"tool_calls":{"function":{"arguments":"x"}}}}}',
        b'{"type":"citation-start","delta":{"message":{"citations":[5,{"start":0}]}}}',
        b'{"type":"message-end","delta":{"finish_reason":"COMPLETE"}}',
        b'{"message":"no"}',
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
        assert b"".join([*map(writer.encode, events), writer.end()]).endswith(b"\n\n")


FRAME_PIECES = st.lists(FRAGMENTS.map(lambda fragment: b"data: " + fragment + b"\n\n"), max_size=8)


@given(frames=FRAME_PIECES)
def test_events_in_any_order_are_told_or_fail(frames: list[bytes]) -> None:
    events = decoded(frames)
    assert [event for event in events[:-1] if isinstance(event, Failed)] == []
    if not isinstance(events[-1], Failed):
        fold(events)


def test_an_answer_with_citations_chances_and_billed_units_is_read() -> None:
    source = {"type": "document", "id": "d1", "document": {"title": "T", "url": "https://e.x", "snippet": "s"}}
    citation = {"start": 0, "end": 5, "text": "hello", "sources": [source], "type": "TEXT_CONTENT", "content_index": 0}
    message = {**answer()["message"], "citations": [citation]}
    usage = {
        "billed_units": {"input_tokens": 5.0, "output_tokens": 2},
        "tokens": {"input_tokens": 71.0, "output_tokens": 3},
        "cached_tokens": 16,
    }
    logprobs = [{"text": "hello", "token_ids": [9], "logprobs": [-0.5]}]
    reply = read(message=message, usage=usage, logprobs=logprobs)
    (choice,) = reply.choices
    (text,) = choice.parts
    assert isinstance(text, Text)
    (cited,) = text.citations
    assert (cited.url, cited.title, cited.start, cited.end) == ("https://e.x", "T", 0, 5)
    assert [extra.path for extra in cited.rest] == [("sources",)]
    assert reply.usage == Usage(input=71, output=3, cache_read=16)
    assert choice.scores == (Score(Chance("hello", -0.5)),)
    assert {extra.path: value_of(extra.value) for extra in reply.rest} == {
        ("usage", "billed_units"): {"input_tokens": 5.0, "output_tokens": 2}
    }
    back = json.loads(written(reply))
    assert back == {**answer(message=message, usage=usage, logprobs=logprobs), "id": "c-1"}


def test_the_same_answer_is_streamed() -> None:
    citation = {"start": 0, "end": 5, "text": "hello", "sources": [], "type": "TEXT_CONTENT", "content_index": 0}
    stream = sse(
        [
            {"type": "message-start", "id": "i", "delta": {"message": {"role": "assistant", "tool_plan": ""}}},
            {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}},
            {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "hello"}}}},
            {"type": "citation-start", "index": 0, "delta": {"message": {"citations": citation}}},
            {"type": "citation-end", "index": 0},
            {"type": "debug", "prompt": "p"},
            {"type": "content-end", "index": 0},
            {
                "type": "message-end",
                "delta": {
                    "finish_reason": "COMPLETE",
                    "usage": {"billed_units": {"input_tokens": 4, "output_tokens": 2}},
                },
            },
        ]
    )
    decoder = DIALECT.decoder()
    events = decoder.feed(stream)
    assert decoder.over
    assert decoder.feed(stream) == decoder.finish() == []
    text = next(event for event in events if isinstance(event, PartStart)).index
    units = Extra(US, ("usage", "billed_units"), raw({"input_tokens": 4, "output_tokens": 2}))
    assert events == [
        Opened("i", ""),
        PartStart(0, text, Text("")),
        PartDelta(0, text, "hello"),
        Cited(0, text, Citation(start=0, end=5, rest=(Extra(US, ("sources",), raw([])),))),
        PartEnd(0, text),
        Aside(None, units),
        Finished(0, Finish(Reason.STOP)),
        Metered(Usage(4, 2)),
    ]


def test_a_plan_and_its_calls_are_streamed_even_without_indices() -> None:
    def delta(kind: str, **message: Any) -> dict[str, Any]:
        return {"type": kind, "delta": {"message": message}}

    call = {"type": "function", "function": {"name": "f", "arguments": ""}}
    stream = sse(
        [
            delta("tool-plan-delta", tool_plan="I "),
            delta("tool-plan-delta", tool_plan="look"),
            delta("tool-call-start", tool_calls={"id": "1", **call}),
            delta("tool-call-delta", tool_calls={"function": {"arguments": "{\n}"}}),
            {"type": "tool-call-end"},
            delta("tool-call-start", tool_calls=[{"id": "2", **call}]),
            delta("tool-call-delta", tool_calls=[{"function": {"arguments": "[]"}}]),
            {"type": "message-end", "delta": {"finish_reason": "TOOL_CALL"}},
        ]
    )
    reply = fold(decoded([stream]))
    plan, first, second = reply.choices[0].parts
    assert isinstance(plan, Reasoning)
    assert plan.text == "I look"
    assert (first, second) == (ToolCall("1", "f", "{\n}"), ToolCall("2", "f", "[]"))
    assert reply.choices[0].finish.reason is Reason.TOOL_CALLS


def test_content_without_a_start_and_thinking_beside_text_are_told_apart() -> None:
    def delta(**content: str) -> dict[str, Any]:
        return {"type": "content-delta", "delta": {"message": {"content": content}}}

    stream = sse([delta(thinking="hm"), delta(text="a"), delta(text="b"), {"type": "message-end"}])
    choice = fold(decoded([stream])).choices[0]
    assert choice.parts == (Reasoning("hm"), Text("ab"))
    assert choice.finish.reason is Reason.OTHER


@pytest.mark.parametrize(
    ("word", "finish"),
    [
        ("COMPLETE", Finish(Reason.STOP)),
        ("STOP_SEQUENCE", Finish(Reason.STOP, "STOP_SEQUENCE", US)),
        ("MAX_TOKENS", Finish(Reason.LENGTH)),
        ("TOOL_CALL", Finish(Reason.TOOL_CALLS)),
        ("NEW", Finish(Reason.OTHER, "NEW", US)),
        (None, Finish(Reason.OTHER)),
    ],
)
def test_why_the_model_stopped(word: str | None, finish: Finish) -> None:
    assert read(finish_reason=word).choices[0].finish == finish


@pytest.mark.parametrize(("word", "kind"), [("ERROR", Kind.UPSTREAM_ERROR), ("TIMEOUT", Kind.TIMEOUT)])
def test_an_answer_that_failed_is_no_reply(word: str, kind: Kind) -> None:
    with pytest.raises(Fault) as caught:
        read(finish_reason=word)
    assert (caught.value.kind, caught.value.retry) == (kind, Retry.SAME)
    failed = decoded([sse([{"type": "message-end", "delta": {"finish_reason": word}}])])[-1]
    assert isinstance(failed, Failed)
    assert failed.kind is kind


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ({"type": "message-end", "delta": {"error": "secret words", "finish_reason": "ERROR"}}, Kind.UPSTREAM_ERROR),
        ({"type": "message-end", "delta": {"error": "too many tokens: ..."}}, Kind.CONTEXT_WINDOW),
        ({"type": "message-end", "delta": {"error": "blocked output: ..."}}, Kind.CONTENT_POLICY),
        ({"type": "content-delta", "index": -1, "delta": {"message": {"content": {"text": "a"}}}}, Kind.BAD_ANSWER),
    ],
)
def test_a_failure_within_a_stream_is_the_last_event(event: dict[str, Any], kind: Kind) -> None:
    events = decoded([sse([event, {"type": "message-end", "delta": {"finish_reason": "COMPLETE"}}])])
    (failed,) = events
    assert isinstance(failed, Failed)
    assert failed.kind is kind
    assert "secret" not in failed.public


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"message":{}}', b"\xff", b'{"message":{"x":1}}'])
def test_what_is_no_answer_is_not_made_one(body: bytes) -> None:
    assert outcome(DIALECT.decode_reply, body) == (None, Kind.BAD_ANSWER)


def test_an_error_that_came_as_an_answer_is_an_error() -> None:
    assert outcome(DIALECT.decode_reply, b'{"message":"too many tokens: 9"}') == (None, Kind.CONTEXT_WINDOW)
    assert outcome(DIALECT.usage_of, b'{"message":"oh"}') == (None, Kind.UPSTREAM_ERROR)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"tokens": {"input_tokens": 3, "output_tokens": 2.0}}, Usage(3, 2)),
        ({"billed_units": {"input_tokens": 3, "output_tokens": 2}}, Usage(3, 2)),
        ({"tokens": {"input_tokens": -3}}, None),
        ({"tokens": {"input_tokens": 1e300}}, None),
        ({"tokens": {}}, None),
        ({"tokens": 5}, None),
        (5, None),
        (None, None),
    ],
)
def test_only_usage_that_makes_sense_counts(usage: Any, expected: Usage | None) -> None:
    body = body_of(answer(usage=usage))
    assert DIALECT.usage_of(body) == DIALECT.decode_reply(body).usage == expected


def test_a_citation_of_any_origin_is_said_with_its_words_and_one_source() -> None:
    text = Text("hello you", citations=(Citation("https://e.x", "T", "quoted", 0, 5),))
    reply = Reply(choices=(Choice(0, (text,), Finish(Reason.STOP)),))
    (citation,) = json.loads(written(reply))["message"]["citations"]
    assert citation == {
        "start": 0,
        "end": 5,
        "text": "hello",
        "sources": [{"type": "document", "document": {"url": "https://e.x", "title": "T", "text": "quoted"}}],
        "content_index": 0,
        "type": "TEXT_CONTENT",
    }


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(choices=(Choice(0, (Refusal("no"),)),)), [(LossKind.MARK, "choices.0.parts.0")]),
        (Reply(choices=(Choice(0, (Reasoning("a", Seal("x", "s")),)),)), [(LossKind.SEAL, "choices.0.parts.0")]),
        (Reply(choices=(Choice(0, (Reasoning("", Seal("x", "s"), hidden=True),)),)), [
            (LossKind.SEAL, "choices.0.parts.0")
        ]),
        (Reply(choices=(Choice(0, (ToolCall("1", "f", ""), Text("a"))),)), [(LossKind.SHAPE, "choices.0")]),
        (Reply(choices=(Choice(0, (), Finish(Reason.STOP, stop="x")),)), [(LossKind.MARK, "choices.0.finish.stop")]),
        (Reply(choices=(Choice(0, (), Finish(Reason.CONTENT_FILTER)),)), [(LossKind.MARK, "choices.0.finish")]),
        (Reply(choices=(Choice(0, (), scores=(Score(Chance("a", -1.0), (Chance("b", -2.0),)),)),)), [
            (LossKind.KNOB, "choices.0.scores.0.top")
        ]),
        (Reply(choices=(), rest=(Extra("other", ("x",), raw(1)),), tier="flex"), [
            (LossKind.UNKNOWN, "x"), (LossKind.MARK, "tier")
        ]),
    ],
)  # fmt: skip
def test_what_an_answer_cannot_say_is_a_declared_loss(reply: Reply, expected: list[tuple[LossKind, str]]) -> None:
    assert [(loss.kind, loss.where) for loss in DIALECT.encode_reply(reply, ANSWERING).losses] == expected


def test_reasoning_is_shown_to_a_client_without_its_seal() -> None:
    reply = Reply(choices=(Choice(0, (Reasoning("a", Seal("x", "s")), Text("b"))),))
    body = json.loads(DIALECT.encode_reply(reply, ANSWERING).body)
    assert body["message"]["content"] == [{"type": "thinking", "thinking": "a"}, {"type": "text", "text": "b"}]


@pytest.mark.parametrize(
    ("events", "kinds"),
    [
        ([PartStart(0, 0, Reasoning("a")), PartEnd(0, 0, Seal("x", "s"))], [LossKind.SEAL]),
        ([PartStart(0, 0, Reasoning("", Seal("x", "s"), hidden=True)), PartEnd(0, 0)], [LossKind.SEAL]),
        ([PartStart(0, 0, ToolCall("1", "f", "")), PartStart(0, 1, Text("a"))], [LossKind.SHAPE]),
        ([PartStart(0, 0, Refusal("no"))], [LossKind.MARK]),
        ([Aside(0, Extra("other", ("x",), raw(1)))], [LossKind.UNKNOWN]),
        ([Scored(0, (Score(Chance("a", -1.0)),))], [LossKind.MARK]),
        ([Opened("i", "m", "flex")], [LossKind.MARK]),
    ],
)
def test_what_a_stream_cannot_say_is_a_declared_loss(events: list[Event], kinds: list[LossKind]) -> None:
    writer = encoder()
    data = b"".join([*map(writer.encode, events), writer.encode(Finished(0, Finish(Reason.STOP))), writer.end()])
    assert [loss.kind for loss in writer.losses] == kinds
    assert documents(data)[-1]["type"] == "message-end"


def test_content_without_a_word_here_is_refused() -> None:
    image = Image(Link("https://e.x"))
    for reply in (Reply(choices=(Choice(0, (image,)),)), Reply(choices=(Choice(0, ()), Choice(1, ())))):
        with pytest.raises(Fault) as caught:
            DIALECT.encode_reply(reply, ANSWERING)
        assert (caught.value.kind, caught.value.retry) == (Kind.INVALID_REQUEST, Retry.NEXT)
    for event in (PartStart(0, 0, image), PartStart(1, 0, Text("a")), Finished(1, Finish(Reason.STOP))):
        with pytest.raises(Fault):
            encoder().encode(event)


def test_chances_that_come_before_any_content_wait_for_it() -> None:
    score = Score(Chance("a", -1.0))
    events: list[Event] = [Scored(0, (score,)), PartStart(0, 0, Text("a")), Finished(0, Finish(Reason.STOP))]
    assert fold(decoded([encoded(events)])).choices[0].scores == (score,)


def test_a_stream_that_did_not_finish_ends_in_an_error_and_nothing_follows() -> None:
    writer = encoder()
    writer.encode(PartStart(0, 0, Text("a")))
    last = writer.end()
    (document,) = documents(last)
    assert document["delta"]["finish_reason"] == "ERROR"
    assert (writer.end(), writer.encode(PartDelta(0, 0, "b"))) == (b"", b"")
    assert isinstance(decoded([last])[-1], Failed)


def test_members_kept_as_they_came_do_not_break_a_frame() -> None:
    extra = Extra(US, ("x",), msgspec.Raw(b'{\n"a":\r\n1}'))
    events: list[Event] = [Aside(None, extra), Finished(0, Finish(Reason.STOP))]
    (kept,) = fold(decoded([encoded(events)])).rest
    assert value_of(kept.value) == {"a": 1}


def test_a_ping_says_nothing() -> None:
    decoder = DIALECT.decoder()
    assert decoder.feed(DIALECT.ping) == []


@pytest.mark.parametrize(
    ("status", "body", "kind", "told_status", "retry", "relayed"),
    [
        (400, b'{"message":"too many tokens: total number of tokens in the prompt cannot exceed 4081"}',
         Kind.CONTEXT_WINDOW, 400, Retry.NEVER, True),
        (400, b'{"message":"too many tokens: max tokens must be less than or equal to 4096"}',
         Kind.UPSTREAM_REJECTED, 400, Retry.NEVER, True),
        (400, b'{"message":"blocked input: please adjust"}', Kind.CONTENT_POLICY, 400, Retry.NEVER, True),
        (498, b"{}", Kind.CONTENT_POLICY, 400, Retry.NEVER, False),
        (422, b'{"message":"invalid"}', Kind.UPSTREAM_REJECTED, 422, Retry.NEVER, True),
        (401, b'{"message":"invalid api token"}', Kind.UPSTREAM_AUTH, 502, Retry.NEXT, False),
        (402, b'{"message":"add a card"}', Kind.UPSTREAM_AUTH, 502, Retry.NEXT, False),
        (403, b'{"message":"no"}', Kind.UPSTREAM_AUTH, 502, Retry.NEXT, False),
        (404, b'{"message":"model not found"}', Kind.UPSTREAM_REJECTED, 404, Retry.NEXT, True),
        (408, b"", Kind.TIMEOUT, 504, Retry.SAME, False),
        (429, b'{"message":"trial key"}', Kind.UPSTREAM_RATE_LIMIT, 429, Retry.NEXT, False),
        (499, b'{"message":"cancelled"}', Kind.UPSTREAM_REJECTED, 499, Retry.NEVER, False),
        (503, b"<html>", Kind.UPSTREAM_ERROR, 503, Retry.SAME, False),
        (200, b"", Kind.BAD_ANSWER, 502, Retry.NEXT, False),
    ],
)  # fmt: skip
def test_what_an_error_means(
    status: int, body: bytes, kind: Kind, told_status: int, retry: Retry, relayed: bool
) -> None:
    fault = DIALECT.decode_fault(status, body, 7.0)
    assert (fault.kind, fault.status, fault.retry) == (kind, told_status, retry)
    assert fault.answer == (body if relayed else None)
    assert (fault.retry_after == 7.0) is (retry is not Retry.NEVER and status in (408, 429, 503))


@given(status=st.integers(100, 599), body=st.binary(max_size=80))
def test_any_error_answer_is_a_fault(status: int, body: bytes) -> None:
    assert isinstance(DIALECT.decode_fault(status, body, None), Fault)
    assert DIALECT.decode_fault(400, b" " * 70_000, None).answer is None


def test_a_fault_is_told_in_coheres_words() -> None:
    fault = Fault(Kind.RATE_LIMITED, "too fast")
    assert json.loads(DIALECT.encode_fault(fault)) == {"message": "too fast"}
    assert DIALECT.encode_fault(Fault(Kind.UPSTREAM_REJECTED, "x", answer=b"{}")) == b"{}"
    (event,) = documents(DIALECT.encode_fault_event(fault))
    assert event == {"type": "message-end", "delta": {"error": "too fast", "finish_reason": "ERROR"}}
    failed = Failed(Kind.UPSTREAM_ERROR, "it broke", 502)
    assert documents(encoder().encode(failed))[0]["delta"]["error"] == "it broke"


def test_a_long_cited_answer_takes_time_in_proportion() -> None:
    def event(kind: str, **message: Any) -> dict[str, Any]:
        return {"type": kind, "index": 0, "delta": {"message": message}}

    citation = {"start": 0, "end": 5, "text": "words", "content_index": 0, "type": "TEXT_CONTENT"}
    stream = sse(
        [
            event("content-start", content={"type": "text", "text": ""}),
            *[event("content-delta", content={"text": "words "})] * 30_000,
            *[event("citation-start", citations=citation)] * 500,
            {"type": "message-end", "delta": {"finish_reason": "COMPLETE"}},
        ]
    )
    events = decoded([stream])
    (text,) = fold(events).choices[0].parts
    assert text == Text("words " * 30_000, citations=(Citation(start=0, end=5),) * 500)
    assert fold(decoded([encoded(events)])).choices == fold(events).choices
