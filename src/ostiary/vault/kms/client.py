"""One bounded HTTPS call to a key service. It must not follow, retry, cache, or show what it sent or received.

The environment decides neither trust nor route: no proxy, no trust and no key log is taken from it, other than the
two that are passed in by name.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from ostiary.vault.kms.faults import KeyServiceMisnamed, KeyServiceUnreachable

SECONDS = 10.0
MOST_BYTES = 64 * 1024


class Answer(NamedTuple):
    """Status and body of an answer, at most 64 KiB."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def later(self) -> bool:
        """Whether the same call may work in a while."""
        return self.status >= 500 or self.status in {408, 429}

    @property
    def document(self) -> dict[str, object]:
        """The body as a JSON object; empty when it is none."""
        try:
            return msgspec.json.decode(self.body, type=dict[str, object])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return {}

    def text(self, *path: str) -> str:
        """The text at a path of member names; empty when there is none."""
        found: object = self.document
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        return found if isinstance(found, str) else ""


class Client:
    """Calls a key service.

    Args:
        ca_file: a PEM file that replaces the system's roots.
        proxy: `http://host:port` of a proxy to go through; the TLS session still ends at the service.
    """

    def __init__(self, *, ca_file: str | None = None, proxy: str | None = None) -> None:
        self._ca_file = ca_file
        self._proxy = proxy

    async def get(self, url: str, headers: Mapping[str, str]) -> Answer:
        """GET, for the metadata service of a cloud machine."""
        return await self._call("GET", url, headers, b"")

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """POST.

        Raises:
            KeyServiceUnreachable: no connection, no trust, no answer in time, a redirect, or more than 64 KiB.
        """
        return await self._call("POST", url, headers, body)

    async def _call(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        import httpx2  # 130 ms, for a call or two in the life of a process

        where = urlsplit(url).netloc
        try:
            async with (
                httpx2.AsyncClient(
                    verify=self._trust(),
                    proxy=self._proxy if url.startswith("https://") else None,  # a proxy sees tunnels, never a token
                    timeout=SECONDS,
                    trust_env=False,
                    follow_redirects=False,
                ) as client,
                client.stream(method, url, headers={"accept-encoding": "identity", **headers}, content=body) as reply,
            ):
                if reply.is_redirect:
                    raise KeyServiceUnreachable(where, "it redirects, which is not followed; name the server itself")
                received = bytearray()
                async for chunk in reply.aiter_raw():
                    received += chunk
                    if len(received) > MOST_BYTES:
                        raise KeyServiceUnreachable(where, f"it answered with more than {MOST_BYTES} bytes")
                return Answer(reply.status_code, bytes(received), dict(reply.headers))
        except httpx2.TimeoutException:
            raise KeyServiceUnreachable(where, f"no answer in {SECONDS:.0f} s") from None
        except httpx2.HTTPError as error:
            raise KeyServiceUnreachable(where, _reason(error)) from None

    def _trust(self) -> ssl.SSLContext:
        import httpx2  # as above

        if self._ca_file is None:
            context = httpx2.create_ssl_context(trust_env=False)  # the system's roots, whatever SSL_CERT_FILE says
        else:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            try:
                context.load_verify_locations(cafile=self._ca_file)
            except OSError as error:
                why = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
                raise KeyServiceMisnamed(
                    f"the CA file {self._ca_file} for the key service cannot be used: {why}"
                ) from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context


def origin_of(text: str, name: str) -> str:
    """The address of a service from the environment, without a slash at its end.

    Plain HTTP is for this machine only: a token on the wire would open the vault.

    Args:
        text: `https://host[:port][/prefix]`, or `http://` to a loopback address.
        name: the variable, for the refusal.

    Raises:
        KeyServiceMisnamed: for anything else.
    """
    parts = urlsplit(text)
    try:
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    if not host or parts.username is not None or parts.query or parts.fragment or not text.isprintable() or " " in text:
        raise KeyServiceMisnamed(f"{name} is no address; it has the form https://host:port")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        raise KeyServiceMisnamed(f"{name} must begin with https:// (http:// is for a loopback address only)")
    return text.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _reason(error: BaseException) -> str:
    """Why a call failed, in words of our own."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return "its certificate is not trusted; for an authority of your own set OSTIARY_KMS_CA_FILE"
        if isinstance(seen, ssl.SSLError):
            return "the TLS handshake failed"
        if isinstance(seen, ConnectionRefusedError):
            return "the connection is refused"
        seen = seen.__cause__ or seen.__context__
    return f"the call failed ({type(error).__name__})"
