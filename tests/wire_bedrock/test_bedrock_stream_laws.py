"""A ConverseStream tells the same answer as the whole body, however it is cut, and never ends where it did not."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from bedrock_kit import (
    ANSWERING,
    FORMS,
    REPLIES,
    bare,
    botocore_streams,
    cuts,
    frame,
    of,
    plain,
    provider_stream,
    raw,
    told,
)
from botocore.exceptions import EventStreamError
from hypothesis import given
from hypothesis import strategies as st

from ostiary.core.fault import Fault, Kind, Origin, Retry
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
    Document,
    Image,
    Inline,
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
from ostiary.wire.conversation.unknown import Extra, LossKind
from ostiary.wire.dialects.bedrock_converse.faults import encode_fault_event
from ostiary.wire.dialects.bedrock_converse.reply import decode_reply
from ostiary.wire.dialects.bedrock_converse.stream_decode import StreamDecoder
from ostiary.wire.dialects.bedrock_converse.stream_encode import PING, StreamEncoder, write_event
from ostiary.wire.framing.event_stream import EventStreamFramer, write_message

PLACES = st.lists(st.integers(0, 5000), max_size=10)
SAID = st.text(min_size=1, max_size=6)
# The blocks a stream can tell.
CALLED = st.fixed_dictionaries({"toolUseId": SAID, "name": SAID, "input": FORMS["Document"]})
FOUND = st.fixed_dictionaries(
    {"toolUseId": SAID, "content": st.lists(SAID.map(lambda text: {"text": text}), min_size=1, max_size=3)},
    optional={"type": SAID, "status": st.sampled_from(["success", "error"])},
)
BLOCKS = st.one_of(
    SAID.map(lambda text: {"text": text}),
    CALLED.map(lambda call: {"toolUse": call}),
    CALLED.map(lambda call: {"toolUse": {**call, "type": "server_tool_use"}}),
    FOUND.map(lambda result: {"toolResult": result}),
    of("ReasoningContentBlock").map(lambda thought: {"reasoningContent": thought}),
    of("CitationsContentBlock").map(lambda cited: {"citationsContent": cited}),
    st.fixed_dictionaries({"format": st.just("png"), "source": st.fixed_dictionaries({"bytes": of("Blob")})}).map(
        lambda image: {"image": image}
    ),
)
ANSWERS = st.builds(
    lambda blocks, answer: {**answer, "output": {"message": {"role": "assistant", "content": blocks}}},
    st.lists(BLOCKS, max_size=4),
    of("ConverseResponse"),
)


def decoded(pieces: list[bytes]) -> list[Event]:
    decoder = StreamDecoder()
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return events + decoder.finish()


def encoder() -> StreamEncoder:
    return StreamEncoder(ANSWERING)


def encoded(events: list[Event]) -> list[bytes]:
    writer = encoder()
    data = [*map(writer.encode, events), writer.end()]
    assert writer.losses == []
    return data


def sorted_within(reply: Reply) -> Reply:
    """A reply in which what is carried whole has its members in one order."""
    (choice,) = reply.choices
    parts = tuple(
        msgspec.structs.replace(part, value=raw(json.loads(json.dumps(json.loads(bytes(part.value)), sort_keys=True))))
        if isinstance(part, UnknownPart)
        else part
        for part in choice.parts
    )
    return msgspec.structs.replace(reply, choices=(msgspec.structs.replace(choice, parts=parts),))


@given(data=st.data(), answer=ANSWERS, places=PLACES)
def test_a_stream_and_the_whole_body_tell_the_same_answer(
    data: st.DataObject, answer: dict[str, Any], places: list[int]
) -> None:
    stream = b"".join(data.draw(provider_stream(answer)))
    events = decoded([stream])
    assert sorted_within(fold(events)) == sorted_within(decode_reply(bytes(raw(answer))))
    assert decoded(cuts(stream, places)) == events
    assert decoded([stream[i : i + 1] for i in range(len(stream))]) == events


@given(data=st.data(), reply=REPLIES)
def test_a_reply_told_in_events_and_folded_is_the_reply(data: st.DataObject, reply: Reply) -> None:
    events = data.draw(told(reply))
    assert fold(events) == reply
    assert fold(decoded(encoded(events))) == reply


@given(data=st.data(), reply=REPLIES)
def test_botocore_reads_every_event_and_every_member(data: st.DataObject, reply: Reply) -> None:
    pieces = encoded(data.draw(told(bare(reply))))
    ours = [json.loads(message.payload) for message in _messages(b"".join(pieces))]
    theirs = [plain(event) for event in botocore_streams(pieces)]
    assert [next(iter(event.values())) for event in theirs] == ours
    names = [next(iter(event)) for event in theirs]
    assert (names[0], names[-2:]) == ("messageStart", ["messageStop", "metadata"])
    _check_order(theirs[1:-2])


def _messages(stream: bytes) -> list[Any]:
    return list(EventStreamFramer().feed(stream))


def _check_order(events: list[dict[str, Any]]) -> None:
    """Blocks follow each other, counted from 0, and only those of tools and pictures have a start."""
    at, begun = 0, False
    for event in events:
        ((name, value),) = event.items()
        assert value["contentBlockIndex"] == at
        if name == "contentBlockStart":
            assert not begun
            assert set(value["start"]) <= {"toolUse", "toolResult", "image"}
        elif name == "contentBlockStop":
            assert begun
        begun = name != "contentBlockStop"
        at += name == "contentBlockStop"
    assert not begun


@given(data=st.data(), answer=ANSWERS)
def test_a_stream_cut_anywhere_before_its_end_fails_and_without_metadata_it_is_whole(
    data: st.DataObject, answer: dict[str, Any]
) -> None:
    frames = data.draw(provider_stream(answer))
    whole = len(b"".join(frames[:-1]))
    length = data.draw(st.integers(0, whole - 1))
    stream = b"".join(frames)
    assert isinstance(decoded([stream[:length]])[-1], Failed)
    later = data.draw(st.integers(whole, len(stream)))
    assert not any(isinstance(event, Failed) for event in decoded([stream[:later]]))


def test_a_stream_is_over_after_its_metadata_and_not_before() -> None:
    decoder = StreamDecoder()
    decoder.feed(frame("messageStart", {"role": "assistant"}))
    decoder.feed(frame("messageStop", {"stopReason": "end_turn"}))
    assert not decoder.over
    decoder.feed(frame("metadata", {"usage": {"inputTokens": 1, "outputTokens": 2}}))
    assert decoder.over
    assert decoder.feed(b"rubbish that is not read any more") == []
    assert decoder.finish() == []


START, STOP = frame("messageStart", {"role": "assistant"}), frame("messageStop", {"stopReason": "end_turn"})
KNOWN = st.sampled_from(
    [
        START,
        STOP,
        frame("contentBlockStart", {"start": {"toolUse": {"toolUseId": "1", "name": "f"}}, "contentBlockIndex": 0}),
        frame("contentBlockStart", {"start": {"toolResult": {"toolUseId": "1"}}, "contentBlockIndex": 1}),
        frame("contentBlockStart", {"start": {"new": 5}, "contentBlockIndex": 2}),
        frame("contentBlockStart", {"start": 5, "contentBlockIndex": 2}),
        frame("contentBlockDelta", {"delta": {"text": "a"}, "contentBlockIndex": 0}),
        frame("contentBlockDelta", {"delta": {"text": "a"}, "contentBlockIndex": 3}),
        frame("contentBlockDelta", {"delta": {"toolUse": {"input": "{"}}, "contentBlockIndex": 0}),
        frame("contentBlockDelta", {"delta": {"toolResult": [{"text": "r"}]}, "contentBlockIndex": 1}),
        frame("contentBlockDelta", {"delta": {"reasoningContent": {"redactedContent": "AA"}}, "contentBlockIndex": 3}),
        frame("contentBlockDelta", {"delta": {"reasoningContent": {"signature": "s"}}, "contentBlockIndex": 4}),
        frame("contentBlockDelta", {"delta": {"citation": 5}, "contentBlockIndex": 3}),
        frame("contentBlockDelta", {"delta": {"image": {"source": 5}}, "contentBlockIndex": 5}),
        frame("contentBlockDelta", {"delta": {"new": [1]}, "contentBlockIndex": 6}),
        frame("contentBlockDelta", {"delta": {}, "contentBlockIndex": 7}),
        frame("contentBlockDelta", {"delta": {"text": "a"}, "contentBlockIndex": -1}),
        frame("contentBlockStop", {"contentBlockIndex": 0}),
        frame("contentBlockStop", {"contentBlockIndex": 1}),
        frame("contentBlockStop", {}),
        frame("metadata", {"usage": {"inputTokens": "x"}}),
        frame("metadata", []),
        frame("somethingNew", {"a": 1}),
        frame("", {}, exception_type="throttlingException", message_type="exception"),
        frame("", {}, message_type="error"),
        b"\0",
    ]
)


@given(data=st.binary(max_size=60) | st.lists(KNOWN, max_size=12).map(b"".join), places=PLACES)
def test_arbitrary_bytes_are_events_the_same_however_cut(data: bytes, places: list[int]) -> None:
    events = decoded([data])
    assert decoded(cuts(data, places)) == events
    failed = [event for event in events if isinstance(event, Failed)]
    assert failed in ([], [events[-1]]) if events else not failed
    if not failed:
        fold(events)


@pytest.mark.parametrize("depth", [100, 900, 990, 1000, 5000])
@pytest.mark.parametrize(
    "place", ['{"delta":{"new":%s},"contentBlockIndex":0}', '{"start":{"x":%s},"contentBlockIndex":0}']
)
def test_dos_01_a_deep_event_is_a_value_or_a_failure(place: str, depth: int) -> None:
    kind = "contentBlockDelta" if "delta" in place else "contentBlockStart"
    headers = frame(kind, {})
    (message,) = _messages(headers)
    deep = write_message(message.headers, (place % ("[" * depth + "]" * depth)).encode())
    events = decoded([START, deep, frame("contentBlockStop", {"contentBlockIndex": 0}), STOP])
    assert isinstance(events[-1], (Failed, Finished))


@pytest.mark.parametrize(
    ("name", "body", "kind", "retry"),
    [
        ("throttlingException", {"message": "slow"}, Kind.UPSTREAM_RATE_LIMIT, Retry.NEXT),
        (
            "validationException",
            {"message": "Input is too long."},
            Kind.CONTEXT_WINDOW,
            Retry.NEVER,
        ),
        ("validationException", {"message": "no"}, Kind.UPSTREAM_REJECTED, Retry.NEVER),
        ("modelStreamErrorException", {"message": "no", "originalStatusCode": 500}, Kind.UPSTREAM_ERROR, Retry.SAME),
        ("internalServerException", {"message": "no"}, Kind.UPSTREAM_ERROR, Retry.SAME),
        ("serviceUnavailableException", {}, Kind.UPSTREAM_ERROR, Retry.SAME),
        ("aNewException", {}, Kind.UPSTREAM_ERROR, Retry.SAME),
    ],
)
def test_an_exception_in_a_stream_is_a_failure_and_nothing_follows(
    name: str, body: object, kind: Kind, retry: Retry
) -> None:
    text = frame("contentBlockDelta", {"delta": {"text": "a"}, "contentBlockIndex": 0})
    exception = frame("", body, exception_type=name, message_type="exception")
    events = decoded([START + text + exception + text + STOP])
    failed = events[-1]
    assert isinstance(failed, Failed)
    assert (failed.kind, failed.retry) == (kind, retry)
    assert sum(isinstance(event, PartDelta) for event in events) == 1


def test_events_come_in_the_order_of_the_stream() -> None:
    thought = {"reasoningContent": {"text": "hm"}}
    signature = {"reasoningContent": {"signature": "sig"}}
    frames = [
        START,
        frame("contentBlockDelta", {"delta": thought, "contentBlockIndex": 0, "p": "abcd"}),
        frame("contentBlockDelta", {"delta": signature, "contentBlockIndex": 0}),
        frame("contentBlockStop", {"contentBlockIndex": 0}),
        frame("contentBlockDelta", {"delta": {"text": "a"}, "contentBlockIndex": 1}),
        frame("contentBlockDelta", {"delta": {"citation": {"title": "t"}}, "contentBlockIndex": 1}),
        frame("contentBlockStop", {"contentBlockIndex": 1}),
        frame("contentBlockStart", {"start": {"toolUse": {"toolUseId": "1", "name": "f"}}, "contentBlockIndex": 2}),
        frame("contentBlockStop", {"contentBlockIndex": 2}),
        frame("messageStop", {"stopReason": "tool_use", "additionalModelResponseFields": {"a": 1}}),
        frame(
            "metadata",
            {
                "usage": {"inputTokens": 1, "outputTokens": 2, "cacheReadInputTokens": 5},
                "metrics": {"latencyMs": 9},
                "serviceTier": {"type": "flex"},
            },
        ),
    ]
    assert decoded(frames) == [
        Opened("", ""),
        PartStart(0, 0, Reasoning("")),
        PartDelta(0, 0, "hm"),
        PartEnd(0, 0, Seal("bedrock_converse", "sig")),
        PartStart(0, 1, Text("")),
        PartDelta(0, 1, "a"),
        Cited(0, 1, Citation(title="t")),
        PartEnd(0, 1),
        PartStart(0, 2, ToolCall("1", "f", "")),
        PartDelta(0, 2, "{}"),
        PartEnd(0, 2),
        Aside(None, Extra("bedrock_converse", ("additionalModelResponseFields",), raw({"a": 1}))),
        Finished(0, Finish(Reason.TOOL_CALLS)),
        Opened("", "", "flex"),
        Aside(None, Extra("bedrock_converse", ("metrics", "latencyMs"), raw(9))),
        Metered(Usage(6, 2, 5)),
    ]


def test_botocore_passes_over_a_ping_and_so_do_we() -> None:
    assert write_event("initial-response", {}) == PING
    stream = [PING, START, PING, STOP, PING, frame("metadata", {}), PING]
    assert [list(event) for event in botocore_streams(stream)] == [["messageStart"], ["messageStop"], ["metadata"]]
    assert decoded(stream) == decoded([START, STOP, frame("metadata", {})])


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault(Kind.UPSTREAM_RATE_LIMIT, "slow", origin=Origin.UPSTREAM), "throttlingException"),
        (Fault(Kind.RATE_LIMITED, "slow"), "throttlingException"),
        (Fault(Kind.UPSTREAM_REJECTED, "no", origin=Origin.UPSTREAM), "validationException"),
        (Fault(Kind.TRUNCATED, "cut", origin=Origin.UPSTREAM), "modelStreamErrorException"),
        (Fault(Kind.UPSTREAM_ERROR, "x", origin=Origin.UPSTREAM), "modelStreamErrorException"),
        (Fault(Kind.STOPPING, "bye", origin=Origin.GATEWAY), "serviceUnavailableException"),
        (Fault(Kind.INTERNAL, "x", origin=Origin.GATEWAY), "internalServerException"),
    ],
)
def test_botocore_raises_the_error_of_a_failed_stream(fault: Fault, code: str) -> None:
    with pytest.raises(EventStreamError) as caught:
        botocore_streams([encoder().encode(PartStart(0, 0, Text("a"))), encode_fault_event(fault)])
    assert caught.value.response["Error"] == {"Code": code, "Message": fault.public}


def test_a_failure_in_the_middle_is_an_exception_and_the_last_word() -> None:
    writer = encoder()
    failed = Failed.of(Fault(Kind.TIMEOUT, "too late", origin=Origin.UPSTREAM, retry=Retry.SAME))
    stream = [writer.encode(PartStart(0, 0, Text("a"))), writer.encode(failed), writer.end()]
    assert stream[-1] == b""
    with pytest.raises(EventStreamError, match="too late"):
        botocore_streams(stream)


def test_a_failed_or_unfinished_stream_is_not_ended_but_says_so() -> None:
    writer = encoder()
    begun = writer.encode(PartStart(0, 0, Text("a")))
    with pytest.raises(EventStreamError):
        botocore_streams([begun, writer.end()])
    assert writer.end() == b""
    assert writer.encode(Finished(0, Finish(Reason.STOP))) == b""


def call(index: int, *events: Event) -> list[Event]:
    return [PartStart(0, index, ToolCall(f"id{index}", "f", "")), *events]


def test_calls_that_overlap_are_told_one_after_another() -> None:
    events: list[Event] = [
        *call(0, PartDelta(0, 0, '{"a"')),
        *call(1, PartDelta(0, 1, '{"b"')),
        PartDelta(0, 0, ":1}"),
        PartDelta(0, 1, ":2}"),
        *call(2),
        PartEnd(0, 2),
        PartEnd(0, 0),
        PartEnd(0, 1),
        Finished(0, Finish(Reason.TOOL_CALLS)),
    ]
    pieces = encoded(events)
    _check_order([plain(event) for event in botocore_streams(pieces)][1:-2])
    assert fold(decoded(pieces)).choices[0].parts == (
        ToolCall("id0", "f", '{"a":1}'),
        ToolCall("id1", "f", '{"b":2}'),
        ToolCall("id2", "f", "{}"),
    )


def test_words_that_go_on_after_others_are_a_block_of_their_own_and_told_as_a_loss() -> None:
    writer = encoder()
    events: list[Event] = [
        PartStart(0, 0, Reasoning("hm")),
        PartStart(0, 1, Text("a")),
        PartDelta(0, 0, "so"),
        PartDelta(0, 1, "b"),
        Finished(0, Finish(Reason.STOP)),
    ]
    pieces = [*map(writer.encode, events), writer.end()]
    assert fold(decoded(pieces)).choices[0].parts == (Reasoning("hm"), Text("a"), Reasoning("so"), Text("b"))
    assert [loss.kind for loss in writer.losses] == [LossKind.SHAPE, LossKind.SHAPE]


@pytest.mark.parametrize(
    ("events", "kinds"),
    [
        ([PartStart(0, 0, Text("a")), PartEnd(0, 0, Seal("x", "s"))], [LossKind.SEAL]),
        ([PartStart(0, 0, Refusal("no"))], [LossKind.MARK]),
        ([Aside(0, Extra("gemini_generate", ("x",), raw(1)))], [LossKind.UNKNOWN]),
        ([Aside(None, Extra("gemini_generate", ("x",), raw(1)))], [LossKind.UNKNOWN]),
        ([Scored(0, (Score(Chance("a", -1.0)),)), Scored(0, ())], [LossKind.KNOB]),
    ],
)
def test_what_a_stream_cannot_say_is_a_declared_loss(events: list[Event], kinds: list[LossKind]) -> None:
    writer = encoder()
    for event in events:
        writer.encode(event)
    assert [loss.kind for loss in writer.losses] == kinds


@pytest.mark.parametrize(
    "event",
    [
        PartStart(0, 0, Image(Link("https://e.x/i"))),
        PartStart(0, 0, Document(Inline("application/pdf", "AA"))),
        PartStart(0, 0, UnknownPart("gemini_generate", "parts", raw({}))),
        PartStart(0, 0, UnknownPart("bedrock_converse", "content", raw({"guardContent": {}}))),
        PartStart(0, 0, ToolCall("1", "f", "words", free=True)),
        PartStart(1, 0, Text("a")),
        Finished(1, Finish(Reason.STOP)),
    ],
)
def test_content_a_stream_cannot_say_is_refused(event: Event) -> None:
    with pytest.raises(Fault):
        encoder().encode(event)


def test_tools_of_the_providers_own_and_pictures_in_pieces_are_held_until_they_are_whole() -> None:
    def piece(delta: object) -> bytes:
        return frame("contentBlockDelta", {"delta": delta, "contentBlockIndex": 0})

    stop = frame("contentBlockStop", {"contentBlockIndex": 0})
    picture = [piece({"image": {"source": {"bytes": part}}}) for part in ("AAA=", "AAAA")]
    start = frame("contentBlockStart", {"start": {"image": {"format": "png"}}, "contentBlockIndex": 0})
    parts: tuple[Part, ...] = fold(decoded([START, start, *picture, stop, STOP])).choices[0].parts
    assert parts == (Image(Inline("image/png", "AAAAAAA=")),)
    (unknown,) = fold(decoded([START, piece({"new": {"a": 1}}), stop, STOP])).choices[0].parts
    assert isinstance(unknown, UnknownPart)
    assert json.loads(bytes(unknown.value)) == {"new": {"a": 1}}


def names(data: bytes) -> list[str]:
    """The events of a stream, by name."""
    return [
        str(one.headers.get(":event-type") or one.headers.get(":exception-type"))
        for one in EventStreamFramer().feed(data)
    ]


def test_a_failure_after_the_end_of_the_choice_comes_before_any_stop_is_told() -> None:
    writer = encoder()
    said = writer.encode(PartStart(0, 0, Text("a"))) + writer.encode(Finished(0, Finish(Reason.STOP)))
    said += writer.encode(Failed(Kind.UPSTREAM_ERROR, "x", 502))
    assert "messageStop" not in names(said)
    assert names(said)[-1] == "modelStreamErrorException"


def test_a_usage_nobody_stated_is_written_as_nothing_and_read_as_none() -> None:
    writer = encoder()
    said = writer.encode(Finished(0, Finish(Reason.STOP))) + writer.end()
    *_, metadata = EventStreamFramer().feed(said)
    assert json.loads(metadata.payload)["usage"] == {"inputTokens": 0, "outputTokens": 0, "totalTokens": 0}
    assert not [event for event in StreamDecoder().feed(said) if isinstance(event, Metered)]


def test_hidden_reasoning_is_redacted_content_though_its_proof_comes_last() -> None:
    writer = encoder()
    seal = Seal("openai_responses", "proof")
    said = writer.encode(PartStart(0, 0, Reasoning("", hidden=True))) + writer.encode(PartEnd(0, 0, seal))
    said += writer.encode(Finished(0, Finish(Reason.STOP))) + writer.end()
    (choice,) = fold(StreamDecoder().feed(said)).choices
    assert choice.parts == (Reasoning("", seal, hidden=True),)


def test_which_stop_sequence_was_met_is_told_as_the_service_does() -> None:
    writer = encoder()
    said = writer.encode(Finished(0, Finish(Reason.STOP, stop="END"))) + writer.end()
    stop = next(one for one in EventStreamFramer().feed(said) if one.headers[":event-type"] == "messageStop")
    told = {"stopReason": "stop_sequence", "additionalModelResponseFields": {"stop_sequence": "END"}}
    assert json.loads(stop.payload) == told
    (choice,) = fold(StreamDecoder().feed(said)).choices
    assert (choice.finish.reason, choice.finish.stop) == (Reason.STOP, "END")
