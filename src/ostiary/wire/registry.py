"""The dialects there are, by name. It must not say who speaks them."""

from __future__ import annotations

from collections.abc import Mapping

from ostiary.wire.dialect import Dialect
from ostiary.wire.dialects.openai_chat import wire as openai_chat

DIALECTS: Mapping[str, Dialect] = {
    "openai_chat": openai_chat.DIALECT,
}
