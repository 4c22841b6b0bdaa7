"""OpenAI's two dialects as a provider speaks them: chat completions and Responses. It must not use the codecs.

Sources: OpenAI API reference, chat completions and Responses, bodies and streaming events (official Python SDK 3.54,
`types.chat`, `types.responses`); `reasoning_content` as DeepSeek's API documents it.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar

from lines import (
    ANSWERS,
    BROKEN,
    CACHED,
    CREATED,
    INPUT,
    OUTPUT,
    PIECES,
    SIGNATURE,
    THOUGHT,
    THOUGHT_PIECES,
    THOUGHT_TOKENS,
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

KEY = "sk-scripted-openai-credential"
SSE = "text/event-stream; charset=utf-8"
IDS = {"Paris": "call_pAr1s0123", "Oslo": "call_0sl0456"}


def _credential(request: Request) -> None:
    expect(request.header("authorization") == f"Bearer {KEY}", "wrong credential")
    others = [name for name, _ in request.headers if name in ("x-api-key", "api-key", "x-goog-api-key")]
    expect(not others, f"a second credential in {others}")


def _error(status: int, words: str) -> dict[str, Any]:
    kind = "rate_limit_exceeded" if status == 429 else "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": words, "type": kind, "param": None, "code": kind if status == 429 else None}}


class Chat:
    """See `scripted.Voice`."""

    name = "openai_chat"
    base = "/v1"
    usage: ClassVar[dict[str, Any]] = {
        "prompt_tokens": INPUT,
        "completion_tokens": OUTPUT,
        "total_tokens": INPUT + OUTPUT,
        "prompt_tokens_details": {"cached_tokens": CACHED, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": THOUGHT_TOKENS,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }

    def serves(self, path: str) -> bool:
        return path == "/v1/chat/completions"

    def asked(self, request: Request) -> tuple[str, bool]:
        _credential(request)
        expect(request.body.get("messages"), "no messages")
        return request.body["model"], request.body.get("stream") is True

    def answered(self, request: Request, *, proven: bool) -> bool:
        results = {m["tool_call_id"]: m["content"] for m in request.body["messages"] if m["role"] == "tool"}
        if not results:
            tool = request.body["tools"][0]
            expect(tool["type"] == "function" and tool["function"]["name"] == TOOL, "not the tool")
            return False
        texts = {i: c if isinstance(c, str) else "".join(part["text"] for part in c) for i, c in results.items()}
        told = {name: answer_in(text) for name, text in texts.items()}
        expect({city: told.get(name) for city, name in IDS.items()} == ANSWERS, f"wrong results: {results}")
        (said,) = (m for m in request.body["messages"] if m["role"] == "assistant")
        given = {call["id"]: json.loads(call["function"]["arguments"]) for call in said["tool_calls"]}
        expect(given == {name: {"city": city} for city, name in IDS.items()}, f"not the calls it made: {given}")
        expect(not proven or said.get("reasoning_content") == THOUGHT, f"reasoning_content must be passed back: {said}")
        return True

    def _frame(self, **fields: Any) -> dict[str, Any]:
        return {"id": "chatcmpl-scripted", "created": CREATED, "model": "gpt-scripted"} | fields

    def _whole(self, message: dict[str, Any], finish: str) -> Answer:
        told = {"role": "assistant", "content": None, "refusal": None, "annotations": []} | message
        choice = {"index": 0, "message": told, "logprobs": None, "finish_reason": finish}
        return Answer(dumps(self._frame(object="chat.completion", choices=[choice], usage=self.usage)))

    def _stream(self, deltas: list[dict[str, Any]], finish: str | None) -> Answer:
        def chunk(delta: dict[str, Any], reason: str | None) -> tuple[str, object]:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
            return "", self._frame(object="chat.completion.chunk", choices=[choice], usage=None)

        events = [chunk({"role": "assistant", "content": "", "refusal": None}, None)]
        events += [chunk(delta, None) for delta in deltas]
        if finish is None:
            return Answer(sse(*events), SSE, stream=True, then=sse(("", _error(500, BROKEN))))
        events.append(chunk({}, finish))
        events.append(("", self._frame(object="chat.completion.chunk", choices=[], usage=self.usage)))
        return Answer(sse(*events, ("", b"[DONE]")), SSE, stream=True)

    def text(self, pieces: tuple[str, ...], *, stream: bool) -> Answer:
        if stream:
            return self._stream([{"content": piece} for piece in pieces], "stop")
        return self._whole({"content": "".join(pieces)}, "stop")

    def calls(self, *, thought: bool, stream: bool) -> Answer:
        if not stream:
            made = [
                {"id": IDS[city], "type": "function", "function": {"name": TOOL, "arguments": arguments(city)}}
                for city in ANSWERS
            ]
            told = {"reasoning_content": THOUGHT} if thought else {}
            return self._whole(told | {"tool_calls": made}, "tool_calls")
        deltas: list[dict[str, Any]] = [{"reasoning_content": piece} for piece in THOUGHT_PIECES] if thought else []
        for index, city in enumerate(ANSWERS):
            start = {"id": IDS[city], "type": "function", "function": {"name": TOOL, "arguments": ""}}
            deltas.append({"tool_calls": [{"index": index} | start]})
            for piece in pieces(arguments(city)):
                deltas.append({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
        return self._stream(deltas, "tool_calls")

    def refusal(self, status: int, words: str) -> Answer:
        return Answer(dumps(_error(status, words)), status=status)

    def broken(self) -> Answer:
        return self._stream([{"content": piece} for piece in PIECES], None)


class Responses:
    """See `scripted.Voice`."""

    name = "openai_responses"
    base = "/v1"
    usage: ClassVar[dict[str, Any]] = {
        "input_tokens": INPUT,
        "input_tokens_details": {"cached_tokens": CACHED, "cache_write_tokens": 0},
        "output_tokens": OUTPUT,
        "output_tokens_details": {"reasoning_tokens": THOUGHT_TOKENS},
        "total_tokens": INPUT + OUTPUT,
    }

    def serves(self, path: str) -> bool:
        return path == "/v1/responses"

    def asked(self, request: Request) -> tuple[str, bool]:
        _credential(request)
        expect(request.body.get("input"), "no input")
        return request.body["model"], request.body.get("stream") is True

    def answered(self, request: Request, *, proven: bool) -> bool:
        items = request.body["input"]
        results = [item for item in items if isinstance(item, dict) and item.get("type") == "function_call_output"]
        if not results:
            expect(request.body["tools"][0]["name"] == TOOL, "not the tool")
            return False
        told = {item["call_id"]: answer_in(item["output"]) for item in results}
        expect({city: told.get(name) for city, name in IDS.items()} == ANSWERS, f"wrong results: {told}")
        made = {item["call_id"]: json.loads(item["arguments"]) for item in items if item.get("type") == "function_call"}
        expect(made == {name: {"city": city} for city, name in IDS.items()}, f"not the calls it made: {made}")
        proofs = [item.get("encrypted_content") for item in items if item.get("type") == "reasoning"]
        expect(not proven or proofs == [SIGNATURE], f"not the proof it gave: {proofs}")
        return True

    def _response(self, output: list[dict[str, Any]], status: str) -> dict[str, Any]:
        return {
            "id": "resp_scripted",
            "object": "response",
            "created_at": CREATED,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "max_output_tokens": None,
            "model": "gpt-scripted",
            "output": output,
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "store": False,
            "temperature": 1.0,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": self.usage if status == "completed" else None,
            "metadata": {},
        }

    def _message(self, text: str, status: str) -> dict[str, Any]:
        part = {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
        content = [part] if status == "completed" else []
        return {"id": "msg_1", "type": "message", "status": status, "role": "assistant", "content": content}

    def _call(self, city: str, written: str, status: str) -> dict[str, Any]:
        return {
            "id": f"fc_{city}",
            "type": "function_call",
            "status": status,
            "arguments": written,
            "call_id": IDS[city],
            "name": TOOL,
        }

    def _reasoning(self, *, done: bool) -> dict[str, Any]:
        summary = [{"type": "summary_text", "text": THOUGHT}] if done else []
        item = {"id": "rs_1", "type": "reasoning", "summary": summary}
        return item | ({"encrypted_content": SIGNATURE} if done else {"encrypted_content": ""})

    def _stream(self, steps: list[dict[str, Any]], output: list[dict[str, Any]] | None) -> Answer:
        started = self._response([], "in_progress")
        events: list[dict[str, Any]] = [
            {"type": "response.created", "response": started},
            {"type": "response.in_progress", "response": started},
            *steps,
        ]
        if output is None:
            events.append({"type": "error", "code": "server_error", "message": BROKEN, "param": None})
        else:
            events.append({"type": "response.completed", "response": self._response(output, "completed")})
        told = [(event["type"], event | {"sequence_number": number}) for number, event in enumerate(events)]
        if output is None:
            return Answer(sse(*told[:-1]), SSE, stream=True, then=sse(told[-1]))
        return Answer(sse(*told), SSE, stream=True)

    def _message_steps(self, pieces: tuple[str, ...]) -> list[dict[str, Any]]:
        place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
        part = {"type": "output_text", "annotations": [], "logprobs": []}
        text = "".join(pieces)
        return [
            {"type": "response.output_item.added", "output_index": 0, "item": self._message("", "in_progress")},
            {"type": "response.content_part.added", "part": part | {"text": ""}} | place,
            *({"type": "response.output_text.delta", "delta": piece, "logprobs": []} | place for piece in pieces),
            {"type": "response.output_text.done", "text": text, "logprobs": []} | place,
            {"type": "response.content_part.done", "part": part | {"text": text}} | place,
            {"type": "response.output_item.done", "output_index": 0, "item": self._message(text, "completed")},
        ]

    def text(self, pieces: tuple[str, ...], *, stream: bool) -> Answer:
        whole = self._message("".join(pieces), "completed")
        if stream:
            return self._stream(self._message_steps(pieces), [whole])
        return Answer(dumps(self._response([whole], "completed")))

    def calls(self, *, thought: bool, stream: bool) -> Answer:
        output = [self._reasoning(done=True)] if thought else []
        output += [self._call(city, arguments(city), "completed") for city in ANSWERS]
        if not stream:
            return Answer(dumps(self._response(output, "completed")))
        steps = self._reasoning_steps() if thought else []
        for index, city in enumerate(ANSWERS, start=int(thought)):
            place = {"item_id": f"fc_{city}", "output_index": index}
            steps += [
                {
                    "type": "response.output_item.added",
                    "output_index": index,
                    "item": self._call(city, "", "in_progress"),
                },
                *(
                    {"type": "response.function_call_arguments.delta", "delta": piece} | place
                    for piece in pieces(arguments(city))
                ),
                {"type": "response.function_call_arguments.done", "arguments": arguments(city)} | place,
                {"type": "response.output_item.done", "output_index": index, "item": output[index]},
            ]
        return self._stream(steps, output)

    def _reasoning_steps(self) -> list[dict[str, Any]]:
        place = {"item_id": "rs_1", "output_index": 0, "summary_index": 0}
        part = {"type": "summary_text", "text": ""}
        return [
            {"type": "response.output_item.added", "output_index": 0, "item": self._reasoning(done=False)},
            {"type": "response.reasoning_summary_part.added", "part": part} | place,
            *({"type": "response.reasoning_summary_text.delta", "delta": piece} | place for piece in THOUGHT_PIECES),
            {"type": "response.reasoning_summary_text.done", "text": THOUGHT} | place,
            {"type": "response.reasoning_summary_part.done", "part": part | {"text": THOUGHT}} | place,
            {"type": "response.output_item.done", "output_index": 0, "item": self._reasoning(done=True)},
        ]

    def refusal(self, status: int, words: str) -> Answer:
        return Answer(dumps(_error(status, words)), status=status)

    def broken(self) -> Answer:
        return self._stream(self._message_steps(PIECES)[:-3], None)
