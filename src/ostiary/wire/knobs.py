"""What of the knobs of a request one model takes, and together. It must not know how a dialect spells them.

Source: Anthropic's pages on extended thinking (reasoning goes neither with `temperature` nor with `top_k`, and with
`top_p` from 0.95 on) and on migrating to Claude 4.5 (`temperature` or `top_p`, not both). It is the models that refuse
it, wherever they are served; they are those that are told to reason by a budget, or by being let.
"""

from __future__ import annotations

import hashlib

import msgspec

from ostiary.wire.conversation.conversation import Sampling
from ostiary.wire.conversation.unknown import Loss, LossKind
from ostiary.wire.profile import Profile, Thinks

LONGEST_USER = 64
_LEAST_TOP_P = 0.95
_USUAL_TEMPERATURE = 1


def together(sampling: Sampling, profile: Profile, losses: list[Loss], *, reasoning: bool) -> Sampling:
    """Those of the knobs that the model takes together, `reasoning` or not. One that only says the usual is no loss."""
    if profile.thinks not in (Thinks.BUDGET, Thinks.ADAPTIVE):
        return sampling
    kept = sampling
    if reasoning:
        top_p = sampling.top_p if sampling.top_p is not None and sampling.top_p >= _LEAST_TOP_P else None
        kept = msgspec.structs.replace(sampling, temperature=None, top_p=top_p, top_k=None)
    elif sampling.temperature is not None:
        kept = msgspec.structs.replace(sampling, top_p=None)
    for name in ("temperature", "top_p", "top_k"):
        value = getattr(sampling, name)
        usual = name == "temperature" and value == _USUAL_TEMPERATURE
        if value is not None and getattr(kept, name) is None and not usual:
            losses.append(Loss(LossKind.KNOB, f"sampling.{name}"))
    return kept


def told_user(user: str | None, losses: list[Loss]) -> str | None:
    """The id of an end user for OpenAI, which takes 64 letters: of a longer one its digest, which is as telling.

    Source: OpenAI API reference, `safety_identifier`.
    """
    if user is None or len(user) <= LONGEST_USER:
        return user
    losses.append(Loss(LossKind.KNOB, "user"))
    return hashlib.sha256(user.encode("utf-8", "replace")).hexdigest()
