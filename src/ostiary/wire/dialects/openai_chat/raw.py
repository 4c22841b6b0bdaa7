"""The relayed operations (`Operation.RAW`): their shapes, the model a form names, and how their use is metered.

It must not interpret a body beyond that.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ostiary.core.fault import Fault, Kind
from ostiary.core.operation import BodyKind, Endpoint, Meter, Operation
from ostiary.core.price import FREE, Price
from ostiary.core.usage import Usage
from ostiary.wire.dialects.openai_chat.usage import read_usage
from ostiary.wire.framing.multipart import Part, boundary_of, parts_of
from ostiary.wire.governed import OWN, REFUSED, Ask, Edit, apply, count

_RAW = Operation.RAW
_FORM = BodyKind.MULTIPART
_NO_BODY = BodyKind.NONE
_FILE = (Meter.REQUESTS, "file")
_BATCH = (Meter.REQUESTS, "batch")
MOST_PICTURES = 1000  # no provider makes as many at once; an estimate beyond would be no number to reckon with

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("moderations", _RAW, "POST", "/moderations", BodyKind.JSON, Meter.REQUESTS, "moderation"),
    Endpoint("images.generations", _RAW, "POST", "/images/generations", BodyKind.JSON, Meter.IMAGES, "image_generation",
             streams=True),
    Endpoint("images.edits", _RAW, "POST", "/images/edits", _FORM, Meter.IMAGES, "image_generation", streams=True),
    Endpoint("images.variations", _RAW, "POST", "/images/variations", _FORM, Meter.IMAGES, "image_generation"),
    Endpoint("audio.speech", _RAW, "POST", "/audio/speech", BodyKind.JSON, Meter.CHARACTERS, "audio_speech"),
    Endpoint("audio.transcriptions", _RAW, "POST", "/audio/transcriptions", _FORM, Meter.SECONDS,
             "audio_transcription", streams=True),
    Endpoint("audio.translations", _RAW, "POST", "/audio/translations", _FORM, Meter.SECONDS, "audio_transcription"),
    Endpoint("rerank", _RAW, "POST", "/rerank", BodyKind.JSON, Meter.REQUESTS, "rerank", shape="cohere_v2",
             prefixes=("/v2", "/v1", "")),
    Endpoint("files.create", _RAW, "POST", "/files", _FORM, *_FILE),
    Endpoint("files.list", _RAW, "GET", "/files", _NO_BODY, *_FILE),
    Endpoint("files.get", _RAW, "GET", "/files/{id}", _NO_BODY, *_FILE),
    Endpoint("files.content", _RAW, "GET", "/files/{id}/content", _NO_BODY, *_FILE),
    Endpoint("files.delete", _RAW, "DELETE", "/files/{id}", _NO_BODY, *_FILE),
    Endpoint("batches.create", _RAW, "POST", "/batches", BodyKind.JSON, *_BATCH),
    Endpoint("batches.list", _RAW, "GET", "/batches", _NO_BODY, *_BATCH),
    Endpoint("batches.get", _RAW, "GET", "/batches/{id}", _NO_BODY, *_BATCH),
    Endpoint("batches.cancel", _RAW, "POST", "/batches/{id}/cancel", _NO_BODY, *_BATCH),
)  # fmt: skip

_text = msgspec.json.Decoder(str).decode
_texts = msgspec.json.Decoder(str | list[object]).decode


class _Pictures(msgspec.Struct):
    data: list[msgspec.Raw] = []
    duration: float | str | None = None


_pictures = msgspec.json.Decoder(_Pictures).decode


class FormAsk:
    """A multipart request: the same face as `Ask`, for a body of parts."""

    __slots__ = ("_parts", "body", "content_type", "max_output", "model", "own", "stream", "user", "wants_usage")

    def __init__(self, body: bytes, content_type: bytes, parts: list[Part], model: str) -> None:
        self.body = body
        self.content_type = content_type
        self.model = model
        self.max_output: int | None = None
        self.wants_usage = False
        self.own: dict[str, msgspec.Raw] = {}
        self._parts = parts
        self.stream = self.field("stream") == "true"
        self.user = self.field("user")

    def field(self, name: str) -> str:
        """The text of a field; "" where there is none.

        Raises:
            Fault: MALFORMED where it stands twice or is not UTF-8.
        """
        found = [part for part in self._parts if part.name == name]
        if len(found) > 1:
            raise Fault(Kind.MALFORMED, f"the part {name!r} stands twice in the request", param=name)
        try:
            return self.body[found[0].start : found[0].end].decode() if found else ""
        except UnicodeDecodeError:
            raise Fault(Kind.MALFORMED, f"the part {name!r} is not text", param=name) from None

    def file(self) -> bytes:
        """The content of the one file part.

        Raises:
            Fault: MALFORMED where there is none, or more than one.
        """
        files = [part for part in self._parts if part.is_file]
        if len(files) != 1:
            raise Fault(Kind.MALFORMED, "the request must have one part with a file name", param="file")
        return self.body[files[0].start : files[0].end]

    def without(self, names: Sequence[str], *, file: bytes | None = None) -> bytes:
        """The body without the parts of these names, and with another file content where one is given."""
        edits: list[Edit] = []
        for part in self._parts:
            if part.name in names:
                edits.append((part.head, part.after, b""))
            elif file is not None and part.is_file:
                edits.append((part.start, part.end, file))
        return apply(self.body, edits)

    def patched(self, model: str, *, include_usage: bool, defaults: Sequence[tuple[str, bytes]] = ()) -> bytes:
        """The body for one target: the `model` part's content replaced, everything else as it came."""
        del include_usage, defaults  # a form has no place for them
        if model == self.model:
            return self.body
        edits: list[Edit] = [(p.start, p.end, model.encode()) for p in self._parts if p.name == "model"]
        return apply(self.body, edits)


def read_form(
    body: bytes,
    content_type: bytes,
    *,
    model: str = "",
    default_model: str = "",
    model_fields: Sequence[str] = ("model",),
) -> FormAsk:
    """Read what governs a multipart request.

    Args:
        model: the model the path named; a different one in the body is refused.
        default_model: the model meant where nothing names one.
        model_fields: the parts that may name it; the first name of a comma-separated list counts.

    Raises:
        Fault: UNSUPPORTED_MEDIA, MALFORMED, or INVALID_REQUEST where it names no model or a part a client may not send.
    """
    parts = parts_of(body, boundary_of(content_type))
    for part in parts:
        if part.name in REFUSED or part.name in OWN:
            raise Fault(Kind.INVALID_REQUEST, f"the part {part.name!r} is not accepted from a client", param=part.name)
    ask = FormAsk(body, content_type, parts, "")
    named = next((name for field in model_fields if (name := ask.field(field).partition(",")[0].strip())), "")
    if model and named not in ("", model):
        raise Fault(Kind.INVALID_REQUEST, "the body names another model than the path", param="model")
    ask.model = model or named or default_model
    if not ask.model:
        raise Fault(Kind.INVALID_REQUEST, "the request names no model", param="model")
    return ask


def asked_usage(ask: Ask | FormAsk, meter: Meter) -> Usage:
    """What a request alone says of its use: characters to speak, pictures to make. Nothing for other meters.

    Raises:
        Fault: INVALID_REQUEST for a number of pictures that is none.
    """
    if meter is Meter.IMAGES:
        return Usage(images=_pictures_asked(ask))
    if meter is not Meter.CHARACTERS or not isinstance(ask, Ask) or "input" not in ask.members:
        return Usage()
    try:
        return Usage(characters=len(_text(ask.members["input"])))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Usage()


def _pictures_asked(ask: Ask | FormAsk) -> int:
    """`n`, at least 1; bounded, whatever the client wrote."""
    if isinstance(ask, Ask):
        number = count(ask.members, "n") if "n" in ask.members else None
    else:
        text = ask.field("n")
        if text and not (text.isascii() and text.isdecimal() and len(text) < 10):
            raise Fault(Kind.INVALID_REQUEST, "'n' must be a number", param="n")
        number = int(text or 1)
    return min(max(number or 1, 1), MOST_PICTURES)


def rated(price: Price, meter: Meter) -> bool:
    """Whether a price names a rate for what a meter counts where an answer states no tokens."""
    if meter is Meter.IMAGES:
        return bool(price.image or price.request)
    if meter is Meter.CHARACTERS:
        return bool(price.character_in or price.character_out or price.request)
    if meter is Meter.SECONDS:
        return bool(price.second_in or price.second_out or price.request)
    return True


def answered_usage(body: bytes, meter: Meter, asked: Usage, price: Price | None = None) -> Usage | None:
    """What a JSON answer says of its use; None where it says nothing that can be counted and billed at this price.

    Raises:
        Fault: as `read_usage`.
    """
    stated = read_usage(body)
    if meter is Meter.TOKENS:
        return stated
    return billed_usage(stated, meter, _counted(body, meter, asked, price), price)


def billed_usage(stated: Usage | None, meter: Meter, counted: Usage | None, price: Price | None) -> Usage | None:
    """Tokens, where they are stated, are what is billed, unless the price names rates for what was counted only."""
    if stated is None:
        return counted
    only_counted = price is not None and not (price.input or price.output) and price != FREE and rated(price, meter)
    return counted if only_counted and stated.total else stated


def _counted(body: bytes, meter: Meter, asked: Usage, price: Price | None) -> Usage | None:
    """What the meter finds in the answer, or in the request where it counts that."""
    if meter is Meter.CHARACTERS:
        return asked
    if meter is Meter.REQUESTS:
        return None if by_tokens(price) else asked
    try:
        facts = _pictures(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if meter is Meter.IMAGES:
        return Usage(images=len(facts.data)) if facts.data else None
    return Usage(milliseconds=_milliseconds(facts.duration)) if facts.duration is not None else None


def by_tokens(price: Price | None) -> bool:
    """Whether a request that is counted as one costs by its tokens all the same, as some reranks do."""
    return price is not None and not price.request and bool(price.input or price.output)


def _milliseconds(duration: float | str) -> int:
    try:
        seconds = float(duration)
    except ValueError:
        return 0
    return round(seconds * 1000) if 0 <= seconds < 10**7 else 0
