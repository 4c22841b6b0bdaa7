"""The relay of one realtime session: client events judged on their way out, provider events measured on their way in.

It must not wait: every decision is taken within the call that brings an event. It ends once, in `_end`: first all is
settled, then both sides are closed. A session that the provider breaks off never ends normally for the client.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from ostiary.core.fault import Fault, Kind, Origin, Retry
from ostiary.core.record import Outcome
from ostiary.core.snapshot import Deployment
from ostiary.gateway.duplex import Duplex
from ostiary.gateway.ledger.ledger import CLIENT_CLOSED_REQUEST
from ostiary.gateway.turns import Turns
from ostiary.wire.framing.websocket import BROKEN, GOING_AWAY, INTERNAL, NO_CODE, NORMAL, NOT_TEXT, POLICY
from ostiary.wire.realtime.events import (
    APPEND,
    CREATE,
    CREATED,
    DONE,
    ERROR,
    TRANSCRIBED,
    ClientEvent,
    ProviderEvent,
    cancel_event,
    error_event,
    event_id_of,
    most_output,
    read_client,
    read_provider,
    session_of,
    transcriptions_of,
    write_client,
)

if TYPE_CHECKING:
    from ostiary.gateway.realtime import Session

SWITCHED: Final = 101  # the status of a session that was opened
LOOK_SECONDS = 0.5  # between two looks whether the key still holds
MOST_REFUSALS = 100  # events refused in a row; one is forgotten with each look
# Refusals after which the session has no purpose any more.
_LAST = (Kind.BUDGET_EXCEEDED, Kind.UNKNOWN_PRICE, Kind.BLOCKED_KEY, Kind.EXPIRED_KEY, Kind.MODEL_DENIED,
         Kind.UNKNOWN_MODEL, Kind.STOPPING)  # fmt: skip


class Talk:
    """What goes on between two open WebSockets. `provider` is set once it is open, `client` by `run`.

    `deadline` and `expire` are for the sweeper.
    """

    client: Duplex

    def __init__(self, session: Session, target: Deployment, turns: Turns) -> None:
        self.deadline = 0.0
        self.client_listener = FromClient(self)
        self.provider_listener = FromProvider(self)
        self.provider: Duplex | None = None
        self._session = session
        self._plane = session.plane
        self._target = target
        self._turns = turns
        self._over: asyncio.Future[Fault | None] = session.plane.loop.create_future()
        self._early_end = False  # the provider was gone before the client was there
        self._ends = 0.0
        self._counter = 0
        self._refusals = 0
        self._last: Fault | None = None  # the session ends with this once no response is under way
        self._transcriber: tuple[str, Deployment] | None = None

    async def run(self, client: Duplex, ends: float) -> None:
        """Relay until it is over.

        Args:
            client: accepted, not begun.
            ends: loop time at which it must be.

        Raises:
            Fault: the provider broke off.
        """
        self.client, self._ends = client, ends
        self._plane.sweeper.register(self)
        self.expire()
        client.begin()
        self._other.begin()
        if self._early_end:
            self._broken()
        try:
            fault = await asyncio.shield(self._over)
        except asyncio.CancelledError:
            fault = Fault(Kind.STOPPING, "the gateway is stopping", origin=Origin.GATEWAY)
            self._end(GOING_AWAY, fault.public, Outcome.TRUNCATED, fault)
            raise
        if fault is not None and fault.origin is Origin.UPSTREAM:
            raise fault

    def abandon(self) -> None:
        """Leave nothing behind, whichever way it went."""
        self._plane.sweeper.unregister(self)
        if self.provider is not None:
            self.provider.close(NORMAL, "")
        if not self._over.done():
            self._over.cancel()

    @property
    def _other(self) -> Duplex:
        assert self.provider is not None
        return self.provider

    def blocked(self, fault: Fault) -> None:
        """The key is not good any more."""
        self._tell(fault)
        self._end(POLICY, fault.public, Outcome.BLOCKED, fault)

    def expire(self) -> None:
        """Look whether the key still holds, has the model still, and the session may go on."""
        now = self._plane.loop.time()
        try:
            self._session.authorise(self._session.record.model)
        except Fault as fault:
            self.blocked(fault)
            return
        if now >= self._ends:
            self._end(GOING_AWAY, "the session has reached its longest time", Outcome.COMPLETED)
            return
        self._refusals = max(self._refusals - 1, 0)
        self.deadline = min(now + LOOK_SECONDS, self._ends)

    # --- from the client ---

    def from_client(self, payload: bytes, *, text: bool) -> None:
        """Judge a client's event and send it on, or answer it with an error."""
        if self._over.done():
            return
        if not text:
            self._end(NOT_TEXT, "events are text", Outcome.FAILED, Fault(Kind.MALFORMED, "events are text"))
            return
        about = ""
        try:
            event = read_client(payload, self._session.snapshot.limits.max_depth)
            about = event_id_of(event)
            self._judge(event, about)
            forwarded = write_client(event)
        except Fault as fault:
            self._tell(fault, about)
            self._refusals += 1
            if fault.kind in _LAST:
                self._finish_with(fault)
            elif self._refusals > MOST_REFUSALS:  # each may be a record, and costs more here than there
                self._end(POLICY, "too many events that are refused", Outcome.BLOCKED, fault)
            elif not self.client.writable:  # who does not read his errors is not read
                self.client.hold()
            return
        self._turns.add(len(payload), audio=event["type"] == APPEND)
        self._other.send(forwarded)

    def _judge(self, event: ClientEvent, about: str) -> None:
        """Refuse what this session may not do, and reserve for what costs. Names are put into the provider's words.

        Raises:
            Fault: the refusal.
        """
        session = session_of(event)
        if session is not None:
            self._own_model(session)
            for settings in transcriptions_of(session):
                self._transcription(settings)
            self._turns.most_output = most_output(session) or self._turns.most_output
        elif event["type"] == CREATE:
            asked = event.get("response")
            if isinstance(asked, dict):
                self._own_model(asked)
            if self._last is not None:
                raise self._last
            self._session.authorise(self._session.record.model)
            if not about:  # so that an error of the provider says which response it is about
                self._counter += 1
                about = event["event_id"] = f"event_{self._session.record.id}_{self._counter}"
            self._turns.ask(str(about), most_output(asked))

    def _own_model(self, settings: dict[str, object]) -> None:
        """The model of a session stays the one that was authorised."""
        named = settings.get("model")
        if named is None:
            return
        if named not in (self._session.record.model, self._session.asked, self._target.upstream_model):
            public = "a session keeps the model that it was opened with"
            raise Fault(Kind.INVALID_REQUEST, public, param="session.model")
        settings["model"] = self._target.upstream_model

    def _transcription(self, settings: dict[str, object]) -> None:
        """What is said may be transcribed by a model that the key may use, where this deployment's provider has it."""
        named = settings.get("model")
        if named is None:
            return
        if not isinstance(named, str):
            raise Fault(Kind.INVALID_REQUEST, "the name of a model is text", param="transcription.model")
        name, deployments = self._session.reachable(named)
        same = [each for each in deployments if each.provider == self._target.provider]
        if not same:
            public = "the provider of this session has no such model"
            raise Fault(Kind.INVALID_REQUEST, public, param="transcription.model")
        self._session.affordable(same[0])
        settings["model"] = same[0].upstream_model
        self._transcriber = (name, same[0])

    # --- from the provider ---

    def from_provider(self, payload: bytes, *, text: bool) -> None:
        """Measure a provider's event, then send it on."""
        if self._over.done():
            return
        if not text:
            self._broken()
            return
        event = read_provider(payload)
        self._measure(event)
        self.client.send(payload)
        if event.type in (DONE, ERROR, TRANSCRIBED):
            self._look()

    def _measure(self, event: ProviderEvent) -> None:
        turns = self._turns
        if event.type == CREATED:
            fault = turns.created(event.item)
            if fault is not None:  # nobody asked us before it began
                self._other.send(cancel_event(event.item))
                self._tell(fault)
                if fault.kind in _LAST:
                    self._last = fault
        elif event.type == DONE:
            turns.done(event.item, event.usage, event.status)
        elif event.type == TRANSCRIBED:
            name, deployment = self._transcriber or ("", None)
            turns.transcribed(event.usage, name, deployment)
        elif event.type == ERROR and event.item:
            turns.rejected(event.item)

    def _look(self) -> None:
        """Something has ended: is this the end of the session?"""
        if self._last is None and self._turns.spent:
            self._last = Fault(Kind.BUDGET_EXCEEDED, "the budget of this key is used up", origin=Origin.POLICY)
            self._tell(self._last)
        if self._last is not None:
            self._finish_with(self._last)

    def _finish_with(self, fault: Fault) -> None:
        """End the session for a reason of ours, as soon as no response is under way."""
        self._last = fault
        if self._turns.busy:
            return
        if fault.kind is Kind.STOPPING:
            self._end(GOING_AWAY, fault.public, Outcome.COMPLETED)
        else:
            self._end(POLICY, fault.public, Outcome.BLOCKED, fault)

    # --- ends ---

    def stopping(self) -> None:
        """The gateway is stopping: a response under way may finish, none begins."""
        self._finish_with(Fault(Kind.STOPPING, "the gateway is stopping", origin=Origin.GATEWAY))

    def client_ended(self, code: int) -> None:
        """The client has closed, or is gone."""
        self._turns.end(Outcome.CLIENT_GONE, CLIENT_CLOSED_REQUEST, "")
        if code == BROKEN:
            self._end(GOING_AWAY, "", Outcome.CLIENT_GONE, status=CLIENT_CLOSED_REQUEST)
        elif code in (NORMAL, GOING_AWAY, NO_CODE):
            self._end(NORMAL, "", Outcome.COMPLETED)
        else:
            self._end(NORMAL, "", Outcome.FAILED, Fault(Kind.MALFORMED, "the client broke the protocol"))

    def provider_ended(self, code: int, reason: str) -> None:
        """The provider has closed, or is gone."""
        if not self._ends:  # nobody is there yet to be told
            self._early_end = True
        elif code == NORMAL and not self._turns.busy:
            self._end(NORMAL, reason, Outcome.COMPLETED)
        else:
            self._broken()

    def _broken(self) -> None:
        public = "The provider broke off the session."
        fault = Fault(Kind.TRUNCATED, public, origin=Origin.UPSTREAM, retry=Retry.NEXT)
        self._tell(fault)
        self._end(INTERNAL, public, Outcome.TRUNCATED, fault)

    def _tell(self, fault: Fault, about: str = "") -> None:
        if not self._over.done():
            self._counter += 1
            self.client.send(error_event(fault, f"event_{self._session.record.id}_{self._counter}", about))

    def _end(
        self, code: int, reason: str, outcome: Outcome, fault: Fault | None = None, *, status: int = SWITCHED
    ) -> None:
        """Settle, then close both sides. Once."""
        if self._over.done():
            return
        self._over.set_result(fault)
        self.deadline = 0.0
        kind = str(fault.kind) if fault is not None else ""
        left = Outcome.TRUNCATED if outcome is Outcome.COMPLETED else outcome
        self._turns.end(left, fault.status if fault is not None else 200, kind)
        self._session.settle(outcome, status, kind)
        self.client.close(code, reason)
        self._other.close(NORMAL, "")


class FromClient:
    """What the client's WebSocket tells."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk

    def on_message(self, payload: bytes, *, text: bool) -> None:
        """See `Listener`."""
        self._talk.from_client(payload, text=text)

    def on_end(self, code: int, reason: str) -> None:
        """See `Listener`."""
        del reason
        self._talk.client_ended(code)

    def on_blocked(self) -> None:
        """See `Listener`."""
        if self._talk.provider is not None:
            self._talk.provider.hold()

    def on_writable(self) -> None:
        """See `Listener`."""
        if self._talk.provider is not None:
            self._talk.provider.unhold()
            if self._talk.provider.writable:
                self._talk.client.unhold()

    def on_stopping(self) -> None:
        """See `Listener`."""
        self._talk.stopping()


class FromProvider:
    """What the provider's WebSocket tells."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk

    def on_message(self, payload: bytes, *, text: bool) -> None:
        """See `Listener`."""
        self._talk.from_provider(payload, text=text)

    def on_end(self, code: int, reason: str) -> None:
        """See `Listener`."""
        self._talk.provider_ended(code, reason)

    def on_blocked(self) -> None:
        """See `Listener`."""
        self._talk.client.hold()

    def on_writable(self) -> None:
        """See `Listener`."""
        self._talk.client.unhold()

    def on_stopping(self) -> None:
        """A provider's connection does not tell that."""
