"""Frameworks that applications are written in: LangChain and pydantic-ai, over the official libraries they bring."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any, ClassVar

from lines import ANSWERS, QUESTION
from saying import Failure, Said, Seen

from house import House

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what the frameworks' own dependencies announce as they are imported
    import anthropic
    import openai
    from langchain_anthropic import ChatAnthropic
    from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI
    from pydantic_ai import Agent, ModelHTTPError, ThinkingPart
    from pydantic_ai.exceptions import ModelAPIError
    from pydantic_ai.messages import ModelResponse
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.profiles.openai import OpenAIModelProfile
    from pydantic_ai.providers.anthropic import AnthropicProvider
    from pydantic_ai.providers.openai import OpenAIProvider


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return ANSWERS[city]


class LangChain:
    """See `saying.Client`. One class for all of LangChain's chat models."""

    name: ClassVar[str]
    stop: ClassVar[str]
    carries: ClassVar[bool]
    thinks: ClassVar[bool]

    def __init__(self, house: House) -> None:
        self._house = house

    def close(self) -> None:
        """The framework keeps its connections to itself."""

    def _model(self, model: str, *, thinking: bool) -> Any:
        raise NotImplementedError

    def text(self, model: str, *, stream: bool) -> Said:
        return self._turn(self._model(model, thinking=False), [HumanMessage(QUESTION)], stream=stream)[1]

    def loop(self, model: str, *, stream: bool, thinking: bool) -> Said:
        llm = self._model(model, thinking=thinking).bind_tools([weather])
        messages: list[Any] = [HumanMessage(QUESTION)]
        message, first = self._turn(llm, messages, stream=stream)
        messages.append(message)
        for call in message.tool_calls:
            answered = weather.invoke(call)
            assert isinstance(answered, ToolMessage)
            messages.append(answered)
        _, said = self._turn(llm, messages, stream=stream)
        said.thought = first.thought
        return said

    def failure(self, model: str, *, stream: bool, seen: Seen) -> Failure:
        llm = self._model(model, thinking=False)
        try:
            if not stream:
                llm.invoke(QUESTION)
            else:
                for chunk in llm.stream(QUESTION):
                    seen(chunk.text)
        except (openai.APIError, anthropic.APIError, ValueError) as error:  # the last is the framework's own
            return Failure(error, getattr(error, "status_code", None))
        raise AssertionError("no error")

    def _turn(self, llm: Any, messages: list[Any], *, stream: bool) -> tuple[AIMessage, Said]:
        if not stream:
            message = llm.invoke(messages)
        else:
            message = None
            for chunk in llm.stream(messages):
                message = chunk if message is None else message + chunk
        usage, metadata = message.usage_metadata, message.response_metadata
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
        thoughts = [part.get("reasoning") or "" for part in message.content_blocks if part["type"] == "reasoning"]
        return message, Said(
            message.text,
            metadata.get("finish_reason") or metadata.get("stop_reason") or metadata.get("status"),
            usage["input_tokens"],
            usage["output_tokens"],
            usage.get("input_token_details", {}).get("cache_read") or 0,
            None,
            "".join(thoughts) if self.thinks else None,
        )


class LangChainOpenAI(LangChain):
    """Chat completions. It has no place for other people's reasoning."""

    name = "langchain-openai"
    stop = "stop"
    carries = False
    thinks = False

    def _model(self, model: str, *, thinking: bool) -> Any:
        del thinking
        house = self._house
        return ChatOpenAI(model=model, base_url=f"{house.url}/v1", api_key=house.key, max_retries=0, stream_usage=True)


class LangChainResponses(LangChain):
    """The Responses dialect, without anything kept by the provider."""

    name = "langchain-responses"
    stop = "completed"
    carries = True
    thinks = True

    def _model(self, model: str, *, thinking: bool) -> Any:
        house = self._house
        more: dict[str, Any] = {}
        if thinking:
            more = {"reasoning": {"effort": "low", "summary": "auto"}, "include": ["reasoning.encrypted_content"]}
        return ChatOpenAI(
            model=model,
            base_url=f"{house.url}/v1",
            api_key=house.key,
            max_retries=0,
            use_responses_api=True,
            output_version="responses/v1",
            store=False,
            **more,
        )


class LangChainAnthropic(LangChain):
    """The Messages dialect."""

    name = "langchain-anthropic"
    stop = "end_turn"
    carries = True
    thinks = True

    def _model(self, model: str, *, thinking: bool) -> Any:
        house = self._house
        thoughts: dict[str, Any] = {"thinking": {"type": "enabled", "budget_tokens": 1024}} if thinking else {}
        return ChatAnthropic(
            model=model, base_url=house.url, api_key=house.key, max_retries=0, max_tokens=2048, **thoughts
        )


class PydanticAI:
    """See `saying.Client`. The framework runs the loop itself."""

    name: ClassVar[str]
    stop: ClassVar[str | None] = "stop"
    carries: ClassVar[bool] = True
    thinks: ClassVar[bool] = True
    settings: ClassVar[dict[str, Any]]

    def __init__(self, house: House) -> None:
        self._runner = asyncio.Runner()
        self._client = self._connected(house)

    def close(self) -> None:
        self._runner.run(self._client.close())
        self._runner.close()

    def _connected(self, house: House) -> Any:
        return openai.AsyncOpenAI(base_url=f"{house.url}/v1", api_key=house.key, max_retries=0)

    def _model(self, model: str) -> Any:
        """The framework's model."""
        raise NotImplementedError

    def text(self, model: str, *, stream: bool) -> Said:
        return self._runner.run(self._run(model, stream=stream, settings={}))

    def loop(self, model: str, *, stream: bool, thinking: bool) -> Said:
        return self._runner.run(self._run(model, stream=stream, settings=self.settings if thinking else {}))

    def failure(self, model: str, *, stream: bool, seen: Seen) -> Failure:
        try:
            self._runner.run(self._run(model, stream=stream, settings={}, seen=seen))
        except ModelHTTPError as error:
            return Failure(error, error.status_code)
        except (ModelAPIError, openai.APIError, anthropic.APIError) as error:
            return Failure(error, None)
        raise AssertionError("no error")

    async def _run(self, model: str, *, stream: bool, settings: Any, seen: Seen = lambda _: None) -> Said:
        agent = Agent(self._model(model), model_settings={"max_tokens": 2048, **settings})

        @agent.tool_plain(name="weather")
        def weather_tool(city: str) -> str:
            """The weather in a city."""
            return ANSWERS[city]

        if not stream:
            result: Any = await agent.run(QUESTION)
            text = result.output
        else:
            async with agent.run_stream(QUESTION) as result:
                pieces = []
                async for piece in result.stream_text(delta=True, debounce_by=None):
                    seen(piece)
                    pieces.append(piece)
                text = "".join(pieces)
        answers = [message for message in result.all_messages() if isinstance(message, ModelResponse)]
        last = answers[-1]
        thoughts = [part.content for part in answers[0].parts if isinstance(part, ThinkingPart)]
        return Said(
            text,
            last.finish_reason,
            last.usage.input_tokens,
            last.usage.output_tokens,
            last.usage.cache_read_tokens,
            None,
            "".join(thoughts),
        )


class PydanticAIChat(PydanticAI):
    """Chat completions."""

    name = "pydantic-ai"
    carries = False
    settings: ClassVar[dict[str, Any]] = {"openai_reasoning_effort": "low"}

    def _model(self, model: str) -> Any:
        return OpenAIChatModel(model, provider=OpenAIProvider(openai_client=self._client))


class PydanticAIResponses(PydanticAI):
    """The Responses dialect."""

    name = "pydantic-ai-responses"
    settings: ClassVar[dict[str, Any]] = {
        "openai_reasoning_effort": "low",
        "openai_reasoning_summary": "auto",
    }

    def _model(self, model: str) -> Any:
        # The framework knows by a model's name that it takes its reasoning back; an alias has to be introduced.
        profile = OpenAIModelProfile(openai_supports_encrypted_reasoning_content=True)
        return OpenAIResponsesModel(model, provider=OpenAIProvider(openai_client=self._client), profile=profile)


class PydanticAIAnthropic(PydanticAI):
    """The Messages dialect."""

    name = "pydantic-ai-anthropic"
    settings: ClassVar[dict[str, Any]] = {"anthropic_thinking": {"type": "enabled", "budget_tokens": 1024}}

    def _connected(self, house: House) -> Any:
        return anthropic.AsyncAnthropic(base_url=house.url, api_key=house.key, max_retries=0)

    def _model(self, model: str) -> Any:
        return AnthropicModel(model, provider=AnthropicProvider(anthropic_client=self._client))
