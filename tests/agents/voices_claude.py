"""Anthropic's Messages and Bedrock's Converse, as a provider of Claude models speaks them. It must not use the codecs.

Sources: official Python SDK 2.12, `types.RawMessageStreamEvent`, and the pages on extended thinking with tools and on
prompt caching (platform.claude.com/docs); botocore 1.44, `bedrock-runtime` 2023-09-30, and the Amazon event stream
encoding.
"""

from __future__ import annotations

import json
import re
import struct
from typing import Any, ClassVar
from urllib.parse import unquote
from zlib import crc32

from tests.agents.stage import Asked, Stated, Turn, expect
from tests.agents.voice import Answer, Request, dumps, items, members, pieces, sse, texts

_MARK = re.compile(rb',?"cache_control":\{[^}]*\}')
_POINT = re.compile(rb',?\{"cachePoint":\{[^}]*\}\}')
_MOST_MARKS = 4


class Messages:
    """See `voice.Voice`."""

    name, base, ids = "anthropic_messages", "", "toolu_01house"
    proven = creates = thinks = marks = True
    params: ClassVar[dict[str, Any]] = {
        "model": "anthropic/claude-sonnet-4-5",
        "api_key": "sk-ant-scripted",
        "extra_body": {"cache_control": {"type": "ephemeral"}},  # for clients that mark nothing themselves
    }
    info: ClassVar[dict[str, Any]] = {}

    def read(self, request: Request) -> Asked:
        expect(request.path == "/v1/messages", f"POST {request.path}")
        expect(request.headers.get("x-api-key") == "sk-ant-scripted", "wrong credential")
        body, raw = json.loads(request.raw), members(request.raw)
        expect(isinstance(body.get("max_tokens"), int), "max_tokens: Field required")
        thinking = body.get("thinking") or {}
        if thinking.get("type") == "enabled":
            expect(1024 <= thinking["budget_tokens"] < body["max_tokens"], f"thinking: {thinking}")
        _check_knobs(body, thinking, ("temperature", "top_p", "top_k"))
        roles = [turn["role"] for turn in body["messages"]]
        expect(roles and roles[0] == "user" and set(roles) <= {"user", "assistant"}, f"roles: {roles}")
        marks = request.raw.count(b'"cache_control":')
        expect(marks <= _MOST_MARKS, f"A maximum of 4 blocks with cache_control may be provided. Found {marks}.")
        turns = [list(_blocks(turn)) for turn in body["messages"]]
        self._check_turns(roles, turns)
        blocks = [block for turn in turns for block in turn]
        return Asked(
            model=body["model"],
            stream=body.get("stream") is True,
            words=texts(body["messages"]),
            tools={tool["name"]: tool.get("input_schema", {}) for tool in body.get("tools", ())},
            fixed=tuple(_MARK.sub(b"", bytes(raw.get(name, b""))) for name in ("system", "tools", "thinking")),
            turns=[_MARK.sub(b"", turn) for turn in items(raw["messages"])],
            results=[(b["tool_use_id"], texts(b.get("content", ""))) for b in blocks if b["type"] == "tool_result"],
            proofs=[block["signature"] for block in blocks if block["type"] == "thinking"],
            marks=marks,
            size=len(request.raw),
        )

    def _check_turns(self, roles: list[str], turns: list[list[dict[str, Any]]]) -> None:
        """Every use is answered in the next turn, results first; and thinking begins a turn that has it."""
        for place, blocks in enumerate(turns):
            kinds = [block["type"] for block in blocks]
            expect(kinds, f"messages.{place}: content is empty")
            expect(all(b.get("text") for b in blocks if b["type"] == "text"), "text content blocks must be non-empty")
            if roles[place] == "assistant" and "thinking" in kinds:
                expect(kinds[0] == "thinking", f"messages.{place}: expected `thinking` first, found {kinds}")
            used = [block["id"] for block in blocks if block["type"] == "tool_use"]
            if used:
                follow = turns[place + 1] if place + 1 < len(turns) else []
                given = [block.get("tool_use_id") for block in follow[: len(used)]]
                expect(sorted(map(str, given)) == sorted(used), f"uses {used} are answered by {given}")

    def tell(self, turn: Turn, stated: Stated, number: int, *, stream: bool) -> Answer:
        usage = {
            "input_tokens": stated.input - stated.cached - stated.created,
            "cache_creation_input_tokens": stated.created,
            "cache_read_input_tokens": stated.cached,
            "cache_creation": {"ephemeral_5m_input_tokens": stated.created, "ephemeral_1h_input_tokens": 0},
            "output_tokens": stated.output,
            "output_tokens_details": {"thinking_tokens": stated.reasoning},
            "service_tier": "standard",
        }
        message = {
            "id": f"msg_01house{number:04d}",
            "type": "message",
            "role": "assistant",
            "model": "claude-sonnet-4-5-20250929",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
        }
        finish = "tool_use" if turn.calls else "end_turn"
        if not stream:
            whole = {"content": list(self._content(turn)), "stop_reason": finish, "usage": usage}
            return Answer(dumps(message | whole))
        started = {**usage, "output_tokens": 1}
        started.pop("output_tokens_details")
        events: list[dict[str, Any]] = [{"type": "message_start", "message": message | {"usage": started}}]
        for index, block in enumerate(self._content(turn)):
            start, deltas = _opened(block)
            events.append({"type": "content_block_start", "index": index, "content_block": start})
            events += [{"type": "ping"}] if index == 0 else []
            events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
            events.append({"type": "content_block_stop", "index": index})
        used = {name: value for name, value in usage.items() if name not in ("cache_creation", "service_tier")}
        events.append({"type": "message_delta", "delta": {"stop_reason": finish, "stop_sequence": None}, "usage": used})
        return sse((event["type"], event) for event in [*events, {"type": "message_stop"}])

    def _content(self, turn: Turn) -> list[dict[str, Any]]:
        content: list[dict[str, Any]] = []
        if turn.thought:
            content.append({"type": "thinking", "thinking": turn.thought, "signature": turn.proof})
        if turn.text:
            content.append({"type": "text", "text": turn.text})
        return content + [{"type": "tool_use", "id": c.id, "name": c.name, "input": c.arguments} for c in turn.calls]

    def refuse(self, words: str) -> Answer:
        return Answer(
            dumps({"type": "error", "error": {"type": "invalid_request_error", "message": words}}), status=400
        )


def _check_knobs(knobs: dict[str, Any], thinking: dict[str, Any], names: tuple[str, str, str]) -> None:
    """What Claude models say of knobs that do not go together."""
    temperature, top_p, top_k = (knobs.get(name) for name in names)
    expect(temperature is None or top_p is None, "`temperature` and `top_p` cannot both be specified for this model.")
    if thinking.get("type") in ("enabled", "adaptive"):
        expect(temperature in (None, 1), "`temperature` may only be set to 1 when thinking is enabled.")
        expect(top_k is None, "`top_k` must be unset when thinking is enabled.")
        expect(top_p is None or top_p >= 0.95, "`top_p` must be greater than or equal to 0.95 or unset")


def _blocks(turn: dict[str, Any]) -> list[dict[str, Any]]:
    content = turn["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _opened(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """How a block begins in a stream, and its deltas."""
    match block["type"]:
        case "thinking":
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(block["thinking"])]
            proof = {"type": "signature_delta", "signature": block["signature"]}
            return {"type": "thinking", "thinking": "", "signature": ""}, [*deltas, proof]
        case "text":
            deltas = [{"type": "text_delta", "text": piece} for piece in pieces(block["text"])]
            return {"type": "text", "text": ""}, deltas
    written = ["", *pieces(json.dumps(block["input"], ensure_ascii=False))]
    return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": piece} for piece in written]


class Converse:
    """See `voice.Voice`."""

    name, base, ids = "bedrock_converse", "", "tooluse_house-"
    proven = creates = marks = True
    thinks = False
    params: ClassVar[dict[str, Any]] = {
        "model": "bedrock/eu.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "aws_access_key_id": "AKIASCRIPTEDSCRIPTED",
        "aws_secret_access_key": "scripted/secret+access/key0123456789abcd",
        "aws_region_name": "eu-central-1",
    }
    info: ClassVar[dict[str, Any]] = {}

    def read(self, request: Request) -> Asked:
        found = re.fullmatch(r"/model/([^/]+)/converse(-stream)?", request.path)
        expect(found, f"POST {request.path}")
        assert found is not None
        expect(request.headers.get("authorization", "").startswith("AWS4-HMAC-SHA256 Credential=AKIA"), "not signed")
        body, raw = json.loads(request.raw), members(request.raw)
        known = {
            "messages",
            "system",
            "toolConfig",
            "inferenceConfig",
            "additionalModelRequestFields",
            "requestMetadata",
        }
        expect(set(body) <= known, f"unknown members {set(body) - known}")
        fields = body.get("additionalModelRequestFields", {})
        knobs = body.get("inferenceConfig", {}) | fields
        _check_knobs(knobs, fields.get("thinking", {}), ("temperature", "topP", "top_k"))
        roles = [turn["role"] for turn in body["messages"]]
        alternating = all(role == ("user", "assistant")[index % 2] for index, role in enumerate(roles))
        expect(roles and alternating, f"roles must alternate: {roles}")
        marks = request.raw.count(b'"cachePoint":')
        expect(marks <= _MOST_MARKS, f"too many cache points: {marks}")
        blocks = [block for turn in body["messages"] for block in turn["content"]]
        expect(all(block.get("text", "x").strip() for block in blocks), "The text field in the ContentBlock is blank")
        specs = [tool["toolSpec"] for tool in body.get("toolConfig", {}).get("tools", ()) if "toolSpec" in tool]
        return Asked(
            model=unquote(found[1]),
            stream=found[2] is not None,
            words=texts(body["messages"]),
            tools={spec["name"]: spec["inputSchema"]["json"] for spec in specs},
            fixed=tuple(_POINT.sub(b"", bytes(raw.get(name, b""))) for name in ("system", "toolConfig")),
            turns=[_POINT.sub(b"", turn) for turn in items(raw["messages"])],
            results=[
                (block["toolResult"]["toolUseId"], texts(block["toolResult"]["content"]))
                for block in blocks
                if "toolResult" in block
            ],
            proofs=[
                block["reasoningContent"]["reasoningText"]["signature"]
                for block in blocks
                if "reasoningContent" in block
            ],
            marks=marks,
            size=len(request.raw),
        )

    def tell(self, turn: Turn, stated: Stated, number: int, *, stream: bool) -> Answer:
        finish = "tool_use" if turn.calls else "end_turn"
        usage = {
            "inputTokens": stated.input - stated.cached - stated.created,
            "outputTokens": stated.output,
            "totalTokens": stated.input + stated.output,
            "cacheReadInputTokens": stated.cached,
            "cacheWriteInputTokens": stated.created,
        }
        metrics = {"usage": usage, "metrics": {"latencyMs": 5}}
        if not stream:
            message = {"role": "assistant", "content": list(self._content(turn))}
            return Answer(dumps({"output": {"message": message}, "stopReason": finish} | metrics))
        events = [_event("messageStart", {"role": "assistant"})]
        for index, block in enumerate(self._content(turn)):
            start, deltas = self._opened(block)
            place = {"contentBlockIndex": index}
            events += [_event("contentBlockStart", {"start": start} | place)] if start else []
            events += [_event("contentBlockDelta", {"delta": delta} | place) for delta in deltas]
            events.append(_event("contentBlockStop", place))
        events += [_event("messageStop", {"stopReason": finish}), _event("metadata", metrics)]
        return Answer(b"".join(events), "application/vnd.amazon.eventstream")

    def _content(self, turn: Turn) -> list[dict[str, Any]]:
        content: list[dict[str, Any]] = []
        if turn.thought:
            content.append({"reasoningContent": {"reasoningText": {"text": turn.thought, "signature": turn.proof}}})
        if turn.text:
            content.append({"text": turn.text})
        return content + [
            {"toolUse": {"toolUseId": call.id, "name": call.name, "input": call.arguments}} for call in turn.calls
        ]

    def _opened(self, block: dict[str, Any]) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
        if "text" in block:
            return None, [{"text": piece} for piece in pieces(block["text"])]
        if "reasoningContent" in block:
            told = block["reasoningContent"]["reasoningText"]
            words = [{"reasoningContent": {"text": piece}} for piece in pieces(told["text"])]
            return None, [*words, {"reasoningContent": {"signature": told["signature"]}}]
        use = block["toolUse"]
        written = pieces(json.dumps(use["input"], ensure_ascii=False))
        start = {"toolUse": {"toolUseId": use["toolUseId"], "name": use["name"]}}
        return start, [{"toolUse": {"input": piece}} for piece in written]

    def refuse(self, words: str) -> Answer:
        return Answer(dumps({"message": words}), status=400)


def _event(kind: str, payload: dict[str, Any]) -> bytes:
    """One message of the event stream."""
    named = ((":event-type", kind), (":content-type", "application/json"), (":message-type", "event"))
    headers = b"".join(
        struct.pack(">B", len(key)) + key.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for key, value in named
    )
    body = dumps(payload | {"p": "abcdefghijk"})
    start = struct.pack(">II", len(headers) + len(body) + 16, len(headers))
    whole = start + struct.pack(">I", crc32(start)) + headers + body
    return whole + struct.pack(">I", crc32(whole))
