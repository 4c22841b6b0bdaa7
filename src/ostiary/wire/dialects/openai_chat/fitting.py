"""A conversation as one model takes it, before it is written. It must not write anything itself.

What a model of this dialect cannot be told is left out here, and told as a loss: marks for the prompt cache, proofs of
other issuers, pictures in a tool's result, and knobs that the profile rules out.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ostiary.wire.conversation.conversation import Message, Role, Sampling, Thinking, Tool, UnknownMessage, UnknownTool
from ostiary.wire.conversation.parts import (
    Audio,
    Content,
    Document,
    Image,
    Part,
    Reasoning,
    Refusal,
    Seal,
    Text,
    ToolCall,
    ToolResult,
    UnknownPart,
)
from ostiary.wire.conversation.unknown import Loss, LossKind
from ostiary.wire.dialects.openai_chat.proofs import at_google
from ostiary.wire.dialects.openai_chat.values import DIALECT
from ostiary.wire.profile import Profile, Thinks

_EFFORTS = ((0, "none"), (2048, "low"), (8192, "medium"))  # a budget up to so many tokens is such an effort
_KNOBS = ("temperature", "top_p", "top_k")


def word_of(thinking: Thinking, profile: Profile, losses: list[Loss]) -> str | None:
    """How much the model should reason, as one word; None where nothing can or need be said."""
    if thinking.shown not in (None, "none"):
        losses.append(Loss(LossKind.KNOB, "thinking.shown"))
    word = thinking.effort
    if word is None and thinking.on is False:
        word = "none"
    if word is None and thinking.budget is not None:
        word = next((effort for most, effort in _EFFORTS if thinking.budget <= most), "high")
    if thinking.budget is not None and word != "none" and profile.thinks is not Thinks.NEVER:
        losses.append(Loss(LossKind.KNOB, "thinking.budget"))
    if profile.thinks is Thinks.NEVER and word is not None:
        if word != "none":
            losses.append(Loss(LossKind.KNOB, "thinking"))
        return None
    if word is None and (thinking.on or thinking.adaptive):
        losses.append(Loss(LossKind.KNOB, "thinking"))
    return word


def fitted_sampling(sampling: Sampling, profile: Profile, losses: list[Loss]) -> Sampling:
    """The tuning knobs that the model has."""
    if profile.sampling:
        return sampling
    losses += [Loss(LossKind.KNOB, f"sampling.{name}") for name in _KNOBS if getattr(sampling, name) is not None]
    return msgspec.structs.replace(sampling, temperature=None, top_p=None, top_k=None)


def fitted_tools(
    tools: Sequence[Tool | UnknownTool], places: Sequence[str], profile: Profile, losses: list[Loss]
) -> Sequence[Tool | UnknownTool]:
    """The tools, each with its place, without marks where the model takes none."""
    if profile.cache_marks:
        return tools
    fitted = []
    for place, tool in zip(places, tools, strict=True):
        marked = isinstance(tool, Tool) and tool.cache is not None
        if marked:
            losses.append(Loss(LossKind.MARK, f"{place}.cache"))
        fitted.append(msgspec.structs.replace(tool, cache=None) if marked else tool)
    return fitted


def fitted_turns(
    messages: Sequence[Message | UnknownMessage], profile: Profile, losses: list[Loss]
) -> list[tuple[str, Message | UnknownMessage]]:
    """The turns, each with its place in the pivot.

    Media that tools answered with follow in a turn of the user's, after the last result of their turn.
    """
    turns: list[tuple[str, Message | UnknownMessage]] = []
    held: list[Content] = []
    place = ""
    for index, message in enumerate(messages):
        where = f"messages.{index}"
        if held and not (isinstance(message, Message) and message.role is Role.TOOL):
            turns.append((place, Message(Role.USER, tuple(held))))
            held = []
        if isinstance(message, Message):
            fitted, media = _fitted(message, where, profile, losses)
            turns.append((where, fitted))
            place = where if media else place
            held += media
        else:
            turns.append((where, message))
    return [*turns, (place, Message(Role.USER, tuple(held)))] if held else turns


def _fitted(message: Message, where: str, profile: Profile, losses: list[Loss]) -> tuple[Message, list[Content]]:
    """A turn as the model takes it, and the media that have to leave it."""
    media: list[Content] = []
    parts: list[Part] = []
    for index, part in enumerate(message.parts):
        fitted = _without_proofs(part, message.role, f"{where}.parts.{index}", losses)
        if fitted is None:
            continue
        if not profile.cache_marks:
            fitted = _without_marks(fitted, f"{where}.parts.{index}", losses)
        if isinstance(fitted, ToolResult) and message.role is Role.TOOL:
            fitted, media = _without_media(fitted, f"{where}.parts.{index}", losses)
        parts.append(fitted)
    role = message.role
    if role is Role.DEVELOPER and not profile.developer:
        losses.append(Loss(LossKind.SHAPE, where))
        role = Role.SYSTEM
    return msgspec.structs.replace(message, role=role, parts=tuple(parts)), media


def _without_proofs(part: Part, role: Role, where: str, losses: list[Loss]) -> Part | None:
    """A part without a proof of another issuer; None where that was all, or what is left was said to that issuer."""
    if isinstance(part, Text) and part.citations and role is not Role.ASSISTANT:
        losses.append(Loss(LossKind.MARK, f"{where}.citations"))
        part = msgspec.structs.replace(part, citations=())
    if not isinstance(part, (Text, Reasoning, ToolCall)) or part.seal is None or _may_go(part, part.seal, role):
        return part
    losses.append(Loss(LossKind.SEAL, where))
    return None if isinstance(part, Reasoning) else msgspec.structs.replace(part, seal=None)


def _may_go(part: Text | Reasoning | ToolCall, seal: Seal, role: Role) -> bool:
    if role is not Role.ASSISTANT:
        return False
    return seal.issuer == DIALECT or (isinstance(part, ToolCall) and at_google(seal, part.rest))


def _without_marks(part: Part, where: str, losses: list[Loss]) -> Part:
    if isinstance(part, ToolResult):
        inner = tuple(_without_marks(one, f"{where}.parts.{n}", losses) for n, one in enumerate(part.parts))
        if inner != part.parts:
            part = msgspec.structs.replace(part, parts=inner)
    if isinstance(part, (Reasoning, Refusal, UnknownPart)) or part.cache is None:
        return part
    losses.append(Loss(LossKind.MARK, f"{where}.cache"))
    return msgspec.structs.replace(part, cache=None)


def _without_media(result: ToolResult, where: str, losses: list[Loss]) -> tuple[ToolResult, list[Content]]:
    """A tool's result in words, and its media with a word on whose they are."""
    media = [part for part in result.parts if isinstance(part, (Image, Audio, Document))]
    if not media:
        return result, []
    losses.append(Loss(LossKind.SHAPE, where))
    words: tuple[Content, ...] = tuple(part for part in result.parts if part not in media)
    words = words or (Text("The result follows in the next message of the user."),)
    return msgspec.structs.replace(result, parts=words), [Text(f"Result of the tool call {result.call_id}:"), *media]
