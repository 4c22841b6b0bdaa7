"""A request keeps its meaning through the pivot, and its every member: unknown is a value."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from codec_kit import CONVERSATIONS, REQUESTS, body_of, outcome, raw
from hypothesis import given
from hypothesis import strategies as st

from ostiary.core.fault import Fault, Kind, Retry
from ostiary.wire.conversation.conversation import (
    Call,
    Conversation,
    Message,
    Role,
    Shape,
    Thinking,
    ToolChoice,
    UnknownMessage,
)
from ostiary.wire.conversation.parts import (
    Audio,
    Document,
    Image,
    Inline,
    Link,
    Part,
    Reasoning,
    Refusal,
    Seal,
    Stored,
    Text,
    ToolCall,
    ToolResult,
    UnknownPart,
)
from ostiary.wire.conversation.unknown import Extra, Loss, LossKind
from ostiary.wire.dialects.openai_chat.request import decode_request, encode_request
from ostiary.wire.profile import ANY


@given(request=REQUESTS)
def test_every_member_of_a_request_comes_back_with_its_value(request: dict[str, Any]) -> None:
    encoded = encode_request(decode_request(body_of(request)), ANY)
    assert json.loads(encoded.body) == request
    assert encoded.losses == ()


def one(**members: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [], **members}


def turn(role: str, **members: Any) -> dict[str, Any]:
    return one(messages=[{"role": role, **members}])


@pytest.mark.parametrize(
    "request_",
    [
        one(stop=["x"]),
        one(stop=[]),
        one(tools=[]),
        one(tools=[{"type": "function", "function": {"name": "f", "parameters": 5}}]),
        one(tools=[{"type": "function", "function": {"description": "nameless"}}]),
        one(tool_choice="any"),
        one(tool_choice=5),
        one(tool_choice={"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "mcp"}]}}),
        one(tool_choice={"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": []}}),
        one(tool_choice={"type": "function", "function": {"name": "f", "x": 1}}),
        one(response_format={"type": "grammar"}),
        one(response_format=5),
        one(stream_options={}),
        one(stream_options={"include_usage": None}),
        turn("user", content=[]),
        turn("user", content=[{"type": "text", "text": "x"}]),
        turn("user", content=5),
        turn("user", content=[{"type": "image_url", "image_url": "https://e.x/i"}]),
        turn("user", content=[{"type": "image_url", "image_url": {"url": "data:,hello"}}]),
        turn("user", content=[{"type": "input_audio", "input_audio": {"data": "A", "format": "ogg"}}]),
        turn("user", content=[{"type": "file", "file": {"file_data": "raw", "file_id": "f"}}]),
        turn("assistant", content=[{"type": "refusal", "refusal": "no"}], refusal="no"),
        turn("assistant", tool_calls=[]),
        turn("assistant", tool_calls=[5, {"id": "1", "type": "function", "function": {"name": "f"}}]),
        turn("assistant", audio={"id": "a"}, function_call={"name": "f", "arguments": ""}),
        turn("tool", content="no call"),
        turn("critic", content="who is this"),
        {"model": None, "messages": []},
    ],
)
def test_odd_requests_come_back_too(request_: dict[str, Any]) -> None:
    assert json.loads(encode_request(decode_request(body_of(request_)), ANY).body) == request_


@given(conversation=CONVERSATIONS)
def test_a_conversation_comes_back_equal(conversation: Conversation) -> None:
    encoded = encode_request(conversation, ANY)
    assert decode_request(encoded.body) == conversation
    assert encoded.losses == ()


@given(body=st.binary(max_size=60) | st.builds(body_of, REQUESTS).map(lambda body: body[:-3] + body[-2:]))
def test_arbitrary_bytes_are_a_conversation_or_a_fault(body: bytes) -> None:
    value, fault = outcome(decode_request, body)
    assert isinstance(value, Conversation) or fault in (Kind.MALFORMED, Kind.INVALID_REQUEST)


@pytest.mark.parametrize(
    ("body", "kind"),
    [(b"", Kind.MALFORMED), (b"[]", Kind.MALFORMED), (b'{"messages":[],"user":"\xff"}', Kind.MALFORMED),
     (b"{}", Kind.INVALID_REQUEST), (b'{"messages":{}}', Kind.INVALID_REQUEST),
     (b'{"messages":[1]}', Kind.INVALID_REQUEST)],
)  # fmt: skip
def test_what_is_no_request_is_refused(body: bytes, kind: Kind) -> None:
    with pytest.raises(Fault) as caught:
        decode_request(body)
    assert caught.value.kind is kind


@pytest.mark.parametrize("depth", [64, 500, 900, 950, 980, 990, 995, 1000, 100_000])
@pytest.mark.parametrize(
    "place",
    [
        "%s",
        '{"messages":%s}',
        '{"messages":[{"role":"user","content":[%s]}]}',
        '{"messages":[],"x":%s}',
        '{"messages":[],"response_format":{"type":%s}}',
    ],
)
@pytest.mark.parametrize("pair", ["[]", "{}"])
def test_dos_01_deep_nesting_is_a_value_or_a_fault(depth: int, place: str, pair: str) -> None:
    nest = "[" * depth + "]" * depth if pair == "[]" else '{"a":' * depth + "1" + "}" * depth
    value, fault = outcome(decode_request, (place % nest).encode())
    assert fault in (None, Kind.MALFORMED, Kind.INVALID_REQUEST)
    assert value is None or encode_request(value, ANY).body


def test_what_a_request_says_is_what_the_pivot_knows() -> None:
    conversation = decode_request(
        body_of(
            {
                "model": "m",
                "messages": [
                    {"role": "developer", "content": "be brief"},
                    {
                        "role": "user",
                        "name": "ann",
                        "content": [
                            {"type": "text", "text": "look"},
                            {"type": "image_url", "image_url": {"url": "https://e.x/i.png", "detail": "low"}},
                            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                            {"type": "input_audio", "input_audio": {"data": "BBBB", "format": "mp3"}},
                            {"type": "file", "file": {"file_id": "file-1", "filename": "a.pdf"}},
                            {"type": "file", "file": {"file_data": "data:application/pdf;base64,CC"}},
                        ],
                    },
                    {
                        "role": "assistant",
                        "content": None,
                        "reasoning_content": "hm",
                        "refusal": "no",
                        "tool_calls": [
                            {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                            {"id": "2", "type": "custom", "custom": {"name": "g", "input": "free"}},
                            {"id": "3", "function": {"name": "h", "arguments": ""}},
                        ],
                    },
                    {"role": "tool", "tool_call_id": "1", "content": "r"},
                ],
                "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
                "tool_choice": {"type": "function", "function": {"name": "f"}},
                "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {}, "strict": True}},
                "max_tokens": 5,
                "stop": "END",
                "stream": True,
                "stream_options": {"include_usage": True},
                "enable_thinking": True,
            }
        )
    )
    first, second, third, fourth = conversation.messages
    assert first == Message(Role.DEVELOPER, (Text("be brief"),))
    assert second == Message(
        Role.USER,
        (
            Text("look"),
            Image(Link("https://e.x/i.png"), "low"),
            Image(Inline("image/png", "AAAA")),
            Audio(Inline("audio/mpeg", "BBBB")),
            Document(Stored("file-1", "openai_chat"), "a.pdf"),
            Document(Inline("application/pdf", "CC")),
        ),
        "ann",
    )
    assert isinstance(third, Message)
    assert third.parts == (
        Reasoning("hm"),
        Refusal("no"),
        ToolCall("1", "f", "{}"),
        ToolCall("2", "g", "free", free=True),
        ToolCall("3", "h", ""),
    )
    assert fourth == Message(Role.TOOL, (ToolResult("1", (Text("r"),)),))
    assert conversation.tool_choice == ToolChoice(Call.REQUIRED, ("f",))
    assert conversation.format is not None
    assert (conversation.format.shape, conversation.format.strict) == (Shape.SCHEMA, True)
    assert (conversation.max_text, conversation.stop, conversation.stream_usage) == (5, ("END",), True)
    assert conversation.rest == (Extra("openai_chat", ("enable_thinking",), raw(True)),)


def said(*parts: Part, role: Role = Role.ASSISTANT, **more: Any) -> Conversation:
    return Conversation(model="m", messages=(Message(role, parts, **more),))


OTHERS = Extra("anthropic_messages", ("cache_control",), raw({"type": "ephemeral"}))


@pytest.mark.parametrize(
    ("conversation", "losses"),
    [
        (Conversation(model="m", messages=(), thinking=Thinking(on=True)), [Loss(LossKind.KNOB, "thinking")]),
        (Conversation(model="m", messages=(), rest=(OTHERS,)), [Loss(LossKind.UNKNOWN, "cache_control")]),
        (said(Text("a", (OTHERS,))), [Loss(LossKind.UNKNOWN, "messages.0.parts.0.cache_control")]),
        (said(Text("a"), rest=(msgspec.structs.replace(OTHERS, value=raw(None), binding=True),)), []),
        (said(Reasoning("a", Seal("anthropic", "sig"))), [Loss(LossKind.SEAL, "messages.0.parts.0")]),
        (said(Reasoning("", Seal("anthropic", "sig")), Text("b")), [Loss(LossKind.SEAL, "messages.0.parts.0")]),
        (said(ToolCall("1", "f", "{}"), Text("a")), [Loss(LossKind.SHAPE, "messages.0")]),
        (said(Refusal("a"), Refusal("b")), [Loss(LossKind.SHAPE, "messages.0")]),
        (
            said(ToolResult("1", (Text("x"),), failed=True), role=Role.TOOL),
            [Loss(LossKind.MARK, "messages.0.parts.0.failed")],
        ),
    ],
)
def test_what_cannot_be_said_and_is_no_content_is_a_declared_loss(
    conversation: Conversation, losses: list[Loss]
) -> None:
    encoded = encode_request(conversation, ANY)
    assert list(encoded.losses) == losses
    assert b"ephemeral" not in encoded.body
    assert b"sig" not in encoded.body


FOREIGN = UnknownPart("gemini_generate", "parts", raw({"executableCode": {}}))


@pytest.mark.parametrize(
    "conversation",
    [
        said(FOREIGN, role=Role.USER),
        said(UnknownPart("cohere_chat", "tool_calls", raw({}))),
        said(Image(Stored("i", "anthropic_messages")), role=Role.USER),
        said(Document(Stored("i", "anthropic_messages")), role=Role.USER),
        said(Document(Link("https://e.x/a.pdf")), role=Role.USER),
        said(Audio(Inline("audio/midi", "AA")), role=Role.USER),
        said(ToolResult("1", ()), role=Role.USER),
        said(ToolResult("1", ())),
        said(ToolCall("1", "f", ""), role=Role.USER),
        Conversation(model="m", messages=(UnknownMessage("gemini_generate", raw({})),)),
        Conversation(model="m", messages=(), rest=(msgspec.structs.replace(OTHERS, binding=True),)),
    ],
)
def test_content_or_a_constraint_that_cannot_be_said_is_refused(conversation: Conversation) -> None:
    with pytest.raises(Fault) as caught:
        encode_request(conversation, ANY)
    assert (caught.value.kind, caught.value.retry) == (Kind.INVALID_REQUEST, Retry.NEXT)


def test_constraints_of_an_unknown_type_are_marked_as_such_and_knobs_are_not() -> None:
    conversation = decode_request(b'{"model":"m","messages":[],"max_tokens":"5","temperature":"hot"}')
    assert [(extra.path, extra.binding) for extra in conversation.rest] == [
        (("max_tokens",), True),
        (("temperature",), False),
    ]


def test_a_value_set_in_the_pivot_wins_over_the_null_the_client_wrote() -> None:
    conversation = decode_request(b'{"model":"m","messages":[],"user":null}')
    named = msgspec.structs.replace(conversation, user="u")
    assert json.loads(encode_request(named, ANY).body)["user"] == "u"


def test_a_large_request_takes_time_in_proportion() -> None:
    turns = [{"role": "user", "content": [{"type": "text", "text": "x" * 50}] * 20}] * 500
    body = body_of({"model": "m", "messages": turns, **{f"x{n}": n for n in range(20_000)}})
    assert json.loads(encode_request(decode_request(body), ANY).body) == json.loads(body)
