"""Tools of a request, from and to the pivot. It must not say whether a model can use them.

Source: botocore 1.44, `bedrock-runtime` 2023-09-30: ToolConfiguration. `tools` may not be empty, and whether a tool
must be called can be said only where there are some.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ostiary.wire.conversation.conversation import (
    Call,
    Conversation,
    Message,
    Role,
    Tool,
    ToolChoice,
    UnknownMessage,
    UnknownTool,
)
from ostiary.wire.conversation.members import EMPTY_LIST, Members, with_rest
from ostiary.wire.conversation.parts import ToolCall
from ostiary.wire.conversation.unknown import Loss, LossKind, inexpressible, losses_of
from ostiary.wire.dialects.bedrock_converse.media import DIALECT, SAID, STRING
from ostiary.wire.dialects.bedrock_converse.parts import RAW, RAWS, cache_point, decode_cache
from ostiary.wire.profile import Profile

TOOL_CONFIG = "toolConfig"
_FLAG = msgspec.json.Decoder(bool)
_NO_PARAMETERS = msgspec.Raw(b'{"type":"object","properties":{}}')
_CALLS = {"auto": Call.AUTO, "any": Call.REQUIRED}
_WORDS = {call: word for word, call in _CALLS.items()}


def decode_tools(members: Members) -> tuple[tuple[Tool | UnknownTool, ...], ToolChoice | None]:
    """The tools, and which of them must be called."""
    inner = members.inside(TOOL_CONFIG)
    raws = inner.take("tools", RAWS)
    if raws == []:
        inner.put_back("tools", EMPTY_LIST)
    tools: list[Tool | UnknownTool] = []
    for raw in raws or ():
        point, last = decode_cache(raw), tools[-1] if tools else None
        if point is not None and isinstance(last, Tool) and last.cache is None:
            tools[-1] = msgspec.structs.replace(last, cache=point)
        else:
            tools.append(_decode_tool(raw))
    choice = inner.take("toolChoice", RAW)
    chosen = _decode_choice(choice) if choice is not None and tools else None
    if choice is not None and chosen is None:
        inner.put_back("toolChoice", choice)
    return tuple(tools), chosen


def _decode_tool(raw: msgspec.Raw) -> Tool | UnknownTool:
    members = Members.of(raw)
    if members is None:
        return UnknownTool(DIALECT, raw)
    inner = members.inside("toolSpec")
    name, description, strict = (
        inner.take("name", STRING),
        inner.take("description", STRING),
        inner.take("strict", _FLAG),
    )
    parameters = inner.inside("inputSchema").take("json", RAW)
    if name is None or parameters is None or not bytes(parameters).startswith(b"{"):
        return UnknownTool(DIALECT, raw)
    return Tool(name, description, parameters, strict, members.rest(DIALECT, {"toolSpec"}))


def _decode_choice(raw: msgspec.Raw) -> ToolChoice | None:
    members = Members.of(raw)
    if members is None:
        return None
    name = members.inside("tool").take("name", STRING)
    if name is not None:
        return ToolChoice(Call.REQUIRED, (name,)) if not members.rest(DIALECT) else None
    for word, call in _CALLS.items():
        said = members.take(word, RAW)
        if said is not None:
            plain = said == SAID and not members.rest(DIALECT)
            return ToolChoice(call) if plain else None
    return None


def encode_tools(
    conversation: Conversation, places: Sequence[str], profile: Profile, losses: list[Loss]
) -> dict[str, Any]:
    """The `toolConfig` object for tools with their places; empty where there is nothing to say.

    Raises:
        Fault: INVALID_REQUEST for choices this dialect cannot say.
    """
    choice = conversation.tool_choice
    if choice is not None and choice.call is Call.NONE and conversation.tools:
        if _used(conversation):
            raise inexpressible("tool_choice")  # calls in the history ask for their tools
        losses.append(Loss(LossKind.SHAPE, "tools"))
        return {}
    document: dict[str, Any] = {}
    tools: list[Any] = []
    for place, tool in zip(places, conversation.tools, strict=True):
        tools += _encode_tool(tool, profile, place, losses)
    if tools:
        document["tools"] = tools
    if choice is not None and tools:
        document["toolChoice"] = _encode_choice(choice)
    elif choice is not None and choice.call is Call.REQUIRED:
        raise inexpressible("tool_choice")
    return document


def _used(conversation: Conversation) -> bool:
    return any(
        isinstance(turn, UnknownMessage)
        or turn.role is Role.TOOL
        or any(isinstance(part, ToolCall) for part in turn.parts)
        for turn in conversation.messages
        if isinstance(turn, Message)
    )


def _encode_tool(tool: Tool | UnknownTool, profile: Profile, where: str, losses: list[Loss]) -> list[Any]:
    if isinstance(tool, UnknownTool):
        return [tool.value]
    losses += losses_of(tool.rest, DIALECT, where)
    spec: dict[str, Any] = {"name": tool.name}
    if tool.description:
        spec["description"] = tool.description
    spec["inputSchema"] = {"json": tool.parameters if tool.parameters is not None else _NO_PARAMETERS}
    if tool.strict is not None:
        spec["strict"] = tool.strict
    blocks = [with_rest({"toolSpec": spec}, tool.rest, DIALECT)]
    if tool.cache is not None and profile.cache_marks:
        blocks.append(cache_point(tool.cache, where, losses))
    elif tool.cache is not None:
        losses.append(Loss(LossKind.MARK, f"{where}.cache"))
    return blocks


def _encode_choice(choice: ToolChoice) -> dict[str, Any]:
    if choice.call is Call.REQUIRED and len(choice.names) == 1:
        return {"tool": {"name": choice.names[0]}}
    if choice.names:
        raise inexpressible("tool_choice")
    return {_WORDS[choice.call]: {}}
