"""Chat requests from and to the pivot. It must not judge values: what has not the documented type is kept as it came.

Source: OpenAI API reference, create chat completion (official Python SDK 3.54, `CompletionCreateParams`). `top_k` is
not OpenAI's, but nearly every compatible server's. Duplicate members: the last counts, and it alone travels on.

Shapes that say the same are told apart by what is left of a list once its items were taken: an empty list in `rest`
at `content`, `stop`, `tools` or `tool_calls` stands for "it was a list".
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
    Thinking,
    Tool,
    ToolChoice,
    UnknownMessage,
    UnknownTool,
)
from ostiary.wire.conversation.members import EMPTY_LIST, Members, with_rest
from ostiary.wire.conversation.unknown import Encoded, Loss, LossKind, find, inexpressible, losses_of
from ostiary.wire.dialects.openai_chat.messages import decode_message, encode_message
from ostiary.wire.dialects.openai_chat.parts import DIALECT, INTEGER, RAW, RAWS, STRING
from ostiary.wire.profile import Profile

# Members that are content or constraints; the others are knobs.
_BINDING = frozenset(
    {
        "audio",
        "function_call",
        "functions",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "modalities",
        "model",
        "moderation",
        "n",
        "parallel_tool_calls",
        "response_format",
        "stop",
        "tool_choice",
        "tools",
        "web_search_options",
    }
)
_NUMBER = msgspec.json.Decoder(int | float)
_FLAG = msgspec.json.Decoder(bool)
_STRINGS = msgspec.json.Decoder(list[str])
_LABELS = msgspec.json.Decoder(dict[str, str])
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_CALLS = {call.value: call for call in Call}
_SHAPES = {"text": Shape.TEXT, "json_object": Shape.JSON, "json_schema": Shape.SCHEMA}
_SHAPE_WORDS = {shape: word for word, shape in _SHAPES.items()}
_encode = msgspec.json.Encoder().encode


def decode_request(body: bytes) -> Conversation:
    """The conversation a request body asks for.

    Raises:
        Fault: MALFORMED for what is no JSON object in UTF-8; INVALID_REQUEST where `messages` is no list of objects.
    """
    members = Members.of(body) if _is_text(body) else None
    if members is None:
        raise Fault(Kind.MALFORMED, "the request body is not a valid JSON object")
    options = members.inside("stream_options")
    return Conversation(
        model=members.take("model", STRING) or "",
        messages=_messages(members),
        tools=_tools(members),
        tool_choice=_tool_choice(members),
        parallel_calls=members.take("parallel_tool_calls", _FLAG),
        format=_format(members),
        sampling=Sampling(
            temperature=members.take("temperature", _NUMBER),
            top_p=members.take("top_p", _NUMBER),
            top_k=members.take("top_k", INTEGER),
            frequency_penalty=members.take("frequency_penalty", _NUMBER),
            presence_penalty=members.take("presence_penalty", _NUMBER),
            seed=members.take("seed", INTEGER),
        ),
        thinking=Thinking(effort=members.take("reasoning_effort", STRING)),
        stop=_stop(members),
        max_output=members.take("max_completion_tokens", INTEGER),
        max_text=members.take("max_tokens", INTEGER),
        choices=members.take("n", INTEGER),
        stream=members.take("stream", _FLAG),
        stream_usage=options.take("include_usage", _FLAG),
        user=members.take("user", STRING),
        metadata=members.take("metadata", _LABELS),
        rest=members.rest(DIALECT, _BINDING),
    )


def encode_request(conversation: Conversation, profile: Profile) -> Encoded:
    """The request body for a conversation with a model of this profile, and what it does not say.

    Raises:
        Fault: INVALID_REQUEST where content or a constraint cannot be said in this dialect; another target may do.
    """
    losses = losses_of(conversation.rest, DIALECT, "")
    messages = [
        encode_message(message, f"messages.{index}", losses) for index, message in enumerate(conversation.messages)
    ]
    document = {"messages": messages, **_knobs(conversation, losses)}
    if conversation.model or find(conversation.rest, DIALECT, "model") is None:
        document["model"] = conversation.model
    if conversation.tools:
        document["tools"] = [
            _encode_tool(tool, f"tools.{index}", losses) for index, tool in enumerate(conversation.tools)
        ]
    if conversation.tool_choice is not None:
        document["tool_choice"] = _encode_choice(conversation.tool_choice)
    if conversation.format is not None:
        document["response_format"] = _encode_format(conversation.format, losses)
    if conversation.stop:
        alone = len(conversation.stop) == 1 and find(conversation.rest, DIALECT, "stop") is None
        document["stop"] = conversation.stop[0] if alone else conversation.stop
    if conversation.stream_usage is not None and profile.stream_usage:
        document["stream_options"] = {"include_usage": conversation.stream_usage}
    return Encoded(_encode(with_rest(document, conversation.rest, DIALECT)), tuple(losses))


def _knobs(conversation: Conversation, losses: list[Loss]) -> dict[str, Any]:
    """The members that are plain values."""
    if conversation.thinking.budget is not None:
        losses.append(Loss(LossKind.KNOB, "thinking.budget"))
    sampling = conversation.sampling
    values = {
        "parallel_tool_calls": conversation.parallel_calls,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
        "seed": sampling.seed,
        "reasoning_effort": conversation.thinking.effort,
        "max_completion_tokens": conversation.max_output,
        "max_tokens": conversation.max_text,
        "n": conversation.choices,
        "stream": conversation.stream,
        "user": conversation.user,
        "metadata": conversation.metadata,
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
    one = members.take("stop", STRING)
    if one is not None:
        return (one,)
    several = members.take("stop", _STRINGS)
    if several is not None and len(several) < 2:
        members.put_back("stop", EMPTY_LIST)
    return tuple(several or ())


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
    description, strict = inner.take("description", STRING), inner.take("strict", _FLAG)
    parameters = _object(inner, "parameters")
    return Tool(name, description, parameters, strict, members.rest(DIALECT, {"function"}))


def _object(members: Members, name: str) -> msgspec.Raw | None:
    """A member that is an object, as it stands; any other value is left."""
    raw = members.take(name, RAW)
    if raw is not None and not bytes(raw).startswith(b"{"):
        members.put_back(name, raw)
        return None
    return raw


def _encode_tool(tool: Tool | UnknownTool, where: str, losses: list[Loss]) -> Any:
    if isinstance(tool, UnknownTool):
        if tool.said_by != DIALECT:
            raise inexpressible(where)
        return tool.value
    losses += losses_of(tool.rest, DIALECT, where)
    values = {"description": tool.description, "parameters": tool.parameters, "strict": tool.strict}
    function = {"name": tool.name, **{name: value for name, value in values.items() if value is not None}}
    return with_rest({"type": "function", "function": function}, tool.rest, DIALECT)


def _tool_choice(members: Members) -> ToolChoice | None:
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


def _encode_choice(choice: ToolChoice) -> Any:
    tools = [{"type": "function", "function": {"name": name}} for name in choice.names]
    if not tools:
        return choice.call.value
    if choice.call is Call.REQUIRED and len(tools) == 1:
        return tools[0]
    return {"type": "allowed_tools", "allowed_tools": {"mode": choice.call.value, "tools": tools}}


def _format(members: Members) -> Format | None:
    raw = members.take("response_format", RAW)
    if raw is None:
        return None
    inner = Members.of(raw)
    shape = _SHAPES.get(inner.take("type", STRING) or "") if inner is not None else None
    if inner is None or shape is None or (shape is Shape.SCHEMA and "json_schema" not in inner):
        members.put_back("response_format", raw)
        return None
    if shape is not Shape.SCHEMA:
        return Format(shape, rest=inner.rest(DIALECT))
    asked = inner.inside("json_schema")
    name, description = asked.take("name", STRING), asked.take("description", STRING)
    schema, strict = _object(asked, "schema"), asked.take("strict", _FLAG)
    return Format(shape, name, description, schema, strict, inner.rest(DIALECT, {"json_schema"}))


def _encode_format(asked: Format, losses: list[Loss]) -> Any:
    losses += losses_of(asked.rest, DIALECT, "format")
    document: dict[str, Any] = {"type": _SHAPE_WORDS[asked.shape]}
    values = {"name": asked.name, "description": asked.description, "schema": asked.schema, "strict": asked.strict}
    said = {name: value for name, value in values.items() if value is not None}
    if said:
        document["json_schema"] = said
    return with_rest(document, asked.rest, DIALECT)
