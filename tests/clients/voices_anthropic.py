"""Anthropic's Messages as the provider speaks it. It must not use the codecs.

Source: official Python SDK 2.12, `types.Message`, `RawMessageStreamEvent` and the API's pages on streaming, extended
thinking with tools, and errors (platform.claude.com/docs/en/api).
"""

from __future__ import annotations

from typing import Any, ClassVar

from lines import (
    ANSWERS,
    BROKEN,
    CACHED,
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
from scripted import segment_of
from voices_gemini import LOCATION, TOKEN

KEY = "sk-ant-scripted-credential"
IDS = {"Paris": "toolu_01PaRiS", "Oslo": "toolu_01OsLo"}
VERSIONS = ("2023-06-01", "2026-10-21")
_TYPES = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error"}


def _blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _result(block: dict[str, Any]) -> str:
    content = block["content"]
    return answer_in(content if isinstance(content, str) else "".join(part["text"] for part in content))


class Messages:
    """See `scripted.Voice`."""

    name = "anthropic_messages"
    base = ""
    usage: ClassVar[dict[str, Any]] = {
        "input_tokens": INPUT - CACHED,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": CACHED,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": OUTPUT,
        "output_tokens_details": {"thinking_tokens": THOUGHT_TOKENS},
        "service_tier": "standard",
        "inference_geo": "global",
    }

    def serves(self, path: str) -> bool:
        return path == "/v1/messages"

    def _named(self, request: Request) -> tuple[str, bool]:
        """The model and whether a stream is wanted; credential and version are right."""
        expect(request.header("x-api-key") == KEY, "wrong credential")
        expect(not request.header("authorization"), "a second credential")
        expect(request.header("anthropic-version") in VERSIONS, "no version, or one that it does not know")
        return request.body["model"], request.body.get("stream") is True

    def asked(self, request: Request) -> tuple[str, bool]:
        named, body = self._named(request), request.body
        expect(isinstance(body.get("max_tokens"), int), "max_tokens: Field required")
        roles = [message["role"] for message in body["messages"]]
        expect(roles and roles[0] == "user" and set(roles) <= {"user", "assistant"}, f"roles {roles}")
        thinking = body.get("thinking") or {}
        if thinking.get("type") == "enabled":
            expect(1024 <= thinking["budget_tokens"] < body["max_tokens"], f"thinking: {thinking}")
        return named

    def answered(self, request: Request, *, proven: bool) -> bool:
        messages = request.body["messages"]
        results = {b["tool_use_id"]: b for b in _blocks(messages[-1]) if b["type"] == "tool_result"}
        if not results:
            tool = request.body["tools"][0]
            expect(tool["name"] == TOOL and tool["input_schema"]["type"] == "object", "not the tool")
            return False
        told = {city: _result(results[name]) if name in results else None for city, name in IDS.items()}
        expect(told == ANSWERS, f"wrong results: {results}")
        said = _blocks(messages[-2])
        made = {block["id"]: block["input"] for block in said if block["type"] == "tool_use"}
        expect(made == {name: {"city": city} for city, name in IDS.items()}, f"not the calls it made: {made}")
        thought = [block for block in said if block["type"] == "thinking"]
        for block in thought:
            expect(block["signature"] == SIGNATURE and block["thinking"] == THOUGHT, f"Invalid signature in {block}")
        expect(thought or not proven, "Expected `thinking`, but found `tool_use`")
        return True

    def _message(self, content: list[dict[str, Any]], finish: str | None, usage: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": "msg_01scripted",
            "type": "message",
            "role": "assistant",
            "model": "claude-scripted",
            "content": content,
            "stop_reason": finish,
            "stop_sequence": None,
            "stop_details": None,
            "container": None,
            "usage": usage,
        }

    def _stream(self, blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]], finish: str | None) -> Answer:
        started = self.usage | {"output_tokens": 1}
        started.pop("output_tokens_details")
        events: list[dict[str, Any]] = [{"type": "message_start", "message": self._message([], None, started)}]
        for index, (start, deltas) in enumerate(blocks):
            events.append({"type": "content_block_start", "index": index, "content_block": start})
            if index == 0:
                events.append({"type": "ping"})
            events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
            if finish is not None:
                events.append({"type": "content_block_stop", "index": index})
        if finish is not None:
            usage = {
                "input_tokens": INPUT - CACHED,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": CACHED,
                "output_tokens": OUTPUT,
                "output_tokens_details": {"thinking_tokens": THOUGHT_TOKENS},
            }
            delta = {"stop_reason": finish, "stop_sequence": None, "stop_details": None, "container": None}
            events += [{"type": "message_delta", "delta": delta, "usage": usage}, {"type": "message_stop"}]
        told = sse(*((event["type"], event) for event in events))
        error = {"type": "error", "error": {"type": "overloaded_error", "message": BROKEN}}
        then = sse(("error", error)) if finish is None else b""
        return Answer(told, "text/event-stream; charset=utf-8", stream=True, then=then)

    def text(self, pieces: tuple[str, ...], *, stream: bool) -> Answer:
        if stream:
            deltas = [{"type": "text_delta", "text": piece} for piece in pieces]
            return self._stream([({"type": "text", "text": ""}, deltas)], "end_turn")
        content = [{"type": "text", "text": "".join(pieces), "citations": None}]
        return Answer(dumps(self._message(content, "end_turn", self.usage)))

    def calls(self, *, thought: bool, stream: bool) -> Answer:
        if not stream:
            content: list[dict[str, Any]] = [{"type": "thinking", "thinking": THOUGHT, "signature": SIGNATURE}]
            uses = [{"type": "tool_use", "id": IDS[city], "name": TOOL, "input": {"city": city}} for city in ANSWERS]
            return Answer(dumps(self._message((content if thought else []) + uses, "tool_use", self.usage)))
        blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
        if thought:
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in THOUGHT_PIECES]
            deltas.append({"type": "signature_delta", "signature": SIGNATURE})
            blocks.append(({"type": "thinking", "thinking": "", "signature": ""}, deltas))
        for city in ANSWERS:
            start = {"type": "tool_use", "id": IDS[city], "name": TOOL, "input": {}}
            written = ["", *pieces(arguments(city))]
            blocks.append((start, [{"type": "input_json_delta", "partial_json": piece} for piece in written]))
        return self._stream(blocks, "tool_use")

    def refusal(self, status: int, words: str) -> Answer:
        error = {"type": _TYPES.get(status, "api_error"), "message": words}
        return Answer(dumps({"type": "error", "error": error, "request_id": "req_scripted"}), status=status)

    def broken(self) -> Answer:
        return self._stream(
            [({"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in PIECES])], None
        )


class VertexMessages(Messages):
    """The same on Vertex AI: the model in the path, the version in the body. See `scripted.Voice`."""

    base = f"/v1/projects/scripted/locations/{LOCATION}"
    models = f"{base}/publishers/anthropic/models/"

    def serves(self, path: str) -> bool:
        return path.startswith(self.models) and path.endswith((":rawPredict", ":streamRawPredict"))

    def _named(self, request: Request) -> tuple[str, bool]:
        expect(request.header("authorization") == f"Bearer {TOKEN}", "wrong credential")
        expect(not request.header("x-api-key"), "a second credential")
        expect(request.body.get("anthropic_version") == "vertex-2023-10-16", "no version")
        expect("model" not in request.body, "model: Extra inputs are not permitted")
        stream = request.path.endswith(":streamRawPredict")
        expect(request.body.get("stream", False) is stream, "path and body differ about the stream")
        return segment_of(request.path, self.models, ":streamRawPredict" if stream else ":rawPredict"), stream
