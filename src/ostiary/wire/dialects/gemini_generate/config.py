"""The generation config of a request, from and to the pivot. It must not judge values: odd ones stay as they came.

Source: official Python SDK 3.4, `types.GenerationConfig` and `ThinkingConfig`. A model takes a level of thinking or a
budget, never both. The budgets for words are those of Google's own OpenAI-compatible interface.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from ostiary.wire.conversation.conversation import Conversation, Format, Sampling, Shape, Thinking
from ostiary.wire.conversation.members import EMPTY_LIST
from ostiary.wire.conversation.unknown import Loss, LossKind, inexpressible, losses_of
from ostiary.wire.dialects.gemini_generate.fields import DIALECT, FLAG, INTEGER, NUMBER, STRING, STRINGS, Fields
from ostiary.wire.dialects.gemini_generate.schemas import to_json_schema
from ostiary.wire.profile import Profile, Thinks

CONFIG = "generationConfig"
_LEVELS = {"MINIMAL": "minimal", "LOW": "low", "MEDIUM": "medium", "HIGH": "high", "XHIGH": "xhigh"}
_LEVEL_WORDS = {effort: level for level, effort in _LEVELS.items()}
_BUDGETS = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24576, "xhigh": 24576, "max": 24576}
_DYNAMIC = -1
_SHAPES = {"text/plain": Shape.TEXT, "application/json": Shape.JSON}
_MIMES = {Shape.TEXT: "text/plain", Shape.JSON: "application/json", Shape.SCHEMA: "application/json"}
_MIME = "responseMimeType"


class Config(NamedTuple):
    """What a generation config says in the pivot's words."""

    sampling: Sampling
    thinking: Thinking
    format: Format | None
    stop: tuple[str, ...]
    max_output: int | None
    choices: int | None
    logprobs: bool | None
    top_logprobs: int | None


def decode_config(config: Fields) -> Config:
    """What a config says; what the pivot has no word for is left in it."""
    stop = config.take("stopSequences", STRINGS)
    if stop == []:
        config.put_back("stopSequences", EMPTY_LIST)
    return Config(
        sampling=Sampling(
            temperature=config.take("temperature", NUMBER),
            top_p=config.take("topP", NUMBER),
            top_k=config.take("topK", INTEGER),
            frequency_penalty=config.take("frequencyPenalty", NUMBER),
            presence_penalty=config.take("presencePenalty", NUMBER),
            seed=config.take("seed", INTEGER),
        ),
        thinking=_thinking(config.inside("thinkingConfig")),
        format=_format(config),
        stop=tuple(stop or ()),
        max_output=config.take("maxOutputTokens", INTEGER),
        choices=config.take("candidateCount", INTEGER),
        logprobs=config.take("responseLogprobs", FLAG),
        top_logprobs=config.take("logprobs", INTEGER),
    )


def _thinking(members: Fields) -> Thinking:
    shown, budget = members.take("includeThoughts", FLAG), members.take("thinkingBudget", INTEGER)
    word = members.take("thinkingLevel", STRING)
    effort = _LEVELS.get((word or "").upper())
    if word is not None and effort is None:
        members.put_back("thinkingLevel", msgspec.Raw(msgspec.json.encode(word)))
    thinking = Thinking(effort, shown=None if shown is None else "auto" if shown else "none")
    if budget is None:
        return thinking
    if budget == _DYNAMIC:
        return msgspec.structs.replace(thinking, on=True, adaptive=True)
    return msgspec.structs.replace(thinking, on=budget > 0, budget=budget)


def _format(config: Fields) -> Format | None:
    word = config.take(_MIME, STRING)
    shape = _SHAPES.get(word or "")
    if word is None or shape is None:
        if word is not None:
            config.put_back(_MIME, msgspec.Raw(msgspec.json.encode(word)))
        return None
    if shape is Shape.TEXT:
        return Format(shape)
    schema = config.object("responseJsonSchema")
    if schema is None and (raw := config.object("responseSchema")) is not None:
        schema = to_json_schema(raw)
        if schema is None:
            config.put_back("responseSchema", raw)
    return Format(shape) if schema is None else Format(Shape.SCHEMA, schema=schema)


def encode_config(conversation: Conversation, profile: Profile, losses: list[Loss]) -> dict[str, Any]:
    """The generation config for a request, without what is left over of one.

    Raises:
        Fault: INVALID_REQUEST for a schema where the model takes none.
    """
    sampling = conversation.sampling
    if not profile.sampling:
        losses += [
            Loss(LossKind.KNOB, f"sampling.{name}")
            for name in ("temperature", "top_p", "top_k")
            if getattr(sampling, name) is not None
        ]
        sampling = msgspec.structs.replace(sampling, temperature=None, top_p=None, top_k=None)
    caps = [cap for cap in (conversation.max_output, conversation.max_text) if cap is not None]
    values = {
        "temperature": sampling.temperature,
        "topP": sampling.top_p,
        "topK": sampling.top_k,
        "frequencyPenalty": sampling.frequency_penalty,
        "presencePenalty": sampling.presence_penalty,
        "seed": sampling.seed,
        "stopSequences": conversation.stop or None,
        "maxOutputTokens": min(caps) if caps else None,
        "candidateCount": conversation.choices,
        "responseLogprobs": conversation.logprobs,
        "logprobs": conversation.top_logprobs,
        "thinkingConfig": _encode_thinking(conversation.thinking, profile.thinks, losses) or None,
        **_encode_format(conversation.format, profile, losses),
    }
    return {name: value for name, value in values.items() if value is not None}


def _encode_thinking(thinking: Thinking, thinks: Thinks, losses: list[Loss]) -> dict[str, Any]:
    if thinks is Thinks.NEVER:
        said = ((name, getattr(thinking, name)) for name in ("effort", "budget", "on", "adaptive", "shown"))
        losses += [Loss(LossKind.KNOB, f"thinking.{name}") for name, value in said if value is not None]
        return {}
    document: dict[str, Any] = {}
    if thinking.shown is not None:
        document["includeThoughts"] = thinking.shown != "none"
        if thinking.shown not in ("none", "auto"):
            losses.append(Loss(LossKind.KNOB, "thinking.shown"))
    amount = _budget(thinking, losses) if thinks is Thinks.BUDGET else _level(thinking, losses)
    return {**document, **amount}


def _budget(thinking: Thinking, losses: list[Loss]) -> dict[str, Any]:
    """How much a model may think that is told so in tokens."""
    if thinking.effort is not None:
        losses.append(Loss(LossKind.KNOB, "thinking.effort"))  # said by a number at best
    if thinking.budget is not None:
        return {"thinkingBudget": thinking.budget}
    if thinking.on is False:
        return {"thinkingBudget": 0}
    if thinking.effort in _BUDGETS:
        return {"thinkingBudget": _BUDGETS[thinking.effort]}
    return {"thinkingBudget": _DYNAMIC} if thinking.on or thinking.adaptive else {}


def _level(thinking: Thinking, losses: list[Loss]) -> dict[str, Any]:
    """How much a model may think that is told so by a word. It still takes a number where no word is said."""
    effort = "none" if thinking.effort is None and thinking.budget is None and thinking.on is False else thinking.effort
    if effort is not None:
        if thinking.budget is not None:
            losses.append(Loss(LossKind.KNOB, "thinking.budget"))
        if effort in _LEVEL_WORDS:
            return {"thinkingLevel": _LEVEL_WORDS[effort]}
        losses.append(Loss(LossKind.KNOB, "thinking.effort"))
        # no level is off, and the lowest of all is known to some models only
        level = {"none": "LOW", "max": "HIGH"}.get(effort)
        return {"thinkingLevel": level} if level is not None else {}
    if thinking.budget is not None:
        return {"thinkingBudget": thinking.budget}
    return {"thinkingBudget": _DYNAMIC} if thinking.on or thinking.adaptive else {}


def _encode_format(asked: Format | None, profile: Profile, losses: list[Loss]) -> dict[str, Any]:
    if asked is None:
        return {}
    losses += losses_of(asked.rest, DIALECT, "format")
    losses += [Loss(LossKind.MARK, f"format.{name}") for name in ("name", "description") if getattr(asked, name)]
    if asked.shape is not Shape.SCHEMA:
        return {_MIME: _MIMES[asked.shape]}
    if not profile.schema:
        raise inexpressible("format")
    schema: dict[str, Any] = {} if asked.schema is None else {"responseJsonSchema": asked.schema}
    return {_MIME: _MIMES[asked.shape], **schema}
