"""Chat requests from and to the pivot. It must not judge values: what has not the documented type is kept as it came.

Source: Cohere API reference, v2 chat (official Python SDK 7.3, `V2Client.chat`). Duplicate members: the last counts,
and it alone travels on. `max_tokens` caps all tokens of an answer. `strict_tools` is one word for all tools. A choice
among named tools is said by offering only those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ostiary.core.fault import Fault, Kind
from ostiary.wire.conversation.conversation import (
    Call,
    Conversation,
    Format,
    Message,
    Sampling,
    Shape,
    Thinking,
    Tool,
    ToolChoice,
    UnknownMessage,
    UnknownTool,
)
from ostiary.wire.conversation.members import EMPTY_LIST, NULL, UNREADABLE, Members, with_rest
from ostiary.wire.conversation.offers import offered
from ostiary.wire.conversation.unknown import Encoded, Loss, LossKind, find, inexpressible, losses_of
from ostiary.wire.dialect import Peeked
from ostiary.wire.dialects.cohere_chat.messages import decode_message, encode_message
from ostiary.wire.dialects.cohere_chat.parts import DIALECT, FLAG, INTEGER, NUMBER, RAW, RAWS, STRING, STRINGS
from ostiary.wire.profile import Profile, Thinks

# Members that are content or constraints; the others are knobs.
_BINDING = frozenset(
    {
        "documents",
        "max_tokens",
        "messages",
        "model",
        "response_format",
        "safety_mode",
        "stop_sequences",
        "tool_choice",
        "tools",
    }
)
_CALLS = {"REQUIRED": Call.REQUIRED, "NONE": Call.NONE}
_CALL_WORDS = {call: word for word, call in _CALLS.items()}
_THINKS = {"enabled": True, "disabled": False}
_NO_PARAMETERS = msgspec.Raw(b'{"type":"object","properties":{}}')  # `parameters` must be there
_MOST = 10**12  # beyond this a cap is none
_encode = msgspec.json.Encoder().encode


def peek(members: Mapping[str, msgspec.Raw]) -> Peeked:
    """What governs a request: its cap. Cohere knows no end users.

    Raises:
        Fault: INVALID_REQUEST for a cap that is no number.
    """
    raw = members.get("max_tokens")
    if raw is None or bytes(raw) == NULL:
        return Peeked()
    try:
        cap = NUMBER.decode(raw)
    except UNREADABLE:
        cap = _MOST + 1
    if abs(cap) > _MOST:
        raise Fault(Kind.INVALID_REQUEST, "'max_tokens' must be a number", param="max_tokens")
    return Peeked(max(int(cap), 0))


def decode_request(body: bytes) -> Conversation:
    """The conversation a request body asks for.

    Raises:
        Fault: MALFORMED for what is no JSON object in UTF-8; INVALID_REQUEST where `messages` is no list of objects.
    """
    members = Members.of(body) if _is_text(body) else None
    if members is None:
        raise Fault(Kind.MALFORMED, "the request body is not a valid JSON object")
    return Conversation(
        model=members.take("model", STRING) or "",
        messages=_messages(members),
        tools=_tools(members),
        tool_choice=_tool_choice(members),
        format=_format(members),
        sampling=Sampling(
            temperature=members.take("temperature", NUMBER),
            top_p=members.take("p", NUMBER),
            top_k=members.take("k", INTEGER),
            frequency_penalty=members.take("frequency_penalty", NUMBER),
            presence_penalty=members.take("presence_penalty", NUMBER),
            seed=members.take("seed", INTEGER),
        ),
        thinking=_thinking(members),
        stop=_stop(members),
        max_output=members.take("max_tokens", INTEGER),
        stream=members.take("stream", FLAG),
        logprobs=members.take("logprobs", FLAG),
        rest=members.rest(DIALECT, _BINDING),
    )


def encode_request(conversation: Conversation, profile: Profile) -> Encoded:
    """The request body for a conversation, and what it does not say.

    Raises:
        Fault: INVALID_REQUEST where content or a constraint cannot be said in this dialect; another target may do.
    """
    losses = losses_of(conversation.rest, DIALECT, "")
    conversation, places = offered(conversation, DIALECT, losses)
    _refuse(conversation)
    messages = [
        encode_message(message, f"messages.{index}", losses) for index, message in enumerate(conversation.messages)
    ]
    document: dict[str, Any] = {"messages": messages, **_knobs(conversation, profile, losses)}
    if conversation.model or find(conversation.rest, DIALECT, "model") is None:
        document["model"] = conversation.model
    _put_tools(document, conversation, places, losses)
    if conversation.format is not None:
        document["response_format"] = _encode_format(conversation.format, profile, losses)
    if conversation.stop:
        document["stop_sequences"] = conversation.stop
    thinking = _encode_thinking(conversation.thinking, profile, losses)
    if thinking:
        document["thinking"] = thinking
    return Encoded(_encode(with_rest(document, conversation.rest, DIALECT)), tuple(losses))


def _refuse(conversation: Conversation) -> None:
    """Constraints and content that have no place here."""
    if conversation.choices is not None and conversation.choices > 1:
        raise inexpressible("choices")
    if conversation.previous is not None:
        raise inexpressible("previous")


def _knobs(conversation: Conversation, profile: Profile, losses: list[Loss]) -> dict[str, Any]:
    """The members that are plain values."""
    sampling = conversation.sampling
    sampled: dict[str, Any] = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k}
    lost: dict[str, Any] = {
        "user": conversation.user,
        "metadata": conversation.metadata or None,
        "top_logprobs": conversation.top_logprobs,
        "tier": conversation.tier,
        "store": conversation.store or None,  # nothing is stored anyway
    }
    if not profile.sampling:
        lost |= {f"sampling.{name}": value for name, value in sampled.items()}
        sampled = {}
    losses += [Loss(LossKind.KNOB, name) for name, value in lost.items() if value is not None]
    caps = [cap for cap in (conversation.max_output, conversation.max_text) if cap is not None]
    values = {
        "temperature": sampled.get("temperature"),
        "p": sampled.get("top_p"),
        "k": sampled.get("top_k"),
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
        "seed": sampling.seed,
        "max_tokens": min(caps) if caps else None,  # the tighter one keeps both
        "stream": conversation.stream,
        "logprobs": conversation.logprobs,
    }
    return {name: value for name, value in values.items() if value is not None}


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _messages(members: Members) -> tuple[Message | UnknownMessage, ...]:
    raws = members.take("messages", RAWS)
    if raws is None:
        raise Fault(Kind.INVALID_REQUEST, "'messages' must be a list", param="messages")
    return tuple(decode_message(raw, f"messages.{index}") for index, raw in enumerate(raws))


def _stop(members: Members) -> tuple[str, ...]:
    stops = members.take("stop_sequences", STRINGS)
    if stops == []:
        members.put_back("stop_sequences", EMPTY_LIST)
    return tuple(stops or ())


def _tools(members: Members) -> tuple[Tool | UnknownTool, ...]:
    raws = members.take("tools", RAWS)
    if raws == []:
        members.put_back("tools", EMPTY_LIST)
    tools = [_decode_tool(raw) for raw in raws or ()]
    if any(isinstance(tool, Tool) for tool in tools):
        strict = members.take("strict_tools", FLAG)
        return tuple(msgspec.structs.replace(tool, strict=strict) if isinstance(tool, Tool) else tool for tool in tools)
    return tuple(tools)


def _decode_tool(raw: msgspec.Raw) -> Tool | UnknownTool:
    members = Members.of(raw)
    if members is None or members.take("type", STRING) != "function":
        return UnknownTool(DIALECT, raw)
    inner = members.inside("function")
    name = inner.take("name", STRING)
    if name is None:
        return UnknownTool(DIALECT, raw)
    description, parameters = inner.take("description", STRING), _object(inner, "parameters")
    if parameters is not None and bytes(parameters) == bytes(_NO_PARAMETERS):
        parameters = None
    return Tool(name, description, parameters, None, members.rest(DIALECT, {"function"}))


def _object(members: Members, name: str) -> msgspec.Raw | None:
    """A member that is an object, as it stands; any other value is left."""
    raw = members.take(name, RAW)
    if raw is not None and not bytes(raw).startswith(b"{"):
        members.put_back(name, raw)
        return None
    return raw


def _put_tools(document: dict[str, Any], conversation: Conversation, places: Sequence[str], losses: list[Loss]) -> None:
    """The tools that may be called, whether they must be, and how strictly."""
    choice = conversation.tool_choice or ToolChoice(Call.AUTO)
    tools = list(zip(places, conversation.tools, strict=True))
    if conversation.parallel_calls is False and tools:
        losses.append(Loss(LossKind.KNOB, "parallel_calls"))
    if choice.names:
        tools = [(place, tool) for place, tool in tools if isinstance(tool, Tool) and tool.name in choice.names]
        if len({tool.name for _, tool in tools if isinstance(tool, Tool)}) < len(set(choice.names)):
            raise inexpressible("tool_choice")
        kept = {place for place, _ in tools}
        losses += [Loss(LossKind.SHAPE, place) for place in places if place not in kept]
        losses.append(Loss(LossKind.SHAPE, "tool_choice.names"))
    if choice.call is not Call.AUTO:
        document["tool_choice"] = _CALL_WORDS[choice.call]
    if tools:
        document["tools"] = [_encode_tool(tool, place, losses) for place, tool in tools]
    stricts = {tool.strict for _, tool in tools if isinstance(tool, Tool)}
    if len(stricts) > 1:
        losses += [
            Loss(LossKind.KNOB, f"{place}.strict") for place, tool in tools if isinstance(tool, Tool) and tool.strict
        ]
    elif stricts - {None}:
        document["strict_tools"] = stricts.pop()


def _encode_tool(tool: Tool | UnknownTool, where: str, losses: list[Loss]) -> Any:
    if isinstance(tool, UnknownTool):
        return tool.value
    losses += losses_of(tool.rest, DIALECT, where)
    if tool.cache is not None:
        losses.append(Loss(LossKind.MARK, f"{where}.cache"))
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.parameters is not None:
        function["parameters"] = tool.parameters
    document = with_rest({"type": "function", "function": function}, tool.rest, DIALECT)
    function.setdefault("parameters", _NO_PARAMETERS)
    return document


def _tool_choice(members: Members) -> ToolChoice | None:
    word = members.take("tool_choice", STRING)
    if word is None or word in _CALLS:
        return ToolChoice(_CALLS[word]) if word is not None else None
    members.put_back("tool_choice", msgspec.Raw(_encode(word)))
    return None


def _format(members: Members) -> Format | None:
    raw = members.take("response_format", RAW)
    if raw is None:
        return None
    inner = Members.of(raw)
    kind = inner.take("type", STRING) if inner is not None else None
    if inner is None or kind not in ("text", "json_object"):
        members.put_back("response_format", raw)
        return None
    if kind == "text":
        return Format(Shape.TEXT, rest=inner.rest(DIALECT, {"json_schema"}))
    schema = _object(inner, "json_schema")
    shape = Shape.JSON if schema is None else Shape.SCHEMA
    return Format(shape, schema=schema, rest=inner.rest(DIALECT, {"json_schema"}))


def _encode_format(asked: Format, profile: Profile, losses: list[Loss]) -> Any:
    if asked.shape is Shape.SCHEMA and not profile.schema:
        raise inexpressible("format")
    losses += losses_of(asked.rest, DIALECT, "format")
    named = {"name": asked.name, "description": asked.description, "strict": asked.strict}
    losses += [Loss(LossKind.KNOB, f"format.{name}") for name, value in named.items() if value is not None]
    document: dict[str, Any] = {"type": "text" if asked.shape is Shape.TEXT else "json_object"}
    if asked.schema is not None:
        document["json_schema"] = asked.schema
    return with_rest(document, asked.rest, DIALECT)


def _thinking(members: Members) -> Thinking:
    inner = members.inside("thinking")
    word = inner.take("type", STRING)
    if word is not None and word not in _THINKS:
        inner.put_back("type", msgspec.Raw(_encode(word)))
    return Thinking(budget=inner.take("token_budget", INTEGER), on=_THINKS.get(word or ""))


def _encode_thinking(asked: Thinking, profile: Profile, losses: list[Loss]) -> dict[str, Any]:
    """Whether to think, and how long. Words for how much have no place here, but "none" is off, and others are on."""
    if asked == Thinking():
        return {}
    if profile.thinks is Thinks.NEVER:
        losses.append(Loss(LossKind.KNOB, "thinking"))
        return {}
    on = asked.on
    if asked.effort is not None:
        losses.append(Loss(LossKind.KNOB, "thinking.effort"))
        on = asked.effort != "none" if on is None else on
    if asked.adaptive is not None:
        losses.append(Loss(LossKind.KNOB, "thinking.adaptive"))
        on = asked.adaptive or None if on is None else on
    if asked.shown is not None:
        losses.append(Loss(LossKind.KNOB, "thinking.shown"))
    document: dict[str, Any] = {}
    if on is not None:
        document["type"] = "enabled" if on else "disabled"
    if asked.budget is not None:
        document["token_budget"] = asked.budget
    return document
