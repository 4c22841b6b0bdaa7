"""LangChain's OpenAI client works against the gateway as against OpenAI."""

from __future__ import annotations

import pytest
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from ostiary.testing.gateway import Gateway
from ostiary.testing.provider import FakeProvider
from ostiary.testing.script import Script


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


@pytest.fixture
def llm(gateway: Gateway, key: str, model: str) -> ChatOpenAI:
    return ChatOpenAI(model=model, base_url=gateway.base_url, api_key=key, max_retries=0, stream_usage=True)


def test_invoke(llm: ChatOpenAI) -> None:
    reply = llm.invoke("say nonce-11")
    assert reply.content == "nonce-11"
    assert reply.usage_metadata["total_tokens"] == 15


async def test_async_invoke(llm: ChatOpenAI) -> None:
    assert (await llm.ainvoke("say nonce-12")).content == "nonce-12"


def test_stream_with_usage(llm: ChatOpenAI, provider: FakeProvider, model: str) -> None:
    provider.script(model, Script(text="one two three four"))
    whole = None
    for piece in llm.stream("x"):
        whole = piece if whole is None else whole + piece
    assert whole.content == "one two three four"
    assert whole.usage_metadata["total_tokens"] == 15


def test_tools(llm: ChatOpenAI) -> None:
    reply = llm.bind_tools([weather]).invoke("the weather in Paris")
    (call,) = reply.tool_calls
    assert call["name"] == "weather"
    assert weather.invoke(call["args"]).startswith("sunny")


def test_embeddings(gateway: Gateway, key: str, model: str) -> None:
    embed = OpenAIEmbeddings(
        model=model, base_url=gateway.base_url, api_key=key, max_retries=0, check_embedding_ctx_length=False
    )
    assert len(embed.embed_query("x")) == 8
