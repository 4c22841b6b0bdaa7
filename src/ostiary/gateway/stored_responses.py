"""What is asked about a response that is kept: it, its items, its end. It must not show one to anybody but its owner.

One that a provider keeps is asked for where it was made; one that is kept here is answered from here. Somebody else's,
a forged name and one that never existed are one answer. Source: official Python SDK 3.54, `resources.responses`.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec

from ostiary.core.fault import Fault, Kind
from ostiary.core.price import PriceState
from ostiary.core.record import Outcome
from ostiary.core.snapshot import Deployment
from ostiary.gateway.answer import JSON, media_type
from ostiary.gateway.conversations import PREVIOUS, Kept, opened, page, parsed, with_members
from ostiary.gateway.exchange import Exchange
from ostiary.gateway.ledger.account import Estimate
from ostiary.gateway.objects import MARK, RESPONSE, PlainAsk, absent, owner_of
from ostiary.gateway.plane import Plane
from ostiary.gateway.policy.keeping import keeping, not_kept
from ostiary.gateway.ports import Inbound, Route
from ostiary.gateway.remembered import Remembered
from ostiary.gateway.responses import word_of
from ostiary.gateway.upstream.response import Response

DELETE, ITEMS, CANCEL = "responses.delete", "responses.items", "responses.cancel"  # Endpoint.name
# Parameters that may travel to a provider.
_FORWARDED = frozenset({"after", "limit", "order", "include", "include[]"})
_encode = msgspec.json.Encoder().encode


class StoredResponses(Exchange):
    """One request about a response that is kept. It costs nothing."""

    __slots__ = ("_own",)

    def __init__(self, plane: Plane, inbound: Inbound, route: Route) -> None:
        super().__init__(plane, inbound, route)
        self._own: bytes | None = None  # the answer, where it is given from here

    async def _place(self, body: bytes) -> tuple[str, tuple[Deployment, ...]]:
        del body
        key, name, remembered = self.account.key, self.route.item, self.plane.responses
        allowed = remembered is not None and keeping(self.snapshot, key) is not None
        if not allowed and self.route.endpoint.name != DELETE:  # what is kept may always be deleted
            raise not_kept(self.snapshot, status=404)
        asked = parsed(self.inbound.query)
        if asked.get("stream") == "true" or "starting_after" in asked:
            public = "a response that is kept is not told as a stream; ask for it until its status is final"
            raise Fault(Kind.INVALID_REQUEST, public, param="stream")
        if name.startswith(f"{RESPONSE}{MARK}"):
            deployment, self.item = self.plane.objects.open_response(self.snapshot, key, name)
            self.pinned, self.query = True, _forwarded(self.inbound.query)
            self.ask = PlainAsk(b"", JSON, deployment.model_name)
            return deployment.model_name, (deployment,)
        if remembered is None:
            raise absent()
        self.ask = PlainAsk(b"", JSON, "")
        self._own = await self._answered(remembered, name)
        return "", ()

    async def _answered(self, remembered: Remembered, name: str) -> bytes:
        """The answer about a response that is kept here.

        Raises:
            Fault: NOT_FOUND; UNAVAILABLE.
        """
        key, endpoint = self.account.key, self.route.endpoint.name
        place = key.organization_id, owner_of(key), name
        if endpoint == DELETE:
            if not await remembered.delete(*place):
                raise absent()
            return _encode({"id": name, "object": "response.deleted", "deleted": True})
        found = await remembered.get(*place)
        if found is None:
            raise absent()
        kept: Kept = opened(found.body)
        if endpoint == CANCEL:
            public = "only a response that is made in the background can be cancelled, and this one is complete"
            raise Fault(Kind.INVALID_REQUEST, public)
        return page(kept, name, self.inbound.query) if endpoint == ITEMS else bytes(kept.response)

    def reserve(self, deployments: tuple[Deployment, ...]) -> None:
        """See `Exchange.reserve`."""
        del deployments
        self.entry.reserve(Estimate(), PriceState.FREE)

    async def _attempt(self, group: str, deployments: tuple[Deployment, ...]) -> None:
        if self._own is None:
            await super()._attempt(group, deployments)
            return
        self.settle_nothing(Outcome.COMPLETED, 200)
        self.inbound.answer(200, self.head(JSON, cost=0), self._own)

    def _body_for(self, target: Deployment) -> bytes:
        del target
        self.translation, self.provider = None, self.dialect
        return b""

    def answer(self, body: bytes, kind: bytes) -> None:
        """A provider's document, with its names."""
        key, objects = self.account.key, self.plane.objects
        changes: dict[str, Any] = {}
        for member in ("id", PREVIOUS):
            upstream_id = word_of(body, member)
            if upstream_id == self.item:
                changes[member] = self.route.item
            elif upstream_id.startswith(RESPONSE):
                changes[member] = objects.response_name(self.target, key, upstream_id)
        self.settle_nothing(Outcome.COMPLETED, 200)
        self.inbound.answer(200, self.head(media_type(kind), cost=0), with_members(body, changes))

    async def rejected(self, response: Response) -> Fault:
        """See `Sending.rejected`. That the provider has none says nothing of its health."""
        fault = await super().rejected(response)
        if fault.status == 404:
            return absent()
        if fault.answer is not None:
            fault.answer = fault.answer.replace(self.item.encode(), self.route.item.encode())
        return fault


def _forwarded(query: bytes) -> str:
    """What of a query travels on, with its mark."""
    pairs = [pair for pair in parse_qsl(query.decode("ascii")) if pair[0] in _FORWARDED]
    return f"?{urlencode(pairs)}" if pairs else ""
