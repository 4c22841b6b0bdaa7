"""The ports of the data plane: what it is given by `cli.bootstrap`. It must not know who implements them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec

from ostiary.core.fault import Fault, Kind
from ostiary.core.kept import KeptResponse
from ostiary.core.key import VirtualKey
from ostiary.core.operation import Endpoint
from ostiary.core.record import Record

PLAIN = "native"  # Endpoint.name of what is relayed as it stands


class Route(msgspec.Struct, frozen=True):
    """A matched data-plane route: the endpoint and what the path named."""

    endpoint: Endpoint
    model: str = ""  # from /openai/deployments/{model}/… or /engines/{model}/…
    item: str = ""  # the {id} of a file, batch or model
    native: str = ""  # of a native pass-through: the provider, or the id of the operator's target
    full: str = ""  # of a native pass-through: the path as asked


class WrongMethod(Fault):
    """METHOD_NOT_ALLOWED; `allow` is the header line that names the methods which the path takes (RFC 9110, 15.5.6)."""

    __slots__ = ("allow",)

    def __init__(self, public: str, methods: Iterable[bytes]) -> None:
        super().__init__(Kind.METHOD_NOT_ALLOWED, public)
        self.allow = b"allow: %b\r\n" % b", ".join(sorted(methods))


class Inbound(Protocol):
    """One request as the exchange sees it, whoever reads it from the network.

    The adapter cancels the exchange's task at once when the client goes away, after setting `gone`.
    Header names are lower-case. `head` arguments are complete header lines, each ending in CRLF, without
    Content-Length, Transfer-Encoding, Connection and Date, which the adapter adds.
    """

    method: str
    path: str
    query: bytes
    peer: str
    headers: list[tuple[bytes, bytes]]
    gone: bool
    started: bool  # the first byte of the answer has been handed to the transport: the commit point
    writable: bool  # False while the client does not take bytes
    on_writable: Callable[[], None] | None  # called when `writable` turns True again
    on_blocked: Callable[[], None] | None  # called when `writable` turns False

    async def body(self, limit: int) -> bytes:
        """The whole request body.

        Raises:
            Fault: TOO_LARGE beyond `limit` bytes, CLIENT_TIMEOUT when it does not arrive in time.
        """
        ...

    def answer(self, status: int, head: bytes, body: bytes) -> None:
        """The whole answer in one write, with Content-Length."""
        ...

    def start(self, status: int, head: bytes, length: int | None = None) -> None:
        """Begin an answer of unknown length (chunked), or of `length` bytes; may be held back until the first write."""
        ...

    def write(self, data: bytes) -> None:
        """Send a piece of the answer."""
        ...

    def end(self) -> None:
        """The normal end of the answer."""
        ...

    def abort(self) -> None:
        """Cut the connection, so that a half answer cannot be taken for a whole one."""
        ...

    async def drain(self) -> None:
        """Wait until the client takes bytes again."""
        ...


class Door(Protocol):
    """What the edge calls: the data plane's front."""

    def route(self, method: bytes, path: str) -> Route | None:
        """The route of a canonical path; None sends the request to the ASGI application.

        Raises:
            WrongMethod: where only the method is wrong.
        """
        ...

    async def serve(self, inbound: Inbound, route: Route) -> None:
        """Answer one request. Never raises but for cancellation."""
        ...


class KeySource(Protocol):
    """Where the key index asks for keys it does not hold."""

    async def find(self, digest: bytes) -> VirtualKey | None:
        """The key with this digest, or None if there is none.

        Raises:
            Fault: UNAVAILABLE when the store cannot be asked. Never answers None in its place.
        """
        ...


class ResponseStore(Protocol):
    """Where responses are kept for their owners. One of another organisation or owner is as if it were not there."""

    async def put(self, responses: Sequence[KeptResponse]) -> None:
        """Keep them. One that is there already stays; those of an organisation without keys are let go of.

        Raises:
            Fault: UNAVAILABLE when the store cannot be asked.
        """
        ...

    async def get(self, org_id: str, owner: str, response_id: str) -> KeptResponse | None:
        """One that has not expired, None where there is none.

        Raises:
            Fault: UNAVAILABLE when the store cannot be asked.
        """
        ...

    async def delete(self, org_id: str, owner: str, response_id: str) -> bool:
        """Forget one; False where there was none.

        Raises:
            Fault: UNAVAILABLE when the store cannot be asked.
        """
        ...


class RecordSink(Protocol):
    """Where settled records go for good."""

    async def save(self, records: Sequence[Record]) -> None:
        """Store settled records, rollups and spend in one transaction. Idempotent by `Record.id`.

        Raises on failure; the caller keeps the records and tries again.
        """
        ...
