"""A Converse request keeps its meaning through the pivot, and its every member: unknown is a value."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from bedrock_kit import FORMS, SERVICE, US, bare, broken, conversations, of, outcome, raw
from botocore.validate import ParamValidator
from hypothesis import given, settings
from hypothesis import strategies as st

from ostiary.core.fault import Fault, Kind
from ostiary.wire.conversation.conversation import Call, Conversation, Message, Role, Thinking, Tool, ToolChoice
from ostiary.wire.conversation.parts import (
    Audio,
    Cache,
    Document,
    Image,
    Inline,
    Reasoning,
    Seal,
    Stored,
    Text,
    ToolCall,
    ToolResult,
    UnknownPart,
)
from ostiary.wire.conversation.unknown import Extra
from ostiary.wire.dialects.bedrock_converse.request import decode_request, encode_count, encode_request
from ostiary.wire.dialects.bedrock_converse.wire import DIALECT
from ostiary.wire.profile import ANY, Profile, Thinks

REQUESTS = of("ConverseRequest") | of("ConverseStreamRequest")
EFFORTS = st.sampled_from(["low", "medium", "high"])


def again(body: dict[str, Any], profile: Profile = ANY) -> Any:
    """A body through the pivot and back; nothing may be lost."""
    encoded = encode_request(decode_request(json.dumps(body).encode()), profile)
    assert encoded.losses == ()
    return json.loads(encoded.body)


@settings(max_examples=40)  # these bodies are large
@given(request=REQUESTS)
def test_every_member_of_a_request_of_the_service_model_comes_back(request: dict[str, Any]) -> None:
    assert again(request) == request


@given(conversation=conversations(st.builds(Thinking, st.none() | EFFORTS)))
def test_a_conversation_comes_back_equal(conversation: Conversation) -> None:
    encoded = encode_request(conversation, ANY)
    assert encoded.losses == ()
    assert decode_request(encoded.body) == conversation


@given(
    thinking=st.builds(Thinking, st.none() | EFFORTS, on=st.just(True), adaptive=st.just(True))
    | st.builds(Thinking, on=st.just(False))
)
def test_adaptive_thinking_comes_back_equal(thinking: Thinking) -> None:
    conversation = Conversation(model="", messages=(), thinking=thinking)
    encoded = encode_request(conversation, Profile(thinks=Thinks.ADAPTIVE))
    assert (decode_request(encoded.body), encoded.losses) == (conversation, ())


@given(thinking=st.builds(Thinking, budget=st.integers(1024, 9999), on=st.just(True)))
def test_a_budget_for_thinking_comes_back_equal(thinking: Thinking) -> None:
    conversation = Conversation(model="", messages=(), thinking=thinking)
    encoded = encode_request(conversation, Profile(thinks=Thinks.BUDGET))
    assert (decode_request(encoded.body), encoded.losses) == (conversation, ())


@settings(max_examples=40)  # these bodies are large
@given(request=broken(REQUESTS))
def test_what_is_not_of_the_documented_shape_is_a_conversation_or_a_refusal(request: Any) -> None:
    conversation, fault = outcome(lambda: decode_request(json.dumps(request).encode()))
    assert fault in (None, Kind.INVALID_REQUEST)
    if conversation is None:
        return
    encoded, fault = outcome(lambda: encode_request(conversation, ANY))
    assert fault in (None, Kind.INVALID_REQUEST)
    if encoded is not None:
        assert decode_request(encoded.body) == conversation or encoded.losses


@settings(max_examples=40)  # these bodies are large
@given(body=st.binary(max_size=60) | REQUESTS.map(lambda body: json.dumps(body).encode()[:-4] + b"]}}"))
def test_arbitrary_bytes_are_a_conversation_or_a_fault(body: bytes) -> None:
    value, fault = outcome(lambda: decode_request(body))
    assert isinstance(value, Conversation) or fault in (Kind.MALFORMED, Kind.INVALID_REQUEST)


@pytest.mark.parametrize("depth", [64, 500, 900, 950, 980, 990, 1000, 100_000])
@pytest.mark.parametrize(
    "place",
    [
        "%s",
        '{"messages":%s}',
        '{"messages":[{"role":"user","content":[%s]}]}',
        '{"messages":[{"role":"assistant","content":[{"toolUse":{"toolUseId":"1","name":"f","input":%s}}]}]}',
        '{"messages":[{"role":"user","content":[{"toolResult":{"toolUseId":"1","content":[{"json":%s}]}}]}]}',
        '{"additionalModelRequestFields":%s}',
        '{"toolConfig":{"tools":[{"toolSpec":{"name":"f","inputSchema":{"json":%s}}}]}}',
    ],
)
@pytest.mark.parametrize("pair", ["[]", "{}"])
def test_dos_01_deep_nesting_is_a_value_or_a_fault(depth: int, place: str, pair: str) -> None:
    nest = "[" * depth + "]" * depth if pair == "[]" else '{"a":' * depth + "1" + "}" * depth
    value, fault = outcome(lambda: encode_request(decode_request((place % nest).encode()), ANY))
    assert fault in (None, Kind.MALFORMED, Kind.INVALID_REQUEST)
    assert value is None or value.body


@given(conversation=conversations(st.builds(Thinking, st.none() | EFFORTS)))
def test_botocore_would_send_what_is_written(conversation: Conversation) -> None:
    body = json.loads(encode_request(bare(conversation), ANY).body)
    report = ParamValidator().validate({"modelId": "m", **body}, SERVICE.shape_for("ConverseRequest"))
    assert not report.has_errors(), report.generate_report()


def test_what_a_request_says_is_what_the_pivot_knows() -> None:
    body: dict[str, Any] = {
        "system": [{"text": "be brief"}, {"cachePoint": {"type": "default", "ttl": "1h"}}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"text": "look"},
                    {"image": {"format": "png", "source": {"bytes": "AAAA"}}},
                    {"image": {"format": "png", "source": {"s3Location": {"uri": "s3://b/k"}}}},
                    {"document": {"format": "pdf", "name": "a", "source": {"bytes": "BBBB"}}},
                    {"document": {"name": "b", "source": {"text": "words"}}},
                    {"video": {"format": "mp4", "source": {"bytes": "CCCC"}}},
                    {"audio": {"format": "mp3", "source": {"bytes": "DDDD"}}},
                    {"cachePoint": {"type": "default"}},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "sig"}}},
                    {"reasoningContent": {"redactedContent": "RRRR"}},
                    {"toolUse": {"toolUseId": "1", "name": "f", "input": {"a": 1}}},
                    {"toolUse": {"toolUseId": "2", "name": "g", "input": {}}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"toolResult": {"toolUseId": "1", "content": [{"text": "r"}], "status": "error"}},
                    {"toolResult": {"toolUseId": "2", "content": [{"json": {"b": 2}}]}},
                    {"text": "go on"},
                ],
            },
        ],
        "inferenceConfig": {"maxTokens": 5, "temperature": 0.5, "topP": 0.9, "stopSequences": ["END"]},
        "toolConfig": {
            "tools": [
                {"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}}},
                {"cachePoint": {"type": "default"}},
            ],
            "toolChoice": {"tool": {"name": "f"}},
        },
        "additionalModelRequestFields": {"top_k": 3, "thinking": {"type": "enabled", "budget_tokens": 2000}},
        "requestMetadata": {"team": "a"},
        "serviceTier": {"type": "flex"},
        "guardrailConfig": {"guardrailIdentifier": "g"},
    }
    conversation = decode_request(bytes(raw(body)))
    system, user, said, first, second, more = conversation.messages
    assert system == Message(Role.SYSTEM, (Text("be brief", cache=Cache("1h")),))
    assert isinstance(user, Message)
    form = Extra(US, ("image", "format"), raw("png"))
    text_mark = Extra(US, ("document", "source"), raw({}))
    assert user.parts == (
        Text("look"),
        Image(Inline("image/png", "AAAA")),
        Image(Stored("s3://b/k", US), rest=(form,)),
        Document(Inline("application/pdf", "BBBB"), "a"),
        Document(Inline("text/plain", "d29yZHM="), "b", (text_mark,)),
        Document(Inline("video/mp4", "CCCC")),
        Audio(Inline("audio/mpeg", "DDDD"), cache=Cache()),
    )
    assert isinstance(said, Message)
    assert said.parts == (
        Reasoning("hm", Seal(US, "sig")),
        Reasoning("", Seal(US, "RRRR"), hidden=True),
        ToolCall("1", "f", '{"a":1}'),
        ToolCall("2", "g", "{}"),
    )
    assert first == Message(Role.TOOL, (ToolResult("1", (Text("r"),), failed=True),))
    json_mark = Extra(US, ("json",), raw({}))
    assert second == Message(Role.TOOL, (ToolResult("2", (Text('{"b":2}', (json_mark,)),)),))
    assert more == Message(Role.USER, (Text("go on"),))
    assert conversation.tools == (Tool("f", None, raw({"type": "object"}), cache=Cache()),)
    assert conversation.tool_choice == ToolChoice(Call.REQUIRED, ("f",))
    assert conversation.thinking == Thinking(budget=2000, on=True)
    assert (conversation.max_output, conversation.stop, conversation.sampling.top_k) == (5, ("END",), 3)
    assert (conversation.tier, conversation.metadata) == ("flex", {"team": "a"})
    guardrails = Extra(US, ("guardrailConfig",), raw({"guardrailIdentifier": "g"}), binding=True)
    assert conversation.rest == (guardrails,)
    body["inferenceConfig"] = {"maxTokens": 5, "topP": 0.95, "stopSequences": ["END"]}  # what goes with reasoning
    body["additionalModelRequestFields"] = {"thinking": {"type": "enabled", "budget_tokens": 2000}}
    assert again(body, Profile(thinks=Thinks.BUDGET)) == body


@pytest.mark.parametrize(
    "block",
    [
        {"text": "a", "image": {"format": "png", "source": {"bytes": "AA"}}},
        {"text": None},
        {},
        5,
        {"image": {"format": "bmp", "source": {"bytes": "AA"}}},
        {"toolUse": {"toolUseId": "1", "name": "f", "input": {}, "type": "server_tool_use"}},
        {"document": {"name": "n", "source": {"content": [{"text": "a"}]}}},
        {"searchResult": {"source": "s", "title": "t", "content": [{"text": "a"}]}},
        {"cachePoint": {"type": "default", "ttl": "9h"}},
        {"reasoningContent": {"reasoningText": {}}},
        {"citationsContent": {"content": [{"image": 1}]}},
    ],
)
def test_blocks_nobody_knows_come_back_as_they_were(block: Any) -> None:
    body = {"messages": [{"role": "user", "content": [{"text": "a"}, block]}]}
    (turn,) = decode_request(json.dumps(body).encode()).messages
    assert isinstance(turn, Message)
    assert isinstance(turn.parts[1], UnknownPart)
    assert again(body) == body


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": []},
        {"system": [], "messages": []},
        {"messages": None},
        {"messages": [{"role": "critic", "content": []}]},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "user", "content": []}]},
        {"messages": [{"role": "user", "content": [{"text": ""}]}]},
        {"inferenceConfig": {"maxTokens": "5", "stopSequences": []}},
        {"toolConfig": {"tools": []}},
        {"toolConfig": {"tools": [{"toolSpec": {"name": "f"}}], "toolChoice": {"auto": {"x": 1}}}},
        {"toolConfig": {"tools": [{"cachePoint": {"type": "default"}}], "toolChoice": {"any": {}}}},
        {"serviceTier": {"type": "platinum"}},
        {"outputConfig": {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"schema": "no"}}}}},
        {"additionalModelRequestFields": {"thinking": {"type": "enabled"}}},
        {"requestMetadata": {"a": 1}},
    ],
)
def test_odd_requests_come_back_too(body: dict[str, Any]) -> None:
    if body == {"messages": None}:
        with pytest.raises(Fault):
            again(body)
    else:
        assert again(body) == body


def test_the_body_of_a_count_holds_the_conversation_within() -> None:
    asked = {"messages": [{"role": "user", "content": [{"text": "a"}]}], "system": [{"text": "s"}]}
    conversation = decode_request(json.dumps({"input": {"converse": asked}}).encode())
    assert conversation == decode_request(json.dumps(asked).encode())
    capped = msgspec.structs.replace(conversation, max_output=5)
    assert json.loads(encode_count(capped, ANY).body) == {"input": {"converse": asked}}


@pytest.mark.parametrize(
    ("members", "cap"),
    [
        ({}, None),
        ({"inferenceConfig": {"maxTokens": 7}}, 7),
        ({"inferenceConfig": {}}, None),
        ({"inferenceConfig": None}, None),
    ],
)
def test_the_cap_on_output_governs_and_there_is_no_end_user(members: dict[str, Any], cap: int | None) -> None:
    assert tuple(DIALECT.peek({name: raw(value) for name, value in members.items()})) == (cap, "")


@pytest.mark.parametrize("value", [5, {"maxTokens": "5"}, {"maxTokens": -1}])
def test_a_cap_that_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(Fault) as caught:
        DIALECT.peek({"inferenceConfig": raw(value)})
    assert caught.value.kind is Kind.INVALID_REQUEST


@pytest.mark.parametrize(
    ("model", "segment"),
    [
        ("anthropic.claude-v2:1", "anthropic.claude-v2%3A1"),
        ("arn:aws:bedrock:eu:1:inference-profile/x", "arn%3Aaws%3Abedrock%3Aeu%3A1%3Ainference-profile%2Fx"),
        ("../..", "..%2F.."),
        ("é?#", "%C3%A9%3F%23"),
    ],
)
def test_a_model_is_one_segment_of_the_path(model: str, segment: str) -> None:
    assert DIALECT.path(model, False) == f"/model/{segment}/converse"
    assert DIALECT.path(model, True) == f"/model/{segment}/converse-stream"


@pytest.mark.parametrize("model", ["", ".", ".."])
def test_a_model_that_would_be_no_segment_is_refused(model: str) -> None:
    with pytest.raises(Fault):
        DIALECT.path(model, False)


def test_the_forms_of_the_kit_are_shapes_of_the_service() -> None:
    assert set(FORMS) <= set(SERVICE.shape_names)
