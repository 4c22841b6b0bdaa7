"""What the scripted providers have in common, whatever their dialect: requests, answers, framing. It must not judge."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import msgspec
from tests.agents.stage import Asked, Stated, Turn

CREATED = 1_790_000_000
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


@dataclass(frozen=True)
class Request:
    """What has reached a provider; names of headers are lower-case."""

    path: str
    query: str
    headers: dict[str, str]
    raw: bytes


@dataclass(frozen=True)
class Answer:
    """What a provider sends."""

    body: bytes
    content_type: str = "application/json"
    status: int = 200


class Voice(Protocol):
    """How a provider speaks.

    Attributes:
        base: the path of its API base.
        ids: how the ids of its calls begin; empty where calls have none.
        proven: it refuses a request without the proofs it gave.
        creates: it counts what is written to the prompt cache.
        thinks: it counts what is thought.
        marks: its dialect marks what to cache.
        params: `litellm_params` of a deployment, without its address; `info`: its `model_info`.
    """

    name: ClassVar[str]
    base: ClassVar[str]
    ids: ClassVar[str]
    proven: ClassVar[bool]
    creates: ClassVar[bool]
    thinks: ClassVar[bool]
    marks: ClassVar[bool]
    params: ClassVar[dict[str, Any]]
    info: ClassVar[dict[str, Any]]

    def read(self, request: Request) -> Asked:
        """A request in plain words.

        Raises:
            WrongRequestError: the provider would refuse it.
        """
        ...

    def tell(self, turn: Turn, stated: Stated, number: int, *, stream: bool) -> Answer:
        """One answer."""
        ...

    def refuse(self, words: str) -> Answer:
        """The error for a wrong request."""
        ...


def members(raw: bytes | msgspec.Raw) -> dict[str, msgspec.Raw]:
    """The members of an object as they stand."""
    return _members(raw)


def items(raw: bytes | msgspec.Raw | None) -> list[bytes]:
    """The items of a list as they stand."""
    return [bytes(item) for item in _items(raw)] if raw is not None else []


def dumps(value: object) -> bytes:
    """JSON as most servers write it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def pieces(text: str, size: int = 7) -> list[str]:
    """A text in pieces, as a stream has it."""
    return [text[start : start + size] for start in range(0, len(text), size)]


def sse(events: Iterable[tuple[str, object]]) -> Answer:
    """Server-sent events; those without a name have none."""
    told = []
    for name, value in events:
        data = value if isinstance(value, bytes) else dumps(value)
        told.append((f"event: {name}\n".encode() if name else b"") + b"data: " + data + b"\n\n")
    return Answer(b"".join(told), "text/event-stream; charset=utf-8")


def texts(content: Any) -> str:
    """All text in a content, whatever it is nested in."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(texts(part) for part in content)
    if isinstance(content, dict):
        return content["text"] if isinstance(content.get("text"), str) else texts(content.get("content", ""))
    return ""
