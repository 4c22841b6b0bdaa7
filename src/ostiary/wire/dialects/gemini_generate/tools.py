"""Tools and their choice, from and to the pivot. It must not know who runs a tool.

Source: official Python SDK 3.4, `types.Tool`, `FunctionDeclaration` and `FunctionCallingConfig`. A tool is a list of
functions or one that Google runs; parameters are Google's schema or a JSON schema, and the latter is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ostiary.wire.conversation.conversation import Call, Tool, ToolChoice, UnknownTool
from ostiary.wire.conversation.members import with_rest
from ostiary.wire.conversation.unknown import Loss, LossKind, losses_of
from ostiary.wire.dialects.gemini_generate.fields import DIALECT, STRING, STRINGS, Fields, encode
from ostiary.wire.dialects.gemini_generate.schemas import to_json_schema

_FUNCTIONS = "functionDeclarations"
_MODES = {"AUTO": Call.AUTO, "ANY": Call.REQUIRED, "NONE": Call.NONE}
_MODE_WORDS = {call: mode for mode, call in _MODES.items()}
_NAMES = "allowedFunctionNames"


def decode_tools(raws: Sequence[msgspec.Raw]) -> tuple[Tool | UnknownTool, ...]:
    """The tools of a request."""
    tools: list[Tool | UnknownTool] = []
    for raw in raws:
        members = Fields.of(raw)
        functions = members.items(_FUNCTIONS) if members is not None else None
        if members is None or functions is None:
            tools.append(UnknownTool(DIALECT, raw))
            continue
        tools += [_function(function) for function in functions]
        left = {extra.path[-1]: extra.value for extra in members.rest(DIALECT)}
        if left or not functions:
            tools.append(UnknownTool(DIALECT, msgspec.Raw(encode(left))))
    return tuple(tools)


def _function(raw: msgspec.Raw) -> Tool | UnknownTool:
    members = Fields.of(raw)
    name = members.take("name", STRING) if members is not None else None
    if members is None or name is None:
        return UnknownTool(DIALECT, msgspec.Raw(encode({_FUNCTIONS: [raw]})))
    description = members.take("description", STRING)
    parameters = members.object("parametersJsonSchema")
    if parameters is None and (own := members.object("parameters")) is not None:
        parameters = to_json_schema(own)
        if parameters is None:
            members.put_back("parameters", own)
    return Tool(name, description, parameters, rest=members.rest(DIALECT, {"parameters", "parametersJsonSchema"}))


def encode_tools(tools: Sequence[Tool | UnknownTool], places: Sequence[str], losses: list[Loss]) -> list[Any]:
    """The tools of a request, each with its place, all functions in one list."""
    documents: list[Any] = []
    functions: list[Any] | None = None
    for index, (where, tool) in enumerate(zip(places, tools, strict=True)):
        if isinstance(tool, UnknownTool):
            documents.append(tool.value)
            continue
        if functions is None:
            functions = []
            documents.append({_FUNCTIONS: functions})
        elif isinstance(tools[index - 1], UnknownTool):
            losses.append(Loss(LossKind.SHAPE, where))
        functions.append(_encode_function(tool, where, losses))
    return documents


def _encode_function(tool: Tool, where: str, losses: list[Loss]) -> dict[str, Any]:
    losses += losses_of(tool.rest, DIALECT, where)
    if tool.cache is not None:
        losses.append(Loss(LossKind.MARK, f"{where}.cache"))
    if tool.strict:
        losses.append(Loss(LossKind.KNOB, f"{where}.strict"))
    values = {"description": tool.description, "parametersJsonSchema": tool.parameters}
    said = {name: value for name, value in values.items() if value is not None}
    return with_rest({"name": tool.name, **said}, tool.rest, DIALECT)


def decode_choice(config: Fields) -> ToolChoice | None:
    """The choice a tool config makes; None, and nothing is taken, where the pivot has no word for it."""
    mode = config.take("mode", STRING)
    names = config.take(_NAMES, STRINGS)
    if mode == "VALIDATED" and names:
        return ToolChoice(Call.AUTO, tuple(names))
    if names and mode != "ANY":
        config.put_back(_NAMES, msgspec.Raw(encode(names)))
    call = _MODES.get(mode or "")
    if call is None and mode is not None:
        config.put_back("mode", msgspec.Raw(encode(mode)))
    return None if call is None else ToolChoice(call, tuple(names or ()) if mode == "ANY" else ())


def encode_choice(choice: ToolChoice, losses: list[Loss]) -> dict[str, Any]:
    """The function calling config for a choice."""
    if not choice.names:
        return {"mode": _MODE_WORDS[choice.call]}
    if choice.call is Call.NONE:
        losses.append(Loss(LossKind.KNOB, "tool_choice.names"))
        return {"mode": "NONE"}
    return {"mode": "VALIDATED" if choice.call is Call.AUTO else "ANY", _NAMES: choice.names}
