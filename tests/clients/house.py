"""One gateway and a scripted provider of every dialect behind it. It must not know a client.

A model is called `<provider>-<scenario>-<mark>`; the mark is of one conversation, so that what a provider has seen and
complains of is found again.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from lines import CACHED, THOUGHT_TOKENS
from scripted import Provider, scripted
from tls_front import tls_front
from voices_anthropic import KEY as ANTHROPIC_KEY
from voices_anthropic import Messages, VertexMessages
from voices_bedrock import ACCESS_KEY, REGION, SECRET_KEY, Converse
from voices_gemini import KEY as GEMINI_KEY
from voices_gemini import TOKEN as VERTEX_TOKEN
from voices_gemini import Generate, VertexGenerate
from voices_openai import KEY as OPENAI_KEY
from voices_openai import Chat, Responses
from voices_others import COHERE_KEY, OLLAMA_KEY, Cohere, Ollama

from ostiary.testing.factories import configuration
from ostiary.testing.gateway import Gateway, running_gateway

# public prefix -> what it is at the provider, and the credential; `@` stands for the address
DEPLOYMENTS: Mapping[str, dict[str, Any]] = {
    "openai": {"model": "openai/gpt-5-*", "api_key": OPENAI_KEY},
    "compatible": {"model": "hosted_vllm/deepseek-*", "api_key": OPENAI_KEY},
    "anthropic": {"model": "anthropic/claude-sonnet-4-5-*", "api_key": ANTHROPIC_KEY},
    "google": {"model": "gemini/gemini-2.5-flash-*", "api_key": GEMINI_KEY},
    "vertex": {"model": "vertex_ai/gemini-2.5-pro-*", "api_key": VERTEX_TOKEN},
    "vertexclaude": {"model": "vertex_ai/claude-sonnet-4-5@20250929-*", "api_key": VERTEX_TOKEN},
    "bedrock": {
        "model": "bedrock/eu.anthropic.claude-sonnet-4-5-20250929-v1:0-*",
        "aws_access_key_id": ACCESS_KEY,
        "aws_secret_access_key": SECRET_KEY,
        "aws_region_name": REGION,
    },
    "cohere": {"model": "cohere/command-a-03-2025-*", "api_key": COHERE_KEY},
    "ollama": {"model": "ollama_chat/qwen3-*", "api_key": OLLAMA_KEY},
}
PROVIDERS = tuple(DEPLOYMENTS)
ONE_OF_EACH = ("openai", "anthropic", "google", "bedrock", "cohere", "ollama")  # dialects, not ways to them


@dataclass(frozen=True)
class Facts:
    """What a provider tells: tokens taken from its cache, and tokens of thought, 0 where it does not count them."""

    cached: int = CACHED
    reasoning: int = 0


FACTS: Mapping[str, Facts] = {
    "openai": Facts(reasoning=THOUGHT_TOKENS),
    "compatible": Facts(reasoning=THOUGHT_TOKENS),
    "anthropic": Facts(reasoning=THOUGHT_TOKENS),
    "google": Facts(reasoning=THOUGHT_TOKENS),
    "vertex": Facts(reasoning=THOUGHT_TOKENS),
    "vertexclaude": Facts(reasoning=THOUGHT_TOKENS),
    "bedrock": Facts(),
    "cohere": Facts(),
    "ollama": Facts(cached=0),
}


class House:
    """The gateway, its providers by public prefix, and a virtual key.

    Attributes:
        secure_url: the gateway's origin behind TLS; `authority`: the file of certificates to trust there.
    """

    def __init__(self, gateway: Gateway, providers: Mapping[str, Provider], secure_url: str, authority: str) -> None:
        self.gateway = gateway
        self.providers = providers
        self.key = gateway.key()
        self.secure_url = secure_url
        self.authority = authority

    @property
    def url(self) -> str:
        """The gateway's origin."""
        return self.gateway.url

    @contextmanager
    def conversation(self, provider: str, scenario: str, requests: int) -> Iterator[str]:
        """A model for one conversation, which reaches its provider in so many requests.

        Raises:
            AssertionError: something was wrong with them, or the client's key was in one.
        """
        mark = secrets.token_hex(5)
        there = self.providers[provider]
        try:
            yield f"{provider}-{scenario}-{mark}"
        except Exception as failure:
            for words in there.complaints(mark):
                failure.add_note(f"{provider} complains: {words}")
            raise
        assert there.complaints(mark) == []
        seen = there.requests(mark)
        assert len(seen) == requests, [request.body for request in seen]
        for request in seen:
            places = [*(value for _, value in request.headers), request.path, request.query, str(request.body)]
            assert not [place for place in places if self.key in place]


@contextmanager
def opened() -> Iterator[House]:
    """A running house."""
    voices = {
        "openai": (Chat(), Responses()),
        "compatible": (Chat(),),
        "anthropic": (Messages(),),
        "google": (Generate(),),
        "vertex": (VertexGenerate(),),
        "vertexclaude": (VertexMessages(),),
        "bedrock": (Converse(),),
        "cohere": (Cohere(),),
        "ollama": (Ollama(),),
    }
    with ExitStack() as stack:
        providers = {name: stack.enter_context(scripted(*spoken)) for name, spoken in voices.items()}
        rows = [
            {"model_name": f"{name}-*", "litellm_params": params | {"api_base": providers[name].url}}
            for name, params in DEPLOYMENTS.items()
        ]
        config = configuration(
            *rows,
            router_settings={"num_retries": 0, "disable_cooldowns": True},
            ostiary={"ledger": {"flush_seconds": 0.05}},
        )
        gateway = stack.enter_context(running_gateway(config))
        yield House(gateway, providers, *stack.enter_context(tls_front(gateway.port)))
