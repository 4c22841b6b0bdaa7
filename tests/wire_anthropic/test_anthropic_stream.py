"""A stream tells the same answer as the whole body, however it is cut, and never ends where it did not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from anthropic_kit import US, answering, cuts, raw, replies, sse, told, value_of, wire_events
from hypothesis import given
from hypothesis import strategies as st
from test_anthropic_reply import GEMINI, of, written

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
from ostiary.wire.conversation.reply import Chance, Finish, Reason, Reply, Score
from ostiary.wire.conversation.seals import carry
from ostiary.wire.conversation.unfold import unfold
from ostiary.wire.conversation.unknown import Extra, Loss, LossKind
from ostiary.wire.dialects.anthropic_messages.reply import decode_reply
from ostiary.wire.dialects.anthropic_messages.stream_decode import StreamDecoder
from ostiary.wire.dialects.anthropic_messages.stream_encode import StreamEncoder
from ostiary.wire.dialects.anthropic_messages.wire import DIALECT

PLACES = st.lists(st.integers(0, 5000), max_size=10)


def decoded(pieces: list[bytes]) -> list[Event]:
    decoder = StreamDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)] + decoder.finish()


def encoder() -> StreamEncoder:
    return StreamEncoder(answering())


def encoded(events: list[Event]) -> bytes:
    writer = encoder()
    data = b"".join([*map(writer.encode, events), writer.end()])
    assert writer.losses == []
    return data


def documents(data: bytes) -> list[dict[str, Any]]:
    """The events of a stream; each is named as its type."""
    found = []
    for frame in data.split(b"\n\n")[:-1]:
        name, body = frame.split(b"\n")
        document = json.loads(body.removeprefix(b"data: "))
        assert name == b"event: " + document["type"].encode()
        found.append(document)
    return found


@given(data=st.data(), reply=replies(plain=True), places=PLACES)
def test_a_stream_and_the_whole_body_tell_the_same_answer(data: st.DataObject, reply: Reply, places: list[int]) -> None:
    body = written(reply)
    stream = sse(data.draw(wire_events(body)))
    events = decoded([stream])
    assert fold(events) == decode_reply(body)
    assert decoded(cuts(stream, places)) == events
    assert decoded([stream[i : i + 1] for i in range(len(stream))]) == events


@given(data=st.data(), reply=replies())
def test_a_reply_told_in_events_and_folded_is_the_reply(data: st.DataObject, reply: Reply) -> None:
    events = data.draw(told(reply))
    assert fold(events) == reply
    assert fold(decoded([encoded(events)])) == reply


@given(data=st.data(), reply=replies())
def test_blocks_are_open_one_at_a_time_and_numbered_in_order(data: st.DataObject, reply: Reply) -> None:
    found = documents(encoded(data.draw(told(reply))))
    assert [event["type"] for event in found[:1] + found[-2:]] == ["message_start", "message_delta", "message_stop"]
    number, is_open = -1, False
    for event in found[1:-2]:
        if event["type"] == "content_block_start":
            assert not is_open
            number, is_open = number + 1, True
        elif event["type"] == "content_block_stop":
            is_open = False
        else:
            assert (event["type"], is_open) == ("content_block_delta", True)
        assert event["index"] == number
    assert not is_open


@given(data=st.data(), reply=replies(plain=True))
def test_a_stream_cut_anywhere_before_its_end_fails(data: st.DataObject, reply: Reply) -> None:
    stream = sse(data.draw(wire_events(written(reply))))
    length = data.draw(st.integers(0, len(stream) - 3))  # the blank line may be missing
    events = decoded([stream[:length]])
    assert isinstance(events[-1], Failed)
    assert not any(isinstance(event, Finished) for event in events)
    assert not any(isinstance(event, Failed) for event in decoded([stream[:-2]]))


FRAGMENTS = st.sampled_from(
    [
        b"data: ",
        b"{}",
        b"\n\n",
        b"\xff",
        b'{"type":"message_start","message":',
        b'{"usage":{"input_tokens":1}}}',
        b'{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}',
        b'{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"1","name":"f"}}',
        b'{"type":"content_block_start","index":0,"content_block":{"type":"new"}}',
        b'{"type":"content_block_start","index":-1}',
        b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}',
        b'{"type":"content_block_delta","index":0,"delta":{"type":"new_delta","x":[1]}}',
        b'{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{"}}',
        b'{"type":"content_block_stop","index":0}',
        b'{"type":"message_delta","delta":{"stop_reason":"end_turn","y":1},"usage":5}',
        b'{"type":"message_delta","delta":5,"z":1}',
        b'{"type":"message_stop"}',
        b'{"type":"news","x":1}',
        b'{"type":"error"}',
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
        writer = encoder()
        assert b"".join([*map(writer.encode, events), writer.end()]).endswith(b"\n\n")


START = {"type": "message_start", "message": {"id": "i", "model": "m", "content": [], "usage": {"input_tokens": 9}}}
STOP = {"type": "message_stop"}


def block(index: int, content: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": content},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def closing(word: str = "end_turn", **usage: Any) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": word, "stop_sequence": None}, "usage": usage}


def parts_of(*events: dict[str, Any]) -> tuple[Part, ...]:
    return fold(decoded([sse([START, *events, closing(), STOP])])).choices[0].parts


TEXT = {"type": "text", "text": ""}
THOUGHT = {"type": "thinking", "thinking": "", "signature": ""}
TOOL = {"type": "tool_use", "id": "1", "name": "f", "input": {}}


def test_events_come_in_the_order_of_the_stream_and_usage_is_known_first() -> None:
    words = block(0, TEXT, {"type": "text_delta", "text": "a"})
    events = decoded([sse([START, *words, {"type": "ping"}, closing(output_tokens=3), STOP])])
    assert events == [
        Metered(Usage(9, 0)),
        Opened("i", "m"),
        PartStart(0, 0, Text("")),
        PartDelta(0, 0, "a"),
        PartEnd(0, 0),
        Metered(Usage(9, 3)),
        Finished(0, Finish(Reason.STOP)),
    ]


def test_later_counts_stand_and_missing_ones_keep_their_value() -> None:
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 9, "cache_read_input_tokens": 4,
             "output_tokens": 1, "service_tier": "priority"}}}  # fmt: skip
    reply = fold(decoded([sse([start, closing(input_tokens=2, output_tokens=8), STOP])]))
    assert reply.usage == Usage(6, 8, 4)
    assert reply.tier == "priority"


@pytest.mark.parametrize(
    ("events", "part"),
    [
        (block(0, TOOL), ToolCall("1", "f", "{}")),
        (block(0, {**TOOL, "input": {"a": 1}}), ToolCall("1", "f", '{"a":1}')),
        (block(0, TOOL, {"type": "input_json_delta", "partial_json": ""}), ToolCall("1", "f", "{}")),
        (block(0, TOOL, {"type": "input_json_delta", "partial_json": '{"a":'},
               {"type": "input_json_delta", "partial_json": "2}"}), ToolCall("1", "f", '{"a":2}')),
        (block(0, THOUGHT, {"type": "thinking_delta", "thinking": "x"}, {"type": "signature_delta", "signature": "s"}),
         Reasoning("x", Seal(US, "s"))),
        (block(0, {"type": "redacted_thinking", "data": "d"}), Reasoning("", Seal(US, "d"), hidden=True)),
        (block(0, TEXT, {"type": "text_delta", "text": "a"})[1:], Text("a")),  # a server forgot to begin it
        (block(0, TEXT, {"type": "text_delta", "text": "a"})[:2], Text("a")),  # or to end it
        (block(0, TEXT, {"type": "citations_delta", "citation": {"type": "char_location", "cited_text": "q"}}),
         Text("", citations=(Citation(quote="q", rest=(Extra(US, ("type",), raw("char_location")),)),))),
    ],
)  # fmt: skip
def test_blocks_are_understood_as_servers_really_send_them(events: list[dict[str, Any]], part: Part) -> None:
    assert parts_of(*events) == (part,)


def test_a_server_that_numbers_every_block_the_same_is_understood() -> None:
    first, second = (block(0, TEXT, {"type": "text_delta", "text": text}) for text in "ab")
    assert parts_of(*first, *second) == (Text("a"), Text("b"))
    assert parts_of(*first[:-1], *second) == (Text("a"), Text("b"))


def test_a_block_of_an_unknown_kind_is_told_once_it_is_whole() -> None:
    search = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    events = block(0, search, *({"type": "input_json_delta", "partial_json": piece} for piece in ('{"query":', '"q"}')))
    summary = {"type": "compaction", "content": "a", "n": 1}
    more = block(1, summary, {"type": "compaction_delta", "content": "b", "n": 2})
    first, second = parts_of(*events, *more)
    assert isinstance(first, UnknownPart)
    assert isinstance(second, UnknownPart)
    assert value_of(first.value) == {**search, "input": {"query": "q"}}
    assert value_of(second.value) == {"type": "compaction", "content": "ab", "n": 2}


def test_what_the_last_event_says_of_the_message_is_told_once() -> None:
    last = closing(output_tokens=1, server_tool_use={"web_search_requests": 1})
    last["delta"]["container"] = {"id": "c"}
    last["context_management"] = {"applied_edits": [1]}
    events = decoded([sse([START, last, STOP])])
    asides = {event.extra.path: value_of(event.extra.value) for event in events if isinstance(event, Aside)}
    assert asides == {
        ("container",): {"id": "c"},
        ("context_management",): {"applied_edits": [1]},
        ("usage", "server_tool_use"): {"web_search_requests": 1},
    }
    assert sum(isinstance(event, Aside) for event in events) == len(asides)
    assert documents(encoded(events))[-2] == {**last, "usage": {**last["usage"], "input_tokens": 9,
            "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}}  # fmt: skip


def test_unknown_events_and_deltas_are_kept_and_written_again() -> None:
    news = {"type": "news", "x": 1}
    odd = {"type": "odd_delta", "y": 2}
    events = decoded([sse([START, news, {"type": "nothing"}, *block(0, TEXT, odd), closing(), STOP])])
    assert [event for event in events if isinstance(event, Aside)] == [
        Aside(None, Extra(US, ("event", "news"), raw(news))),
        Aside(0, Extra(US, ("content", "0", "odd_delta"), raw(odd))),
    ]
    found = documents(encoded(events))
    assert news in found
    assert {"type": "content_block_delta", "index": 0, "delta": odd} in found


def test_nothing_follows_a_failure_or_the_end() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "secret words"}}
    events = decoded([sse([START, error, *block(0, TEXT)])])
    assert isinstance(events[-1], Failed)
    assert (events[-1].kind, events[-1].status, events[-1].retry) == (Kind.UPSTREAM_ERROR, 529, Retry.SAME)
    assert not any(isinstance(event, PartStart) for event in events)
    whole = [START, closing(), STOP]
    assert decoded([sse([*whole, *block(0, TEXT), error])]) == decoded([sse(whole)])


@pytest.mark.parametrize(("last", "over"), [(STOP, True), (closing(), False), ({"type": "error", "error": {}}, True)])
def test_only_the_last_event_or_a_failure_is_the_end(last: dict[str, Any], over: bool) -> None:
    decoder = StreamDecoder()
    decoder.feed(sse([START, last]))
    assert decoder.over is over


def test_proofs_sent_ahead_belong_to_what_follows_and_else_stand_for_themselves() -> None:
    proof = {"type": "redacted_thinking", "data": carry(GEMINI, ahead=True)}
    assert parts_of(*block(0, proof), *block(1, THOUGHT), *block(2, TOOL)) == (
        Reasoning(""),
        ToolCall("1", "f", "{}", seal=GEMINI),
    )
    assert parts_of(*block(0, proof), *block(1, proof)) == (Reasoning("", GEMINI, hidden=True),) * 2


# What is written.


def test_a_stream_is_written_as_documented() -> None:
    citation = Citation("https://e.x", "t", "q")
    data = encoded(
        [
            Metered(Usage(10, 1, 4, 2)),
            Opened("up", "up"),
            PartStart(0, 0, Reasoning("")),
            PartDelta(0, 0, "hm"),
            PartEnd(0, 0, GEMINI),
            PartStart(0, 1, Text("")),
            PartDelta(0, 1, "a"),
            Cited(0, 1, citation),
            PartEnd(0, 1),
            PartStart(0, 2, ToolCall("1", "f", "", seal=GEMINI)),
            PartDelta(0, 2, "{}"),
            PartEnd(0, 2),
            Finished(0, Finish(Reason.TOOL_CALLS)),
            Metered(Usage(10, 7, 4, 2, 3)),
        ]
    )
    start, *blocks, end, stop = documents(data)
    counts = {"input_tokens": 4, "cache_creation_input_tokens": 2, "cache_read_input_tokens": 4}
    assert start["message"] == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**counts, "output_tokens": 0},
    }
    cited = {"type": "web_search_result_location", "cited_text": "q", "encrypted_index": "", "title": "t",
             "url": "https://e.x"}  # fmt: skip
    proof = {"type": "redacted_thinking", "data": carry(GEMINI, ahead=True)}
    assert blocks == [
        *block(0, THOUGHT, {"type": "thinking_delta", "thinking": "hm"},
               {"type": "signature_delta", "signature": carry(GEMINI)}),
        *block(1, TEXT, {"type": "text_delta", "text": "a"}, {"type": "citations_delta", "citation": cited}),
        *block(2, proof),
        *block(3, TOOL, {"type": "input_json_delta", "partial_json": "{}"}),
    ]  # fmt: skip
    assert end == {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {**counts, "output_tokens": 7, "output_tokens_details": {"thinking_tokens": 3}},
    }
    assert stop == STOP


@pytest.mark.parametrize(
    "first",
    [
        Opened("i", "m"),
        Metered(Usage(1)),
        PartStart(0, 0, Text("")),
        Finished(0, Finish(Reason.STOP)),
        Aside(0, Extra("x", ("y",), raw(None))),
    ],
)
def test_a_message_begins_with_the_first_event_whatever_it_is(first: Event) -> None:
    assert documents(encoder().encode(first))[0]["type"] == "message_start"


def test_words_and_reasoning_are_not_held_back_by_parts_that_stay_open() -> None:
    writer = encoder()
    writer.encode(PartStart(0, 0, Reasoning("")))
    writer.encode(PartDelta(0, 0, "hm"))
    writer.encode(PartStart(0, 1, Text("")))
    assert documents(writer.encode(PartDelta(0, 1, "a")))[0]["delta"] == {"type": "text_delta", "text": "a"}
    again = documents(writer.encode(PartDelta(0, 0, "hm")))
    assert [event["type"] for event in again] == ["content_block_stop", "content_block_start", "content_block_delta"]
    assert writer.losses == [Loss(LossKind.SHAPE, "choices.0.parts.0")]


def test_what_comes_while_a_call_is_open_waits_for_its_end() -> None:
    writer = encoder()
    for number in (0, 1):
        writer.encode(PartStart(0, number, ToolCall(str(number), "f", "")))
    for number in (0, 1, 0, 1):
        data = writer.encode(PartDelta(0, number, "x"))
        assert bool(data) is (number == 0)
    released = documents(writer.encode(PartEnd(0, 0)))
    assert [event["type"] for event in released] == [
        "content_block_stop", "content_block_start", "content_block_delta", "content_block_delta"
    ]  # fmt: skip
    assert documents(writer.encode(Finished(0, Finish(Reason.TOOL_CALLS))))[-1]["type"] == "content_block_stop"
    assert writer.losses == []


def test_a_part_that_never_ends_is_closed_when_the_answer_is() -> None:
    writer = encoder()
    writer.encode(PartStart(0, 0, Text("")))
    assert documents(writer.encode(Finished(0, Finish(Reason.STOP)))) == [{"type": "content_block_stop", "index": 0}]


@pytest.mark.parametrize(
    ("part", "proof"),
    [
        (Text("a"), {"type": "redacted_thinking", "data": carry(GEMINI)}),
        (ToolCall("1", "f", "{}"), {"type": "redacted_thinking", "data": carry(GEMINI)}),
    ],
)
def test_a_proof_that_comes_too_late_to_be_sent_ahead_is_sent_behind(part: Part, proof: dict[str, Any]) -> None:
    writer = encoder()
    writer.encode(PartStart(0, 0, part))
    assert documents(writer.encode(PartEnd(0, 0, GEMINI)))[1]["content_block"] == proof
    assert writer.losses == [Loss(LossKind.SHAPE, "choices.0.parts.0")]


def test_a_hidden_part_is_told_when_its_proof_is_known() -> None:
    reply = of(Reasoning("", GEMINI, hidden=True), Text("a"), id="msg_1", model="m", usage=Usage())
    assert fold(decoded([encoded(list(unfold(reply)))])) == reply


def test_many_parts_at_once_take_time_in_proportion() -> None:
    writer = encoder()
    for index in range(3000):
        writer.encode(PartStart(0, index, ToolCall(str(index), "f", "{}")))
    found = documents(writer.encode(Finished(0, Finish(Reason.TOOL_CALLS))))
    assert sum(event["type"] == "content_block_start" for event in found) == 2999


SCORE = Scored(0, (Score(Chance("a", -0.1)),))


@pytest.mark.parametrize(
    ("events", "losses"),
    [
        ([SCORE, SCORE], [Loss(LossKind.UNKNOWN, "choices.0.scores")]),
        ([PartStart(0, 0, Refusal("no"))], [Loss(LossKind.MARK, "choices.0.parts.0")]),
        ([Aside(0, Extra("gemini_generate", ("x",), raw(1)))], [Loss(LossKind.UNKNOWN, "choices.0.x")]),
        ([Aside(None, Extra("gemini_generate", ("x",), raw(1)))], [Loss(LossKind.UNKNOWN, "x")]),
        ([Opened("i", "m", "flex")], [Loss(LossKind.MARK, "tier")]),
    ],
)
def test_what_a_stream_cannot_say_is_a_declared_loss(events: list[Event], losses: list[Loss]) -> None:
    writer = encoder()
    for event in events:
        writer.encode(event)
    assert writer.losses == losses


@pytest.mark.parametrize(
    "event",
    [
        PartStart(0, 0, Image(Link("https://e.x/i"))),
        PartStart(0, 0, UnknownPart("gemini_generate", "parts", raw({}))),
        PartStart(0, 0, ToolCall("1", "f", "", free=True)),
        PartStart(1, 0, Text("a")),
    ],
)
def test_content_a_stream_cannot_say_is_refused(event: Event) -> None:
    with pytest.raises(Fault):
        encoder().encode(event)


def test_a_failed_or_unfinished_stream_is_not_ended_but_says_so() -> None:
    writer = encoder()
    writer.encode(PartStart(0, 0, Text("a")))
    (error,) = documents(writer.end())
    assert error["type"] == "error"
    assert writer.end() == b""
    writer = encoder()
    writer.encode(Finished(0, Finish(Reason.STOP)))
    (error,) = documents(writer.encode(Failed.of(Fault(Kind.TIMEOUT, "too late", retry=Retry.SAME))))
    assert error["error"] == {"type": "timeout_error", "message": "too late"}
    assert writer.encode(Finished(0, Finish(Reason.STOP))) + writer.end() == b""


def test_line_ends_within_kept_json_do_not_break_the_frame() -> None:
    pretty = UnknownPart(US, "content", raw({"type": "new"}))
    pretty = UnknownPart(pretty.said_by, pretty.place, type(pretty.value)(b'{\n "type":\r\n "new"}'))
    events: list[Event] = [PartStart(0, 0, pretty), PartEnd(0, 0), Finished(0, Finish(Reason.STOP))]
    assert documents(encoded(events))[1]["content_block"] == {"type": "new"}


def test_a_silent_stream_is_kept_alive_by_a_ping_that_says_nothing() -> None:
    assert documents(DIALECT.ping) == [{"type": "ping"}]
    assert StreamDecoder().feed(DIALECT.ping) == []
