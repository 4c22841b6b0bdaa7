"""Where calls for credentials go, and what they refuse: addresses, redirects, trust, slowness, size."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from signing_kit import Service, Told, serving

from ostiary.gateway.signing.client import Client
from ostiary.gateway.signing.reach import Reach, may_reach
from ostiary.gateway.signing.tokens import NoToken

METADATA = [
    "169.254.169.254",
    "169.254.170.2",
    "168.63.129.16",
    "100.100.100.200",
    "fe80::1",
    "fd00:ec2::254",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "0.0.0.0",
    "224.0.0.1",
    "::",
    "fe80::1%eth0",
]
DISGUISED = ["::127.0.0.1", "::169.254.169.254", "64:ff9b:1::a9fe:a9fe", "2002:7f00:1::", "2002:a9fe:a9fe::",
             "2001:0:a9fe:a9fe::1", "fec0::1", "ff02::1"]  # fmt: skip
INSIDE = ["127.0.0.1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "::1", "fd12::1", "::ffff:127.0.0.1",
          "64:ff9b::7f00:1", "2001:db8::1", "3fff::1", "198.18.0.1"]  # fmt: skip
OUTSIDE = ["20.190.160.1", "2a00:1450:4001::1", "64:ff9b::14be:a001", "::ffff:20.190.160.1"]


@pytest.mark.parametrize("address", METADATA + DISGUISED)
def test_net_09_where_machines_keep_credentials_is_reached_by_opt_in_only(address: str) -> None:
    assert [may_reach(address, reach) for reach in (Reach.PUBLIC, Reach.NAMED, Reach.MACHINE)] == [False, False, True]


@pytest.mark.parametrize("address", INSIDE)
def test_the_inside_is_reached_where_the_configuration_names_it(address: str) -> None:
    assert (may_reach(address, Reach.PUBLIC), may_reach(address, Reach.NAMED)) == (False, True)


@pytest.mark.parametrize("address", OUTSIDE)
def test_the_internet_is_in_reach(address: str) -> None:
    assert may_reach(address, Reach.PUBLIC)


async def why_of(client: Client, url: str, reach: Reach) -> str:
    with pytest.raises(NoToken) as caught:
        await client.form(url, {"secret": "s"}, reach)
    return caught.value.why


@pytest.fixture
def service() -> Iterator[Service]:
    with serving(lambda asked: Told(200, b"{}")) as service:
        yield service


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"])
async def test_a_host_of_the_cloud_is_never_this_machine(service: Service, host: str) -> None:
    port = service.url.rpartition(":")[2]
    assert "not asked for credentials" in await why_of(Client(), f"https://{host}:{port}/", Reach.PUBLIC)
    assert service.asked == []


async def test_a_name_whose_addresses_are_partly_inside_is_not_asked(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked once, judged whole: no second answer can lead the connection elsewhere."""
    loop, asked = asyncio.get_running_loop(), []

    async def answer(host: str, port: int, **more: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, 0, 0, "", (address, port)) for address in ("20.190.160.1", "169.254.169.254")]

    monkeypatch.setattr(loop, "getaddrinfo", answer)
    for reach in (Reach.PUBLIC, Reach.NAMED):
        assert "not asked for credentials" in await why_of(Client(), "https://login.example/", reach)
    assert asked == ["login.example"] * 2


async def test_a_name_without_an_address_says_so() -> None:
    assert "has no address" in await why_of(Client(), "https://nobody.invalid/", Reach.NAMED)


async def test_nothing_is_sent_in_the_clear_but_on_this_machine() -> None:
    assert "not asked in the clear" in await why_of(Client(), "http://192.0.2.1/", Reach.NAMED)


async def test_a_redirect_is_not_followed(service: Service) -> None:
    with serving(lambda asked: Told(307, b"", {"location": service.url})) as first:
        assert "redirects" in await why_of(Client(), first.url, Reach.NAMED)
    assert service.asked == []


async def test_the_proxies_of_the_environment_are_not_obeyed(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    answer = await Client().form(service.url, {}, Reach.NAMED)
    assert answer.status == 200
    assert service.asked[0].headers["host"] == service.url.removeprefix("http://")


async def test_an_answer_that_does_not_come_ends_in_time(service: Service) -> None:
    service.free.clear()
    assert "no answer in 0.2 s" in await why_of(Client(seconds=0.2), service.url, Reach.NAMED)


async def test_an_answer_that_trickles_ends_in_time() -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        while not reader.at_eof():
            writer.write(b"x")
            with contextlib.suppress(TimeoutError, OSError):
                await asyncio.wait_for(reader.read(), 0.05)
        writer.close()
        done.set()

    done = asyncio.Event()
    server = await asyncio.start_server(trickle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert "no answer in 0.3 s" in await why_of(Client(seconds=0.3), f"http://127.0.0.1:{port}/", Reach.NAMED)
    await done.wait()
    server.close()


async def raw(talk: Callable[[asyncio.StreamWriter], None]) -> tuple[asyncio.Server, str]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        talk(writer)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


@pytest.mark.parametrize("wire", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"])
async def test_a_service_that_breaks_off_or_talks_nonsense_is_a_fault(wire: bytes) -> None:
    server, url = await raw(lambda writer: writer.write(wire))
    assert "cannot be used" in await why_of(Client(), url, Reach.NAMED)
    server.close()


async def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/"
        assert "the connection is refused" in await why_of(Client(), url, Reach.NAMED)


def certificate(folder: Path, name: x509.GeneralName) -> tuple[ssl.SSLContext, str]:
    """A server's context with a certificate of its own, and the file to trust it by."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "token service")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([name]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    both = folder / "server.pem"
    both.write_bytes(
        pem
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (folder / "trust.pem").write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return context, str(folder / "trust.pem")


async def secured(context: ssl.SSLContext, names: list[str | None]) -> tuple[asyncio.Server, int]:
    context.sni_callback = lambda _socket, name, _context: names.append(name)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    return server, server.sockets[0].getsockname()[1]


async def test_the_certificate_is_of_the_name_although_an_address_is_dialled(tmp_path: Path) -> None:
    context, trust = certificate(tmp_path, x509.DNSName("localhost"))
    names: list[str | None] = []
    server, port = await secured(context, names)
    answer = await Client(ca_file=trust).form(f"https://localhost:{port}/", {}, Reach.NAMED)
    assert (answer.status, names) == (200, ["localhost"])
    for client, host in ((Client(), "localhost"), (Client(ca_file=trust), "127.0.0.1")):
        why = await why_of(client, f"https://{host}:{port}/", Reach.NAMED)
        assert "its certificate is not trusted" in why
    server.close()


async def test_an_address_is_verified_as_one(tmp_path: Path) -> None:
    context, trust = certificate(tmp_path, x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    server, port = await secured(context, [])
    assert (await Client(ca_file=trust).form(f"https://127.0.0.1:{port}/", {}, Reach.NAMED)).status == 200
    server.close()


async def test_a_ca_file_that_is_none_is_named(tmp_path: Path) -> None:
    assert "the CA file" in await why_of(Client(ca_file=str(tmp_path)), "https://127.0.0.1:1/", Reach.NAMED)


async def test_https_goes_through_the_proxy_by_name() -> None:
    """The proxy resolves the name: where one is configured, this machine may not be able to."""
    lines: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    assert "cannot be used" in await why_of(Client(proxy=url), "https://login.example/x?secret", Reach.NAMED)
    assert lines[0].startswith(b"CONNECT login.example:443 ")
    assert b"secret" not in lines[0]
    server.close()
