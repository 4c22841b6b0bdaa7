"""What the scripted providers say, whatever their dialect, and what they count. It must not know a dialect."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

QUESTION = "What is the weather in Paris and in Oslo?"
PIECES = ("Guten ", "Tag — ", "☂ and ", "so on.")
TEXT = "".join(PIECES)
THOUGHT_PIECES = ("I have to ask ", "for the weather ☀ ", "first.")
THOUGHT = "".join(THOUGHT_PIECES)
FINAL_PIECES = ("Sunny in Paris, ", "rain in Oslo.")
FINAL = "".join(FINAL_PIECES)
TOOL = "weather"
DESCRIPTION = "The weather in a city."
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
ANSWERS = {"Paris": "sunny", "Oslo": "rain"}
# As a provider makes them, base64 of bytes: it takes nothing back but these.
SIGNATURE = "++++/2EgcHJvb2Ygb2YgdGhvdWdodCwgaW4gYnl0ZXMgdGhhdCBvbmx5IGl0cyBtYWtlciByZWFkcyD//g=="
OVERLOADED = "too many requests for this scripted provider"
BROKEN = "the scripted provider broke down"
# Tokens: input with what was cached, what of it was cached, output with what was thought, what of it was thought.
INPUT, CACHED, OUTPUT, THOUGHT_TOKENS = 30, 20, 9, 4
CREATED = 1_790_000_000


def arguments(city: str) -> str:
    """The arguments of a call, as the text a model writes."""
    return json.dumps({"city": city})


def pieces(text: str, size: int = 5) -> list[str]:
    """A text in pieces, as a stream has it."""
    return [text[start : start + size] for start in range(0, len(text), size)]


def answer_in(result: str) -> str:
    """What a tool has said, of its result as text: some clients send it wrapped in an object."""
    try:
        value = json.loads(result)
    except ValueError:
        return result
    return str(value.get("content") or value.get("result")) if isinstance(value, dict) else result


def dumps(value: object) -> bytes:
    """JSON as most servers write it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


@dataclass
class Request:
    """What has reached a provider. Names of headers are lower-case; `body` is the decoded JSON."""

    method: str
    path: str
    query: str
    headers: list[tuple[str, str]]
    raw: bytes
    body: dict[str, Any] = field(default_factory=dict)

    def header(self, name: str) -> str:
        """A header; empty where there is none."""
        return next((value for key, value in self.headers if key == name), "")


@dataclass(frozen=True)
class Answer:
    """What a provider sends: one body, or a stream; `then` follows when the client has seen some of it."""

    body: bytes
    content_type: str = "application/json"
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    stream: bool = False
    then: bytes = b""


class WrongRequestError(Exception):
    """What a provider finds wrong with a request."""


def expect(condition: object, complaint: str) -> None:
    """Complain unless the condition holds.

    Raises:
        WrongRequestError: it does not hold.
    """
    if not condition:
        raise WrongRequestError(complaint)


def sse(*events: tuple[str, object]) -> bytes:
    """Server-sent events; those without a name have none."""
    told = []
    for name, value in events:
        data = value if isinstance(value, bytes) else dumps(value)
        told.append((f"event: {name}\n".encode() if name else b"") + b"data: " + data + b"\n\n")
    return b"".join(told)
