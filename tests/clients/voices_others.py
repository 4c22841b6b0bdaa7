"""Cohere's v2 chat and Ollama's own chat as their servers speak them. It must not use the codecs.

Sources: docs.cohere.com, chat, streaming events, tool use, errors (official Python SDK 7.3,
`types.V2ChatStreamResponse`); Ollama's docs/api.md, chat, tools, thinking, and its error lines.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar

from lines import (
    ANSWERS,
    BROKEN,
    CACHED,
    INPUT,
    OUTPUT,
    PIECES,
    THOUGHT,
    THOUGHT_PIECES,
    TOOL,
    Answer,
    Request,
    answer_in,
    arguments,
    dumps,
    expect,
    pieces,
    sse,
)

COHERE_KEY = "scripted-cohere-credential"
OLLAMA_KEY = "scripted-ollama-credential"
IDS = {"Paris": "weather_paris0", "Oslo": "weather_oslo1"}
PLAN = "I ask for the weather."


def _result(content: Any) -> str:
    """The text of a tool's result, as a text or in documents."""
    if isinstance(content, str):
        return content
    (part,) = content
    if part["type"] == "text":
        return str(part["text"])
    data = part["document"]["data"]
    return data if isinstance(data, str) else "".join(data.values())


class Cohere:
    """See `scripted.Voice`."""

    name = "cohere_chat"
    base = ""
    usage: ClassVar[dict[str, Any]] = {
        "billed_units": {"input_tokens": INPUT - CACHED, "output_tokens": OUTPUT},
        "tokens": {"input_tokens": INPUT, "output_tokens": OUTPUT},
        "cached_tokens": CACHED,
    }

    def serves(self, path: str) -> bool:
        return path == "/v2/chat"

    def asked(self, request: Request) -> tuple[str, bool]:
        expect(request.header("authorization") == f"Bearer {COHERE_KEY}", "wrong credential")
        expect(request.body.get("messages"), "no messages")
        return request.body["model"], request.body.get("stream") is True

    def answered(self, request: Request, *, proven: bool) -> bool:
        messages = request.body["messages"]
        results = {m["tool_call_id"]: answer_in(_result(m["content"])) for m in messages if m["role"] == "tool"}
        if not results:
            expect(request.body["tools"][0]["function"]["name"] == TOOL, "not the tool")
            return False
        expect(results == {name: ANSWERS[city] for city, name in IDS.items()}, f"wrong results: {results}")
        (said,) = (m for m in messages if m["role"] == "assistant")
        made = {call["id"]: json.loads(call["function"]["arguments"]) for call in said["tool_calls"]}
        expect(made == {name: {"city": city} for city, name in IDS.items()}, f"not the calls it made: {made}")
        thoughts = [part["thinking"] for part in said.get("content") or [] if part["type"] == "thinking"]
        expect(not proven or thoughts == [THOUGHT], f"not what it thought: {said}")
        return True

    def _whole(self, message: dict[str, Any], finish: str) -> Answer:
        told = {"id": "scripted-cohere", "message": {"role": "assistant"} | message, "finish_reason": finish}
        return Answer(dumps(told | {"usage": self.usage}))

    def _stream(self, events: list[dict[str, Any]], finish: str) -> Answer:
        empty = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
        start = {"id": "scripted-cohere", "type": "message-start", "delta": {"message": empty}}
        broken = finish == "ERROR"
        end = {"finish_reason": finish} | ({"error": BROKEN} if broken else {"usage": self.usage})
        told = sse(*((event["type"], event) for event in (start, *events)))
        last = sse(("message-end", {"type": "message-end", "delta": end}))
        told, then = (told, last) if broken else (told + last, b"")
        return Answer(told, "text/event-stream", stream=True, then=then)

    def _block(self, kind: str, index: int, pieces: tuple[str, ...]) -> list[dict[str, Any]]:
        def of(content: dict[str, Any]) -> dict[str, Any]:
            return {"index": index, "delta": {"message": {"content": content}}}

        deltas = [{"type": "content-delta"} | of({kind: piece}) for piece in pieces]
        start = {"type": "content-start"} | of({"type": kind, kind: ""})
        return [start, *deltas, {"type": "content-end", "index": index}]

    def text(self, pieces: tuple[str, ...], *, stream: bool) -> Answer:
        if stream:
            return self._stream(self._block("text", 0, pieces), "COMPLETE")
        return self._whole({"content": [{"type": "text", "text": "".join(pieces)}]}, "COMPLETE")

    def calls(self, *, thought: bool, stream: bool) -> Answer:
        if not stream:
            made = [
                {"id": IDS[city], "type": "function", "function": {"name": TOOL, "arguments": arguments(city)}}
                for city in ANSWERS
            ]
            told = {"content": [{"type": "thinking", "thinking": THOUGHT}]} if thought else {"tool_plan": PLAN}
            return self._whole(told | {"tool_calls": made}, "TOOL_CALL")
        events = self._block("thinking", 0, THOUGHT_PIECES) if thought else self._plan()
        for index, city in enumerate(ANSWERS):
            call = {"id": IDS[city], "type": "function", "function": {"name": TOOL, "arguments": ""}}
            events.append({"type": "tool-call-start", "index": index, "delta": {"message": {"tool_calls": call}}})
            for piece in pieces(arguments(city)):
                more = {"tool_calls": {"function": {"arguments": piece}}}
                events.append({"type": "tool-call-delta", "index": index, "delta": {"message": more}})
            events.append({"type": "tool-call-end", "index": index})
        return self._stream(events, "TOOL_CALL")

    def _plan(self) -> list[dict[str, Any]]:
        return [{"type": "tool-plan-delta", "delta": {"message": {"tool_plan": piece}}} for piece in pieces(PLAN)]

    def refusal(self, status: int, words: str) -> Answer:
        return Answer(dumps({"id": "scripted-error", "message": words}), status=status)

    def broken(self) -> Answer:
        return self._stream(self._block("text", 0, PIECES)[:-1], "ERROR")


class Ollama:
    """See `scripted.Voice`."""

    name = "ollama_chat"
    base = ""
    counts: ClassVar[dict[str, Any]] = {
        "total_duration": 4883583458,
        "load_duration": 1334875,
        "prompt_eval_count": INPUT,
        "prompt_eval_duration": 342546000,
        "eval_count": OUTPUT,
        "eval_duration": 4535599000,
    }

    def serves(self, path: str) -> bool:
        return path == "/api/chat"

    def asked(self, request: Request) -> tuple[str, bool]:
        expect(request.header("authorization") == f"Bearer {OLLAMA_KEY}", "wrong credential")
        return request.body["model"], request.body.get("stream", True)

    def answered(self, request: Request, *, proven: bool) -> bool:
        messages = request.body["messages"]
        results = [answer_in(message["content"]) for message in messages if message["role"] == "tool"]
        if not results:
            expect(request.body["tools"][0]["function"]["name"] == TOOL, "not the tool")
            return False
        expect(results == list(ANSWERS.values()), f"wrong results, or another order: {results}")
        (said,) = (message for message in messages if message["role"] == "assistant")
        made = [call["function"]["arguments"] for call in said["tool_calls"]]
        expect(made == [{"city": city} for city in ANSWERS], f"not the calls it made: {made}")
        expect(not proven or said.get("thinking") == THOUGHT, f"not what it thought: {said}")
        return True

    def _frame(self, message: dict[str, Any], *, done: bool = False) -> dict[str, Any]:
        told = {"model": "scripted", "created_at": "2026-08-04T08:52:19.385406455Z"}
        told |= {"message": {"role": "assistant", "content": ""} | message, "done": done}
        return told | ({"done_reason": "stop"} | self.counts if done else {})

    def _stream(self, messages: list[dict[str, Any]], *, broken: bool = False) -> Answer:
        told = b"".join(dumps(self._frame(message)) + b"\n" for message in messages)
        last = dumps({"error": BROKEN} if broken else self._frame({}, done=True)) + b"\n"
        told, then = (told, last) if broken else (told + last, b"")
        return Answer(told, "application/x-ndjson", stream=True, then=then)

    def text(self, pieces: tuple[str, ...], *, stream: bool) -> Answer:
        if stream:
            return self._stream([{"content": piece} for piece in pieces])
        return Answer(dumps(self._frame({"content": "".join(pieces)}, done=True)))

    def calls(self, *, thought: bool, stream: bool) -> Answer:
        made = [{"function": {"name": TOOL, "arguments": {"city": city}}} for city in ANSWERS]
        if not stream:
            told = {"thinking": THOUGHT} if thought else {}
            return Answer(dumps(self._frame(told | {"tool_calls": made}, done=True)))
        messages: list[dict[str, Any]] = [{"thinking": piece} for piece in THOUGHT_PIECES] if thought else []
        return self._stream([*messages, *({"tool_calls": [call]} for call in made)])

    def refusal(self, status: int, words: str) -> Answer:
        return Answer(dumps({"error": words}), status=status)

    def broken(self) -> Answer:
        return self._stream([{"content": piece} for piece in PIECES], broken=True)
