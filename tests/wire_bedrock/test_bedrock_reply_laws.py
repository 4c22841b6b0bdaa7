"""A Converse answer comes back equal, is what botocore expects, and is never made of what is no answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from bedrock_kit import ANSWERING, REPLIES, US, bare, botocore_reads, broken, of, outcome, plain, raw
from hypothesis import given
from hypothesis import strategies as st

from ostiary.core.fault import Fault, Kind
from ostiary.core.usage import Usage
from ostiary.wire.conversation.parts import (
    Audio,
    Image,
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
from ostiary.wire.conversation.reply import Chance, Choice, Finish, Reason, Reply, Score
from ostiary.wire.conversation.unknown import Extra, LossKind
from ostiary.wire.dialects.bedrock_converse.reply import decode_reply, encode_reply, usage_of

ANSWERS = of("ConverseResponse")


def written(reply: Reply) -> bytes:
    encoded = encode_reply(reply, ANSWERING)
    assert encoded.losses == ()
    return encoded.body


@given(reply=REPLIES)
def test_a_reply_comes_back_equal_with_the_proofs_of_others(reply: Reply) -> None:
    assert decode_reply(written(reply)) == reply


@given(answer=ANSWERS)
def test_every_member_of_an_answer_of_the_service_model_comes_back(answer: dict[str, Any]) -> None:
    telling = {name: value for name, value in answer.items() if value != {}}
    assert json.loads(written(decode_reply(json.dumps(answer).encode()))) == telling


@given(reply=REPLIES)
def test_botocore_reads_every_member_of_an_answer(reply: Reply) -> None:
    body = written(bare(reply))
    expected = json.loads(body)
    found = plain(botocore_reads(body))
    assert found == expected


@given(body=st.binary(max_size=80) | st.builds(written, REPLIES).map(lambda body: body[: len(body) // 2]))
def test_arbitrary_bytes_are_a_reply_or_a_bad_answer(body: bytes) -> None:
    value, fault = outcome(lambda: decode_reply(body))
    assert isinstance(value, Reply) or fault is Kind.BAD_ANSWER


@given(answer=broken(ANSWERS))
def test_what_is_not_of_the_documented_shape_is_a_reply_or_a_fault_of_the_providers(answer: Any) -> None:
    value, fault = outcome(lambda: decode_reply(json.dumps(answer).encode()))
    assert isinstance(value, Reply) or fault in (Kind.BAD_ANSWER, Kind.UPSTREAM_ERROR)


@pytest.mark.parametrize("depth", [64, 500, 950, 990, 1000, 100_000])
@pytest.mark.parametrize("place", ["%s", '{"output":{"message":{"content":[%s]}}}', '{"output":%s}', '{"usage":%s}',
                                   '{"output":{"message":{"content":[]}},"trace":%s}'])  # fmt: skip
@pytest.mark.parametrize("pair", ["[]", "{}"])
def test_dos_01_a_deep_answer_is_a_value_or_a_fault(depth: int, place: str, pair: str) -> None:
    nest = "[" * depth + "]" * depth if pair == "[]" else '{"a":' * depth + "1" + "}" * depth
    value, fault = outcome(lambda: decode_reply((place % nest).encode()))
    assert isinstance(value, Reply) or fault is Kind.BAD_ANSWER


def answer(*blocks: Any, **more: Any) -> bytes:
    document = {"output": {"message": {"role": "assistant", "content": blocks}}, "stopReason": "end_turn", **more}
    return bytes(raw(document))


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"inputTokens": 3, "outputTokens": 2, "totalTokens": 5}, Usage(3, 2)),
        (
            {"inputTokens": 3, "outputTokens": 2, "cacheReadInputTokens": 10, "cacheWriteInputTokens": 20},
            Usage(33, 2, 10, 20),
        ),
        ({"inputTokens": -3, "outputTokens": 2}, None),
        ({"inputTokens": 10**30}, None),
        ({"inputTokens": "many"}, None),
        ({}, None),
        (None, None),
        (5, None),
    ],
)
def test_input_includes_what_the_cache_gave_and_usage_that_makes_no_sense_is_none(
    usage: object, expected: Usage | None
) -> None:
    assert decode_reply(answer(usage=usage)).usage == expected
    assert usage_of(answer(usage=usage)) == expected


def test_the_total_counts_all_tokens_and_the_input_only_what_was_not_cached() -> None:
    usage = json.loads(encode_reply(Reply(choices=(), usage=Usage(33, 2, 10, 20)), ANSWERING).body)["usage"]
    assert usage == {
        "inputTokens": 3,
        "outputTokens": 2,
        "totalTokens": 35,
        "cacheReadInputTokens": 10,
        "cacheWriteInputTokens": 20,
    }


WORDS = [
    ("end_turn", Reason.STOP),
    ("tool_use", Reason.TOOL_CALLS),
    ("max_tokens", Reason.LENGTH),
    ("stop_sequence", Reason.STOP),
    ("guardrail_intervened", Reason.CONTENT_FILTER),
    ("content_filtered", Reason.CONTENT_FILTER),
    ("malformed_model_output", Reason.OTHER),
    ("malformed_tool_use", Reason.OTHER),
    ("model_context_window_exceeded", Reason.LENGTH),
    ("a_new_word", Reason.OTHER),
]


@pytest.mark.parametrize(("word", "reason"), WORDS)
def test_every_stop_reason_has_a_reason_and_comes_back(word: str, reason: Reason) -> None:
    reply = decode_reply(answer(stopReason=word))
    assert reply.choices[0].finish.reason is reason
    assert json.loads(encode_reply(reply, ANSWERING).body)["stopReason"] == word


@pytest.mark.parametrize(
    ("finish", "word"),
    [
        (Finish(Reason.OTHER), "end_turn"),
        (Finish(Reason.STOP, stop="END"), "stop_sequence"),
        (Finish(Reason.OTHER, "pause_turn", "anthropic_messages"), "end_turn"),
        (Finish(Reason.CONTENT_FILTER, "SAFETY", "gemini_generate"), "content_filtered"),
    ],
)
def test_the_end_of_another_dialects_answer_is_translated(finish: Finish, word: str) -> None:
    body = encode_reply(Reply(choices=(Choice(0, (), finish),)), ANSWERING).body
    assert json.loads(body)["stopReason"] == word


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", Kind.BAD_ANSWER),
        (b"{}", Kind.BAD_ANSWER),
        (b'{"output":{"message":{"content":[],"x":"\xff"}}}', Kind.BAD_ANSWER),
        (b'{"output":{"text":"a"}}', Kind.BAD_ANSWER),
        (b'{"message":"boom"}', Kind.UPSTREAM_ERROR),
        (b'{"__type":"com.amazon.x#ThrottlingException","message":"slow down"}', Kind.UPSTREAM_RATE_LIMIT),
    ],
)
def test_what_is_no_answer_is_a_fault(body: bytes, kind: Kind) -> None:
    assert outcome(lambda: decode_reply(body)) == (None, kind)
    assert outcome(lambda: usage_of(body))[1] in (None, kind)


def test_what_surrounds_an_answer_is_kept() -> None:
    more = {
        "metrics": {"latencyMs": 7},
        "trace": {"guardrail": {}},
        "additionalModelResponseFields": {"stop_sequence": "END"},
        "serviceTier": {"type": "flex"},
        "usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3, "cacheDetails": [{"ttl": "1h"}]},
    }
    reply = decode_reply(answer({"text": "a"}, **more))
    assert reply.tier == "flex"
    assert [extra.path for extra in reply.rest] == [
        ("additionalModelResponseFields",),
        ("metrics", "latencyMs"),
        ("trace",),
        ("usage", "cacheDetails"),
    ]
    assert json.loads(written(reply)) == json.loads(answer({"text": "a"}, **more))


def test_a_tool_of_the_providers_own_is_carried_whole() -> None:
    blocks = [
        {"toolUse": {"toolUseId": "1", "name": "search", "input": {}, "type": "server_tool_use"}},
        {"toolResult": {"toolUseId": "1", "content": [{"text": "found"}], "type": "search_result"}},
    ]
    parts = decode_reply(answer(*blocks)).choices[0].parts
    assert all(isinstance(part, UnknownPart) for part in parts)
    assert json.loads(written(decode_reply(answer(*blocks))))["output"]["message"]["content"] == blocks


def choice(*parts: Part, **more: Any) -> Reply:
    return Reply(choices=(Choice(0, parts, Finish(Reason.STOP), **more),))


@pytest.mark.parametrize(
    ("reply", "kinds", "content"),
    [
        (choice(Refusal("no")), [LossKind.MARK], [{"text": "no"}]),
        (
            choice(ToolCall("1", "f", '{"cut off')),
            [LossKind.SHAPE],
            [{"toolUse": {"toolUseId": "1", "name": "f", "input": '{"cut off'}}],
        ),
        (
            choice(ToolCall("1", "f", "")),
            [],
            [{"toolUse": {"toolUseId": "1", "name": "f", "input": {}}}],
        ),
        (choice(Text("a", (Extra("gemini_generate", ("x",), raw(1)),))), [LossKind.UNKNOWN], [{"text": "a"}]),
        (choice(Text(""), Text("a")), [], [{"text": "a"}]),
        (choice(Text("a"), scores=(Score(Chance("a", -1.0)),)), [LossKind.KNOB], [{"text": "a"}]),
        (choice(Reasoning("a")), [], [{"reasoningContent": {"reasoningText": {"text": "a"}}}]),
    ],
)  # fmt: skip
def test_what_a_reply_cannot_say_is_a_declared_loss(reply: Reply, kinds: list[LossKind], content: list[Any]) -> None:
    encoded = encode_reply(reply, ANSWERING)
    assert [loss.kind for loss in encoded.losses] == kinds
    assert json.loads(encoded.body)["output"]["message"]["content"] == content


@pytest.mark.parametrize(
    "reply",
    [
        choice(Image(Link("https://e.x/i"))),
        choice(UnknownPart("gemini_generate", "parts", raw({}))),
        choice(ToolCall("1", "f", "free words", free=True)),
        choice(ToolResult("1", ())),
        choice(Audio(Link("https://e.x/a"))),
        Reply(choices=(Choice(0, ()), Choice(1, ()))),
        Reply(choices=(), rest=(Extra("gemini_generate", ("x",), raw(1), binding=True),)),
    ],
)
def test_content_that_a_reply_cannot_say_is_refused(reply: Reply) -> None:
    with pytest.raises(Fault):
        encode_reply(reply, ANSWERING)


def test_an_answer_has_the_members_botocores_users_rely_on() -> None:
    body = encode_reply(Reply(choices=(), id="x", model="y", usage=Usage(1, 2)), ANSWERING).body
    assert json.loads(body) == {
        "output": {"message": {"role": "assistant", "content": []}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3},
        "metrics": {"latencyMs": 0},
    }


def test_a_foreign_proof_travels_as_ascii_and_an_own_one_as_it_is() -> None:
    own, other = Seal(US, "c2ln"), Seal("gemini_generate", "größe")
    reply = choice(Reasoning("", own, hidden=True), Reasoning("hm", other), ToolCall("1", "f", "{}", seal=other))
    body = written(reply)
    assert body.isascii()
    first, second, third, fourth = json.loads(body)["output"]["message"]["content"]
    assert first == {"reasoningContent": {"redactedContent": "c2ln"}}
    assert second["reasoningContent"]["reasoningText"]["signature"] != other.value
    assert list(third["reasoningContent"]) == ["redactedContent"]
    assert list(fourth) == ["toolUse"]
    assert decode_reply(body) == reply


def test_a_carried_proof_without_a_part_to_belong_to_is_kept() -> None:
    call = ToolCall("1", "f", "{}", seal=Seal("gemini_generate", "s"))
    content = json.loads(written(choice(call)))["output"]["message"]["content"]
    lone = decode_reply(answer(content[0])).choices[0].parts
    assert lone == (Reasoning("", call.seal, hidden=True),)
    twice = decode_reply(answer(content[0], *content)).choices[0].parts
    assert twice == (*lone, Reasoning("", call.seal, hidden=True), ToolCall("1", "f", "{}"))
