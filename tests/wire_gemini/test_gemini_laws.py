"""The laws of a dialect, for Gemini: nothing changes on the way there and back, however a stream is cut."""

from __future__ import annotations

from typing import Any

import pytest
from gemini_kit import (
    CONVERSATIONS,
    PLACES,
    answering,
    asked,
    body_of,
    chunks,
    cuts,
    outcome,
    replies,
    sse,
    told,
    value_of,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ostiary.core.fault import Kind
from ostiary.wire.conversation.conversation import Conversation
from ostiary.wire.conversation.events import Event, Failed
from ostiary.wire.conversation.fold import fold
from ostiary.wire.conversation.reply import Reply
from ostiary.wire.dialects.gemini_generate.stream_decode import StreamDecoder
from ostiary.wire.dialects.gemini_generate.stream_encode import ArrayEncoder, StreamEncoder
from ostiary.wire.dialects.gemini_generate.wire import DIALECT
from ostiary.wire.profile import ANY

LARGE = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def decoded(pieces: list[bytes]) -> list[Event]:
    decoder = StreamDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)] + decoder.finish()


def written(reply: Reply) -> bytes:
    encoded = DIALECT.encode_reply(reply, answering(id=reply.id, model=reply.model))
    assert encoded.losses == ()
    return encoded.body


def encoded(events: list[Event], reply: Reply) -> bytes:
    writer = StreamEncoder(answering(id=reply.id, model=reply.model))
    data = b"".join([*map(writer.encode, events), writer.end()])
    assert writer.losses == []
    return data


@LARGE
@given(conversation=CONVERSATIONS)
def test_a_conversation_comes_back_equal(conversation: Conversation) -> None:
    found = DIALECT.encode_request(conversation, ANY)
    assert found.losses == ()
    assert DIALECT.decode_request(found.body) == conversation


@LARGE
@given(reply=replies())
def test_a_reply_comes_back_equal(reply: Reply) -> None:
    assert DIALECT.decode_reply(written(reply)) == reply
    assert DIALECT.usage_of(written(reply)) == reply.usage


@LARGE
@given(data=st.data(), reply=replies(), places=PLACES)
def test_a_stream_and_the_whole_body_tell_the_same_answer(data: st.DataObject, reply: Reply, places: list[int]) -> None:
    body = written(reply)
    stream = sse(data.draw(chunks(body)), data.draw(st.sampled_from([b"\n", b"\r\n"])))
    events = decoded([stream])
    assert fold(events) == DIALECT.decode_reply(body)
    assert decoded(cuts(stream, places)) == events
    assert decoded([stream[i : i + 1] for i in range(len(stream))]) == events


@LARGE
@given(data=st.data(), reply=replies())
def test_a_reply_told_in_events_and_folded_is_the_reply(data: st.DataObject, reply: Reply) -> None:
    events = data.draw(told(reply))
    assert fold(events) == reply
    assert fold(decoded([encoded(events, reply)])) == reply


@LARGE
@given(data=st.data(), reply=replies())
def test_the_array_holds_the_chunks_of_the_stream(data: st.DataObject, reply: Reply) -> None:
    events = data.draw(told(reply))
    writer = ArrayEncoder(answering(id=reply.id, model=reply.model))
    array = value_of(b"".join([*map(writer.encode, events), writer.end()]))
    assert array == [value_of(frame[6:]) for frame in encoded(events, reply).split(b"\n\n")[:-1]]


@LARGE
@given(data=st.data(), reply=replies())
def test_every_chunk_names_answer_and_model_and_the_last_has_the_ends_and_the_usage(
    data: st.DataObject, reply: Reply
) -> None:
    found = [value_of(frame[6:]) for frame in encoded(data.draw(told(reply)), reply).split(b"\n\n")[:-1]]
    assert all((chunk["responseId"], chunk["modelVersion"]) == (reply.id, reply.model) for chunk in found)
    assert [("usageMetadata" in chunk) for chunk in found[:-1]] == [False] * (len(found) - 1)
    assert ("usageMetadata" in found[-1]) is (reply.usage is not None)
    ended = [candidate for candidate in found[-1]["candidates"] if "finishReason" in candidate]
    assert len(ended) == len(reply.choices)


@LARGE
@given(data=st.data(), reply=replies())
def test_a_stream_cut_before_its_last_finish_fails(data: st.DataObject, reply: Reply) -> None:
    events = data.draw(chunks(written(reply)))
    last = max(place for place, event in enumerate(events) if _ends(event))
    safe = len(sse(events[: last + 1])) - 4  # a blank line may be missing
    length = data.draw(st.integers(0, safe - 1))
    stream = sse(events)[:length]
    whole = [event for place, event in enumerate(events) if len(sse(events[: place + 1])) - 4 <= length]
    begun = {candidate["index"] for event in whole for candidate in event.get("candidates", ())}
    ended = {candidate["index"] for event in whole for candidate in _ends(event)}
    # nobody who does not know how many candidates were asked for can miss one that never began
    assert isinstance(decoded([stream])[-1], Failed) is (not begun or begun != ended)
    assert not any(isinstance(event, Failed) for event in decoded([sse(events)[:safe]]))


def _ends(event: dict[str, Any]) -> list[dict[str, Any]]:
    return [candidate for candidate in event.get("candidates", ()) if "finishReason" in candidate]


FRAGMENTS = st.sampled_from(
    [
        b"data: ",
        b"{}",
        b"\n\n",
        b"\xff",
        b'{"candidates":',
        b'[{"finishReason":"STOP"}]}',
        b'{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}',
        b'{"candidates":[{"content":{"parts":[{"text":"","thoughtSignature":"x"},{"text":5},{"functionCall":{}}]}}]}',
        b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f"}}]},"finishReason":"STOP"}]}',
        b'{"candidates":[{"groundingMetadata":{"groundingChunks":[{"web":{}}],"groundingSupports":[5]}}]}',
        b'{"candidates":[{"logprobsResult":{"chosenCandidates":[{}]},"citationMetadata":{"citations":[{}]}}]}',
        b'{"candidates":[{"index":-1}]}',
        b'{"candidates":[5]}',
        b'{"promptFeedback":{"blockReason":"SAFETY"}}',
        b'{"usageMetadata":{"promptTokenCount":-1}}',
        b'{"usageMetadata":5}',
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
        reply = fold(events)
        StreamEncoder(answering()).encode(events[0])
        DIALECT.encode_reply(reply, answering())


MEMBERS = [
    *("contents", "role", "parts", "text", "thought", "thought_signature", "functionCall", "function_response", "name"),
    *(
        "args",
        "id",
        "response",
        "result",
        "inline_data",
        "fileData",
        "mimeType",
        "data",
        "fileUri",
        "candidates",
        "web",
    ),
    *(
        "systemInstruction",
        "tools",
        "functionDeclarations",
        "parameters",
        "type",
        "toolConfig",
        "mode",
        "segment",
        "web",
    ),
    *("generationConfig", "responseMimeType", "responseSchema", "thinkingConfig", "content", "usageMetadata"),
    *("groundingMetadata", "groundingChunks", "groundingSupports"),
]
PIECES = st.recursive(
    st.sampled_from(["a", "", 1, None, True, "user", "model", "image/png", "https://e.x/a.png"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(MEMBERS), inner, max_size=4),
    max_leaves=20,
)


@given(body=st.binary(max_size=60) | PIECES.map(body_of))
def test_arbitrary_bytes_are_values_or_faults(body: bytes) -> None:
    value, fault = outcome(DIALECT.decode_request, body)
    assert isinstance(value, Conversation) or fault in (Kind.MALFORMED, Kind.INVALID_REQUEST)
    answer, fault = outcome(DIALECT.decode_reply, body)
    assert isinstance(answer, Reply) or fault in (Kind.BAD_ANSWER, Kind.UPSTREAM_ERROR)
    assert outcome(DIALECT.usage_of, body)[1] in (None, Kind.BAD_ANSWER, Kind.UPSTREAM_ERROR)
    assert DIALECT.decode_fault(400, body).status in (400, 502)


@given(contents=PIECES)
def test_any_contents_that_are_read_can_be_written_and_read_the_same(contents: object) -> None:
    value, _ = outcome(DIALECT.decode_request, body_of({"contents": [{"parts": [contents]}, contents]}))
    if value is None:
        return
    found = DIALECT.encode_request(value, ANY)
    assert found.losses or DIALECT.decode_request(found.body) == value


@pytest.mark.parametrize("depth", [64, 500, 900, 950, 980, 990, 995, 1000, 100_000])
@pytest.mark.parametrize(
    "place",
    [
        "%s",
        '{"contents":%s}',
        '{"contents":[{"parts":[%s]}]}',
        '{"contents":[{"parts":[{"functionCall":{"name":"f","args":%s}}]}]}',
        '{"contents":[],"tools":[{"functionDeclarations":[{"name":"f","parameters":{"items":%s}}]}]}',
        '{"contents":[],"generationConfig":{"responseMimeType":"application/json","responseSchema":{"anyOf":%s}}}',
    ],
)
@pytest.mark.parametrize("pair", ["[]", "{}"])
def test_deep_nesting_is_a_value_or_a_fault(depth: int, place: str, pair: str) -> None:
    nest = "[" * depth + "]" * depth if pair == "[]" else '{"items":' * depth + "1" + "}" * depth
    value, fault = outcome(DIALECT.decode_request, (place % nest).encode())
    assert fault in (None, Kind.MALFORMED, Kind.INVALID_REQUEST)
    assert value is None or DIALECT.encode_request(value, ANY).body


def test_an_empty_conversation_has_an_empty_list_of_contents() -> None:
    assert value_of(DIALECT.encode_request(asked(), ANY).body) == {"contents": []}
