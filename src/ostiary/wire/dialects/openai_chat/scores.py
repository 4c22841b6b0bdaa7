"""The chances of words, `logprobs` of a choice, from and to the pivot. It must not round them.

Source: OpenAI API reference, chat completions, logprobs (official Python SDK 3.54, `ChatCompletionTokenLogprob`).
Chances with members beside the documented ones, and those of a refusal, stay as they came.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ostiary.wire.conversation.members import Members
from ostiary.wire.conversation.reply import Chance, Score


class _Chance(msgspec.Struct, forbid_unknown_fields=True):
    token: str
    logprob: float
    bytes: tuple[int, ...] | None = None

    def of(self) -> Chance:
        return Chance(self.token, self.logprob, self.bytes)


class _Score(_Chance, forbid_unknown_fields=True):
    top_logprobs: list[_Chance] = []


_scores = msgspec.json.Decoder(list[_Score])


def take_scores(choice: Members) -> tuple[Score, ...]:
    """The chances of the words of a choice."""
    found = choice.inside("logprobs").take("content", _scores) or ()
    return tuple(Score(score.of(), tuple(other.of() for other in score.top_logprobs)) for score in found)


def encode_scores(scores: Sequence[Score]) -> dict[str, Any]:
    """The `logprobs` object."""
    content = [{**_chance(score.chosen), "top_logprobs": [_chance(other) for other in score.top]} for score in scores]
    return {"content": content, "refusal": None}


def _chance(chance: Chance) -> dict[str, Any]:
    return {"token": chance.token, "logprob": chance.logprob, "bytes": chance.data}
