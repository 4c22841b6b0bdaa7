"""What a message is made of. It must not hold a dialect's own spelling of anything."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from ostiary.wire.conversation.unknown import Rest


class Link(msgspec.Struct, frozen=True, tag=True):
    """Bytes somewhere else. Never a `data:` address: that is `Inline`."""

    url: str


class Inline(msgspec.Struct, frozen=True, tag=True):
    """Bytes in the message itself, as base64 text."""

    media_type: str
    base64: str


class Stored(msgspec.Struct, frozen=True, tag=True):
    """Bytes that a provider keeps under an id; meaningless to any dialect but `said_by`."""

    id: str
    said_by: str


Source: TypeAlias = Link | Inline | Stored


class Cache(msgspec.Struct, frozen=True):
    """A mark: the prompt up to here, this part included, may be kept for the next request.

    `ttl` is how long, in the words all dialects share ("5m", "1h"); None: as long as the provider likes.
    """

    ttl: str | None = None


class Seal(msgspec.Struct, frozen=True):
    """An opaque proof or cipher text that goes back to its issuer unchanged, and to nobody else."""

    issuer: str
    value: str


class Citation(msgspec.Struct, frozen=True):
    """Where words of a model come from.

    `start` and `end` are places in the text they stand with, in characters; `quote` is what the source says there.
    `rest` holds what else the dialect says of the source.
    """

    url: str | None = None
    title: str | None = None
    quote: str | None = None
    start: int | None = None
    end: int | None = None
    rest: Rest = ()


class Text(msgspec.Struct, frozen=True, tag=True):
    """Words. `seal`: a proof that some models attach to what they say."""

    text: str
    rest: Rest = ()
    citations: tuple[Citation, ...] = ()
    cache: Cache | None = None
    seal: Seal | None = None


class Image(msgspec.Struct, frozen=True, tag=True):
    """A picture. `detail` is the resolution asked for, None where none is."""

    source: Source
    detail: str | None = None
    rest: Rest = ()
    cache: Cache | None = None


class Audio(msgspec.Struct, frozen=True, tag=True):
    """Sound."""

    source: Source
    rest: Rest = ()
    cache: Cache | None = None


class Document(msgspec.Struct, frozen=True, tag=True):
    """A file to read or to watch."""

    source: Source
    name: str | None = None
    rest: Rest = ()
    cache: Cache | None = None


class Reasoning(msgspec.Struct, frozen=True, tag=True):
    """What a model thought, as far as it says so. `hidden`: it says nothing, and `seal` is all there is."""

    text: str
    seal: Seal | None = None
    rest: Rest = ()
    hidden: bool = False


class Refusal(msgspec.Struct, frozen=True, tag=True):
    """The words with which a model declines."""

    text: str
    rest: Rest = ()


class ToolCall(msgspec.Struct, frozen=True, tag=True):
    """A model asks for a tool. `arguments` is the text the model wrote: JSON, or anything at all where `free`.

    `seal`: a proof that some models attach to a call, and ask for when it is answered.
    """

    id: str
    name: str
    arguments: str
    free: bool = False
    rest: Rest = ()
    cache: Cache | None = None
    seal: Seal | None = None


class UnknownPart(msgspec.Struct, frozen=True, tag=True):
    """Content of a kind that only `said_by` understands, whole and raw; `place` is the list it stood in."""

    said_by: str
    place: str
    value: msgspec.Raw


Content: TypeAlias = Text | Image | Audio | Document | Refusal | UnknownPart


class ToolResult(msgspec.Struct, frozen=True, tag=True):
    """What a tool answered."""

    call_id: str
    parts: tuple[Content, ...]
    failed: bool = False
    rest: Rest = ()
    cache: Cache | None = None


Part: TypeAlias = Content | Reasoning | ToolCall | ToolResult
