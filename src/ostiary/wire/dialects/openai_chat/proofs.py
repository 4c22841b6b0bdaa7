"""Proofs that a client keeps for their issuer: thinking blocks, and `extra_content`. It must not judge what they prove.

Neither is OpenAI's. `thinking_blocks` beside `reasoning_content` is what gateways of this dialect write for signed
reasoning (LiteLLM's reference, `ChatCompletionThinkingBlock`): `{type: thinking, thinking, signature}` or
`{type: redacted_thinking, data}`. `extra_content` of a tool call is where Gemini's compatible endpoint keeps a proof
(`google.thought_signature`, Google's API reference, OpenAI compatibility); the house's own stand beside it, under
`ostiary.seal`, and at the message for its words. Proofs of another issuer travel as `seals.carry` writes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ostiary.wire.conversation.members import Members, with_rest
from ostiary.wire.conversation.parts import Reasoning, Seal
from ostiary.wire.conversation.seals import carried, carry
from ostiary.wire.conversation.unknown import Extra, Rest, find
from ostiary.wire.dialects.openai_chat.values import DIALECT, INTEGER, RAW, RAWS, STRING

BLOCKS = "thinking_blocks"
GOOGLE = "gemini_generate"  # the issuer of the proofs that Gemini's compatible endpoint hands out
# How a client spelt a proof; it says nothing to anybody else, and is written nowhere.
_IN_GOOGLES_WORDS = Extra("", ("google",), msgspec.Raw(b"null"))
_EXTRA = "extra_content"


def take_call_seal(call: Members) -> tuple[Seal | None, Rest]:
    """The proof on a tool call, and a note where it is spelt in Google's way."""
    extra = call.inside(_EXTRA)
    own = extra.inside("ostiary").take("seal", STRING)
    if own is not None:
        return carried(own, DIALECT)[0], ()
    google = extra.inside("google").take("thought_signature", STRING)
    return (None, ()) if google is None else (Seal(GOOGLE, google), (_IN_GOOGLES_WORDS,))


def take_text_seal(message: Members) -> Seal | None:
    """The proof on the words of a message, in the house's spelling; any other stays where it is."""
    value = message.inside(_EXTRA).inside("ostiary").take("seal", STRING)
    return None if value is None else carried(value, DIALECT)[0]


def extra_content(seal: Seal, rest: Rest = ()) -> dict[str, Any]:
    """The member that holds a proof; `rest` of the call tells how it was spelt."""
    if at_google(seal, rest):
        return {_EXTRA: {"google": {"thought_signature": seal.value}}}
    return {_EXTRA: {"ostiary": {"seal": _spelt(seal)}}}


def at_google(seal: Seal, rest: Rest) -> bool:
    """Whether a proof came in Google's spelling: then Gemini's compatible endpoint is where it goes back to."""
    return seal.issuer == GOOGLE and find(rest, "", "google") is not None


def _spelt(seal: Seal) -> str:
    return seal.value if seal.issuer == DIALECT else carry(seal)


def take_thoughts(message: Members, told: str | None) -> list[Reasoning]:
    """The reasoning of a message, from its blocks and from what it `told` beside them (None: nothing)."""
    raw = message.take(BLOCKS, RAW)
    blocks = read_blocks(raw) if raw is not None else []
    if raw is not None and not blocks:
        message.put_back(BLOCKS, raw)
    if not blocks:
        return [] if told is None else [Reasoning(told)]
    repeated = not told or told == "".join(block.text for block in blocks)
    return blocks if repeated else [Reasoning(told or ""), *blocks]


def read_blocks(raw: msgspec.Raw) -> list[Reasoning]:
    """A list of thinking blocks; empty where it is none."""
    try:
        blocks = [_block(block) for block in RAWS.decode(raw)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
    known = [block for block in blocks if block is not None]
    return known if len(known) == len(blocks) else []


def _block(raw: msgspec.Raw) -> Reasoning | None:
    members = Members.of(raw)
    if members is None:
        return None
    kind = members.take("type", STRING)
    members.take("index", INTEGER)  # its place in the list, where it came in a stream
    hidden = kind == "redacted_thinking"
    text = "" if hidden else members.take("thinking", STRING)
    if text is None or (kind != "thinking" and not hidden):
        return None
    proof = members.take("data" if hidden else "signature", STRING)
    seal = carried(proof, DIALECT)[0] if proof else None
    return Reasoning(text, seal, members.rest(DIALECT), hidden)


def put_thoughts(document: dict[str, Any], thoughts: Sequence[Reasoning]) -> None:
    """Write the reasoning of a message: as one text, and as blocks where that does not say all."""
    if not thoughts:
        return
    text = "".join(thought.text for thought in thoughts)
    if len(thoughts) > 1 or needs_block(thoughts[0]):
        document[BLOCKS] = [encode_block(thought) for thought in thoughts]
        if not text:
            return
    document["reasoning_content"] = text


def needs_block(thought: Reasoning) -> bool:
    """Whether there is more to a thought than its text."""
    return thought.seal is not None or thought.hidden or any(extra.said_by == DIALECT for extra in thought.rest)


def encode_block(thought: Reasoning) -> dict[str, Any]:
    """One thinking block."""
    proof = "" if thought.seal is None else _spelt(thought.seal)
    if thought.hidden:
        return with_rest({"type": "redacted_thinking", "data": proof}, thought.rest, DIALECT)
    document: dict[str, Any] = {"type": "thinking", "thinking": thought.text}
    if proof:
        document["signature"] = proof
    return with_rest(document, thought.rest, DIALECT)
