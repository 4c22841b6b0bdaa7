"""OpenAI's two dialects as a provider speaks them. It must not use the codecs.

Sources: OpenAI API reference, chat completions and Responses, bodies and streaming events (official Python SDK 3.54,
`types.chat`, `types.responses`); `reasoning_content` as DeepSeek's API documents it.
"""

from __future__ import annotations

import json
import re
from typing import Any, ClassVar

from tests.agents.stage import Asked, Call, Stated, Turn, expect
from tests.agents.voice import CREATED, Answer, Request, dumps, items, members, pieces, sse, texts

_KEY = "sk-scripted"
# A content of one text may stand in a list or alone: the model, and its cache, see the same.
_ALONE = re.compile(rb'"content":\[\{"type":"(?:input_text|text)","text":("(?:[^"\\]|\\.)*")\}\]')


def _error(words: str) -> Answer:
    error = {"message": words, "type": "invalid_request_error", "param": None, "code": None}
    return Answer(dumps({"error": error}), status=400)


def _written(call: Call) -> str:
    return json.dumps(call.arguments, ensure_ascii=False)


def _turns(items: list[bytes]) -> list[bytes]:
    return [_ALONE.sub(rb'"content":\1', item) for item in items]


def _credential(request: Request) -> None:
    expect(request.headers.get("authorization") == f"Bearer {_KEY}", "wrong credential")


def _check_user(body: dict[str, Any]) -> None:
    for name in ("user", "safety_identifier"):
        expect(len(body.get(name) or "") <= 64, f"Invalid '{name}': string too long. Expected at most 64 letters.")


class Chat:
    """See `voice.Voice`."""

    name, base, ids = "openai_chat", "/v1", "call_house"
    proven = creates = marks = False
    thinks = True
    params: ClassVar[dict[str, Any]] = {"model": "hosted_vllm/qwen3-coder", "api_key": _KEY}  # no Responses there
    info: ClassVar[dict[str, Any]] = {}

    def read(self, request: Request) -> Asked:
        expect(request.path == "/v1/chat/completions", f"POST {request.path}")
        _credential(request)
        body, raw = json.loads(request.raw), members(request.raw)
        turns = body["messages"]
        _check_user(body)
        expect(b"cache_control" not in request.raw, "Unknown parameter: cache_control")
        expect(all(tool["type"] == "function" for tool in body.get("tools", ())), "a tool that is no function")
        self._check_turns(turns)
        first = next((n for n, turn in enumerate(turns) if turn["role"] not in ("system", "developer")), len(turns))
        return Asked(
            model=body["model"],
            stream=body.get("stream") is True,
            words=texts([turn.get("content") or "" for turn in turns]),
            tools={tool["function"]["name"]: tool["function"].get("parameters", {}) for tool in body.get("tools", ())},
            fixed=(bytes(raw.get("tools", b"")), *_turns(items(raw["messages"])[:first])),
            turns=_turns(items(raw["messages"])[first:]),
            results=[(turn["tool_call_id"], texts(turn["content"])) for turn in turns if turn["role"] == "tool"],
            size=len(request.raw),
        )

    def _check_turns(self, turns: list[dict[str, Any]]) -> None:
        for place, turn in enumerate(turns):
            used = [call["id"] for call in turn.get("tool_calls") or ()]
            given = [follow.get("tool_call_id") for follow in turns[place + 1 : place + 1 + len(used)]]
            expect(sorted(map(str, given)) == sorted(used), f"calls {used} are answered by {given}")
            for call in turn.get("tool_calls") or ():
                json.loads(call["function"]["arguments"])

    def tell(self, turn: Turn, stated: Stated, number: int, *, stream: bool) -> Answer:
        usage = {
            "prompt_tokens": stated.input,
            "completion_tokens": stated.output,
            "total_tokens": stated.input + stated.output,
            "prompt_tokens_details": {"cached_tokens": stated.cached, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": stated.reasoning, "audio_tokens": 0},
        }
        finish = "tool_calls" if turn.calls else "stop"
        frame = {"id": f"chatcmpl-house{number}", "created": CREATED, "model": "gpt-5-2025-08-07"}
        calls = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _written(call)}}
            for call in turn.calls
        ]
        if not stream:
            message: dict[str, Any] = {"role": "assistant", "content": turn.text or None, "refusal": None}
            message |= ({"tool_calls": calls} if calls else {}) | {"reasoning_content": turn.thought}
            choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
            return Answer(dumps(frame | {"object": "chat.completion", "choices": [choice], "usage": usage}))
        frame["object"] = "chat.completion.chunk"
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "", "refusal": None}]
        deltas += [{"reasoning_content": piece} for piece in pieces(turn.thought)]
        deltas += [{"content": piece} for piece in pieces(turn.text)]
        for index, call in enumerate(turn.calls):
            start = {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
            deltas.append({"tool_calls": [{"index": index} | start]})
            for piece in pieces(_written(call)):
                deltas.append({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
        told = [({"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}) for delta in deltas]
        told.append({"index": 0, "delta": {}, "logprobs": None, "finish_reason": finish})
        chunks: list[Any] = [frame | {"choices": [choice], "usage": None} for choice in told]
        return sse(("", value) for value in [*chunks, frame | {"choices": [], "usage": usage}, b"[DONE]"])

    def refuse(self, words: str) -> Answer:
        return _error(words)


class Responses:
    """See `voice.Voice`."""

    name, base, ids = "openai_responses", "/v1", "call_house"
    proven = thinks = True
    creates = marks = False
    params: ClassVar[dict[str, Any]] = {"model": "openai/gpt-5", "api_key": _KEY}
    info: ClassVar[dict[str, Any]] = {"mode": "responses"}

    def read(self, request: Request) -> Asked:
        expect(request.path == "/v1/responses", f"POST {request.path}")
        _credential(request)
        body, raw = json.loads(request.raw), members(request.raw)
        said = body["input"]
        said = [{"role": "user", "content": said}] if isinstance(said, str) else said
        _check_user(body)
        expect(body.get("store") is False, "what was thought would be stored")
        made = {item["call_id"] for item in said if item.get("type") == "function_call"}
        results = [item for item in said if item.get("type") == "function_call_output"]
        expect(made == {item["call_id"] for item in results}, f"No tool output found for function call of {made}")
        for place, item in enumerate(said):
            if item.get("type") == "reasoning":
                follows = said[place + 1].get("type", "message") if place + 1 < len(said) else ""
                expect(follows, "Item of type 'reasoning' was provided without its required following item.")
        return Asked(
            model=body["model"],
            stream=body.get("stream") is True,
            words=texts(said),
            tools={tool["name"]: tool.get("parameters", {}) for tool in body.get("tools", ()) if "name" in tool},
            fixed=tuple(bytes(raw.get(name, b"")) for name in ("instructions", "tools", "reasoning")),
            turns=_turns(items(raw["input"])) if isinstance(body["input"], list) else [bytes(raw["input"])],
            results=[(item["call_id"], texts(item["output"])) for item in results],
            proofs=[item.get("encrypted_content", "") for item in said if item.get("type") == "reasoning"],
            size=len(request.raw),
        )

    def tell(self, turn: Turn, stated: Stated, number: int, *, stream: bool) -> Answer:
        output = list(self._output(turn, number))
        usage = {
            "input_tokens": stated.input,
            "input_tokens_details": {"cached_tokens": stated.cached},
            "output_tokens": stated.output,
            "output_tokens_details": {"reasoning_tokens": stated.reasoning},
            "total_tokens": stated.input + stated.output,
        }
        if not stream:
            return Answer(dumps(self._response(number, output, usage)))
        started = self._response(number, [], None)
        events: list[dict[str, Any]] = [
            {"type": "response.created", "response": started},
            {"type": "response.in_progress", "response": started},
        ]
        for index, item in enumerate(output):
            events += self._item(index, item)
        events.append({"type": "response.completed", "response": self._response(number, output, usage)})
        return sse((event["type"], event | {"sequence_number": n}) for n, event in enumerate(events))

    def _output(self, turn: Turn, number: int) -> list[dict[str, Any]]:
        output: list[dict[str, Any]] = []
        if turn.thought:
            summary = [{"type": "summary_text", "text": turn.thought}]
            kept = {"encrypted_content": turn.proof}
            output.append({"id": f"rs_{number}", "type": "reasoning", "summary": summary} | kept)
        if turn.text:
            part = {"type": "output_text", "annotations": [], "logprobs": [], "text": turn.text}
            message = {"id": f"msg_{number}", "type": "message", "status": "completed", "role": "assistant"}
            output.append(message | {"content": [part]})
        for call in turn.calls:
            made = {"id": f"fc_{call.id}", "type": "function_call", "status": "completed", "call_id": call.id}
            output.append(made | {"name": call.name, "arguments": _written(call)})
        return output

    def _response(self, number: int, output: list[dict[str, Any]], usage: dict[str, Any] | None) -> dict[str, Any]:
        return {
            "id": f"resp_{number}",
            "object": "response",
            "created_at": CREATED,
            "status": "completed" if usage else "in_progress",
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "model": "gpt-5-2025-08-07",
            "output": output,
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "usage": usage,
        }

    def _item(self, index: int, item: dict[str, Any]) -> list[dict[str, Any]]:
        place = {"item_id": item["id"], "output_index": index}
        match item["type"]:
            case "reasoning":
                started = item | {"summary": [], "encrypted_content": ""}
                steps = self._summary(item["summary"][0]["text"], place | {"summary_index": 0})
            case "message":
                started = item | {"content": [], "status": "in_progress"}
                steps = self._text(item["content"][0], place | {"content_index": 0})
            case _:
                started = item | {"arguments": "", "status": "in_progress"}
                written, kind = item["arguments"], "response.function_call_arguments"
                steps = [{"type": f"{kind}.delta", "delta": piece} | place for piece in pieces(written)]
                steps.append({"type": f"{kind}.done", "arguments": written, "name": item["name"]} | place)
        added = {"type": "response.output_item.added", "output_index": index, "item": started}
        return [added, *steps, {"type": "response.output_item.done", "output_index": index, "item": item}]

    def _summary(self, text: str, place: dict[str, Any]) -> list[dict[str, Any]]:
        part, kind = {"type": "summary_text", "text": ""}, "response.reasoning_summary"
        return [
            {"type": f"{kind}_part.added", "part": part} | place,
            *({"type": f"{kind}_text.delta", "delta": piece} | place for piece in pieces(text)),
            {"type": f"{kind}_text.done", "text": text} | place,
            {"type": f"{kind}_part.done", "part": part | {"text": text}} | place,
        ]

    def _text(self, part: dict[str, Any], place: dict[str, Any]) -> list[dict[str, Any]]:
        told, kind = {"logprobs": []} | place, "response.output_text"
        return [
            {"type": "response.content_part.added", "part": part | {"text": ""}} | place,
            *({"type": f"{kind}.delta", "delta": piece} | told for piece in pieces(part["text"])),
            {"type": f"{kind}.done", "text": part["text"]} | told,
            {"type": "response.content_part.done", "part": part} | place,
        ]

    def refuse(self, words: str) -> Answer:
        return _error(words)
