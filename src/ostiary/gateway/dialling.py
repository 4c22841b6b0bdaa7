"""The way to a provider's Realtime API: the address, the credential, the handshake's headers. It must not relay."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

import msgspec

from ostiary.core.fault import Fault, Kind, Origin, Retry
from ostiary.core.operation import Endpoint
from ostiary.core.snapshot import Deployment, LimitSettings, UrlStyle
from ostiary.gateway.duplex import Listener
from ostiary.gateway.outbound import Outbound
from ostiary.gateway.plane import Plane
from ostiary.gateway.signing.signer import host_of
from ostiary.gateway.upstream.websocket import Refusal
from ostiary.gateway.websocket import WebSocket

HANDSHAKE_SECONDS = 30.0
_V1_VERSIONS = ("", "v1", "preview", "latest")


async def dial_realtime(
    plane: Plane,
    target: Deployment,
    endpoint: Endpoint,
    listener: Listener,
    *,
    beta: bool,
    limits: LimitSettings,
    headers: list[tuple[bytes, bytes]],
) -> WebSocket | Refusal:
    """A WebSocket to the target, not begun; or what it answered in place of one.

    Args:
        beta: ask for the first edition of the API.
        headers: the client's, of which the few that may travel on are taken.

    Raises:
        Fault: no credential in time, or no connection.
    """
    out = plane.outbound(target)
    assert out.origin is not None
    path = realtime_path(target, endpoint)
    signature = await _signed(plane, out, path) if out.signer is not None else b""
    if beta:
        signature += b"openai-beta: realtime=v1\r\n"
    head = out.opening(endpoint.method, path, headers, signature)
    return await plane.upstream.open_websocket(
        out.origin,
        head,
        msgspec.structs.replace(out.timeouts, first_byte=min(out.timeouts.first_byte, HANDSHAKE_SECONDS)),
        listener,
        largest=limits.max_event,
        silence=limits.silence_seconds,
    )


def realtime_path(target: Deployment, endpoint: Endpoint) -> str:
    """The request target at a deployment.

    OpenAI and who does as they do: `/realtime?model=`. Azure: `/openai/realtime?api-version=&deployment=` (official
    Python SDK 3.54, `AzureOpenAI._configure_realtime`), or below `/openai/v1` where no dated version is configured.
    """
    model = quote(target.upstream_model, safe="")
    below = dict(target.paths).get(endpoint.name, endpoint.path)
    if target.url_style is not UrlStyle.AZURE:
        return f"{target.base_path}{below}?model={model}"
    if target.api_version in _V1_VERSIONS:
        return f"{target.base_path}/openai/v1{below}?model={model}"
    return f"{target.base_path}/openai{below}?api-version={quote(target.api_version)}&deployment={model}"


async def _signed(plane: Plane, out: Outbound, path: str) -> bytes:
    signer, host, clock = out.signer, host_of(out.deployment), plane.clock
    assert signer is not None
    lines = signer.lines("GET", host, path, b"", clock.now())
    if lines is None:
        try:
            async with asyncio.timeout(min(out.timeouts.first_byte, HANDSHAKE_SECONDS)):
                await signer.ready()
        except TimeoutError:
            public = "the provider's credential did not come in time"
            raise Fault(Kind.TIMEOUT, public, origin=Origin.UPSTREAM, retry=Retry.NEXT) from None
        lines = signer.lines("GET", host, path, b"", clock.now())
    if lines is None:
        public = "there is no credential for the provider"
        raise Fault(Kind.UPSTREAM_AUTH, public, origin=Origin.UPSTREAM, retry=Retry.NEXT)
    return lines
