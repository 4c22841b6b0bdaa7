"""Responses from and to the pivot. It must not make an answer of what is none.

Source: official Python SDK 3.54, `types.responses.Response`. What a provider tells again of the request, names of
items, nulls and empty lists say nothing in an answer and are not kept. There is one choice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from ostiary.core.fault import Fault
from ostiary.core.usage import Usage
from ostiary.wire.conversation.members import Members, with_rest
from ostiary.wire.conversation.parts import ToolCall
from ostiary.wire.conversation.reply import Choice, Finish, Reason, Reply
from ostiary.wire.conversation.unknown import Encoded, Loss, LossKind, Rest, inexpressible, losses_of
from ostiary.wire.dialect import Answering
from ostiary.wire.dialects.openai_responses.faults import bad_answer, decode_fault, truncated
from ostiary.wire.dialects.openai_responses.items import Run
from ostiary.wire.dialects.openai_responses.marks import DIALECT
from ostiary.wire.dialects.openai_responses.output import Output
from ostiary.wire.dialects.openai_responses.parts import RAW, RAWS, STRING, meaningful
from ostiary.wire.dialects.openai_responses.response import INCOMPLETE, TIERS, ended, finish_of, frame
from ostiary.wire.dialects.openai_responses.settings import wants_proofs
from ostiary.wire.dialects.openai_responses.usage import decode_usage, encode_usage, fault_of, readable

# What a response tells again of the request, and nobody reads.
TOLD = frozenset(
    {
        "background",
        "completed_at",
        "conversation",
        "created_at",
        "frequency_penalty",
        "image",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "metadata",
        "object",
        "output_text",
        "parallel_tool_calls",
        "presence_penalty",
        "previous_response_id",
        "prompt",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning",
        "safety_identifier",
        "store",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "truncation",
        "user",
    }
)
# What is read even where it cannot be: of another type it says nothing.
_READ = frozenset({"error", "incomplete_details", "output"})
_encode = msgspec.json.Encoder().encode


class Told(msgspec.Struct):
    """What surrounds the output of a response. `fault`: there is none, or not all of it."""

    fault: Fault | None
    finish: Callable[[bool], Finish]
    usage: Usage | None
    id: str
    model: str
    tier: str
    rest: Rest


def decode_reply(body: bytes) -> Reply:
    """The reply an answer's body tells.

    Raises:
        Fault: BAD_ANSWER for what is no response; the provider's error where it failed.
    """
    members = readable(body, TOLD)
    if members is None:
        raise bad_answer()
    raws = members.take("output", RAWS)
    told = surroundings(members)
    if told.fault is not None:
        raise told.fault
    if raws is None:
        raise bad_answer()
    run = Run(keep=False)
    for raw in raws:
        run.add(raw)
    called = any(isinstance(part, ToolCall) for part in run.parts)
    choice = Choice(0, tuple(run.parts), told.finish(called), scores=tuple(run.scores))
    return Reply(choices=(choice,), usage=told.usage, id=told.id, model=told.model, rest=told.rest, tier=told.tier)


def surroundings(members: Members, usual: str | None = None) -> Told:
    """What a response says beside its output, without what it tells again; `usual`: its status where it has none."""
    status, fault = members.take("status", STRING) or usual, fault_of(members)
    if fault is None and status == "failed":
        fault = decode_fault(502, b"")
    if status == "cancelled":
        fault = truncated()
    why = members.inside("incomplete_details").take("reason", STRING)
    usage = members.take("usage", RAW)
    id_, model, tier = (members.take(name, STRING) or "" for name in ("id", "model", "service_tier"))
    return Told(
        fault,
        lambda called: finish_of(status, why, called=called),
        decode_usage(usage) if usage is not None else None,
        id_,
        model,
        tier,
        meaningful(tuple(extra for extra in members.rest(DIALECT) if extra.path[0] not in _READ)),
    )


def encode_reply(reply: Reply, answering: Answering) -> Encoded:
    """The body of an answer to what was asked, and what it does not say.

    Raises:
        Fault: INVALID_REQUEST for content this dialect cannot say.
    """
    losses: list[Loss] = []
    output = Output(id=answering.id, emit=_nobody, losses=losses, proven=wants_proofs(answering.asked))
    finish = Finish(Reason.STOP)
    for number, choice in enumerate(reply.choices):
        if number:
            raise inexpressible(f"choices.{choice.index}")
        losses += losses_of(choice.rest, DIALECT, f"choices.{choice.index}")
        output.score(choice.scores)
        for place, part in enumerate(choice.parts):
            output.start(part, f"choices.{choice.index}.parts.{place}")
            output.end(None)
        finish = choice.finish
        losses += lost_of(finish, f"choices.{choice.index}")
    told = ended(frame(answering), finish)
    output.finish(told["status"] if told["status"] == INCOMPLETE else "completed")
    document = surrounded(told, reply.usage, reply.tier, reply.rest, losses)
    document["output"] = output.items
    return Encoded(_encode(document), tuple(losses))


def surrounded(
    document: dict[str, Any], usage: Usage | None, tier: str, rest: Rest, losses: list[Loss]
) -> dict[str, Any]:
    """A response with what is told beside its output."""
    document = dict(document)
    losses += losses_of(rest, DIALECT, "")
    if usage is not None:
        document["usage"] = encode_usage(usage)
    if tier in TIERS:
        document["service_tier"] = tier
    elif tier:
        losses.append(Loss(LossKind.KNOB, "tier"))
    return with_rest(document, rest, DIALECT)


def lost_of(finish: Finish, where: str) -> list[Loss]:
    """What a finish says and a response cannot."""
    return [Loss(LossKind.MARK, f"{where}.finish.stop")] if finish.stop is not None else []


def _nobody(kind: str, members: dict[str, Any]) -> None:
    """Nobody is told of the events of a whole answer."""
