"""The chances of words. It must not round them.

Source: official Python SDK 3.54, `types.responses` (`response_output_text.Logprob`; without bytes in
`ResponseTextDeltaEvent`).
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from ostiary.wire.conversation.members import UNREADABLE
from ostiary.wire.conversation.parts import Refusal, Text
from ostiary.wire.conversation.reply import Chance, Score
from ostiary.wire.conversation.unknown import find
from ostiary.wire.dialects.openai_responses.marks import DIALECT

_LOGPROBS = "logprobs"


class _Chance(msgspec.Struct):
    token: str
    logprob: float
    bytes: tuple[int, ...] | None = None


class _Score(_Chance):
    top_logprobs: tuple[_Chance, ...] | None = None


_scores = msgspec.json.Decoder(list[_Score] | None).decode
Said = TypeVar("Said", bound=Text | Refusal)


def take_scores(part: Said) -> tuple[Said, list[Score]]:
    """A part without its chances, and them; what is not of the documented shape stays."""
    raw = find(part.rest, DIALECT, _LOGPROBS)
    scores = decode_scores(raw) if raw is not None else []
    if not scores:
        return part, []
    rest = tuple(extra for extra in part.rest if extra.path != (_LOGPROBS,))
    return msgspec.structs.replace(part, rest=rest), scores


def decode_scores(raw: msgspec.Raw) -> list[Score]:
    """A list of chances; empty where it is none."""
    try:
        found = _scores(raw)
    except UNREADABLE:
        return []
    return [Score(_chance(score), tuple(map(_chance, score.top_logprobs or ()))) for score in found or ()]


def _chance(said: _Chance) -> Chance:
    return Chance(said.token, said.logprob, said.bytes)


def encode_scores(scores: list[Score]) -> list[dict[str, Any]]:
    """The chances of a whole text. Where the bytes of a token are not told, they are its own."""
    return [{**_said(score.chosen), "top_logprobs": [_said(other) for other in score.top]} for score in scores]


def encode_scores_of_delta(scores: list[Score]) -> list[dict[str, Any]]:
    """The chances of a piece of text."""
    return [
        {
            "token": score.chosen.token,
            "logprob": score.chosen.logprob,
            "top_logprobs": [{"token": other.token, "logprob": other.logprob} for other in score.top],
        }
        for score in scores
    ]


def _said(chance: Chance) -> dict[str, Any]:
    data = list(chance.token.encode()) if chance.data is None else chance.data
    return {"token": chance.token, "bytes": data, "logprob": chance.logprob}
