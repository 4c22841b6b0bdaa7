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
from ostiary.wire.dialects.openai_chat.values import FAMILY
from ostiary.wire.registry import SPOKEN

USER_AGENT = "ostiary"
_IN_PATH = "/:@!$&'()*+,=~"


class Call(msgspec.Struct, frozen=True):
    """What one request to a provider is about.

    Attributes:
        model: the provider's name of the model; part of the path where the provider wants it there.
        item: the provider's id of a file or batch, for paths that name one.
        chat: the dialect of a conversation, whichever endpoint it came by; `stream`: and it is to be a stream.
        below: the path below the base URL, ready, in place of the endpoint's.
        query: with its mark, for a path that is relayed as it stands, or of what is asked about an item.
    """

    endpoint: Endpoint
    model: str = ""
    item: str = ""
    chat: Dialect | None = None
    stream: bool = False
    below: str = ""
    query: str = ""


class Outbound:
    """How to write to one deployment.

    Attributes:
        origin: the one place its connections go.
        timeouts: for answers in one piece; `stream_timeouts`: for streams.
        signer: where each request is signed, or by a token that changes; None where the credential is a fixed header.
    """

    __slots__ = (
        "_auth", "_defaults", "_fixed", "_prefixes", "_replaceable", "deployment", "forward", "origin", "signer",
        "stream_timeouts", "timeouts",
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
        fixed = [(name.encode(), value.encode()) for name, value in deployment.headers]
        self._fixed = b"".join(b"%s: %s\r\n" % pair for pair in fixed if pair[0] not in self.forward)
        self._replaceable = [pair for pair in fixed if pair[0] in self.forward]
        self._prefixes: dict[tuple[str, str, bool], bytes] = {}
        self._defaults: Conversation | None = None

    def serves(self, deployment: Deployment) -> bool:
        """Whether this is also the way to `deployment`: the same one, or the same wildcard's for another model."""
        own = self.deployment
        return own is deployment or (
            own.id == deployment.id
            and own.credential is deployment.credential
            and own.identity == deployment.identity
            and (own.scheme, own.host, own.port, own.base_path, own.headers)
            == (deployment.scheme, deployment.host, deployment.port, deployment.base_path, deployment.headers)
        )

    def head(
        self,
        call: Call,
        content_type: bytes,
        length: int,
        client_headers: list[tuple[bytes, bytes]],
        signature: bytes = b"",
    ) -> bytes:
        """The complete request head, ending in an empty line.

        Args:
            content_type: of the body; ignored where there is no body.
            length: of the body in bytes.
            client_headers: from which the few that may travel on are taken.
            signature: header lines of the signer.

        Raises:
            Fault: as `target`.
        """
        kept = not (call.item or call.query or call.endpoint.name == PLAIN)
        key = (call.chat.name if call.chat is not None else call.below or call.endpoint.name, call.model, call.stream)
        prefix = self._prefixes.get(key) if kept else None
        if prefix is None:
            prefix = self._prefix(call.endpoint.method, self.target(call))
            if kept and len(self._prefixes) < 256:
                self._prefixes[key] = prefix
        extra = (self._forwarded(client_headers) if self.forward else b"") + signature
        if call.endpoint.method in ("GET", "DELETE"):
            return b"%s%s\r\n" % (prefix, extra)
        return b"%s%scontent-type: %s\r\ncontent-length: %d\r\n\r\n" % (prefix, extra, content_type, length)

    def opening(self, method: str, path: str, client_headers: list[tuple[bytes, bytes]], signature: bytes) -> bytes:
        """A request head as far as its last header line, for one that goes on with lines of its own."""
        return self._prefix(method, path) + (self._forwarded(client_headers) if self.forward else b"") + signature

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

    def target(self, call: Call) -> str:
        """The request target of a call, with its query.

        Raises:
            Fault: INVALID_REQUEST for a name that no encoding keeps from being a step in the path.
        """
        if call.chat is not None:
            return self._chat_path(call.chat, call.model, stream=call.stream)
        if call.below:
            return f"{self.deployment.base_path}{call.below}{self._version}"
        if call.item and call.endpoint.dialect not in FAMILY:
            return self._below_chat(SPOKEN[call.endpoint.dialect], call)
        return self._path(call.endpoint, call.model, call.item) + call.query

    def _chat_path(self, dialect: Dialect, model: str, *, stream: bool) -> str:
        deployment = self.deployment
        paths = dict(deployment.paths)
        below = paths.get(f"{dialect.name}.stream" if stream else dialect.name) or paths.get(dialect.name)
        if below is None and dialect.name in FAMILY:
            below = paths.get(dialect.endpoints[0].name)
        below = dialect.path(model, stream) if below is None else below.replace("{model}", segment(model))
        if deployment.url_style is not UrlStyle.AZURE:
            return f"{deployment.base_path}{below}{self._version}"
        if dialect.name in FAMILY:
            return f"{deployment.base_path}/openai/deployments/{segment(model)}{below}{self._version}"
        return f"{deployment.base_path}/openai/v1{below}"  # what is newer than deployments has no other address

    def _below_chat(self, dialect: Dialect, call: Call) -> str:
        """The path of an item that stands below the one where it was made."""
        path, _, version = self._chat_path(dialect, call.model, stream=False).partition("?")
        _, _, tail = call.endpoint.path.partition("{id}")
        query = "&".join(part for part in (version, call.query.removeprefix("?")) if part)
        return f"{path}/{segment(call.item)}{tail}" + (f"?{query}" if query else "")

    @property
    def _version(self) -> str:
        version = self.deployment.api_version
        return f"?api-version={quote(version)}" if version else ""

    def _path(self, endpoint: Endpoint, model: str, item: str) -> str:
        """Names from outside are percent-encoded into one segment."""
        deployment = self.deployment
        if endpoint.name == PLAIN:
            whole = endpoint.path.startswith(f"{deployment.base_path}/")  # the caller wrote the version too
            return quote(endpoint.path if whole else deployment.base_path + endpoint.path, safe=_IN_PATH)
        below = dict(deployment.paths).get(endpoint.name, endpoint.path)
        if item:
            below = below.replace("{id}", segment(item))
        if "{model}" in below:
            below = below.replace("{model}", segment(model))
        version = self._version
        if deployment.url_style is UrlStyle.AZURE and model and "{id}" not in endpoint.path:
            return f"{deployment.base_path}/openai/deployments/{segment(model)}{below}{version}"
        if deployment.url_style is UrlStyle.AZURE:
            return f"{deployment.base_path}/openai{below}{version}"
        return f"{deployment.base_path}{below}{version}"

    def _forwarded(self, client_headers: list[tuple[bytes, bytes]]) -> bytes:
        """The client's headers that may travel on, in place of the fixed ones of the same names."""
        told = [(name, value) for name, value in client_headers if name in self.forward]
        named = {name for name, _ in told}
        told += [(name, value) for name, value in self._replaceable if name not in named]
        return b"".join(b"%s: %s\r\n" % pair for pair in told)


def segment(name: str) -> str:
    """A name as one segment of a path.

    Raises:
        Fault: INVALID_REQUEST for one that is a step in a path whatever its encoding.
    """
    if name in (".", ".."):
        raise Fault(Kind.INVALID_REQUEST, "this name cannot be part of a path", param="model")
    return quote(name, safe="")
