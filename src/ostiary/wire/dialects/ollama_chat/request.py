"""Chat requests from and to the pivot. It must not judge values: what has not the documented type is kept as it came.

Source: Ollama's API documentation, `POST /api/chat` (official Python package 0.6, `ChatRequest`, `Options`). Duplicate
members: the last counts, and it alone travels on. A stream is what comes where `stream` is not said: it is always
written. There is no word for whether a tool must be called, nor which: tools that may not be called are not offered,
and a call that must come cannot be asked for.
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
    UnknownMessage,
    UnknownTool,
)
from ostiary.wire.conversation.members import EMPTY_LIST, NULL, UNREADABLE, Members, with_rest
from ostiary.wire.conversation.offers import offered
from ostiary.wire.conversation.unknown import Encoded, Loss, LossKind, find, inexpressible, losses_of
from ostiary.wire.dialect import Peeked
from ostiary.wire.dialects.ollama_chat.messages import Calls, decode_message, encode_message
from ostiary.wire.dialects.ollama_chat.parts import DIALECT, FLAG, INTEGER, NUMBER, RAW, RAWS, STRING, STRINGS
from ostiary.wire.profile import Profile, Thinks

# Members that are content or constraints; the others are knobs.
_BINDING = frozenset({"format", "messages", "model", "num_predict", "stop", "tools"})
_EFFORTS = {"minimal": "low", "xhigh": "high", "max": "high"}  # words this dialect has not -> the nearest it has
_MOST = 10**12  # beyond this a cap is none
_encode = msgspec.json.Encoder().encode


def peek(members: Mapping[str, msgspec.Raw]) -> Peeked:
    """What governs a request: its cap. Ollama knows no end users, and a negative cap is none.

    Raises:
        Fault: INVALID_REQUEST for options that are no object, or a cap that is no number.
    """
    raw = members.get("options")
    if raw is None or bytes(raw) == NULL:
        return Peeked()
    options = Members.of(raw)
    if options is None:
        raise Fault(Kind.INVALID_REQUEST, "'options' must be an object", param="options")
    told = options.take("num_predict", RAW)
    if told is None:
        return Peeked()
    try:
        cap = NUMBER.decode(told)
    except UNREADABLE:
        cap = _MOST + 1
    if abs(cap) > _MOST:
        raise Fault(Kind.INVALID_REQUEST, "'options.num_predict' must be a number", param="options.num_predict")
    return Peeked(int(cap) if cap >= 0 else None)


def decode_request(body: bytes) -> Conversation:
    """The conversation a request body asks for.

    Raises:
        Fault: MALFORMED for what is no JSON object in UTF-8; INVALID_REQUEST where `messages` is no list of objects.
    """
    members = Members.of(body) if _is_text(body) else None
    if members is None:
        raise Fault(Kind.MALFORMED, "the request body is not a valid JSON object")
    options = members.inside("options")
    return Conversation(
        model=members.take("model", STRING) or "",
        messages=_messages(members),
        tools=_tools(members),
        format=_format(members),
        sampling=Sampling(
            temperature=options.take("temperature", NUMBER),
            top_p=options.take("top_p", NUMBER),
            top_k=options.take("top_k", INTEGER),
            frequency_penalty=options.take("frequency_penalty", NUMBER),
            presence_penalty=options.take("presence_penalty", NUMBER),
            seed=options.take("seed", INTEGER),
        ),
        thinking=_thinking(members),
        stop=_stop(options),
        max_output=_cap(options),
        stream=_stream(members),
        logprobs=members.take("logprobs", FLAG),
        top_logprobs=members.take("top_logprobs", INTEGER),
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
    calls = Calls()
    messages = [encode_message(message, n, calls, losses) for n, message in enumerate(conversation.messages)]
    document: dict[str, Any] = {"messages": messages}
    if conversation.model or find(conversation.rest, DIALECT, "model") is None:
        document["model"] = conversation.model
    tools = _callable(conversation, places, losses)
    if tools:
        document["tools"] = tools
    if conversation.format is not None:
        _put_format(document, conversation.format, profile, losses)
    think = _encode_thinking(conversation.thinking, profile, losses)
    values = {"think": think, "logprobs": conversation.logprobs, "top_logprobs": conversation.top_logprobs}
    document |= {name: value for name, value in values.items() if value is not None}
    options = _options(conversation, profile, losses)
    if options:
        document["options"] = options
    odd = find(conversation.rest, DIALECT, "stream")
    if conversation.stream is not None or odd is None:
        document["stream"] = conversation.stream is True
    return Encoded(_encode(with_rest(document, conversation.rest, DIALECT)), tuple(losses))


def _refuse(conversation: Conversation) -> None:
    """Constraints and content that have no place here."""
    if conversation.choices is not None and conversation.choices > 1:
        raise inexpressible("choices")
    if conversation.previous is not None:
        raise inexpressible("previous")
    if conversation.tool_choice is not None and conversation.tool_choice.call is Call.REQUIRED:
        raise inexpressible("tool_choice")


def _options(conversation: Conversation, profile: Profile, losses: list[Loss]) -> dict[str, Any]:
    sampling = conversation.sampling
    sampled: dict[str, Any] = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k}
    lost: dict[str, Any] = {
        "user": conversation.user,
        "metadata": conversation.metadata or None,
        "tier": conversation.tier,
        "store": conversation.store or None,  # nothing is stored anyway
    }
    if not profile.sampling:
        lost |= {f"sampling.{name}": value for name, value in sampled.items()}
        sampled = {}
    losses += [Loss(LossKind.KNOB, name) for name, value in lost.items() if value is not None]
    caps = [cap for cap in (conversation.max_output, conversation.max_text) if cap is not None]
    values = {
        **sampled,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
        "seed": sampling.seed,
        "num_predict": min(caps) if caps else None,  # the tighter one keeps both
        "stop": list(conversation.stop) or None,
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
    calls = Calls()
    return tuple(decode_message(raw, index, calls) for index, raw in enumerate(raws))


def _stop(options: Members) -> tuple[str, ...]:
    stops = options.take("stop", STRINGS)
    if stops == []:
        options.put_back("stop", EMPTY_LIST)
    return tuple(stops or ())


def _cap(options: Members) -> int | None:
    """`num_predict`; where it is negative, it is none, in words of this dialect."""
    cap = options.take("num_predict", INTEGER)
    if cap is not None and cap < 0:
        options.put_back("num_predict", msgspec.Raw(_encode(cap)))
        return None
    return cap


def _stream(members: Members) -> bool | None:
    """Whether a stream is wanted; it is where nothing is said. None for what is no answer to that."""
    told = members.take("stream", FLAG)
    raw = members.take("stream", RAW)
    if raw is None or told is not None:
        return told is not False
    members.put_back("stream", raw)
    return None


def _tools(members: Members) -> tuple[Tool | UnknownTool, ...]:
    raws = members.take("tools", RAWS)
    if raws == []:
        members.put_back("tools", EMPTY_LIST)
    return tuple(_decode_tool(raw) for raw in raws or ())


def _decode_tool(raw: msgspec.Raw) -> Tool | UnknownTool:
    members = Members.of(raw)
    if members is None or members.take("type", STRING) != "function":
        return UnknownTool(DIALECT, raw)
    inner = members.inside("function")
    name = inner.take("name", STRING)
    if name is None:
        return UnknownTool(DIALECT, raw)
    description, parameters = inner.take("description", STRING), _object(inner, "parameters")
    return Tool(name, description, parameters, None, members.rest(DIALECT, {"function"}))


def _object(members: Members, name: str) -> msgspec.Raw | None:
    """A member that is an object, as it stands; any other value is left."""
    raw = members.take(name, RAW)
    if raw is not None and not bytes(raw).startswith(b"{"):
        members.put_back(name, raw)
        return None
    return raw


def _callable(conversation: Conversation, places: Sequence[str], losses: list[Loss]) -> list[Any]:
    """The tools that may be called."""
    choice = conversation.tool_choice
    tools = list(zip(places, conversation.tools, strict=True))
    if conversation.parallel_calls is False and tools:
        losses.append(Loss(LossKind.KNOB, "parallel_calls"))
    if choice is not None and choice.call is Call.NONE:
        tools = []
    elif choice is not None and choice.names:
        tools = [(place, tool) for place, tool in tools if isinstance(tool, Tool) and tool.name in choice.names]
    kept = {place for place, _ in tools}
    losses += [Loss(LossKind.SHAPE, place) for place in places if place not in kept]
    return [_encode_tool(tool, place, losses) for place, tool in tools]


def _encode_tool(tool: Tool | UnknownTool, where: str, losses: list[Loss]) -> Any:
    if isinstance(tool, UnknownTool):
        return tool.value
    losses += losses_of(tool.rest, DIALECT, where)
    if tool.cache is not None:
        losses.append(Loss(LossKind.MARK, f"{where}.cache"))
    if tool.strict:
        losses.append(Loss(LossKind.KNOB, f"{where}.strict"))
    values = {"description": tool.description, "parameters": tool.parameters}
    function = {"name": tool.name, **{name: value for name, value in values.items() if value is not None}}
    return with_rest({"type": "function", "function": function}, tool.rest, DIALECT)


def _format(members: Members) -> Format | None:
    raw = members.take("format", RAW)
    if raw is None:
        return None
    if bytes(raw).startswith(b"{"):
        return Format(Shape.SCHEMA, schema=raw)
    if bytes(raw) == b'"json"':
        return Format(Shape.JSON)
    members.put_back("format", raw)
    return None


def _put_format(document: dict[str, Any], asked: Format, profile: Profile, losses: list[Loss]) -> None:
    if asked.shape is Shape.SCHEMA and not profile.schema:
        raise inexpressible("format")
    losses += losses_of(asked.rest, DIALECT, "format")
    named = {"name": asked.name, "description": asked.description, "strict": asked.strict}
    losses += [Loss(LossKind.KNOB, f"format.{name}") for name, value in named.items() if value is not None]
    if asked.shape is not Shape.TEXT:  # text is what comes where nothing is asked for
        document["format"] = asked.schema if asked.schema is not None else "json"


def _thinking(members: Members) -> Thinking:
    on = members.take("think", FLAG)
    return Thinking(on=on, effort=members.take("think", STRING) if on is None else None)


def _encode_thinking(asked: Thinking, profile: Profile, losses: list[Loss]) -> bool | str | None:
    """Whether to think, or how much, in this dialect's words; only some models know how much."""
    if asked == Thinking():
        return None
    if profile.thinks is Thinks.NEVER:
        losses.append(Loss(LossKind.KNOB, "thinking"))
        return None
    lost = {"budget": asked.budget, "adaptive": asked.adaptive, "shown": asked.shown}
    losses += [Loss(LossKind.KNOB, f"thinking.{name}") for name, value in lost.items() if value is not None]
    if asked.on is False or (asked.effort == "none" and asked.on is None):
        if asked.effort not in (None, "none"):
            losses.append(Loss(LossKind.KNOB, "thinking.effort"))
        return False
    if asked.effort is None or asked.effort == "none":
        return True if asked.on or asked.adaptive or asked.budget else None
    if profile.thinks is not Thinks.EFFORT or asked.effort in _EFFORTS:
        losses.append(Loss(LossKind.KNOB, "thinking.effort"))
    return _EFFORTS.get(asked.effort, asked.effort) if profile.thinks is Thinks.EFFORT else True
