"""What a request says beside its turns: tools, the form of the answer, reasoning, what to include. It must not judge.

Source: official Python SDK 3.54, `types.responses.ResponseCreateParams`, `FunctionToolParam`, `ToolChoice…Param`,
`ResponseTextConfigParam`; `types.shared_params.Reasoning`. A function whose `strict` is not said is strict here and not
elsewhere (OpenAI guide to function calling, strict mode), so it is always said for functions of other dialects.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ostiary.wire.conversation.conversation import (
    Call,
    Conversation,
    Format,
    Shape,
    Thinking,
    Tool,
    ToolChoice,
    UnknownTool,
)
from ostiary.wire.conversation.members import EMPTY_LIST, Members
from ostiary.wire.conversation.unknown import Extra, Loss, LossKind, find, losses_of
from ostiary.wire.dialects.openai_responses.marks import DIALECT, mark, marked, ordered, put
from ostiary.wire.dialects.openai_responses.parts import RAW, RAWS, STRING
from ostiary.wire.profile import Profile, Thinks

FLAG = msgspec.json.Decoder(bool)
_STRINGS = msgspec.json.Decoder(list[str])
_CALLS = {call.value: call for call in Call}
_SHAPES = {"text": Shape.TEXT, "json_object": Shape.JSON, "json_schema": Shape.SCHEMA}
_SHAPE_WORDS = {shape: word for word, shape in _SHAPES.items()}
SEALED, SCORED = "reasoning.encrypted_content", "message.output_text.logprobs"
_LOW, _MEDIUM = 2048, 8192  # tokens of thought up to which an effort is low, and medium
_encode = msgspec.json.Encoder().encode


def take_tools(members: Members) -> tuple[Tool | UnknownTool, ...]:
    """The tools; those that are no functions whole."""
    raws = members.take("tools", RAWS)
    if raws == []:
        members.put_back("tools", EMPTY_LIST)
    return tuple(_decode_tool(raw) for raw in raws or ())


def _decode_tool(raw: msgspec.Raw) -> Tool | UnknownTool:
    members = Members.of(raw)
    if members is None or members.take("type", STRING) != "function":
        return UnknownTool(DIALECT, raw)
    name = members.take("name", STRING)
    if name is None:
        return UnknownTool(DIALECT, raw)
    marks = [] if "strict" in members else [mark("unsaid")]
    description, strict = members.take("description", STRING), members.take("strict", FLAG)
    parameters = _take_object(members, "parameters")
    return Tool(name, description, parameters, strict, ordered(members.rest(DIALECT), marks))


def _take_object(members: Members, name: str) -> msgspec.Raw | None:
    raw = members.take(name, RAW)
    if raw is not None and not bytes(raw).startswith(b"{"):
        members.put_back(name, raw)
        return None
    return raw


def encode_tool(tool: Tool | UnknownTool, where: str, losses: list[Loss]) -> Any:
    """One tool: a function, or one of this dialect's own kinds."""
    if isinstance(tool, UnknownTool):
        return tool.value
    losses += losses_of(tool.rest, DIALECT, where)
    if tool.cache is not None:
        losses.append(Loss(LossKind.MARK, f"{where}.cache"))
    document: dict[str, Any] = {"type": "function", "name": tool.name}
    if tool.description is not None:
        document["description"] = tool.description
    if tool.parameters is not None:
        document["parameters"] = tool.parameters
    if tool.strict is not None:
        document["strict"] = tool.strict
    elif not marked(tool.rest, "unsaid") and find(tool.rest, DIALECT, "strict") is None:
        document["strict"] = False
    return put(document, tool.rest)


def take_tool_choice(members: Members) -> ToolChoice | None:
    """The choice of all tools, or of functions by name; any other is left."""
    raw = members.take("tool_choice", RAW)
    if raw is None:
        return None
    choice = _decode_choice(raw)
    if choice is None:
        members.put_back("tool_choice", raw)
    return choice


def _decode_choice(raw: msgspec.Raw) -> ToolChoice | None:
    members = Members.of(raw)
    if members is None:
        word = Members({"word": raw}).take("word", STRING)
        return ToolChoice(_CALLS[word]) if word in _CALLS else None
    name = _function_name(raw)
    if name is not None:
        return ToolChoice(Call.REQUIRED, (name,))
    call = _CALLS.get(members.take("mode", STRING) or "")
    names = [_function_name(tool) for tool in members.take("tools", RAWS) or ()]
    known = tuple(name for name in names if name is not None)
    if members.take("type", STRING) != "allowed_tools" or members.rest(DIALECT) or len(known) < len(names):
        return None
    if call not in (Call.AUTO, Call.REQUIRED) or not known or (call is Call.REQUIRED and len(known) == 1):
        return None  # the last would come back as the choice of one function
    return ToolChoice(call, known)


def _function_name(raw: msgspec.Raw) -> str | None:
    members = Members.of(raw)
    if members is None or members.take("type", STRING) != "function":
        return None
    name = members.take("name", STRING)
    return name if not members.rest(DIALECT) else None


def encode_tool_choice(choice: ToolChoice) -> Any:
    """Which tools may or must be called."""
    tools = [{"type": "function", "name": name} for name in choice.names]
    if not tools or choice.call is Call.NONE:
        return choice.call.value
    if choice.call is Call.REQUIRED and len(tools) == 1:
        return tools[0]
    return {"type": "allowed_tools", "mode": choice.call.value, "tools": tools}


def take_format(text: Members) -> Format | None:
    """The form of the answer; a form nobody knows is left."""
    raw = text.take("format", RAW)
    if raw is None:
        return None
    inner = Members.of(raw)
    shape = _SHAPES.get(inner.take("type", STRING) or "") if inner is not None else None
    if inner is None or shape is None:
        text.put_back("format", raw)
        return None
    if shape is not Shape.SCHEMA:
        return Format(shape, rest=inner.rest(DIALECT))
    name, description = inner.take("name", STRING), inner.take("description", STRING)
    schema, strict = _take_object(inner, "schema"), inner.take("strict", FLAG)
    return Format(shape, name, description, schema, strict, inner.rest(DIALECT, {"schema"}))


def encode_format(asked: Format, losses: list[Loss]) -> dict[str, Any]:
    """The form of the answer."""
    losses += losses_of(asked.rest, DIALECT, "format")
    document: dict[str, Any] = {"type": _SHAPE_WORDS[asked.shape]}
    values = {"name": asked.name, "description": asked.description, "schema": asked.schema, "strict": asked.strict}
    document.update({name: value for name, value in values.items() if value is not None})
    if asked.shape is Shape.SCHEMA and asked.name is None and find(asked.rest, DIALECT, "name") is None:
        document["name"] = "answer"  # demanded here, and not everywhere
    return put(document, asked.rest)


def take_thinking(members: Members) -> Thinking:
    """How much to reason, and how much of it to tell."""
    inner = members.inside("reasoning")
    return Thinking(effort=inner.take("effort", STRING), shown=inner.take("summary", STRING))


def encode_thinking(thinking: Thinking, profile: Profile, losses: list[Loss]) -> dict[str, Any]:
    """The `reasoning` member; empty where there is nothing to say. All models of this dialect are told in words."""
    said = {name for name in thinking.__struct_fields__ if getattr(thinking, name) is not None}
    if profile.thinks is Thinks.NEVER:
        losses += [Loss(LossKind.KNOB, f"thinking.{name}") for name in sorted(said)]
        return {}
    document: dict[str, Any] = {}
    effort = _effort(thinking)
    if effort is not None:
        document["effort"] = effort
    if thinking.shown not in (None, "none"):
        document["summary"] = thinking.shown
    losses += [Loss(LossKind.KNOB, f"thinking.{name}") for name in ("adaptive", "budget") if name in said]
    return document


def _effort(thinking: Thinking) -> str | None:
    if thinking.effort is not None:
        return thinking.effort
    if thinking.on is False:
        return "none"
    if thinking.budget is not None:
        return "low" if thinking.budget <= _LOW else "medium" if thinking.budget <= _MEDIUM else "high"
    return "medium" if thinking.on or thinking.adaptive else None


def take_include(members: Members, thinking: Thinking, *, stored: bool) -> tuple[bool | None, list[Extra]]:
    """Whether chances are wanted, and what distinguishes the list from the one that would be written."""
    names = members.take("include", _STRINGS)
    usual = include_of(thinking, stored=stored)
    scored = True if names is not None and SCORED in names else None
    if scored:
        usual = [*usual, SCORED]
    if names is None:
        return scored, [mark("plain")] if usual and "include" not in members else []
    if names != usual or not names:
        members.put_back("include", msgspec.Raw(_encode(names)))
    return scored, []


def encode_include(conversation: Conversation, *, thinks: bool) -> list[str] | None:
    """What the answer should include; None where nothing is to be said."""
    kept = find(conversation.rest, DIALECT, "include")
    names = Members({"include": kept}).take("include", _STRINGS) if kept is not None else None
    if names is None:
        if kept is not None or marked(conversation.rest, "plain") or not thinks:
            names = []
        else:
            names = include_of(conversation.thinking, stored=bool(conversation.store))
        return [*names, *([SCORED] if conversation.logprobs else [])] or None
    if conversation.logprobs and SCORED not in names:
        return [*names, SCORED]
    return names if conversation.logprobs else [name for name in names if name != SCORED]


def wants_proofs(asked: Conversation) -> bool:
    """Whether the client keeps reasoning itself: it asks for its proofs, or for nothing to be stored."""
    return asked.store is False or SEALED in (encode_include(asked, thinks=True) or ())


def include_of(thinking: Thinking, *, stored: bool) -> list[str]:
    """What is included without being asked for: reasoning that nobody stores has to come back with the next request."""
    used = _effort(thinking) not in (None, "none")
    return [SEALED] if used and not stored else []
