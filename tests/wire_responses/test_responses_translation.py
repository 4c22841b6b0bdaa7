"""What conversations of other dialects become here: said, declared lost, or refused."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from responses_kit import body_of, raw

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
from ostiary.wire.conversation.unknown import Extra, Loss, LossKind, losses_of
from ostiary.wire.dialects.openai_responses.request import decode_request, encode_request
from ostiary.wire.dialects.openai_responses.wire import DIALECT
from ostiary.wire.profile import ANY, Profile, Thinks

OTHERS = Extra("anthropic_messages", ("cache_control",), raw({"type": "ephemeral"}))


def said(*parts: Part, role: Role = Role.ASSISTANT, **more: Any) -> Conversation:
    return Conversation(model="m", messages=(Message(role, parts, **more),))


def asking(**more: Any) -> Conversation:
    return Conversation(model="m", messages=(), **more)


def body(conversation: Conversation, profile: Profile = ANY) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(encode_request(conversation, profile).body)
    return document


def test_a_conversation_of_another_dialect_becomes_items() -> None:
    conversation = Conversation(
        model="m",
        messages=(
            Message(Role.SYSTEM, (Text("be brief"),)),
            Message(Role.USER, (Text("look"), Image(Inline("image/png", "AAAA"), "low"))),
            Message(
                Role.ASSISTANT,
                (
                    Reasoning("mine", Seal("openai_responses", "ENC")),
                    Text("I see"),
                    ToolCall("1", "f", "{}"),
                    ToolCall("2", "g", "free", free=True),
                ),
            ),
            Message(Role.TOOL, (ToolResult("1", (Text("r"),)),)),
            Message(Role.TOOL, (ToolResult("2", (Text("r"), Document(Link("https://e.x/a.pdf"), "a.pdf"))),)),
        ),
        tools=(Tool("f", "does f", raw({"type": "object"})), Tool("g", strict=True)),
        tool_choice=ToolChoice(Call.AUTO, ("f", "g")),
        format=Format(Shape.SCHEMA, "n", None, raw({"type": "object"}), True),
        max_text=9,
        logprobs=True,
        top_logprobs=3,
        user="u",
    )
    encoded = encode_request(conversation, ANY)
    assert encoded.losses == ()
    assert json.loads(encoded.body) == {
        "model": "m",
        "instructions": "be brief",
        "input": [
            {
                "type": "message",
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "look"},
                    {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"},
                ],
            },
            {
                "type": "reasoning",
                "summary": [{"type": "summary_text", "text": "mine"}],
                "encrypted_content": "ENC",
            },
            {"type": "message", "role": "assistant", "content": "I see"},
            {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
            {"type": "custom_tool_call", "call_id": "2", "name": "g", "input": "free"},
            {"type": "function_call_output", "call_id": "1", "output": "r"},
            {
                "type": "custom_tool_call_output",
                "call_id": "2",
                "output": [
                    {"type": "input_text", "text": "r"},
                    {"type": "input_file", "file_url": "https://e.x/a.pdf", "filename": "a.pdf"},
                ],
            },
        ],
        "tools": [
            {
                "type": "function",
                "name": "f",
                "description": "does f",
                "parameters": {"type": "object"},
                "strict": False,
            },
            {"type": "function", "name": "g", "strict": True},
        ],
        "tool_choice": {
            "type": "allowed_tools",
            "mode": "auto",
            "tools": [{"type": "function", "name": "f"}, {"type": "function", "name": "g"}],
        },
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}},
        "max_output_tokens": 9,
        "include": ["message.output_text.logprobs"],
        "top_logprobs": 3,
        "safety_identifier": "u",
    }


def test_what_a_request_says_is_what_the_pivot_knows() -> None:
    conversation = decode_request(
        body_of(
            {
                "model": "m",
                "instructions": "be brief",
                "input": [
                    {"role": "developer", "content": "and kind"},
                    {
                        "role": "user",
                        "content": [
                            {"type": "input_text", "text": "look", "prompt_cache_breakpoint": {"mode": "explicit"}},
                            {"type": "input_image", "file_id": "file-1", "detail": "high"},
                            {"type": "input_file", "file_data": "data:application/pdf;base64,CC", "filename": "a"},
                            {"type": "input_audio", "input_audio": {"data": "BB", "format": "mp3"}},
                        ],
                    },
                    {"type": "reasoning", "summary": [], "encrypted_content": "ENC"},
                    {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
                    {"type": "function_call_output", "call_id": "1", "output": "r"},
                    {"type": "item_reference", "id": "msg_1"},
                ],
                "tools": [{"type": "function", "name": "f"}, {"type": "web_search"}],
                "tool_choice": {"type": "function", "name": "f"},
                "reasoning": {"effort": "low", "summary": "auto"},
                "include": ["message.output_text.logprobs"],
                "previous_response_id": "resp_0",
                "service_tier": "flex",
                "store": True,
                "text": {"format": {"type": "json_object"}, "verbosity": "low"},
                "user": "old",
                "safety_identifier": "new",
            }
        )
    )
    system, developer, user, assistant, tool, reference = conversation.messages
    assert system == Message(Role.SYSTEM, (Text("be brief"),))
    assert isinstance(developer, Message)
    assert (developer.role, developer.parts) == (Role.DEVELOPER, (Text("and kind"),))
    assert isinstance(user, Message)
    assert user.parts == (
        Text("look", cache=Cache()),
        Image(Stored("file-1", "openai_responses"), "high"),
        Document(Inline("application/pdf", "CC"), "a"),
        Audio(Inline("audio/mpeg", "BB")),
    )
    assert assistant == Message(
        Role.ASSISTANT,
        (Reasoning("", Seal("openai_responses", "ENC"), hidden=True), ToolCall("1", "f", "{}")),
    )
    assert tool == Message(Role.TOOL, (ToolResult("1", (Text("r"),)),))
    assert isinstance(reference, UnknownMessage)
    assert conversation.tool_choice == ToolChoice(Call.REQUIRED, ("f",))
    assert conversation.thinking == Thinking("low", shown="auto")
    assert (conversation.logprobs, conversation.previous, conversation.tier) == (True, "resp_0", "flex")
    assert (conversation.user, conversation.format) == ("new", Format(Shape.JSON))
    left = {extra.path: extra.binding for extra in conversation.rest}
    assert left == {("text", "verbosity"): False, ("user",): False}


@pytest.mark.parametrize(
    ("thinking", "profile", "reasoning", "lost"),
    [
        (Thinking("high"), ANY, {"effort": "high"}, []),
        (Thinking(budget=2048), ANY, {"effort": "low"}, ["thinking.budget"]),
        (Thinking(budget=8192, on=True), ANY, {"effort": "medium"}, ["thinking.budget"]),
        (Thinking(budget=8193), ANY, {"effort": "high"}, ["thinking.budget"]),
        (Thinking(on=True, adaptive=True), ANY, {"effort": "medium"}, ["thinking.adaptive"]),
        (Thinking(on=False), ANY, {"effort": "none"}, []),
        (Thinking("low", shown="detailed"), ANY, {"effort": "low", "summary": "detailed"}, []),
        (Thinking(shown="none"), ANY, None, []),
        (Thinking("low", shown="auto"), Profile(thinks=Thinks.NEVER), None, ["thinking.effort", "thinking.shown"]),
        (Thinking(), ANY, None, []),
    ],
)
def test_reasoning_is_asked_for_in_the_words_of_this_dialect(
    thinking: Thinking, profile: Profile, reasoning: dict[str, str] | None, lost: list[str]
) -> None:
    encoded = encode_request(asking(thinking=thinking), profile)
    document = json.loads(encoded.body)
    assert document.get("reasoning") == reasoning
    assert list(encoded.losses) == [Loss(LossKind.KNOB, name) for name in lost]
    used = reasoning is not None and reasoning.get("effort", "none") != "none"
    assert document.get("include") == (["reasoning.encrypted_content"] if used else None)


def test_reasoning_that_the_provider_stores_need_not_be_sent_along() -> None:
    assert "include" not in body(asking(thinking=Thinking("low"), store=True))
    assert body(asking(thinking=Thinking("low"), store=False))["include"] == ["reasoning.encrypted_content"]


def test_a_client_that_asked_for_no_proofs_gets_none() -> None:
    asked = {"model": "m", "input": "hi", "reasoning": {"effort": "low"}}
    assert body(decode_request(body_of(asked))) == asked


def test_a_model_without_reasoning_gets_no_words_about_it() -> None:
    asked = {"model": "m", "input": "hi", "reasoning": {"effort": "low", "mode": "pro"}, "temperature": 1}
    encoded = encode_request(
        decode_request(body_of(asked)), Profile(thinks=Thinks.NEVER, sampling=False, developer=False)
    )
    assert json.loads(encoded.body) == {"model": "m", "input": "hi"}
    assert {loss.where for loss in encoded.losses} == {"thinking.effort", "reasoning.mode", "sampling.temperature"}


def test_a_model_that_knows_no_developer_is_spoken_to_by_the_system() -> None:
    conversation = said(Text("be brief"), role=Role.DEVELOPER)
    assert body(conversation, Profile(developer=False))["input"][0]["role"] == "system"
    assert body(conversation)["input"][0]["role"] == "developer"


@pytest.mark.parametrize(
    ("conversation", "losses"),
    [
        (asking(sampling=Sampling(top_k=5)), [Loss(LossKind.KNOB, "sampling.top_k")]),
        (asking(sampling=Sampling(seed=5)), [Loss(LossKind.KNOB, "sampling.seed")]),
        (
            asking(sampling=Sampling(frequency_penalty=1, presence_penalty=1)),
            [Loss(LossKind.KNOB, "sampling.frequency_penalty"), Loss(LossKind.KNOB, "sampling.presence_penalty")],
        ),
        (asking(rest=(OTHERS,)), [Loss(LossKind.UNKNOWN, "cache_control")]),
        (said(Text("a", (OTHERS,))), [Loss(LossKind.UNKNOWN, "messages.0.parts.0.cache_control")]),
        (said(Text("a"), name="ann"), [Loss(LossKind.MARK, "messages.0.name")]),
        (said(Text("a", seal=Seal("gemini_generate", "sig"))), [Loss(LossKind.SEAL, "messages.0.parts.0")]),
        (
            said(ToolCall("1", "f", "", seal=Seal("gemini_generate", "sig"), cache=Cache())),
            [Loss(LossKind.SEAL, "messages.0.parts.0"), Loss(LossKind.MARK, "messages.0.parts.0.cache")],
        ),
        (said(Text("a", citations=(Citation(quote="q"),))), [
            Loss(LossKind.MARK, "messages.0.parts.0.citations.0.quote"),
            Loss(LossKind.MARK, "messages.0.parts.0.citations.0"),
        ]),
        (
            said(ToolResult("1", (Text("x"),), failed=True, cache=Cache()), role=Role.TOOL),
            [Loss(LossKind.MARK, "messages.0.parts.0.failed"), Loss(LossKind.MARK, "messages.0.parts.0.cache")],
        ),
        (
            said(Text("x", cache=Cache("5m")), role=Role.USER),
            [Loss(LossKind.KNOB, "messages.0.parts.0.cache.ttl")],
        ),
        (asking(tools=(Tool("f", cache=Cache()),)), [Loss(LossKind.MARK, "tools.0.cache")]),
        (
            Conversation(model="m", messages=(Message(Role.ASSISTANT, (Text("a"),)),) * 2),
            [Loss(LossKind.SHAPE, "messages.1")],
        ),
        (asking(choices=1, stream_usage=True), []),
    ],
)  # fmt: skip
def test_what_cannot_be_said_and_is_no_content_is_a_declared_loss(
    conversation: Conversation, losses: list[Loss]
) -> None:
    encoded = encode_request(conversation, ANY)
    assert list(encoded.losses) == losses
    assert b"ephemeral" not in encoded.body
    assert b"sig" not in encoded.body


@pytest.mark.parametrize(
    "thought",
    [
        Reasoning("thought"),
        Reasoning("thought", Seal("anthropic_messages", "sig")),
        Reasoning("", Seal("anthropic_messages", "sig"), hidden=True),
    ],
)
def test_reasoning_that_the_model_cannot_know_as_its_own_stays_behind(thought: Reasoning) -> None:
    encoded = encode_request(said(thought, Text("b")), ANY)
    assert encoded.losses == (Loss(LossKind.SEAL, "messages.0.parts.0"),)
    assert [item["type"] for item in json.loads(encoded.body)["input"]] == ["message"]


def test_reasoning_of_others_is_dropped_although_a_client_of_this_dialect_kept_it() -> None:
    proof = carry(Seal("anthropic_messages", "sig"))
    ahead = carry(Seal("gemini_generate", "sig"), ahead=True)
    conversation = decode_request(
        body_of(
            {
                "model": "m",
                "input": [
                    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": proof},
                    {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": ahead},
                    {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
                ],
            }
        )
    )
    (turn,) = conversation.messages
    assert isinstance(turn, Message)
    thought, call = turn.parts
    assert isinstance(thought, Reasoning)
    assert thought.seal == Seal("anthropic_messages", "sig")
    assert call == ToolCall("1", "f", "{}", seal=Seal("gemini_generate", "sig"))
    encoded = encode_request(conversation, ANY)
    assert [loss.kind for loss in encoded.losses] == [LossKind.SEAL, LossKind.SEAL]
    assert [item["type"] for item in json.loads(encoded.body)["input"]] == ["function_call"]


FOREIGN = UnknownPart("gemini_generate", "parts", raw({"executableCode": {}}))


@pytest.mark.parametrize(
    "conversation",
    [
        said(FOREIGN, role=Role.USER),
        said(FOREIGN),
        said(Image(Stored("i", "anthropic_messages")), role=Role.USER),
        said(Document(Stored("i", "anthropic_messages")), role=Role.USER),
        said(Audio(Inline("audio/midi", "AA")), role=Role.USER),
        said(Image(Link("https://e.x/i"))),
        said(ToolResult("1", (Audio(Inline("audio/wav", "AA")),)), role=Role.TOOL),
        said(ToolResult("1", ()), role=Role.USER),
        said(ToolCall("1", "f", ""), role=Role.USER),
        said(Text("x"), role=Role.TOOL),
        Conversation(model="m", messages=(UnknownMessage("gemini_generate", raw({})),)),
        asking(rest=(msgspec.structs.replace(OTHERS, binding=True),)),
        asking(stop=("END",)),
        asking(choices=2),
    ],
)
def test_content_or_a_constraint_that_cannot_be_said_is_refused(conversation: Conversation) -> None:
    with pytest.raises(Fault) as caught:
        encode_request(conversation, ANY)
    assert (caught.value.kind, caught.value.retry) == (Kind.INVALID_REQUEST, Retry.NEXT)


def test_a_schema_that_the_model_cannot_keep_is_refused() -> None:
    conversation = asking(format=Format(Shape.SCHEMA, "n", schema=raw({})))
    assert "format" in body(conversation)["text"]
    with pytest.raises(Fault):
        encode_request(conversation, Profile(schema=False))


def test_marks_for_the_prompt_cache_are_said_where_the_model_takes_them() -> None:
    conversation = said(Text("x", cache=Cache("12h")), role=Role.USER)
    assert body(conversation)["input"][0]["content"] == [
        {"type": "input_text", "text": "x", "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "12h"}}
    ]
    encoded = encode_request(conversation, Profile(cache_marks=False))
    assert b"prompt_cache_breakpoint" not in encoded.body
    assert encoded.losses == (Loss(LossKind.MARK, "messages.0.parts.0.cache"),)


def test_constraints_of_this_dialect_bind_and_knobs_do_not() -> None:
    conversation = decode_request(
        body_of(
            {
                "model": "m",
                "input": "hi",
                "truncation": "auto",
                "conversation": "conv_1",
                "background": True,
                "max_tool_calls": 3,
                "prompt_cache_key": "k",
                "stream_options": {"include_obfuscation": False},
                "tool_choice": {"type": "web_search_preview"},
                "text": {"format": {"type": "grammar"}},
            }
        )
    )
    assert {".".join(extra.path): extra.binding for extra in conversation.rest if extra.path[0] != "is"} == {
        "truncation": True,
        "conversation": True,
        "background": True,
        "max_tool_calls": True,
        "prompt_cache_key": False,
        "stream_options": False,
        "tool_choice": True,
        "text.format": True,
    }
    harmless = decode_request(body_of({"model": "m", "truncation": "disabled", "background": False})).rest
    assert [extra.binding for extra in harmless] == [False, False]


def test_a_changed_text_is_what_is_sent() -> None:
    asked = decode_request(body_of({"model": "m", "input": "my secret", "instructions": "be brief"}))
    system, user = asked.messages
    assert isinstance(user, Message)
    changed = msgspec.structs.replace(
        asked, messages=(system, msgspec.structs.replace(user, parts=(Text("my ***"),)), user)
    )
    assert body(changed)["input"] == [
        {"type": "message", "role": "user", "content": "my ***"},
        {"type": "message", "role": "user", "content": "my secret"},
    ]
    assert body(msgspec.structs.replace(asked, messages=(system, Message(Role.USER, (Refusal("x"), Text("y"))))))


def test_the_dialect_is_a_row_of_the_route_table() -> None:
    spoken = [row for row in DIALECT.endpoints if row.operation is not Operation.RAW]
    assert [(row.name, row.operation, row.path, row.streams) for row in spoken] == [
        ("responses", Operation.CHAT, "/responses", True),
        ("responses.input_tokens", Operation.COUNT, "/responses/input_tokens", False),
    ]
    assert {row.dialect for row in DIALECT.endpoints} == {DIALECT.name}
    assert (DIALECT.path("any", True), DIALECT.ping) == ("/responses", b": ping\n\n")


def peeked(**members: Any) -> tuple[int | None, str]:
    found = DIALECT.peek({name: raw(value) for name, value in members.items()})
    return found.max_output, found.user


def test_what_governs_a_request_is_read_without_its_content() -> None:
    assert peeked() == (None, "")
    assert peeked(max_output_tokens=9, user="u") == (9, "u")
    assert peeked(max_output_tokens=None, user="u", safety_identifier="s") == (None, "s")
    for wrong in ({"max_output_tokens": "9"}, {"user": 5}, {"safety_identifier": []}):
        with pytest.raises(Fault) as caught:
            peeked(**wrong)
        assert caught.value.kind is Kind.INVALID_REQUEST


def test_how_the_service_knows_its_items_again_is_no_loss_elsewhere_and_comes_back_here() -> None:
    item = {"type": "message", "role": "assistant", "content": "a", "id": "msg_1", "status": "completed"}
    call = {
        "type": "function_call",
        "call_id": "c",
        "name": "f",
        "arguments": "{}",
        "id": "fc_1",
        "status": "completed",
    }
    result = {"type": "function_call_output", "call_id": "c", "output": "b", "id": "fo_1", "status": "completed"}
    body = {"model": "m", "input": [item, call, result], "include": ["reasoning.encrypted_content"]}
    conversation = decode_request(body_of(body))
    rests = [conversation.rest]
    for message in conversation.messages:
        assert isinstance(message, Message)
        rests += [message.rest, *(part.rest for part in message.parts if not isinstance(part, UnknownPart))]
    assert [loss for rest in rests for loss in losses_of(rest, "another", "")] == []
    assert json.loads(encode_request(conversation, ANY).body) == body
