"""A reply comes back equal, is what the official SDK expects, and is never made of what is no answer."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pydantic
import pytest
from codec_kit import FUNCTIONS, answering, body_of, outcome, raw, replies, value_of
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion

from ostiary.core.fault import Fault, Kind
from ostiary.core.usage import Usage
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
    UnknownPart,
)
from ostiary.wire.conversation.reply import Choice, Finish, Reason, Reply
from ostiary.wire.conversation.unknown import Extra, Loss, LossKind
from ostiary.wire.dialects.openai_chat.reply import decode_reply, encode_reply

# What compatible servers and clients write beside the official members.
CONVENTIONS = {"reasoning_content", "thinking_blocks", "extra_content", "images", "content"}


def written(reply: Reply) -> bytes:
    encoded = encode_reply(reply, answering(model=reply.model))
    assert encoded.losses == ()
    return encoded.body


def strangers(value: object) -> set[str]:
    """Names of members the SDK has no type for."""
    if isinstance(value, pydantic.BaseModel):
        inner = (strangers(getattr(value, name)) for name in type(value).model_fields)
        return set(value.model_extra or ()).union(*inner)
    return set().union(*map(strangers, value)) if isinstance(value, list) else set()


@given(reply=replies())
def test_a_reply_comes_back_equal(reply: Reply) -> None:
    assert decode_reply(written(reply)) == reply


@given(reply=replies(plain=True))
def test_the_official_sdk_knows_every_member_of_a_reply(reply: Reply) -> None:
    answer = ChatCompletion.model_validate_json(written(reply), strict=True)
    assert strangers(answer) <= {*CONVENTIONS, "x_a", "x_b"}
    if reply.usage is not None:
        assert answer.usage is not None
        assert answer.usage.total_tokens == reply.usage.total


@given(body=st.binary(max_size=80) | st.builds(written, replies(FUNCTIONS)).map(lambda body: body[: len(body) // 2]))
def test_arbitrary_bytes_are_a_reply_or_a_bad_answer(body: bytes) -> None:
    value, fault = outcome(decode_reply, body)
    assert isinstance(value, Reply) or fault is Kind.BAD_ANSWER


NAMES = st.sampled_from(
    [
        "choices",
        "message",
        "content",
        "tool_calls",
        "usage",
        "error",
        "index",
        "finish_reason",
        "type",
        "prompt_tokens",
        "function",
        "name",
        "arguments",
        "id",
        "text",
        "code",
        "reasoning",
        "refusal",
    ]
)
ANSWER_LIKE = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)


@given(body=ANSWER_LIKE)
def test_arbitrary_json_is_a_reply_or_a_fault_of_the_providers(body: object) -> None:
    value, fault = outcome(decode_reply, body_of(body))
    assert isinstance(value, Reply) or fault in (Kind.BAD_ANSWER, Kind.UPSTREAM_ERROR)


@pytest.mark.parametrize("depth", [64, 500, 900, 950, 970, 980, 990, 1000, 100_000])
@pytest.mark.parametrize("place", ["%s", '{"choices":%s}', '{"choices":[{"message":{"content":[%s]}}]}',
                                   '{"choices":[],"usage":%s}', '{"error":{"x":%s}}'])  # fmt: skip
@pytest.mark.parametrize("pair", ["[]", "{}"])
def test_dos_01_a_deep_answer_is_a_value_or_a_fault(depth: int, place: str, pair: str) -> None:
    nest = "[" * depth + "]" * depth if pair == "[]" else '{"a":' * depth + "1" + "}" * depth
    value, fault = outcome(decode_reply, (place % nest).encode())
    assert isinstance(value, Reply) or fault in (Kind.BAD_ANSWER, Kind.UPSTREAM_ERROR)


def answer(message: dict[str, Any] | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **(message or {})}, "finish_reason": "stop"}
    return msgspec.json.encode(
        {"id": "i", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], **more}
    )


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        ({"content": ""}, ()),
        ({"content": None, "tool_calls": []}, ()),
        ({"content": "a", "reasoning": "b"}, (Reasoning("b"), Text("a"))),
        ({"reasoning_content": "a", "reasoning": "a"}, (Reasoning("a"),)),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, (Text("ab"),)),
        ({"tool_calls": [{"index": 0, "id": "1", "function": {"name": "f", "arguments": "{}"}}]},
         (ToolCall("1", "f", "{}"),)),
        ({"tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {}}}]},
         (UnknownPart("openai_chat", "tool_calls", raw({"id": "1", "function": {"name": "f", "arguments": {}}})),)),
    ],
)  # fmt: skip
def test_what_compatible_servers_write_is_understood(message: dict[str, Any], parts: tuple[Part, ...]) -> None:
    assert [part_text(part) for part in decode_reply(answer(message)).choices[0].parts] == [*map(part_text, parts)]


def part_text(part: Part) -> object:
    return value_of(part.value) if isinstance(part, UnknownPart) else part


def test_what_surrounds_an_answer_is_kept_and_its_content_marked_as_binding() -> None:
    body = answer(
        {"content": "a", "audio": {"id": "x"}, "annotations": []},
        system_fingerprint="fp",
        service_tier=None,
        id="chatcmpl-1",
    )
    reply = decode_reply(body)
    assert reply.rest == (Extra("openai_chat", ("system_fingerprint",), raw("fp")),)
    assert reply.choices[0].rest == (Extra("openai_chat", ("message", "audio"), raw({"id": "x"}), binding=True),)
    assert decode_reply(encode_reply(reply, answering()).body) == reply


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 2}, Usage(3, 2)),
        ({"prompt_tokens": -3}, None),
        ({"prompt_tokens": 10**30}, None),
        ({"prompt_tokens": "many"}, None),
        ({"seconds": 1e306}, None),
        (None, None),
    ],
)
def test_usage_that_makes_no_sense_is_none(usage: object, expected: Usage | None) -> None:
    assert decode_reply(answer(usage=usage)).usage == expected


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", Kind.BAD_ANSWER),
        (b"{}", Kind.BAD_ANSWER),
        (b'{"choices":[1]}', Kind.BAD_ANSWER),
        (b'{"choices":[{}]}', Kind.BAD_ANSWER),
        (b'{"choices":[],"id":"\xff"}', Kind.BAD_ANSWER),
        (b'{"error":{"message":"slow down","code":429}}', Kind.UPSTREAM_RATE_LIMIT),
        (b'{"error":{"code":"' + b"9" * 5000 + b'"}}', Kind.UPSTREAM_ERROR),
        (b'{"error":"boom","choices":null}', Kind.UPSTREAM_ERROR),
    ],
)
def test_what_is_no_answer_is_a_fault(body: bytes, kind: Kind) -> None:
    assert outcome(decode_reply, body) == (None, kind)


def choice(*parts: Part, finish: Finish | None = None) -> Reply:
    return Reply(choices=(Choice(0, parts, finish or Finish(Reason.STOP)),))


@pytest.mark.parametrize(
    ("reply", "kinds"),
    [
        (choice(Text("a"), Text("b")), [LossKind.SHAPE]),
        (choice(ToolCall("1", "f", ""), Refusal("b")), [LossKind.SHAPE]),
        (choice(Text("a", seal=Seal("x", "s")), Text("b", seal=Seal("x", "t"))), [LossKind.SHAPE, LossKind.SEAL]),
        (choice(Text("a", citations=(Citation(title="no address"),))), [LossKind.MARK]),
        (choice(finish=Finish(Reason.STOP, stop="END")), [LossKind.MARK]),
        (choice(Text("a", (Extra("gemini_generate", ("x",), raw(1)),))), [LossKind.UNKNOWN]),
    ],
)
def test_what_a_reply_cannot_say_is_a_declared_loss(reply: Reply, kinds: list[LossKind]) -> None:
    losses: tuple[Loss, ...] = encode_reply(reply, answering()).losses
    assert [loss.kind for loss in losses] == kinds


@pytest.mark.parametrize("part", [Audio(Link("https://e.x/i")), UnknownPart("gemini_generate", "parts", raw({}))])
def test_content_that_a_reply_cannot_say_is_refused(part: Part) -> None:
    with pytest.raises(Fault):
        encode_reply(choice(part), answering())


def test_an_unknown_end_is_a_stop_and_a_foreign_word_is_translated() -> None:
    for finish, word in [
        (Finish(Reason.OTHER), "stop"),
        (Finish(Reason.OTHER, "pause_turn", "anthropic_messages"), "stop"),
        (Finish(Reason.LENGTH, "max_tokens", "anthropic_messages"), "length"),
    ]:
        body = encode_reply(choice(finish=finish), answering()).body
        assert json.loads(body)["choices"][0]["finish_reason"] == word
    assert decode_reply(answer()).choices[0].finish == Finish(Reason.STOP)
    assert decode_reply(answer().replace(b'"stop"', b"null")).choices[0].finish == Finish(Reason.OTHER)


def test_names_and_time_of_an_answer_are_the_gateways() -> None:
    reply = msgspec.structs.replace(choice(Text("a")), id="upstream", model="upstream")
    document = json.loads(encode_reply(reply, answering(id="ours", created=7, model="alias")).body)
    assert (document["id"], document["created"], document["model"]) == ("chatcmpl-ours", 7, "alias")
