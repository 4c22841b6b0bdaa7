"""The answers of an OpenAI-compatible provider, built from the request alone. It must not keep state or do I/O."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from ostiary.testing.script import Script, Tokens

CREATED = 1_700_000_000
GREETING = "Hello from the fake provider."
PNG = bytes.fromhex("89504e470d0a1a0a0000000d49484452")  # the beginning of a picture is picture enough
SOUND = b"ID3\x04\x00fake sound \x00\xff\xfe" * 64

_CATEGORIES = (
    *("harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm"),
    *("self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic"),
)
_NONCE = re.compile(r"nonce-[0-9A-Za-z]+")
_FIELD = re.compile(rb'name="(\w+)"(?:\r\n[^\r\n]+)*\r\n\r\n(.*?)\r\n--', re.DOTALL)
_PREFIX = re.compile(r"^(?:/v1|/openai/deployments/([^/]+)|/openai)?(?=/)")


@dataclass(frozen=True)
class Ask:
    """A request as the provider understands it: `path` without prefix, `fields` of a JSON object or a form."""

    method: str
    path: str
    fields: dict[str, Any]
    model: str
    digest: str


@dataclass(frozen=True)
class Answer:
    """`events` of a stream, or one body."""

    content_type: str
    events: tuple[bytes, ...]
    stream: bool = False


def understand(method: str, target: str, content_type: str, body: bytes) -> Ask:
    """Read what the answer depends on; a body that makes no sense has no fields."""
    path = target.partition("?")[0]
    prefix = _PREFIX.match(path)
    fields: dict[str, Any] = {}
    if content_type.startswith("multipart/"):
        fields = {name.decode(): value.decode(errors="replace") for name, value in _FIELD.findall(body)}
    elif body:
        try:
            decoded = msgspec.json.decode(body)
        except msgspec.DecodeError:
            decoded = None
        if isinstance(decoded, dict):
            fields = decoded
    deployment = prefix.group(1) if prefix else None
    return Ask(
        method=method,
        path=path[prefix.end() :] if prefix else path,
        fields=fields,
        model=str(deployment or fields.get("model") or ""),
        digest=hashlib.sha256(body).hexdigest()[:24],
    )


def answer(ask: Ask, script: Script) -> Answer | None:
    """The answer of the endpoint, or None where there is no such endpoint."""
    if script.body is not None:
        return Answer("application/json", (script.body,))
    if script.status >= 400:
        failure = {"error": {"message": "Failed on request.", "type": "server_error", "param": None, "code": None}}
        return _json(failure)
    if ask.path == "/chat/completions":
        return _chat(ask, script)
    if ask.path == "/completions":
        return _completion(ask, script)
    if ask.path == "/audio/speech":
        return Answer("audio/mpeg", (SOUND,))
    if ask.path == "/audio/transcriptions" and ask.fields.get("response_format") == "text":
        return Answer("text/plain; charset=utf-8", (b"a transcript\n",))
    build = _PLAIN.get((ask.method, ask.path))
    if build is not None:
        return _json(build(ask, script))
    return _item(ask)


def question(fields: dict[str, Any]) -> str:
    """The text of the last message of the user, or of `prompt`."""
    for message in reversed(fields.get("messages") or []):
        if isinstance(message, dict) and message.get("role") == "user":
            return json.dumps(message.get("content"), ensure_ascii=False)
    return json.dumps(fields.get("prompt", ""), ensure_ascii=False)


def reply_text(ask: Ask, script: Script) -> str:
    """The scripted text, else the nonce of the question, else a greeting."""
    if script.text is not None:
        return script.text
    nonce = _NONCE.search(question(ask.fields))
    return nonce.group() if nonce else GREETING


def usage(tokens: Tokens) -> dict[str, Any]:
    """The `usage` object of the chat API."""
    return {
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.completion,
        "total_tokens": tokens.prompt + tokens.completion,
        "prompt_tokens_details": {"cached_tokens": tokens.cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": tokens.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _json(value: object) -> Answer:
    return Answer("application/json", (json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(),))


def _sse(values: list[object]) -> Answer:
    events = [b"data: " + json.dumps(v, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n" for v in values]
    return Answer("text/event-stream; charset=utf-8", (*events, b"data: [DONE]\n\n"), stream=True)


def _chat(ask: Ask, script: Script) -> Answer:
    call = _tool_call(ask)
    finish = "tool_calls" if call else script.finish
    if ask.fields.get("stream") is True:
        deltas = _tool_deltas(call) if call else _text_deltas(reply_text(ask, script), script.pieces)
        choices: list[list[Any]] = [
            [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}] for delta in deltas
        ]
        choices.append([{"index": 0, "delta": {}, "logprobs": None, "finish_reason": finish}])
        return _sse(_chunks(ask, script, "chat.completion.chunk", f"chatcmpl-{ask.digest}", choices))
    message: dict[str, Any] = {"role": "assistant", "content": reply_text(ask, script), "refusal": None}
    if call:
        message |= {"content": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    return _json(_envelope(ask, script, "chat.completion", f"chatcmpl-{ask.digest}", [choice]))


def _completion(ask: Ask, script: Script) -> Answer:
    text = reply_text(ask, script)
    if ask.fields.get("stream") is True:
        pieces = _split(text, script.pieces)
        choices = [
            [{"index": 0, "text": piece, "logprobs": None, "finish_reason": script.finish if last else None}]
            for piece, last in zip(pieces, [False] * (len(pieces) - 1) + [True], strict=True)
        ]
        return _sse(_chunks(ask, script, "text_completion", f"cmpl-{ask.digest}", choices))
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": script.finish}
    return _json(_envelope(ask, script, "text_completion", f"cmpl-{ask.digest}", [choice]))


def _envelope(ask: Ask, script: Script, kind: str, id_: str, choices: list[Any]) -> dict[str, Any]:
    value = {"id": id_, "object": kind, "created": CREATED, "model": ask.model, "choices": choices}
    if kind == "chat.completion":
        value["service_tier"] = "default"
    value["system_fingerprint"] = "fp_fake"
    if script.usage:
        value["usage"] = usage(script.tokens)
    return value


def _chunks(ask: Ask, script: Script, kind: str, id_: str, choices: list[list[Any]]) -> list[object]:
    """The chunks of a stream; with `include_usage`, `usage` is null on each and a last one with no choice states it."""
    options = ask.fields.get("stream_options")
    stated = script.usage and isinstance(options, dict) and options.get("include_usage") is True
    head: dict[str, Any] = {"id": id_, "object": kind, "created": CREATED}
    head |= {"model": ask.model, "system_fingerprint": "fp_fake"}
    chunks: list[object] = [head | {"choices": choice} | ({"usage": None} if stated else {}) for choice in choices]
    if stated:
        chunks.append(head | {"choices": [], "usage": usage(script.tokens)})
    return chunks


def _split(text: str, pieces: int) -> list[str]:
    size = max(1, -(-len(text) // max(1, pieces)))
    return [text[at : at + size] for at in range(0, len(text), size)] or [""]


def _text_deltas(text: str, pieces: int) -> list[dict[str, Any]]:
    first: dict[str, Any] = {"role": "assistant", "content": "", "refusal": None}
    return [first, *({"content": piece} for piece in _split(text, pieces))]


def _tool_call(ask: Ask) -> dict[str, Any] | None:
    """A call of the first tool offered, unless tools are forbidden or one has just answered."""
    tools, messages = ask.fields.get("tools"), ask.fields.get("messages") or [{}]
    if not tools or ask.fields.get("tool_choice") == "none" or messages[-1].get("role") == "tool":
        return None
    function = tools[0]["function"]
    properties = (function.get("parameters") or {}).get("properties") or {}
    samples = {"integer": 1, "number": 1.5, "boolean": True, "array": [], "object": {}}
    arguments = {name: samples.get(schema.get("type"), "value") for name, schema in properties.items()}
    called = {"name": function["name"], "arguments": json.dumps(arguments)}
    return {"id": f"call_{ask.digest}", "type": "function", "function": called}


def _tool_deltas(call: dict[str, Any]) -> list[dict[str, Any]]:
    name, arguments = call["function"]["name"], call["function"]["arguments"]
    opening = {"index": 0, **call, "function": {"name": name, "arguments": ""}}
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None, "tool_calls": [opening]}]
    deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in _split(arguments, 3)]
    return deltas


def _embeddings(ask: Ask, script: Script) -> dict[str, Any]:
    given = ask.fields.get("input")
    many = given if isinstance(given, list) and given and isinstance(given[0], (str, list)) else [given]
    data = []
    for index, one in enumerate(many):
        seed = hashlib.sha256(json.dumps(one).encode()).digest()
        vector = [struct.unpack_from("<H", seed, 2 * at)[0] / 65536 for at in range(8)]
        packed = base64.b64encode(struct.pack("<8f", *vector)).decode()
        wanted = packed if ask.fields.get("encoding_format") == "base64" else vector
        data.append({"object": "embedding", "index": index, "embedding": wanted})
    stated = {"prompt_tokens": script.tokens.prompt, "total_tokens": script.tokens.prompt}
    return {"object": "list", "data": data, "model": ask.model, "usage": stated}


def _moderation(ask: Ask, _script: Script) -> dict[str, Any]:
    result = {
        "flagged": False,
        "categories": dict.fromkeys(_CATEGORIES, False),
        "category_scores": dict.fromkeys(_CATEGORIES, 0.01),
        "category_applied_input_types": {name: ["text"] for name in _CATEGORIES},
    }
    return {"id": f"modr-{ask.digest}", "model": ask.model or "omni-moderation-latest", "results": [result]}


def _images(ask: Ask, _script: Script) -> dict[str, Any]:
    picture = {"b64_json": base64.b64encode(PNG).decode()}
    return {"created": CREATED, "data": [picture] * int(ask.fields.get("n") or 1)}


def _transcription(ask: Ask, _script: Script) -> dict[str, Any]:
    plain: dict[str, Any] = {"text": "a transcript"}
    if ask.fields.get("response_format") == "verbose_json":
        plain |= {"task": "transcribe", "language": "english", "duration": 2.5, "segments": []}
    return plain | {"usage": {"type": "duration", "seconds": 3}}


def _rerank(ask: Ask, _script: Script) -> dict[str, Any]:
    results = [{"index": i, "relevance_score": 1 / (i + 1)} for i, _ in enumerate(ask.fields.get("documents") or [])]
    return {"id": f"rerank-{ask.digest}", "results": results, "meta": {"billed_units": {"search_units": 1}}}


def _file(ask: Ask, _script: Script) -> dict[str, Any]:
    purpose = ask.fields.get("purpose", "batch")
    return _file_object(f"file-{ask.digest}") | {"purpose": purpose}


def _file_object(id_: str) -> dict[str, Any]:
    return {
        "id": id_,
        "object": "file",
        "bytes": 120,
        "created_at": CREATED,
        "filename": "input.jsonl",
        "purpose": "batch",
        "status": "processed",
    }


def _batch_object(id_: str, status: str = "validating") -> dict[str, Any]:
    return {
        "id": id_,
        "object": "batch",
        "endpoint": "/v1/chat/completions",
        "input_file_id": "file-1",
        "completion_window": "24h",
        "status": status,
        "created_at": CREATED,
    }


def _list(*items: dict[str, Any]) -> dict[str, Any]:
    return {"object": "list", "data": list(items), "has_more": False, "first_id": None, "last_id": None}


_MODEL = {"id": "fake-model", "object": "model", "created": CREATED, "owned_by": "fake"}

_PLAIN: dict[tuple[str, str], Callable[[Ask, Script], dict[str, Any]]] = {
    ("POST", "/embeddings"): _embeddings,
    ("POST", "/moderations"): _moderation,
    ("POST", "/images/generations"): _images,
    ("POST", "/images/edits"): _images,
    ("POST", "/audio/transcriptions"): _transcription,
    ("POST", "/rerank"): _rerank,
    ("POST", "/files"): _file,
    ("GET", "/files"): lambda _ask, _script: _list(_file_object("file-1")),
    ("POST", "/batches"): lambda ask, _script: _batch_object(f"batch_{ask.digest}"),
    ("GET", "/batches"): lambda _ask, _script: _list(_batch_object("batch_1")),
    ("GET", "/models"): lambda _ask, _script: _list(_MODEL),
}


def _item(ask: Ask) -> Answer | None:
    """What is asked of one file, batch or model by its id."""
    kind, _, rest = ask.path.removeprefix("/").partition("/")
    id_, _, what = rest.partition("/")
    if not id_:
        return None
    if kind == "files" and what == "content":
        return Answer("application/octet-stream", (b'{"custom_id":"1"}\n',))
    if kind == "files" and ask.method == "DELETE":
        return _json({"id": id_, "object": "file", "deleted": True})
    if kind == "files":
        return _json(_file_object(id_))
    if kind == "batches":
        return _json(_batch_object(id_, "cancelling" if what == "cancel" else "in_progress"))
    if kind == "models":
        return _json(_MODEL | {"id": id_})
    return None
