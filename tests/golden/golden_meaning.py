"""What a request or an answer means, without the shape it has: what has to be the same in every dialect.

It must not know any dialect's spelling. Where a dialect may leave something out, the loss it declares is what excuses
the difference; what needs no excuse, because it says the same, is made equal here and says why.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from ostiary.core.usage import Usage
from ostiary.wire.conversation.conversation import (
    Call,
    Conversation,
    Format,
    Message,
    Role,
    Shape,
    Thinking,
    Tool,
    ToolChoice,
    UnknownMessage,
)
from ostiary.wire.conversation.parts import (
    Audio,
    Document,
    Image,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
    UnknownPart,
)
from ostiary.wire.conversation.reply import Choice, Reply
from ostiary.wire.conversation.unknown import Loss, LossKind

Meaning = dict[str, Any]
_INSTRUCTS = (Role.SYSTEM, Role.DEVELOPER)
_NOTHING = ({}, {"type": "object"}, {"type": "object", "properties": {}})


def parsed(text: str) -> Any:
    """Arguments as JSON; those that are none as they are. None at all are an empty object."""
    try:
        return json.loads(text or "{}")
    except ValueError:
        return text


def of_request(asked: Conversation) -> Meaning:
    """What a request means, by the names that losses have for it."""
    meaning = _of_turns([message for message in asked.messages if isinstance(message, Message)])
    meaning["unknown"] = [bytes(one.value) for one in asked.messages if isinstance(one, UnknownMessage)]
    meaning["tools"] = [_tool(tool) if isinstance(tool, Tool) else bytes(tool.value) for tool in asked.tools]
    for index, tool in enumerate(asked.tools):
        meaning[f"tools.{index}.strict"] = bool(isinstance(tool, Tool) and tool.strict)
        meaning[f"tools.{index}.cache"] = isinstance(tool, Tool) and tool.cache is not None
    for name in asked.sampling.__struct_fields__:
        meaning[f"sampling.{name}"] = getattr(asked.sampling, name)
    caps = [cap for cap in (asked.max_output, asked.max_text) if cap is not None]
    return meaning | {
        "tool_choice": asked.tool_choice or ToolChoice(Call.AUTO),
        "parallel_calls": asked.parallel_calls is not False,  # several are welcome where nothing is said
        "format": _format(asked.format),
        "format.strict": bool(asked.format and asked.format.strict),
        "thinking": _thinking(asked.thinking),
        "thinking.shown": asked.thinking.shown,
        "stop": asked.stop,
        "cap": min(caps) if caps else None,
        "choices": asked.choices or 1,
        "user": asked.user,
        "metadata": asked.metadata or {},
        "logprobs": bool(asked.logprobs),
        "top_logprobs": asked.top_logprobs,
        "tier": None if asked.tier == "auto" else asked.tier,
        "store": asked.store,
        "previous": asked.previous,
    }


def _of_turns(messages: Sequence[Message]) -> Meaning:
    names = {part.id: part.name for message in messages for part in message.parts if isinstance(part, ToolCall)}
    spoken = [message for message in messages if message.role not in _INSTRUCTS]
    said: list[tuple[bool, str]] = []
    for message in spoken:
        words = _words(message.parts)
        by_model = message.role is Role.ASSISTANT
        if words and said and said[-1][0] is by_model:
            said[-1] = (by_model, said[-1][1] + words)
        elif words:
            said.append((by_model, words))
    parts = [part for message in messages for part in message.parts]
    results = [part for part in parts if isinstance(part, ToolResult)]
    return {
        "instructions": [_words(message.parts) for message in messages if message.role in _INSTRUCTS],
        "said": said,
        "calls": [_call(part) for part in parts if isinstance(part, ToolCall)],
        "results": [(names.get(one.call_id), _words(one.parts)) for one in results],
        "failed": [one.failed for one in results],
        "media": list(_media(parts)),
        "thoughts": [(part.text, part.seal) for part in parts if isinstance(part, Reasoning)],
        # "auto" is what every model does where nothing is said
        "detail": [part.detail or "auto" for part in _flat(parts) if isinstance(part, Image)],
        "cache": sum(getattr(part, "cache", None) is not None for part in _flat(parts)),
        "name": [message.name for message in spoken if message.name],
        "unknown parts": [bytes(part.value) for part in _flat(parts) if isinstance(part, UnknownPart)],
        "seals": [part.seal for part in parts if isinstance(part, (Text, ToolCall)) and part.seal],
    }


def of_reply(reply: Reply) -> Meaning:
    """What an answer means."""
    meaning: Meaning = {"tier": reply.tier, "count": len(reply.choices)}
    for choice in reply.choices:
        meaning |= {f"choices.{choice.index}.{name}": value for name, value in _of_choice(choice).items()}
    return meaning


def _of_choice(choice: Choice) -> Meaning:
    parts = choice.parts
    cited = [one for part in parts if isinstance(part, Text) for one in part.citations]
    sealed = [part for part in parts if isinstance(part, (Text, Reasoning, ToolCall)) and part.seal]
    return {
        "words": _words(parts),
        "refusal": "".join(part.text for part in parts if isinstance(part, Refusal)),
        "calls": [_call(part) for part in parts if isinstance(part, ToolCall)],
        "thoughts": "".join(part.text for part in parts if isinstance(part, Reasoning)),
        "hidden": sum(isinstance(part, Reasoning) and part.hidden for part in parts),
        "seals": [(part.seal.issuer, part.seal.value) for part in sealed if part.seal],
        "media": list(_media(parts)),
        "unknown": [bytes(part.value) for part in parts if isinstance(part, UnknownPart)],
        "citations": [(one.url, one.title) for one in cited],
        "finish": choice.finish.reason,
        "finish.stop": choice.finish.stop,
        "scores": [(one.chosen.token, round(one.chosen.logprob, 6), len(one.top)) for one in choice.scores],
    }


def _words(parts: Iterable[Any]) -> str:
    return "".join(part.text for part in parts if isinstance(part, (Text, Refusal)))


def _call(call: ToolCall) -> tuple[str, Any, bool]:
    return call.name, call.arguments if call.free else parsed(call.arguments), call.free


def _flat(parts: Iterable[Part]) -> Iterator[Part]:
    for part in parts:
        yield part
        if isinstance(part, ToolResult):
            yield from part.parts


def _media(parts: Iterable[Part]) -> Iterator[tuple[str, Any]]:
    for part in _flat(parts):
        if isinstance(part, (Image, Audio, Document)):
            yield type(part).__name__, part.source


def _tool(tool: Tool) -> tuple[str, str, Any]:
    parameters = msgspec.json.decode(tool.parameters) if tool.parameters is not None else {}
    return tool.name, tool.description or "", {} if parameters in _NOTHING else parameters


def _format(asked: Format | None) -> tuple[Shape, Any]:
    if asked is None:
        return Shape.TEXT, None
    return asked.shape, None if asked.schema is None else msgspec.json.decode(asked.schema)


def _thinking(asked: Thinking) -> tuple[Any, ...]:
    if asked.effort == "none" or asked.on is False:
        return ("off",)
    # a word or a number asks for it, whether or not that is said besides
    return asked.effort, asked.budget, bool(asked.on or asked.adaptive or asked.effort or asked.budget)


def undeclared(before: Meaning, after: Meaning, losses: Iterable[Loss]) -> list[str]:
    """What differs and no loss declares, as sentences."""
    lost = list(losses)
    return [
        f"{name}: {before.get(name)!r} became {after.get(name)!r}"
        for name in before
        if before[name] != after.get(name) and not _excused(name, before, after, lost)
    ]


# What a difference may be excused by: kinds of losses, and what their place has to end in ("": any place).
_EXCUSES: dict[str, tuple[tuple[LossKind, str], ...]] = {
    "thinking.shown": ((LossKind.KNOB, "thinking.shown"),),
    "thoughts": ((LossKind.SEAL, ""),),
    "hidden": ((LossKind.SEAL, ""), (LossKind.SHAPE, "")),
    "seals": ((LossKind.SEAL, ""),),
    "detail": ((LossKind.KNOB, ".detail"),),
    "cache": ((LossKind.MARK, ".cache"), (LossKind.KNOB, ".cache")),
    "failed": ((LossKind.MARK, ".failed"),),
    "name": ((LossKind.MARK, ".name"),),
    "refusal": ((LossKind.MARK, ""),),
    "citations": ((LossKind.MARK, ""), (LossKind.UNKNOWN, "")),
    "scores": ((LossKind.KNOB, "scores"), (LossKind.UNKNOWN, "scores"), (LossKind.KNOB, ".top")),
    "finish.stop": ((LossKind.MARK, "finish.stop"),),
    "tier": ((LossKind.MARK, "tier"), (LossKind.KNOB, "tier")),
}


def _excused(name: str, before: Meaning, after: Meaning, losses: Sequence[Loss]) -> bool:
    bare = name.split(".", 2)[2] if name.startswith("choices.") else name
    for kind, place in _EXCUSES.get(bare, ()):
        if any(loss.kind is kind and loss.where.endswith(place) for loss in losses):
            return True
    if bare in ("instructions", "said", "results") and any(loss.kind is LossKind.SHAPE for loss in losses):
        return _kept(before, after)  # other places, or words that tell whose they are
    places = {loss.where for loss in losses} - {"thinking.shown"}
    if bare in ("tools", "tool_choice") or bare.startswith("tools."):  # a tool that is not offered cannot be chosen
        hidden = any(loss.kind is LossKind.SHAPE and loss.where.startswith("tool") for loss in losses)
        places |= {"tools", "tool_choice"} if hidden else set()
    return any(place == bare or place.startswith(f"{bare}.") or bare.startswith(f"{place}.") for place in places)


def _kept(before: Meaning, after: Meaning) -> bool:
    """Whether every word is still there, in the order in which each speaker said them."""
    pieces = [*before["instructions"], *(text for _, text in before["results"])]
    there = _told(after)
    return all(_bare(piece) in there for piece in pieces) and all(
        _bare(message) in there or _bare(message) == "" for _, message in before["said"]
    )


def _told(meaning: Meaning) -> str:
    said = [*meaning["instructions"], *(text for _, text in meaning["said"])]
    return _bare("".join([*said, *(text for _, text in meaning["results"])]))


def _bare(text: str) -> str:
    return "".join(text.split())


# What a dialect's usage has no word for, beside the totals.
_UNSAID: dict[str, set[str]] = {
    "openai_chat": set(),
    "openai_responses": {"audio_input", "audio_output"},
    "anthropic_messages": {"audio_input", "audio_output"},
    "bedrock_converse": {"audio_input", "audio_output", "reasoning"},
    "gemini_generate": {"cache_creation"},
    "cohere_chat": {"cache_creation", "reasoning", "audio_input", "audio_output"},
    "ollama_chat": {"cache_read", "cache_creation", "reasoning", "audio_input", "audio_output"},
}


def sayable(usage: Usage | None, dialect: str) -> dict[str, int]:
    """What a dialect can say of a usage. Nothing stated counts as nothing used: some dialects have to state it."""
    used = usage or Usage()
    return {name: getattr(used, name) for name in used.__struct_fields__ if name not in _UNSAID[dialect]}
