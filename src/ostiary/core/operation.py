"""What a caller can ask for. Operations are data: the route table is built from rows of `Endpoint`."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Operation(StrEnum):
    """The kinds of work with a codec of their own, and RAW: relayed, metered and limited without translation."""

    CHAT = "chat"
    COUNT = "count"
    EMBEDDING = "embedding"
    RERANK = "rerank"
    RAW = "raw"


class BodyKind(StrEnum):
    """How the request carries its fields."""

    JSON = "json"
    MULTIPART = "multipart"
    NONE = "none"


class Meter(StrEnum):
    """How usage of the answer is measured when the provider does not state tokens."""

    TOKENS = "tokens"  # the answer's own `usage`
    IMAGES = "images"  # pictures in the answer's `data`
    CHARACTERS = "characters"  # characters of the request's `input`
    SECONDS = "seconds"  # seconds the answer states (`duration` or `usage.seconds`)
    REQUESTS = "requests"  # one request is one unit


class Endpoint(msgspec.Struct, frozen=True):
    """One row of the route table.

    `name` is stable and appears in records and metrics ("chat.completions"). `path` is what follows one of the
    `prefixes`, with an optional `{id}` ("/files/{id}/content") or `{model}` ("/models/{model}:generateContent").
    `dialect` is the wire format it is spoken in, `shape` that of an embedding or a rerank. `streams`: the body may ask
    for a stream; `streaming`: it always is one, because the path says so.
    """

    name: str
    operation: Operation
    method: str
    path: str
    body: BodyKind = BodyKind.JSON
    meter: Meter = Meter.TOKENS
    mode: str = "chat"  # the price table's mode
    streams: bool = False
    dialect: str = "openai_chat"
    prefixes: tuple[str, ...] = ("/v1", "")
    streaming: bool = False
    shape: str = ""
