"""An Ollama request keeps its meaning through the pivot, and its every member: unknown is a value."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ollama_kit import CONVERSATIONS, PNG, REQUESTS, body_of, normal, outcome, raw

from ostiary.core.fault import Fault, Kind, Retry
from ostiary.wire.conversation.conversation import (
    Call,
    Conversation,
    Format,
    Message,
    Role,
    Sampling,
    Shape,
    Thinking,
    Tool,
    ToolChoice,
    UnknownMessage,
)
from ostiary.wire.conversation.parts import (
    Audio,
    Cache,
    Citation,
    Image,
    Inline,
    Link,
    Part,
    Reasoning,
    Refusal,
    Seal,
    Text,
    ToolCall,
    ToolResult,
)
from ostiary.wire.conversation.unknown import Encoded, Extra, Loss, LossKind
from ostiary.wire.dialects.ollama_chat.wire import DIALECT, ENDPOINTS
from ostiary.wire.profile import ANY, Profile, Thinks

decode = DIALECT.decode_request


def encode(conversation: Conversation, profile: Profile = ANY) -> Encoded:
    return DIALECT.encode_request(conversation, profile)


def written(conversation: Conversation, profile: Profile = ANY) -> dict[str, Any]:
    document = json.loads(encode(conversation, profile).body)
    assert isinstance(document, dict)
    return document


def losses(conversation: Conversation, profile: Profile = ANY) -> set[tuple[LossKind, str]]:
    return {(loss.kind, loss.where) for loss in encode(conversation, profile).losses}


def one(**members: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [], "stream": False, **members}


def asking(*parts: Part, role: Role = Role.USER, **more: Any) -> Conversation:
    return Conversation(model="m", messages=(Message(role, parts),), **more)


@given(request=REQUESTS)
def test_every_member_of_a_request_comes_back_with_its_value(request: dict[str, Any]) -> None:
    encoded = encode(decode(body_of(request)))
    assert json.loads(encoded.body) == normal(request)
    assert encoded.losses == ()


def call(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": {}}, **more}


@pytest.mark.parametrize(
    "request_",
    [
        one(tools=[], format="", options={}),
        one(options={"stop": "x", "num_predict": -1, "num_ctx": 9}),
        one(options=5),
        one(think="high", keep_alive="5m", logprobs=True, top_logprobs=2),
        one(messages=[{"role": "user", "content": "x", "images": []}]),
        one(messages=[{"role": "tool", "content": "to nobody"}]),
        one(
            messages=[
                {"role": "assistant", "content": "", "tool_calls": [call("f"), call("g"), call("f")]},
                {"role": "tool", "content": "1", "tool_name": "g"},
                {"role": "tool", "content": "2", "tool_name": "f"},
                {"role": "tool", "content": "3", "tool_name": "f"},
                {"role": "tool", "content": "one too many", "tool_name": "f"},
            ]
        ),
        one(
            messages=[
                {"role": "assistant", "content": "", "tool_calls": [call("f", id="a"), call("f", id="b")]},
                {"role": "tool", "content": "1", "tool_name": "f", "tool_call_id": "b"},
                {"role": "tool", "content": "2", "tool_name": "other", "tool_call_id": "a"},
            ]
        ),
        {"model": None, "messages": [], "stream": True},
    ],
)
def test_odd_requests_come_back_too(request_: dict[str, Any]) -> None:
    assert json.loads(encode(decode(body_of(request_))).body) == request_


@given(conversation=CONVERSATIONS)
def test_a_conversation_comes_back_equal(conversation: Conversation) -> None:
    encoded = encode(conversation)
    assert encoded.losses == ()
    assert decode(encoded.body) == conversation


@given(body=st.binary(max_size=60) | st.builds(body_of, REQUESTS).map(lambda body: body[:-3] + body[-2:]))
def test_arbitrary_bytes_are_a_conversation_or_a_fault(body: bytes) -> None:
    value, fault = outcome(decode, body)
    assert isinstance(value, Conversation) or fault in (Kind.MALFORMED, Kind.INVALID_REQUEST)


@pytest.mark.parametrize(
    ("members", "stream"), [({}, True), ({"stream": None}, True), ({"stream": True}, True), ({"stream": False}, False)]
)
def test_a_stream_is_what_comes_where_nothing_is_said(members: dict[str, Any], stream: bool) -> None:
    asked = decode(body_of({"model": "m", "messages": [], **members}))
    assert asked.stream is stream
    assert written(asked)["stream"] is stream


def test_no_stream_is_what_a_conversation_wants_that_does_not_say() -> None:
    assert written(asking(Text("a")))["stream"] is False


def test_the_words_of_ollama_are_read_as_the_pivots() -> None:
    asked = decode(
        body_of(
            {
                "model": "qwen3",
                "messages": [{"role": "user", "content": "hi", "images": [PNG]}],
                "format": {"type": "object"},
                "think": True,
                "options": {"temperature": 0.5, "top_k": 3, "num_predict": 9, "stop": ["x"], "num_ctx": 4096},
            }
        )
    )
    assert asked.messages == (Message(Role.USER, (Text("hi"), Image(Inline("image/png", PNG)))),)
    assert asked.format == Format(Shape.SCHEMA, schema=asked.format.schema if asked.format else None)
    assert (asked.thinking, asked.max_output, asked.stop) == (Thinking(on=True), 9, ("x",))
    assert asked.sampling == Sampling(temperature=0.5, top_k=3)
    assert [(extra.path, extra.binding) for extra in asked.rest] == [(("options", "num_ctx"), False)]


def test_calls_without_ids_get_them_from_their_place_and_results_find_them() -> None:
    messages = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "tool_calls": [call("f"), call("g")]},
        {"role": "tool", "content": "of g", "tool_name": "g"},
        {"role": "tool", "content": "of f"},
    ]
    asked = decode(body_of(one(messages=messages)))
    turns = [turn for turn in asked.messages if isinstance(turn, Message)]
    assert turns[1].parts == (ToolCall("call_1_0", "f", "{}"), ToolCall("call_1_1", "g", "{}"))
    assert turns[2].parts == (ToolResult("call_1_1", (Text("of g"),)),)
    assert turns[3].parts == (ToolResult("call_1_0", (Text("of f"),)),)


def test_a_result_names_its_tool_and_a_result_of_nothing_is_kept_whole() -> None:
    turns = (
        Message(Role.ASSISTANT, (ToolCall("a", "f", '{"x": 1}'),)),
        Message(Role.TOOL, (ToolResult("a", (Text("1"),)),)),
    )
    said, answered = written(Conversation(model="m", messages=turns))["messages"]
    assert said["tool_calls"] == [{"id": "a", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]
    assert answered == {"role": "tool", "tool_name": "f", "tool_call_id": "a", "content": "1"}
    (lost,) = decode(body_of(one(messages=[{"role": "tool", "content": "x"}]))).messages
    assert isinstance(lost, UnknownMessage)


def test_arguments_are_an_object_and_none_are_an_empty_one() -> None:
    (turn,) = written(asking(ToolCall("a", "f", ""), role=Role.ASSISTANT))["messages"]
    assert turn["tool_calls"][0]["function"]["arguments"] == {}


@pytest.mark.parametrize(
    ("conversation", "where"),
    [
        (asking(Audio(Inline("audio/wav", "AA"))), "messages.0.parts.0"),
        (asking(Image(Link("https://e.x"))), "messages.0.parts.0"),
        (asking(ToolCall("1", "f", "[]"), role=Role.ASSISTANT), "messages.0.parts.0"),
        (asking(ToolCall("1", "f", "{oh"), role=Role.ASSISTANT), "messages.0.parts.0"),
        (asking(ToolCall("1", "f", "{}", free=True), role=Role.ASSISTANT), "messages.0.parts.0"),
        (Conversation(model="m", messages=(), choices=2), "choices"),
        (Conversation(model="m", messages=(), previous="r"), "previous"),
        (Conversation(model="m", messages=(), tool_choice=ToolChoice(Call.REQUIRED)), "tool_choice"),
        (Conversation(model="m", messages=(), rest=(Extra("other", ("x",), raw(1), True),)), "x"),
    ],
)
def test_content_and_constraints_without_a_word_here_are_refused(conversation: Conversation, where: str) -> None:
    with pytest.raises(Fault) as caught:
        encode(conversation)
    assert (caught.value.kind, caught.value.retry, caught.value.param) == (Kind.INVALID_REQUEST, Retry.NEXT, where)


def test_a_model_without_schemas_is_not_asked_for_one() -> None:
    asked = Conversation(model="m", messages=(), format=Format(Shape.SCHEMA, schema=raw({})))
    with pytest.raises(Fault) as caught:
        encode(asked, Profile(schema=False))
    assert caught.value.param == "format"


@pytest.mark.parametrize(
    ("conversation", "expected"),
    [
        (asking(Text("a"), user="u", metadata={"a": "b"}, tier="flex", store=True), {
            (LossKind.KNOB, name) for name in ("user", "metadata", "tier", "store")
        }),
        (asking(Text("a"), store=False, parallel_calls=True, choices=1, format=Format(Shape.TEXT)), set()),
        (asking(Text("a"), Text("b")), {(LossKind.SHAPE, "messages.0")}),
        (asking(Image(Inline("image/png", PNG), "low"), Text("b")), {
            (LossKind.SHAPE, "messages.0"), (LossKind.KNOB, "messages.0.parts.0.detail")
        }),
        (asking(Image(Inline("image/png", "AAAA"))), {(LossKind.MARK, "messages.0.parts.0.source.media_type")}),
        (asking(Text("a"), role=Role.DEVELOPER), {(LossKind.SHAPE, "messages.0")}),
        (asking(Text("a", cache=Cache())), {(LossKind.MARK, "messages.0.parts.0.cache")}),
        (asking(Text("a", citations=(Citation("u"),))), {(LossKind.MARK, "messages.0.parts.0.citations")}),
        (asking(Refusal("no"), role=Role.ASSISTANT), {(LossKind.MARK, "messages.0.parts.0")}),
        (asking(Reasoning("a", Seal("x", "s")), role=Role.ASSISTANT), {(LossKind.SEAL, "messages.0.parts.0")}),
        (asking(ToolResult("1", (Text("a"),), failed=True), role=Role.TOOL), {
            (LossKind.MARK, "messages.0.parts.0.failed")
        }),
        (asking(Text("a"), tools=(Tool("f", strict=True, cache=Cache()),)), {
            (LossKind.KNOB, "tools.0.strict"), (LossKind.MARK, "tools.0.cache")
        }),
        (asking(Text("a"), tools=(Tool("f"), Tool("g")), tool_choice=ToolChoice(Call.AUTO, ("g",))), {
            (LossKind.SHAPE, "tools.0")
        }),
        (asking(Text("a"), rest=(Extra("other", ("x",), raw(1)),)), {(LossKind.UNKNOWN, "x")}),
    ],
)  # fmt: skip
def test_knobs_and_marks_without_a_word_here_are_declared_losses(
    conversation: Conversation, expected: set[tuple[LossKind, str]]
) -> None:
    assert losses(conversation) == expected


def test_words_of_a_user_are_kept_apart_and_those_of_a_model_go_on() -> None:
    assert written(asking(Text("a"), Text("b")))["messages"][0]["content"] == "a\nb"
    assert written(asking(Text("a"), Text("b"), role=Role.ASSISTANT))["messages"][0]["content"] == "ab"


def test_reasoning_that_another_sealed_is_left_out_of_a_request() -> None:
    asked = asking(Reasoning("secret", Seal("anthropic_messages", "s")), Text("a"), role=Role.ASSISTANT)
    assert written(asked)["messages"] == [{"role": "assistant", "content": "a"}]


def test_tools_that_may_not_be_called_are_not_offered() -> None:
    asked = asking(Text("a"), tools=(Tool("f"),), tool_choice=ToolChoice(Call.NONE))
    assert "tools" not in written(asked)
    assert losses(asked) == {(LossKind.SHAPE, "tools.0")}


@pytest.mark.parametrize(
    ("thinking", "thinks", "expected", "lost"),
    [
        (Thinking(on=True), Thinks.EFFORT, True, False),
        (Thinking(on=False), Thinks.EFFORT, False, False),
        (Thinking(effort="high"), Thinks.EFFORT, "high", False),
        (Thinking(effort="minimal"), Thinks.EFFORT, "low", True),
        (Thinking(effort="max"), Thinks.EFFORT, "high", True),
        (Thinking(effort="none"), Thinks.EFFORT, False, False),
        (Thinking(effort="high"), Thinks.BUDGET, True, True),
        (Thinking(budget=5), Thinks.EFFORT, True, True),
        (Thinking(adaptive=True), Thinks.EFFORT, True, True),
        (Thinking(on=False, effort="high"), Thinks.EFFORT, False, True),
        (Thinking(on=True), Thinks.NEVER, None, True),
    ],
)
def test_the_wish_to_think_is_said_in_ollamas_words(
    thinking: Thinking, thinks: Thinks, expected: bool | str | None, lost: bool
) -> None:
    asked = asking(Text("a"), thinking=thinking)
    assert written(asked, Profile(thinks=thinks)).get("think") == expected
    assert bool(encode(asked, Profile(thinks=thinks)).losses) is lost


def test_of_two_caps_the_tighter_one_is_said_and_a_model_without_sampling_gets_none() -> None:
    asked = asking(Text("a"), max_output=7, max_text=5, sampling=Sampling(temperature=1, seed=2))
    assert written(asked, Profile(sampling=False))["options"] == {"num_predict": 5, "seed": 2}
    assert encode(asked, Profile(sampling=False)).losses == (Loss(LossKind.KNOB, "sampling.temperature"),)


def test_what_governs_a_request_is_its_cap() -> None:
    assert DIALECT.peek({"options": raw({"num_predict": 5})}).max_output == 5
    assert DIALECT.peek({"options": raw({"num_predict": -1})}).max_output is None
    for nothing in ({}, {"options": raw(None)}, {"options": raw({})}, {"options": raw({"num_predict": None})}):
        assert DIALECT.peek(nothing) == (None, "")
    for bad in (5, {"num_predict": "5"}, {"num_predict": 10**13}):
        with pytest.raises(Fault) as caught:
            DIALECT.peek({"options": raw(bad)})
        assert caught.value.kind is Kind.INVALID_REQUEST


def test_the_row_adds_no_route() -> None:
    assert ENDPOINTS == ()
    assert (DIALECT.path("qwen3", True), DIALECT.stream_type) == ("/api/chat", b"application/x-ndjson")


def test_a_large_request_takes_time_in_proportion() -> None:
    turns = [{"role": "user", "content": "x" * 1000}, {"role": "assistant", "content": "y", "thinking": "t"}] * 500
    body = body_of(one(messages=turns, **{f"x{n}": n for n in range(20_000)}))
    assert json.loads(encode(decode(body)).body) == json.loads(body)
