"""Connections are shared where it is safe, bounded, and gone when they should be."""

from __future__ import annotations

import asyncio
import gc
import socket

import pytest
from scripted_provider import GET, HELLO, QUICK, Peer, ScriptedProvider

from ostiary.core.fault import Fault, Kind, Retry
from ostiary.core.fault import Origin as Whose
from ostiary.core.snapshot import Deployment, Timeouts
from ostiary.gateway.deadlines import Sweeper
from ostiary.gateway.upstream.connection import Connection
from ostiary.gateway.upstream.dial import Address
from ostiary.gateway.upstream.origin import Origin, origin_of
from ostiary.gateway.upstream.pool import Upstream
from ostiary.gateway.upstream.response import Response

OPEN_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"


async def ask(upstream: Upstream, origin: Origin, *, idempotent: bool = False) -> bytes:
    return await (await upstream.send(origin, GET, b"", QUICK, idempotent=idempotent)).read(1000)


def limited(most: int, idle_seconds: float = 30.0) -> Upstream:
    sweeper = Sweeper(asyncio.get_running_loop(), tick=0.02)
    return Upstream(sweeper, most_per_origin=most, idle_seconds=idle_seconds)


async def empty(upstream: Upstream) -> None:
    """Until the client has no connection any more."""
    async with asyncio.timeout(2):
        while upstream.connections:
            await asyncio.sleep(0.001)


async def test_requests_in_turn_share_one_connection(upstream: Upstream, provider: ScriptedProvider) -> None:
    origin = await provider.origin(provider.always(HELLO))
    upstream.admit([origin])
    for _ in range(20):
        assert await ask(upstream, origin) == b"hello"
    assert provider.opened == 1
    assert upstream.connections == 1
    assert (upstream.stats()[origin].idle, upstream.stats()[origin].busy) == (1, 0)


async def test_requests_at_once_have_one_connection_each_and_the_last_used_goes_first(
    upstream: Upstream, provider: ScriptedProvider
) -> None:
    origin = await provider.origin(provider.always(HELLO))
    upstream.admit([origin])
    await asyncio.gather(*(ask(upstream, origin) for _ in range(30)))
    assert provider.opened == upstream.stats()[origin].idle == 30
    idle = list(upstream._pools[origin].idle)
    await ask(upstream, origin)
    assert list(upstream._pools[origin].idle) == idle


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=0\r\nContent-Length: 5\r\n\r\nhello",
    ],
)
async def test_a_connection_that_the_provider_will_close_is_not_kept(
    upstream: Upstream, provider: ScriptedProvider, answer: bytes
) -> None:
    origin = await provider.origin(provider.once(answer, stay=True))
    upstream.admit([origin])
    assert await ask(upstream, origin) == b"hello"
    assert upstream.stats()[origin].idle == 0
    await provider.until(lambda: provider.closed == 1)


@pytest.mark.parametrize(
    ("word", "seconds"), [(b"timeout=5, max=100", 4.0), (b"timeout=600", 30.0), (b"nonsense", 30.0)]
)
async def test_an_idle_connection_is_kept_for_as_long_as_both_sides_agree(
    upstream: Upstream, provider: ScriptedProvider, word: bytes, seconds: float
) -> None:
    origin = await provider.origin(provider.always(HELLO.replace(b"\r\n\r\n", b"\r\nKeep-Alive: %s\r\n\r\n" % word)))
    upstream.admit([origin])
    await ask(upstream, origin)
    (connection,) = upstream._pools[origin].idle
    assert connection.deadline - asyncio.get_running_loop().time() == pytest.approx(seconds, abs=0.5)


async def test_an_idle_connection_grows_old_and_is_closed(provider: ScriptedProvider) -> None:
    upstream = limited(5, idle_seconds=0.1)
    origin = await provider.origin(provider.always(HELLO))
    upstream.admit([origin])
    await ask(upstream, origin)
    await provider.until(lambda: provider.closed == 1)
    await empty(upstream)
    await upstream.close()


async def test_a_connection_closed_by_the_peer_leaves_the_pool_at_once(
    upstream: Upstream, provider: ScriptedProvider
) -> None:
    origin = await provider.origin(provider.once(HELLO))
    upstream.admit([origin])
    for _ in range(3):
        assert await ask(upstream, origin) == b"hello"
        await empty(upstream)
        assert upstream.stats()[origin].idle == 0


async def stale(peer: Peer) -> None:
    """Answers one request, swallows the next and closes, as a provider does whose patience ends at the wrong moment."""
    await peer.request()
    await peer.say(HELLO)
    if peer.number == 1:
        await peer.request()
    else:
        await peer.gone()


async def test_a_request_lost_on_a_stale_connection_is_not_sent_twice_unless_it_may_be(
    upstream: Upstream, provider: ScriptedProvider
) -> None:
    origin = await provider.origin(stale)
    upstream.admit([origin])
    await ask(upstream, origin)
    with pytest.raises(Fault) as caught:
        await ask(upstream, origin)
    assert (caught.value.kind, caught.value.retry) == (Kind.CONNECT, Retry.SAME)
    assert provider.opened == 1


async def test_an_idempotent_request_lost_on_a_stale_connection_is_sent_again_on_a_fresh_one(
    upstream: Upstream, provider: ScriptedProvider
) -> None:
    origin = await provider.origin(stale)
    upstream.admit([origin])
    await ask(upstream, origin)
    assert await ask(upstream, origin, idempotent=True) == b"hello"
    assert provider.opened == 2


async def test_a_fresh_connection_without_an_answer_is_not_tried_again(
    upstream: Upstream, provider: ScriptedProvider
) -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()

    origin = await provider.origin(talk)
    upstream.admit([origin])
    with pytest.raises(Fault, match="connect"):
        await ask(upstream, origin, idempotent=True)
    assert provider.opened == 1


async def test_beyond_the_limit_a_request_waits_for_a_connection_to_come_free(provider: ScriptedProvider) -> None:
    upstream = limited(2)
    origin = await provider.origin(provider.always(HELLO))
    upstream.admit([origin])
    assert await asyncio.gather(*(ask(upstream, origin) for _ in range(50))) == [b"hello"] * 50
    assert provider.opened == 2
    await upstream.close()


async def test_beyond_the_limit_a_request_takes_the_room_of_a_connection_that_closed(
    provider: ScriptedProvider,
) -> None:
    upstream = limited(1)
    closing = HELLO.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    origin = await provider.origin(provider.once(closing))
    upstream.admit([origin])
    assert await asyncio.gather(*(ask(upstream, origin) for _ in range(5))) == [b"hello"] * 5
    assert provider.opened == 5
    await upstream.close()


async def test_without_room_until_the_connect_deadline_the_gateway_is_overloaded(provider: ScriptedProvider) -> None:
    upstream = limited(1)
    origin = await provider.origin(provider.once(OPEN_HEAD, stay=True))
    upstream.admit([origin])
    busy = await upstream.send(origin, GET, b"", QUICK)
    with pytest.raises(Fault) as caught:
        await upstream.send(origin, GET, b"", Timeouts(connect=0.1))
    assert (caught.value.kind, caught.value.origin, caught.value.retry) == (Kind.OVERLOADED, Whose.GATEWAY, Retry.NEXT)
    busy.abort()
    assert (await upstream.send(origin, GET, b"", QUICK)).status == 200
    await upstream.close()


async def test_who_leaves_the_queue_in_his_turn_hands_it_on(provider: ScriptedProvider) -> None:
    upstream = limited(1)
    origin = await provider.origin(provider.once(OPEN_HEAD, stay=True))
    upstream.admit([origin])
    busy = await upstream.send(origin, GET, b"", QUICK)
    first, second = (asyncio.create_task(upstream.send(origin, GET, b"", QUICK)) for _ in range(2))
    await asyncio.sleep(0.02)
    busy.abort()  # calls the first
    first.cancel()  # who goes before hearing it
    assert (await asyncio.wait_for(second, 2)).status == 200
    with pytest.raises(asyncio.CancelledError):
        await first
    await upstream.close()


async def test_net_15_only_origins_that_the_configuration_names_get_a_connection(
    upstream: Upstream, provider: ScriptedProvider
) -> None:
    other = ScriptedProvider()
    origin, elsewhere = await provider.origin(), await other.origin()
    upstream.admit([origin])
    for wrong in (
        elsewhere,
        Origin("https", origin.host, origin.port),
        Origin("http", "localhost", origin.port),
        Origin("http", "127.0.0.1.", origin.port),
        Origin("http", origin.host, origin.port, verify=False),
        Origin("http", origin.host, origin.port, proxy=f"http://127.0.0.1:{elsewhere.port}"),
    ):
        with pytest.raises(Fault) as caught:
            await upstream.send(wrong, GET, b"", QUICK)
        assert (caught.value.origin, caught.value.retry) == (Whose.GATEWAY, Retry.NEXT)
    assert (provider.opened, other.opened) == (0, 0)
    await other.close()


async def test_net_15_names_match_exactly(upstream: Upstream) -> None:
    upstream.admit([Origin("https", "api.openai.test", 443)])
    for host in ("api.openai.test.evil", "api.openai.test.", "openai.test", "x.api.openai.test"):
        with pytest.raises(Fault, match="connect"):
            await upstream.send(Origin("https", host, 443), GET, b"", QUICK)


@pytest.mark.parametrize(
    ("scheme", "host", "port"),
    [
        ("ftp", "a", 1),
        ("demo", "a", 1),
        ("http", "", 80),
        ("http", "A", 80),
        ("http", "a b", 80),
        ("http", "a\r\nx: y", 80),
        ("http", "user@a", 80),
        ("http", "a/b", 80),
        ("http", "[::1]", 80),
        ("http", "::1%eth0", 80),
        ("http", "bücher.test", 80),
        ("http", "-a", 80),
        ("http", "a" * 254, 80),
        ("http", "a", 0),
        ("http", "a", 65536),
    ],
)
def test_an_origin_is_a_plain_name_or_address(scheme: str, host: str, port: int) -> None:
    with pytest.raises(ValueError, match=r"^(an origin|a host|a port) is"):
        Origin(scheme, host, port)


def test_the_origin_of_a_deployment_keeps_what_secures_it() -> None:
    deployment = Deployment(
        id="d",
        model_name="m",
        provider="p",
        upstream_model="m",
        scheme="https",
        host="API.Example.test",
        port=443,
        base_path="/v1",
        proxy="http://me:secret@proxy.test:3128",
        verify=False,
        ca_file="ca.pem",
    )
    origin = origin_of(deployment)
    assert origin == Origin(
        "https", "api.example.test", 443, verify=False, ca_file="ca.pem", proxy="http://me:secret@proxy.test:3128"
    )
    assert "secret" not in repr(origin)
    assert Origin("http", "::1", 8080).authority == "[::1]:8080"


async def test_net_15_an_origin_taken_from_the_configuration_loses_its_idle_connections_at_once_and_busy_ones_after_use(
    upstream: Upstream, provider: ScriptedProvider
) -> None:
    finish = asyncio.Event()

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(OPEN_HEAD if peer.number == 1 else HELLO)
        if peer.number == 1:
            await finish.wait()
            await peer.say(b"0\r\n\r\n")
        await peer.gone()

    origin = await provider.origin(talk)
    upstream.admit([origin])
    busy = await upstream.send(origin, GET, b"", QUICK)
    await ask(upstream, origin)
    upstream.admit([])
    await provider.until(lambda: provider.closed == 1)
    with pytest.raises(Fault, match="connect"):
        await ask(upstream, origin)
    finish.set()
    assert await busy.read(100) == b"hello"
    await provider.until(lambda: provider.closed == 2)
    assert provider.opened == 2


async def test_a_reload_that_keeps_an_origin_keeps_its_connections(
    upstream: Upstream, provider: ScriptedProvider
) -> None:
    origin = await provider.origin(provider.always(HELLO))
    upstream.admit([origin])
    await ask(upstream, origin)
    upstream.admit([origin, Origin("https", "another.test", 443)])
    await ask(upstream, origin)
    assert provider.opened == 1


async def test_who_waits_for_room_at_an_origin_that_goes_is_told(provider: ScriptedProvider) -> None:
    upstream = limited(1)
    origin = await provider.origin(provider.once(OPEN_HEAD, stay=True))
    upstream.admit([origin])
    busy = await upstream.send(origin, GET, b"", QUICK)
    waiting = [asyncio.create_task(ask(upstream, origin)) for _ in range(3)]
    await asyncio.sleep(0.02)
    upstream.admit([])
    for task in waiting:
        with pytest.raises(Fault) as caught:
            await asyncio.wait_for(task, 1)
        assert caught.value.origin is Whose.GATEWAY
    busy.abort()
    await upstream.close()


async def test_net_15_an_origin_that_goes_while_a_connection_is_made_gets_no_request(
    provider: ScriptedProvider,
) -> None:
    port = await provider.listen()
    asked, answer = asyncio.Event(), asyncio.Event()

    async def resolve(host: str, wanted: int) -> list[Address]:
        asked.set()
        await answer.wait()
        return [(socket.AF_INET, ("127.0.0.1", port))]

    upstream = Upstream(Sweeper(asyncio.get_running_loop()), resolve=resolve)
    origin = Origin("http", "provider.test", 80)
    upstream.admit([origin])
    asking = asyncio.create_task(ask(upstream, origin))
    await asked.wait()
    upstream.admit([])
    answer.set()
    with pytest.raises(Fault, match="connect"):
        await asking
    assert provider.requests == []
    await empty(upstream)
    await upstream.close()


async def test_connections_and_answers_are_freed_without_the_cycle_collector(
    upstream: Upstream, provider: ScriptedProvider
) -> None:
    origin = await provider.origin(provider.always(HELLO))
    upstream.admit([origin])
    await ask(upstream, origin)
    gc.collect()
    gc.disable()
    try:
        kinds = (Connection, Response)
        before = [sum(isinstance(item, kind) for item in gc.get_objects()) for kind in kinds]
        for _ in range(20):
            await ask(upstream, origin)
            await asyncio.gather(*(ask(upstream, origin) for _ in range(3)))
            for idle in list(upstream._pools[origin].idle)[1:]:
                idle.abort()
            await asyncio.sleep(0.002)
        del idle
        after = [sum(isinstance(item, kind) for item in gc.get_objects()) for kind in kinds]
    finally:
        gc.enable()
    assert all(late <= early + 1 for early, late in zip(before, after, strict=True))


async def test_closing_cuts_everything_and_tells_the_readers(upstream: Upstream, provider: ScriptedProvider) -> None:
    origin = await provider.origin(provider.once(OPEN_HEAD, stay=True))
    upstream.admit([origin])
    reading = asyncio.create_task(ask(upstream, origin))
    unread: Response = await upstream.send(origin, GET, b"", QUICK)
    await provider.until(lambda: provider.opened == 2)
    await asyncio.sleep(0.02)
    await upstream.close()
    assert upstream.connections == 0
    for task in (reading, asyncio.create_task(unread.read(10))):
        with pytest.raises(Fault) as caught:
            await task
        assert caught.value.origin is Whose.GATEWAY
    await provider.until(lambda: provider.closed == 2)


async def test_several_addresses_are_tried_in_turn_and_remembered(provider: ScriptedProvider) -> None:
    port = await provider.listen(provider.once(HELLO))
    with socket.create_server(("127.0.0.1", 0)) as closed:
        dead = closed.getsockname()[1]
    asked = 0

    async def resolve(host: str, wanted: int) -> list[Address]:
        nonlocal asked
        asked += 1
        assert (host, wanted) == ("several.test", 443)
        return [(socket.AF_INET, ("127.0.0.1", dead)), (socket.AF_INET, ("127.0.0.1", port))]

    upstream = Upstream(Sweeper(asyncio.get_running_loop()), resolve=resolve)
    origin = Origin("http", "several.test", 443)
    upstream.admit([origin])
    for _ in range(3):
        assert await ask(upstream, origin) == b"hello"
        await empty(upstream)
    assert (provider.opened, asked) == (3, 1)
    await upstream.close()


async def test_a_silent_address_leaves_time_for_the_next(provider: ScriptedProvider) -> None:
    port = await provider.listen(provider.once(HELLO))
    with Deaf() as deaf:

        async def resolve(host: str, wanted: int) -> list[Address]:
            return [(socket.AF_INET, ("127.0.0.1", deaf.port)), (socket.AF_INET, ("127.0.0.1", port))]

        upstream = Upstream(Sweeper(asyncio.get_running_loop()), resolve=resolve)
        origin = Origin("http", "several.test", 443)
        upstream.admit([origin])
        response = await upstream.send(origin, GET, b"", Timeouts(connect=0.6))
        assert await response.read(10) == b"hello"
        await upstream.close()


async def test_a_provider_that_does_not_accept_is_a_timeout_and_one_that_refuses_a_connect_fault(
    upstream: Upstream,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        refusing = Origin("http", "127.0.0.1", closed.getsockname()[1])
    with Deaf() as deaf:
        silent = Origin("http", "127.0.0.1", deaf.port)
        upstream.admit([refusing, silent])
        with pytest.raises(Fault) as refused:
            await ask(upstream, refusing)
        with pytest.raises(Fault) as late:
            await upstream.send(silent, GET, b"", Timeouts(connect=0.2))
    assert (refused.value.kind, refused.value.retry) == (Kind.CONNECT, Retry.SAME)
    assert (late.value.kind, late.value.retry) == (Kind.TIMEOUT, Retry.SAME)
    for fault in (refused.value, late.value):
        assert fault.origin is Whose.UPSTREAM
        assert "127" not in fault.public
    assert upstream.connections == upstream.stats()[refusing].busy == upstream.stats()[silent].busy == 0


@pytest.mark.parametrize("failure", [socket.gaierror(-2, "unknown"), UnicodeError("label too long"), None])
async def test_a_name_without_an_address_is_a_connect_fault(failure: Exception | None) -> None:
    async def resolve(host: str, port: int) -> list[Address]:
        if failure is not None:
            raise failure
        return []

    upstream = Upstream(Sweeper(asyncio.get_running_loop()), resolve=resolve)
    origin = Origin("http", "nowhere.test", 80)
    upstream.admit([origin])
    with pytest.raises(Fault, match="connect"):
        await ask(upstream, origin)
    await upstream.close()


async def test_the_system_resolves_names(upstream: Upstream, provider: ScriptedProvider) -> None:
    origin = Origin("http", "localhost", await provider.listen())
    upstream.admit([origin])
    assert await ask(upstream, origin) == b"hello"


async def test_ipv6_literals_are_dialled(upstream: Upstream, provider: ScriptedProvider) -> None:
    origin = Origin("http", "::1", await provider.listen(host="::1"))
    upstream.admit([origin])
    assert await ask(upstream, origin) == b"hello"


class Deaf:
    """A port whose queue of connections is full, so that a further one hangs."""

    def __enter__(self) -> Deaf:
        self.plugs = [socket.create_server(("127.0.0.1", 0), backlog=0)]
        self.port: int = self.plugs[0].getsockname()[1]
        for _ in range(4):
            plug = socket.socket()
            plug.setblocking(False)
            plug.connect_ex(("127.0.0.1", self.port))
            self.plugs.append(plug)
        return self

    def __exit__(self, *_: object) -> None:
        for plug in self.plugs:
            plug.close()
