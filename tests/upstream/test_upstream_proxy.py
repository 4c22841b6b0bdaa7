"""NET-13: a forward proxy is used where the configuration names one, and nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
from scripted_provider import GET, HELLO, QUICK, Peer, ScriptedProvider
from test_upstream_tls import Authority

from ostiary.core.fault import Fault, Kind
from ostiary.core.snapshot import Timeouts
from ostiary.gateway.upstream.origin import Origin, parse_proxy
from ostiary.gateway.upstream.pool import Upstream
from ostiary.gateway.upstream.proxy import ignored_variables

CREDENTIAL = b"Proxy-Authorization: Basic bWU6c2U6Y3JldA=="


class ForwardingPeer:
    """What a CONNECT proxy does: answers, then copies bytes both ways."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> None:
        self.answer = answer
        self.asked: list[bytes] = []

    async def __call__(self, peer: Peer) -> None:
        self.asked.append(await peer.request())
        host, port = self.asked[-1].split(b" ")[1].rsplit(b":", 1)
        reader, writer = await asyncio.open_connection(host.decode(), int(port))
        await peer.say(self.answer)
        try:
            await asyncio.gather(copy(peer.reader, writer), copy(reader, peer.writer))
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()


async def ask(upstream: Upstream, origin: Origin) -> bytes:
    return await (await upstream.send(origin, GET, b"", QUICK)).read(1000)


async def test_https_goes_through_a_tunnel_and_stays_end_to_end(
    upstream: Upstream, provider: ScriptedProvider, tmp_path: Path
) -> None:
    authority, forwarding, proxy = Authority(tmp_path), ForwardingPeer(), ScriptedProvider()
    port = await provider.listen(provider.always(HELLO), authority.serve("localhost"))
    url = f"http://me:se%3Acret@127.0.0.1:{await proxy.listen(forwarding)}"
    origin = Origin("https", "localhost", port, ca_file=str(authority.file), proxy=url)
    untrusted = Origin("https", "localhost", port, proxy=url)
    upstream.admit([origin, untrusted])
    for _ in range(3):
        assert await ask(upstream, origin) == b"hello"
    assert (proxy.opened, provider.opened) == (1, 1)
    assert forwarding.asked[0].startswith(b"CONNECT localhost:%d HTTP/1.1\r\nHost: localhost:%d\r\n" % (port, port))
    assert CREDENTIAL in forwarding.asked[0]
    assert provider.requests[0] == GET  # without the proxy's credential
    with pytest.raises(Fault, match="connect"):
        await ask(upstream, untrusted)
    await upstream.close()
    await proxy.close()


async def test_http_goes_to_the_proxy_in_absolute_form(upstream: Upstream, provider: ScriptedProvider) -> None:
    port = await provider.listen(provider.always(HELLO))
    origin = Origin("http", "provider.test", 8080, proxy=f"http://me:se%3Acret@127.0.0.1:{port}/")
    upstream.admit([origin])
    for _ in range(2):
        assert await ask(upstream, origin) == b"hello"
    head, rest = GET.split(b"\r\n", 1)
    assert head == b"GET /v1/models HTTP/1.1"
    line = b"GET http://provider.test:8080/v1/models HTTP/1.1\r\n"
    assert provider.requests == [line + CREDENTIAL + b"\r\n" + rest] * 2
    assert provider.opened == 1


async def test_a_proxy_without_credentials_gets_none(upstream: Upstream, provider: ScriptedProvider) -> None:
    port = await provider.listen(provider.always(HELLO))
    origin = Origin("http", "::1", 8080, proxy=f"http://127.0.0.1:{port}")
    upstream.admit([origin])
    await ask(upstream, origin)
    assert provider.requests[0].startswith(b"GET http://[::1]:8080/v1/models HTTP/1.1\r\nHost:")
    assert b"Proxy" not in provider.requests[0]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n\r\n",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n\x16\x03\x01",
        b"",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 20000,
    ],
)
async def test_a_proxy_that_makes_no_tunnel_is_a_connect_fault(
    upstream: Upstream, provider: ScriptedProvider, answer: bytes
) -> None:
    port = await provider.listen(provider.once(answer))
    origin = Origin("https", "provider.test", 443, proxy=f"http://127.0.0.1:{port}")
    upstream.admit([origin])
    with pytest.raises(Fault) as caught:
        await ask(upstream, origin)
    assert caught.value.kind is Kind.CONNECT
    await provider.until(lambda: provider.closed == 1)


async def test_a_proxy_that_says_nothing_meets_the_connect_deadline(
    upstream: Upstream, provider: ScriptedProvider
) -> None:
    port = await provider.listen(provider.once(b"HTTP/1.1 200", stay=True))
    origin = Origin("https", "provider.test", 443, proxy=f"http://127.0.0.1:{port}")
    upstream.admit([origin])
    with pytest.raises(Fault, match="timeout"):
        await upstream.send(origin, GET, b"", Timeouts(connect=0.2))
    await provider.until(lambda: provider.closed == 1)


async def test_net_13_proxies_of_the_environment_are_ignored(
    upstream: Upstream, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    proxy = ScriptedProvider()
    url = f"http://127.0.0.1:{await proxy.listen()}"
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, url)
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    origin = await provider.origin()
    upstream.admit([origin])
    assert await ask(upstream, origin) == b"hello"
    assert proxy.opened == 0
    assert provider.requests == [GET]
    await proxy.close()


def test_net_13_start_up_can_name_the_variables_that_are_ignored() -> None:
    assert ignored_variables({}) == ()
    found = ignored_variables({"https_proxy": "http://p", "SSLKEYLOGFILE": "x", "NO_PROXY": "", "PATH": "/bin"})
    assert found == ("HTTPS_PROXY", "SSLKEYLOGFILE")


@pytest.mark.parametrize(
    "url",
    [
        "https://me:secret@p:1",
        "socks5://me:secret@p:1",
        "me:secret@p:1",
        "http://",
        "http://me:secret@p:0x1",
        "http://me:secret@p:99999",
        "http://me:secret@p/path",
        "http://me:secret@p?x",
        "http://me:secret@p q",
    ],
)
def test_a_proxy_that_we_cannot_use_is_refused_without_repeating_its_password(url: str) -> None:
    with pytest.raises(ValueError, match=r"proxy|host|port") as caught:
        Origin("https", "api.test", 443, proxy=url)
    assert "secret" not in str(caught.value)


def test_a_proxys_password_does_not_show() -> None:
    assert "secret" not in repr(parse_proxy("http://me:secret@p:1")) + repr(
        Origin("http", "a", 1, proxy="http://secret@p")
    )
    assert parse_proxy("http://p").port == 80
