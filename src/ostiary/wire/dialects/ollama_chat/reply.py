"""Chat answers from and to the pivot. It must not make an answer of what is none.

Source: Ollama's API documentation, `POST /api/chat` (official Python package 0.6, `ChatResponse`, `Logprob`). There is
one choice. A model that calls tools stops with `stop`, which is read as the calls it is. Times and durations are those
of the server, not of the answer, and are not kept, nor are nulls and empty lists.

Older servers tell no id with a call: it is made of the answer's own time and the place of the call, so that calls of
different answers have different ids and the same bytes always give the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from ostiary.core.usage import Usage
from ostiary.wire.conversation.members import EMPTY_LIST, NULL, Members, with_rest
from ostiary.wire.conversation.parts import Part, Reasoning, Refusal, Text, ToolCall, UnknownPart
from ostiary.wire.conversation.reply import Chance, Choice, Finish, Reason, Reply, Score
from ostiary.wire.conversation.unknown import Encoded, Loss, LossKind, Rest, find, inexpressible, losses_of
from ostiary.wire.dialect import Answering
from ostiary.wire.dialects.ollama_chat.faults import bad_answer, hidden_error, truncated
from ostiary.wire.dialects.ollama_chat.messages import BINDING
from ostiary.wire.dialects.ollama_chat.parts import (
    CONTENT,
    DIALECT,
    FLAG,
    IMAGES,
    RAW,
    RAWS,
    STRING,
    THINKING,
    TOOL_CALLS,
    decode_call,
    decode_image,
    encode_call,
    encode_image,
    is_call,
    unsaid,
)

# The kinds of parts in the order this dialect says them.
THOUGHT, WORDS, PICTURE, CALL = range(4)
LOGPROBS = "logprobs"
_MOST = 10**12  # beyond this a count is no count, and would not fit where it is stored
_TIMES = ("created_at", "total_duration", "load_duration", "prompt_eval_duration", "eval_duration")
_SAYS_NOTHING = frozenset({NULL, bytes(EMPTY_LIST), b"{}"})
_LONGEST_TIME = 32  # digits of a time that go into a made id
_count = msgspec.json.Decoder(int)
_encode = msgspec.json.Encoder().encode


class _Chance(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[int] | None = None

    def to_chance(self) -> Chance:
        return Chance(self.token, self.logprob, tuple(self.bytes) if self.bytes is not None else None)


class _Logprob(_Chance):
    top_logprobs: list[_Chance] | None = None


_logprobs = msgspec.json.Decoder(list[_Logprob])


def decode_reply(body: bytes) -> Reply:
    """The reply an answer's body tells.

    Raises:
        Fault: BAD_ANSWER for what is no chat answer; TRUNCATED for a piece of one; the provider's error where the body
            is one.
    """
    members = answer_of(body)
    if "message" not in members:
        raise bad_answer()
    message = members.inside("message")
    if members.take("done", FLAG) is False:
        raise truncated()
    parts = _said(message, made_ids(members))
    finish = finish_of(members.take("done_reason", STRING), called=any(map(is_call, parts)))
    scores, usage, model = take_scores(members), take_usage(members), members.take("model", STRING) or ""
    rest = meaningful(members)
    beside = tuple(extra for extra in rest if extra.path[0] in ("message", LOGPROBS))
    around = tuple(extra for extra in rest if extra.path[0] not in ("message", LOGPROBS))
    return Reply(choices=(Choice(0, tuple(parts), finish, beside, scores),), usage=usage, model=model, rest=around)


def usage_of(body: bytes) -> Usage | None:
    """The usage an answer states; None where it states none that makes sense.

    Raises:
        Fault: BAD_ANSWER for what is no JSON object; the provider's error where the body is one.
    """
    return take_usage(answer_of(body))


def answer_of(data: bytes) -> Members:
    """The members of an answer, or of a line of one.

    Raises:
        Fault: as `usage_of`.
    """
    try:
        data.decode()
        members = Members.of(data)
    except UnicodeDecodeError:
        members = None
    if members is None:
        raise bad_answer()
    error = members.take("error", RAW)
    if error is not None:
        raise hidden_error(bytes(error).decode())
    return members


def take_usage(members: Members) -> Usage | None:
    """The usage stated; None where none is, or none that makes sense."""
    read, written = members.take("prompt_eval_count", _count), members.take("eval_count", _count)
    if read is None and written is None:
        return None
    usage = Usage(read or 0, written or 0)
    return usage if 0 <= usage.input <= _MOST and 0 <= usage.output <= _MOST else None


def take_scores(members: Members) -> tuple[Score, ...]:
    """The chances told; a list that is not as documented stays."""
    found = members.take(LOGPROBS, _logprobs) or []
    return tuple(Score(one.to_chance(), tuple(top.to_chance() for top in one.top_logprobs or ())) for one in found)


def meaningful(members: Members) -> Rest:
    """What is left of an answer without times, and without what says nothing."""
    for name in _TIMES:
        members.take(name, RAW)
    return tuple(extra for extra in members.rest(DIALECT, BINDING) if bytes(extra.value) not in _SAYS_NOTHING)


def made_ids(members: Members) -> str:
    """How the ids begin that are made for the calls of an answer, from its time."""
    told = members.take("created_at", STRING) or ""
    digits = "".join(letter for letter in told if letter in "0123456789")[:_LONGEST_TIME]
    return f"call_{digits}_" if digits else "call_"


def finish_of(word: str | None, *, called: bool) -> Finish:
    """The pivot's reason for a `done_reason`; None is OTHER, but where tools were called."""
    if called and word in (None, "stop", "tool_calls"):
        return Finish(Reason.TOOL_CALLS)
    if word == "stop":
        return Finish(Reason.STOP)
    if word == "length":
        return Finish(Reason.LENGTH)
    return Finish(Reason.OTHER, word or "", DIALECT if word else "")


def word_of(finish: Finish, losses: list[Loss]) -> str:
    """The `done_reason` for the pivot's reason; an unknown end is a stop."""
    if finish.stop is not None:
        losses.append(Loss(LossKind.MARK, "choices.0.finish.stop"))
    if finish.word and finish.said_by == DIALECT:
        return finish.word
    if finish.reason is Reason.CONTENT_FILTER:
        losses.append(Loss(LossKind.MARK, "choices.0.finish"))
    return "length" if finish.reason is Reason.LENGTH else "stop"


def _said(message: Members, made: str) -> list[Part]:
    message.take("role", STRING)
    thought, text = message.take(THINKING, STRING), message.take(CONTENT, STRING)
    parts: list[Part] = [Reasoning(thought)] if thought else []
    parts += [Text(text)] if text else []
    parts += [decode_image(raw) for raw in message.take(IMAGES, RAWS) or ()]
    calls = message.take(TOOL_CALLS, RAWS) or ()
    return parts + [decode_call(raw, f"{made}{number}", numbered=True) for number, raw in enumerate(calls)]


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
    message: dict[str, Any] = {"role": "assistant", CONTENT: ""}
    document: dict[str, Any] = {**head_of(answering), "message": message, "done": True, "done_reason": "stop"}
    for choice in reply.choices:
        where = "choices.0"
        losses += losses_of(choice.rest, DIALECT, where)
        _put_parts(message, choice.parts, where, losses)
        document["done_reason"] = word_of(choice.finish, losses)
        if choice.scores and find(choice.rest, DIALECT, LOGPROBS) is None:
            document[LOGPROBS] = encode_scores(choice.scores)
        with_rest(document, choice.rest, DIALECT)
    if reply.usage is not None:
        document |= encode_usage(reply.usage)
    return Encoded(_encode(with_rest(document, reply.rest, DIALECT)), tuple(losses))


def _put_parts(message: dict[str, Any], parts: Sequence[Part], where: str, losses: list[Loss]) -> None:
    ranks = [rank(part) for part in parts]
    if ranks != sorted(ranks) or ranks.count(THOUGHT) > 1 or ranks.count(WORDS) > 1:
        losses.append(Loss(LossKind.SHAPE, where))
    calls = 0
    for index, part in enumerate(parts):
        place = f"{where}.parts.{index}"
        match part:
            case Reasoning(text) | Text(text) | Refusal(text):
                losses += words_lost(part, place)
                name = THINKING if isinstance(part, Reasoning) else CONTENT
                message[name] = message.get(name, "") + text
            case ToolCall() | UnknownPart() if is_call(part):
                message.setdefault(TOOL_CALLS, []).append(encode_numbered(part, calls, place, losses))
                calls += 1
            case _:
                message.setdefault(IMAGES, []).append(encode_image(part, place, losses))


def words_lost(part: Text | Reasoning | Refusal, where: str) -> list[Loss]:
    """What of words cannot be said beside them."""
    losses = losses_of(part.rest, DIALECT, where) + unsaid(part, where)
    return [*losses, Loss(LossKind.MARK, where)] if isinstance(part, Refusal) else losses


def encode_numbered(call: ToolCall | UnknownPart, number: int, where: str, losses: list[Loss]) -> Any:
    """One item of an answer's `tool_calls`, with its place.

    Raises:
        Fault: INVALID_REQUEST for a call whose arguments are no object, or of another dialect's kind.
    """
    written = encode_call(call, "", where, losses)
    if isinstance(call, ToolCall):
        written["function"].setdefault("index", number)
    return written


def rank(part: Part) -> int:
    """The place of a part among the kinds of parts of an answer, in the order in which this dialect says them."""
    if isinstance(part, Reasoning):
        return THOUGHT
    if isinstance(part, (Text, Refusal)):
        return WORDS
    return CALL if is_call(part) else PICTURE


def head_of(answering: Answering) -> dict[str, Any]:
    """What every answer, and every line of one, begins with."""
    created = datetime.fromtimestamp(answering.created, UTC).isoformat().replace("+00:00", "Z")
    return {"model": answering.model, "created_at": created}


def encode_usage(usage: Usage) -> dict[str, int]:
    """The members that state the usage."""
    return {"prompt_eval_count": usage.input, "eval_count": usage.output}


def encode_scores(scores: Sequence[Score]) -> list[dict[str, Any]]:
    """The `logprobs` list."""
    found = []
    for score in scores:
        item = _chance(score.chosen)
        if score.top:
            item["top_logprobs"] = [_chance(one) for one in score.top]
        found.append(item)
    return found


def _chance(chance: Chance) -> dict[str, Any]:
    told: dict[str, Any] = {"token": chance.token, "logprob": chance.logprob}
    return told if chance.data is None else {**told, "bytes": chance.data}
