"""The relayed shapes of the route table. It must not interpret a body beyond the model it names and what it used."""

from __future__ import annotations

from ostiary.core.operation import BodyKind, Endpoint, Meter, Operation

_RAW = Operation.RAW
_FORM = BodyKind.MULTIPART
_NO_BODY = BodyKind.NONE

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("moderations", _RAW, "POST", "/moderations", meter=Meter.REQUESTS, mode="moderation"),
    Endpoint(
        "images.generations",
        _RAW,
        "POST",
        "/images/generations",
        meter=Meter.IMAGES,
        mode="image_generation",
        streams=True,
    ),
    Endpoint("images.edits", _RAW, "POST", "/images/edits", _FORM, Meter.IMAGES, "image_generation", streams=True),
    Endpoint("images.variations", _RAW, "POST", "/images/variations", _FORM, Meter.IMAGES, "image_generation"),
    Endpoint("audio.speech", _RAW, "POST", "/audio/speech", BodyKind.JSON, Meter.CHARACTERS, "audio_speech"),
    Endpoint(
        "audio.transcriptions",
        _RAW,
        "POST",
        "/audio/transcriptions",
        _FORM,
        Meter.SECONDS,
        "audio_transcription",
        streams=True,
    ),
    Endpoint("audio.translations", _RAW, "POST", "/audio/translations", _FORM, Meter.SECONDS, "audio_transcription"),
    Endpoint("rerank", _RAW, "POST", "/rerank", meter=Meter.REQUESTS, mode="rerank"),
    Endpoint("files.create", _RAW, "POST", "/files", _FORM, Meter.REQUESTS, "file"),
    Endpoint("files.list", _RAW, "GET", "/files", _NO_BODY, Meter.REQUESTS, "file"),
    Endpoint("files.get", _RAW, "GET", "/files/{id}", _NO_BODY, Meter.REQUESTS, "file"),
    Endpoint("files.content", _RAW, "GET", "/files/{id}/content", _NO_BODY, Meter.REQUESTS, "file"),
    Endpoint("files.delete", _RAW, "DELETE", "/files/{id}", _NO_BODY, Meter.REQUESTS, "file"),
    Endpoint("batches.create", _RAW, "POST", "/batches", BodyKind.JSON, Meter.REQUESTS, "batch"),
    Endpoint("batches.list", _RAW, "GET", "/batches", _NO_BODY, Meter.REQUESTS, "batch"),
    Endpoint("batches.get", _RAW, "GET", "/batches/{id}", _NO_BODY, Meter.REQUESTS, "batch"),
    Endpoint("batches.cancel", _RAW, "POST", "/batches/{id}/cancel", _NO_BODY, Meter.REQUESTS, "batch"),
)
