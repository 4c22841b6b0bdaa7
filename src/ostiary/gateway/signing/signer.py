"""Signs the requests of one deployment, for that deployment's host alone (law 7). It must not keep a request.

`lines` answers at once where it can; where it gives None, `ready` is awaited first. Deployments with equal identities
share one token, across reloads of the configuration too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Protocol

from ostiary.core.clock import Clock
from ostiary.core.fault import Fault
from ostiary.core.identity import AwsIdentity, EntraIdentity, GoogleIdentity, Identity
from ostiary.core.secret import Secret
from ostiary.core.snapshot import Deployment
from ostiary.gateway.signing.aws import AwsSource, static_keys
from ostiary.gateway.signing.entra import EntraSource
from ostiary.gateway.signing.google import GoogleSource
from ostiary.gateway.signing.sigv4 import EMPTY_BODY, AwsCredentials, signature_lines
from ostiary.gateway.signing.static import auth_line
from ostiary.gateway.signing.tokens import Fixed, NoToken, Source, Tokens
from ostiary.gateway.upstream.origin import origin_of


class Signer(Protocol):
    """The port of the exchange: how a request to one deployment is signed."""

    def lines(self, method: str, host: str, path: str, body: bytes, now: float) -> bytes | None:
        """The header lines that carry the credential; None: await `ready` and ask again.

        Args:
            method: upper-case.
            host: the value of the request's `host` header.
            path: the target as it stands in the request line, query included.
            body: as it is sent.
            now: seconds since the epoch.

        Raises:
            ValueError: the request is for another host than the deployment's.
        """
        ...

    async def ready(self) -> None:
        """Wait until `lines` answers.

        Raises:
            NoToken: there is no credential now (UPSTREAM_AUTH; another target may have one).
        """
        ...

    def refused(self) -> None:
        """The provider answered 401, or 403 with an expired credential: what was used last is fetched anew."""
        ...


class _Bound:
    """What all signers have in common: the one host they sign for."""

    __slots__ = ("_host",)

    def __init__(self, deployment: Deployment) -> None:
        self._host = host_of(deployment)

    def check(self, host: str) -> None:
        """Raises ValueError for any other host."""
        if host != self._host:
            raise ValueError("a signer signs for the host of its deployment only")


class StaticSigner(_Bound):
    """A credential that is a header as it stands."""

    __slots__ = ("_lines",)

    def __init__(self, deployment: Deployment) -> None:
        super().__init__(deployment)
        self._lines = auth_line(deployment)

    def lines(self, method: str, host: str, path: str, body: bytes, now: float) -> bytes | None:  # noqa: ARG002 (port)
        """See `Signer`."""
        self.check(host)
        return self._lines

    async def ready(self) -> None:
        """See `Signer`."""

    def refused(self) -> None:
        """Nothing: there is no other one."""


class BearerSigner(_Bound):
    """An access token that is fetched anew before it ends: Google and Entra."""

    __slots__ = ("_clock", "_last", "_source")

    def __init__(self, deployment: Deployment, source: Source[Secret], clock: Clock) -> None:
        super().__init__(deployment)
        self._source = source
        self._clock = clock
        self._last: tuple[Secret, bytes] | None = None

    def lines(self, method: str, host: str, path: str, body: bytes, now: float) -> bytes | None:  # noqa: ARG002 (port)
        """See `Signer`."""
        self.check(host)
        token = self._source.peek(now)
        if token is None:
            return None
        if self._last is None or self._last[0] is not token:
            self._last = (token, f"authorization: Bearer {token.reveal()}\r\n".encode("ascii"))
        return self._last[1]

    async def ready(self) -> None:
        """See `Signer`."""
        await self._source.current(self._clock.now())

    def refused(self) -> None:
        """See `Signer`."""
        if self._last is not None:
            self._source.refused(self._last[0])


class AwsSigner(_Bound):
    """Signature Version 4 over method, path, query, host, body and the `x-amz-` headers of the deployment."""

    __slots__ = ("_clock", "_headers", "_last", "_region", "_service", "_source")

    def __init__(
        self, deployment: Deployment, identity: AwsIdentity, source: Source[AwsCredentials], clock: Clock
    ) -> None:
        super().__init__(deployment)
        self._source = source
        self._clock = clock
        self._region = identity.region
        self._service = identity.service
        self._headers = {name: value for name, value in deployment.headers if name.startswith("x-amz-")}
        self._last: AwsCredentials | None = None

    def lines(self, method: str, host: str, path: str, body: bytes, now: float) -> bytes | None:
        """See `Signer`."""
        self.check(host)
        credentials = self._last = self._source.peek(now)
        if credentials is None:
            return None
        return signature_lines(
            method,
            host,
            path,
            hashlib.sha256(body).hexdigest() if body else EMPTY_BODY,
            credentials,
            region=self._region,
            service=self._service,
            now=now,
            headers=self._headers,
        )

    async def ready(self) -> None:
        """See `Signer`."""
        await self._source.current(self._clock.now())

    def refused(self) -> None:
        """See `Signer`."""
        if self._last is not None:
            self._source.refused(self._last)


class Signers:
    """Makes the signers of a policy, and keeps the tokens of identities from one policy to the next.

    Args:
        clock: of the process.
        failed: told of every fetch of a token that failed, with words for the log ("login… answers 401"); they name
            hosts and files, never a secret.
    """

    def __init__(self, clock: Clock, failed: Callable[[str], None] | None = None) -> None:
        self._clock = clock
        self._failed = failed
        self._aws: dict[AwsIdentity, Source[AwsCredentials]] = {}
        self._bearers: dict[GoogleIdentity | EntraIdentity, Source[Secret]] = {}

    def of(self, deployment: Deployment) -> Signer:
        """The signer of a deployment.

        Raises:
            ValueError: its credential cannot stand in a header.
        """
        identity = deployment.identity
        if identity is None:
            return StaticSigner(deployment)
        if isinstance(identity, AwsIdentity):
            return AwsSigner(deployment, identity, self._aws_source(identity), self._clock)
        return BearerSigner(deployment, self._bearer_source(identity), self._clock)

    async def keep(self, deployments: Iterable[Deployment]) -> None:
        """End the fetches of identities that no deployment has any more."""
        kept: set[Identity | None] = {deployment.identity for deployment in deployments}
        gone: list[Source[AwsCredentials] | Source[Secret]] = []
        gone += [self._aws.pop(identity) for identity in list(self._aws) if identity not in kept]
        gone += [self._bearers.pop(identity) for identity in list(self._bearers) if identity not in kept]
        for source in gone:
            await source.close()

    async def close(self) -> None:
        """End everything under way."""
        await self.keep(())

    def _aws_source(self, identity: AwsIdentity) -> Source[AwsCredentials]:
        found = self._aws.get(identity)
        if found is None:
            keys = static_keys(identity)
            found = Fixed(keys) if keys else Tokens(AwsSource(identity, self._clock).fetch, self._clock, self._note)
            self._aws[identity] = found
        return found

    def _bearer_source(self, identity: GoogleIdentity | EntraIdentity) -> Source[Secret]:
        found = self._bearers.get(identity)
        if found is None:
            fetcher = (
                GoogleSource(identity, self._clock)
                if isinstance(identity, GoogleIdentity)
                else EntraSource(identity, self._clock)
            )
            found = self._bearers[identity] = Tokens(fetcher.fetch, self._clock, self._note)
        return found

    def _note(self, fault: Fault) -> None:
        if self._failed is not None:
            self._failed(fault.why if isinstance(fault, NoToken) else fault.public)


def host_of(deployment: Deployment) -> str:
    """The value of the `host` header of requests to a deployment: without the port where it is the scheme's own."""
    if deployment.scheme not in ("http", "https"):
        return ""
    origin = origin_of(deployment)
    default = 443 if origin.scheme == "https" else 80
    return origin.authority.rpartition(":")[0] if origin.port == default else origin.authority
