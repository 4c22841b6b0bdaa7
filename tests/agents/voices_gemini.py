"""Gemini's generateContent as Google AI Studio speaks it. It must not use the codecs.

Sources: ai.google.dev, generateContent, function calling and thought signatures; official Python SDK 3.4, `types`.
Calls have no ids here, as with models before Gemini 3: results belong to calls by name and order.
"""

from __future__ import annotations

import json
import re
from typing import Any, ClassVar
from urllib.parse import unquote

from tests.agents.stage import Asked, Stated, Turn, expect
from tests.agents.voice import Answer, Request, dumps, items, members, pieces, sse, texts

_PATH = re.compile(r"/v1beta/models/([^/:]+):(generateContent|streamGenerateContent)")


class Generate:
    """See `voice.Voice`."""

    name, base, ids = "gemini_generate", "/v1beta", ""
    proven = thinks = True
    creates = marks = False
    params: ClassVar[dict[str, Any]] = {"model": "gemini/gemini-2.5-pro", "api_key": "AIza-scripted"}
    info: ClassVar[dict[str, Any]] = {}

    def read(self, request: Request) -> Asked:
        found = _PATH.fullmatch(request.path)
        expect(found, f"POST {request.path}")
        assert found is not None
        expect(request.headers.get("x-goog-api-key") == "AIza-scripted", "wrong credential")
        body, raw = json.loads(request.raw), members(request.raw)
        contents = body["contents"]
        roles = [content.get("role", "user") for content in contents]
        expect(roles[0] == "user" and set(roles) <= {"user", "model"}, f"roles: {roles}")
        parts = [part for content in contents for part in content["parts"]]
        results = [part["functionResponse"] for part in parts if "functionResponse" in part]
        self._check_turns(contents)
        functions = [one for tool in body.get("tools", ()) for one in tool.get("functionDeclarations", ())]
        return Asked(
            model=unquote(found[1]),
            stream=found[2] == "streamGenerateContent",
            words=texts([part.get("text", "") for part in parts]),
            tools={one["name"]: one.get("parametersJsonSchema") or one.get("parameters", {}) for one in functions},
            fixed=tuple(bytes(raw.get(name, b"")) for name in ("systemInstruction", "tools")),
            turns=items(raw["contents"]),
            results=[(one.get("id", ""), texts(list(one["response"].values()))) for one in results],
            proofs=[part["thoughtSignature"] for part in parts if "thoughtSignature" in part],
            size=len(request.raw),
        )

    def _check_turns(self, contents: list[dict[str, Any]]) -> None:
        """The function responses that follow are as many as the calls of a turn, and of the same names."""
        for place, content in enumerate(contents):
            called = [part["functionCall"]["name"] for part in content["parts"] if "functionCall" in part]
            if not called:
                continue
            follow = contents[place + 1]["parts"] if place + 1 < len(contents) else []
            given = [part["functionResponse"]["name"] for part in follow if "functionResponse" in part]
            expect(given == called, f"the number of function response parts is not equal: {called} and {given}")

    def tell(self, turn: Turn, stated: Stated, number: int, *, stream: bool) -> Answer:
        usage = {
            "promptTokenCount": stated.input,
            "candidatesTokenCount": stated.output - stated.reasoning,
            "totalTokenCount": stated.input + stated.output,
            "cachedContentTokenCount": stated.cached,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": stated.input}],
            "thoughtsTokenCount": stated.reasoning,
        }
        frame = {"modelVersion": "gemini-2.5-pro", "responseId": f"house-{number}"}
        calls: list[dict[str, Any]] = [
            {"functionCall": {"name": call.name, "args": call.arguments}} for call in turn.calls
        ]
        if calls:
            calls[0]["thoughtSignature"] = turn.proof
        if not stream:
            parts = ([{"text": turn.thought, "thought": True}] if turn.thought else []) + calls
            parts += [{"text": turn.text}] if turn.text else []
            candidate = {"content": {"parts": parts, "role": "model"}, "finishReason": "STOP", "index": 0}
            return Answer(dumps(frame | {"candidates": [candidate], "usageMetadata": usage}))
        told: list[dict[str, Any]] = [{"text": piece, "thought": True} for piece in pieces(turn.thought)]
        told += [*({"text": piece} for piece in pieces(turn.text)), *calls]
        chunks: list[dict[str, Any]] = [
            frame | {"candidates": [{"content": {"parts": [part], "role": "model"}, "index": 0}]} for part in told
        ]
        chunks[-1]["candidates"][0]["finishReason"] = "STOP"
        chunks[-1]["usageMetadata"] = usage
        return sse(("", chunk) for chunk in chunks)

    def refuse(self, words: str) -> Answer:
        return Answer(dumps({"error": {"code": 400, "message": words, "status": "INVALID_ARGUMENT"}}), status=400)
