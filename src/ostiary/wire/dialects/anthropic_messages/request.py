"""Requests from and to the pivot. It must not judge values: what has not the documented type is kept as it came.

Source: official Python SDK 2.12, `types.MessageCreateParams` and `beta.MessageCreateParams`, and for the version
2023-06-01 the sampling parameters and `output_format` (SDK 0.x). Version 2026-10-21 refuses `temperature`, `top_p` and
`top_k` with any value. Duplicate members: the last counts, and it alone travels on.
"""

from __future__ import annotations

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
    Tool,
    ToolChoice,
    UnknownMessage,
    UnknownTool,
)
from ostiary.wire.conversation.members import EMPTY_LIST, Members, with_rest
from ostiary.wire.conversation.offers import offered
from ostiary.wire.conversation.unknown import Encoded, Loss, LossKind, find, inexpressible, losses_of
from ostiary.wire.dialects.anthropic_messages.messages import TurnWriter, decode_system, decode_turn, is_stricter
from ostiary.wire.dialects.anthropic_messages.parts import (
    DIALECT,
    FLAG,
    INTEGER,
    RAW,
    RAWS,
    STRING,
    encode_cache,
    take_cache,
)
from ostiary.wire.dialects.anthropic_messages.thinking import Reasoned, decode_thinking, encode_thinking, says_word_only
from ostiary.wire.knobs import together
from ostiary.wire.profile import Profile

# Members that are content or constraints; the others are knobs.
_BINDING = frozenset(
    {
        "compaction",
        "container",
        "format",
        "inference_geo",
        "max_tokens",
        "mcp_servers",
        "messages",
        "model",
        "output_format",
        "stop_sequences",
        "system",
        "thread",
        "tool_choice",
        "tools",
    }
)
DEFAULT_CAP = 4096  # tokens; a request has to name a cap, and no model has a smaller one
_NUMBER = msgspec.json.Decoder(int | float)
_STRINGS = msgspec.json.Decoder(list[str])
_CALLS = {"auto": Call.AUTO, "any": Call.REQUIRED, "tool": Call.REQUIRED, "none": Call.NONE}
_CALL_WORDS = {Call.AUTO: "auto", Call.REQUIRED: "any", Call.NONE: "none"}
_TIERS = {"auto": "auto", "standard_only": "default"}
_TIER_WORDS = {tier: word for word, tier in _TIERS.items()}
_encode = msgspec.json.Encoder().encode


def decode_request(body: bytes) -> Conversation:
    """The conversation a request body asks for, to be continued or to be counted.

    Raises:
        Fault: MALFORMED for what is no JSON object in UTF-8; INVALID_REQUEST where `messages` is no list of objects.
    """
    members = Members.of(body) if _is_text(body) else None
    if members is None:
        raise Fault(Kind.MALFORMED, "the request body is not a valid JSON object")
    output = members.inside("output_config")
    tool_choice, parallel = _tool_choice(members)
    return Conversation(
        model=members.take("model", STRING) or "",
        messages=_messages(members),
        tools=_tools(members),
        tool_choice=tool_choice,
        parallel_calls=parallel,
        format=_format(output, "format") or _format(members, "output_format"),
        sampling=Sampling(
            temperature=members.take("temperature", _NUMBER),
            top_p=members.take("top_p", _NUMBER),
            top_k=members.take("top_k", INTEGER),
        ),
        thinking=decode_thinking(members, output),
        stop=_stop(members),
        max_output=members.take("max_tokens", INTEGER),
        stream=members.take("stream", FLAG),
        user=members.inside("metadata").take("user_id", STRING),
        tier=_tier(members),
        rest=members.rest(DIALECT, _BINDING),
    )


def encode_request(conversation: Conversation, profile: Profile) -> Encoded:
    """The request body for a conversation with a model of this profile, and what it does not say.

    Raises:
        Fault: INVALID_REQUEST where content or a constraint cannot be said in this dialect; another target may do.
    """
    losses = losses_of(conversation.rest, DIALECT, "")
    conversation, places = offered(conversation, DIALECT, losses)
    writer = TurnWriter(profile, losses)
    for index, message in enumerate(conversation.messages):
        writer.add(message, f"messages.{index}")
    cap = _cap(conversation, profile)
    document: dict[str, Any] = {"model": conversation.model} if _names_model(conversation) else {}
    document["max_tokens"] = cap
    system = writer.system()
    if system is not None:
        document["system"] = system
    document["messages"] = writer.turns()
    if conversation.tools:
        document["tools"] = [
            _encode_tool(tool, place, profile, losses) for place, tool in zip(places, conversation.tools, strict=True)
        ]
    choice = _encode_choice(conversation, losses)
    if choice is not None:
        document["tool_choice"] = choice
    reasoned = _reasoned(conversation, document, profile, cap, losses)
    reasoning = (reasoned.thinking or {}).get("type") in ("enabled", "adaptive")
    document |= _sampling(conversation.sampling, profile, losses, reasoning=reasoning)
    if reasoned.thinking is not None:
        document["thinking"] = reasoned.thinking
    output = _output_config(conversation.format, reasoned.effort, profile, losses)
    if output:
        document["output_config"] = output
    document |= _knobs(conversation, losses)
    rest = tuple(extra for extra in conversation.rest if not says_word_only(extra))
    return Encoded(_encode(with_rest(document, rest, DIALECT)), tuple(losses))


def _knobs(conversation: Conversation, losses: list[Loss]) -> dict[str, Any]:
    """The members that are plain values, and the wishes that this dialect has no word for."""
    if conversation.choices is not None and conversation.choices > 1:
        raise inexpressible("choices")
    if conversation.previous is not None:
        raise inexpressible("previous")
    wishes = {
        "metadata": conversation.metadata,
        "logprobs": conversation.logprobs,
        "top_logprobs": conversation.top_logprobs,
        "store": conversation.store,
    }
    losses += [Loss(LossKind.KNOB, name) for name, wish in wishes.items() if wish]
    document: dict[str, Any] = {}
    if conversation.stop or find(conversation.rest, DIALECT, "stop_sequences") == EMPTY_LIST:
        document["stop_sequences"] = conversation.stop
    if conversation.stream is not None:
        document["stream"] = conversation.stream
    if conversation.user is not None:
        document["metadata"] = {"user_id": conversation.user}
    if conversation.tier in _TIER_WORDS:
        document["service_tier"] = _TIER_WORDS[conversation.tier]
    elif conversation.tier is not None:
        losses.append(Loss(LossKind.KNOB, "tier"))
    return document


def _sampling(sampling: Sampling, profile: Profile, losses: list[Loss], *, reasoning: bool) -> dict[str, Any]:
    """The tuning knobs that the model takes, `reasoning` or not."""
    taken = profile.sampling and not is_stricter(profile)
    if taken:
        sampling = together(sampling, profile, losses, reasoning=reasoning)
    names = ("temperature", "top_p", "top_k") if taken else ()
    said = {name: value for name in Sampling.__struct_fields__ if (value := getattr(sampling, name)) is not None}
    losses += [Loss(LossKind.KNOB, f"sampling.{name}") for name in said if name not in names]
    return {name: value for name, value in said.items() if name in names}


def _cap(conversation: Conversation, profile: Profile) -> int:
    """The cap on the answer: the tighter of those asked for, else what the model can do."""
    asked = [cap for cap in (conversation.max_output, conversation.max_text) if cap is not None]
    if asked:
        return min(asked)
    return profile.max_output if profile.max_output is not None else DEFAULT_CAP


def _names_model(conversation: Conversation) -> bool:
    return bool(conversation.model) or find(conversation.rest, DIALECT, "model") is None


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _messages(members: Members) -> tuple[Message | UnknownMessage, ...]:
    system = decode_system(members)
    raws = members.take("messages", RAWS)
    if raws is None:
        raise Fault(Kind.INVALID_REQUEST, "'messages' must be a list", param="messages")
    turns = [message for index, raw in enumerate(raws) for message in decode_turn(raw, f"messages.{index}")]
    return (*system, *turns)


def _stop(members: Members) -> tuple[str, ...]:
    several = members.take("stop_sequences", _STRINGS)
    if several == []:
        members.put_back("stop_sequences", EMPTY_LIST)
    return tuple(several or ())


def _tier(members: Members) -> str | None:
    word = members.take("service_tier", STRING)
    if word is not None and word not in _TIERS:
        members.put_back("service_tier", msgspec.Raw(_encode(word)))
    return _TIERS.get(word or "")


def _tools(members: Members) -> tuple[Tool | UnknownTool, ...]:
    raws = members.take("tools", RAWS)
    if raws == []:
        members.put_back("tools", EMPTY_LIST)
    return tuple(_decode_tool(raw) for raw in raws or ())


def _decode_tool(raw: msgspec.Raw) -> Tool | UnknownTool:
    members = Members.of(raw)
    name = members.take("name", STRING) if members is not None else None
    if members is None or name is None:
        return UnknownTool(DIALECT, raw)
    if "type" in members:
        kind = members.take("type", RAW)
        if kind is not None and bytes(kind) != b'"custom"':
            return UnknownTool(DIALECT, raw)
        if kind is not None:
            members.put_back("type", EMPTY_LIST)  # the kind of a tool that names none
    description, strict = members.take("description", STRING), members.take("strict", FLAG)
    parameters, cache = members.take("input_schema", RAW), take_cache(members)
    if parameters is not None and not bytes(parameters).startswith(b"{"):
        return UnknownTool(DIALECT, raw)
    return Tool(name, description, parameters, strict, members.rest(DIALECT), cache)


def _encode_tool(tool: Tool | UnknownTool, where: str, profile: Profile, losses: list[Loss]) -> Any:
    if isinstance(tool, UnknownTool):
        return tool.value
    losses += losses_of(tool.rest, DIALECT, where)
    document: dict[str, Any] = {"name": tool.name}
    if find(tool.rest, DIALECT, "type") == EMPTY_LIST:
        document["type"] = "custom"
    if tool.description is not None:
        document["description"] = tool.description
    if tool.parameters is not None or find(tool.rest, DIALECT, "input_schema") is None:
        document["input_schema"] = tool.parameters if tool.parameters is not None else {"type": "object"}
    if tool.strict is not None and profile.schema:
        document["strict"] = tool.strict
    elif tool.strict:
        losses.append(Loss(LossKind.KNOB, f"{where}.strict"))
    if profile.cache_marks:
        document |= encode_cache(tool.cache, where, losses)
    elif tool.cache is not None:
        losses.append(Loss(LossKind.MARK, f"{where}.cache"))
    return with_rest(document, tool.rest, DIALECT)


def _tool_choice(members: Members) -> tuple[ToolChoice | None, bool | None]:
    """Which tools are to be called, and whether several at once."""
    raw = members.take("tool_choice", RAW)
    inner = Members.of(raw) if raw is not None else None
    if raw is None:
        return None, None
    kind = (inner.take("type", STRING) or "") if inner is not None else ""
    name = inner.take("name", STRING) if inner is not None and kind == "tool" else None
    single = inner.take("disable_parallel_tool_use", FLAG) if inner is not None and kind != "none" else None
    if inner is None or kind not in _CALLS or (kind == "tool") != (name is not None) or inner.rest(DIALECT):
        members.put_back("tool_choice", raw)
        return None, None
    choice = ToolChoice(_CALLS[kind], (name,) if name is not None else ())
    return choice, None if single is None else not single


def _encode_choice(conversation: Conversation, losses: list[Loss]) -> dict[str, Any] | None:
    choice, parallel = conversation.tool_choice, conversation.parallel_calls
    if choice is None:
        if parallel is not False:
            return None  # several at once are welcome where nothing is said
        if not conversation.tools:
            losses.append(Loss(LossKind.KNOB, "parallel_calls"))
            return None
        return {"type": "auto", "disable_parallel_tool_use": True}
    if choice.names and (choice.call is not Call.REQUIRED or len(choice.names) > 1):
        raise inexpressible("tool_choice")
    document: dict[str, Any] = {"type": _CALL_WORDS[choice.call]}
    if choice.names:
        document = {"type": "tool", "name": choice.names[0]}
    if parallel is not None and choice.call is not Call.NONE:
        document["disable_parallel_tool_use"] = not parallel
    return document


def _format(members: Members, name: str) -> Format | None:
    raw = members.take(name, RAW)
    if raw is None:
        return None
    inner = Members.of(raw)
    schema = inner.take("schema", RAW) if inner is not None else None
    known = inner is not None and inner.take("type", STRING) == "json_schema"
    if inner is None or not known or schema is None or not bytes(schema).startswith(b"{"):
        members.put_back(name, raw)
        return None
    return Format(Shape.SCHEMA, schema=schema, rest=inner.rest(DIALECT))


def _output_config(asked: Format | None, effort: str | None, profile: Profile, losses: list[Loss]) -> dict[str, Any]:
    document: dict[str, Any] = {} if effort is None else {"effort": effort}
    if asked is None or asked.shape is Shape.TEXT:
        return document
    if asked.shape is not Shape.SCHEMA or asked.schema is None or not profile.schema:
        raise inexpressible("format")
    losses += losses_of(asked.rest, DIALECT, "format")
    losses += [Loss(LossKind.MARK, f"format.{name}") for name in ("name", "description") if getattr(asked, name)]
    if asked.strict is False:
        losses.append(Loss(LossKind.KNOB, "format.strict"))  # it is always strict
    document["format"] = with_rest({"type": "json_schema", "schema": asked.schema}, asked.rest, DIALECT)
    return document


def _reasoned(
    conversation: Conversation, document: dict[str, Any], profile: Profile, cap: int, losses: list[Loss]
) -> Reasoned:
    """What is said of reasoning, so that it goes with the rest of the request."""
    native = any(says_word_only(extra) for extra in conversation.rest)
    reasoned = encode_thinking(conversation.thinking, profile, cap, losses, native=native)
    mode = (reasoned.thinking or {}).get("type")
    forced = reasoned.derived and document.get("tool_choice", {}).get("type") in ("any", "tool")
    if forced or (mode == "enabled" and _answers_unproven_call(document["messages"])):
        losses.append(Loss(LossKind.KNOB, "thinking"))
        return Reasoned(None, reasoned.effort)
    return reasoned


def _answers_unproven_call(turns: list[Any]) -> bool:
    """Whether the last turn answers a call that was not begun with reasoning.

    Providers refuse to reason by a budget in the middle of such a turn.
    """
    if len(turns) < 2 or not all(isinstance(turn, dict) for turn in turns[-2:]):
        return False
    said, answered = turns[-2]["content"], turns[-1]["content"]
    return _kind(answered) == "tool_result" and _kind(said) not in ("", "thinking", "redacted_thinking")


def _kind(content: Any) -> str:
    """The type of the first block of a turn; "" where it has none."""
    first = content[0] if isinstance(content, list) and content else None
    return str(first.get("type", "")) if isinstance(first, dict) else ""
