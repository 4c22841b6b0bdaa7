"""What a caller can ask for. Operations are data: the route table is built from rows of `Endpoint`."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Operation(StrEnum):
    """The kinds of work with a codec of their own, and RAW: relayed, metered and limited without translation."""

    CHAT = "chat"
    COMPLETION = "completion"
    EMBEDDING = "embedding"
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

    `name` is stable and appears in records and metrics ("chat.completions"). `path` is what follows the version
    prefix, with an optional `{id}` segment ("/files/{id}/content"). `upstream_path` likewise, below the
    deployment's base URL.
    """

    name: str
    operation: Operation
    method: str
    path: str
    body: BodyKind = BodyKind.JSON
    meter: Meter = Meter.TOKENS
    mode: str = "chat"  # the price table's mode
    streams: bool = False
