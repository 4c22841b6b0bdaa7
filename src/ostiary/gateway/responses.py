"""Requests for a response: what they go on from, and what is kept of them. It must not keep what may not be kept.

Three ways, for each attempt. Where nothing may be kept for the key, or the caller wants nothing kept, the provider is
told so. Where something may, a provider that speaks this dialect keeps it in its own way, and the caller knows it by a
name of ours (`gateway.objects`); for all others the conversation is kept here (`gateway.remembered`).

Source: official Python SDK 3.54, `types.responses.ResponseCreateParams`: `store` is true where nobody says otherwise,
`instructions` of an earlier response are not inherited.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from ostiary.core.fault import Fault, Kind
from ostiary.core.kept import KeptResponse
from ostiary.core.snapshot import Deployment, KeepSettings
from ostiary.core.usage import Usage
from ostiary.gateway.conversations import (
    PREVIOUS,
    Kept,
    input_items,
    joined,
    opened,
    refuse_references,
    with_members,
    without_reasoning,
)
from ostiary.gateway.exchange import Exchange
from ostiary.gateway.objects import MARK, RESPONSE, owner_of
from ostiary.gateway.plane import Plane
from ostiary.gateway.policy.keeping import keeping, not_kept
from ostiary.gateway.ports import Inbound, Route
from ostiary.gateway.translation import ObservingTap, TranslatingTap, Translation
from ostiary.gateway.upstream.response import Response
from ostiary.wire.conversation.unknown import Loss
from ostiary.wire.dialect import Answering, Decoder, Dialect, Encoder
from ostiary.wire.framing.sse import event_data, sse_event
from ostiary.wire.governed import Ask, text

CREATED = "responses"  # Endpoint.name
_DATA = b"\ndata: "
_ENDS = frozenset({"response.completed", "response.incomplete"})
_encode = msgspec.json.Encoder().encode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

Finish = Callable[[bytes], bytes]  # a whole response -> the same, as the client is to have it


class _End(msgspec.Struct):
    """The event that ends a stream."""

    type: str
    response: msgspec.Raw


_end = msgspec.json.Decoder(_End).decode


class Responses(Exchange):
    """One request for a response, or to count the tokens of one."""

    __slots__ = ("_foreign", "_items", "_keep", "_named", "_previous")

    def __init__(self, plane: Plane, inbound: Inbound, route: Route) -> None:
        super().__init__(plane, inbound, route)
        self._keep: KeepSettings | None = None  # what may be kept for the key
        self._previous = ""  # what this goes on from, as the caller knows it
        self._foreign = ""  # the same, as the provider that keeps it knows it
        self._items = False  # the conversation so far was kept here, and stands in the request
        self._named = False  # the answer holds ids of the provider that the caller knows by other names

    async def _place(self, body: bytes) -> tuple[str, tuple[Deployment, ...]]:
        group, deployments = await super()._place(body)
        ask = self.ask
        assert isinstance(ask, Ask)
        if self.plane.responses is not None:
            self._keep = keeping(self.snapshot, self.account.key)
        refuse_references(ask.members)
        if self._keep is None and bytes(ask.members.get("background", b"false")) == b"true":
            raise not_kept(self.snapshot, param="background")
        self._previous = text(ask.members, PREVIOUS) if PREVIOUS in ask.members else ""
        if self._previous:
            if self._keep is None:
                raise not_kept(self.snapshot, param=PREVIOUS)
            deployments = await self._go_on(ask, deployments)
        return group, deployments

    # --- what went before ---

    async def _go_on(self, ask: Ask, deployments: tuple[Deployment, ...]) -> tuple[Deployment, ...]:
        """Put before the request what it goes on from; the deployments that can."""
        key, name = self.account.key, self._previous
        if name.startswith(f"{RESPONSE}{MARK}"):
            try:
                home, self._foreign = self.plane.objects.open_response(self.snapshot, key, name)
            except Fault:
                raise _no_previous() from None
            self.alone = True
            return self._at_home(home, deployments)
        assert self.plane.responses is not None
        found = await self.plane.responses.get(key.organization_id, owner_of(key), name)
        if found is None:
            raise _no_previous()
        members = joined(opened(found.body), ask.members)
        whole = Ask(_encode(members), members, ask.model, None)
        whole.max_output, whole.user, whole.own, whole.stream = ask.max_output, ask.user, ask.own, ask.stream
        self.ask, self._items = whole, True
        return deployments

    def _at_home(self, home: Deployment, deployments: tuple[Deployment, ...]) -> tuple[Deployment, ...]:
        """Those of the deployments that reach what `home` keeps: itself, else what stands in the same account."""
        found = tuple(d for d in deployments if d.id == home.id)
        found = found or tuple(d for d in deployments if self.dialect.name in d.dialects and same_account(d, home))
        if not found:
            public = f"{PREVIOUS!r} was made by a model of another provider, which keeps it; go on with that model"
            raise Fault(Kind.INVALID_REQUEST, public, param=PREVIOUS)
        return found

    # --- what is sent ---

    def _body_for(self, target: Deployment) -> bytes:
        body = super()._body_for(target)
        ask = self.ask
        if self.translation is not None or not isinstance(ask, Ask):
            return body
        wanted = bytes(ask.members.get("store", b"true")) != b"false"
        self._named = self._keep is not None and (wanted or bool(self._foreign))
        changes: dict[str, Any] = {}
        if wanted and self._keep is None and self.route.endpoint.name == CREATED:
            changes["store"] = False
        if self._foreign:
            changes[PREVIOUS] = self._foreign
        if self._items:
            changes["input"] = msgspec.Raw(without_reasoning(ask.members["input"]))
        return with_members(body, changes) if changes else body

    def translated(self, answering: Answering, *, strict: bool) -> Translation:
        """See `Sending.translated`. The provider is not told to keep anything: what is kept is kept here."""
        asked = answering.asked
        wanted = asked.store is not False and self._keep is not None
        sent = msgspec.structs.replace(asked, store=None if asked.store else asked.store, previous=None)
        told = msgspec.structs.replace(asked, store=wanted, previous=self._previous or None)
        return _Kept(
            self.dialect,
            self.provider,
            msgspec.structs.replace(answering, asked=sent),
            strict=strict,
            told=msgspec.structs.replace(answering, asked=told),
            finish=self._kept if wanted else None,
        )

    # --- what is answered ---

    def answer(self, body: bytes, kind: bytes) -> None:
        """See `Delivery.answer`."""
        if self.translation is None and self._named and not self.counts:
            body = self._renamed(body)
        super().answer(body, kind)

    def _tap(self, response: Response) -> Any:
        if self.translation is None and self._named:
            return NamingTap(self.provider.decoder(), self.provider.stream_type, self._renamed)
        return super()._tap(response)

    async def rejected(self, response: Response) -> Fault:
        """See `Sending.rejected`. A provider's words about what it keeps name it as the caller does."""
        fault = await super().rejected(response)
        if self._foreign and fault.answer is not None:
            fault.answer = fault.answer.replace(self._foreign.encode(), self._previous.encode())
        return fault

    def _renamed(self, document: bytes) -> bytes:
        """A provider's response under the names that the caller knows."""
        changes: dict[str, Any] = {PREVIOUS: self._previous or None}
        if upstream_id := word_of(document, "id"):
            changes["id"] = self.plane.objects.response_name(self.target, self.account.key, upstream_id)
        return with_members(document, changes)

    def _kept(self, document: bytes) -> bytes:
        """Keep a whole response and the conversation it came of. Without room for it, it says that it is not kept."""
        keep, remembered, ask, key = self._keep, self.plane.responses, self.ask, self.account.key
        assert keep is not None
        assert remembered is not None
        assert isinstance(ask, Ask)
        body = _encode(Kept(msgspec.Raw(document), input_items(ask.members)))
        now = self.plane.clock.now()
        response = KeptResponse(
            org_id=key.organization_id,
            owner=owner_of(key),
            id=f"{RESPONSE}{self.record.id}",
            created=now,
            expires=now + keep.seconds,
            body=body,
        )
        if len(body) <= keep.most_bytes and remembered.keep(response):
            return document
        return with_members(document, {"store": False})


class _Kept(Translation):
    """A translation whose whole answer passes `finish`, None: goes as it is."""

    __slots__ = ("_finish",)

    def __init__(
        self,
        client: Dialect,
        provider: Dialect,
        answering: Answering,
        *,
        strict: bool,
        told: Answering,
        finish: Finish | None,
    ) -> None:
        super().__init__(client, provider, answering, strict=strict, told=told)
        self._finish = finish

    def reply(self, body: bytes) -> tuple[bytes, Usage | None]:
        """See `Translation.reply`."""
        document, usage = super().reply(body)
        return (document if self._finish is None else self._finish(document)), usage

    def tap(self) -> TranslatingTap:
        """See `Translation.tap`."""
        decoder, encoder = self._provider.decoder(), self._client.encoder(self._told)
        if self._finish is None:
            return TranslatingTap(decoder, encoder, self.losses)
        return _KeepingTap(decoder, encoder, self.losses, self._finish)


class _KeepingTap(TranslatingTap):
    """A stream that is told to a client whose last event passes `finish`."""

    __slots__ = ("_finish",)

    def __init__(self, decoder: Decoder, encoder: Encoder, losses: list[Loss], finish: Finish) -> None:
        super().__init__(decoder, encoder, losses)
        self._finish = finish

    def end(self) -> bytes:
        """The last bytes of a whole answer."""
        before, mark, last = super().end().rpartition(_DATA)
        try:
            event = _end(last)
        except _UNREADABLE:
            return before + mark + last
        if event.type not in _ENDS:
            return before + mark + last
        document = bytes(event.response)
        finished = self._finish(document)
        if finished is not document:
            last = with_members(last, {"response": msgspec.Raw(finished)}) + b"\n\n"
        return before + mark + last


class NamingTap(ObservingTap):
    """A stream that is passed on as it comes, but for the names in its responses."""

    __slots__ = ("_rename",)

    def __init__(self, decoder: Decoder, stream_type: bytes, rename: Finish) -> None:
        super().__init__(decoder, stream_type)
        self._rename = rename

    def _passed(self, frames: Sequence[bytes]) -> bytes:
        told: list[bytes] = []
        for frame in frames:
            passed = super()._passed([frame])
            if self.fault is not None:
                break
            told.append(self._told(passed))
        return b"".join(told)

    def _told(self, frame: bytes) -> bytes:
        if b'"response"' not in frame or (data := event_data(frame)) is None:
            return frame  # text holds no quote that is not escaped
        try:
            members = _members(data)
            name = msgspec.json.decode(members["type"], type=str)
            renamed = self._rename(bytes(members["response"]))
        except (*_UNREADABLE, KeyError):
            return frame
        return sse_event(with_members(data, {"response": msgspec.Raw(renamed)}), name.encode())


def same_account(one: Deployment, other: Deployment) -> bool:
    """Whether two deployments reach the same account of the same provider."""
    return (one.scheme, one.host, one.port, one.base_path, one.credential, one.identity) == (
        other.scheme, other.host, other.port, other.base_path, other.credential, other.identity
    )  # fmt: skip


def word_of(document: bytes, member: str) -> str:
    """A member of a document that is a text; empty where it has none."""
    try:
        return msgspec.json.decode(_members(document)[member], type=str)
    except (*_UNREADABLE, KeyError):
        return ""


def _no_previous() -> Fault:
    return Fault(Kind.NOT_FOUND, "there is no such response", status=400, param=PREVIOUS)
