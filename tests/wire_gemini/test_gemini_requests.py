"""What a request says to Gemini, and what Gemini's own requests mean, case by case."""

from __future__ import annotations

from typing import Any

import pytest
from gemini_kit import asked, body_of, raw, value_of

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
    UnknownTool,
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
from ostiary.wire.conversation.unknown import Extra, Loss, LossKind
from ostiary.wire.dialects.gemini_generate.wire import DIALECT
from ostiary.wire.profile import ANY, Profile, Thinks

UNCHECKED = "skip_thought_signature_validator"
FOREIGN = Seal("anthropic_messages", "s")


def sent(*messages: Message | UnknownMessage, profile: Profile = ANY, **more: Any) -> tuple[Any, list[Loss]]:
    found = DIALECT.encode_request(asked(*messages, **more), profile)
    return value_of(found.body), list(found.losses)


def user(*parts: Part, **more: Any) -> Message:
    return Message(Role.USER, parts, **more)


def model(*parts: Part) -> Message:
    return Message(Role.ASSISTANT, parts)


def tool(call_id: str, *parts: Any, failed: bool = False) -> Message:
    return Message(Role.TOOL, (ToolResult(call_id, parts, failed),))


def meant(**members: Any) -> Conversation:
    return DIALECT.decode_request(body_of({"contents": [], **members}))


def said(*parts: Any, role: str = "user") -> tuple[Part, ...]:
    (message,) = meant(contents=[{"role": role, "parts": list(parts)}]).messages
    assert isinstance(message, Message)
    return message.parts


# What is sent.


def test_a_tool_loop_of_another_dialect_is_told_in_turns_that_alternate() -> None:
    messages = [
        Message(Role.SYSTEM, (Text("brief"),)),
        user(Text("weather?")),
        model(Reasoning("hm", FOREIGN), ToolCall("a", "f", '{"x":1}', seal=FOREIGN), ToolCall("b", "g", "")),
        tool("b", Text("two")),
        tool("a", Text("one"), Image(Inline("image/png", "AAAA"))),
        user(Text("and now?")),
    ]
    document, losses = sent(*messages)
    assert document["systemInstruction"] == {"parts": [{"text": "brief"}]}
    assert [content["role"] for content in document["contents"]] == ["user", "model", "user"]
    assert document["contents"][1]["parts"] == [
        {"functionCall": {"id": "a", "name": "f", "args": {"x": 1}}, "thoughtSignature": UNCHECKED},
        {"functionCall": {"id": "b", "name": "g", "args": {}}},
    ]
    picture = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
    assert document["contents"][2]["parts"] == [
        {"functionResponse": {"id": "b", "name": "g", "response": {"result": "two"}}},
        {"functionResponse": {"id": "a", "name": "f", "response": {"result": "one"}, "parts": [picture]}},
        {"text": "and now?"},
    ]
    assert losses == [
        Loss(LossKind.SEAL, "messages.2.parts.0"),
        Loss(LossKind.SEAL, "messages.2.parts.1"),
        Loss(LossKind.SHAPE, "messages.2.parts.2.arguments"),
    ]


def test_words_that_are_none_are_left_out() -> None:
    document, _ = sent(
        Message(Role.SYSTEM, (Text(""),)), user(Text("a"), Text("")), model(Text(""), ToolCall("1", "f", "{}")),
        tool("1", Text("")), model(Text("")), user(Text("b")),
    )  # fmt: skip
    assert "systemInstruction" not in document
    assert [len(content["parts"]) for content in document["contents"]] == [1, 1, 2]


def test_only_the_first_call_of_each_turn_without_a_proof_asks_not_to_be_checked() -> None:
    def signatures(*parts: Part, profile: Profile = ANY) -> list[str | None]:
        document, _ = sent(model(*parts), profile=profile)
        return [part.get("thoughtSignature") for part in document["contents"][0]["parts"]]

    first, second = ToolCall("a", "f", "{}"), ToolCall("b", "f", "{}")
    own = ToolCall("c", "f", "{}", seal=Seal(DIALECT.name, "QUJD"))
    assert signatures(Text("x"), first, second) == [None, UNCHECKED, None]
    assert signatures(own, second) == ["QUJD", None]
    assert signatures(first, second, profile=Profile(thinks=Thinks.NEVER)) == [None, None]
    document, _ = sent(model(first), tool("a", Text("1")), model(second))
    assert document["contents"][2]["parts"][0]["thoughtSignature"] == UNCHECKED


@pytest.mark.parametrize(
    ("messages", "losses"),
    [
        ([user(Text("a")), user(Text("b"))], [Loss(LossKind.SHAPE, "messages.1")]),
        ([model(Text("a")), model(Image(Inline("image/png", "")))], [Loss(LossKind.SHAPE, "messages.1")]),
        ([model(Text("a"), Text("b"))], [Loss(LossKind.SHAPE, "messages.0")]),
        ([user(Text("a"), Text(""))], [Loss(LossKind.SHAPE, "messages.0")]),
        ([Message(Role.SYSTEM, (Text(""),)), user(Text("a"))], [Loss(LossKind.SHAPE, "messages.0")]),
        ([user(Text("a"), name="ann")], [Loss(LossKind.MARK, "messages.0.name")]),
        ([user(Text("a")), Message(Role.SYSTEM, (Text("b"),))], [Loss(LossKind.SHAPE, "messages.1")]),
        ([Message(Role.DEVELOPER, (Text("b"),))], [Loss(LossKind.SHAPE, "messages.0")]),
        ([user(Text("a", cache=Cache("5m")))], [Loss(LossKind.MARK, "messages.0.parts.0.cache")]),
        ([user(Image(Inline("image/png", ""), "low"))], [Loss(LossKind.KNOB, "messages.0.parts.0.detail")]),
        ([user(Document(Inline("a/b", ""), "n"))], [Loss(LossKind.MARK, "messages.0.parts.0.name")]),
        ([model(Refusal("no"))], [Loss(LossKind.MARK, "messages.0.parts.0")]),
        ([model(Text("a", seal=FOREIGN))], [Loss(LossKind.SEAL, "messages.0.parts.0")]),
        ([model(Text("a", citations=(Citation("u"),)))], [Loss(LossKind.MARK, "messages.0.parts.0.citations")]),
        ([user(Text("a", (Extra("openai_chat", ("x",), raw(1)),)))], [Loss(LossKind.UNKNOWN, "messages.0.parts.0.x")]),
    ],
)
def test_what_the_history_loses_is_told(messages: list[Message], losses: list[Loss]) -> None:
    assert sent(*messages)[1] == losses


@pytest.mark.parametrize(
    ("more", "losses"),
    [
        ({"user": "u", "store": True}, ["user", "store"]),
        ({"store": False}, []),  # nothing is stored anyway
        ({"metadata": {"Name": "x", "ok": "y"}}, ["metadata"]),
        ({"tier": "scale"}, ["tier"]),
        ({"tier": "auto", "stream": True, "stream_usage": True, "parallel_calls": True}, []),
        ({"tools": (Tool("f", strict=True),)}, ["tools.0.strict"]),
        ({"thinking": Thinking("max")}, ["thinking.effort"]),
        ({"thinking": Thinking("low", budget=5)}, ["thinking.budget"]),
        ({"thinking": Thinking(shown="detailed")}, ["thinking.shown"]),
    ],
)
def test_knobs_that_are_dropped_are_told(more: dict[str, Any], losses: list[str]) -> None:
    assert sent(**more)[1] == [Loss(LossKind.KNOB, where) for where in losses]


@pytest.mark.parametrize(
    ("message", "where"),
    [
        (model(ToolCall("a", "f", "not json")), "messages.0.parts.0.arguments"),
        (model(ToolCall("a", "f", "[1]")), "messages.0.parts.0.arguments"),
        (model(ToolCall("a", "f", "{}", free=True)), "messages.0.parts.0.arguments"),
        (tool("unheard of", Text("x")), "messages.0.parts.0.call_id"),
        (user(Image(Stored("file-1", "openai_chat"))), "messages.0.parts.0"),
        (user(Image(Link("https://example.com/picture"))), "messages.0.parts.0"),
        (user(UnknownPart("openai_chat", "content", raw({}))), "messages.0.parts.0"),
        (UnknownMessage("openai_chat", raw({})), "messages.0"),
    ],
)
def test_content_that_cannot_be_said_is_refused(message: Message | UnknownMessage, where: str) -> None:
    with pytest.raises(Fault) as caught:
        sent(message)
    assert (caught.value.kind, caught.value.retry, caught.value.param) == (Kind.INVALID_REQUEST, Retry.NEXT, where)


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ({"previous": "resp_1"}, "previous"),
        ({"rest": (Extra("openai_chat", ("modalities",), raw(["audio"]), binding=True),)}, "modalities"),
        ({"format": Format(Shape.SCHEMA), "profile": Profile(schema=False)}, "format"),
    ],
)
def test_constraints_that_cannot_be_said_are_refused(more: dict[str, Any], where: str) -> None:
    with pytest.raises(Fault) as caught:
        sent(**more)
    assert caught.value.param == where


def test_a_failed_result_is_an_error_and_several_texts_are_one() -> None:
    call = model(ToolCall("a", "f", "{}"))
    document, losses = sent(call, tool("a", Text("bro"), Text("ken"), failed=True))
    assert document["contents"][1]["parts"][0]["functionResponse"]["response"] == {"error": "broken"}
    assert losses == [Loss(LossKind.SHAPE, "messages.1.parts.0")]
    assert sent(call, tool("a", failed=True))[1] == [Loss(LossKind.MARK, "messages.1.parts.0.failed")]


def test_a_link_has_the_type_its_end_tells() -> None:
    document, losses = sent(user(Image(Link("https://e.x/a.JPG?x=.gif")), Audio(Link("https://e.x/a.mp3"))))
    assert [part["fileData"]["mimeType"] for part in document["contents"][0]["parts"]] == ["image/jpeg", "audio/mp3"]
    assert losses == []


@pytest.mark.parametrize(
    ("thinking", "effort", "budget"),
    [
        (Thinking("high"), {"thinkingLevel": "HIGH"}, {"thinkingBudget": 24576}),
        (Thinking("none"), {"thinkingLevel": "LOW"}, {"thinkingBudget": 0}),
        (Thinking("max"), {"thinkingLevel": "HIGH"}, {"thinkingBudget": 24576}),
        (Thinking("odd"), None, None),
        (Thinking(on=False), {"thinkingLevel": "LOW"}, {"thinkingBudget": 0}),
        (Thinking(on=True, adaptive=True), {"thinkingBudget": -1}, {"thinkingBudget": -1}),
        (Thinking(on=True, budget=2000), {"thinkingBudget": 2000}, {"thinkingBudget": 2000}),
        (Thinking("low", shown="auto"), {"thinkingLevel": "LOW", "includeThoughts": True},
         {"thinkingBudget": 1024, "includeThoughts": True}),
    ],
)  # fmt: skip
def test_thinking_is_told_as_the_model_takes_it(thinking: Thinking, effort: Any, budget: Any) -> None:
    for thinks, expected in ((Thinks.EFFORT, effort), (Thinks.BUDGET, budget), (Thinks.NEVER, None)):
        document, losses = sent(thinking=thinking, profile=Profile(thinks=thinks))
        assert document.get("generationConfig", {}).get("thinkingConfig") == expected
        assert losses or expected is not None


def test_the_lower_of_two_caps_counts_and_sampling_goes_only_where_it_is_taken() -> None:
    document, losses = sent(max_output=10, max_text=5, sampling=Sampling(1.0, seed=3), profile=Profile(sampling=False))
    assert document["generationConfig"] == {"maxOutputTokens": 5, "seed": 3}
    assert losses == [Loss(LossKind.KNOB, "sampling.temperature")]


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        (ToolChoice(Call.AUTO), {"mode": "AUTO"}),
        (ToolChoice(Call.NONE), {"mode": "NONE"}),
        (ToolChoice(Call.REQUIRED, ("f",)), {"mode": "ANY", "allowedFunctionNames": ["f"]}),
        (ToolChoice(Call.AUTO, ("f",)), {"mode": "VALIDATED", "allowedFunctionNames": ["f"]}),
    ],
)
def test_a_choice_of_tools_has_its_mode(choice: ToolChoice, config: dict[str, Any]) -> None:
    assert sent(tool_choice=choice)[0]["toolConfig"] == {"functionCallingConfig": config}


def test_functions_stand_in_one_list() -> None:
    search = UnknownTool(DIALECT.name, raw({"googleSearch": {}}))
    schema = raw({"type": "object"})
    document, losses = sent(tools=(Tool("f", "d", schema), search, Tool("g")))
    functions = [{"name": "f", "description": "d", "parametersJsonSchema": {"type": "object"}}, {"name": "g"}]
    assert document["tools"] == [{"functionDeclarations": functions}, {"googleSearch": {}}]
    assert losses == [Loss(LossKind.SHAPE, "tools.2")]


# What is meant.


def test_both_spellings_and_lists_of_one_are_understood() -> None:
    found = meant(
        system_instruction={"parts": {"text": "brief"}},
        contents={"parts": {"inline_data": {"mime_type": "image/png", "data": "-_8="}}},
        generation_config={"max_output_tokens": 5, "top_p": 0.5, "stop_sequences": ["x"]},
        tool_config={"function_calling_config": {"mode": "ANY", "allowed_function_names": ["f"]}},
        tools={"function_declarations": {"name": "f", "parameters_json_schema": {}}},
    )
    assert found.messages == (Message(Role.SYSTEM, (Text("brief"),)), user(Image(Inline("image/png", "+/8="))))
    assert (found.max_output, found.sampling.top_p, found.stop) == (5, 0.5, ("x",))
    assert found.tool_choice == ToolChoice(Call.REQUIRED, ("f",))
    assert found.tools == (Tool("f", parameters=raw({})),)
    assert found.rest == ()


def test_a_request_to_count_may_hold_the_whole_request() -> None:
    whole = {"model": "models/m", "contents": [{"parts": [{"text": "a"}]}], "generationConfig": {"seed": 1}}
    found = DIALECT.decode_request(body_of({"generateContentRequest": whole}))
    assert (found.messages, found.sampling.seed, found.rest) == ((user(Text("a")),), 1, ())


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"inlineData": {"mimeType": "audio/wav", "data": "AA"}}, Audio(Inline("audio/wav", "AA"))),
        ({"inlineData": {"mimeType": "video/mp4", "data": "AA"}}, Document(Inline("video/mp4", "AA"))),
        ({"fileData": {"fileUri": "gs://b/a.pdf", "mimeType": "application/pdf"}}, Document(Link("gs://b/a.pdf"))),
        ({"text": "", "thoughtSignature": "QQ=="}, Reasoning("", Seal("gemini_generate", "QQ=="), hidden=True)),
        ({"thoughtSignature": "QQ=="}, Reasoning("", Seal("gemini_generate", "QQ=="), hidden=True)),
        ({"text": "a", "thought": True}, Reasoning("a")),
        ({"text": "a", "thought": False}, Text("a")),
    ],
)  # fmt: skip
def test_a_part_is_what_it_holds(part: dict[str, Any], expected: Part) -> None:
    assert said(part, role="model") == (expected,)


@pytest.mark.parametrize(
    "part",
    [
        5,
        {},
        {"text": 5},
        {"text": "a", "inlineData": {"mimeType": "a/b", "data": ""}},
        {"inlineData": {"mimeType": "a/b"}},
        {"fileData": {"mimeType": "a/b"}},
        {"functionCall": {"args": {}}},
        {"functionCall": {"name": "f", "args": [1]}},
        {"functionCall": {"name": "f", "partialArgs": [{"jsonPath": "$.a"}], "willContinue": True}},
        {"functionResponse": {"response": {}}},
        {"executableCode": {"language": "PYTHON", "code": "1"}},
        {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}},
        {"toolCall": {"toolType": "X"}, "thoughtSignature": "QQ=="},
    ],
)
@pytest.mark.parametrize("role", ["user", "model"])
def test_parts_without_a_word_in_the_pivot_come_back_whole(part: Any, role: str) -> None:
    (found,) = said(part, role=role)
    assert isinstance(found, UnknownPart)
    assert value_of(found.value) == part
    body = DIALECT.encode_request(meant(contents=[{"role": role, "parts": [part]}]), ANY).body
    assert value_of(body)["contents"][0]["parts"] == [part]


@pytest.mark.parametrize("content", [{"parts": "a"}, {"role": "critic", "parts": []}, {"role": 5, "parts": []}])
def test_a_content_that_is_none_comes_back_whole(content: dict[str, Any]) -> None:
    found = meant(contents=[content])
    assert isinstance(found.messages[0], UnknownMessage)
    assert value_of(DIALECT.encode_request(found, ANY).body)["contents"] == [content]


def test_pieces_of_a_streamed_answer_in_the_history_are_one_turn_again() -> None:
    def chunk(*parts: dict[str, Any]) -> dict[str, Any]:
        return {"role": "model", "parts": list(parts)}

    contents = [
        chunk({"text": "th", "thought": True}),
        chunk({"text": "ink", "thought": True}),
        chunk({"text": "", "thought": True, "thoughtSignature": "QQ=="}),
        chunk({"text": "a"}, {"text": "b"}),
        chunk({"text": "c", "thoughtSignature": "Qg=="}),
        chunk({"text": "d"}),
        chunk({"text": ""}),
    ]
    (message,) = meant(contents=contents).messages
    seals = [Seal(DIALECT.name, value) for value in ("QQ==", "Qg==")]
    assert message == model(Reasoning("think", seals[0]), Text("abc", seal=seals[1]), Text("d"))


def test_calls_and_results_without_ids_find_each_other_and_stay_without() -> None:
    contents = [
        {"role": "model", "parts": [{"functionCall": {"name": name, "args": {}}} for name in ("f", "g", "f")]},
        {"parts": [{"functionResponse": {"name": name, "response": {}}} for name in ("f", "f", "g", "h")]},
    ]
    found = meant(contents=contents)
    calls = [part.id for part in found.messages[0].parts if isinstance(part, ToolCall)]  # type: ignore[union-attr]
    results = [message.parts[0].call_id for message in found.messages[1:]]  # type: ignore[union-attr]
    assert results[:3] == [calls[0], calls[2], calls[1]]
    assert len({*calls, results[3]}) == 4
    assert meant(contents=contents) == found
    document = value_of(DIALECT.encode_request(found, Profile(thinks=Thinks.NEVER)).body)
    assert document["contents"][1]["parts"] == contents[1]["parts"]
    assert document["contents"][0]["parts"] == contents[0]["parts"]


@pytest.mark.parametrize(
    ("response", "text", "failed"),
    [({"result": "x"}, "x", False), ({"error": "x"}, "x", True), ({"a": 1}, '{"a": 1}', False),
     ({"result": [1]}, '{"result": [1]}', False), ({"output": "x"}, '{"output": "x"}', False)],
)  # fmt: skip
def test_a_result_is_its_text_or_its_object(response: dict[str, Any], text: str, failed: bool) -> None:
    contents = [
        {"role": "model", "parts": [{"functionCall": {"id": "1", "name": "f", "args": {}}}]},
        {"role": "function", "parts": [{"functionResponse": {"id": "1", "name": "f", "response": response}}]},
    ]
    found = meant(contents=contents)
    result = found.messages[1].parts[0]  # type: ignore[union-attr]
    assert isinstance(result, ToolResult)
    assert (result.call_id, result.parts, result.failed) == ("1", (Text(text),), failed)
    again = value_of(DIALECT.encode_request(found, ANY).body)["contents"][1]["parts"][0]["functionResponse"]
    assert again["response"] == response


def test_googles_schemas_are_json_schemas_to_everybody_else() -> None:
    own = {
        "type": "OBJECT",
        "properties": {
            "type": {"type": "STRING", "nullable": True, "enum": ["a"]},
            "list": {"type": "ARRAY", "min_items": "2", "items": {"anyOf": [{"type": "INTEGER"}], "nullable": True}},
        },
        "propertyOrdering": ["list"],
        "required": ["type"],
    }
    found = meant(
        tools=[{"functionDeclarations": [{"name": "f", "parameters": own}]}],
        generationConfig={"responseMimeType": "application/json", "responseSchema": own},
    )
    expected = {
        "type": "object",
        "properties": {
            "type": {"type": ["string", "null"], "enum": ["a", None]},
            "list": {"type": "array", "minItems": 2, "items": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
        },
        "required": ["type"],
    }
    (function,) = found.tools
    assert isinstance(function, Tool)
    assert function.parameters is not None
    assert value_of(function.parameters) == expected
    assert found.format is not None
    assert found.format.schema is not None
    assert value_of(found.format.schema) == expected


@pytest.mark.parametrize(
    "members",
    [
        {"generationConfig": {"responseMimeType": "text/x.enum", "responseSchema": {"type": "STRING"}}},
        {"generationConfig": {"responseModalities": ["AUDIO"]}},
        {"safetySettings": [{"category": "X", "threshold": "BLOCK_NONE"}]},
        {"cachedContent": "cachedContents/1"},
        {"toolConfig": {"functionCallingConfig": {"allowedFunctionNames": ["f"]}}},
        {"systemInstruction": 5},
        {"systemInstruction": {"parts": "brief"}},
        {"tools": 5},
    ],
)
def test_content_and_constraints_without_a_word_in_the_pivot_are_bound_to_gemini(members: dict[str, Any]) -> None:
    found = meant(**members)
    assert any(extra.binding for extra in found.rest)
    assert value_of(DIALECT.encode_request(found, ANY).body) == {"contents": [], **members}


@pytest.mark.parametrize(
    "members",
    [
        {"toolConfig": {"functionCallingConfig": {"mode": "VALIDATED"}}},
        {"toolConfig": {"retrievalConfig": {"languageCode": "en"}}},
        {"generationConfig": {"speechConfig": {"x": 1}, "imageConfig": {"aspectRatio": "1:1"}, "stopSequences": []}},
        {"generationConfig": {"thinkingConfig": {"thinkingLevel": "NEWER"}, "topK": 0.5}},
        {"serviceTier": "unspecified", "store": False},
    ],
)
def test_knobs_without_a_word_in_the_pivot_come_back(members: dict[str, Any]) -> None:
    found = meant(**members)
    assert not any(extra.binding and bytes(extra.value) != b"[]" for extra in found.rest)
    assert value_of(DIALECT.encode_request(found, ANY).body) == {"contents": [], **members}


@pytest.mark.parametrize(
    ("body", "kind"),
    [(b"", Kind.MALFORMED), (b"[]", Kind.MALFORMED), (b'{"contents":[],"x":"\xff"}', Kind.MALFORMED),
     (b"{}", Kind.INVALID_REQUEST), (b'{"contents":"hi"}', Kind.INVALID_REQUEST),
     (b'{"contents":[1]}', Kind.INVALID_REQUEST)],
)  # fmt: skip
def test_what_is_no_request_is_refused(body: bytes, kind: Kind) -> None:
    with pytest.raises(Fault) as caught:
        DIALECT.decode_request(body)
    assert caught.value.kind is kind


# What governs, and where it goes.


@pytest.mark.parametrize(
    ("members", "cap"),
    [
        ({}, None),
        ({"generationConfig": {"candidateCount": 3}}, None),
        ({"generationConfig": {"maxOutputTokens": 10}}, 10),
        ({"generation_config": {"max_output_tokens": 10, "candidate_count": 3}}, 30),
        ({"generationConfig": {"maxOutputTokens": 10}, "generation_config": {"maxOutputTokens": 20}}, 20),
        ({"generationConfig": None, "labels": {"maxOutputTokens": "5"}}, None),
    ],
)
def test_the_cap_is_that_of_all_candidates_together(members: dict[str, Any], cap: int | None) -> None:
    raws = {name: raw(value) for name, value in members.items()}
    assert DIALECT.peek(raws) == (cap, "")


@pytest.mark.parametrize(
    "config",
    [
        b"5",
        b'{"maxOutputTokens":"many"}',
        b'{"maxOutputTokens":1,"maxOutputTokens":99}',
        b'{"maxOutputTokens":1,"max_output_tokens":99}',
        b'{"a":1',
    ],
)
def test_a_cap_that_cannot_be_judged_is_refused(config: bytes) -> None:
    with pytest.raises(Fault) as caught:
        DIALECT.peek({"generationConfig": type(raw(1))(config)})
    assert caught.value.kind in (Kind.INVALID_REQUEST, Kind.MALFORMED)


def test_a_model_is_one_segment_of_the_path_whatever_its_name() -> None:
    assert DIALECT.path("gemini-3-pro", stream=False) == "/models/gemini-3-pro:generateContent"
    assert DIALECT.path("gemini-3-pro", stream=True) == "/models/gemini-3-pro:streamGenerateContent?alt=sse"
    assert DIALECT.path("../x?y=#é", stream=False) == "/models/..%2Fx%3Fy%3D%23%C3%A9:generateContent"
    assert DIALECT.path("..", stream=False) == "/models/..:generateContent"


def test_each_endpoint_is_served_below_every_prefix_of_googles() -> None:
    assert {(row.name, row.path, row.streaming) for row in DIALECT.endpoints} == {
        ("gemini.generate", "/models/{model}:generateContent", False),
        ("gemini.stream", "/models/{model}:streamGenerateContent", True),
        ("gemini.count_tokens", "/models/{model}:countTokens", False),
    }
    assert all(row.dialect == DIALECT.name and "/v1beta" in row.prefixes for row in DIALECT.endpoints)
