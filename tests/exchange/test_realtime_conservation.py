"""Law 5 for realtime sessions: whatever comes, in any order, and however it ends, what was borrowed is returned."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import CREDENTIAL, Room, deployment, key, room, run, snapshot
from kit_client import RecordingInbound

from ostiary.core.fault import Fault, Kind, Origin, Retry
from ostiary.core.key import VirtualKey
from ostiary.core.record import Outcome
from ostiary.gateway.duplex import Handshake, Listener
from ostiary.wire.framing.websocket import BROKEN, NORMAL

MODEL = deployment("talk", mode="realtime")


class Side:
    """One end of a session that remembers what it was told."""

    def __init__(self, listener: Listener, room: Room) -> None:
        self.listener = listener
        self.room = room
        self.sent: list[dict[str, Any]] = []
        self.closed: tuple[int, str] | None = None
        self.settled_at_close = 0
        self.held = False
        self.writable = True

    def begin(self) -> None: ...

    def send(self, payload: bytes) -> None:
        if self.closed is None:
            self.sent.append(json.loads(payload))

    def hold(self) -> None:
        self.held = True

    def unhold(self) -> None:
        self.held = False

    def close(self, code: int, reason: str) -> None:
        if self.closed is None:
            self.closed = (code, reason)
            self.settled_at_close = len(self.room.settled)

    def say(self, **event: Any) -> None:
        if self.closed is None:
            self.listener.on_message(json.dumps(event).encode(), text=True)

    def end(self, code: int) -> None:
        if self.closed is None:
            self.closed = (code, "by itself")
            self.listener.on_end(code, "")


class TalkingInbound(RecordingInbound):
    """An inbound that becomes a WebSocket."""

    def __init__(self, room: Room) -> None:
        super().__init__(method="GET", path="/v1/realtime", query=b"model=talk")
        self.room = room
        self.side: Side

    def handshake(self) -> Handshake:
        return Handshake(b"key")

    def accept(self, handshake: Handshake, head: bytes, listener: Listener, *, largest: int, silence: float) -> Side:
        self.started = True
        self.side = Side(listener, self.room)
        return self.side


class Session:
    """A session under way, both of its ends in the test's hands."""

    def __init__(self, made: Room) -> None:
        self.room = made
        self.inbound = TalkingInbound(made)
        self.provider: Side
        self.task: asyncio.Task[None]

    async def open(self, dial: Any = None) -> None:
        async def dialled(origin: Any, head: bytes, timeouts: Any, listener: Listener, **caps: Any) -> Side:
            self.provider = Side(listener, self.room)
            return self.provider

        self.room.upstream.open_websocket = dial or dialled  # type: ignore[attr-defined]
        self.task = self.room.begin(self.inbound)
        while not self.inbound.started and not self.task.done():
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)

    @property
    def client(self) -> Side:
        return self.inbound.side

    async def over(self) -> None:
        await asyncio.wait([self.task])
        await asyncio.sleep(0)


USAGES = st.one_of(
    st.none(),
    st.builds(lambda a, b: {"input_tokens": a, "output_tokens": b}, st.integers(0, 300), st.integers(0, 300)),
)
IDS = st.sampled_from(["r1", "r2", "r3"])
STEPS = st.one_of(
    st.tuples(st.just("create"), st.sampled_from(["", "e1", "e2"])),
    st.tuples(st.just("append"), st.integers(0, 5000)),
    st.tuples(st.just("created"), IDS),
    st.tuples(st.just("done"), st.tuples(IDS, USAGES, st.sampled_from(["completed", "failed", "cancelled"]))),
    st.tuples(st.just("error"), st.sampled_from(["e1", "e2", "nobody"])),
    st.tuples(st.just("transcribed"), USAGES),
    st.tuples(st.just("stop"), st.none()),
)
ENDS = st.sampled_from(["client closes", "client gone", "provider gone", "provider closes", "blocked", "cancelled"])
KEYS = st.sampled_from(
    [key(), key(rpm_limit=2), key(tpm_limit=500), key(max_budget=400_000), key(max_parallel=1), key(max_budget=1)]
)


def take(session: Session, step: tuple[str, Any]) -> None:
    kind, what = step
    if kind == "create":
        session.client.say(type="response.create", **({"event_id": what} if what else {}))
    elif kind == "append":
        session.client.say(type="input_audio_buffer.append", audio="A" * what)
    elif kind == "created":
        session.provider.say(type="response.created", response={"id": what})
    elif kind == "done":
        session.provider.say(type="response.done", response={"id": what[0], "usage": what[1], "status": what[2]})
    elif kind == "error":
        session.provider.say(type="error", error={"event_id": what})
    elif kind == "transcribed":
        session.provider.say(type="conversation.item.input_audio_transcription.completed", usage=what)
    else:
        session.client.listener.on_stopping()


async def finish(session: Session, end: str, own: VirtualKey) -> None:
    if end == "client closes":
        session.client.end(NORMAL)
    elif end == "client gone":
        session.client.end(BROKEN)
    elif end == "provider gone":
        session.provider.end(BROKEN)
    elif end == "provider closes":
        session.provider.end(NORMAL)
    elif end == "blocked":
        session.room.plane.keys.drop(own.id, own.digest, cancel_in_flight=True)
    else:
        session.task.cancel()
    await session.over()


@settings(deadline=None)
@given(KEYS, st.lists(STEPS, max_size=12), ENDS)
def test_whatever_comes_what_was_borrowed_is_returned(own: VirtualKey, steps: list[Any], end: str) -> None:
    async def go() -> None:
        with room(snapshot(MODEL), keys=(own,)) as made:
            session = Session(made)
            await session.open()
            if not session.inbound.started:
                assert made.settled[-1].outcome is Outcome.BLOCKED
                return
            account = made.plane.keys.account(own.id)
            assert account is not None
            for step in steps:
                take(session, step)
                assert made.ledger.leaks() == []
                if own.max_budget is not None:
                    assert account.reserved <= max(own.max_budget - account.spend, 0) or account.spend > own.max_budget
            await finish(session, end, own)
            assert session.client.closed is not None
            assert session.provider.closed is not None
            # everything was settled before the last bytes went out, and the session itself once
            assert session.client.settled_at_close in (0, len(made.settled))
            assert [record.endpoint for record in made.settled].count("realtime") == 1
            assert made.settled[-1].endpoint == "realtime"
            assert made.settled[-1].cost == 0
            if end == "blocked":  # the account is let go with its key
                spent = sum(record.cost for record in made.settled)
                assert (account.spend, account.reserved, account.limits.calls) == (spent, 0, 0)
                made.settled.clear()
                made.journaled = made.settled.copy  # type: ignore[method-assign]

    run(go())


async def opened(made: Room) -> Session:
    session = Session(made)
    await session.open()
    return session


def test_a_measured_response_costs_what_it_states_and_is_in_the_journal_before_the_client_hears() -> None:
    async def go() -> None:
        with room(snapshot(MODEL)) as made:
            session = await opened(made)
            session.client.say(type="response.create")
            session.provider.say(type="response.created", response={"id": "r1"})
            usage = {"input_tokens": 10, "output_tokens": 20}
            journaled: list[int] = []
            tell = session.client.send

            def told(payload: bytes) -> None:
                journaled.append(len(made.journaled()))
                tell(payload)

            session.client.send = told  # type: ignore[method-assign]
            session.provider.say(type="response.done", response={"id": "r1", "usage": usage, "status": "completed"})
            assert journaled == [1]
            session.client.end(NORMAL)
            await session.over()
            first, last = made.settled
            assert (first.endpoint, first.usage.total, first.cost, first.measured) == (
                "realtime.response",
                30,
                50_000,
                True,
            )
            assert (last.endpoint, last.outcome, last.cost) == ("realtime", Outcome.COMPLETED, 0)

    run(go())


@pytest.mark.parametrize("end", [BROKEN, NORMAL])
def test_what_nobody_measured_costs_the_estimate(end: int) -> None:
    async def go() -> None:
        with room(snapshot(MODEL)) as made:
            session = await opened(made)
            session.client.say(type="input_audio_buffer.append", audio="A" * 64_000)  # a second, or more
            session.client.say(type="response.create", response={"max_output_tokens": 50})
            session.client.end(end)
            await session.over()
            first = made.settled[0]
            assert first.outcome is Outcome.CLIENT_GONE
            assert not first.measured
            assert first.usage.output == 50
            assert 10 <= first.usage.input <= 100
            assert first.cost > 0

    run(go())


def test_a_side_that_does_not_take_bytes_stops_the_other() -> None:
    async def go() -> None:
        with room(snapshot(MODEL)) as made:
            session = await opened(made)
            session.client.listener.on_blocked()
            assert session.provider.held
            session.client.listener.on_writable()
            assert not session.provider.held
            session.provider.listener.on_blocked()
            assert session.client.held
            session.provider.listener.on_writable()
            assert not session.client.held
            session.client.end(NORMAL)
            await session.over()

    run(go())


def test_before_the_handshake_is_answered_another_deployment_may_be_tried() -> None:
    async def go() -> None:
        one, two = deployment("talk", home="one", mode="realtime"), deployment("talk", home="two", mode="realtime")
        with room(snapshot(one, two)) as made:
            session = Session(made)
            asked: list[str] = []

            async def dialled(origin: Any, head: bytes, timeouts: Any, listener: Listener, **caps: Any) -> Side:
                asked.append(origin.host)
                assert CREDENTIAL % origin.host.removesuffix(".test") in head.decode()
                if len(asked) == 1:
                    raise Fault(Kind.CONNECT, "nobody there", origin=Origin.UPSTREAM, retry=Retry.NEXT)
                session.provider = Side(listener, made)
                return session.provider

            await session.open(dialled)
            assert sorted(asked) == ["one.test", "two.test"]
            session.client.end(NORMAL)
            await session.over()
            assert made.record.attempts == 2
            assert made.record.outcome is Outcome.COMPLETED

    run(go())
