"""How long a conversation is, for those who ask and whose model's maker does not tell. It must not be used for money.

A stated rule, no tokenizer: a token for every four bytes of text, names and schemas, four for each turn and call, and
for pictures, sound and documents what common models take for one of usual size.
"""

from __future__ import annotations

from ostiary.wire.conversation.conversation import Conversation, Message, Tool, UnknownMessage
from ostiary.wire.conversation.parts import (
    Audio,
    Document,
    Image,
    Inline,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)

_BYTES_OF_A_TOKEN = 4
_TURN = 4  # tokens
_IMAGE = 1_100
_SOUND_OR_FILE = 1_500
_LARGEST_PIECE = 50_000


def counted(asked: Conversation) -> int:
    """About how many tokens of input a request is."""
    size = sum(_turn(message) for message in asked.messages)
    for tool in asked.tools:
        if isinstance(tool, Tool):
            size += _TURN + _tokens(tool.name) + _tokens(tool.description or "") + _raw(tool.parameters)
        else:
            size += _raw(tool.value)
    if asked.format is not None:
        size += _raw(asked.format.schema)
    return max(size, 1)


def _turn(message: Message | UnknownMessage) -> int:
    if isinstance(message, UnknownMessage):
        return _TURN + _raw(message.value)
    return _TURN + sum(_part(part) for part in message.parts)


def _part(part: Part) -> int:
    match part:
        case Text(text=text) | Reasoning(text=text) | Refusal(text=text):
            return _tokens(text)
        case ToolCall(name=name, arguments=arguments):
            return _TURN + _tokens(name) + _tokens(arguments)
        case ToolResult(parts=parts):
            return _TURN + sum(_part(inner) for inner in parts)
        case Image():
            return _IMAGE
        case Document(source=Inline(media_type=kind, base64=data)) if kind.startswith("text/"):
            return len(data) * 3 // 4 // _BYTES_OF_A_TOKEN + 1
        case Audio() | Document():
            return _SOUND_OR_FILE
    return min(_raw(part.value), _LARGEST_PIECE)


def _tokens(text: str) -> int:
    return (len(text.encode()) + _BYTES_OF_A_TOKEN - 1) // _BYTES_OF_A_TOKEN


def _raw(value: object) -> int:
    return 0 if value is None else len(bytes(value)) // _BYTES_OF_A_TOKEN + 1  # type: ignore[call-overload]
