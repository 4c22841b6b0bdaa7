"""Gemini's generateContent as Google AI Studio and Vertex AI speak it. It must not use the codecs.

Sources: ai.google.dev, generateContent, function calling, thought signatures; official Python SDK 3.4,
`types.GenerateContentResponse`, and what its client takes for an error within a stream. Calls have no ids here, as with
models before Gemini 3: results belong to calls by name and order.
"""

from __future__ import annotations

import re
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
    dumps,
    expect,
    sse,
)
from scripted import segment_of

KEY = "AIza-scripted-gemini-credential"
TOKEN, LOCATION = "ya29.scripted-vertex-token", "europe-west4"
# What a conversation that began with another model may say instead of a proof.
NO_PROOF = "skip_thought_signature_validator"
# Bytes are taken in either alphabet of base64, as everywhere in Google's APIs; its library writes the other one.
ALPHABET = str.maketrans("-_", "+/")
_STATUSES = {400: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE"}
_METHOD = re.compile(r":(generateContent|streamGenerateContent)$")


class Generate:
    """See `scripted.Voice`."""

    name = "gemini_generate"
    base = "/v1beta"
    models = "/v1beta/models/"
    usage: ClassVar[dict[str, Any]] = {
        "promptTokenCount": INPUT,
        "candidatesTokenCount": OUTPUT - THOUGHT_TOKENS,
        "totalTokenCount": INPUT + OUTPUT,
        "cachedContentTokenCount": CACHED,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": INPUT}],
        "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": CACHED}],
        "thoughtsTokenCount": THOUGHT_TOKENS,
    }

    def serves(self, path: str) -> bool:
        return path.startswith(self.models) and _METHOD.search(path) is not None

    def _check_credential(self, request: Request) -> None:
        expect(request.header("x-goog-api-key") == KEY, "wrong credential")
        expect(not request.header("authorization") and "key=" not in request.query, "a second credential")

    def asked(self, request: Request) -> tuple[str, bool]:
        self._check_credential(request)
        found = _METHOD.search(request.path)
        assert found is not None
        stream = found[1] == "streamGenerateContent"
        expect(not stream or request.query == "alt=sse", f"a stream in an array is not scripted: {request.query}")
        expect("model" not in request.body and "stream" not in request.body, "Unknown name")
        roles = [content.get("role", "user") for content in request.body["contents"]]
        expect(roles[0] == "user" and set(roles) <= {"user", "model"}, f"roles {roles}")
        return segment_of(request.path, self.models, found[0]), stream

    def answered(self, request: Request, *, proven: bool) -> bool:
        contents = request.body["contents"]
        results = [part["functionResponse"] for part in contents[-1]["parts"] if "functionResponse" in part]
        if not results:
            (tool,) = request.body["tools"][0]["functionDeclarations"]
            expect(tool["name"] == TOOL, "not the tool")
            return False
        expect([result["name"] for result in results] == [TOOL, TOOL], f"not the names it called: {results}")
        told = [answer_in(dumps(result["response"]).decode()) for result in results]
        expect(told == list(ANSWERS.values()), f"wrong results, or another order: {results}")
        calls = [part for part in contents[-2]["parts"] if "functionCall" in part]
        made = [part["functionCall"]["args"] for part in calls]
        expect(made == [{"city": city} for city in ANSWERS], f"not the calls it made: {made}")
        expect("id" not in calls[0]["functionCall"] or calls[0]["functionCall"]["id"] == results[0].get("id"), "ids")
        first, second = (part.get("thoughtSignature") for part in calls)
        first = first.translate(ALPHABET) if first and first != NO_PROOF else first
        allowed = {SIGNATURE} if proven else {SIGNATURE, NO_PROOF, None}
        expect(
            first in allowed and second in (None, NO_PROOF), f"Function call is missing a thought_signature: {calls}"
        )
        return True

    def _response(self, parts: list[dict[str, Any]], finish: str | None, *, usage: bool = True) -> dict[str, Any]:
        candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
        if finish:
            candidate["finishReason"] = finish
        told = {"candidates": [candidate]} | ({"usageMetadata": self.usage} if usage else {})
        return told | {"modelVersion": "gemini-scripted", "responseId": "scripted-response"}

    def text(self, pieces: tuple[str, ...], *, stream: bool) -> Answer:
        if not stream:
            return Answer(dumps(self._response([{"text": "".join(pieces)}], "STOP")))
        chunks = [self._response([{"text": piece}], None, usage=False) for piece in pieces[:-1]]
        return self._stream([*chunks, self._response([{"text": pieces[-1]}], "STOP")])

    def _stream(self, chunks: list[dict[str, Any]], *then: dict[str, Any]) -> Answer:
        def told(some: list[dict[str, Any]]) -> bytes:
            return sse(*(("", chunk) for chunk in some)).replace(b"\n\n", b"\r\n\r\n")  # this one ends its lines so

        return Answer(told(chunks), "text/event-stream", stream=True, then=told(list(then)))

    def calls(self, *, thought: bool, stream: bool) -> Answer:
        calls: list[dict[str, Any]] = [{"functionCall": {"name": TOOL, "args": {"city": city}}} for city in ANSWERS]
        if not thought:
            told: list[dict[str, Any]] = []
        elif stream:
            told = [{"text": piece, "thought": True} for piece in THOUGHT_PIECES]
        else:
            told = [{"text": THOUGHT, "thought": True}]
        if thought:
            calls[0]["thoughtSignature"] = SIGNATURE
        if not stream:
            return Answer(dumps(self._response(told + calls, "STOP")))
        chunks = [self._response([part], None, usage=False) for part in [*told, *calls]]
        return self._stream([*chunks, self._response([{"text": ""}], "STOP")])

    def refusal(self, status: int, words: str) -> Answer:
        error = {"code": status, "message": words, "status": _STATUSES[status]}
        return Answer(dumps({"error": error}), "application/json; charset=UTF-8", status=status)

    def broken(self) -> Answer:
        chunks = [self._response([{"text": piece}], None, usage=False) for piece in PIECES]
        return self._stream(chunks, {"error": {"code": 503, "message": BROKEN, "status": "UNAVAILABLE"}})


class VertexGenerate(Generate):
    """The same on Vertex AI: another path, and a bearer token. See `scripted.Voice`."""

    base = f"/v1/projects/scripted/locations/{LOCATION}"
    models = f"{base}/publishers/google/models/"

    def _check_credential(self, request: Request) -> None:
        expect(request.header("authorization") == f"Bearer {TOKEN}", "wrong credential")
        expect(not request.header("x-goog-api-key") and "key=" not in request.query, "a second credential")
