"""The official `openai` library in its two dialects, validating strictly."""

from __future__ import annotations

import json
from typing import Any

import openai
from lines import ANSWERS, DESCRIPTION, QUESTION, SCHEMA, TOOL
from saying import Failure, Said, Seen, unknown_members

from house import House

TOOLS: Any = [{"type": "function", "function": {"name": TOOL, "description": DESCRIPTION, "parameters": SCHEMA}}]
# What providers of this dialect say beside the reference, and this gateway with them.
BESIDE = {"reasoning_content", "thinking_blocks", "extra_content"}
# A strict provider of the reference's own dialect is passed on as it comes.
EXTRAS = {"usage.prompt_tokens_details.cache_write_tokens"}


def _only_known(value: Any) -> None:
    found = {place for place in unknown_members(value) if place.rpartition(".")[2] not in BESIDE}
    assert found <= EXTRAS, found


class OpenAIChat:
    """See `saying.Client`."""

    name = "openai"
    dialect = "openai_chat"
    stop = "stop"
    carries = True
    thinks = True

    def __init__(self, house: House) -> None:
        self._client = openai.OpenAI(
            base_url=f"{house.url}/v1", api_key=house.key, max_retries=0, _strict_response_validation=True
        )

    def close(self) -> None:
        self._client.close()

    def text(self, model: str, *, stream: bool) -> Said:
        message, said = self._turn(model, [{"role": "user", "content": QUESTION}], stream=stream)
        assert message["role"] == "assistant"
        return said

    def loop(self, model: str, *, stream: bool, thinking: bool) -> Said:
        messages: list[Any] = [{"role": "user", "content": QUESTION}]
        more: dict[str, Any] = {"reasoning_effort": "low"} if thinking else {}
        message, first = self._turn(model, messages, stream=stream, tools=TOOLS, **more)
        assert first.finish == "tool_calls", first
        messages.append(message)
        for call in message["tool_calls"]:
            assert call["function"]["name"] == TOOL
            city = json.loads(call["function"]["arguments"])["city"]
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": ANSWERS[city]})
        _, said = self._turn(model, messages, stream=stream, tools=TOOLS, **more)
        said.thought = first.thought
        return said

    def failure(self, model: str, *, stream: bool, seen: Seen) -> Failure:
        messages: Any = [{"role": "user", "content": QUESTION}]
        try:
            if not stream:
                self._client.chat.completions.create(model=model, messages=messages)
            else:
                for chunk in self._client.chat.completions.create(model=model, messages=messages, stream=True):
                    seen(chunk.choices[0].delta.content or "")
        except openai.APIError as error:
            return Failure(error, getattr(error, "status_code", None))
        raise AssertionError("no error")

    def _turn(self, model: str, messages: Any, *, stream: bool, **more: Any) -> tuple[dict[str, Any], Said]:
        create = self._client.chat.completions.create
        if stream:
            options: Any = {"include_usage": True}
            return self._gathered(
                list(create(model=model, messages=messages, stream=True, stream_options=options, **more))
            )
        reply = create(model=model, messages=messages, **more)
        _only_known(reply)
        (choice,) = reply.choices
        message = choice.message.model_dump(exclude_none=True)
        return message, self._said(choice.message.content, choice.finish_reason, reply.usage, message)

    def _said(self, text: str | None, finish: str | None, usage: Any, message: dict[str, Any]) -> Said:
        ins, outs = usage.prompt_tokens_details, usage.completion_tokens_details
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
        return Said(
            text or "",
            finish,
            usage.prompt_tokens,
            usage.completion_tokens,
            ins.cached_tokens if ins else 0,
            outs.reasoning_tokens if outs else 0,
            message.get("reasoning_content"),
        )

    def _gathered(self, chunks: list[Any]) -> tuple[dict[str, Any], Said]:
        """The message as the library's users put it together from a stream."""
        message: dict[str, Any] = {"content": ""}
        calls: dict[int, dict[str, Any]] = {}
        finish = None
        assert len({(chunk.id, chunk.created, chunk.model, chunk.object) for chunk in chunks}) == 1
        assert all(chunk.usage is None and chunk.choices for chunk in chunks[:-1])
        for chunk in chunks:
            _only_known(chunk)
        for choice in (choice for chunk in chunks for choice in chunk.choices):
            assert finish is None, "something follows the end"
            finish = choice.finish_reason
            delta = choice.delta.model_dump(exclude_none=True)
            message |= {"role": delta["role"]} if "role" in delta else {}
            for name in ("content", "reasoning_content"):
                if delta.get(name):
                    message[name] = message.get(name, "") + delta[name]
            if "thinking_blocks" in delta:
                message.setdefault("thinking_blocks", []).extend(delta["thinking_blocks"])
            for part in delta.get("tool_calls", []):
                call = calls.setdefault(part["index"], {"function": {"arguments": ""}})
                call["function"]["arguments"] += part["function"].get("arguments", "")
                call["function"] |= {"name": part["function"]["name"]} if part["function"].get("name") else {}
                call |= {name: part[name] for name in ("id", "type", "extra_content") if part.get(name)}
        message |= {"tool_calls": [calls[index] for index in sorted(calls)]} if calls else {}
        return message, self._said(message["content"], finish, chunks[-1].usage, message)


RESPONSE_TOOLS: Any = [
    {"type": "function", "name": TOOL, "description": DESCRIPTION, "parameters": SCHEMA, "strict": False}
]


class OpenAIResponses:
    """See `saying.Client`."""

    name = "openai-responses"
    dialect = "openai_responses"
    stop = "completed"
    carries = True
    thinks = True

    def __init__(self, house: House) -> None:
        self._client = openai.OpenAI(
            base_url=f"{house.url}/v1", api_key=house.key, max_retries=0, _strict_response_validation=True
        )

    def close(self) -> None:
        self._client.close()

    def text(self, model: str, *, stream: bool) -> Said:
        return self._turn(model, QUESTION, stream=stream)[1]

    def loop(self, model: str, *, stream: bool, thinking: bool) -> Said:
        items: list[Any] = [{"role": "user", "content": QUESTION}]
        more: dict[str, Any] = {"tools": RESPONSE_TOOLS, "store": False}
        if thinking:
            reasoning = {"effort": "low", "summary": "auto"}
            more |= {"reasoning": reasoning, "include": ["reasoning.encrypted_content"]}
        output, first = self._turn(model, items, stream=stream, **more)
        items += [item.model_dump(exclude_none=True) for item in output]
        for call in (item for item in output if item.type == "function_call"):
            answer = ANSWERS[json.loads(call.arguments)["city"]]
            items.append({"type": "function_call_output", "call_id": call.call_id, "output": answer})
        _, said = self._turn(model, items, stream=stream, **more)
        said.thought = first.thought
        return said

    def failure(self, model: str, *, stream: bool, seen: Seen) -> Failure:
        try:
            if not stream:
                self._client.responses.create(model=model, input=QUESTION)
            else:
                for event in self._client.responses.create(model=model, input=QUESTION, stream=True):
                    seen(event.delta if event.type == "response.output_text.delta" else "")
                    assert event.type not in ("response.completed", "response.incomplete")
                    if event.type == "error":  # the library leaves these two to its caller
                        return Failure(RuntimeError(event.message), None)
                    if event.type == "response.failed":
                        assert event.response.error is not None
                        return Failure(RuntimeError(event.response.error.message), None)
        except openai.APIError as error:
            return Failure(error, getattr(error, "status_code", None))
        raise AssertionError("no error")

    def _turn(self, model: str, given: Any, *, stream: bool, **more: Any) -> tuple[list[Any], Said]:
        if not stream:
            response = self._client.responses.create(model=model, input=given, **more)
        else:
            with self._client.responses.stream(model=model, input=given, **more) as told:
                events = list(told)
                response = told.get_final_response()
            numbers = [event.sequence_number for event in events if hasattr(event, "sequence_number")]
            assert numbers == sorted(set(numbers)), numbers
            deltas = "".join(event.delta for event in events if event.type == "response.output_text.delta")
            assert deltas == response.output_text
        assert set(unknown_members(response)) <= {"store"}, set(unknown_members(response))  # the API tells it
        usage = response.usage
        assert usage is not None
        assert usage.total_tokens == usage.input_tokens + usage.output_tokens
        thoughts = [part.text for item in response.output if item.type == "reasoning" for part in item.summary]
        thoughts += [p.text for item in response.output if item.type == "reasoning" for p in item.content or []]
        return response.output, Said(
            response.output_text,
            response.status,
            usage.input_tokens,
            usage.output_tokens,
            usage.input_tokens_details.cached_tokens,
            usage.output_tokens_details.reasoning_tokens,
            "".join(thoughts),
        )
