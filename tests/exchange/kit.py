"""A data plane without sockets: a loop whose time jumps, a scripted upstream, and an inbound that remembers.

`run` drives a coroutine on virtual time, so that every deadline, pause and silence passes at once and exactly.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import random
import selectors
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec

from ostiary.core.fault import Fault, Kind, Origin, Retry
from ostiary.core.key import VirtualKey
from ostiary.core.price import Price, PriceState
from ostiary.core.record import Outcome, Record
from ostiary.core.secret import Secret
from ostiary.core.snapshot import Deployment, LimitSettings, PolicySnapshot, RoutingSettings, Timeouts
from ostiary.gateway.app import FrontDoor
from ostiary.gateway.deadlines import Sweeper
from ostiary.gateway.demo import Demo
from ostiary.gateway.ledger.journal import Journal
from ostiary.gateway.ledger.ledger import Ledger
from ostiary.gateway.objects import Objects
from ostiary.gateway.plane import Plane
from ostiary.gateway.policy.keys import KeyIndex
from ostiary.gateway.upstream import origin
from ostiary.gateway.upstream.response import Response

T = TypeVar("T")
START = 1_700_000_000.0
CLIENT_KEY = "sk-the-client-key"
CREDENTIAL = "provider-credential-of-%s"
PRICE = Price(input=1_000_000_000, output=2_000_000_000)  # 1,000 and 2,000 nanodollars a token
JSON = (b"content-type", b"application/json")
EVENTS = (b"content-type", b"text/event-stream")
EVERYTHING_WAITS = "everything waits, and nothing will ever happen"


# --- time that jumps ---


class _Jumping(selectors.DefaultSelector):  # type: ignore[valid-type,misc]
    """Where a loop would sleep, its time moves on instead."""

    skipped = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise RuntimeError(EVERYTHING_WAITS)
        self.skipped += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time, beginning at 1000 s."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return 1000.0 + self._jumping.skipped


class LoopClock:
    """`core.clock.Clock` over the running loop."""

    def now(self) -> float:
        return START + asyncio.get_running_loop().time()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


def run(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work` on virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


# --- the provider's side ---


class Play:
    """One scripted answer: a head after `wait` seconds, then steps: bytes, seconds, a call, a Fault; then the end.

    `raises` takes the place of the head.
    """

    def __init__(
        self,
        *steps: bytes | float | Fault | Callable[[], None],
        status: int = 200,
        headers: Sequence[tuple[bytes, bytes]] = (EVENTS,),
        wait: float = 0.0,
        raises: Fault | None = None,
        ends: bool = True,
    ) -> None:
        self.steps = steps
        self.status = status
        self.headers = list(headers)
        self.wait = wait
        self.raises = raises
        self.ends = ends
        self.aborted = False
        self.held = 0


class _Playing:
    """The source of a scripted response."""

    def __init__(self, play: Play, loop: asyncio.AbstractEventLoop) -> None:
        self._play = play
        self._loop = loop
        self._at = 0
        self._over = False
        self._held = False
        self._due = False
        self.response = Response(self, play.status, list(play.headers), close_delimited=False)
        loop.call_soon(self._step)

    def _step(self) -> None:
        play, response = self._play, self.response
        if self._over:
            return
        if self._held:
            self._due = True
            return
        if self._at == len(play.steps):
            if play.ends:
                self._over = True
                response.finish()
            return
        step = play.steps[self._at]
        self._at += 1
        if isinstance(step, Fault):
            self._over = True
            response.fail(step)
        elif isinstance(step, bytes):
            if response.sink is not None:
                response.sink.on_data(step)
            else:
                response.keep(step)
            self._loop.call_soon(self._step)
        elif callable(step):
            step()
            self._loop.call_soon(self._step)
        else:
            self._loop.call_later(step, self._step)

    def abort(self) -> None:
        self._over = True
        self._play.aborted = True

    def hold(self) -> None:
        self._play.held += 1
        self._held = True

    def unhold(self) -> None:
        self._held = False
        if self._due:
            self._due = False
            self._loop.call_soon(self._step)


class Sent(msgspec.Struct):
    """What reached the upstream client."""

    origin: origin.Origin
    head: bytes
    body: bytes
    timeouts: Timeouts
    at: float

    @property
    def line(self) -> bytes:
        return self.head.partition(b"\r\n")[0]

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        lines = self.head.split(b"\r\n")
        assert lines[-2:] == [b"", b""]
        return [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines[1:-2])]

    def all(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key == name]


class Upstream:
    """The `Sender` of the plane: plays a script in order, or per host where given a mapping."""

    def __init__(self, *plays: Play) -> None:
        self.plays = list(plays)
        self.by_host: dict[str, list[Play]] = {}
        self.sent: list[Sent] = []
        self.admitted: frozenset[origin.Origin] = frozenset()

    async def send(
        self, origin: origin.Origin, head: bytes, body: bytes, timeouts: Timeouts, *, idempotent: bool
    ) -> Response:
        loop = asyncio.get_running_loop()
        self.sent.append(Sent(origin, head, body, timeouts, loop.time()))
        plays = self.by_host.get(origin.host, self.plays)
        assert plays, "the exchange sent more than the script has answers for"
        play = plays.pop(0)
        if play.wait:
            await asyncio.sleep(play.wait)
        if play.raises is not None:
            raise play.raises
        return _Playing(play, loop).response

    def admit(self, origins: frozenset[origin.Origin]) -> None:
        self.admitted = origins


def reply(usage: tuple[int, int] | None = (10, 5), *, headers: Sequence[tuple[bytes, bytes]] = (), **more: Any) -> Play:
    """A whole answer in one document."""
    document: dict[str, Any] = {"id": "chatcmpl-1", "object": "chat.completion", "choices": [{"index": 0}], **more}
    if usage is not None:
        document["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return Play(json.dumps(document).encode(), headers=[JSON, *headers])


def refusal(status: int, *headers: tuple[bytes, bytes], message: str = "no", **error: Any) -> Play:
    """An error document."""
    body = json.dumps({"error": {"message": message, "type": "t", "param": None, "code": None, **error}}).encode()
    return Play(body, status=status, headers=[JSON, *headers])


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def chunk(text: str = "x", finish: str | None = None, **more: Any) -> bytes:
    return event(id="c", choices=[{"index": 0, "delta": {"content": text}, "finish_reason": finish}], **more)


USAGE = event(id="c", choices=[], usage={"prompt_tokens": 10, "completion_tokens": 5})
DONE = b"data: [DONE]\n\n"
STREAM = (chunk("a"), chunk("b"), chunk("", "stop"), USAGE, DONE)


def broken(kind: Kind = Kind.TRUNCATED, retry: Retry = Retry.SAME, **more: Any) -> Fault:
    """What the upstream client raises."""
    return Fault(kind, "the provider failed", origin=Origin.UPSTREAM, retry=retry, **more)


# --- the client's side ---


class RecordingInbound:
    """An `Inbound` that remembers what it was told, and what the journal held at that moment.

    `log` has tuples ("answer", status, head, body), ("start", status, head), ("write", data), ("end",), ("abort",).
    """

    def __init__(
        self,
        body: bytes = b"",
        *,
        method: str = "POST",
        path: str = "/v1/chat/completions",
        query: bytes = b"",
        headers: Sequence[tuple[bytes, bytes]] = (),
        key: str | None = CLIENT_KEY,
        on_write: Callable[[], None] = lambda: None,
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.peer = "192.0.2.1"
        own = [(b"authorization", b"Bearer " + key.encode())] if key is not None else []
        self.headers = [(b"host", b"gateway.test"), *own, (b"content-type", b"application/json"), *headers]
        self.gone = False
        self.started = False
        self.writable = True
        self.on_writable: Callable[[], None] | None = None
        self.on_blocked: Callable[[], None] | None = None
        self.task: asyncio.Task[None] | None = None
        self.log: list[tuple[Any, ...]] = []
        self.journal_at_end: list[Record] | None = None
        self.journal: Callable[[], list[Record]] = list
        self.body_fault: Fault | None = None
        self.body_wait = 0.0
        self.on_write = on_write
        self._body = body
        self._held: tuple[Any, ...] | None = None
        self._ended = False

    async def body(self, limit: int) -> bytes:
        if self.body_wait:
            await asyncio.sleep(self.body_wait)
        if self.body_fault is not None:
            raise self.body_fault
        if len(self._body) > limit:
            raise Fault(Kind.TOO_LARGE, "too large")
        return self._body

    def answer(self, status: int, head: bytes, body: bytes) -> None:
        assert not self.gone
        assert not self.started
        assert not self._ended
        _check_head(head)
        self.started = self._ended = True
        self.journal_at_end = self.journal()
        self.log.append(("answer", status, head, body))

    def start(self, status: int, head: bytes, length: int | None = None) -> None:
        assert not self.started
        assert not self._ended
        _check_head(head)
        self._held = ("start", status, head)

    def write(self, data: bytes) -> None:
        assert not self._ended
        if self.gone:
            return
        if self._held is not None:
            self.log.append(self._held)
            self._held, self.started = None, True
        self.log.append(("write", data))
        self.on_write()

    def end(self) -> None:
        if self.gone:
            return
        assert not self._ended
        self._ended = True
        self.journal_at_end = self.journal()
        self.log.append(("end",))

    def abort(self) -> None:
        self._ended = True
        self.log.append(("abort",))

    async def drain(self) -> None:
        return

    def leave(self) -> None:
        """The client hangs up."""
        self.gone = True
        if self.task is not None:
            self.task.cancel()

    # what a test reads

    @property
    def status(self) -> int:
        return int(next(entry[1] for entry in self.log if entry[0] in ("answer", "start")))

    @property
    def head(self) -> dict[str, str]:
        return dict(self.lines)

    @property
    def lines(self) -> list[tuple[str, str]]:
        raw = next(entry[2] for entry in self.log if entry[0] in ("answer", "start"))
        return [tuple(line.split(": ", 1)) for line in raw.decode("latin-1").split("\r\n")[:-1]]  # type: ignore[misc]

    @property
    def sent(self) -> bytes:
        """The body bytes of the answer."""
        return b"".join(entry[-1] for entry in self.log if entry[0] in ("answer", "write"))

    @property
    def ended(self) -> str:
        """How the answer ended: "answer", "end", "abort", or "" while it has not."""
        return next((entry[0] for entry in reversed(self.log) if entry[0] in ("answer", "end", "abort")), "")

    @property
    def error(self) -> dict[str, Any]:
        return dict(json.loads(self.sent)["error"])


def _check_head(head: bytes) -> None:
    """The lines of an answer's head are lines, and frame nothing."""
    assert head.endswith(b"\r\n")
    for line in head.split(b"\r\n")[:-1]:
        name, mark, value = line.partition(b": ")
        assert mark
        assert name
        assert not set(name) & set(b"\r\n\0 \t")
        assert not set(value) & set(b"\r\n\0")
        assert name not in (b"content-length", b"transfer-encoding", b"connection", b"date")


# --- the plane ---


class Keys:
    """A `KeySource` in memory."""

    def __init__(self, *keys: VirtualKey) -> None:
        self.rows = {key.digest: key for key in keys}
        self.asked: list[bytes] = []
        self.failure: Fault | None = None

    async def find(self, digest: bytes) -> VirtualKey | None:
        self.asked.append(digest)
        found, failure = self.rows.get(digest), self.failure
        await asyncio.sleep(0.001)
        if failure is not None:
            raise failure
        return found


class Draws(random.Random):
    """Chance with the next numbers written down; 0.5 after that."""

    def __init__(self, *draws: float) -> None:
        super().__init__(1)
        self.draws = list(draws)

    def random(self) -> float:
        return self.draws.pop(0) if self.draws else 0.5


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def key(text: str = CLIENT_KEY, key_id: str = "k1", **fields: Any) -> VirtualKey:
    return VirtualKey(id=key_id, digest=digest(text), **fields)


def deployment(name: str, home: str | None = None, **fields: Any) -> Deployment:
    """A deployment of its own host and credential, both named after its id."""
    home = home or f"d-{name}".replace("*", "any").replace("/", "-")
    defaults: dict[str, Any] = {
        "id": home,
        "model_name": name,
        "provider": "openai",
        "upstream_model": name,
        "scheme": "http",
        "host": f"{home}.test",
        "port": 8000,
        "base_path": "/v1",
        "credential": Secret(CREDENTIAL % home),
        "price": PRICE,
        "price_state": PriceState.LISTED,
    }
    return Deployment(**(defaults | fields))


def snapshot(*deployments: Deployment, routing: dict[str, Any] | None = None, **fields: Any) -> PolicySnapshot:
    """Groups and patterns made of these deployments."""
    groups: dict[str, tuple[Deployment, ...]] = {}
    patterns: dict[str, tuple[Deployment, ...]] = {}
    for each in deployments:
        named = patterns if "*" in each.model_name else groups
        named[each.model_name] = (*named.get(each.model_name, ()), each)
    limits = fields.pop("limits", LimitSettings(ping_seconds=0.0, default_output_estimate=100))
    return PolicySnapshot(
        **{
            "revision": 1,
            "groups": MappingProxyType(groups),
            "patterns": tuple(sorted(patterns.items(), key=lambda row: -len(row[0]))),
            "deployments": MappingProxyType({each.id: each for each in deployments}),
            "routing": RoutingSettings(**(routing or {})),
            "limits": limits,
            "admin_digest": digest("sk-admin"),
            **fields,
        }
    )


class Room:
    """A whole data plane in one process, and what it left behind. Made inside the loop that runs it."""

    def __init__(
        self,
        directory: Path,
        policy: PolicySnapshot,
        *plays: Play,
        keys: Sequence[VirtualKey] = (),
        chance: random.Random | None = None,
        priced: Callable[[Deployment], Deployment] = lambda found: found,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.clock = LoopClock()
        self.journal = Journal(directory, 0, segment_bytes=64 * 1024)
        self.settled: list[Record] = []
        self.refused: list[Fault] = []
        self.ledger = Ledger(self.journal, self.clock, self.settled.append)
        self.keys = Keys(*(keys or (key(),)))
        self.upstream = Upstream(*plays)
        self.sweeper = Sweeper(loop)
        self.plane = Plane(
            keys=KeyIndex(digest, self.keys, self.ledger.account, self.clock),
            ledger=self.ledger,
            upstream=self.upstream,
            demo=Demo(loop, self.clock.now),
            sweeper=self.sweeper,
            clock=self.clock,
            chance=chance or Draws(),
            loop=loop,
            refused=self.refused.append,
            objects=Objects(lambda content: hmac.digest(b"k" * 32, content, "sha256")),
            priced=priced,
        )
        self.plane.swap(policy)
        self.door = FrontDoor(self.plane)

    def begin(self, inbound: RecordingInbound) -> asyncio.Task[None]:
        """Serve a request in a task of its own, as an adapter does."""
        inbound.journal = self.journaled
        route = self.door.route(inbound.method.encode(), inbound.path)
        assert route is not None
        inbound.task = asyncio.get_running_loop().create_task(self.door.serve(inbound, route))
        return inbound.task

    async def serve(self, inbound: RecordingInbound) -> RecordingInbound:
        """Serve a request to its end, and let what it began come to rest."""
        await asyncio.wait([task := self.begin(inbound)])
        if not task.cancelled():
            task.result()
        await asyncio.sleep(0)
        return inbound

    def journaled(self) -> list[Record]:
        """The settled records that the journal holds."""
        return self.journal.read(self.journal.unsaved, 10**6)[0]

    @property
    def record(self) -> Record:
        """The one settled record."""
        assert len(self.settled) == 1
        return self.settled[0]

    def balanced(self) -> None:
        """Conservation: nothing is open or reserved, each record is settled once, and spend is what they cost."""
        assert self.ledger.leaks() == []
        assert self.ledger.settled_twice == 0
        assert self.ledger.in_flight == 0
        assert all(not pulse.busy for pulse in self.plane.health.pulses.values())
        assert [record.id for record in self.journaled()] == [record.id for record in self.settled]
        assert len({record.id for record in self.settled}) == len(self.settled)
        assert all(record.outcome is not Outcome.OPEN for record in self.settled)
        for key_id in {record.key_id for record in self.settled}:
            account = self.plane.keys.account(key_id)
            assert account is not None
            assert account.reserved == account.limits.reserved == account.limits.calls == 0
            assert not account.running
            spent = sum(record.cost for record in self.settled if record.key_id == key_id)
            assert account.spend == account.key.spend + spent
        assert not self.sweeper._watched, "a relay is still watched"

    def close(self) -> None:
        self.journal.close()


@contextmanager
def room(policy: PolicySnapshot, *plays: Play, **options: Any) -> Iterator[Room]:
    """A plane on a journal of its own; to be entered inside `run`. Leaves nothing unbalanced behind."""
    with tempfile.TemporaryDirectory() as directory:
        made = Room(Path(directory), policy, *plays, **options)
        try:
            yield made
            made.balanced()
        finally:
            made.close()


def ask(model: str = "gpt", **fields: Any) -> bytes:
    """The body of a chat request."""
    return json.dumps({"model": model, "messages": [{"role": "user", "content": "hello"}], **fields}).encode()


def once(
    policy: PolicySnapshot, *plays: Play, inbound: RecordingInbound | None = None, **options: Any
) -> tuple[Room, RecordingInbound]:
    """One request through a plane of its own, to its end."""
    asked = inbound or RecordingInbound(ask())

    async def go() -> Room:
        with room(policy, *plays, **options) as made:
            await made.serve(asked)
            return made

    return run(go()), asked
