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

from kit_client import CLIENT_KEY, RecordingInbound
from kit_provider import Play, Upstream

from ostiary.core.fault import Fault
from ostiary.core.key import VirtualKey
from ostiary.core.price import Price, PriceState
from ostiary.core.record import Outcome, Record
from ostiary.core.secret import Secret
from ostiary.core.snapshot import Deployment, LimitSettings, PolicySnapshot, RoutingSettings
from ostiary.gateway.app import FrontDoor
from ostiary.gateway.deadlines import Sweeper
from ostiary.gateway.demo import Demo
from ostiary.gateway.ledger.journal import Journal
from ostiary.gateway.ledger.ledger import Ledger
from ostiary.gateway.objects import Objects
from ostiary.gateway.plane import Plane
from ostiary.gateway.policy.keys import KeyIndex
from ostiary.gateway.ports import ResponseStore
from ostiary.gateway.remembered import Remembered
from ostiary.gateway.signing.signer import Signers
from ostiary.vault.spool import Spool

T = TypeVar("T")
START = 1_700_000_000.0
CREDENTIAL = "provider-credential-of-%s"
PRICE = Price(input=1_000_000_000, output=2_000_000_000)  # 1,000 and 2,000 nanodollars a token
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
        kept: ResponseStore | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.clock = LoopClock()
        self.journal = Journal(
            directory, 0, Spool(lambda: [(b"journal1", bytes(range(32)))], "instance", "eu"), segment_bytes=64 * 1024
        )
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
            signers=Signers(self.clock),
            responses=None if kept is None else Remembered(kept, self.clock),
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
