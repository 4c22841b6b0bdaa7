"""A Cohere request keeps its meaning through the pivot, and its every member: unknown is a value."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cohere_kit import CONVERSATIONS, REQUESTS, body_of, outcome, raw
from hypothesis import given
from hypothesis import strategies as st

from ostiary.core.fault import Fault, Kind, Retry
from ostiary.core.operation import Operation
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
)
from ostiary.wire.conversation.parts import (
    Audio,
    Cache,
    Citation,
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
)
from ostiary.wire.conversation.unknown import Encoded, Extra, Loss, LossKind
from ostiary.wire.dialects.cohere_chat.wire import DIALECT, ENDPOINTS
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
    return {"model": "m", "messages": [], **members}


def turn(role: str, **members: Any) -> dict[str, Any]:
    return one(messages=[{"role": role, **members}])


def asking(*parts: Part, role: Role = Role.USER, **more: Any) -> Conversation:
    return Conversation(model="m", messages=(Message(role, parts),), **more)


@given(request=REQUESTS)
def test_every_member_of_a_request_comes_back_with_its_value(request: dict[str, Any]) -> None:
    encoded = encode(decode(body_of(request)))
    assert json.loads(encoded.body) == request
    assert encoded.losses == ()


CITED = {"start": 0, "end": 1, "text": "a", "sources": [{"type": "document", "id": "d"}], "content_index": 0}


@pytest.mark.parametrize(
    "request_",
    [
        one(stop_sequences=[]),
        one(tools=[]),
        one(tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}], strict_tools=True),
        one(tools=[{"type": "function", "function": {"name": "f", "parameters": 5}}]),
        one(tools=[{"type": "function", "function": {"parameters": {}}}], strict_tools=True),
        one(tool_choice="AUTO"),
        one(response_format={"type": "grammar"}),
        one(response_format={"type": "text", "json_schema": {}}),
        one(thinking={}),
        one(thinking={"type": "odd", "token_budget": 5}),
        one(safety_mode="STRICT", documents=["d"], priority=3, citation_options={"mode": "FAST"}),
        turn("user", content=[]),
        turn("user", content=[{"type": "text", "text": "x"}]),
        turn("user", content=[{"type": "image_url", "image_url": {"url": "data:,hello"}}]),
        turn("system", content=[{"type": "image_url", "image_url": {"url": "https://e.x"}}]),
        turn("assistant", tool_calls=[], citations=[]),
        turn("assistant", tool_plan="", content=[{"type": "thinking", "thinking": "t"}, {"type": "text", "text": "x"}]),
        turn("assistant", content="ab", citations=[{**CITED, "type": "TEXT_CONTENT"}]),
        turn("assistant", content="ab", citations=[{**CITED, "type": "TEXT_CONTENT", "text": "other words"}]),
        turn("assistant", tool_plan="ab", citations=[{**CITED, "type": "PLAN"}]),
        turn("tool", tool_call_id="1", content=[{"type": "document", "document": {"data": "{\n}"}}]),
        turn("tool", tool_call_id="1", content=[{"type": "document", "document": {"id": "d", "data": {"a": 1}}}]),
        turn("tool", content="no call"),
        {"model": None, "messages": []},
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


def test_the_words_of_cohere_are_read_as_the_pivots() -> None:
    asked = decode(
        body_of(
            {
                "model": "command-a-03-2025",
                "messages": [{"role": "user", "content": "hi"}],
                "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
                "strict_tools": True,
                "tool_choice": "REQUIRED",
                "response_format": {"type": "json_object", "json_schema": {"type": "object"}},
                "stop_sequences": ["x"],
                "max_tokens": 5,
                "k": 3,
                "p": 0.5,
                "thinking": {"type": "enabled", "token_budget": 100},
                "safety_mode": "STRICT",
            }
        )
    )
    (tool,) = asked.tools
    assert isinstance(tool, Tool)
    assert (tool.name, tool.strict, asked.tool_choice) == ("f", True, ToolChoice(Call.REQUIRED))
    assert asked.format is not None
    assert asked.format.shape is Shape.SCHEMA
    assert (asked.stop, asked.max_output) == (("x",), 5)
    assert asked.sampling == Sampling(top_k=3, top_p=0.5)
    assert asked.thinking == Thinking(budget=100, on=True)
    assert [(extra.path, extra.binding) for extra in asked.rest] == [(("safety_mode",), True)]


def test_a_tool_plan_is_reasoning_and_a_document_of_a_tool_is_its_text() -> None:
    asked = decode(
        body_of(
            one(
                messages=[
                    {
                        "role": "assistant",
                        "tool_plan": "I look",
                        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                    },
                    {
                        "role": "tool",
                        "tool_call_id": "1",
                        "content": [{"type": "document", "document": {"data": {"rain": 1}, "id": "d"}}],
                    },
                ]
            )
        )
    )
    said, answered = asked.messages
    assert isinstance(said, Message)
    assert isinstance(answered, Message)
    plan, call = said.parts
    assert isinstance(plan, Reasoning)
    assert plan.text == "I look"
    assert call == ToolCall("1", "f", "{}")
    (result,) = answered.parts
    assert isinstance(result, ToolResult)
    assert isinstance(result.parts[0], Text)
    assert json.loads(result.parts[0].text) == {"rain": 1}


@pytest.mark.parametrize(
    ("conversation", "where"),
    [
        (asking(Audio(Inline("audio/wav", "AA"))), "messages.0.parts.0"),
        (asking(Document(Inline("application/pdf", "AA"))), "messages.0.parts.0"),
        (asking(Image(Stored("f", "x"))), "messages.0.parts.0"),
        (asking(Image(Link("https://e.x")), role=Role.SYSTEM), "messages.0.parts.0"),
        (asking(ToolResult("1", (Image(Link("u")),)), role=Role.TOOL), "messages.0.parts.0.parts.0"),
        (asking(ToolCall("1", "f", "x", free=True), role=Role.ASSISTANT), "messages.0.parts.0"),
        (Conversation(model="m", messages=(), choices=2), "choices"),
        (Conversation(model="m", messages=(), previous="r"), "previous"),
        (Conversation(model="m", messages=(), tool_choice=ToolChoice(Call.REQUIRED, ("g",))), "tool_choice"),
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
        (asking(Text("a"), user="u", metadata={"a": "b"}, tier="flex", store=True, top_logprobs=2), {
            (LossKind.KNOB, name) for name in ("user", "metadata", "tier", "store", "top_logprobs")
        }),
        (asking(Text("a"), store=False, parallel_calls=True, choices=1, stream_usage=True), set()),
        (asking(Text("a"), role=Role.DEVELOPER), {(LossKind.SHAPE, "messages.0")}),
        (asking(Text("a", cache=Cache())), {(LossKind.MARK, "messages.0.parts.0.cache")}),
        (asking(Text("a", citations=(Citation("u"),))), {(LossKind.MARK, "messages.0.parts.0.citations")}),
        (asking(Text("a", seal=Seal("x", "s"))), {(LossKind.SEAL, "messages.0.parts.0")}),
        (asking(Refusal("no"), role=Role.ASSISTANT), {(LossKind.MARK, "messages.0.parts.0")}),
        (asking(Reasoning("a", Seal("x", "s")), role=Role.ASSISTANT), {(LossKind.SEAL, "messages.0.parts.0")}),
        (asking(ToolCall("1", "f", "{}"), Text("a"), role=Role.ASSISTANT), {(LossKind.SHAPE, "messages.0")}),
        (asking(ToolResult("1", (Text("a"),), failed=True), role=Role.TOOL), {
            (LossKind.MARK, "messages.0.parts.0.failed")
        }),
        (asking(Text("a"), format=Format(Shape.SCHEMA, "n", "d", raw({}), True)), {
            (LossKind.KNOB, f"format.{name}") for name in ("name", "description", "strict")
        }),
        (asking(Text("a"), tools=(Tool("f", strict=True), Tool("g"))), {(LossKind.KNOB, "tools.0.strict")}),
        (asking(Text("a"), rest=(Extra("other", ("x",), raw(1)),)), {(LossKind.UNKNOWN, "x")}),
    ],
)  # fmt: skip
def test_knobs_and_marks_without_a_word_here_are_declared_losses(
    conversation: Conversation, expected: set[tuple[LossKind, str]]
) -> None:
    assert losses(conversation) == expected


def test_reasoning_that_another_sealed_is_left_out_of_a_request() -> None:
    asked = asking(Reasoning("secret", Seal("anthropic_messages", "s")), Text("a"), role=Role.ASSISTANT)
    assert written(asked)["messages"] == [{"role": "assistant", "content": "a"}]


def test_a_choice_among_named_tools_offers_only_those() -> None:
    tools = (Tool("f", parameters=raw({"type": "object"})), Tool("g"))
    asked = asking(Text("a"), tools=tools, tool_choice=ToolChoice(Call.REQUIRED, ("g",)))
    document = written(asked)
    assert document["tool_choice"] == "REQUIRED"
    assert [tool["function"]["name"] for tool in document["tools"]] == ["g"]
    assert losses(asked) == {(LossKind.SHAPE, "tools.0"), (LossKind.SHAPE, "tool_choice.names")}


def test_a_tool_without_parameters_has_an_empty_schema() -> None:
    (tool,) = written(asking(Text("a"), tools=(Tool("f"),)))["tools"]
    assert tool["function"]["parameters"] == {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    ("thinking", "thinks", "expected"),
    [
        (Thinking(effort="high"), Thinks.EFFORT, {"type": "enabled"}),
        (Thinking(effort="none"), Thinks.EFFORT, {"type": "disabled"}),
        (Thinking(adaptive=True), Thinks.EFFORT, {"type": "enabled"}),
        (Thinking(on=False, effort="high"), Thinks.EFFORT, {"type": "disabled"}),
        (Thinking(on=True, budget=5), Thinks.BUDGET, {"type": "enabled", "token_budget": 5}),
        (Thinking(on=True, budget=5), Thinks.NEVER, None),
    ],
)
def test_the_wish_to_think_is_said_in_coheres_words(
    thinking: Thinking, thinks: Thinks, expected: dict[str, Any] | None
) -> None:
    asked = asking(Text("a"), thinking=thinking)
    assert written(asked, Profile(thinks=thinks)).get("thinking") == expected
    lost = Loss(LossKind.KNOB, "thinking") in encode(asked, Profile(thinks=thinks)).losses
    assert lost is (thinks is Thinks.NEVER)


def test_of_two_caps_the_tighter_one_is_said_and_a_model_without_sampling_gets_none() -> None:
    asked = asking(Text("a"), max_output=7, max_text=5, sampling=Sampling(temperature=1, seed=2))
    document = written(asked, Profile(sampling=False))
    assert (document["max_tokens"], document["seed"], "temperature" in document) == (5, 2, False)
    assert losses(asked, Profile(sampling=False)) == {(LossKind.KNOB, "sampling.temperature")}


def test_what_governs_a_request_is_its_cap() -> None:
    assert DIALECT.peek({"max_tokens": raw(5)}).max_output == 5
    assert DIALECT.peek({"max_tokens": raw(None)}).max_output is None
    assert DIALECT.peek({"max_tokens": raw(-5)}).max_output == 0
    assert DIALECT.peek({}) == (None, "")
    for bad in ("5", True, 10**13):
        with pytest.raises(Fault) as caught:
            DIALECT.peek({"max_tokens": raw(bad)})
        assert (caught.value.kind, caught.value.param) == (Kind.INVALID_REQUEST, "max_tokens")


def test_the_row_names_the_route_and_the_path() -> None:
    (endpoint,) = ENDPOINTS
    assert (endpoint.name, endpoint.operation, endpoint.path) == ("cohere.chat", Operation.CHAT, "/chat")
    assert (endpoint.prefixes, endpoint.dialect, endpoint.streams) == (("/v2",), DIALECT.name, True)
    assert DIALECT.path("command-a", True) == "/v2/chat"


def test_a_large_request_takes_time_in_proportion() -> None:
    turns = [{"role": "user", "content": "x" * 1000}, {"role": "assistant", "content": "y", "tool_plan": "p"}] * 500
    body = body_of(one(messages=turns, **{f"x{n}": n for n in range(20_000)}))
    assert json.loads(encode(decode(body)).body) == json.loads(body)
