"""A stream tells the same answer as the whole response, however it is cut, and never ends where it did not."""

from __future__ import annotations

import json
from typing import Any, get_args, get_origin

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from openai.types.responses import ResponseStreamEvent
from responses_kit import ASKED, PLACES, UNHURRIED, answering, cuts, raw, replies, told, value_of
from test_responses_reply_laws import strangers

from ostiary.core.fault import Fault, Kind, Retry
from ostiary.core.usage import Usage
from ostiary.wire.conversation.conversation import Conversation
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
)
from ostiary.wire.conversation.fold import fold
from ostiary.wire.conversation.parts import (
    Citation,
    Image,
    Link,
    Part,
    Reasoning,
    Refusal,
    Seal,
    Text,
    ToolCall,
    UnknownPart,
)
from ostiary.wire.conversation.reply import Finish, Reason, Reply
from ostiary.wire.conversation.unknown import Extra, Loss, LossKind
from ostiary.wire.dialects.openai_responses.faults import encode_fault_event
from ostiary.wire.dialects.openai_responses.reply import decode_reply
from ostiary.wire.dialects.openai_responses.stream_decode import StreamDecoder
from ostiary.wire.dialects.openai_responses.stream_encode import StreamEncoder

_UNION = get_args(ResponseStreamEvent)[0] if get_origin(ResponseStreamEvent) is not None else ResponseStreamEvent
MODELS = {word: model for model in get_args(_UNION) for word in get_args(model.model_fields["type"].annotation)}


def decoded(pieces: list[bytes]) -> list[Event]:
    decoder = StreamDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)] + decoder.finish()


def encoded(events: list[Event], asked: Conversation | None = None) -> bytes:
    writer = StreamEncoder(answering(asked))
    data = b"".join([*map(writer.encode, events), writer.end()])
    assert writer.losses == []
    return data


def documents(data: bytes) -> list[dict[str, Any]]:
    """The events of a stream, each under the name it has in its data."""
    out = []
    for frame in data.split(b"\n\n")[:-1]:
        name, said = frame.split(b"\n")
        out.append(json.loads(said.removeprefix(b"data: ")))
        assert name == b"event: " + out[-1]["type"].encode()
    return out


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(
        b"event: " + event.get("type", "").encode() + b"\ndata: " + msgspec.json.encode(event) + b"\n\n"
        for event in events
    )


@UNHURRIED
@given(data=st.data(), reply=replies(), places=PLACES)
def test_a_stream_is_the_same_events_however_it_is_cut(data: st.DataObject, reply: Reply, places: list[int]) -> None:
    stream = encoded(data.draw(told(reply)))
    whole = decoded([stream])
    assert decoded(cuts(stream, places)) == whole
    assert decoded([stream[place : place + 1] for place in range(len(stream))]) == whole


@UNHURRIED
@given(data=st.data(), reply=replies())
def test_a_stream_folds_into_the_reply_it_tells_and_into_that_of_its_last_event(
    data: st.DataObject, reply: Reply
) -> None:
    events = data.draw(told(reply))
    assert fold(events) == reply
    stream = encoded(events)
    assert fold(decoded([stream])) == reply
    assert decode_reply(msgspec.json.encode(documents(stream)[-1]["response"])) == reply


@UNHURRIED
@given(data=st.data(), reply=replies(plain=True), asked=ASKED)
def test_the_official_sdk_knows_every_member_of_every_event(
    data: st.DataObject, reply: Reply, asked: Conversation
) -> None:
    found = documents(encoded(data.draw(told(reply)), asked))
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    for event in found:
        model = MODELS[event["type"]].model_validate_json(msgspec.json.encode(event), strict=True)
        assert strangers(model) <= {"store"}
    assert [event["type"] for event in found[:2]] == ["response.created", "response.in_progress"]
    assert found[-1]["type"] == f"response.{found[-1]['response']['status']}"


@UNHURRIED
@given(data=st.data(), reply=replies(plain=True))
def test_the_events_of_a_stream_build_its_last_event(data: st.DataObject, reply: Reply) -> None:
    """As clients do: items begin, their texts grow, and when they end they are what stands in the response."""
    found = documents(encoded(data.draw(told(reply))))
    open_items: list[str] = []
    done: list[Any] = []
    texts: dict[tuple[Any, ...], str] = {}
    for event in found[2:-1]:
        kind, tail = event["type"].rsplit(".", 1)
        if event["type"] == "response.output_item.added":
            assert not open_items
            open_items.append(event["item"]["id"])
            assert event["output_index"] == len(done)
        elif event["type"] == "response.output_item.done":
            assert open_items == [event["item"]["id"]]
            open_items.clear()
            done.append(event["item"])
        else:
            assert open_items == [event["item_id"]]
            place = (kind, event["output_index"], event.get("content_index"), event.get("summary_index"))
            if tail == "delta":
                texts[place] = texts.get(place, "") + event["delta"]
            elif tail == "done" and "part" not in event:
                whole = next(event[name] for name in ("text", "refusal", "arguments", "input") if name in event)
                assert texts.get(place, "") == whole
    assert done == found[-1]["response"]["output"]


DIRT = ["sequence_number", "output_index", "item_id", "content_index", "summary_index"]


@UNHURRIED
@given(
    data=st.data(),
    reply=replies(),
    missing=st.sets(st.sampled_from(DIRT)),
    untold=st.sets(st.sampled_from(["item.added", "part.added"])),
    late=st.booleans(),
)
def test_what_servers_leave_out_changes_nothing(
    data: st.DataObject, reply: Reply, missing: set[str], untold: set[str], late: bool
) -> None:
    events = documents(encoded(data.draw(told(reply))))
    assume(_told_apart(events, missing, untold))
    kept = [
        {name: value for name, value in event.items() if name not in missing}
        for event in events
        if not event["type"].endswith(tuple(untold))
        and not (late and event["type"].endswith((".delta", "text.done", "arguments.done", "input.done")))
    ]
    assert fold(decoded([sse(*kept)])) == reply


def _told_apart(events: list[dict[str, Any]], missing: set[str], untold: set[str]) -> bool:
    """Whether what is left still tells which part an event is about."""
    several = any(event.get("content_index") or event.get("summary_index") for event in events)
    names = [item["id"] for item in events[-1]["response"]["output"]]
    if len(set(names)) < len(names) and "output_index" in missing:
        return False
    begun = not untold and "output_index" not in missing
    return not several or not (missing & {"content_index", "summary_index"}) or begun


@UNHURRIED
@given(data=st.data(), reply=replies(), length=st.integers(0, 10**6))
def test_a_stream_cut_anywhere_before_its_last_event_fails(data: st.DataObject, reply: Reply, length: int) -> None:
    stream = encoded(data.draw(told(reply)))
    whole = len(stream) - 2  # the blank line may be missing
    events = decoded([stream[: length % whole]])
    assert isinstance(events[-1], Failed)
    assert (events[-1].kind, events[-1].retry) == (Kind.TRUNCATED, Retry.SAME)
    assert not any(isinstance(event, Finished) for event in events)
    assert not any(isinstance(event, Failed) for event in decoded([stream[:whole]]))


FRAGMENTS = st.sampled_from(
    [
        b"data: ",
        b"{}",
        b"[DONE]",
        b"\n\n",
        b"\xff",
        b'{"type":"response.output_item.added","item":{"type":"message"}}',
        b'{"type":"response.output_item.added","output_index":3,"item":{"type":"function_call","call_id":"c","name":"f"}}',
        b'{"type":"response.output_item.added","output_index":-1,"item":{}}',
        b'{"type":"response.output_item.done","item":{"type":"reasoning","summary":[],"encrypted_content":"e"}}',
        b'{"type":"response.output_item.done","output_index":3,"item":{"type":"message","role":"assistant","content":[{}]}}',
        b'{"type":"response.output_text.delta","delta":"a"}',
        b'{"type":"response.output_text.delta","output_index":3,"delta":"a","content_index":99999999}',
        b'{"type":"response.function_call_arguments.delta","delta":"{"}',
        b'{"type":"response.function_call_arguments.done","output_index":3,"arguments":"{}"}',
        b'{"type":"response.reasoning_text.delta","delta":"r"}',
        b'{"type":"response.reasoning_summary_part.added","part":{"type":"summary_text","text":""}}',
        b'{"type":"response.output_text.annotation.added","annotation":{"type":"url_citation","url":"u"}}',
        b'{"type":"response.content_part.added","part":5}',
        b'{"type":"response.completed","response":{"output":[{"type":"message"}]}}',
        b'{"type":"response.completed","response":5}',
        b'{"type":"response.audio.delta","delta":{}}',
        b'{"type":"error"}',
    ]
)
EVENTS = st.lists(FRAGMENTS.map(lambda data: b"data: " + data + b"\n\n"))


@UNHURRIED
@given(data=st.binary(max_size=150) | st.lists(FRAGMENTS).map(b"".join) | EVENTS.map(b"".join), places=PLACES)
def test_arbitrary_bytes_are_events_the_same_however_cut(data: bytes, places: list[int]) -> None:
    events = decoded([data])
    assert decoded(cuts(data, places)) == events
    failed = [event for event in events if isinstance(event, Failed)]
    assert failed in ([], [events[-1]])
    writer = StreamEncoder(answering())
    assert b"".join([*map(writer.encode, events), writer.end()])
    if not failed:
        fold(events)


def response(*items: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "resp_x", "object": "response", "model": "m", "status": "completed", "output": items, **more}


def end(*items: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "response.completed", "response": response(*items, **more)}


def said(text: str, **more: Any) -> dict[str, Any]:
    content = {"type": "output_text", "text": text, "annotations": [], **more}
    return {"type": "message", "id": "msg_x", "role": "assistant", "status": "completed", "content": [content]}


def test_events_come_in_the_order_of_the_stream_and_usage_once() -> None:
    usage = {"input_tokens": 1, "output_tokens": 2}
    stream = sse(
        {"type": "response.created", "response": response(status="in_progress", service_tier="auto")},
        {"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "id": "msg_x"}},
        {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "a"},
        {"type": "response.output_item.done", "output_index": 0, "item": said("a")},
        end(said("a"), usage=usage, service_tier="default"),
    )
    assert decoded([stream]) == [
        Opened("resp_x", "m", "auto"),
        PartStart(0, 0, Text("")),
        PartDelta(0, 0, "a"),
        PartEnd(0, 0),
        Opened("resp_x", "m", "default"),
        Metered(Usage(1, 2)),
        Finished(0, Finish(Reason.STOP)),
    ]


@pytest.mark.parametrize(
    ("events", "parts"),
    [
        # nothing but the last event
        ([end(said("a"))], [Text("a")]),
        # a server that tells no indices and no names, and text only in pieces
        (
            [
                {"type": "response.output_item.added", "item": {"type": "reasoning", "summary": []}},
                {"type": "response.reasoning_text.delta", "delta": "th"},
                {"type": "response.reasoning_text.delta", "delta": "ink"},
                {"type": "response.output_item.added", "item": {"type": "message", "role": "assistant"}},
                {"type": "response.output_text.delta", "delta": "a"},
                {"type": "response.output_text.delta", "delta": "b"},
                end(),
            ],
            [Reasoning("think"), Text("ab")],
        ),
        # arguments only when they are whole
        (
            [
                {
                    "type": "response.output_item.added",
                    "output_index": 0,
                    "item": {"type": "function_call", "call_id": "1", "name": "f", "arguments": ""},
                },
                {"type": "response.function_call_arguments.done", "output_index": 0, "arguments": "{}"},
                end(),
            ],
            [ToolCall("1", "f", "{}")],
        ),
        # arguments before the name is known
        (
            [
                {"type": "response.output_item.added", "output_index": 0, "item": {"type": "function_call"}},
                {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": "{}"},
                {
                    "type": "response.output_item.done",
                    "output_index": 0,
                    "item": {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
                },
                end(),
            ],
            [ToolCall("1", "f", "{}")],
        ),
        # two items at once
        (
            [
                {
                    "type": "response.output_item.added",
                    "output_index": 1,
                    "item": {"type": "function_call", "call_id": "2", "name": "g"},
                },
                {
                    "type": "response.output_item.added",
                    "output_index": 0,
                    "item": {"type": "function_call", "call_id": "1", "name": "f"},
                },
                {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": "[]"},
                {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": "{}"},
                end(),
            ],
            [ToolCall("1", "f", "{}"), ToolCall("2", "g", "[]")],
        ),
    ],
)
def test_parts_are_told_apart_as_servers_really_send_them(events: list[dict[str, Any]], parts: list[Part]) -> None:
    found = fold(decoded([sse(*events)])).choices[0].parts
    assert [msgspec.structs.replace(part, rest=()) for part in found if not isinstance(part, UnknownPart)] == parts


def test_citations_and_chances_told_only_with_the_whole_item_are_not_lost_nor_told_twice() -> None:
    cited = {"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 1}
    other = {**cited, "url": "v"}
    chance = {"token": "a", "bytes": [97], "logprob": -1.0, "top_logprobs": []}
    whole = said("a", annotations=[cited, other], logprobs=[chance])
    stream = sse(
        {
            "type": "response.output_text.delta",
            "output_index": 0,
            "delta": "a",
            "logprobs": [{"token": "a", "logprob": -1}],
        },
        {"type": "response.output_text.annotation.added", "output_index": 0, "annotation": cited},
        {"type": "response.output_item.done", "output_index": 0, "item": whole},
        end(whole),
    )
    assert fold(decoded([stream])).choices == decode_reply(msgspec.json.encode(response(whole))).choices


def test_an_item_of_another_kind_is_kept_whole_and_its_own_events_are_passed_over() -> None:
    item = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    stream = sse(
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "status": "in_progress"}},
        {"type": "response.web_search_call.searching", "output_index": 0, "item_id": "ws_1"},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        end(item),
    )
    (part,) = fold(decoded([stream])).choices[0].parts
    assert isinstance(part, UnknownPart)
    assert (part.place, value_of(part.value)) == ("output", item)


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        ({"type": "response.failed", "response": response(status="failed")}, Kind.UPSTREAM_ERROR),
        (
            {
                "type": "response.failed",
                "response": response(error={"code": "rate_limit_exceeded", "message": "secret"}),
            },
            Kind.UPSTREAM_RATE_LIMIT,
        ),
        ({"type": "response.cancelled", "response": response()}, Kind.TRUNCATED),
        ({"type": "error", "code": "context_length_exceeded", "message": "secret"}, Kind.CONTEXT_WINDOW),
        ({"type": "error", "code": None, "message": "secret"}, Kind.UPSTREAM_ERROR),
        ({"type": "error", "error": {"code": "429", "message": "secret"}}, Kind.UPSTREAM_RATE_LIMIT),
        ({"error": {"message": "secret", "code": 429}}, Kind.UPSTREAM_RATE_LIMIT),
        ({"type": "response.completed"}, Kind.BAD_ANSWER),
    ],
)
def test_nothing_follows_a_failure(last: dict[str, Any], kind: Kind) -> None:
    delta = {"type": "response.output_text.delta", "output_index": 0, "delta": "a"}
    decoder = StreamDecoder()
    events = decoder.feed(sse(delta, last, delta, end()))
    assert isinstance(events[-1], Failed)
    assert events[-1].kind is kind
    assert "secret" not in events[-1].public
    assert decoder.over
    assert decoder.finish() == []
    with pytest.raises(Fault):
        fold(events)


def test_nothing_follows_the_end_and_a_mark_of_another_dialect_is_none() -> None:
    decoder = StreamDecoder()
    events = decoder.feed(sse(end(said("a"))) + b"data: [DONE]\n\n" + sse(end(said("b"))))
    assert decoder.over
    assert fold(events + decoder.finish()).choices[0].parts == (Text("a"),)
    assert isinstance(decoded([b"data: [DONE]\n\n"])[-1], Failed)


def write(*events: Event) -> tuple[list[dict[str, Any]], list[Loss]]:
    writer = StreamEncoder(answering())
    data = b"".join([*map(writer.encode, events), writer.end()])
    return documents(data), writer.losses


STOPPED = Finished(0, Finish(Reason.STOP))


def kinds(found: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in found]


def test_calls_that_overlap_are_told_one_after_the_other() -> None:
    found, losses = write(
        PartStart(0, 0, ToolCall("1", "f", "")),
        PartStart(0, 1, ToolCall("2", "g", "")),
        PartDelta(0, 1, "[]"),
        PartDelta(0, 0, "{}"),
        PartEnd(0, 1),
        PartEnd(0, 0),
        STOPPED,
    )
    assert losses == []
    assert [item["arguments"] for item in found[-1]["response"]["output"]] == ["{}", "[]"]
    assert kinds(found).count("output_item.added") == 2


def test_an_answer_does_not_wait_for_the_late_end_of_reasoning() -> None:
    writer = StreamEncoder(answering())
    writer.encode(PartStart(0, 0, Reasoning("hm")))
    assert b"output_text.delta" in writer.encode(PartStart(0, 1, Text("a")))
    late = writer.encode(PartDelta(0, 0, "more")) + writer.encode(PartEnd(0, 1)) + writer.encode(STOPPED) + writer.end()
    assert writer.losses == [Loss(LossKind.SHAPE, "choices.0.parts.0")]
    output = documents(late)[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["reasoning", "message", "reasoning"]
    assert output[2]["summary"][0]["text"] == "more"


def test_a_proof_that_comes_after_its_reasoning_gave_way_travels_alone() -> None:
    found, losses = write(
        PartStart(0, 0, Reasoning("hm")),
        PartStart(0, 1, Text("a")),
        PartEnd(0, 0, Seal("openai_responses", "ENC")),
        STOPPED,
    )
    assert [loss.kind for loss in losses] == [LossKind.SHAPE]
    assert found[-1]["response"]["output"][2]["encrypted_content"] == "ENC"


def test_a_proof_that_comes_after_its_text_travels_with_a_text_that_says_no_more() -> None:
    seal = Seal("gemini_generate", "S")
    found, losses = write(PartStart(0, 0, Text("a")), PartEnd(0, 0, seal), STOPPED)
    assert [loss.kind for loss in losses] == [LossKind.SHAPE]
    reply = decode_reply(msgspec.json.encode(found[-1]["response"]))
    assert reply.choices[0].parts == (Text("a"), Text("", seal=seal))
    for event in found:
        MODELS[event["type"]].model_validate_json(msgspec.json.encode(event), strict=True)


@pytest.mark.parametrize(
    ("events", "losses"),
    [
        (
            [PartStart(0, 0, ToolCall("1", "f", "")), PartEnd(0, 0, Seal("x", "s")), STOPPED],
            [Loss(LossKind.SEAL, "choices.0.parts.0")],
        ),
        ([Aside(0, Extra("gemini_generate", ("x",), raw(1))), STOPPED], [Loss(LossKind.UNKNOWN, "choices.0.x")]),
        ([Aside(None, Extra("gemini_generate", ("x",), raw(1))), STOPPED], [Loss(LossKind.UNKNOWN, "x")]),
        ([Finished(0, Finish(Reason.STOP, stop="END"))], [Loss(LossKind.MARK, "choices.0.finish.stop")]),
        ([Opened("i", "m", "standard"), STOPPED], [Loss(LossKind.KNOB, "tier")]),
        (
            [PartStart(0, 0, Text("a")), Cited(0, 0, Citation(title="t")), STOPPED],
            [Loss(LossKind.MARK, "choices.0.parts.0.citations.0")],
        ),
    ],
)
def test_what_a_stream_cannot_say_is_a_declared_loss(events: list[Event], losses: list[Loss]) -> None:
    assert write(*events)[1] == losses


@pytest.mark.parametrize(
    "event",
    [
        PartStart(0, 0, Image(Link("https://e.x/i"))),
        PartStart(0, 0, UnknownPart("gemini_generate", "parts", raw({}))),
        PartStart(1, 0, Text("b")),
        Finished(1, Finish(Reason.STOP)),
    ],
)
def test_content_a_stream_cannot_say_is_refused(event: Event) -> None:
    with pytest.raises(Fault):
        StreamEncoder(answering()).encode(event)


@pytest.mark.parametrize(
    "before",
    [
        [],
        [PartStart(0, 0, Text("a"))],
        [PartStart(0, 0, Refusal("a"))],
        [PartStart(0, 0, Reasoning("a"))],
        [PartStart(0, 0, ToolCall("c", "f", "{"))],
    ],
)
def test_a_failed_or_unfinished_stream_is_not_ended_but_says_so(before: list[Event]) -> None:
    writer = StreamEncoder(answering())
    data = b"".join(map(writer.encode, before))
    fault = Fault(Kind.UPSTREAM_RATE_LIMIT, "too many")
    data += writer.encode(Failed.of(fault))
    found = documents(data)
    assert kinds(found)[:2] == ["created", "in_progress"]
    assert found[-1]["type"] == "response.failed"
    assert found[-1]["response"]["error"] == {"code": "rate_limit_exceeded", "message": "too many"}
    for event in found:
        MODELS[event["type"]].model_validate_json(msgspec.json.encode(event), strict=True)
    assert writer.encode(STOPPED) + writer.end() == b""
    assert decoded([data])[-1] == Failed(
        Kind.UPSTREAM_RATE_LIMIT, "the provider's rate limit is reached", 429, Retry.NEXT
    )
    unfinished = StreamEncoder(answering())
    data = b"".join(map(unfinished.encode, before)) + unfinished.end()
    assert documents(data)[-1]["response"]["error"]["code"] == "server_error"
    assert unfinished.end() == b""


def test_an_error_event_is_what_the_sdk_expects() -> None:
    (event,) = documents(encode_fault_event(Fault(Kind.TIMEOUT, "too late", param="x")))
    model = MODELS["error"].model_validate_json(msgspec.json.encode(event), strict=True)
    assert (model.message, model.code, model.param) == ("too late", "504", "x")
    assert decoded([sse(event)]) == [Failed(Kind.UPSTREAM_ERROR, "the provider failed", 504, Retry.SAME)]
