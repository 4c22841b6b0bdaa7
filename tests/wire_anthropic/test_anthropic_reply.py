"""A reply comes back equal, carries the proofs of other providers, and is never made of what is no answer."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from anthropic_kit import US, answering, body_of, outcome, raw, replies, value_of
from hypothesis import given
from hypothesis import strategies as st

from ostiary.core.fault import Fault, Kind
from ostiary.core.usage import Usage
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
from ostiary.wire.conversation.reply import Chance, Choice, Finish, Reason, Reply, Score
from ostiary.wire.conversation.seals import carry
from ostiary.wire.conversation.unknown import Extra, Loss, LossKind
from ostiary.wire.dialects.anthropic_messages.reply import decode_reply, encode_reply
from ostiary.wire.dialects.anthropic_messages.usage import read_usage

GEMINI = Seal("gemini_generate", "s")


def written(reply: Reply) -> bytes:
    encoded = encode_reply(reply, answering(model=reply.model))
    assert encoded.losses == ()
    return encoded.body


@given(reply=replies())
def test_a_reply_comes_back_equal(reply: Reply) -> None:
    assert decode_reply(written(reply)) == reply


@given(body=st.binary(max_size=80) | st.builds(written, replies()).map(lambda body: body[: len(body) // 2]))
def test_arbitrary_bytes_are_a_reply_or_a_bad_answer(body: bytes) -> None:
    value, fault = outcome(decode_reply, body)
    assert isinstance(value, Reply) or fault is Kind.BAD_ANSWER


NAMES = st.sampled_from(
    [
        "content",
        "type",
        "text",
        "citations",
        "id",
        "name",
        "input",
        "usage",
        "error",
        "stop_reason",
        "thinking",
        "signature",
        "data",
    ]
)
ANSWER_LIKE = st.recursive(
    st.none() | st.integers() | st.sampled_from(["text", "tool_use", "thinking", "error", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)


@given(body=ANSWER_LIKE)
def test_arbitrary_json_is_a_reply_or_a_fault_of_the_providers(body: object) -> None:
    value, fault = outcome(decode_reply, body_of(body))
    assert isinstance(value, Reply) or fault in (Kind.BAD_ANSWER, Kind.UPSTREAM_ERROR)
    _, fault = outcome(read_usage, body_of(body))
    assert fault in (None, Kind.BAD_ANSWER, Kind.UPSTREAM_ERROR)


@pytest.mark.parametrize("depth", [64, 500, 900, 980, 1000, 100_000])
@pytest.mark.parametrize("place", ["%s", '{"content":%s}', '{"content":[%s],"usage":%s}', '{"error":{"x":%s}}'])
@pytest.mark.parametrize("pair", ["[]", "{}"])
def test_dos_01_a_deep_answer_is_a_value_or_a_fault(depth: int, place: str, pair: str) -> None:
    nest = "[" * depth + "]" * depth if pair == "[]" else '{"a":' * depth + "1" + "}" * depth
    value, fault = outcome(decode_reply, place.replace("%s", nest).encode())
    assert isinstance(value, Reply) or fault in (Kind.BAD_ANSWER, Kind.UPSTREAM_ERROR)


def answer(*blocks: dict[str, Any], **more: Any) -> bytes:
    document = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": list(blocks)}
    return msgspec.json.encode(document | {"stop_reason": "end_turn", "stop_sequence": None, **more})


def of(*parts: Part, finish: Finish | None = None, **more: Any) -> Reply:
    return Reply(choices=(Choice(0, parts, finish or Finish(Reason.STOP)),), **more)


def test_an_answer_is_written_with_every_member_that_clients_require() -> None:
    citation = Citation("https://e.x", "t", "q")
    reply = of(
        Reasoning("hm", GEMINI),
        Text("a", citations=(citation,)),
        ToolCall("1", "f", '{"a":1}', seal=GEMINI),
        finish=Finish(Reason.TOOL_CALLS),
        usage=Usage(10, 7, 4, 1, 2),
    )
    assert json.loads(written(reply)) == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": carry(GEMINI)},
            {
                "type": "text",
                "text": "a",
                "citations": [
                    {
                        "type": "web_search_result_location",
                        "cited_text": "q",
                        "encrypted_index": "",
                        "title": "t",
                        "url": "https://e.x",
                    }
                ],
            },
            {"type": "redacted_thinking", "data": carry(GEMINI, ahead=True)},
            {"type": "tool_use", "id": "1", "name": "f", "input": {"a": 1}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 5,
            "cache_creation_input_tokens": 1,
            "cache_read_input_tokens": 4,
            "output_tokens": 7,
            "output_tokens_details": {"thinking_tokens": 2},
        },
    }


@pytest.mark.parametrize(
    ("word", "sequence", "finish"),
    [
        ("end_turn", None, Finish(Reason.STOP)),
        ("max_tokens", None, Finish(Reason.LENGTH)),
        ("tool_use", None, Finish(Reason.TOOL_CALLS)),
        ("refusal", None, Finish(Reason.CONTENT_FILTER)),
        ("stop_sequence", "END", Finish(Reason.STOP, stop="END")),
        ("stop_sequence", None, Finish(Reason.STOP, "stop_sequence", US)),
        ("pause_turn", None, Finish(Reason.OTHER, "pause_turn", US)),
        ("model_context_window_exceeded", None, Finish(Reason.LENGTH, "model_context_window_exceeded", US)),
        ("compaction", None, Finish(Reason.OTHER, "compaction", US)),
    ],
)
def test_why_a_model_stopped_is_told_both_ways(word: str, sequence: str | None, finish: Finish) -> None:
    reply = decode_reply(answer(stop_reason=word, stop_sequence=sequence))
    assert reply.choices[0].finish == finish
    document = json.loads(encode_reply(reply, answering()).body)
    assert (document["stop_reason"], document["stop_sequence"]) == (word, sequence)


def test_an_unknown_end_is_the_end_of_a_turn_and_a_foreign_word_is_translated() -> None:
    for finish, word in [
        (Finish(Reason.OTHER), "end_turn"),
        (Finish(Reason.OTHER, "eos", "openai_chat"), "end_turn"),
        (Finish(Reason.CONTENT_FILTER, "SAFETY", "gemini_generate"), "refusal"),
    ]:
        assert json.loads(encode_reply(of(finish=finish), answering()).body)["stop_reason"] == word
    assert decode_reply(answer(stop_reason=None)).choices[0].finish == Finish(Reason.OTHER)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"input_tokens": 3, "output_tokens": 2}, Usage(3, 2)),
        ({"input_tokens": 3, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 7, "output_tokens": 2},
         Usage(15, 2, 5, 7)),
        ({"input_tokens": 3, "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 2}},
         Usage(6, 0, 0, 3)),
        ({"output_tokens": 9, "output_tokens_details": {"thinking_tokens": 4}}, Usage(0, 9, reasoning=4)),
        ({"input_tokens": None, "output_tokens": "many"}, None),
        ({"input_tokens": -3}, None),
        ({"input_tokens": 10**30}, None),
        (None, None),
    ],
)  # fmt: skip
def test_usage_is_counted_as_the_house_counts(usage: object, expected: Usage | None) -> None:
    body = answer(usage=usage)
    assert decode_reply(body).usage == expected
    assert read_usage(body) == expected


def test_what_surrounds_an_answer_is_kept_and_what_says_nothing_is_not() -> None:
    usage = {"input_tokens": 1, "output_tokens": 1, "service_tier": "standard", "server_tool_use": None,
             "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0}}  # fmt: skip
    details = {"type": "refusal", "category": "cyber"}
    block = {"type": "text", "text": "a", "citations": None}
    reply = decode_reply(answer(block, usage=usage, stop_details=details, container=None))
    assert reply.choices[0].parts == (Text("a"),)
    assert reply.tier == "default"
    assert {extra.path: value_of(extra.value) for extra in reply.rest} == {
        ("stop_details",): details,
        ("usage", "cache_creation"): usage["cache_creation"],
    }
    document = json.loads(written(reply))
    assert document["stop_details"] == details
    assert document["usage"]["service_tier"] == "standard"


def test_tools_that_the_provider_ran_are_kept_whole() -> None:
    blocks: list[dict[str, Any]] = [
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}},
        {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"type": "web_search_result"}]},
    ]
    reply = decode_reply(answer(*blocks))
    assert [value_of(part.value) for part in reply.choices[0].parts if isinstance(part, UnknownPart)] == blocks
    assert json.loads(encode_reply(reply, answering()).body)["content"] == blocks


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", Kind.BAD_ANSWER),
        (b"{}", Kind.BAD_ANSWER),
        (b'{"content":"a"}', Kind.BAD_ANSWER),
        (b'{"content":[],"id":"\xff"}', Kind.BAD_ANSWER),
        (b'{"type":"error","error":{"type":"overloaded_error","message":"busy"}}', Kind.UPSTREAM_ERROR),
        (b'{"type":"error","error":{"type":"rate_limit_error","message":"slow"}}', Kind.UPSTREAM_RATE_LIMIT),
        (b'{"error":"boom"}', Kind.UPSTREAM_ERROR),
    ],
)
def test_what_is_no_answer_is_a_fault(body: bytes, kind: Kind) -> None:
    assert outcome(decode_reply, body) == (None, kind)


SCORES = (Score(Chance("a", -0.1)),)


@pytest.mark.parametrize(
    ("reply", "kinds"),
    [
        (of(Refusal("no")), [LossKind.MARK]),
        (of(Text("a", citations=(Citation(title="t"),))), [LossKind.MARK]),
        (of(Text("a", citations=(Citation("https://e.x", start=0, end=1),))), [LossKind.MARK]),
        (of(Text("a", (Extra("gemini_generate", ("x",), raw(1)),))), [LossKind.UNKNOWN]),
        (of(tier="flex"), [LossKind.MARK]),
        (Reply(choices=(Choice(0, (), scores=SCORES),)), [LossKind.UNKNOWN]),
    ],
)
def test_what_a_reply_cannot_say_is_a_declared_loss(reply: Reply, kinds: list[LossKind]) -> None:
    losses: tuple[Loss, ...] = encode_reply(reply, answering()).losses
    assert [loss.kind for loss in losses] == kinds


@pytest.mark.parametrize(
    "reply",
    [
        of(Image(Link("https://e.x/i"))),
        of(UnknownPart("gemini_generate", "parts", raw({}))),
        of(ToolCall("1", "f", "free", free=True)),
        of(ToolCall("1", "f", '{"a":')),
        Reply(choices=(Choice(0, ()), Choice(1, ()))),
    ],
)
def test_content_that_a_reply_cannot_say_is_refused(reply: Reply) -> None:
    with pytest.raises(Fault):
        encode_reply(reply, answering())


def test_words_refused_are_told_as_words() -> None:
    document = json.loads(encode_reply(of(Refusal("no")), answering()).body)
    assert document["content"] == [{"type": "text", "text": "no"}]


def test_names_of_an_answer_are_the_gateways() -> None:
    reply = msgspec.structs.replace(of(Text("a")), id="upstream", model="upstream")
    document = json.loads(encode_reply(reply, answering(id="ours", model="alias")).body)
    assert (document["id"], document["model"]) == ("msg_ours", "alias")
