"""A request keeps its meaning through the pivot, and its every member: unknown is a value."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from anthropic_kit import CONVERSATIONS, REQUESTS, US, body_of, outcome, raw
from hypothesis import given
from hypothesis import strategies as st

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
from ostiary.wire.conversation.seals import carry
from ostiary.wire.conversation.unknown import Extra, LossKind
from ostiary.wire.dialects.anthropic_messages.request import DEFAULT_CAP, decode_request, encode_request
from ostiary.wire.dialects.anthropic_messages.wire import DIALECT
from ostiary.wire.profile import ANY, Profile, Thinks

NEW = Profile(version="2026-10-21", sampling=False)


@given(request=REQUESTS)
def test_every_member_of_a_request_comes_back_with_its_value(request: dict[str, Any]) -> None:
    encoded = encode_request(decode_request(body_of(request)), ANY)
    assert json.loads(encoded.body) == request
    assert encoded.losses == ()


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
    assert outcome(decode_request, body) == (None, kind)


@pytest.mark.parametrize("depth", [64, 500, 900, 980, 1000, 100_000])
@pytest.mark.parametrize(
    "place",
    [
        "%s",
        '{"messages":%s}',
        '{"messages":[{"role":"user","content":[%s]}]}',
        '{"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":[%s]}]}]}',
        '{"messages":[],"thinking":%s}',
        '{"messages":[],"tools":[{"name":"f","input_schema":%s}]}',
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
                "max_tokens": 9,
                "system": [{"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "look"},
                            {"type": "image", "source": {"type": "url", "url": "https://e.x/i.png"}},
                            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                            {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
                            {
                                "type": "document",
                                "title": "t",
                                "context": "c",
                                "source": {"type": "text", "media_type": "text/plain", "data": "hello"},
                            },
                        ],
                    },
                    {
                        "role": "assistant",
                        "content": [
                            {"type": "thinking", "thinking": "hm", "signature": "sig"},
                            {"type": "redacted_thinking", "data": "blob"},
                            {"type": "tool_use", "id": "1", "name": "f", "input": {"a": 1}},
                        ],
                    },
                    {
                        "role": "user",
                        "content": [
                            {"type": "tool_result", "tool_use_id": "1", "content": "r", "is_error": True},
                            {"type": "text", "text": "go on"},
                        ],
                    },
                ],
                "tools": [{"name": "f", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}],
                "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
                "thinking": {"type": "enabled", "budget_tokens": 2048, "display": "omitted"},
                "output_config": {"effort": "high", "format": {"type": "json_schema", "schema": {"type": "object"}}},
                "metadata": {"user_id": "u"},
                "service_tier": "standard_only",
                "stop_sequences": ["END"],
                "mcp_servers": [{"type": "url"}],
            }
        )
    )
    system, first, second, third, fourth = conversation.messages
    assert isinstance(system, Message)
    assert system.parts == (Text("be brief", cache=Cache("1h")),)
    assert first == Message(
        Role.USER,
        (
            Text("look"),
            Image(Link("https://e.x/i.png")),
            Image(Inline("image/png", "AAAA")),
            Image(Stored("file_1", US)),
            Document(Inline("text/plain", "aGVsbG8="), "t", (Extra(US, ("context",), raw("c"), binding=True),)),
        ),
    )
    assert second == Message(
        Role.ASSISTANT,
        (
            Reasoning("hm", Seal(US, "sig")),
            Reasoning("", Seal(US, "blob"), hidden=True),
            ToolCall("1", "f", '{"a": 1}'),
        ),
    )
    assert third == Message(Role.TOOL, (ToolResult("1", (Text("r"),), failed=True),))
    assert fourth == Message(Role.USER, (Text("go on"),))
    (tool,) = conversation.tools
    assert isinstance(tool, Tool)
    assert (tool.name, tool.cache) == ("f", Cache())
    assert conversation.tool_choice == ToolChoice(Call.REQUIRED, ("f",))
    assert conversation.parallel_calls is False
    assert conversation.thinking == Thinking("high", 2048, on=True, shown="none")
    assert conversation.format is not None
    assert conversation.format.shape is Shape.SCHEMA
    assert (conversation.user, conversation.tier, conversation.stop) == ("u", "default", ("END",))
    assert [(extra.path, extra.binding) for extra in conversation.rest] == [(("mcp_servers",), True)]


def said(*parts: Part, role: Role = Role.ASSISTANT, **more: Any) -> Conversation:
    return Conversation(model="m", messages=(Message(role, parts, **more),), max_output=5)


def several(*messages: Message, **more: Any) -> Conversation:
    return Conversation(model="m", messages=messages, max_output=5, **more)


def written(conversation: Conversation, profile: Profile = ANY) -> tuple[dict[str, Any], list[tuple[LossKind, str]]]:
    encoded = encode_request(conversation, profile)
    return json.loads(encoded.body), [(loss.kind, loss.where) for loss in encoded.losses]


def user(*parts: Part) -> Message:
    return Message(Role.USER, parts)


def result(call_id: str) -> Message:
    return Message(Role.TOOL, (ToolResult(call_id, (Text(call_id),)),))


def test_results_of_tools_and_what_follows_are_one_turn() -> None:
    document, losses = written(several(result("1"), result("2"), user(Text("go"))))
    (turn,) = document["messages"]
    assert [block["type"] for block in turn["content"]] == ["tool_result", "tool_result", "text"]
    assert losses == []


def test_results_stand_first_and_what_that_moves_is_told() -> None:
    document, losses = written(several(user(Text("a")), result("1"), user(Text("b"))))
    (turn,) = document["messages"]
    assert [block.get("text", "result") for block in turn["content"]] == ["result", "a", "b"]
    assert losses == [(LossKind.SHAPE, "messages.1"), (LossKind.SHAPE, "messages.2")]


def test_instructions_come_before_all_turns_wherever_they_were_given() -> None:
    document, losses = written(
        several(Message(Role.DEVELOPER, (Text("a"),)), user(Text("b")), Message(Role.SYSTEM, (Text("c"),)))
    )
    assert document["system"] == [{"type": "text", "text": "a"}, {"type": "text", "text": "c"}]
    assert document["messages"] == [{"role": "user", "content": "b"}]
    assert losses == [(LossKind.SHAPE, "messages.0"), (LossKind.SHAPE, "messages.2")]  # the first was a developer's


def test_empty_words_and_turns_without_content_are_not_written() -> None:
    call = Message(Role.ASSISTANT, (Text(""), ToolCall("1", "f", "")))
    document, losses = written(several(user(Text("a")), call, Message(Role.ASSISTANT, ()), result("1")))
    assert [turn["role"] for turn in document["messages"]] == ["user", "assistant", "user"]
    assert document["messages"][1]["content"] == [{"type": "tool_use", "id": "1", "name": "f", "input": {}}]
    assert losses == []


def test_reasoning_nobody_vouches_for_is_dropped_and_told() -> None:
    foreign = Reasoning("a", Seal("gemini_generate", "s"))
    document, losses = written(several(Message(Role.ASSISTANT, (Reasoning("x"), foreign, Text("b")))))
    assert document["messages"][0]["content"] == [{"type": "text", "text": "b"}]
    assert losses == [(LossKind.SEAL, "messages.0.parts.0"), (LossKind.SEAL, "messages.0.parts.1")]


def test_foreign_proofs_come_back_from_where_clients_kept_them() -> None:
    seal = Seal("gemini_generate", "s\n1")
    content = [
        {"type": "thinking", "thinking": "a", "signature": carry(seal)},
        {"type": "redacted_thinking", "data": carry(seal)},
        {"type": "redacted_thinking", "data": carry(seal, ahead=True)},
        {"type": "thinking", "thinking": "b", "signature": ""},
        {"type": "tool_use", "id": "1", "name": "f", "input": {}},
        {"type": "redacted_thinking", "data": carry(seal, ahead=True)},
    ]
    conversation = decode_request(
        body_of({"model": "m", "max_tokens": 5, "messages": [{"role": "assistant", "content": content}]})
    )
    (turn,) = conversation.messages
    assert isinstance(turn, Message)
    assert turn.parts == (
        Reasoning("a", seal),
        Reasoning("", seal, hidden=True),
        Reasoning("b"),
        ToolCall("1", "f", "{}", seal=seal),
        Reasoning("", seal, hidden=True),
    )
    document, losses = written(conversation)
    assert [block["type"] for block in document["messages"][0]["content"]] == ["tool_use"]
    assert {kind for kind, _ in losses} == {LossKind.SEAL}


CITED = Citation("https://e.x", "t", "q", rest=(Extra(US, ("type",), raw("web_search_result_location")),))
OTHERS = Extra("openai_chat", ("x",), raw(1))


@pytest.mark.parametrize(
    ("conversation", "losses"),
    [
        (several(sampling=Sampling(frequency_penalty=1, seed=3)),
         ["KNOB sampling.frequency_penalty", "KNOB sampling.seed"]),
        (several(logprobs=True, top_logprobs=2, store=True, metadata={"a": "b"}),
         ["KNOB metadata", "KNOB logprobs", "KNOB top_logprobs", "KNOB store"]),
        (several(tier="flex"), ["KNOB tier"]),
        (several(parallel_calls=False), ["KNOB parallel_calls"]),
        (several(rest=(OTHERS,)), ["UNKNOWN x"]),
        (several(thinking=Thinking("minimal")), ["KNOB thinking.effort"]),
        (several(format=Format(Shape.SCHEMA, "n", schema=raw({}), strict=False)),
         ["MARK format.name", "KNOB format.strict"]),
        (said(Refusal("no")), ["MARK messages.0.parts.0"]),
        (said(Text("a"), name="ann"), ["MARK messages.0.name"]),
        (said(Text("a", (OTHERS,))), ["UNKNOWN messages.0.parts.0.x"]),
        (said(Text("a", cache=Cache("24h"))), ["KNOB messages.0.parts.0.cache.ttl"]),
        (said(Text("a", citations=(Citation("https://e.x"),))), ["MARK messages.0.parts.0.citations"]),
        (said(Text("a", seal=Seal("gemini_generate", "s"))), ["SEAL messages.0.parts.0"]),
        (said(Image(Link("u"), "low"), role=Role.USER), ["KNOB messages.0.parts.0.detail"]),
        (said(Document(Inline("text/csv", "YQ==")), role=Role.USER), ["MARK messages.0.parts.0.media_type"]),
        (several(user(Text("a")), user(Text("b"))), ["SHAPE messages.1"]),
    ],
)  # fmt: skip
def test_what_cannot_be_said_and_is_no_content_is_a_declared_loss(
    conversation: Conversation, losses: list[str]
) -> None:
    encoded = encode_request(conversation, ANY)
    assert [f"{loss.kind.name} {loss.where}" for loss in encoded.losses] == losses


FOREIGN = UnknownPart("gemini_generate", "parts", raw({"executableCode": {}}))


@pytest.mark.parametrize(
    "conversation",
    [
        said(FOREIGN, role=Role.USER),
        said(Image(Stored("i", "openai_chat")), role=Role.USER),
        said(Audio(Inline("audio/wav", "AA")), role=Role.USER),
        said(Document(Inline("application/msword", "AA")), role=Role.USER),
        said(Document(Inline("text/plain", "no base64!")), role=Role.USER),
        said(ToolResult("1", ()), role=Role.USER),
        said(ToolCall("1", "f", "free", free=True)),
        said(ToolCall("1", "f", "[1]")),
        said(ToolCall("1", "f", '{"a":')),
        several(choices=2),
        several(previous="resp_1"),
        several(tool_choice=ToolChoice(Call.REQUIRED, ("a", "b"))),
        several(tool_choice=ToolChoice(Call.AUTO, ("a",))),
        several(format=Format(Shape.JSON)),
        several(format=Format(Shape.SCHEMA)),
        several(rest=(msgspec.structs.replace(OTHERS, binding=True),)),
        Conversation(model="m", messages=(UnknownMessage("openai_chat", raw({})),)),
    ],
)
def test_content_or_a_constraint_that_cannot_be_said_is_refused(conversation: Conversation) -> None:
    with pytest.raises(Fault) as caught:
        encode_request(conversation, ANY)
    assert (caught.value.kind, caught.value.retry) == (Kind.INVALID_REQUEST, Retry.NEXT)


def test_the_newer_version_takes_no_sampling_and_no_citations_of_users_and_no_documents_of_assistants() -> None:
    cited = Text("a", citations=(CITED,))
    conversation = several(user(cited), Message(Role.ASSISTANT, (cited,)), sampling=Sampling(0.5, 1, 40))
    old, losses = written(conversation)
    assert (old["temperature"], old["top_p"], old["top_k"], losses) == (0.5, 1, 40, [])
    assert "citations" in old["messages"][0]["content"][0]
    assert written(conversation, Profile(version="vertex-2023-10-16")) == (old, [])
    new, losses = written(conversation, NEW)
    assert {"temperature", "top_p", "top_k"}.isdisjoint(new)
    assert new["messages"][0]["content"] == [{"type": "text", "text": "a"}]
    assert "citations" in new["messages"][1]["content"][0]
    assert [place for _, place in losses] == [
        "messages.0.parts.0.citations", "sampling.temperature", "sampling.top_p", "sampling.top_k"
    ]  # fmt: skip
    document = said(Document(Link("https://e.x/a.pdf")))
    assert written(document)[1] == []
    with pytest.raises(Fault):
        encode_request(document, NEW)


@pytest.mark.parametrize(
    ("conversation", "profile", "cap"),
    [
        (several(), ANY, 5),
        (Conversation(model="m", messages=(), max_text=7), ANY, 7),
        (Conversation(model="m", messages=(), max_text=7, max_output=6), ANY, 6),
        (Conversation(model="m", messages=()), Profile(max_output=64_000), 64_000),
        (Conversation(model="m", messages=()), ANY, DEFAULT_CAP),
    ],
)
def test_a_cap_is_always_named(conversation: Conversation, profile: Profile, cap: int) -> None:
    assert written(conversation, profile)[0]["max_tokens"] == cap


BUDGET, ADAPTIVE, NEVER = (Profile(thinks=way) for way in (Thinks.BUDGET, Thinks.ADAPTIVE, Thinks.NEVER))


@pytest.mark.parametrize(
    ("thinking", "profile", "mode", "effort", "lost"),
    [
        (Thinking("high"), ADAPTIVE, {"type": "adaptive"}, "high", []),
        (Thinking("none"), ADAPTIVE, {"type": "disabled"}, None, []),
        (Thinking(budget=2000, on=True), ADAPTIVE, {"type": "adaptive"}, None, ["thinking.budget"]),
        (Thinking("high"), BUDGET, {"type": "enabled", "budget_tokens": 16384}, None, ["thinking.effort"]),
        (Thinking("high", adaptive=True, on=True), BUDGET, {"type": "enabled", "budget_tokens": 16384}, None,
         ["thinking.effort", "thinking.adaptive"]),
        (Thinking(budget=2000, on=True), BUDGET, {"type": "enabled", "budget_tokens": 2000}, None, []),
        (Thinking(on=False), BUDGET, {"type": "disabled"}, None, []),
        (Thinking("high", on=True, adaptive=True), NEVER, None, None, ["thinking.effort", "thinking.adaptive"]),
        (Thinking(on=False), NEVER, None, None, []),
        (Thinking(on=True, adaptive=True, shown="detailed"), ADAPTIVE, {"type": "adaptive", "display": "summarized"},
         None, ["thinking.shown"]),
        (Thinking(shown="auto"), ADAPTIVE, None, None, ["thinking.shown"]),
    ],
)  # fmt: skip
def test_a_model_is_told_to_reason_in_the_way_it_knows(
    thinking: Thinking, profile: Profile, mode: object, effort: object, lost: list[str]
) -> None:
    conversation = Conversation(model="m", messages=(), thinking=thinking, max_output=50_000)
    document, losses = written(conversation, profile)
    assert document.get("thinking") == mode
    assert document.get("output_config", {}).get("effort") == effort
    assert losses == [(LossKind.KNOB, place) for place in lost]


def test_a_budget_leaves_half_of_the_cap_to_the_answer_or_there_is_none() -> None:
    asked = Conversation(model="m", messages=(), thinking=Thinking("high"), max_output=4000)
    assert written(asked, BUDGET)[0]["thinking"]["budget_tokens"] == 2000
    assert "thinking" not in written(msgspec.structs.replace(asked, max_output=1000), BUDGET)[0]


def test_effort_alone_asks_for_no_reasoning_in_this_dialect_but_does_in_others() -> None:
    request = {"model": "m", "max_tokens": 5, "messages": [], "output_config": {"effort": "low"}}
    assert written(decode_request(body_of(request)), ADAPTIVE)[0] == request


def test_reasoning_that_another_dialect_wished_for_gives_way_to_what_it_does_not_go_with() -> None:
    tools = (Tool("f", parameters=raw({"type": "object"})),)
    forced = several(tools=tools, tool_choice=ToolChoice(Call.REQUIRED), thinking=Thinking("high"))
    document, losses = written(forced, ADAPTIVE)
    assert "thinking" not in document
    assert losses == [(LossKind.KNOB, "thinking")]
    warm = several(sampling=Sampling(0.2), thinking=Thinking("high"))
    document, losses = written(warm, ADAPTIVE)
    assert "temperature" not in document
    assert losses == [(LossKind.KNOB, "sampling.temperature")]


def test_no_budget_is_set_in_the_middle_of_a_call_whose_reasoning_is_gone() -> None:
    call = ToolCall("1", "f", "{}")
    thinking = Thinking(budget=2000, on=True)
    bare = several(user(Text("a")), Message(Role.ASSISTANT, (call,)), result("1"), thinking=thinking)
    document, losses = written(bare)
    assert "thinking" not in document
    assert losses == [(LossKind.KNOB, "thinking")]
    proven = Message(Role.ASSISTANT, (Reasoning("x", Seal(US, "s")), call))
    document, losses = written(several(user(Text("a")), proven, result("1"), thinking=thinking))
    assert document["thinking"]["type"] == "enabled"
    assert losses == []


def test_a_model_without_schemas_or_marks_is_sent_none() -> None:
    bare = Profile(schema=False, cache_marks=False)
    tool = Tool("f", strict=True, cache=Cache())
    document, losses = written(several(user(Text("a", cache=Cache())), tools=(tool,)), bare)
    assert document["tools"] == [{"name": "f", "input_schema": {"type": "object"}}]
    assert document["messages"][0]["content"] == [{"type": "text", "text": "a"}]
    assert [place for _, place in losses] == ["messages.0.parts.0.cache", "tools.0.strict", "tools.0.cache"]
    with pytest.raises(Fault):
        encode_request(several(format=Format(Shape.SCHEMA, schema=raw({}))), bare)


def test_the_older_name_of_a_format_is_understood_and_written_as_the_newer() -> None:
    form = {"type": "json_schema", "schema": {"type": "object"}}
    conversation = decode_request(body_of({"model": "m", "max_tokens": 5, "messages": [], "output_format": form}))
    assert conversation.format is not None
    assert written(conversation)[0]["output_config"] == {"format": form}


def test_constraints_the_pivot_has_no_word_for_are_marked_as_such_and_knobs_are_not() -> None:
    members = {"max_tokens": "9", "inference_geo": "eu", "thread": {"type": "new"}, "temperature": "hot", "speed": 1}
    conversation = decode_request(body_of({"model": "m", "messages": [], **members}))
    assert {extra.path[0] for extra in conversation.rest if extra.binding} == {"max_tokens", "inference_geo", "thread"}
    assert {extra.path[0] for extra in conversation.rest} == set(members)


def test_a_request_to_count_is_read_like_any_other() -> None:
    conversation = decode_request(body_of({"model": "m", "messages": [{"role": "user", "content": "a"}]}))
    assert conversation.messages == (user(Text("a")),)
    assert DIALECT.encode_count is not None
    assert json.loads(DIALECT.encode_count(7)) == {"input_tokens": 7}


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({}, (None, "")),
        ({"max_tokens": 7, "metadata": {"user_id": "u"}}, (7, "u")),
        ({"max_tokens": None, "metadata": None}, (None, "")),
        ({"metadata": {"user_id": None, "x": 1}}, (None, "")),
    ],
)
def test_what_governs_a_request_is_peeked_at(members: dict[str, Any], expected: tuple[int | None, str]) -> None:
    assert DIALECT.peek({name: raw(value) for name, value in members.items()}) == expected


@pytest.mark.parametrize("members", [{"max_tokens": "7"}, {"metadata": 5}, {"metadata": {"user_id": 5}}])
def test_governed_members_of_a_wrong_type_are_refused(members: dict[str, Any]) -> None:
    with pytest.raises(Fault) as caught:
        DIALECT.peek({name: raw(value) for name, value in members.items()})
    assert caught.value.kind is Kind.INVALID_REQUEST


def test_the_routes_of_the_dialect() -> None:
    assert [(row.name, row.path, row.streams) for row in DIALECT.endpoints] == [
        ("messages", "/messages", True),
        ("messages.count_tokens", "/messages/count_tokens", False),
    ]
    assert {row.dialect for row in DIALECT.endpoints} == {DIALECT.name}
    assert DIALECT.path("m", True) == "/v1/messages"


def test_a_large_request_takes_time_in_proportion() -> None:
    block = {"type": "text", "text": "x" * 50}
    turns = [{"role": ("user", "assistant")[n % 2], "content": [block] * 20} for n in range(500)]
    body = body_of({"model": "m", "max_tokens": 5, "messages": turns, **{f"x{n}": n for n in range(20_000)}})
    assert json.loads(encode_request(decode_request(body), ANY).body) == json.loads(body)
