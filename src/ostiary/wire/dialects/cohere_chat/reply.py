"""Chat answers from and to the pivot. It must not make an answer of what is none.

Source: Cohere API reference, v2 chat (official Python SDK 7.3, `V2ChatResponse`, `AssistantMessageResponse`). There is
one choice. An answer whose `finish_reason` is ERROR or TIMEOUT is a failure, whatever came of it. Nulls and empty lists
say nothing in an answer and are not kept.

Log probabilities (`LogprobItem`) are of chunks of text: a chunk of one token is a score; where token ids are told, or
chunks have several tokens, the list stays whole in the rest as well, and goes back from there.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ostiary.core.usage import Usage
from ostiary.wire.conversation.members import EMPTY_LIST, NULL, Members, with_rest
from ostiary.wire.conversation.parts import Part, Reasoning, Text
from ostiary.wire.conversation.reply import Chance, Choice, Finish, Reason, Reply, Score
from ostiary.wire.conversation.unknown import Encoded, Loss, LossKind, Rest, find, inexpressible, losses_of
from ostiary.wire.dialect import Answering
from ostiary.wire.dialects.cohere_chat.faults import bad_answer, hidden_error, timed_out
from ostiary.wire.dialects.cohere_chat.messages import BINDING, put_said, take_cited
from ostiary.wire.dialects.cohere_chat.parts import (
    CONTENT,
    DIALECT,
    OF_ASSISTANT,
    RAWS,
    STRING,
    TOOL_CALLS,
    TOOL_PLAN,
    decode_call,
    decode_part,
    plan,
)
from ostiary.wire.dialects.cohere_chat.usage import encode_usage, take_usage

LOGPROBS = "logprobs"
_REASONS = {"COMPLETE": Reason.STOP, "MAX_TOKENS": Reason.LENGTH, "TOOL_CALL": Reason.TOOL_CALLS}
_WORDS = {reason: word for word, reason in _REASONS.items()} | {Reason.CONTENT_FILTER: "ERROR"}
_STOP_MET = "STOP_SEQUENCE"
_SAYS_NOTHING = frozenset({NULL, bytes(EMPTY_LIST), b"{}"})
_encode = msgspec.json.Encoder().encode


class _Logprob(msgspec.Struct):
    text: str
    logprobs: list[float]
    token_ids: list[int] = []


_logprob = msgspec.json.Decoder(_Logprob).decode


def decode_reply(body: bytes) -> Reply:
    """The reply an answer's body tells.

    Raises:
        Fault: BAD_ANSWER for what is no chat answer; the provider's error where the body tells one.
    """
    members = _answer(body)
    message = members.inside("message")
    if "role" not in message and CONTENT not in message and TOOL_CALLS not in message:
        raise bad_answer()
    finish = finish_of(members.take("finish_reason", STRING))
    scores = _take_scores(members)
    parts = _said(message)
    usage, named = take_usage(members), members.take("id", STRING) or ""
    rest = meaningful(members)
    beside = tuple(extra for extra in rest if extra.path[0] in ("message", LOGPROBS))
    around = tuple(extra for extra in rest if extra.path[0] not in ("message", LOGPROBS))
    choice = Choice(0, tuple(parts), finish, beside, scores)
    return Reply(choices=(choice,), usage=usage, id=named, rest=around)


def usage_of(body: bytes) -> Usage | None:
    """The usage an answer states; None where it states none that makes sense.

    Raises:
        Fault: as `decode_reply`.
    """
    return take_usage(_answer(body))


def _answer(body: bytes) -> Members:
    """The members of an answer with a message."""
    members = readable(body)
    if members is None:
        raise bad_answer()
    said = members.take("message", STRING)
    if said is not None:
        raise hidden_error(said)
    return members


def readable(data: bytes) -> Members | None:
    """The members of an answer or of an event; None for what is no JSON object in UTF-8."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return None
    return Members.of(data)


def meaningful(members: Members) -> Rest:
    """What is left of an answer without what says nothing."""
    return tuple(extra for extra in members.rest(DIALECT, BINDING) if bytes(extra.value) not in _SAYS_NOTHING)


def finish_of(word: str | None) -> Finish:
    """The pivot's reason for a finish reason; None is OTHER.

    Raises:
        Fault: where it says that the answer failed.
    """
    if word == "ERROR":
        raise hidden_error("")
    if word == "TIMEOUT":
        raise timed_out()
    if word is None:
        return Finish(Reason.OTHER)
    if word in _REASONS:
        return Finish(_REASONS[word])
    return Finish(Reason.STOP if word == _STOP_MET else Reason.OTHER, word, DIALECT)


def word_of(finish: Finish, losses: list[Loss]) -> str:
    """The finish reason for the pivot's reason; an unknown end is a complete one."""
    if finish.stop is not None:
        losses.append(Loss(LossKind.MARK, "choices.0.finish.stop"))
    if finish.word and finish.said_by == DIALECT:
        return finish.word
    if finish.reason is Reason.CONTENT_FILTER:
        losses.append(Loss(LossKind.MARK, "choices.0.finish"))
    if finish.stop is not None and finish.reason is Reason.STOP:
        return _STOP_MET
    return _WORDS.get(finish.reason, "COMPLETE")


def _said(message: Members) -> list[Part]:
    message.take("role", STRING)
    text = message.take(CONTENT, STRING)
    content: list[Part] = [Text(text)] if text is not None else []
    if text is None:
        content = [decode_part(raw, OF_ASSISTANT) for raw in message.take(CONTENT, RAWS) or ()]
    parts = take_cited(message, content)
    planned = message.take(TOOL_PLAN, STRING)
    if planned:
        parts.append(plan(planned))
    return parts + [decode_call(raw) for raw in message.take(TOOL_CALLS, RAWS) or ()]


def score_of(raw: msgspec.Raw) -> tuple[Score | None, bool]:
    """The score a logprob item tells, if it is of one token; and whether it tells more."""
    try:
        item = _logprob(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None, True
    if len(item.logprobs) != 1:
        return None, True
    return Score(Chance(item.text, item.logprobs[0])), bool(item.token_ids)


def item_of(score: Score, where: str, losses: list[Loss]) -> dict[str, Any]:
    """The logprob item for a score. Token ids are not known."""
    if score.top:
        losses.append(Loss(LossKind.KNOB, f"{where}.top"))
    if score.chosen.data is not None:
        losses.append(Loss(LossKind.MARK, f"{where}.data"))
    return {"text": score.chosen.token, "token_ids": [], "logprobs": [score.chosen.logprob]}


def _take_scores(members: Members) -> tuple[Score, ...]:
    raws = members.take(LOGPROBS, RAWS) or []
    found = [score_of(raw) for raw in raws]
    if any(more for _, more in found):
        members.put_back(LOGPROBS, msgspec.Raw(_encode(raws)))
    return tuple(score for score, _ in found if score is not None)


def is_hidden(part: Part) -> bool:
    """Whether a part is nothing but a proof of its issuer."""
    return isinstance(part, Reasoning) and part.seal is not None and not part.text


def encode_reply(reply: Reply, answering: Answering) -> Encoded:
    """The body of an answer, and what it does not say.

    Raises:
        Fault: INVALID_REQUEST for content this dialect cannot say.
    """
    if len(reply.choices) > 1:
        raise inexpressible("choices.1")
    losses = losses_of(reply.rest, DIALECT, "")
    if reply.tier:
        losses.append(Loss(LossKind.MARK, "tier"))
    message: dict[str, Any] = {"role": "assistant"}
    document: dict[str, Any] = {"id": answering.id, "finish_reason": "COMPLETE", "message": message}
    for choice in reply.choices:
        _put_choice(document, message, choice, losses)
    if reply.usage is not None:
        document["usage"] = encode_usage(reply.usage)
    return Encoded(_encode(with_rest(document, reply.rest, DIALECT)), tuple(losses))


def _put_choice(document: dict[str, Any], message: dict[str, Any], choice: Choice, losses: list[Loss]) -> None:
    where = "choices.0"
    losses += losses_of(choice.rest, DIALECT, where)
    document["finish_reason"] = word_of(choice.finish, losses)
    within = tuple(
        msgspec.structs.replace(extra, path=extra.path[1:])
        for extra in choice.rest
        if extra.path[0] == "message" and len(extra.path) > 1
    )
    told = [(index, part) for index, part in enumerate(choice.parts) if not is_hidden(part)]
    losses += [Loss(LossKind.SEAL, f"{where}.parts.{n}") for n, part in enumerate(choice.parts) if is_hidden(part)]
    put_said(message, told, within, where, losses)
    words = message.get(CONTENT)
    if isinstance(words, str):  # an answer's content is always a list
        message[CONTENT] = [{"type": "text", "text": words}]
    if choice.scores and find(choice.rest, DIALECT, LOGPROBS) is None:
        document[LOGPROBS] = [
            item_of(score, f"{where}.scores.{index}", losses) for index, score in enumerate(choice.scores)
        ]
    with_rest(document, choice.rest, DIALECT)
