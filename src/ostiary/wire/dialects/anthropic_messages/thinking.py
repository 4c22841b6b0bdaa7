"""How much a model should reason, from and to the pivot. It must not promise what a model's profile says it cannot do.

Source: official Python SDK 2.12, `types.ThinkingConfigParam` and `OutputConfigParam.effort`. Models differ in which
form they take: a budget in tokens, or being let (adaptive) and a word. A form that a model does not take is replaced by
the nearest that it does, and that is a loss.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from ostiary.wire.conversation.conversation import Thinking
from ostiary.wire.conversation.members import EMPTY_LIST, Members
from ostiary.wire.conversation.unknown import Extra, Loss, LossKind
from ostiary.wire.dialects.anthropic_messages.parts import INTEGER, RAW, STRING
from ostiary.wire.profile import Profile, Thinks

# Our own scale between words and tokens, for models that know one only; half of the cap is left for the answer. 1024 is
# the least that is taken.
_BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 32768, "max": 32768}
_LEAST = 1024
_SHOWN = {"summarized": "auto", "omitted": "none"}
_DISPLAYS = {"auto": "summarized", "concise": "summarized", "detailed": "summarized", "none": "omitted"}


class Reasoned(NamedTuple):
    """The members `thinking` and `output_config.effort` of a request (None: left out), and whether `thinking` is ours:
    derived from a word, so that it may give way to what does not go with it."""

    thinking: dict[str, Any] | None
    effort: str | None
    derived: bool = False


def decode_thinking(members: Members, output: Members) -> Thinking:
    """What a request says of reasoning. An empty list is left within `output` where only a word was said."""
    effort = output.take("effort", STRING)
    raw = members.take("thinking", RAW)
    if raw is None:
        if effort is not None and "thinking" not in members:
            output.put_back("thinking", EMPTY_LIST)
        return Thinking(effort)
    inner = Members.of(raw) or Members({})
    kind, budget = inner.take("type", STRING), inner.take("budget_tokens", INTEGER)
    shown = _SHOWN.get(inner.take("display", STRING) or "")
    told = _mode(kind, budget, shown)
    if told is None or encode_mode(told) != msgspec.json.decode(raw):
        members.put_back("thinking", raw)
        return Thinking(effort)
    return msgspec.structs.replace(told, effort=effort)


def _mode(kind: str | None, budget: int | None, shown: str | None) -> Thinking | None:
    match kind:
        case "enabled" if budget is not None:
            return Thinking(None, budget, True, None, shown)
        case "adaptive":
            return Thinking(None, None, True, True, shown)
        case "disabled":
            return Thinking(None, None, False)
    return None


def encode_mode(thinking: Thinking) -> dict[str, Any] | None:
    """The member `thinking` for a model that takes every form; None where nothing is said of it."""
    document: dict[str, Any]
    if thinking.on is False:
        return {"type": "disabled"}
    if thinking.adaptive:
        document = {"type": "adaptive"}
    elif thinking.budget is not None:
        document = {"type": "enabled", "budget_tokens": thinking.budget}
    elif thinking.on:
        document = {"type": "adaptive"}
    else:
        return None
    if thinking.shown is not None:
        document["display"] = _DISPLAYS.get(thinking.shown, "summarized")
    return document


def encode_thinking(asked: Thinking, profile: Profile, cap: int, losses: list[Loss], *, native: bool) -> Reasoned:
    """The members for a model of this profile.

    Args:
        cap: `max_tokens` of the request; a budget is less.
        native: a word was said in this dialect, where it does not ask for reasoning by itself.
    """
    if asked.effort == "none":
        asked = Thinking(on=False)
    if profile.thinks is Thinks.NEVER:
        _lose(asked, losses, "effort", "budget", "adaptive", "shown")
        return Reasoned(None, None)
    effort = asked.effort
    if effort == "minimal":
        _lose(asked, losses, "effort")
        effort = "low"
    if profile.thinks is Thinks.BUDGET:
        return _by_budget(asked, cap, losses, native=native)
    derived = profile.thinks is Thinks.ADAPTIVE and effort is not None and asked.on is None and not native
    if profile.thinks is Thinks.ADAPTIVE and asked.budget is not None:
        _lose(asked, losses, "budget")
        asked = msgspec.structs.replace(asked, budget=None, on=True)
    if derived:
        asked = msgspec.structs.replace(asked, on=True, adaptive=True)
    mode = encode_mode(asked)
    if asked.shown is not None and (mode is None or _SHOWN.get(mode.get("display", "")) != asked.shown):
        _lose(asked, losses, "shown")
    return Reasoned(mode, effort, derived)


def _by_budget(asked: Thinking, cap: int, losses: list[Loss], *, native: bool) -> Reasoned:
    """For models that take a number of tokens only."""
    _lose(asked, losses, "effort")
    derived = asked.budget is None and asked.on is not False
    if derived:
        _lose(asked, losses, "adaptive")
        wanted = asked.on is True or (asked.effort is not None and not native)
        budget = min(_BUDGETS.get(asked.effort or "medium", _BUDGETS["medium"]), cap // 2)
        if not wanted or budget < _LEAST:
            _lose(asked, losses, "shown")
            return Reasoned(None, None)
        asked = msgspec.structs.replace(asked, budget=budget, on=True)
    return Reasoned(
        encode_mode(msgspec.structs.replace(asked, adaptive=None)), None, derived and asked.adaptive is None
    )


def _lose(asked: Thinking, losses: list[Loss], *names: str) -> None:
    for name in names:
        loss = Loss(LossKind.KNOB, f"thinking.{name}")
        if getattr(asked, name) is not None and loss not in losses:
            losses.append(loss)


def says_word_only(extra: Extra) -> bool:
    """Whether what was left says that only a word was said in this dialect."""
    return extra.path == ("output_config", "thinking") and extra.value == EMPTY_LIST
