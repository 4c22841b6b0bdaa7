"""The official `anthropic` library, validating strictly."""

from __future__ import annotations

from typing import Any

import anthropic
from lines import ANSWERS, DESCRIPTION, QUESTION, SCHEMA, TOOL
from saying import Failure, Said, Seen, unknown_members

from house import House

TOOLS: Any = [{"name": TOOL, "description": DESCRIPTION, "input_schema": SCHEMA}]


class AnthropicMessages:
    """See `saying.Client`."""

    name = "anthropic"
    dialect = "anthropic_messages"
    stop = "end_turn"
    carries = True
    thinks = True

    def __init__(self, house: House) -> None:
        self._client = anthropic.Anthropic(
            base_url=house.url, api_key=house.key, max_retries=0, _strict_response_validation=True
        )

    def close(self) -> None:
        self._client.close()

    def text(self, model: str, *, stream: bool) -> Said:
        return self._turn(model, [{"role": "user", "content": QUESTION}], stream=stream)[1]

    def loop(self, model: str, *, stream: bool, thinking: bool) -> Said:
        messages: list[Any] = [{"role": "user", "content": QUESTION}]
        more: dict[str, Any] = {"tools": TOOLS}
        if thinking:
            more["thinking"] = {"type": "enabled", "budget_tokens": 1024}
        content, first = self._turn(model, messages, stream=stream, **more)
        assert first.finish == "tool_use", first
        messages.append({"role": "assistant", "content": content})
        results = [
            {"type": "tool_result", "tool_use_id": block.id, "content": ANSWERS[block.input["city"]]}
            for block in content
            if block.type == "tool_use"
        ]
        messages.append({"role": "user", "content": results})
        _, said = self._turn(model, messages, stream=stream, **more)
        said.thought = first.thought
        return said

    def failure(self, model: str, *, stream: bool, seen: Seen) -> Failure:
        messages: Any = [{"role": "user", "content": QUESTION}]
        try:
            if not stream:
                self._client.messages.create(model=model, messages=messages, max_tokens=2048)
            else:
                with self._client.messages.stream(model=model, messages=messages, max_tokens=2048) as told:
                    for piece in told.text_stream:
                        seen(piece)
        except anthropic.APIError as error:
            return Failure(error, getattr(error, "status_code", None))
        raise AssertionError("no error")

    def _turn(self, model: str, messages: Any, *, stream: bool, **more: Any) -> tuple[list[Any], Said]:
        if not stream:
            reply = self._client.messages.create(model=model, messages=messages, max_tokens=2048, **more)
        else:
            with self._client.messages.stream(model=model, messages=messages, max_tokens=2048, **more) as told:
                kinds = [event.type for event in told]
                reply = told.get_final_message()
            assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")
        assert not set(unknown_members(reply)), set(unknown_members(reply))
        usage, details = reply.usage, reply.usage.output_tokens_details
        cached, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
        return reply.content, Said(
            "".join(block.text for block in reply.content if block.type == "text"),
            reply.stop_reason,
            usage.input_tokens + cached + written,
            usage.output_tokens,
            cached,
            details.thinking_tokens if details else 0,
            "".join(block.thinking for block in reply.content if block.type == "thinking"),
        )
