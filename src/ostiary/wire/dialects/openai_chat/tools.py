"""Tools of a request and the choice among them, from and to the pivot. It must not read a schema.

Source: OpenAI API reference, chat completions, tools and tool_choice (official Python SDK 3.54, `types.chat`).
`cache_control` beside `function` is OpenRouter's and LiteLLM's.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ostiary.wire.conversation.conversation import Call, Tool, ToolChoice, UnknownTool
from ostiary.wire.conversation.members import EMPTY_LIST, Members, with_rest
from ostiary.wire.conversation.unknown import Loss, losses_of
from ostiary.wire.dialects.openai_chat.parts import put_cache, take_cache
from ostiary.wire.dialects.openai_chat.values import DIALECT, FLAG, RAW, RAWS, STRING, object_of

_CALLS = {call.value: call for call in Call}
_encode = msgspec.json.Encoder().encode


def take_tools(members: Members) -> tuple[Tool | UnknownTool, ...]:
    """The tools of a request."""
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
    description, strict = inner.take("description", STRING), inner.take("strict", FLAG)
    parameters = object_of(inner, "parameters")
    cache = take_cache(members)
    return Tool(name, description, parameters, strict, members.rest(DIALECT, {"function"}), cache)


def encode_tool(tool: Tool | UnknownTool, where: str, losses: list[Loss]) -> Any:
    """One tool: a function, or one of this dialect's own kinds."""
    if isinstance(tool, UnknownTool):
        return tool.value
    losses += losses_of(tool.rest, DIALECT, where)
    values = {"description": tool.description, "parameters": tool.parameters, "strict": tool.strict}
    function = {"name": tool.name, **{name: value for name, value in values.items() if value is not None}}
    document: dict[str, Any] = {"type": "function", "function": function}
    put_cache(document, tool.cache)
    return with_rest(document, tool.rest, DIALECT)


def take_tool_choice(members: Members) -> ToolChoice | None:
    """Which tools may or must be called; what the pivot has no word for stays where it is."""
    word = members.take("tool_choice", STRING)
    if word is not None:
        if word in _CALLS:
            return ToolChoice(_CALLS[word])
        members.put_back("tool_choice", msgspec.Raw(_encode(word)))
        return None
    raw = members.take("tool_choice", RAW)
    choice = _named_choice(raw) if raw is not None else None
    if choice is None and raw is not None:
        members.put_back("tool_choice", raw)
    return choice


def _named_choice(raw: msgspec.Raw) -> ToolChoice | None:
    """A choice of functions by name; None for any other, which stays as it came."""
    members = Members.of(raw)
    if members is None:
        return None
    name = _function_name(raw)
    if name is not None:
        return ToolChoice(Call.REQUIRED, (name,))
    inner = members.inside("allowed_tools")
    call = _CALLS.get(inner.take("mode", STRING) or "")
    names = [_function_name(tool) for tool in inner.take("tools", RAWS) or ()]
    known = tuple(name for name in names if name is not None)
    if members.take("type", STRING) != "allowed_tools" or members.rest(DIALECT) or len(known) < len(names):
        return None
    if call is None or not known or (call is Call.REQUIRED and len(known) == 1):
        return None  # the last would come back as the choice of one function
    return ToolChoice(call, known)


def _function_name(raw: msgspec.Raw) -> str | None:
    members = Members.of(raw)
    if members is None or members.take("type", STRING) != "function":
        return None
    name = members.inside("function").take("name", STRING)
    return name if not members.rest(DIALECT) else None


def encode_tool_choice(choice: ToolChoice) -> Any:
    """The `tool_choice` member."""
    tools = [{"type": "function", "function": {"name": name}} for name in choice.names]
    if not tools:
        return choice.call.value
    if choice.call is Call.REQUIRED and len(tools) == 1:
        return tools[0]
    return {"type": "allowed_tools", "allowed_tools": {"mode": choice.call.value, "tools": tools}}
