"""A request as the pivot says it. It must not decide what a model accepts: that is a profile's business.

Invariants: a message of `Role.TOOL` carries exactly one `ToolResult`, and no other message carries one. `rest` is
sorted by path, so that equal requests are equal values.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from ostiary.wire.conversation.parts import Cache, Part
from ostiary.wire.conversation.unknown import Rest


class Role(StrEnum):
    """Who speaks."""

    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class Message(msgspec.Struct, frozen=True, tag=True):
    """One turn. `name` tells speakers of one role apart."""

    role: Role
    parts: tuple[Part, ...]
    name: str | None = None
    rest: Rest = ()


class UnknownMessage(msgspec.Struct, frozen=True, tag=True):
    """A turn that only `said_by` understands, whole and raw."""

    said_by: str
    value: msgspec.Raw


class Tool(msgspec.Struct, frozen=True, tag=True):
    """A function the model may call. `parameters` is a JSON schema, None where it takes none."""

    name: str
    description: str | None = None
    parameters: msgspec.Raw | None = None
    strict: bool | None = None
    rest: Rest = ()
    cache: Cache | None = None


class UnknownTool(msgspec.Struct, frozen=True, tag=True):
    """A tool that only `said_by` understands (run by the provider, or free-form), whole and raw."""

    said_by: str
    value: msgspec.Raw


class Call(StrEnum):
    """Whether the model has to call a tool."""

    NONE = "none"
    AUTO = "auto"
    REQUIRED = "required"


class ToolChoice(msgspec.Struct, frozen=True):
    """Which tools the model may or must call; all of them where `names` is empty."""

    call: Call
    names: tuple[str, ...] = ()


class Shape(StrEnum):
    """The form of the answer."""

    TEXT = "text"
    JSON = "json"
    SCHEMA = "schema"


class Format(msgspec.Struct, frozen=True):
    """The form asked for; the members beside `shape` belong to SCHEMA."""

    shape: Shape
    name: str | None = None
    description: str | None = None
    schema: msgspec.Raw | None = None
    strict: bool | None = None
    rest: Rest = ()


class Sampling(msgspec.Struct, frozen=True):
    """The tuning knobs. None: not said."""

    temperature: int | float | None = None
    top_p: int | float | None = None
    top_k: int | None = None
    frequency_penalty: int | float | None = None
    presence_penalty: int | float | None = None
    seed: int | None = None


class Thinking(msgspec.Struct, frozen=True):
    """Whether (`on`) and how much the model should reason: in words (`effort`) or in tokens (`budget`).

    `effort` is one of none, minimal, low, medium, high, xhigh, max. `adaptive`: on, and as much as the model sees fit.
    `shown`: how much of it the answer should tell: none, auto, concise or detailed.
    """

    effort: str | None = None
    budget: int | None = None
    on: bool | None = None
    adaptive: bool | None = None
    shown: str | None = None


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """A request.

    `max_output` caps all tokens of an answer; `max_text` is the older cap, said without regard to reasoning.
    `choices` is the number of answers wanted. `parallel_calls`: several tool calls in one turn are welcome.
    `stream_usage`: a stream should end with its usage. `logprobs`: the chances of the words chosen are wanted, and
    `top_logprobs` those of so many others each. `tier`: auto, default, flex or priority, or a provider's own word.
    `store`: the provider may keep the answer; `previous`: the id of the stored answer that this goes on from.
    None always means: not said.
    """

    model: str
    messages: tuple[Message | UnknownMessage, ...]
    tools: tuple[Tool | UnknownTool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_calls: bool | None = None
    format: Format | None = None
    sampling: Sampling = Sampling()
    thinking: Thinking = Thinking()
    stop: tuple[str, ...] = ()
    max_output: int | None = None
    max_text: int | None = None
    choices: int | None = None
    stream: bool | None = None
    stream_usage: bool | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tier: str | None = None
    store: bool | None = None
    previous: str | None = None
    rest: Rest = ()
