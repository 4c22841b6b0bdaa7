"""Requests from and to the pivot. It must not judge values: what has not the documented type is kept as it came.

Source: botocore 1.44, `bedrock-runtime` 2023-09-30: ConverseRequest, ConverseStreamRequest, CountTokensRequest. The
model and the wish for a stream stand in the path, so the body knows neither. The body of a count has the conversation
within `input.converse`. `top_k` is no member of Converse's own; it is sent among the fields of the model.

Duplicate members: the last counts, and it alone travels on. Empty lists that say nothing stay in the rest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from ostiary.core.fault import Fault, Kind
from ostiary.wire.conversation.conversation import Conversation, Format, Sampling, Shape
from ostiary.wire.conversation.members import EMPTY_LIST, UNREADABLE, Members, with_rest
from ostiary.wire.conversation.offers import offered
from ostiary.wire.conversation.unknown import Encoded, Loss, LossKind, inexpressible, losses_of
from ostiary.wire.dialect import Peeked
from ostiary.wire.dialects.bedrock_converse.media import DIALECT, STRING
from ostiary.wire.dialects.bedrock_converse.messages import MESSAGES, SYSTEM, MessageWriter, decode_messages
from ostiary.wire.dialects.bedrock_converse.parts import INTEGER, RAW
from ostiary.wire.dialects.bedrock_converse.thinking import FIELDS, decode_thinking, encode_thinking
from ostiary.wire.dialects.bedrock_converse.tools import TOOL_CONFIG, decode_tools, encode_tools
from ostiary.wire.knobs import together
from ostiary.wire.profile import Profile

# Members that are content or constraints; the others are knobs.
_BINDING = frozenset(
    {
        FIELDS,
        MESSAGES,
        SYSTEM,
        TOOL_CONFIG,
        "guardrailConfig",
        "input",
        "maxTokens",
        "outputConfig",
        "promptVariables",
        "stopSequences",
    }
)
TIERS = frozenset({"priority", "default", "flex", "reserved"})
_INFERENCE = "inferenceConfig"
_METADATA = "requestMetadata"
_LABEL = re.compile(r"[a-zA-Z0-9\s:_@$#=/+,.-]{0,256}", re.ASCII)
_NUMBER = msgspec.json.Decoder(int | float)
_STRINGS = msgspec.json.Decoder(list[str])
_LABELS = msgspec.json.Decoder(dict[str, str])
_encode = msgspec.json.Encoder().encode


def peek(members: Mapping[str, msgspec.Raw]) -> Peeked:
    """The cap on the output. Converse knows no end user.

    Raises:
        Fault: INVALID_REQUEST where it is no number.
    """
    raw = members.get(_INFERENCE)
    try:
        config = msgspec.json.decode(raw, type=_Inference | None) if raw is not None else None
    except UNREADABLE:
        public = f"'{_INFERENCE}' must be an object with numbers"
        raise Fault(Kind.INVALID_REQUEST, public, param=_INFERENCE) from None
    cap = config.maxTokens if config is not None else None
    if cap is not None and cap < 0:
        raise Fault(Kind.INVALID_REQUEST, "'maxTokens' must not be negative", param=f"{_INFERENCE}.maxTokens")
    return Peeked(cap)


class _Inference(msgspec.Struct):
    maxTokens: int | None = None  # noqa: N815  # the wire's word


def decode_request(body: bytes) -> Conversation:
    """The conversation a request body asks for, or asks to count.

    Raises:
        Fault: MALFORMED for what is no JSON object in UTF-8; INVALID_REQUEST where `messages` is no list of objects.
    """
    members = Members.of(body) if _is_text(body) else None
    if members is None:
        raise Fault(Kind.MALFORMED, "the request body is not a valid JSON object")
    if MESSAGES not in members and "input" in members:
        asked = members.inside("input").inside("converse")
        return _decode(asked if MESSAGES in asked else members)
    return _decode(members)


def _decode(members: Members) -> Conversation:
    inference, fields = members.inside(_INFERENCE), members.inside(FIELDS)
    output = members.inside("outputConfig")
    tools, choice = decode_tools(members)
    return Conversation(
        model="",
        messages=decode_messages(members),
        tools=tools,
        tool_choice=choice,
        format=_format(output),
        sampling=Sampling(
            temperature=inference.take("temperature", _NUMBER),
            top_p=inference.take("topP", _NUMBER),
            top_k=fields.take("top_k", INTEGER),
        ),
        thinking=decode_thinking(fields, output.take("effort", STRING)),
        stop=_stop(inference),
        max_output=inference.take("maxTokens", INTEGER),
        metadata=members.take(_METADATA, _LABELS),
        tier=_tier(members),
        rest=members.rest(DIALECT, _BINDING),
    )


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _stop(inference: Members) -> tuple[str, ...]:
    several = inference.take("stopSequences", _STRINGS)
    if several == []:
        inference.put_back("stopSequences", EMPTY_LIST)
    return tuple(several or ())


def _tier(members: Members) -> str | None:
    inner = members.inside("serviceTier")
    word = inner.take("type", STRING)
    if word is not None and word not in TIERS:
        inner.put_back("type", msgspec.Raw(_encode(word)))
        return None
    return word


def _format(output: Members) -> Format | None:
    """The form of the answer: a schema, which this dialect writes as JSON within a text."""
    raw = output.take("textFormat", RAW)
    inner = Members.of(raw) if raw is not None else None
    if raw is None or inner is None:
        return None
    kind, asked = inner.take("type", STRING), inner.inside("structure").inside("jsonSchema")
    schema, name, description = (
        asked.take("schema", STRING),
        asked.take("name", STRING),
        asked.take("description", STRING),
    )
    if kind != "json_schema" or schema is None or not _is_object(schema):
        output.put_back("textFormat", raw)
        return None
    rest = inner.rest(DIALECT, {"structure", "type"})
    return Format(Shape.SCHEMA, name, description, msgspec.Raw(schema.encode()), rest=rest)


def _is_object(text: str) -> bool:
    return text.startswith("{") and text.endswith("}") and Members.of(text.encode()) is not None


def encode_request(conversation: Conversation, profile: Profile) -> Encoded:
    """The request body for a conversation, and what it does not say. Model and stream are the path's.

    Raises:
        Fault: INVALID_REQUEST where content or a constraint cannot be said in this dialect; another target may do.
    """
    losses = losses_of(conversation.rest, DIALECT, "")
    conversation, places = offered(conversation, DIALECT, losses)
    _refuse(conversation)
    writer = MessageWriter(profile, losses)
    writer.write(conversation.messages)
    document: dict[str, Any] = {}
    if writer.system:
        document[SYSTEM] = writer.system
    if writer.messages:
        document[MESSAGES] = writer.messages
    tools = encode_tools(conversation, places, profile, losses)
    if tools:
        document[TOOL_CONFIG] = tools
    document |= _knobs(conversation, profile, losses)
    asked = conversation.format
    if asked is not None and asked.shape is not Shape.TEXT:
        document["outputConfig"] = {"textFormat": _encode_format(asked, profile, losses)}
    return Encoded(_encode(with_rest(document, conversation.rest, DIALECT)), tuple(losses))


def _refuse(conversation: Conversation) -> None:
    """Constraints this dialect has no word for."""
    if conversation.choices is not None and conversation.choices > 1:
        raise inexpressible("choices")
    if conversation.previous is not None:
        raise inexpressible("previous")


def _knobs(conversation: Conversation, profile: Profile, losses: list[Loss]) -> dict[str, Any]:
    """The members that tune an answer, and what of the pivot's knobs this dialect does not know."""
    fields = encode_thinking(conversation, profile, losses)
    if profile.sampling:
        reasoning = fields.get("thinking", {}).get("type") in ("enabled", "adaptive")
        fitted = together(conversation.sampling, profile, losses, reasoning=reasoning)
        conversation = msgspec.structs.replace(conversation, sampling=fitted)
        if fitted.top_k is not None:
            fields["top_k"] = fitted.top_k
    inference = _inference(conversation, profile, losses)
    document: dict[str, Any] = {}
    if inference:
        document[_INFERENCE] = inference
    if fields:
        document[FIELDS] = fields
    if conversation.metadata is not None:
        document[_METADATA] = _labels(conversation.metadata, losses)
    if conversation.tier in TIERS:
        document["serviceTier"] = {"type": conversation.tier}
    sampling = conversation.sampling
    unknown = {
        "sampling.frequency_penalty": sampling.frequency_penalty is not None,
        "sampling.presence_penalty": sampling.presence_penalty is not None,
        "sampling.seed": sampling.seed is not None,
        "parallel_calls": conversation.parallel_calls is False,
        "logprobs": bool(conversation.logprobs),
        "top_logprobs": conversation.top_logprobs is not None,
        "store": bool(conversation.store),
        "user": conversation.user is not None,
        "tier": conversation.tier is not None and conversation.tier not in TIERS,
    }
    losses += [Loss(LossKind.KNOB, where) for where, said in unknown.items() if said]
    return document


def _inference(conversation: Conversation, profile: Profile, losses: list[Loss]) -> dict[str, Any]:
    sampling = conversation.sampling
    knobs = {"temperature": sampling.temperature, "topP": sampling.top_p}
    if not profile.sampling:
        said = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k}
        losses += [Loss(LossKind.KNOB, f"sampling.{name}") for name, value in said.items() if value is not None]
        knobs = {}
    elif sampling.temperature is not None and sampling.temperature > 1:  # others go up to 2
        losses.append(Loss(LossKind.KNOB, "sampling.temperature"))
        knobs["temperature"] = 1
    cap = conversation.max_output if conversation.max_output is not None else conversation.max_text
    values = {"maxTokens": cap, **knobs, "stopSequences": conversation.stop or None}
    return {name: value for name, value in values.items() if value is not None}


def _labels(metadata: dict[str, str], losses: list[Loss]) -> dict[str, str]:
    """The labels that are in the alphabet allowed."""
    fit = {
        name: value for name, value in metadata.items() if name and _LABEL.fullmatch(name) and _LABEL.fullmatch(value)
    }
    if len(fit) < len(metadata):
        losses.append(Loss(LossKind.KNOB, "metadata"))
    return fit


def _encode_format(asked: Format, profile: Profile, losses: list[Loss]) -> dict[str, Any]:
    if asked.shape is not Shape.SCHEMA or asked.schema is None or not profile.schema:
        raise inexpressible("format")
    losses += losses_of(asked.rest, DIALECT, "format")
    if asked.strict is False:
        losses.append(Loss(LossKind.KNOB, "format.strict"))  # a schema always binds here
    values = {"schema": bytes(asked.schema).decode(), "name": asked.name, "description": asked.description}
    said = {name: value for name, value in values.items() if value is not None}
    return with_rest({"type": "json_schema", "structure": {"jsonSchema": said}}, asked.rest, DIALECT)


def encode_count(conversation: Conversation, profile: Profile) -> Encoded:
    """The body that asks how many tokens a conversation has: of all its members those that a count takes.

    Raises:
        Fault: as `encode_request`.
    """
    encoded = encode_request(conversation, profile)
    written = msgspec.json.decode(encoded.body, type=dict[str, msgspec.Raw])
    taken = {name: written[name] for name in (MESSAGES, SYSTEM, TOOL_CONFIG, FIELDS) if name in written}
    return Encoded(_encode({"input": {"converse": taken}}), encoded.losses)
