"""Proofs come back through the official client, and a request is written as its model takes it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from codec_kit import FUNCTIONS, answering, body_of, raw, replies, told
from hypothesis import given
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from test_codec_stream_laws import encoded

from ostiary.core.fault import Fault, Kind, Retry
from ostiary.wire.conversation.conversation import Conversation, Format, Message, Role, Sampling, Shape, Thinking, Tool
from ostiary.wire.conversation.events import Cited, Event, Finished, PartDelta, PartEnd, PartStart
from ostiary.wire.conversation.fold import fold
from ostiary.wire.conversation.parts import (
    Audio,
    Cache,
    Citation,
    Document,
    Image,
    Inline,
    Part,
    Reasoning,
    Seal,
    Text,
    ToolCall,
    ToolResult,
)
from ostiary.wire.conversation.reply import Choice, Finish, Reason, Reply
from ostiary.wire.conversation.seals import carry
from ostiary.wire.conversation.unknown import Extra, Loss, LossKind
from ostiary.wire.dialects.openai_chat.reply import decode_reply, encode_reply
from ostiary.wire.dialects.openai_chat.request import decode_request, encode_request
from ostiary.wire.dialects.openai_chat.stream_decode import StreamDecoder
from ostiary.wire.dialects.openai_chat.wire import DIALECT
from ostiary.wire.profile import ANY, Profile, Thinks

CLAUDE = Seal("anthropic_messages", "EqQB/+=")
GEMINI = Seal("gemini_generate", "CiQB")


def comparable(value: Any) -> Any:
    """A value with its raw members read, so that their white space does not count, nor members that say nothing."""
    if isinstance(value, msgspec.Raw):
        return json.loads(bytes(value))
    if isinstance(value, msgspec.Struct):
        return (type(value), *(comparable(getattr(value, name)) for name in value.__struct_fields__))
    if not isinstance(value, tuple):
        return value
    return [comparable(item) for item in value if not (isinstance(item, Extra) and bytes(item.value) == b"null")]


def echoed(completion: ChatCompletion) -> tuple[tuple[Part, ...], ...]:
    """What is read when a client sends the messages of an answer back, as the official SDK writes them."""
    messages = [choice.message.model_dump() for choice in completion.choices]
    found = decode_request(body_of({"model": "m", "messages": messages})).messages
    return tuple(message.parts for message in found if isinstance(message, Message))


@given(reply=replies(FUNCTIONS, plain=True))
def test_the_official_client_echoes_an_answer_with_all_its_proofs(reply: Reply) -> None:
    completion = ChatCompletion.model_validate_json(encode_reply(reply, answering()).body)
    assert comparable(echoed(completion)) == comparable(tuple(choice.parts for choice in reply.choices))


@given(data=st.data(), reply=replies(FUNCTIONS, plain=True))
def test_the_official_client_echoes_a_streamed_answer_with_all_its_proofs(data: st.DataObject, reply: Reply) -> None:
    state = ChatCompletionStreamState()
    for event in encoded(data.draw(told(reply))).split(b"\n\n")[:-2]:
        state.handle_chunk(ChatCompletionChunk.model_validate_json(event.removeprefix(b"data: ")))
    read = echoed(state.current_completion_snapshot)
    assert comparable(tuple(map(spoken, read))) == comparable(tuple(spoken(choice.parts) for choice in reply.choices))


def spoken(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """The parts without a text that says nothing: a stream begins with an empty one."""
    return tuple(part for part in parts if part != Text(""))


def asked(*messages: Message, **more: Any) -> Conversation:
    return Conversation(model="m", messages=messages, **more)


def sent(conversation: Conversation, profile: Profile = ANY) -> tuple[dict[str, Any], list[Loss]]:
    encoded_ = encode_request(conversation, profile)
    return json.loads(encoded_.body), list(encoded_.losses)


def test_another_issuers_proofs_go_to_the_client_and_not_to_a_provider() -> None:
    said = (
        Reasoning("why", CLAUDE),
        Reasoning("", CLAUDE, hidden=True),
        Text("so", seal=GEMINI),
        ToolCall("1", "f", "{}", seal=GEMINI),
    )
    reply = Reply(choices=(Choice(0, said, Finish(Reason.TOOL_CALLS)),))
    message = json.loads(encode_reply(reply, answering()).body)["choices"][0]["message"]
    assert message["thinking_blocks"] == [
        {"type": "thinking", "thinking": "why", "signature": carry(CLAUDE)},
        {"type": "redacted_thinking", "data": carry(CLAUDE)},
    ]
    assert message["reasoning_content"] == "why"
    assert message["extra_content"] == message["tool_calls"][0]["extra_content"] == {"ostiary": {"seal": carry(GEMINI)}}

    again = decode_request(body_of({"model": "m", "messages": [message]}))
    assert again.messages == (Message(Role.ASSISTANT, said, rest=again.messages[0].rest),)  # type: ignore[union-attr]
    document, losses = sent(again)
    (turn,) = document["messages"]
    assert {"reasoning_content", "thinking_blocks", "extra_content"}.isdisjoint(turn)
    assert turn["tool_calls"] == [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    assert losses == [Loss(LossKind.SEAL, f"messages.0.parts.{index}") for index in range(4)]


def test_a_proof_in_googles_spelling_is_gemini_s_and_goes_back_in_it() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"},
            "extra_content": {"google": {"thought_signature": "CiQB", "x": 1}}}  # fmt: skip
    body = {"model": "m", "messages": [{"role": "assistant", "tool_calls": [call]}]}
    conversation = decode_request(body_of(body))
    (message,) = conversation.messages
    assert isinstance(message, Message)
    assert isinstance(message.parts[0], ToolCall)
    assert message.parts[0].seal == GEMINI
    assert sent(conversation) == (body, [])


def test_blocks_of_a_provider_of_this_dialect_go_back_to_it() -> None:
    blocks = [
        {"type": "thinking", "thinking": "a", "signature": "s"},
        {"type": "redacted_thinking", "data": "d", "x": 1},
        {"type": "thinking", "thinking": "b", "signature": "t"},
    ]
    message = {"role": "assistant", "content": "c", "reasoning_content": "ab", "thinking_blocks": blocks}
    body = {"model": "m", "messages": [message]}
    assert sent(decode_request(body_of(body))) == (body, [])


@pytest.mark.parametrize(
    ("deltas", "parts"),
    [
        (  # a block with each piece, the proof at the end, as LiteLLM streams
            [
                {"reasoning_content": "a", "thinking_blocks": [{"type": "thinking", "thinking": "a"}]},
                {"reasoning_content": "b", "thinking_blocks": [{"type": "thinking", "thinking": "b"}]},
                {"thinking_blocks": [{"type": "thinking", "thinking": "", "signature": "s"}]},
            ],
            (Reasoning("ab", Seal("openai_chat", "s")),),
        ),
        (  # pieces in blocks alone
            [
                {"thinking_blocks": [{"type": "thinking", "thinking": "a"}]},
                {"thinking_blocks": [{"type": "thinking", "thinking": "b"}]},
            ],
            (Reasoning("ab"),),
        ),
        (  # a block that does not repeat what was told
            [
                {"reasoning_content": "a"},
                {"thinking_blocks": [{"type": "thinking", "thinking": "b", "signature": "s"}]},
            ],
            (Reasoning("a"), Reasoning("b", Seal("openai_chat", "s"))),
        ),
    ],
)
def test_thinking_blocks_are_read_as_servers_stream_them(deltas: list[Any], parts: tuple[Part, ...]) -> None:
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    decoder = StreamDecoder()
    events = decoder.feed(b"".join(b"data: " + body_of(chunk) + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n")
    assert fold(events).choices[0].parts == parts
    assert decoder.over


def test_citations_without_a_place_are_of_the_text_they_stand_with() -> None:
    texts = (Text("ab", citations=(Citation("u"),)), Text("cde", citations=(Citation("v", "t", "q", 1, 2),)))
    body = json.loads(encode_reply(Reply(choices=(Choice(0, texts),)), answering()).body)
    said = [annotation["url_citation"] for annotation in body["choices"][0]["message"]["annotations"]]
    assert said == [
        {"url": "u", "title": "", "start_index": 0, "end_index": 2},
        {"url": "v", "title": "t", "content": "q", "start_index": 3, "end_index": 4},
    ]
    events: list[Event] = []
    for index, text in enumerate(texts):
        events += [PartStart(0, index, Text("")), PartDelta(0, index, text.text)]
        events += [Cited(0, index, text.citations[0]), PartEnd(0, index)]
    encoder = DIALECT.encoder(answering())
    data = b"".join(map(encoder.encode, [*events, Finished(0, Finish(Reason.STOP))])) + encoder.end()
    decoder = StreamDecoder()
    (choice,) = fold([*decoder.feed(data), *decoder.finish()]).choices
    assert choice.parts == decode_reply(msgspec.json.encode(body)).choices[0].parts


def test_media_in_a_tools_result_follow_in_a_turn_of_the_users() -> None:
    image, file = Image(Inline("image/png", "AA")), Document(Inline("application/pdf", "BB"))
    results = (ToolResult("1", (Text("see"), image)), ToolResult("2", (file,)), ToolResult("3", (Text("x"),)))
    turns = [Message(Role.TOOL, (result,)) for result in results]
    document, losses = sent(asked(*turns, Message(Role.USER, (Text("go on"),))))
    roles = [message["role"] for message in document["messages"]]
    assert roles == ["tool", "tool", "tool", "user", "user"]
    assert document["messages"][0]["content"] == "see"
    assert document["messages"][1]["content"]
    kinds = [(part["type"], part.get("text")) for part in document["messages"][3]["content"]]
    assert kinds == [
        ("text", "Result of the tool call 1:"),
        ("image_url", None),
        ("text", "Result of the tool call 2:"),
        ("file", None),
    ]
    assert losses == [Loss(LossKind.SHAPE, f"messages.{index}.parts.0") for index in range(2)]
    last, _ = sent(asked(Message(Role.TOOL, (ToolResult("1", (Audio(Inline("audio/wav", "AA")),)),))))
    assert [message["role"] for message in last["messages"]] == ["tool", "user"]


MARKED = asked(
    Message(Role.SYSTEM, (Text("long", cache=Cache("1h")),)),
    Message(Role.TOOL, (ToolResult("1", (Text("x", cache=Cache()),), cache=Cache()),)),
    tools=(Tool("f", cache=Cache()),),
)


def test_marks_for_the_cache_are_written_where_the_model_takes_them() -> None:
    document, losses = sent(MARKED)
    assert document["messages"][0]["content"] == [
        {"type": "text", "text": "long", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    ]
    assert document["messages"][1]["cache_control"] == document["tools"][0]["cache_control"] == {"type": "ephemeral"}
    assert losses == []
    document, losses = sent(MARKED, Profile(cache_marks=False))
    assert b"cache_control" not in msgspec.json.encode(document)
    assert losses == [
        Loss(LossKind.MARK, "messages.0.parts.0.cache"),
        Loss(LossKind.MARK, "messages.1.parts.0.parts.0.cache"),
        Loss(LossKind.MARK, "messages.1.parts.0.cache"),
        Loss(LossKind.MARK, "tools.0.cache"),
    ]


def test_a_mark_on_a_message_is_one_on_its_words_and_goes_back_to_the_message() -> None:
    message = {"role": "system", "content": "long", "cache_control": {"type": "ephemeral"}}
    body = {"model": "m", "messages": [message]}
    conversation = decode_request(body_of(body))
    (turn,) = conversation.messages
    assert isinstance(turn, Message)
    assert turn.parts == (Text("long", cache=Cache()),)
    assert sent(conversation) == (body, [])


@pytest.mark.parametrize(
    ("thinking", "profile", "word", "losses"),
    [
        (Thinking("high"), ANY, "high", []),
        (Thinking("high", budget=5), ANY, "high", ["thinking.budget"]),
        (Thinking(budget=0), ANY, "none", []),
        (Thinking(budget=-1), ANY, "none", []),
        (Thinking(budget=2048), ANY, "low", ["thinking.budget"]),
        (Thinking(budget=2049), ANY, "medium", ["thinking.budget"]),
        (Thinking(budget=8193), ANY, "high", ["thinking.budget"]),
        (Thinking(on=False), ANY, "none", []),
        (Thinking(on=True), ANY, None, ["thinking"]),
        (Thinking(on=True, budget=100), ANY, "low", ["thinking.budget"]),
        (Thinking(adaptive=True), ANY, None, ["thinking"]),
        (Thinking(shown="auto"), ANY, None, ["thinking.shown"]),
        (Thinking("high"), Profile(thinks=Thinks.NEVER), None, ["thinking"]),
        (Thinking(on=False), Profile(thinks=Thinks.NEVER), None, []),
        (Thinking(on=True), Profile(thinks=Thinks.NEVER), None, ["thinking"]),
        (Thinking(budget=9000), Profile(thinks=Thinks.BUDGET), "high", ["thinking.budget"]),
    ],
)
def test_how_much_to_reason_is_said_in_one_word(
    thinking: Thinking, profile: Profile, word: str | None, losses: list[str]
) -> None:
    document, found = sent(asked(thinking=thinking), profile)
    assert document.get("reasoning_effort") == word
    assert found == [Loss(LossKind.KNOB, where) for where in losses]


@pytest.mark.parametrize(
    ("conversation", "profile", "expected", "losses"),
    [
        (
            asked(sampling=Sampling(temperature=1, top_p=1, top_k=1, seed=1)),
            Profile(sampling=False),
            {"seed": 1},
            ["sampling.temperature", "sampling.top_p", "sampling.top_k"],
        ),
        (asked(max_output=5), Profile(new_cap=False), {"max_tokens": 5}, []),
        (asked(max_output=5, max_text=9), Profile(new_cap=False), {"max_tokens": 5}, []),
        (asked(max_text=9), Profile(new_cap=True), {"max_tokens": 9}, []),
        (asked(stream=True, stream_usage=True), Profile(stream_usage=False), {"stream": True}, []),
    ],
)
def test_knobs_are_written_as_the_model_has_them(
    conversation: Conversation, profile: Profile, expected: dict[str, Any], losses: list[str]
) -> None:
    document, found = sent(conversation, profile)
    assert document == {"model": "m", "messages": [], **expected}
    assert found == [Loss(LossKind.KNOB, where) for where in losses]


def test_a_model_without_developers_hears_them_as_the_system() -> None:
    conversation = asked(Message(Role.DEVELOPER, (Text("be brief"),)))
    assert sent(conversation, Profile(developer=False))[0]["messages"] == [{"role": "system", "content": "be brief"}]


@pytest.mark.parametrize(
    ("conversation", "profile", "param"),
    [
        (asked(format=Format(Shape.SCHEMA, "s", schema=raw({}))), Profile(schema=False), "format"),
        (asked(previous="resp_1"), ANY, "previous"),
    ],
)
def test_a_constraint_that_the_model_does_not_keep_is_refused(
    conversation: Conversation, profile: Profile, param: str
) -> None:
    with pytest.raises(Fault) as caught:
        encode_request(conversation, profile)
    assert (caught.value.kind, caught.value.retry, caught.value.param) == (Kind.INVALID_REQUEST, Retry.NEXT, param)


def test_the_dialect_is_one_row() -> None:
    assert (DIALECT.name, DIALECT.path("m", False), DIALECT.path("m", True)) == (
        "openai_chat", "/chat/completions", "/chat/completions")  # fmt: skip
    assert DIALECT.ping.startswith(b":")
    assert DIALECT.ping.endswith(b"\n\n")
    members = {"max_tokens": raw(5), "n": raw(3), "user": raw("u")}
    assert DIALECT.peek(members) == (15, "u")
    assert not DIALECT.decoder().over


def test_a_schema_without_a_name_is_given_the_one_that_this_dialect_demands() -> None:
    document, losses = sent(asked(format=Format(Shape.SCHEMA, schema=msgspec.Raw(b"{}"))))
    assert document["response_format"] == {"type": "json_schema", "json_schema": {"name": "response", "schema": {}}}
    assert losses == []
