"""Conversations that other dialects began: what Converse can say of them, what it declares lost, what it refuses."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest
from bedrock_kit import ANSWERING, US, raw

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
from ostiary.wire.conversation.reply import Choice, Finish, Reason, Reply
from ostiary.wire.conversation.unknown import Extra, Loss, LossKind
from ostiary.wire.dialects.bedrock_converse.reply import encode_reply
from ostiary.wire.dialects.bedrock_converse.request import decode_request, encode_request
from ostiary.wire.profile import ANY, Profile, Thinks


def asked(*messages: Message | UnknownMessage, **more: Any) -> Conversation:
    return Conversation(model="m", messages=messages, **more)


def user(*parts: Part, **more: Any) -> Message:
    return Message(Role.USER, parts, **more)


def said(*parts: Part) -> Message:
    return Message(Role.ASSISTANT, parts)


def result(call_id: str, *parts: Any, **more: Any) -> Message:
    return Message(Role.TOOL, (ToolResult(call_id, parts, **more),))


def written(conversation: Conversation, profile: Profile = ANY) -> tuple[Any, list[Loss]]:
    encoded = encode_request(conversation, profile)
    return json.loads(encoded.body), list(encoded.losses)


HI = user(Text("hi"))


def test_roles_alternate_and_the_results_of_a_turn_stand_in_one_message() -> None:
    conversation = asked(
        Message(Role.SYSTEM, (Text("be brief"),)),
        HI,
        said(ToolCall("1", "f", '{"a":1}'), ToolCall("2", "g", "")),
        result("1", Text("one"), failed=True),
        result("2", Text("two")),
        user(Text("and?")),
    )
    body, losses = written(conversation)
    assert losses == []
    assert body["system"] == [{"text": "be brief"}]
    assert body["messages"] == [
        {"role": "user", "content": [{"text": "hi"}]},
        {
            "role": "assistant",
            "content": [
                {"toolUse": {"toolUseId": "1", "name": "f", "input": {"a": 1}}},
                {"toolUse": {"toolUseId": "2", "name": "g", "input": {}}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"toolResult": {"toolUseId": "1", "content": [{"text": "one"}], "status": "error"}},
                {"toolResult": {"toolUseId": "2", "content": [{"text": "two"}]}},
                {"text": "and?"},
            ],
        },
    ]


def test_later_words_of_the_system_join_the_first_and_two_turns_of_one_role_become_one() -> None:
    conversation = asked(
        Message(Role.DEVELOPER, (Text("a"),)), HI, Message(Role.SYSTEM, (Text("b"),)), user(Text("more"))
    )
    body, losses = written(conversation)
    assert body["system"] == [{"text": "a"}, {"text": "b"}]
    assert body["messages"] == [{"role": "user", "content": [{"text": "hi"}, {"text": "more"}]}]
    assert losses == [Loss(LossKind.SHAPE, f"messages.{place}") for place in (0, 2, 3)]  # the first was a developer's


def test_empty_words_beside_a_call_are_left_out_because_they_would_be_refused() -> None:
    body, losses = written(asked(said(Text(""), ToolCall("1", "f", "{}"))))
    assert [list(block) for block in body["messages"][0]["content"]] == [["toolUse"]]
    assert losses == [Loss(LossKind.SHAPE, "messages.0.parts.0")]


@pytest.mark.parametrize("seal", [None, Seal("anthropic_messages", "sig")])
def test_reasoning_without_a_proof_of_this_dialect_is_left_out(seal: Seal | None) -> None:
    body, losses = written(asked(HI, said(Reasoning("hm", seal)), user(Text("go on"))))
    assert len(body["messages"]) == 1  # a turn of nothing is no turn
    assert losses == [Loss(LossKind.SEAL, "messages.1.parts.0"), Loss(LossKind.SHAPE, "messages.2")]


OTHERS = Extra("openai_chat", ("x",), raw(1))


@pytest.mark.parametrize(
    ("conversation", "losses"),
    [
        (asked(HI, rest=(OTHERS,)), [Loss(LossKind.UNKNOWN, "x")]),
        (asked(user(Text("a", (OTHERS,)))), [Loss(LossKind.UNKNOWN, "messages.0.parts.0.x")]),
        (asked(user(Text("a"), name="ann")), [Loss(LossKind.MARK, "messages.0.name")]),
        (asked(said(Refusal("no"))), [Loss(LossKind.MARK, "messages.0.parts.0")]),
        (asked(said(Text("a", seal=Seal("x", "s")))), [Loss(LossKind.SEAL, "messages.0.parts.0")]),
        (asked(said(ToolCall("1", "f", "{}", seal=Seal("x", "s")))), [Loss(LossKind.SEAL, "messages.0.parts.0")]),
        (asked(user(Image(Inline("image/png", "AA"), "low"))), [Loss(LossKind.KNOB, "messages.0.parts.0.detail")]),
        (asked(user(Text("a", cache=Cache("24h")))), [Loss(LossKind.KNOB, "messages.0.parts.0.cache.ttl")]),
        (
            asked(said(Text("a", citations=(Citation("https://e.x", start=0, end=1),)))),
            [Loss(LossKind.MARK, "messages.0.parts.0.citations.0.start")],
        ),
        (
            asked(result("1", Text("a", cache=Cache()))),
            [Loss(LossKind.SHAPE, "messages.0.parts.0.parts.0.cache")],
        ),
        (asked(HI, sampling=Sampling(temperature=1.5)), [Loss(LossKind.KNOB, "sampling.temperature")]),
        (asked(HI, sampling=Sampling(frequency_penalty=1)), [Loss(LossKind.KNOB, "sampling.frequency_penalty")]),
        (asked(HI, sampling=Sampling(presence_penalty=1)), [Loss(LossKind.KNOB, "sampling.presence_penalty")]),
        (asked(HI, sampling=Sampling(seed=1)), [Loss(LossKind.KNOB, "sampling.seed")]),
        (asked(HI, logprobs=True), [Loss(LossKind.KNOB, "logprobs")]),
        (asked(HI, parallel_calls=False), [Loss(LossKind.KNOB, "parallel_calls")]),
        (asked(HI, parallel_calls=True, choices=1, logprobs=False, store=False), []),
        (asked(HI, user="u"), [Loss(LossKind.KNOB, "user")]),
        (asked(HI, tier="auto"), [Loss(LossKind.KNOB, "tier")]),
        (asked(HI, metadata={"a": "ü", "b": "c"}), [Loss(LossKind.KNOB, "metadata")]),
        (asked(HI, stream=True, stream_usage=True), []),
        (asked(HI, format=Format(Shape.TEXT)), []),
        (asked(HI, thinking=Thinking(shown="auto")), [Loss(LossKind.KNOB, "thinking.shown")]),
    ],
)
def test_what_cannot_be_said_and_is_no_content_is_a_declared_loss(
    conversation: Conversation, losses: list[Loss]
) -> None:
    assert written(conversation)[1] == losses


TOOLS = (Tool("f", None, raw({"type": "object"})),)
SCHEMA = Format(Shape.SCHEMA, "s", None, raw({"type": "object"}))


@pytest.mark.parametrize(
    "conversation",
    [
        asked(user(Image(Link("https://e.x/i")))),
        asked(user(Document(Link("https://e.x/a.pdf")))),
        asked(user(Audio(Link("https://e.x/a")))),
        asked(user(Image(Inline("image/tiff", "AA")))),
        asked(user(Document(Inline("application/zip", "AA")))),
        asked(user(Document(Stored("file-1", "openai_chat")))),
        asked(user(UnknownPart("gemini_generate", "parts", raw({})))),
        asked(said(ToolCall("1", "f", "[1]"))),
        asked(said(ToolCall("1", "f", '{"a"'))),
        asked(said(ToolCall("1", "f", "{}", free=True))),
        asked(result("1", Audio(Inline("audio/wav", "AA")))),
        asked(user(ToolResult("1", ()))),
        asked(Message(Role.TOOL, (Text("a"),))),
        asked(Message(Role.SYSTEM, (Image(Inline("image/png", "AA")),))),
        asked(UnknownMessage("gemini_generate", raw({}))),
        asked(HI, tools=TOOLS, tool_choice=ToolChoice(Call.AUTO, ("f",))),
        asked(HI, tool_choice=ToolChoice(Call.REQUIRED)),
        asked(said(ToolCall("1", "f", "{}")), tools=TOOLS, tool_choice=ToolChoice(Call.NONE)),
        asked(HI, format=Format(Shape.JSON)),
        asked(HI, choices=2),
        asked(HI, previous="resp_1"),
        asked(HI, rest=(msgspec.structs.replace(OTHERS, binding=True),)),
    ],
)
def test_content_or_a_constraint_that_cannot_be_said_is_refused(conversation: Conversation) -> None:
    with pytest.raises(Fault) as caught:
        encode_request(conversation, ANY)
    assert (caught.value.kind, caught.value.retry) == (Kind.INVALID_REQUEST, Retry.NEXT)


def test_a_schema_is_a_text_within_the_output_config_and_refused_where_the_model_takes_none() -> None:
    body, losses = written(asked(HI, format=SCHEMA))
    schema = {"schema": '{"type":"object"}', "name": "s"}
    assert body["outputConfig"] == {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": schema}}}
    assert losses == []
    with pytest.raises(Fault):
        encode_request(asked(HI, format=SCHEMA), Profile(schema=False))


def test_tools_that_may_not_be_called_are_left_out_where_nothing_asks_for_them() -> None:
    body, losses = written(asked(HI, tools=TOOLS, tool_choice=ToolChoice(Call.NONE)))
    assert "toolConfig" not in body
    assert losses == [Loss(LossKind.SHAPE, "tools")]
    assert written(asked(HI, tool_choice=ToolChoice(Call.NONE)))[1] == []


def test_a_tool_without_parameters_has_an_empty_schema() -> None:
    body, _ = written(asked(HI, tools=(Tool("f"),), tool_choice=ToolChoice(Call.REQUIRED)))
    spec = {"name": "f", "inputSchema": {"json": {"type": "object", "properties": {}}}}
    assert body["toolConfig"] == {"tools": [{"toolSpec": spec}], "toolChoice": {"any": {}}}


def test_cache_marks_stand_after_what_they_mark_and_are_left_out_where_the_model_takes_none() -> None:
    marked = asked(
        Message(Role.SYSTEM, (Text("s", cache=Cache("1h")),)),
        user(Text("a", cache=Cache()), Text("b")),
        tools=(Tool("f", None, raw({}), cache=Cache()),),
    )
    point = {"cachePoint": {"type": "default"}}
    body, losses = written(marked)
    assert body["system"][1] == {"cachePoint": {"type": "default", "ttl": "1h"}}
    assert body["messages"][0]["content"] == [{"text": "a"}, point, {"text": "b"}]
    assert body["toolConfig"]["tools"][1] == point
    assert losses == []
    body, losses = written(marked, Profile(cache_marks=False))
    assert "cachePoint" not in json.dumps(body)
    assert [loss.kind for loss in losses] == [LossKind.MARK] * 3


@pytest.mark.parametrize(
    ("name", "fit", "lost"),
    [
        ("report", "report", False),
        ("a.pdf", "a-pdf", True),
        ("two  blanks", "two blanks", True),
        ("größe", "gr--e", True),
        ("x" * 300, "x" * 200, True),
        ("", "document-1", False),
        (None, "document-1", False),
    ],
)
def test_names_of_documents_are_made_fit(name: str | None, fit: str, lost: bool) -> None:
    body, losses = written(asked(user(Document(Inline("application/pdf", "AA"), name))))
    assert body["messages"][0]["content"][0]["document"]["name"] == fit
    assert losses == ([Loss(LossKind.MARK, "messages.0.parts.0.name")] if lost else [])


@pytest.mark.parametrize(
    ("thinking", "thinks", "fields", "lost"),
    [
        (Thinking(budget=2000, on=True), Thinks.BUDGET, {"thinking": {"type": "enabled", "budget_tokens": 2000}}, []),
        (
            Thinking("low"),
            Thinks.BUDGET,
            {"thinking": {"type": "enabled", "budget_tokens": 2048}},
            ["thinking.effort"],
        ),
        (Thinking("none"), Thinks.BUDGET, {"thinking": {"type": "disabled"}}, []),
        (Thinking(on=False), Thinks.ADAPTIVE, {"thinking": {"type": "disabled"}}, []),
        (Thinking(on=True, adaptive=True), Thinks.ADAPTIVE, {"thinking": {"type": "adaptive"}}, []),
        (
            Thinking("high"),
            Thinks.ADAPTIVE,
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}},
            [],
        ),
        (
            Thinking(budget=9000),
            Thinks.ADAPTIVE,
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}},
            ["thinking.budget"],
        ),
        (Thinking("high"), Thinks.EFFORT, {"reasoning_effort": "high"}, []),
        (Thinking(on=False), Thinks.EFFORT, {"reasoning_effort": "none"}, []),
        (Thinking(budget=2000), Thinks.EFFORT, {"reasoning_effort": "low"}, ["thinking.budget"]),
        (Thinking(on=True), Thinks.EFFORT, None, ["thinking"]),
        (Thinking("high"), Thinks.NEVER, None, ["thinking"]),
        (Thinking("none"), Thinks.NEVER, None, []),
        (Thinking(), Thinks.BUDGET, None, []),
    ],
)
def test_models_are_told_to_reason_in_their_own_words(
    thinking: Thinking, thinks: Thinks, fields: Any, lost: list[str]
) -> None:
    body, losses = written(asked(HI, thinking=thinking), Profile(thinks=thinks))
    assert body.get("additionalModelRequestFields") == fields
    assert losses == [Loss(LossKind.KNOB, where) for where in lost]


def test_a_budget_stays_below_the_cap_on_the_answer() -> None:
    profile = Profile(thinks=Thinks.BUDGET)
    body, losses = written(asked(HI, thinking=Thinking("high"), max_output=4000), profile)
    assert body["additionalModelRequestFields"]["thinking"]["budget_tokens"] == 2000
    assert losses == [Loss(LossKind.KNOB, "thinking.effort")]
    body, losses = written(asked(HI, thinking=Thinking("high"), max_output=500), profile)
    assert "additionalModelRequestFields" not in body
    assert losses == [Loss(LossKind.KNOB, "thinking.effort")]


def test_a_model_without_tuning_knobs_is_sent_none() -> None:
    asking = asked(HI, sampling=Sampling(temperature=0.5, top_p=0.5, top_k=5), max_text=7)
    body, losses = written(asking, Profile(sampling=False))
    assert body == {"messages": [{"role": "user", "content": [{"text": "hi"}]}], "inferenceConfig": {"maxTokens": 7}}
    assert [loss.where for loss in losses] == ["sampling.temperature", "sampling.top_p", "sampling.top_k"]


def test_proofs_of_others_come_back_with_the_next_request() -> None:
    """What a client keeps of an answer and sends again is what the provider of another dialect had given."""
    other = "gemini_generate"
    parts: tuple[Part, ...] = (
        Reasoning("hm", Seal(other, "one")),
        Reasoning("", Seal(other, "two"), hidden=True),
        Text("a", seal=Seal(other, "three")),
        ToolCall("1", "f", '{"a":1}', seal=Seal(other, "größe")),
        ToolCall("2", "f", "{}"),
    )
    reply = Reply(choices=(Choice(0, parts, Finish(Reason.TOOL_CALLS)),))
    message = json.loads(encode_reply(reply, ANSWERING).body)["output"]["message"]
    thoughts = [block["reasoningContent"] for block in message["content"] if "reasoningContent" in block]
    redacted = [thought["redactedContent"] for thought in thoughts if "redactedContent" in thought]
    assert len(redacted) == 3
    assert all(base64.b64decode(text, validate=True) for text in redacted)
    (turn,) = decode_request(bytes(raw({"messages": [message]}))).messages
    assert isinstance(turn, Message)
    assert turn.parts == parts


def test_a_result_that_was_json_is_text_elsewhere_and_json_again_here() -> None:
    body = {"messages": [{"role": "user", "content": [{"toolResult": {"toolUseId": "1", "content": [{"json": [1]}]}}]}]}
    conversation = decode_request(json.dumps(body).encode())
    (turn,) = conversation.messages
    assert isinstance(turn, Message)
    (answered,) = turn.parts
    assert isinstance(answered, ToolResult)
    (text,) = answered.parts
    assert isinstance(text, Text)
    assert text.text == "[1]"
    assert written(conversation) == (body, [])
    changed = msgspec.structs.replace(text, text="[redacted")
    again = asked(msgspec.structs.replace(turn, parts=(msgspec.structs.replace(answered, parts=(changed,)),)))
    assert written(again)[0]["messages"][0]["content"][0]["toolResult"]["content"] == [{"text": "[redacted"}]


def test_words_of_the_system_that_stood_among_the_messages_stay_there() -> None:
    body = {"messages": [{"role": "user", "content": [{"text": "a"}]}, {"role": "system", "content": [{"text": "b"}]}]}
    conversation = decode_request(json.dumps(body).encode())
    assert conversation.messages[1] == Message(Role.SYSTEM, (Text("b"),), rest=(Extra(US, ("role",), raw("system")),))
    assert written(conversation) == (body, [])
