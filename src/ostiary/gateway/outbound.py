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
from ostiary.gateway.ports import PLAIN
from ostiary.gateway.signing.signer import Signer, host_of
from ostiary.gateway.signing.static import auth_line
from ostiary.gateway.upstream.origin import Origin, origin_of
from ostiary.wire.conversation.conversation import Conversation
from ostiary.wire.dialect import Dialect
from ostiary.wire.dialects.openai_chat.request import decode_request

USER_AGENT = "ostiary"
_IN_PATH = "/:@!$&'()*+,=~"


class Outbound:
    """How to write to one deployment.

    Attributes:
        origin: the one place its connections go.
        timeouts: for answers in one piece; `stream_timeouts`: for streams.
        signer: where each request is signed, or by a token that changes; None where the credential is a fixed header.
    """

    __slots__ = (
        "_auth", "_defaults", "_fixed", "_prefixes", "deployment", "forward", "origin", "signer", "stream_timeouts",
        "timeouts",
    )  # fmt: skip

    def __init__(self, deployment: Deployment, signer: Signer | None = None) -> None:
        self.deployment = deployment
        self.signer = signer
        self.origin: Origin | None = None if deployment.scheme == "demo" else origin_of(deployment)
        self.forward = frozenset(name.encode() for name in deployment.forward_headers)
        self.timeouts = self.stream_timeouts = deployment.timeouts
        if deployment.stream_timeout is not None:
            self.stream_timeouts = msgspec.structs.replace(deployment.timeouts, first_byte=deployment.stream_timeout)
        self._auth = auth_line(deployment) if signer is None else b""
        self._fixed = b"".join(f"{name}: {value}\r\n".encode() for name, value in deployment.headers)
        self._prefixes: dict[tuple[str, str, bool], bytes] = {}
        self._defaults: Conversation | None = None

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
        *,
        chat: Dialect | None = None,
        stream: bool = False,
        signature: bytes = b"",
        query: str = "",
    ) -> bytes:
        """The complete request head, ending in an empty line.

        Args:
            model: the provider's name of the model; part of the path where the provider wants it there.
            item: the provider's id of a file or batch, for paths that name one.
            content_type: of the body; ignored where there is no body.
            length: of the body in bytes.
            client_headers: from which the few that may travel on are taken.
            chat: the dialect of a conversation, whichever endpoint it came by; `stream`: and it is to be a stream.
            signature: header lines of the signer.
            query: with its mark, for a path that is relayed as it stands.
        """
        key = (chat.name if chat is not None else endpoint.name, model, stream)
        kept = not item and endpoint.name != PLAIN
        prefix = self._prefixes.get(key) if kept else None
        if prefix is None:
            path = self.target(endpoint, model, item, chat=chat, stream=stream) + query
            prefix = self._prefix(endpoint.method, path)
            if kept and len(self._prefixes) < 256:
                self._prefixes[key] = prefix
        extra = (self._forwarded(client_headers) if self.forward else b"") + signature
        if endpoint.method in ("GET", "DELETE"):
            return b"%s%s\r\n" % (prefix, extra)
        return b"%s%scontent-type: %s\r\ncontent-length: %d\r\n\r\n" % (prefix, extra, content_type, length)

    def _prefix(self, method: str, path: str) -> bytes:
        lines = (
            f"{method} {path} HTTP/1.1\r\nhost: {host_of(self.deployment)}\r\n"
            f"user-agent: {USER_AGENT}\r\naccept: */*\r\naccept-encoding: identity\r\n"
        )
        return lines.encode("ascii") + self._auth + self._fixed

    @property
    def defaults(self) -> Conversation:
        """The deployment's defaults as a conversation without messages; they are written as OpenAI's are."""
        if self._defaults is None:
            members = {name: msgspec.Raw(value) for name, value in self.deployment.defaults}
            self._defaults = decode_request(msgspec.json.encode({**members, "messages": []}))
        return self._defaults

    def target(self, endpoint: Endpoint, model: str, item: str, *, chat: Dialect | None, stream: bool) -> str:
        """The request target: arguments as of `head`."""
        return self.path(endpoint, model, item) if chat is None else self.chat_path(chat, model, stream=stream)

    def chat_path(self, dialect: Dialect, model: str, *, stream: bool) -> str:
        """The request target of a conversation in one of the deployment's dialects.

        Raises:
            Fault: INVALID_REQUEST for a model's name that no encoding keeps from being a step in the path.
        """
        deployment = self.deployment
        paths = dict(deployment.paths)
        below = paths.get(f"{dialect.name}.stream" if stream else dialect.name) or paths.get(dialect.name)
        if below is None and dialect.name == "openai_chat":
            below = paths.get("chat.completions")
        below = dialect.path(model, stream) if below is None else below.replace("{model}", _segment(model))
        if deployment.url_style is not UrlStyle.AZURE:
            return f"{deployment.base_path}{below}{self._version}"
        if dialect.name == "openai_chat":
            return f"{deployment.base_path}/openai/deployments/{_segment(model)}{below}{self._version}"
        return f"{deployment.base_path}/openai/v1{below}"  # what is newer than deployments has no other address

    @property
    def _version(self) -> str:
        version = self.deployment.api_version
        return f"?api-version={quote(version)}" if version else ""

    def path(self, endpoint: Endpoint, model: str, item: str) -> str:
        """The request target. Names from outside are percent-encoded into one segment.

        Raises:
            Fault: INVALID_REQUEST for a name that no encoding keeps from being a step in the path.
        """
        deployment = self.deployment
        if endpoint.name == PLAIN:
            whole = endpoint.path.startswith(f"{deployment.base_path}/")  # the caller wrote the version too
            return quote(endpoint.path if whole else deployment.base_path + endpoint.path, safe=_IN_PATH)
        below = dict(deployment.paths).get(endpoint.name, endpoint.path)
        if item:
            below = below.replace("{id}", _segment(item))
        if "{model}" in below:
            below = below.replace("{model}", _segment(model))
        version = self._version
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
