"""What Gemini's answers mean, and what a client of Gemini is told, case by case."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from gemini_kit import answering, body_of, raw, sse, value_of

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
from ostiary.wire.conversation.parts import (
    Audio,
    Citation,
    Link,
    Part,
    Reasoning,
    Refusal,
    Seal,
    Text,
    ToolCall,
    ToolResult,
    UnknownPart,
)
from ostiary.wire.conversation.reply import Choice, Finish, Reason, Reply
from ostiary.wire.conversation.unknown import Extra, Loss, LossKind, find
from ostiary.wire.dialects.gemini_generate.stream_decode import StreamDecoder
from ostiary.wire.dialects.gemini_generate.stream_encode import ArrayEncoder, StreamEncoder
from ostiary.wire.dialects.gemini_generate.wire import DIALECT

US = DIALECT.name
OWN = Seal(US, "QQ==")


def candidate(*parts: Any, finish: str | None = "STOP", **more: Any) -> dict[str, Any]:
    ended = {"finishReason": finish} if finish else {}
    return {"content": {"role": "model", "parts": list(parts)}, **ended, **more}


def answer(*candidates: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"candidates": list(candidates), **more}


def read(document: object) -> Reply:
    return DIALECT.decode_reply(bytes(raw(document)))


def told(*parts: Any, **more: Any) -> Choice:
    return read(answer(candidate(*parts, **more))).choices[0]


def streamed(*events: dict[str, Any]) -> list[Event]:
    decoder = StreamDecoder()
    return [*decoder.feed(sse(events)), *decoder.finish()]


def written(*parts: Part, finish: Finish = Finish(Reason.STOP)) -> tuple[dict[str, Any], list[Loss]]:  # noqa: B008
    encoded = DIALECT.encode_reply(Reply(choices=(Choice(0, parts, finish),)), answering())
    return value_of(encoded.body)["candidates"][0], list(encoded.losses)


# Why it ended.


@pytest.mark.parametrize(
    ("word", "finish"),
    [
        ("STOP", Finish(Reason.STOP)),
        ("MAX_TOKENS", Finish(Reason.LENGTH)),
        ("OTHER", Finish(Reason.OTHER)),
        ("SAFETY", Finish(Reason.CONTENT_FILTER, "SAFETY", US)),
        ("RECITATION", Finish(Reason.CONTENT_FILTER, "RECITATION", US)),
        ("BLOCKLIST", Finish(Reason.CONTENT_FILTER, "BLOCKLIST", US)),
        ("PROHIBITED_CONTENT", Finish(Reason.CONTENT_FILTER, "PROHIBITED_CONTENT", US)),
        ("SPII", Finish(Reason.CONTENT_FILTER, "SPII", US)),
        ("IMAGE_SAFETY", Finish(Reason.CONTENT_FILTER, "IMAGE_SAFETY", US)),
        ("LANGUAGE", Finish(Reason.OTHER, "LANGUAGE", US)),
        ("MALFORMED_FUNCTION_CALL", Finish(Reason.OTHER, "MALFORMED_FUNCTION_CALL", US)),
        ("A_NEW_ONE", Finish(Reason.OTHER, "A_NEW_ONE", US)),
    ],
)
def test_every_word_for_the_end_is_a_reason_and_comes_back(word: str, finish: Finish) -> None:
    assert told({"text": "a"}, finish=word).finish == finish
    assert written(Text("a"), finish=finish)[0]["finishReason"] == word


def test_an_end_with_a_call_is_a_call_and_is_said_to_be_a_stop() -> None:
    call = {"functionCall": {"id": "1", "name": "f", "args": {}}}
    assert told(call).finish == Finish(Reason.TOOL_CALLS)
    assert told(call, finish="MAX_TOKENS").finish == Finish(Reason.LENGTH)
    assert written(ToolCall("1", "f", "{}"), finish=Finish(Reason.TOOL_CALLS))[0]["finishReason"] == "STOP"


@pytest.mark.parametrize(
    ("reason", "word"), [(Reason.CONTENT_FILTER, "SAFETY"), (Reason.OTHER, "OTHER"), (Reason.LENGTH, "MAX_TOKENS")]
)
def test_other_dialects_ends_have_a_word_that_the_official_types_know(reason: Reason, word: str) -> None:
    document, losses = written(Text("a"), finish=Finish(reason, "odd", "openai_chat", stop="END"))
    assert document["finishReason"] == word
    assert losses == [Loss(LossKind.MARK, "choices.0.finish.stop")]


def test_a_blocked_prompt_is_an_answer_withheld_and_comes_back_without_candidates() -> None:
    feedback = {"blockReason": "PROHIBITED_CONTENT", "safetyRatings": [{"category": "X"}]}
    document = {"promptFeedback": feedback, "usageMetadata": {"promptTokenCount": 3}, "responseId": "r"}
    reply = read(document)
    assert reply.choices == (Choice(0, (), Finish(Reason.CONTENT_FILTER, "PROHIBITED_CONTENT", US)),)
    assert reply.usage == Usage(3)
    events = streamed(document)
    assert fold(events) == reply
    body = value_of(DIALECT.encode_reply(reply, answering(id="r")).body)
    assert ("candidates" in body, body["promptFeedback"]) == (False, feedback)
    writer = StreamEncoder(answering(id="r"))
    (frame,) = [frame for frame in b"".join([*map(writer.encode, events), writer.end()]).split(b"\n\n") if frame]
    assert ("candidates" in value_of(frame[6:]), value_of(frame[6:])["promptFeedback"]) == (False, feedback)


def test_a_candidate_that_gives_no_reason_has_ended_all_the_same_in_a_whole_answer() -> None:
    assert told({"text": "a"}, finish=None).finish == Finish(Reason.OTHER)


# What it says.


def test_words_of_one_kind_are_one_part_until_a_proof_or_something_else_comes() -> None:
    parts = [
        {"text": "a", "thought": True},
        {"text": "b", "thought": True},
        {"text": "c"},
        {"text": "d", "thoughtSignature": "QQ=="},
        {"text": "e"},
        {"text": ""},
        {"executableCode": {"language": "PYTHON", "code": "1"}},
        {"text": "f"},
        {"text": "", "thoughtSignature": "QQ=="},
        {"text": "", "thoughtSignature": "QQ=="},
        {"text": "g", "thought": True},
    ]
    code = UnknownPart(US, "parts", raw(parts[6]))
    found = told(*parts).parts
    assert isinstance(found[3], UnknownPart)
    assert value_of(found[3].value) == value_of(code.value)
    said = (Reasoning("ab"), Text("cd", seal=OWN), Text("e"), found[3], Text("f", seal=OWN))
    assert found == (*said, Reasoning("", OWN, hidden=True), Reasoning("g"))
    chunks = [answer(candidate(part, finish=None)) for part in parts]
    assert fold(streamed(*chunks, answer(candidate()))).choices[0].parts[:3] == found[:3]


def test_calls_without_ids_get_some_that_differ_by_answer_and_place() -> None:
    call = {"functionCall": {"name": "f"}}
    first, second = told(call, call).parts, read(answer(candidate(call), responseId="r")).choices[0].parts
    ids = [part.id for part in (*first, *second) if isinstance(part, ToolCall)]
    assert len(set(ids)) == 3
    assert all(len(name) <= 40 and name.replace("-", "").isalnum() for name in ids)
    assert written(*first)[0]["content"]["parts"] == [{"functionCall": {"name": "f", "args": {}}}] * 2


def test_a_foreign_proof_travels_as_base64_and_comes_back() -> None:
    thought = Reasoning("hm", Seal("anthropic_messages", "any text: €"))
    document, losses = written(thought, Reasoning("", Seal("openai_responses", "gAAA"), hidden=True))
    proofs = [part["thoughtSignature"] for part in document["content"]["parts"]]
    assert losses == []
    assert all(len(proof) % 4 == 0 for proof in proofs)
    assert told(*document["content"]["parts"]).parts[0] == thought
    history = body_of({"contents": [{"role": "model", "parts": document["content"]["parts"]}]})
    urlsafe = history.replace(b"+", b"-").replace(b"/", b"_")
    for body in (history, urlsafe):
        (message,) = DIALECT.decode_request(body).messages
        assert message.parts == (  # type: ignore[union-attr]
            thought,
            Reasoning("", Seal("openai_responses", "gAAA"), hidden=True),
        )


# What grounds it.


def test_grounding_is_cited_by_characters_of_the_text_it_stands_with() -> None:
    chunks = [{"web": {"uri": "https://a", "title": "A"}}, {"web": {"uri": "https://b", "domain": "b"}}]
    supports = [
        {"segment": {"endIndex": 7, "text": "größ"[:4] + "e"}, "groundingChunkIndices": [0, 1],
         "confidenceScores": [0.5, 0.25]},
    ]  # fmt: skip
    grounds = {"webSearchQueries": ["q"], "groundingChunks": chunks, "groundingSupports": supports}
    choice = told({"text": "größe ist"}, groundingMetadata=grounds)
    (text,) = choice.parts
    assert isinstance(text, Text)
    assert [(cited.url, cited.title, cited.start, cited.end) for cited in text.citations] == [
        ("https://a", "A", 0, 5),
        ("https://b", None, 0, 5),
    ]
    assert [extra.path for extra in choice.rest] == [("groundingMetadata", "webSearchQueries")]
    parts = ({"text": "grö"}, {"text": "ße"}, {"text": " ist"})
    chunked = [answer(candidate(part, finish=None, groundingMetadata=grounds)) for part in parts]
    assert fold(streamed(*chunked, answer(candidate(groundingMetadata=grounds)))).choices == (choice,)


@pytest.mark.parametrize(
    "support",
    [
        {"segment": {"endIndex": 3}, "groundingChunkIndices": [0]},  # within a character
        {"segment": {"endIndex": 99}, "groundingChunkIndices": [0]},
        {"segment": {"endIndex": 1, "text": "x"}, "groundingChunkIndices": [0]},
        {"segment": {"startIndex": 2, "endIndex": 1}, "groundingChunkIndices": [0]},
        {"segment": {"endIndex": 1}, "groundingChunkIndices": [1]},
        {"segment": {"endIndex": 1}, "groundingChunkIndices": [0], "confidenceScores": [1, 2]},
        {"segment": {"endIndex": 1}, "groundingChunkIndices": [0], "renderedParts": [1]},
        5,
    ],
)
def test_grounding_that_does_not_fit_is_kept_whole(support: Any) -> None:
    grounds = {"groundingChunks": [{"web": {"uri": "u"}}], "groundingSupports": [support]}
    choice = told({"text": "grö"}, groundingMetadata=grounds)
    assert choice.parts == (Text("grö"),)
    kept = find(choice.rest, US, "groundingMetadata")
    assert kept is not None
    assert value_of(kept) == grounds


@pytest.mark.parametrize("name", ["citations", "citationSources"])
def test_recitations_are_citations_in_either_spelling(name: str) -> None:
    sources = [{"startIndex": 1, "endIndex": 2, "uri": "u", "license": "mit"}]
    choice = told({"text": "abc"}, citationMetadata={name: sources})
    (text,) = choice.parts
    assert isinstance(text, Text)
    assert [(cited.url, cited.start, cited.end) for cited in text.citations] == [("u", 1, 2)]
    assert written(text)[0]["citationMetadata"] == {name: sources}


def test_what_is_quoted_elsewhere_has_no_place_here() -> None:
    document, losses = written(Text("abc", citations=(Citation("u", "t", "words", 0, 3),)))
    support = {"segment": {"startIndex": 0, "endIndex": 3, "text": "abc"}, "groundingChunkIndices": [0]}
    grounds = {"groundingChunks": [{"web": {"uri": "u", "title": "t"}}], "groundingSupports": [support]}
    assert document["groundingMetadata"] == grounds
    assert losses == [Loss(LossKind.MARK, "choices.0.parts.0.citations.0.quote")]


# What it cost.


@pytest.mark.parametrize(
    ("metadata", "usage"),
    [
        ({"promptTokenCount": 10, "cachedContentTokenCount": 4, "candidatesTokenCount": 5, "thoughtsTokenCount": 3,
          "toolUsePromptTokenCount": 2, "totalTokenCount": 20}, Usage(12, 8, 4, 0, 3)),
        ({"promptTokenCount": 10}, Usage(10)),
        ({"totalTokenCount": 10, "candidatesTokenCount": 4}, Usage(6, 4)),
        ({"promptTokenCount": 10, "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 7},
          {"modality": "TEXT", "tokenCount": 3}], "candidatesTokenCount": 9,
          "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 9}]}, Usage(10, 9, 0, 0, 0, 7, 9)),
        ({}, None),
        ({"promptTokenCount": -1}, None),
        ({"promptTokenCount": 10**13}, None),
        ({"promptTokenCount": "10"}, None),
        (5, None),
    ],
)  # fmt: skip
def test_usage_is_counted_as_the_house_counts(metadata: Any, usage: Usage | None) -> None:
    document = answer(candidate({"text": "a"}), usageMetadata=metadata)
    assert read(document).usage == usage
    assert DIALECT.usage_of(body_of(document)) == usage
    assert fold(streamed(document)).usage == usage


def test_of_usage_so_far_the_last_counts_even_when_it_comes_late() -> None:
    chunks = [
        answer(candidate({"text": "a"}, finish=None), usageMetadata={"promptTokenCount": 3, "candidatesTokenCount": 1}),
        answer(candidate({"text": "b"}), usageMetadata={"promptTokenCount": 3, "candidatesTokenCount": 2}),
        {"usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "thoughtsTokenCount": 4}},
    ]
    assert fold(streamed(*chunks)).usage == Usage(3, 6, 0, 0, 4)


# Streams.


def test_events_come_in_the_order_of_the_stream() -> None:
    call = {"functionCall": {"id": "1", "name": "f", "args": {"a": 1}}, "thoughtSignature": "QQ=="}
    chunks = [
        answer(candidate({"text": "a"}, finish=None, safetyRatings=[1]), responseId="r", modelVersion="m"),
        answer(candidate({"text": "b"}, finish=None, safetyRatings=[2]), responseId="r", modelVersion="m"),
        answer(candidate(call), usageMetadata={"promptTokenCount": 1, "trafficType": "ON_DEMAND_FLEX"}),
    ]
    events = streamed(*chunks)
    rest = [event for event in events if isinstance(event, Aside)]
    assert [(aside.choice, aside.extra.path, value_of(aside.extra.value)) for aside in rest] == [
        (0, ("safetyRatings",), [2])
    ]
    assert [event for event in events if not isinstance(event, Aside)] == [
        Opened("r", "m"),
        PartStart(0, 0, Text("")),
        PartDelta(0, 0, "a"),
        PartDelta(0, 0, "b"),
        Opened("r", "m", "flex"),
        PartEnd(0, 0),
        PartStart(0, 1, ToolCall("1", "f", "", seal=OWN)),
        PartDelta(0, 1, '{"a":1}'),
        PartEnd(0, 1),
        Finished(0, Finish(Reason.TOOL_CALLS)),
        Metered(Usage(1)),
    ]


def test_only_a_failure_ends_a_stream_before_the_transport_does() -> None:
    decoder = StreamDecoder()
    decoder.feed(sse([answer(candidate({"text": "a"}))]))
    assert not decoder.over
    (failed,) = decoder.feed(sse([{"error": {"code": 429, "message": "secret words", "status": "RESOURCE_EXHAUSTED"}}]))
    assert isinstance(failed, Failed)
    assert (failed.kind, failed.retry, "secret" in failed.public) == (Kind.UPSTREAM_RATE_LIMIT, Retry.NEXT, False)
    assert decoder.over
    assert decoder.feed(sse([answer(candidate({"text": "late"}))])) == []
    assert decoder.finish() == []


@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [{"usageMetadata": {"promptTokenCount": 1}}],
        [answer(candidate({"text": "a"}, finish=None))],
        [answer(candidate({"text": "a"}), candidate({"text": "b"}, finish=None, index=1))],
    ],
)
def test_a_stream_that_was_cut_is_a_failure(chunks: list[dict[str, Any]]) -> None:
    failed = streamed(*chunks)[-1]
    assert isinstance(failed, Failed)
    assert failed.kind is Kind.TRUNCATED


@pytest.mark.parametrize("bad", [answer(5), answer({"index": -1}), answer({"index": 128})])  # type: ignore[arg-type]
def test_a_candidate_that_cannot_be_is_rubbish(bad: dict[str, Any]) -> None:
    failed = streamed(answer(candidate({"text": "a"}, finish=None)), bad)[-1]
    assert isinstance(failed, Failed)
    assert failed.kind is Kind.BAD_ANSWER
    with pytest.raises(Fault):
        read(bad)


def frames(*events: Event, losses: list[Loss] | None = None) -> list[dict[str, Any]]:
    writer = StreamEncoder(answering())
    data = b"".join([*map(writer.encode, events), writer.end()])
    assert writer.losses == (losses or [])
    return [value_of(frame[6:]) for frame in data.split(b"\n\n") if frame]


def parts_in(documents: list[dict[str, Any]]) -> list[Any]:
    return [part for document in documents[:-1] for part in document["candidates"][0]["content"]["parts"]]


DONE = Finished(0, Finish(Reason.STOP))


def test_words_are_told_at_once_though_the_words_before_them_stay_open() -> None:
    writer = StreamEncoder(answering())
    writer.encode(PartStart(0, 0, Reasoning("")))
    assert writer.encode(PartDelta(0, 0, "hm"))
    writer.encode(PartStart(0, 1, Text("")))
    assert writer.encode(PartDelta(0, 1, "words"))


def test_a_call_is_told_whole_and_what_follows_it_waits() -> None:
    call, other = ToolCall("1", "f", ""), ToolCall("2", "g", "")
    documents = frames(
        PartStart(0, 0, Text("")),
        PartDelta(0, 0, "a"),
        PartStart(0, 1, call),
        PartStart(0, 2, other),
        PartDelta(0, 2, "{}"),
        PartDelta(0, 1, '{"a"'),
        PartStart(0, 3, Text("")),
        PartDelta(0, 3, "late"),
        PartDelta(0, 1, ":1}"),
        PartEnd(0, 2),
        PartEnd(0, 3),
        PartEnd(0, 1),
        PartEnd(0, 0),
        DONE,
    )
    assert parts_in(documents) == [
        {"text": "a"},
        {"functionCall": {"id": "1", "name": "f", "args": {"a": 1}}},
        {"functionCall": {"id": "2", "name": "g", "args": {}}},
        {"text": "late"},
    ]


def test_a_call_of_several_lines_is_one_event() -> None:
    (part,) = parts_in(frames(PartStart(0, 0, ToolCall("1", "f", '{\r\n "a":\n1}')), PartEnd(0, 0), DONE))
    assert part["functionCall"]["args"] == {"a": 1}
    provider = Fault(Kind.UPSTREAM_REJECTED, "no", answer=b'{\n"error":{}\n}')
    assert DIALECT.encode_fault_event(provider).count(b"\n") == 2


def test_words_after_the_end_still_count_and_their_part_ends() -> None:
    events = streamed(answer(candidate({"text": "a"})), answer(candidate({"text": "b"}, finish=None)))
    assert events[-1] == PartEnd(0, 1)
    assert fold(events).choices[0].parts == (Text("a"), Text("b"))


def test_a_proof_at_the_end_of_a_part_is_told_without_words() -> None:
    documents = frames(
        PartStart(0, 0, Reasoning("")), PartDelta(0, 0, "hm"), PartEnd(0, 0, OWN),
        PartStart(0, 1, Text("a")), PartEnd(0, 1, OWN), DONE,
    )  # fmt: skip
    assert parts_in(documents) == [
        {"text": "hm", "thought": True},
        {"text": "", "thought": True, "thoughtSignature": "QQ=="},
        {"text": "a"},
        {"text": "", "thoughtSignature": "QQ=="},
    ]


@pytest.mark.parametrize(
    ("events", "losses"),
    [
        ([Aside(0, Extra("openai_chat", ("x",), raw(1)))], [Loss(LossKind.UNKNOWN, "choices.0.x")]),
        ([Aside(None, Extra("openai_chat", ("x",), raw(1)))], [Loss(LossKind.UNKNOWN, "x")]),
        ([Opened("i", "m", "scale")], [Loss(LossKind.UNKNOWN, "tier")]),
        ([PartStart(0, 0, Refusal("")), PartDelta(0, 0, "no")], [Loss(LossKind.MARK, "choices.0.parts.0")]),
        (
            [PartStart(0, 0, Reasoning("a")), PartStart(0, 1, Text("b")), PartEnd(0, 0, OWN)],
            [Loss(LossKind.SEAL, "choices.0.parts.0")],
        ),
        (
            [PartStart(0, 0, Reasoning("a")), PartStart(0, 1, Text("b")), PartDelta(0, 0, "c")],
            [Loss(LossKind.SHAPE, "choices.0.parts.0")],
        ),
    ],
)
def test_what_a_stream_cannot_say_is_a_declared_loss(events: list[Event], losses: list[Loss]) -> None:
    assert frames(*events, DONE, losses=losses)


@pytest.mark.parametrize(
    "part",
    [Audio(Link("https://e.x/sound")), UnknownPart("openai_chat", "content", raw({})), ToolResult("1", ()),
     ToolCall("1", "f", '{"cut')],
)  # fmt: skip
def test_content_an_answer_cannot_say_is_refused(part: Any) -> None:
    with pytest.raises(Fault):
        written(part)
    with pytest.raises(Fault):
        frames(PartStart(0, 0, part), PartEnd(0, 0), DONE)


@pytest.mark.parametrize("kind", [StreamEncoder, ArrayEncoder])
def test_a_failed_or_unfinished_stream_is_not_ended_but_says_so(kind: type[StreamEncoder]) -> None:
    def last(data: bytes) -> Any:
        return value_of(data)[-1] if kind is ArrayEncoder else value_of(data.split(b"\n\n")[-2][6:])

    writer = kind(answering())
    begun = writer.encode(PartStart(0, 0, Text("a")))
    assert last(begun + writer.end())["error"]["status"] == "UNAVAILABLE"
    assert writer.end() == b""
    writer = kind(answering())
    failed = writer.encode(Failed.of(Fault(Kind.TIMEOUT, "too late", retry=Retry.SAME)))
    assert last(failed)["error"] == {"code": 504, "message": "too late", "status": "DEADLINE_EXCEEDED"}
    assert writer.encode(PartStart(0, 0, Text("a"))) + writer.end() == b""


def test_an_array_is_named_as_the_form_for_clients_that_ask_for_no_events() -> None:
    assert DIALECT.unframed is not None
    writer = DIALECT.unframed.encoder(answering())
    assert DIALECT.unframed.stream_type == b"application/json"
    data = b"\n".join([writer.encode(PartStart(0, 0, Text("a"))), DIALECT.ping, writer.encode(DONE), writer.end()])
    assert [chunk["candidates"][0].get("finishReason") for chunk in value_of(data)] == [None, "STOP"]


# What is none.


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", Kind.BAD_ANSWER),
        (b"[]", Kind.BAD_ANSWER),
        (b"{}", Kind.BAD_ANSWER),
        (b'{"candidates":[],"x":"\xff"}', Kind.BAD_ANSWER),
        (b'{"error":{"code":503}}', Kind.UPSTREAM_ERROR),
        (b'{"error":{"status":"RESOURCE_EXHAUSTED"}}', Kind.UPSTREAM_RATE_LIMIT),
        (b'{"error":{"code":"odd"}}', Kind.UPSTREAM_ERROR),
    ],
)
def test_what_is_no_answer_is_a_fault(body: bytes, kind: Kind) -> None:
    with pytest.raises(Fault) as caught:
        DIALECT.decode_reply(body)
    assert caught.value.kind is kind


def test_an_answer_without_candidates_has_no_choices() -> None:
    assert msgspec.structs.replace(read(answer()), rest=()) == Reply(choices=())
