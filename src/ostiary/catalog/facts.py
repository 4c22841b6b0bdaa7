"""What is known of a model, and how a line of the model table spells it. It must not look anything up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import msgspec

from ostiary.core.price import Price

# What a model can do or take, under the names of the compatible surface. The head of a table lists those of its lines.
CAPABILITIES = (
    "supports_function_calling",
    "supports_parallel_function_calling",
    "supports_tool_choice",
    "supports_response_schema",
    "supports_system_messages",
    "supports_reasoning",
    "supports_vision",
    "supports_pdf_input",
    "supports_audio_input",
    "supports_audio_output",
    "supports_video_input",
    "supports_prompt_caching",
    "supports_web_search",
    "supports_url_context",
    "supports_computer_use",
    "supports_assistant_prefill",
    "supports_embedding_image_input",
)
MODES = (
    "chat",
    "completion",
    "responses",
    "embedding",
    "image_generation",
    "audio_transcription",
    "audio_speech",
    "realtime",
    "rerank",
    "moderation",
)
NOTHING: Mapping[str, bool] = MappingProxyType({})


class ModelFacts(msgspec.Struct, frozen=True):
    """What is known of a model. `name` is the key of the row; a price, limit, size or date that is None is unknown.

    Attributes:
        mode: one of `MODES`.
        max_input_tokens, max_output_tokens: the longest prompt and the longest answer.
        owner: who serves it, as the table calls them.
        capabilities: of `CAPABILITIES`, those that are known to be there (True) or not to be there (False).
        context_window: tokens of prompt and answer together.
        vector_size: numbers in an embedding.
        ends: the day from which its provider may not serve it any more, YYYY-MM-DD.
        source: which of the table's sources the row is from, counted from 0.
    """

    price: Price | None
    mode: str
    max_input_tokens: int | None
    max_output_tokens: int | None
    name: str
    owner: str = ""
    capabilities: Mapping[str, bool] = NOTHING
    context_window: int | None = None
    vector_size: int | None = None
    ends: str | None = None
    source: int = 0


class Row(msgspec.Struct, array_like=True, frozen=True):
    """A line. `can` and `cannot` have a bit for each capability of the table's head, the first one the lowest."""

    key: str
    owner: str
    mode: str
    max_input_tokens: int | None
    max_output_tokens: int | None
    price: Price | None
    can: int = 0
    cannot: int = 0
    context_window: int | None = None
    vector_size: int | None = None
    ends: str | None = None
    source: int = 0


_FIXED = 6
_DEFAULTS = tuple(field.default for field in msgspec.structs.fields(Row))[_FIXED:]


def facts_of(row: Row, names: Sequence[str]) -> ModelFacts:
    """The facts of a line of a table whose head lists these capabilities."""
    capabilities = {
        name: bool(row.can >> bit & 1) for bit, name in enumerate(names) if (row.can | row.cannot) >> bit & 1
    }
    return ModelFacts(
        row.price, row.mode, row.max_input_tokens, row.max_output_tokens, row.key, row.owner, capabilities,
        row.context_window, row.vector_size, row.ends, row.source,
    )  # fmt: skip


def line_of(facts: ModelFacts) -> bytes:
    """A line of a table whose head lists `CAPABILITIES`, without what is at its end and unknown."""
    can = sum(1 << bit for bit, name in enumerate(CAPABILITIES) if facts.capabilities.get(name) is True)
    cannot = sum(1 << bit for bit, name in enumerate(CAPABILITIES) if facts.capabilities.get(name) is False)
    optional = [can, cannot, facts.context_window, facts.vector_size, facts.ends, facts.source]
    while optional and optional[-1] == _DEFAULTS[len(optional) - 1]:
        optional.pop()
    fixed = facts.name, facts.owner, facts.mode, facts.max_input_tokens, facts.max_output_tokens, facts.price
    return msgspec.json.encode((*fixed, *optional)) + b"\n"
