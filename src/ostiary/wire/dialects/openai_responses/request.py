"""Requests for a response from and to the pivot. It must not judge values: what has not the documented type is kept.

Source: official Python SDK 3.54, `types.responses.ResponseCreateParams` and `InputTokenCountParams`. Duplicate members:
the last counts, and it alone travels on. `instructions` is a first message of the system, if it is no more than one
text; a system message that came as an item instead has a mark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ostiary.core.fault import Fault, Kind
from ostiary.wire.conversation.conversation import Conversation, Message, Role, Sampling, Shape, UnknownMessage
from ostiary.wire.conversation.members import EMPTY_LIST, Members
from ostiary.wire.conversation.offers import offered
from ostiary.wire.conversation.parts import Text
from ostiary.wire.conversation.unknown import Encoded, Extra, Loss, LossKind, Rest, find, inexpressible, losses_of
from ostiary.wire.dialect import Peeked
from ostiary.wire.dialects.openai_responses.marks import DIALECT, mark, marked, ordered, put
from ostiary.wire.dialects.openai_responses.messages import decode_items
from ostiary.wire.dialects.openai_responses.parts import INTEGER, RAWS, STRING, is_plain
from ostiary.wire.dialects.openai_responses.settings import (
    FLAG,
    encode_format,
    encode_include,
    encode_thinking,
    encode_tool,
    encode_tool_choice,
    take_format,
    take_include,
    take_thinking,
    take_tool_choice,
    take_tools,
)
from ostiary.wire.dialects.openai_responses.turns import Writer
from ostiary.wire.governed import count, text
from ostiary.wire.knobs import told_user
from ostiary.wire.profile import Profile, Thinks

# Members that are content or constraints; the others are knobs.
_BINDING = frozenset(
    {
        "background",
        "conversation",
        "format",
        "input",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "model",
        "moderation",
        "parallel_tool_calls",
        "previous_response_id",
        "prompt",
        "tool_choice",
        "tools",
        "truncation",
    }
)
_HARMLESS: dict[tuple[str, ...], bytes] = {
    ("truncation",): b'"disabled"',
    ("background",): b"false",
    ("include",): b'["reasoning.encrypted_content"]',
}  # values that ask for nothing that is not done anyway
_NUMBER = msgspec.json.Decoder(int | float)
_LABELS = msgspec.json.Decoder(dict[str, str])
_encode = msgspec.json.Encoder().encode


def peek(members: Mapping[str, msgspec.Raw]) -> Peeked:
    """What governs a request: `max_output_tokens`, and the end user as `safety_identifier` or `user`.

    Raises:
        Fault: INVALID_REQUEST for wrong types.
    """
    cap = count(members, "max_output_tokens") if "max_output_tokens" in members else None
    named = [text(members, name) for name in ("safety_identifier", "user") if name in members]
    return Peeked(cap, next((name for name in named if name), ""))


def decode_request(body: bytes) -> Conversation:
    """The conversation a request body asks for.

    Raises:
        Fault: MALFORMED for what is no JSON object in UTF-8; INVALID_REQUEST where `input` is no text and no list of
            objects.
    """
    members = Members.of(body) if _is_text(body) else None
    if members is None:
        raise Fault(Kind.MALFORMED, "the request body is not a valid JSON object")
    marks: list[Extra] = []
    written, thinking, store = members.inside("text"), take_thinking(members), members.take("store", FLAG)
    logprobs, include = take_include(members, thinking, stored=bool(store))
    user = members.take("safety_identifier", STRING)
    if user is None and (user := members.take("user", STRING)) is not None:
        marks.append(mark("user"))
    return Conversation(
        model=members.take("model", STRING) or "",
        messages=_messages(members, marks),
        tools=take_tools(members),
        tool_choice=take_tool_choice(members),
        parallel_calls=members.take("parallel_tool_calls", FLAG),
        format=take_format(written),
        sampling=Sampling(temperature=members.take("temperature", _NUMBER), top_p=members.take("top_p", _NUMBER)),
        thinking=thinking,
        max_output=members.take("max_output_tokens", INTEGER),
        stream=members.take("stream", FLAG),
        user=user,
        metadata=members.take("metadata", _LABELS),
        logprobs=logprobs,
        top_logprobs=members.take("top_logprobs", INTEGER),
        tier=members.take("service_tier", STRING),
        store=store,
        previous=members.take("previous_response_id", STRING),
        rest=ordered(_knobs(members.rest(DIALECT, _BINDING)), marks, include),
    )


def encode_request(conversation: Conversation, profile: Profile) -> Encoded:
    """The request body for a conversation with a model of this profile, and what it does not say.

    Raises:
        Fault: INVALID_REQUEST where content or a constraint cannot be said in this dialect; another target may do.
    """
    losses = losses_of(conversation.rest, DIALECT, "")
    conversation, places = offered(conversation, DIALECT, losses)
    _refuse(conversation, profile)
    document: dict[str, Any] = {}
    if conversation.model or find(conversation.rest, DIALECT, "model") is None:
        document["model"] = conversation.model
    _put_messages(document, conversation, profile, losses)
    document.update(_plain_values(conversation, profile, losses))
    rest = conversation.rest
    if conversation.tools:
        document["tools"] = [
            encode_tool(tool, place, losses) for place, tool in zip(places, conversation.tools, strict=True)
        ]
    if conversation.tool_choice is not None:
        document["tool_choice"] = encode_tool_choice(conversation.tool_choice)
    if conversation.format is not None:
        document["text"] = {"format": encode_format(conversation.format, losses)}
    thinks = profile.thinks is not Thinks.NEVER
    if reasoning := encode_thinking(conversation.thinking, profile, losses):
        document["reasoning"] = reasoning
    elif not thinks:
        rest, dropped = _without(rest, "reasoning")
        losses += [Loss(LossKind.KNOB, ".".join(extra.path)) for extra in dropped]
    include = encode_include(conversation, thinks=thinks)
    if include is not None:
        document["include"] = include
    return Encoded(_encode(put(document, rest)), tuple(losses))


def _refuse(conversation: Conversation, profile: Profile) -> None:
    """Refuse what would have to be dropped and must not."""
    if conversation.stop:
        raise inexpressible("stop")
    if conversation.choices is not None and conversation.choices > 1:
        raise inexpressible("choices")
    if conversation.format is not None and conversation.format.shape is Shape.SCHEMA and not profile.schema:
        raise inexpressible("format")


def _plain_values(conversation: Conversation, profile: Profile, losses: list[Loss]) -> dict[str, Any]:
    """The members that are plain values."""
    sampling = conversation.sampling
    said = {"temperature", "top_p"} if profile.sampling else set()
    unsaid = [name for name in sampling.__struct_fields__ if name not in said and getattr(sampling, name) is not None]
    losses += [Loss(LossKind.KNOB, f"sampling.{name}") for name in unsaid]
    cap = conversation.max_text if conversation.max_output is None else conversation.max_output
    values = {
        "parallel_tool_calls": conversation.parallel_calls,
        "temperature": sampling.temperature if profile.sampling else None,
        "top_p": sampling.top_p if profile.sampling else None,
        "max_output_tokens": cap,
        "stream": conversation.stream,
        "user" if marked(conversation.rest, "user") else "safety_identifier": told_user(conversation.user, losses),
        "metadata": conversation.metadata,
        "top_logprobs": conversation.top_logprobs,
        "service_tier": conversation.tier,
        "store": conversation.store,
        "previous_response_id": conversation.previous,
    }
    return {name: value for name, value in values.items() if value is not None}


def _knobs(rest: Rest) -> list[Extra]:
    """A rest in which what only says the usual, or asks for proofs that every dialect tells unasked, is no loss."""
    return [
        msgspec.structs.replace(extra, binding=False, moot=True)
        if bytes(extra.value) == _HARMLESS.get(extra.path)
        else extra
        for extra in rest
    ]


def _without(rest: Rest, name: str) -> tuple[Rest, list[Extra]]:
    dropped = [extra for extra in rest if extra.said_by == DIALECT and extra.path[0] == name]
    return tuple(extra for extra in rest if extra not in dropped), dropped


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _messages(members: Members, marks: list[Extra]) -> tuple[Message | UnknownMessage, ...]:
    instructions = members.take("instructions", STRING)
    first = [] if instructions is None else [Message(Role.SYSTEM, (Text(instructions),))]
    words = members.take("input", STRING)
    if words is not None:
        marks.append(mark("words"))
        return (*first, Message(Role.USER, (Text(words),)))
    raws = members.take("input", RAWS)
    if raws is None:
        if "input" in members and _is_said(members):
            raise Fault(Kind.INVALID_REQUEST, "'input' must be a text or a list", param="input")
        return tuple(first)
    if not raws:
        members.put_back("input", EMPTY_LIST)
    turns = decode_items(raws)
    if not first and turns and _is_instructions(turns[0]):
        marks.append(mark("item"))
    return (*first, *turns)


def _is_said(members: Members) -> bool:
    """Whether `input` is more than null."""
    return any(extra.path == ("input",) and bytes(extra.value) != b"null" for extra in members.rest(DIALECT))


def _is_instructions(message: Message | UnknownMessage) -> bool:
    """Whether a message says no more than `instructions` can."""
    if not isinstance(message, Message) or message.role is not Role.SYSTEM or not is_plain(message.parts):
        return False
    return not message.rest and message.name is None


def _put_messages(document: dict[str, Any], conversation: Conversation, profile: Profile, losses: list[Loss]) -> None:
    turns: Sequence[Message | UnknownMessage] = conversation.messages
    first = 0
    if turns and _is_instructions(turns[0]) and not marked(conversation.rest, "item"):
        document["instructions"] = _only_text(turns[0])
        first = 1
    if marked(conversation.rest, "words") and len(turns) == first + 1 and _is_words(turns[first]):
        document["input"] = _only_text(turns[first])
        return
    writer = Writer(profile, losses)
    for index in range(first, len(turns)):
        writer.turn(turns[index], f"messages.{index}")
    if writer.items:
        document["input"] = writer.items


def _is_words(message: Message | UnknownMessage) -> bool:
    return (
        isinstance(message, Message)
        and message.role is Role.USER
        and is_plain(message.parts)
        and not message.rest
        and message.name is None
    )


def _only_text(message: Message | UnknownMessage) -> str:
    assert isinstance(message, Message)
    (part,) = message.parts
    assert isinstance(part, Text)
    return part.text
