"""Requests from and to the pivot. It must not say the model, nor whether the answer is a stream: the path says both.

Source: official Python SDK 3.4 (`types.GenerateContentConfig` and the transforms of its `models`, which tell the places
on the wire), discovery document of aiplatform v1beta1 (`GenerateContentRequest`, `CountTokensRequest`). A request to
count the tokens of a whole request holds that request in `generateContentRequest`.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ostiary.core.fault import Fault, Kind
from ostiary.wire.conversation.conversation import Conversation
from ostiary.wire.conversation.members import with_rest
from ostiary.wire.conversation.offers import offered
from ostiary.wire.conversation.unknown import Encoded, Loss, LossKind, inexpressible, losses_of
from ostiary.wire.dialects.gemini_generate.config import CONFIG, decode_config, encode_config
from ostiary.wire.dialects.gemini_generate.contents import decode_contents, decode_system, encode_contents
from ostiary.wire.dialects.gemini_generate.fields import DIALECT, LABELS, STRING, Fields, encode
from ostiary.wire.dialects.gemini_generate.tools import decode_choice, decode_tools, encode_choice, encode_tools
from ostiary.wire.profile import Profile, Thinks

_SYSTEM, _WHOLE = "systemInstruction", "generateContentRequest"
# Members that are content or constraints; the others are knobs.
_BINDING = frozenset(
    {
        *("contents", _SYSTEM, _WHOLE, "tools", "cachedContent", "continuationToken", "safetySettings"),
        *("modelArmorConfig", "allowedFunctionNames", "responseMimeType", "responseSchema", "responseJsonSchema"),
        *("responseFormat", "responseModalities", "stopSequences", "maxOutputTokens", "candidateCount"),
    }
)
_TIERS = {"standard": "default", "flex": "flex", "priority": "priority"}
_TIER_WORDS = {tier: word for word, tier in _TIERS.items()}
_LABEL = re.compile(r"[\w-]{0,63}")  # Vertex AI: lower-case letters of any script, digits, underscores, hyphens


def decode_request(body: bytes) -> Conversation:
    """The conversation a request body asks for; it names no model.

    Raises:
        Fault: MALFORMED for what is no JSON object in UTF-8; INVALID_REQUEST where `contents` is no list of objects.
    """
    members = Fields.of(body) if _is_text(body) else None
    if members is None:
        raise Fault(Kind.MALFORMED, "the request body is not a valid JSON object")
    if "contents" not in members and (whole := members.object(_WHOLE)) is not None:
        members = Fields.of(whole) or members
        members.take("model", STRING)
    raws = members.items("contents")
    if raws is None:
        raise Fault(Kind.INVALID_REQUEST, "'contents' must be a list", param="contents")
    raw = members.object(_SYSTEM)
    system = decode_system(raw) if raw is not None else None
    if raw is not None and system is None:
        members.put_back(_SYSTEM, raw)
    config = decode_config(members.inside(CONFIG))
    tools = members.items("tools")
    labels, tier = members.take("labels", LABELS), members.take("serviceTier", STRING)
    if tier is not None and tier.lower() not in _TIERS:
        members.put_back("serviceTier", msgspec.Raw(encode(tier)))
    return Conversation(
        model="",
        messages=(*([system] if system is not None else []), *decode_contents(raws)),
        tools=decode_tools(tools or ()),
        tool_choice=decode_choice(members.inside("toolConfig").inside("functionCallingConfig")),
        metadata=labels,
        tier=_TIERS.get((tier or "").lower()),
        rest=members.rest(DIALECT, _BINDING),
        **config._asdict(),
    )


def encode_request(conversation: Conversation, profile: Profile) -> Encoded:
    """The request body for a conversation, and what it does not say.

    Raises:
        Fault: INVALID_REQUEST where content or a constraint cannot be said in this dialect; another target may do.
    """
    if conversation.previous is not None:
        raise inexpressible("previous")
    losses = losses_of(conversation.rest, DIALECT, "")
    conversation, places = offered(conversation, DIALECT, losses)
    if conversation.parallel_calls is False and conversation.tools:
        losses.append(Loss(LossKind.KNOB, "parallel_calls"))
    wishes = {"user": conversation.user, "store": conversation.store or None}  # nothing is stored anyway
    losses += [Loss(LossKind.KNOB, name) for name, wish in wishes.items() if wish is not None]
    contents, system = encode_contents(conversation.messages, losses, unchecked=profile.thinks is not Thinks.NEVER)
    document: dict[str, Any] = {"contents": contents}
    if system is not None:
        document[_SYSTEM] = system
    if conversation.tools:
        document["tools"] = encode_tools(conversation.tools, places, losses)
    if conversation.tool_choice is not None:
        document["toolConfig"] = {"functionCallingConfig": encode_choice(conversation.tool_choice, losses)}
    config = encode_config(conversation, profile, losses)
    if config:
        document[CONFIG] = config
    document |= _marks(conversation, losses)
    return Encoded(encode(with_rest(document, conversation.rest, DIALECT)), tuple(losses))


def _marks(conversation: Conversation, losses: list[Loss]) -> dict[str, Any]:
    """The labels and the tier of service."""
    document: dict[str, Any] = {}
    labels = {name: value for name, value in (conversation.metadata or {}).items() if _fits(name) and _fits(value)}
    if len(labels) < len(conversation.metadata or {}):
        losses.append(Loss(LossKind.KNOB, "metadata"))
    if labels or conversation.metadata == {}:
        document["labels"] = labels
    if conversation.tier in _TIER_WORDS:
        document["serviceTier"] = _TIER_WORDS[conversation.tier]
    elif conversation.tier not in (None, "auto"):
        losses.append(Loss(LossKind.KNOB, "tier"))
    return document


def _fits(word: str) -> bool:
    return _LABEL.fullmatch(word) is not None and word == word.lower()


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True
