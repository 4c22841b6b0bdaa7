"""Chat requests from and to the pivot. It must not judge values: what has not the documented type is kept as it came.

Source: OpenAI API reference, create chat completion (official Python SDK 3.54, `CompletionCreateParams`). `top_k` is
not OpenAI's, but nearly every compatible server's. Duplicate members: the last counts, and it alone travels on.

Shapes that say the same are told apart by what is left of a list once its items were taken: an empty list in `rest`
at `content`, `stop`, `tools` or `tool_calls` stands for "it was a list".
"""

from __future__ import annotations

from typing import Any

import msgspec

from ostiary.core.fault import Fault, Kind
from ostiary.wire.conversation.conversation import (
    Conversation,
    Format,
    Message,
    Sampling,
    Shape,
    Thinking,
    UnknownMessage,
)
from ostiary.wire.conversation.members import EMPTY_LIST, Members, with_rest
from ostiary.wire.conversation.offers import offered
from ostiary.wire.conversation.unknown import Encoded, Loss, find, inexpressible, losses_of
from ostiary.wire.dialects.openai_chat.fitting import fitted_sampling, fitted_tools, fitted_turns, word_of
from ostiary.wire.dialects.openai_chat.messages import decode_message, encode_message
from ostiary.wire.dialects.openai_chat.tools import encode_tool, encode_tool_choice, take_tool_choice, take_tools
from ostiary.wire.dialects.openai_chat.values import DIALECT, FLAG, INTEGER, RAW, RAWS, STRING, object_of
from ostiary.wire.knobs import told_user
from ostiary.wire.profile import Profile

# Members that are content or constraints; the others are knobs.
_BINDING = frozenset(
    {
        "audio",
        "function_call",
        "functions",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "modalities",
        "model",
        "moderation",
        "n",
        "parallel_tool_calls",
        "response_format",
        "stop",
        "tool_choice",
        "tools",
        "web_search_options",
    }
)
_NUMBER = msgspec.json.Decoder(int | float)
_STRINGS = msgspec.json.Decoder(list[str])
_LABELS = msgspec.json.Decoder(dict[str, str])
_SHAPES = {"text": Shape.TEXT, "json_object": Shape.JSON, "json_schema": Shape.SCHEMA}
_SHAPE_WORDS = {shape: word for word, shape in _SHAPES.items()}
_encode = msgspec.json.Encoder().encode


def decode_request(body: bytes) -> Conversation:
    """The conversation a request body asks for.

    Raises:
        Fault: MALFORMED for what is no JSON object in UTF-8; INVALID_REQUEST where `messages` is no list of objects.
    """
    members = Members.of(body) if _is_text(body) else None
    if members is None:
        raise Fault(Kind.MALFORMED, "the request body is not a valid JSON object")
    options = members.inside("stream_options")
    return Conversation(
        model=members.take("model", STRING) or "",
        messages=_messages(members),
        tools=take_tools(members),
        tool_choice=take_tool_choice(members),
        parallel_calls=members.take("parallel_tool_calls", FLAG),
        format=_format(members),
        sampling=Sampling(
            temperature=members.take("temperature", _NUMBER),
            top_p=members.take("top_p", _NUMBER),
            top_k=members.take("top_k", INTEGER),
            frequency_penalty=members.take("frequency_penalty", _NUMBER),
            presence_penalty=members.take("presence_penalty", _NUMBER),
            seed=members.take("seed", INTEGER),
        ),
        thinking=Thinking(effort=members.take("reasoning_effort", STRING)),
        stop=_stop(members),
        max_output=members.take("max_completion_tokens", INTEGER),
        max_text=members.take("max_tokens", INTEGER),
        choices=members.take("n", INTEGER),
        stream=members.take("stream", FLAG),
        stream_usage=options.take("include_usage", FLAG),
        user=members.take("user", STRING),
        metadata=members.take("metadata", _LABELS),
        logprobs=members.take("logprobs", FLAG),
        top_logprobs=members.take("top_logprobs", INTEGER),
        tier=members.take("service_tier", STRING),
        store=members.take("store", FLAG),
        rest=members.rest(DIALECT, _BINDING),
    )


def encode_request(conversation: Conversation, profile: Profile) -> Encoded:
    """The request body for a conversation with a model of this profile, and what it does not say.

    Raises:
        Fault: INVALID_REQUEST where content or a constraint cannot be said in this dialect; another target may do.
    """
    losses = losses_of(conversation.rest, DIALECT, "")
    conversation, places = offered(conversation, DIALECT, losses)
    if conversation.previous is not None:
        raise inexpressible("previous")
    if conversation.format is not None and conversation.format.shape is Shape.SCHEMA and not profile.schema:
        raise inexpressible("format")
    turns = fitted_turns(conversation.messages, profile, losses)
    document: dict[str, Any] = {"messages": [encode_message(message, where, losses) for where, message in turns]}
    document.update(_knobs(conversation, profile, losses))
    if conversation.model or find(conversation.rest, DIALECT, "model") is None:
        document["model"] = conversation.model
    if conversation.tools:
        tools = fitted_tools(conversation.tools, places, profile, losses)
        document["tools"] = [encode_tool(tool, place, losses) for place, tool in zip(places, tools, strict=True)]
    if conversation.tool_choice is not None:
        document["tool_choice"] = encode_tool_choice(conversation.tool_choice)
    if conversation.format is not None:
        document["response_format"] = _encode_format(conversation.format, losses)
    if conversation.stop:
        alone = len(conversation.stop) == 1 and find(conversation.rest, DIALECT, "stop") is None
        document["stop"] = conversation.stop[0] if alone else conversation.stop
    if conversation.stream_usage is not None and profile.stream_usage:
        document["stream_options"] = {"include_usage": conversation.stream_usage}
    return Encoded(_encode(with_rest(document, conversation.rest, DIALECT)), tuple(losses))


def _knobs(conversation: Conversation, profile: Profile, losses: list[Loss]) -> dict[str, Any]:
    """The members that are plain values."""
    sampling = fitted_sampling(conversation.sampling, profile, losses)
    new, old = conversation.max_output, conversation.max_text
    if new is not None and not profile.new_cap:
        old = new if old is None else min(new, old)
        new = None
    values = {
        "parallel_tool_calls": conversation.parallel_calls,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
        "seed": sampling.seed,
        "reasoning_effort": word_of(conversation.thinking, profile, losses),
        "max_completion_tokens": new,
        "max_tokens": old,
        "n": conversation.choices,
        "stream": conversation.stream,
        "user": told_user(conversation.user, losses),
        "metadata": conversation.metadata,
        "logprobs": conversation.logprobs,
        "top_logprobs": conversation.top_logprobs,
        "service_tier": conversation.tier,
        "store": conversation.store,
    }
    return {name: value for name, value in values.items() if value is not None}


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _messages(members: Members) -> tuple[Message | UnknownMessage, ...]:
    raws = members.take("messages", RAWS)
    if raws is None:
        raise Fault(Kind.INVALID_REQUEST, "'messages' must be a list", param="messages")
    return tuple(decode_message(raw, f"messages.{index}") for index, raw in enumerate(raws))


def _stop(members: Members) -> tuple[str, ...]:
    one = members.take("stop", STRING)
    if one is not None:
        return (one,)
    several = members.take("stop", _STRINGS)
    if several is not None and len(several) < 2:
        members.put_back("stop", EMPTY_LIST)
    return tuple(several or ())


def _format(members: Members) -> Format | None:
    raw = members.take("response_format", RAW)
    if raw is None:
        return None
    inner = Members.of(raw)
    shape = _SHAPES.get(inner.take("type", STRING) or "") if inner is not None else None
    if inner is None or shape is None or (shape is Shape.SCHEMA and "json_schema" not in inner):
        members.put_back("response_format", raw)
        return None
    if shape is not Shape.SCHEMA:
        return Format(shape, rest=inner.rest(DIALECT))
    asked = inner.inside("json_schema")
    name, description = asked.take("name", STRING), asked.take("description", STRING)
    schema, strict = object_of(asked, "schema"), asked.take("strict", FLAG)
    return Format(shape, name, description, schema, strict, inner.rest(DIALECT, {"json_schema"}))


def _encode_format(asked: Format, losses: list[Loss]) -> Any:
    losses += losses_of(asked.rest, DIALECT, "format")
    document: dict[str, Any] = {"type": _SHAPE_WORDS[asked.shape]}
    values = {"name": asked.name, "description": asked.description, "schema": asked.schema, "strict": asked.strict}
    said = {name: value for name, value in values.items() if value is not None}
    kept = [find(asked.rest, DIALECT, "json_schema", *path) for path in ((), ("name",))]
    if asked.shape is Shape.SCHEMA and asked.name is None and kept == [None, None]:
        said["name"] = "response"  # demanded here, and not everywhere
    if said:
        document["json_schema"] = said
    return with_rest(document, asked.rest, DIALECT)
