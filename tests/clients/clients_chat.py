"""The official libraries `cohere` (version 2 of its chat) and `mistralai`, one dialect each."""

from __future__ import annotations

import json
import warnings
from typing import Any

import httpx
from lines import ANSWERS, DESCRIPTION, QUESTION, SCHEMA, TOOL
from saying import Failure, Said, Seen, unknown_members

from house import House

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what the libraries' own dependencies announce as they are imported
    import cohere
    import mistralai.client
    from cohere.core.api_error import ApiError
    from mistralai.client.errors import SDKError

TOOLS: Any = [{"type": "function", "function": {"name": TOOL, "description": DESCRIPTION, "parameters": SCHEMA}}]


class CohereV2:
    """See `saying.Client`."""

    name = "cohere"
    dialect = "cohere_chat"
    stop = "COMPLETE"
    carries = False
    thinks = True

    def __init__(self, house: House) -> None:
        self._http = httpx.Client()
        self._client = cohere.ClientV2(api_key=house.key, base_url=house.url, max_retries=0, httpx_client=self._http)

    def close(self) -> None:
        self._http.close()

    def text(self, model: str, *, stream: bool) -> Said:
        return self._turn(model, [{"role": "user", "content": QUESTION}], stream=stream)[1]

    def loop(self, model: str, *, stream: bool, thinking: bool) -> Said:
        messages: list[Any] = [{"role": "user", "content": QUESTION}]
        more: dict[str, Any] = {"tools": TOOLS}
        if thinking:
            more["thinking"] = cohere.Thinking(type="enabled", token_budget=1024)
        message, first = self._turn(model, messages, stream=stream, **more)
        assert first.finish == "TOOL_CALL", first
        messages.append(message)
        for call in message["tool_calls"]:
            answer = ANSWERS[json.loads(call["function"]["arguments"])["city"]]
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": answer})
        _, said = self._turn(model, messages, stream=stream, **more)
        said.thought = first.thought
        return said

    def failure(self, model: str, *, stream: bool, seen: Seen) -> Failure:
        messages: Any = [{"role": "user", "content": QUESTION}]
        try:
            if not stream:
                self._client.chat(model=model, messages=messages)
            else:
                for event in self._client.chat_stream(model=model, messages=messages):
                    if event.type == "content-delta":
                        seen(event.delta.message.content.text)
                    if event.type == "message-end":  # the library leaves this to its caller
                        assert event.delta.finish_reason == "ERROR", event
                        return Failure(RuntimeError(event.delta.error), None)
        except ApiError as error:
            return Failure(error, error.status_code)
        raise AssertionError("no error")

    def _turn(self, model: str, messages: Any, *, stream: bool, **more: Any) -> tuple[dict[str, Any], Said]:
        if stream:
            told = list(self._client.chat_stream(model=model, messages=messages, **more))
            message, end = self._gathered(told)
            finish, usage = end.delta.finish_reason, end.delta.usage
        else:
            reply = self._client.chat(model=model, messages=messages, **more)
            assert not set(unknown_members(reply)), set(unknown_members(reply))
            message, finish, usage = reply.message.model_dump(exclude_none=True), reply.finish_reason, reply.usage
        content = message.get("content") or []
        return message, Said(
            "".join(part["text"] for part in content if part["type"] == "text"),
            finish,
            int(usage.tokens.input_tokens),
            int(usage.tokens.output_tokens),
            int(usage.cached_tokens or 0),
            None,
            "".join(part["thinking"] for part in content if part["type"] == "thinking"),
        )

    def _gathered(self, events: list[Any]) -> tuple[dict[str, Any], Any]:
        """The message as users of the library put it together, and the last event."""
        message: dict[str, Any] = {"role": "assistant"}
        blocks: dict[int, dict[str, Any]] = {}
        calls: dict[int, dict[str, Any]] = {}
        assert (events[0].type, events[-1].type) == ("message-start", "message-end")
        for event in events:
            assert event is events[0] or not set(unknown_members(event)), event  # it knows only the role of the first
            match event.type:
                case "content-start":
                    blocks[event.index] = event.delta.message.content.model_dump(exclude_none=True)
                case "content-delta":
                    told = event.delta.message.content.model_dump(exclude_none=True)
                    for name, piece in told.items():
                        blocks[event.index][name] = blocks[event.index].get(name, "") + piece
                case "tool-plan-delta":
                    message["tool_plan"] = message.get("tool_plan", "") + event.delta.message.tool_plan
                case "tool-call-start":
                    calls[event.index] = event.delta.message.tool_calls.model_dump(exclude_none=True)
                case "tool-call-delta":
                    calls[event.index]["function"]["arguments"] += event.delta.message.tool_calls.function.arguments
        message |= {"content": [blocks[index] for index in sorted(blocks)]} if blocks else {}
        message |= {"tool_calls": [calls[index] for index in sorted(calls)]} if calls else {}
        return message, events[-1]


class Mistral:
    """See `saying.Client`."""

    name = "mistralai"
    dialect = "openai_chat"
    stop = "stop"
    carries = False
    thinks = False

    def __init__(self, house: House) -> None:
        self._client = mistralai.client.Mistral(api_key=house.key, server_url=house.url)

    def close(self) -> None:
        self._client.__exit__(None, None, None)

    def text(self, model: str, *, stream: bool) -> Said:
        return self._turn(model, [{"role": "user", "content": QUESTION}], stream=stream)[1]

    def loop(self, model: str, *, stream: bool, thinking: bool) -> Said:
        messages: list[Any] = [{"role": "user", "content": QUESTION}]
        message, first = self._turn(model, messages, stream=stream, tools=TOOLS)
        assert first.finish == "tool_calls", first
        messages.append(message)
        for call in message["tool_calls"]:
            written = call["function"]["arguments"]
            city = (json.loads(written) if isinstance(written, str) else written)["city"]
            messages.append({"role": "tool", "tool_call_id": call["id"], "name": TOOL, "content": ANSWERS[city]})
        return self._turn(model, messages, stream=stream, tools=TOOLS)[1]

    def failure(self, model: str, *, stream: bool, seen: Seen) -> Failure:
        messages: Any = [{"role": "user", "content": QUESTION}]
        try:
            if not stream:
                self._client.chat.complete(model=model, messages=messages)
            else:
                with self._client.chat.stream(model=model, messages=messages) as told:
                    for event in told:
                        seen(event.data.choices[0].delta.content or "")
        except SDKError as error:
            return Failure(error, error.status_code)
        except mistralai.client.errors.ResponseValidationError as error:  # how it tells an error within a stream
            return Failure(error, None)
        raise AssertionError("no error")

    def _turn(self, model: str, messages: Any, *, stream: bool, **more: Any) -> tuple[dict[str, Any], Said]:
        if stream:
            with self._client.chat.stream(model=model, messages=messages, **more) as told:
                message, finish, usage = self._gathered([event.data for event in told])
        else:
            reply = self._client.chat.complete(model=model, messages=messages, **more)
            (choice,) = reply.choices
            message, finish, usage = choice.message.model_dump(exclude_none=True), choice.finish_reason, reply.usage
        said = Said(message.get("content") or "", finish)
        if usage is not None:  # it cannot ask for usage in a stream: its own provider sends it unasked
            assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
            said.input, said.output = usage.prompt_tokens, usage.completion_tokens
        return message, said

    def _gathered(self, chunks: list[Any]) -> tuple[dict[str, Any], Any, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": ""}
        calls: dict[int, dict[str, Any]] = {}
        finish = usage = None
        for chunk in chunks:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                finish = choice.finish_reason or finish
                message["content"] += choice.delta.content or ""
                for part in choice.delta.tool_calls or []:
                    call = calls.setdefault(part.index, {"id": part.id, "function": {"name": "", "arguments": ""}})
                    call["function"]["name"] = call["function"]["name"] or part.function.name
                    call["function"]["arguments"] += part.function.arguments
        message |= {"tool_calls": [calls[index] for index in sorted(calls)]} if calls else {}
        return message, finish, usage
