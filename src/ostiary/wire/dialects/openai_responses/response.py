"""The `response` object around an answer. It must not say more of a request than was asked.

Source: official Python SDK 3.54, `types.responses.Response`. It tells the client again what it asked, as the client
said it; what cannot be of the documented type is not told again.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ostiary.wire.conversation.conversation import Conversation, Format, Message, Role, Shape, Tool, UnknownTool
from ostiary.wire.conversation.members import UNREADABLE
from ostiary.wire.conversation.parts import Text
from ostiary.wire.conversation.reply import Finish, Reason
from ostiary.wire.conversation.unknown import find
from ostiary.wire.dialect import Answering
from ostiary.wire.dialects.openai_responses.marks import DIALECT, marked
from ostiary.wire.dialects.openai_responses.settings import encode_format, encode_tool, encode_tool_choice

TIERS = frozenset({"auto", "default", "flex", "scale", "priority", "fast", "ultrafast"})
_EFFORTS = frozenset({"none", "minimal", "low", "medium", "high", "xhigh", "max"})
_SHOWN = frozenset({"auto", "concise", "detailed"})
# The states of a response that is not at its end; they are its finish's word.
UNDONE = frozenset({"queued", "in_progress"})
INCOMPLETE = "incomplete"
_WHY = {Reason.LENGTH: "max_output_tokens", Reason.CONTENT_FILTER: "content_filter"}
REASONS = {word: reason for reason, word in _WHY.items()}
_string = msgspec.json.Decoder(str)
_count = msgspec.json.Decoder(int)
_flag = msgspec.json.Decoder(bool)
# What is told again from the rest of a request, and how it is read.
_AGAIN: dict[str, msgspec.json.Decoder[Any]] = {
    "background": _flag,
    "max_tool_calls": _count,
    "prompt_cache_key": _string,
    "truncation": msgspec.json.Decoder(str),
    "user": _string,
}
_TRUNCATIONS = frozenset({"auto", "disabled"})
_VERBOSITIES = frozenset({"low", "medium", "high"})


def frame(answering: Answering) -> dict[str, Any]:
    """A response in progress, without what may come of it."""
    asked = answering.asked
    document: dict[str, Any] = {
        "id": f"resp_{answering.id}",
        "object": "response",
        "created_at": answering.created,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": _instructions(asked),
        "max_output_tokens": asked.max_output,
        "model": answering.model,
        "output": [],
        "parallel_tool_calls": True if asked.parallel_calls is None else asked.parallel_calls,
        "previous_response_id": asked.previous,
        "reasoning": _reasoning(asked),
        "store": True if asked.store is None else asked.store,
        "temperature": asked.sampling.temperature,
        "text": _text(asked),
        "tool_choice": _tool_choice(asked),
        "tools": _tools(asked),
        "top_p": asked.sampling.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": None,
        "metadata": asked.metadata or {},
    }
    if asked.top_logprobs is not None:
        document["top_logprobs"] = asked.top_logprobs
    for name, decoder in _AGAIN.items():
        value = _said(asked, decoder, name)
        if value is not None and (name != "truncation" or value in _TRUNCATIONS):
            document[name] = value
    if asked.user is not None:
        document["user" if marked(asked.rest, "user") else "safety_identifier"] = asked.user
    return document


def ended(document: dict[str, Any], finish: Finish) -> dict[str, Any]:
    """The members that tell how a response ended."""
    word = finish.word if finish.said_by == DIALECT else ""
    if word in UNDONE:
        return {**document, "status": word}
    why = word or _WHY.get(finish.reason, "")
    if not why:
        return {**document, "status": "completed"}
    details = None if why == INCOMPLETE else {"reason": why}
    return {**document, "status": INCOMPLETE, "incomplete_details": details}


def finish_of(status: str | None, why: str | None, *, called: bool) -> Finish:
    """How a response that did not fail ended."""
    if status == INCOMPLETE:
        reason = REASONS.get(why or "")
        return Finish(reason) if reason is not None else Finish(Reason.OTHER, why or INCOMPLETE, DIALECT)
    if status in UNDONE:
        return Finish(Reason.OTHER, status or "", DIALECT)
    return Finish(Reason.TOOL_CALLS if called else Reason.STOP)


def _said(asked: Conversation, decoder: msgspec.json.Decoder[Any], *path: str) -> Any:
    raw = find(asked.rest, DIALECT, *path)
    if raw is None:
        return None
    try:
        return decoder.decode(raw)
    except UNREADABLE:
        return None


def _instructions(asked: Conversation) -> str | None:
    first = asked.messages[0] if asked.messages else None
    if not isinstance(first, Message) or first.role is not Role.SYSTEM or marked(asked.rest, "item"):
        return None
    words = first.parts[0] if len(first.parts) == 1 and not first.rest else None
    return words.text if isinstance(words, Text) else None


def _reasoning(asked: Conversation) -> dict[str, Any]:
    effort, shown = asked.thinking.effort, asked.thinking.shown
    return {"effort": effort if effort in _EFFORTS else None, "summary": shown if shown in _SHOWN else None}


def _text(asked: Conversation) -> dict[str, Any]:
    wanted = asked.format or Format(Shape.TEXT)
    if wanted.shape is Shape.SCHEMA and (wanted.schema is None or wanted.name is None):
        wanted = Format(Shape.TEXT)
    document: dict[str, Any] = {"format": encode_format(wanted, [])}
    verbosity = _said(asked, _string, "text", "verbosity")
    if verbosity in _VERBOSITIES:
        document["verbosity"] = verbosity
    return document


def _tool_choice(asked: Conversation) -> Any:
    if asked.tool_choice is not None:
        return encode_tool_choice(asked.tool_choice)
    kept = find(asked.rest, DIALECT, "tool_choice")
    return kept if kept is not None and bytes(kept) != b"null" else "auto"


def _tools(asked: Conversation) -> list[Any]:
    known = [tool for tool in asked.tools if isinstance(tool, Tool) or _is_tool(tool)]
    return [encode_tool(tool, "tools", []) for tool in known]


def _is_tool(tool: UnknownTool) -> bool:
    return tool.said_by == DIALECT and bytes(tool.value).startswith(b"{")
