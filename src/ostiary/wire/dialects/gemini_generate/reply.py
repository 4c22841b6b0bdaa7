"""Answers from and to the pivot. It must not make an answer of what is none.

Source: official Python SDK 3.4, `types.GenerateContentResponse`, `Candidate`. A whole answer is read as a stream of one
chunk, so that both tell the same. Nulls and empty lists say nothing in an answer and are not kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ostiary.core.usage import Usage
from ostiary.wire.conversation.fold import fold
from ostiary.wire.conversation.members import with_rest
from ostiary.wire.conversation.parts import Part, Reasoning, Text, ToolCall
from ostiary.wire.conversation.reply import Chance, Choice, Finish, Reply, Score
from ostiary.wire.conversation.seals import carry_thoughts
from ostiary.wire.conversation.unknown import Encoded, Loss, LossKind, Rest, find, losses_of
from ostiary.wire.dialect import Answering
from ostiary.wire.dialects.gemini_generate.calls import encode_call
from ostiary.wire.dialects.gemini_generate.citations import encode_citations
from ostiary.wire.dialects.gemini_generate.faults import bad_answer, hidden_error
from ostiary.wire.dialects.gemini_generate.fields import DIALECT, Fields, encode, signature
from ostiary.wire.dialects.gemini_generate.parts import PARTS, encode_part, encode_thought, sealed
from ostiary.wire.dialects.gemini_generate.stream_decode import FEEDBACK, Answer, is_error, readable
from ostiary.wire.dialects.gemini_generate.telling import word_of
from ostiary.wire.dialects.gemini_generate.usage import WireUsage, encode_usage, has_tier

NOTHING: tuple[dict[str, str], ...] = ({"text": ""},)  # a content without parts is none to the official SDKs


class _Metered(msgspec.Struct, rename="camel"):
    usage_metadata: WireUsage | None = None


_metered = msgspec.json.Decoder(_Metered).decode


def decode_reply(body: bytes) -> Reply:
    """The reply an answer's body tells.

    Raises:
        Fault: BAD_ANSWER for what is no answer; the provider's error where the body is one.
    """
    members = _answer(body)
    answer = Answer()
    return fold([*answer.chunk(members), *answer.close()])


def read_usage(body: bytes) -> Usage | None:
    """The usage an answer states; None where it states none that makes sense.

    Raises:
        Fault: BAD_ANSWER for a body that is not a JSON object; the provider's error where the body is one.
    """
    members = Fields.of(body)
    if members is None:
        raise bad_answer()
    if "candidates" not in members and is_error(members):
        raise hidden_error(body)
    try:
        usage = _metered(body).usage_metadata
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # an answer whose usage is not of the expected types is still an answer
    return usage.to_usage() if usage is not None else None


def _answer(body: bytes) -> Fields:
    members = readable(body)
    if members is None:
        raise bad_answer()
    if "candidates" not in members and FEEDBACK not in members:
        raise hidden_error(body) if is_error(members) else bad_answer()
    return members


def encode_reply(reply: Reply, answering: Answering) -> Encoded:
    """The body of an answer, and what it does not say.

    Raises:
        Fault: INVALID_REQUEST for content this dialect cannot say.
    """
    losses = losses_of(reply.rest, DIALECT, "")
    said = [choice for choice in reply.choices if not is_block(choice.parts, choice.finish, reply.rest)]
    document: dict[str, Any] = {"candidates": [_candidate(choice, losses) for choice in said]} if said else {}
    document |= closing(reply.usage, reply.tier, losses)
    document |= {"modelVersion": answering.model, "responseId": answering.id}
    return Encoded(encode(with_rest(document, reply.rest, DIALECT)), tuple(losses))


def is_block(parts: Sequence[Any], finish: Finish, rest: Rest) -> bool:
    """Whether a choice stands for a prompt that was blocked, which the prompt's feedback says."""
    feedback = Fields.of(find(rest, DIALECT, FEEDBACK) or b"")
    inner = feedback.rest(DIALECT) if feedback is not None else ()
    reason = find(inner, DIALECT, "blockReason")
    return not parts and reason is not None and finish.said_by == DIALECT and bytes(reason) == encode(finish.word)


def closing(usage: Usage | None, tier: str, losses: list[Loss]) -> dict[str, Any]:
    """The members of an answer's end."""
    if tier and (usage is None or not has_tier(tier)):
        losses.append(Loss(LossKind.UNKNOWN, "tier"))
    return {"usageMetadata": encode_usage(usage, tier)} if usage is not None else {}


def _candidate(choice: Choice, losses: list[Loss]) -> dict[str, Any]:
    where = f"choices.{choice.index}"
    losses += losses_of(choice.rest, DIALECT, where)
    thoughts = Thoughts()
    parts = [said(part, f"{where}.parts.{index}", losses, thoughts) for index, part in enumerate(choice.parts)]
    document = candidate(choice.index, parts)
    for index, part in enumerate(choice.parts):
        if isinstance(part, Text) and part.citations:
            place = f"{where}.parts.{index}"
            joined(document, encode_citations(part.citations, part.text, index, place, losses))
    return finished(document, choice.finish, choice.scores, choice.rest, where, losses)


def candidate(index: int, parts: Sequence[Any]) -> dict[str, Any]:
    """A candidate with these parts."""
    return {"index": index, "content": {"role": "model", PARTS: parts or NOTHING}}


def joined(document: dict[str, Any], cited: dict[str, Any]) -> None:
    """Add the citations of one more text to a candidate; chunks are counted on."""
    grounding, more = document.get("groundingMetadata", {}), cited.get("groundingMetadata", {})
    before = len(grounding.get("groundingChunks", ()))
    for support in more.get("groundingSupports", ()):
        support["groundingChunkIndices"] = [before + place for place in support["groundingChunkIndices"]]
    for member, lists in cited.items():
        for name, items in lists.items():
            document.setdefault(member, {}).setdefault(name, []).extend(items)


def finished(
    document: dict[str, Any], finish: Finish, scores: Sequence[Score], rest: Rest, where: str, losses: list[Loss]
) -> dict[str, Any]:
    """A candidate with its end."""
    if finish.stop is not None:
        losses.append(Loss(LossKind.MARK, f"{where}.finish.stop"))
    document["finishReason"] = word_of(finish)
    if scores:
        document["logprobsResult"] = _scores(scores)
    return with_rest(document, rest, DIALECT)


class Thoughts:
    """The proven thoughts of another model that no call has taken along yet.

    Google's own agent keeps no thoughts in the history it sends, but the proofs of its calls.
    """

    def __init__(self) -> None:
        self._waiting: list[Reasoning] = []

    def after(self, part: Part) -> None:
        """A part was told."""
        if isinstance(part, Reasoning) and part.seal is not None and part.seal.issuer != DIALECT:
            self._waiting.append(part)

    def taken(self) -> str:
        """The text under which they travel with the call that is told now; empty where there are none."""
        waiting, self._waiting = self._waiting, []
        return carry_thoughts(waiting) if waiting else ""


def said(part: Part, where: str, losses: list[Loss], thoughts: Thoughts) -> Any:
    """One part of an answer, with its proof; a foreign one travels within.

    Raises:
        Fault: INVALID_REQUEST for content this dialect cannot say.
    """
    match part:
        case Reasoning():
            document: Any = encode_thought(part, where, losses)
        case ToolCall():
            document = encode_call(part, where, losses)
        case _:
            document = encode_part(part, where, losses)
    thoughts.after(part)
    proof = thoughts.taken() if isinstance(part, ToolCall) else ""
    seal = getattr(part, "seal", None)
    if seal is not None:
        return sealed(document, signature(seal))
    return sealed(document, proof) if proof else document


def _scores(scores: Sequence[Score]) -> dict[str, Any]:
    document: dict[str, Any] = {"chosenCandidates": [_chance(score.chosen) for score in scores]}
    if any(score.top for score in scores):
        document["topCandidates"] = [{"candidates": [_chance(one) for one in score.top]} for score in scores]
    return document


def _chance(chance: Chance) -> dict[str, Any]:
    return {"token": chance.token, "logProbability": chance.logprob}
