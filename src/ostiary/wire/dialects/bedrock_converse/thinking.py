"""How a model is told to reason, within `additionalModelRequestFields`. It must not know models: a profile does.

Source: Amazon Bedrock user guide, inference parameters of the models: `thinking` and `output_config` are Anthropic's
(Anthropic API reference, messages), `reasoning_effort` is that of models with words for it; `outputConfig.effort` is
Converse's own (botocore 1.44, `bedrock-runtime` 2023-09-30).
"""

from __future__ import annotations

from typing import Any

from ostiary.wire.conversation.conversation import Conversation, Thinking
from ostiary.wire.conversation.members import Members
from ostiary.wire.conversation.unknown import Loss, LossKind
from ostiary.wire.dialects.bedrock_converse.media import STRING
from ostiary.wire.dialects.bedrock_converse.parts import INTEGER, RAW
from ostiary.wire.profile import Profile, Thinks

FIELDS = "additionalModelRequestFields"
_OFF = "none"
_LEAST = 1024  # the smallest budget Anthropic's models take
# What a word is worth in tokens, where a model is told a number.
_BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 32768, "max": 32768}


def decode_thinking(fields: Members, effort: str | None) -> Thinking:
    """What a request says of reasoning; `effort` is Converse's own word for it."""
    word = effort or fields.take("reasoning_effort", STRING) or fields.inside("output_config").take("effort", STRING)
    raw = fields.take("thinking", RAW)
    inner = Members.of(raw) if raw is not None else None
    if raw is None or inner is None:
        return Thinking(word)
    kind, budget = inner.take("type", STRING), inner.take("budget_tokens", INTEGER)
    if not inner.rest(""):
        match kind, budget:
            case "enabled", int():
                return Thinking(word, budget, on=True)
            case "adaptive", None:
                return Thinking(word, on=True, adaptive=True)
            case "disabled", None:
                return Thinking(word, on=False)
    fields.put_back("thinking", raw)
    return Thinking(word)


def encode_thinking(conversation: Conversation, profile: Profile, losses: list[Loss]) -> dict[str, Any]:
    """Fields of the model that say how to reason."""
    asked = conversation.thinking
    if asked.shown is not None:
        losses.append(Loss(LossKind.KNOB, "thinking.shown"))
    off = asked.on is False or asked.effort == _OFF
    on = asked.on or asked.adaptive or asked.budget is not None or asked.effort is not None
    if not off and not on:
        return {}
    match profile.thinks:
        case Thinks.BUDGET:
            return {"thinking": {"type": "disabled"}} if off else _budget(conversation, losses)
        case Thinks.ADAPTIVE:
            return {"thinking": {"type": "disabled"}} if off else _adaptive(asked, losses)
        case Thinks.EFFORT:
            return _word(asked, losses, off=off)
    if not off:
        losses.append(Loss(LossKind.KNOB, "thinking"))
    return {}


def _budget(conversation: Conversation, losses: list[Loss]) -> dict[str, Any]:
    asked = conversation.thinking
    budget = asked.budget
    if budget is None:
        if asked.adaptive:
            losses.append(Loss(LossKind.KNOB, "thinking.adaptive"))
        budget = _BUDGETS.get(asked.effort or "", _BUDGETS["medium"])
        cap = conversation.max_output if conversation.max_output is not None else conversation.max_text
        if cap is not None and budget >= cap:  # a budget must be smaller than the cap on the answer
            budget = cap // 2
        if budget < _LEAST:
            losses.append(Loss(LossKind.KNOB, "thinking" if asked.effort is None else "thinking.effort"))
            return {}
    if asked.effort is not None:
        losses.append(Loss(LossKind.KNOB, "thinking.effort"))
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}


def _adaptive(asked: Thinking, losses: list[Loss]) -> dict[str, Any]:
    word = asked.effort
    if asked.budget is not None:
        losses.append(Loss(LossKind.KNOB, "thinking.budget"))
        word = word or _word_for(asked.budget)
    document: dict[str, Any] = {"thinking": {"type": "adaptive"}}
    if word is not None:
        document["output_config"] = {"effort": "low" if word == "minimal" else word}
        losses += [Loss(LossKind.KNOB, "thinking.effort")] if word == "minimal" else []
    return document


def _word(asked: Thinking, losses: list[Loss], *, off: bool) -> dict[str, Any]:
    word = _OFF if off else asked.effort
    if asked.budget is not None:
        losses.append(Loss(LossKind.KNOB, "thinking.budget"))
        word = word or _word_for(asked.budget)
    if word is None:
        losses.append(Loss(LossKind.KNOB, "thinking"))
        return {}
    return {"reasoning_effort": word}


def _word_for(budget: int) -> str:
    """The word whose worth is at least this many tokens."""
    return next((word for word, worth in _BUDGETS.items() if budget <= worth and word != "minimal"), "max")
