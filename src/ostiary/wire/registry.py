"""The dialects there are, by name. It must not say who speaks them."""

from __future__ import annotations

from collections.abc import Mapping

from ostiary.wire.dialect import Dialect
from ostiary.wire.dialects.anthropic_messages import wire as anthropic_messages
from ostiary.wire.dialects.bedrock_converse import wire as bedrock_converse
from ostiary.wire.dialects.cohere_chat import wire as cohere_chat
from ostiary.wire.dialects.gemini_generate import wire as gemini_generate
from ostiary.wire.dialects.ollama_chat import wire as ollama_chat
from ostiary.wire.dialects.openai_chat import completions
from ostiary.wire.dialects.openai_chat import wire as openai_chat
from ostiary.wire.dialects.openai_responses import wire as openai_responses

DIALECTS: Mapping[str, Dialect] = {
    "openai_chat": openai_chat.DIALECT,
    "openai_responses": openai_responses.DIALECT,
    "anthropic_messages": anthropic_messages.DIALECT,
    "bedrock_converse": bedrock_converse.DIALECT,
    "gemini_generate": gemini_generate.DIALECT,
    "cohere_chat": cohere_chat.DIALECT,
    "ollama_chat": ollama_chat.DIALECT,
}
# With the one whose requests are a single text, and whose answers are words alone.
SPOKEN: Mapping[str, Dialect] = {**DIALECTS, "openai_completions": completions.DIALECT}
