"""Answers of the management API: JSON with exact amounts, errors in one envelope. It must not repeat what was sent."""

from __future__ import annotations

from http import HTTPStatus

import msgspec
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ostiary.core.fault import Fault, Kind, Origin

SAFE = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
}
_BY_STATUS = {404: Kind.NOT_FOUND, 405: Kind.METHOD_NOT_ALLOWED, 413: Kind.TOO_LARGE}

# Amounts are decimals: they become JSON numbers digit by digit, never by way of a float.
_encoder = msgspec.json.Encoder(decimal_format="number")


class JsonAnswer(Response):
    """A JSON answer."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """The JSON bytes of the answer."""
        return _encoder.encode(content)


def refused(fault: Fault) -> JsonAnswer:
    """A failure in the envelope that OpenAI clients read."""
    error = {"message": fault.public, "type": fault.type, "param": fault.param, "code": str(fault.status)}
    headers = {"retry-after": str(max(1, round(fault.retry_after)))} if fault.retry_after is not None else None
    return JsonAnswer({"error": error}, fault.status, headers)


def refused_by_status(status: int) -> JsonAnswer:
    """A failure that the framework found: no route, or no such method on it."""
    kind = _BY_STATUS.get(status, Kind.INVALID_REQUEST)
    return refused(Fault(kind, HTTPStatus(status).phrase.lower(), status=status))


def broken() -> Fault:
    """A failure of our own, about which the caller learns nothing."""
    return Fault(Kind.INTERNAL, "the request failed inside the gateway", origin=Origin.GATEWAY)


class SafeHeaders:
    """Every answer tells browsers and caches to keep their hands off."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, with the headers of `SAFE` on what is sent."""

        async def safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SAFE.items():
                    headers[name] = value
            await send(message)

        await self._app(scope, receive, safely)
