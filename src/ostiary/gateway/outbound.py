"""The head of a request to a provider: path, host, credential, headers. It must not take a host from anywhere else.

Everything but the length, the body's type and the forwarded headers is fixed per deployment and endpoint, so it is
written once and kept.
"""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from ostiary.core.fault import Fault, Kind
from ostiary.core.operation import Endpoint
from ostiary.core.snapshot import Deployment, UrlStyle
from ostiary.gateway.signing.static import auth_line
from ostiary.gateway.upstream.origin import Origin, origin_of

USER_AGENT = "ostiary"


class Outbound:
    """How to write to one deployment.

    Attributes:
        origin: the one place its connections go.
        timeouts: for answers in one piece; `stream_timeouts`: for streams.
    """

    __slots__ = ("_auth", "_fixed", "_prefixes", "deployment", "forward", "origin", "stream_timeouts", "timeouts")

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.origin: Origin | None = None if deployment.scheme == "demo" else origin_of(deployment)
        self.forward = frozenset(name.encode() for name in deployment.forward_headers)
        self.timeouts = self.stream_timeouts = deployment.timeouts
        if deployment.stream_timeout is not None:
            self.stream_timeouts = msgspec.structs.replace(deployment.timeouts, first_byte=deployment.stream_timeout)
        self._auth = auth_line(deployment)
        self._fixed = b"".join(f"{name}: {value}\r\n".encode() for name, value in deployment.headers)
        self._prefixes: dict[str, bytes] = {}

    def serves(self, deployment: Deployment) -> bool:
        """Whether this is also the way to `deployment`: the same one, or the same wildcard's for another model."""
        own = self.deployment
        return own is deployment or (
            own.id == deployment.id
            and own.credential is deployment.credential
            and (own.scheme, own.host, own.port, own.base_path, own.headers)
            == (deployment.scheme, deployment.host, deployment.port, deployment.base_path, deployment.headers)
        )

    def head(
        self,
        endpoint: Endpoint,
        model: str,
        item: str,
        content_type: bytes,
        length: int,
        client_headers: list[tuple[bytes, bytes]],
    ) -> bytes:
        """The complete request head, ending in an empty line.

        Args:
            model: the provider's name of the model; part of the path where the provider wants it there.
            item: the provider's id of a file or batch, for paths that name one.
            content_type: of the body; ignored where there is no body.
            length: of the body in bytes.
            client_headers: from which the few that may travel on are taken.
        """
        key = endpoint.name if self.deployment.url_style is UrlStyle.OPENAI else f"{endpoint.name}\0{model}"
        prefix = self._prefixes.get(key) if not item else None
        if prefix is None:
            prefix = self._prefix(endpoint, model, item)
            if not item and len(self._prefixes) < 256:
                self._prefixes[key] = prefix
        extra = self._forwarded(client_headers) if self.forward else b""
        if endpoint.method in ("GET", "DELETE"):
            return b"%s%s\r\n" % (prefix, extra)
        return b"%s%scontent-type: %s\r\ncontent-length: %d\r\n\r\n" % (prefix, extra, content_type, length)

    def _prefix(self, endpoint: Endpoint, model: str, item: str) -> bytes:
        assert self.origin is not None
        default_port = 443 if self.origin.scheme == "https" else 80
        host = self.origin.authority
        if self.origin.port == default_port:
            host = host.rpartition(":")[0]
        lines = (
            f"{endpoint.method} {self.path(endpoint, model, item)} HTTP/1.1\r\n"
            f"host: {host}\r\nuser-agent: {USER_AGENT}\r\naccept: */*\r\naccept-encoding: identity\r\n"
        )
        return lines.encode("ascii") + self._auth + self._fixed

    def path(self, endpoint: Endpoint, model: str, item: str) -> str:
        """The request target. Names from outside are percent-encoded into one segment.

        Raises:
            Fault: INVALID_REQUEST for a name that no encoding keeps from being a step in the path.
        """
        deployment = self.deployment
        below = dict(deployment.paths).get(endpoint.name, endpoint.path)
        if item:
            below = below.replace("{id}", _segment(item))
        version = f"?api-version={quote(deployment.api_version)}" if deployment.api_version else ""
        if deployment.url_style is UrlStyle.AZURE and model and "{id}" not in endpoint.path:
            return f"{deployment.base_path}/openai/deployments/{_segment(model)}{below}{version}"
        if deployment.url_style is UrlStyle.AZURE:
            return f"{deployment.base_path}/openai{below}{version}"
        return f"{deployment.base_path}{below}{version}"

    def _forwarded(self, client_headers: list[tuple[bytes, bytes]]) -> bytes:
        return b"".join(b"%s: %s\r\n" % (name, value) for name, value in client_headers if name in self.forward)


def _segment(name: str) -> str:
    if name in (".", ".."):
        raise Fault(Kind.INVALID_REQUEST, "this name cannot be part of a path", param="model")
    return quote(name, safe="")
