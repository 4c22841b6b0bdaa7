"""NET-24 and NET-25: a provider proves who it is, by the trust configured for it, or gets nothing."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
import warnings
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from scripted_provider import GET, HELLO, QUICK, ScriptedProvider

from ostiary.core.fault import Fault, Kind, Retry
from ostiary.core.snapshot import Timeouts
from ostiary.gateway.upstream.origin import Origin
from ostiary.gateway.upstream.pool import Upstream
from ostiary.gateway.upstream.tls import client_context

DAY = datetime.timedelta(days=1)


class Authority:
    """A certificate authority of one test."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._builder(self.name, self.key.public_key(), 1).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(certificate.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def serve(self, *names: str, age: int = 0, own_signature: bool = False) -> ssl.SSLContext:
        """A server's context with a certificate for these names, valid for a day, issued `age` days ago."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "provider")])
        start = datetime.datetime.now(datetime.UTC) - age * DAY - DAY / 24
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if own_signature else self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + DAY)
            .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        )
        certificate = builder.sign(key if own_signature else self.key, hashes.SHA256())
        file = self.folder / f"{certificate.serial_number}.pem"
        file.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY)
            .not_valid_after(now + days * DAY)
        )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def ask(upstream: Upstream, origin: Origin) -> bytes:
    return await (await upstream.send(origin, GET, b"", QUICK)).read(1000)


async def test_a_provider_with_a_good_certificate_answers_over_http_1_1_and_its_connection_is_reused(
    upstream: Upstream, provider: ScriptedProvider, authority: Authority
) -> None:
    spoken: list[str | None] = []
    always = provider.always(HELLO)

    async def talk(peer):  # type: ignore[no-untyped-def]
        spoken.append(peer.writer.get_extra_info("ssl_object").selected_alpn_protocol())
        await always(peer)

    port = await provider.listen(talk, authority.serve("localhost", "127.0.0.1"))
    for host in ("localhost", "127.0.0.1"):
        origin = Origin("https", host, port, ca_file=str(authority.file))
        upstream.admit([origin])
        assert [await ask(upstream, origin) for _ in range(3)] == [b"hello"] * 3
    assert spoken == ["http/1.1"] * 2


async def test_large_bodies_pass_through_tls_in_both_directions(
    upstream: Upstream, provider: ScriptedProvider, authority: Authority
) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + bytes(3_000_000)
    port = await provider.listen(provider.always(answer), authority.serve("localhost"))
    origin = Origin("https", "localhost", port, ca_file=str(authority.file))
    upstream.admit([origin])
    body = bytes(2_000_000)
    head = b"POST / HTTP/1.1\r\nHost: p\r\nContent-Length: %d\r\n\r\n" % len(body)
    for _ in range(2):
        response = await upstream.send(origin, head, body, QUICK)
        await asyncio.sleep(0.05)  # unread, so that reading stops and starts again
        assert await response.read(3_000_000) == bytes(3_000_000)
    assert provider.opened == 1
    assert provider.requests == [head + body] * 2


@pytest.mark.parametrize("case", ["other name", "other address", "self-signed", "expired", "other authority", "system"])
async def test_net_25_a_certificate_that_proves_nothing_is_refused(
    upstream: Upstream, provider: ScriptedProvider, authority: Authority, tmp_path: Path, case: str
) -> None:
    match case:
        case "other name":
            server = authority.serve("api.provider.test", "127.0.0.1")
        case "other address":
            server = authority.serve("127.0.0.2")
        case "self-signed":
            server = authority.serve("localhost", own_signature=True)
        case "expired":
            server = authority.serve("localhost", age=2)
        case _:
            server = authority.serve("localhost")
    trust = Authority(tmp_path, "other").file if case == "other authority" else authority.file
    port = await provider.listen(tls=server)
    origin = Origin("https", "localhost", port, ca_file=None if case == "system" else str(trust))
    upstream.admit([origin])
    with pytest.raises(Fault) as caught:
        await ask(upstream, origin)
    assert (caught.value.kind, caught.value.retry) == (Kind.CONNECT, Retry.NEXT)
    assert provider.requests == []
    assert upstream.stats()[origin].busy == 0


async def test_net_25_an_authority_added_for_one_deployment_counts_for_no_other(
    upstream: Upstream, provider: ScriptedProvider, authority: Authority
) -> None:
    port = await provider.listen(provider.always(HELLO), authority.serve("localhost"))
    trusting = Origin("https", "localhost", port, ca_file=str(authority.file))
    plain = Origin("https", "localhost", port)
    upstream.admit([trusting, plain])
    assert await ask(upstream, trusting) == b"hello"
    with pytest.raises(Fault, match="connect"):
        await ask(upstream, plain)


async def test_verification_is_off_only_where_the_configuration_says_so(
    upstream: Upstream, provider: ScriptedProvider, authority: Authority
) -> None:
    port = await provider.listen(provider.always(HELLO), authority.serve("elsewhere.test", own_signature=True))
    origin = Origin("https", "localhost", port, verify=False)
    upstream.admit([origin])
    assert await ask(upstream, origin) == b"hello"
    assert client_context(verify=True, ca_file=None).verify_mode is ssl.CERT_REQUIRED


async def test_net_24_a_provider_that_speaks_only_tls_1_1_is_refused(
    upstream: Upstream, provider: ScriptedProvider, authority: Authority
) -> None:
    server, old = authority.serve("localhost"), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.load_verify_locations(authority.file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        for context in (server, old):
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    port = await provider.listen(tls=server)
    reader, writer = await asyncio.open_connection("localhost", port, ssl=old)  # the server does serve its like
    writer.write(GET)
    assert await reader.readexactly(len(HELLO)) == HELLO
    writer.close()
    origin = Origin("https", "localhost", port, ca_file=str(authority.file))
    upstream.admit([origin])
    with pytest.raises(Fault, match="connect"):
        await ask(upstream, origin)
    assert len(provider.requests) == 1


async def test_a_provider_without_tls_where_tls_is_configured_gets_no_request(
    upstream: Upstream, provider: ScriptedProvider
) -> None:
    heard = b""

    async def talk(peer):  # type: ignore[no-untyped-def]
        nonlocal heard
        heard += await peer.reader.read(65536)
        await peer.say(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    origin = Origin("https", "localhost", await provider.listen(talk))
    upstream.admit([origin])
    with pytest.raises(Fault, match="connect"):
        await ask(upstream, origin)
    assert heard
    assert b"HTTP" not in heard


async def test_a_handshake_that_never_ends_meets_the_connect_deadline(
    upstream: Upstream, provider: ScriptedProvider
) -> None:
    async def talk(peer):  # type: ignore[no-untyped-def]
        await peer.gone()

    origin = Origin("https", "localhost", await provider.listen(talk))
    upstream.admit([origin])
    with pytest.raises(Fault, match="timeout"):
        await upstream.send(origin, GET, b"", Timeouts(connect=0.2))
    await provider.until(lambda: provider.closed == 1)


async def test_cancelling_a_stream_over_tls_closes_it_within_a_second(
    upstream: Upstream, provider: ScriptedProvider, authority: Authority
) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"
    port = await provider.listen(provider.once(head, stay=True), authority.serve("localhost"))
    origin = Origin("https", "localhost", port, ca_file=str(authority.file))
    upstream.admit([origin])
    reading = asyncio.create_task(ask(upstream, origin))
    await provider.until(lambda: len(provider.requests) == 1 or provider.opened == 1)
    await asyncio.sleep(0.05)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await provider.until(lambda: provider.closed == 1, 1.0)


async def test_an_unreadable_ca_file_is_a_connect_fault(upstream: Upstream, tmp_path: Path) -> None:
    origin = Origin("https", "localhost", 1, ca_file=str(tmp_path / "missing.pem"))
    upstream.admit([origin])
    with pytest.raises(Fault, match="connect"):
        await ask(upstream, origin)


async def test_a_reload_reads_ca_files_anew(
    upstream: Upstream, provider: ScriptedProvider, authority: Authority, tmp_path: Path
) -> None:
    port = await provider.listen(provider.once(HELLO), authority.serve("localhost"))
    trust = tmp_path / "trust.pem"
    trust.write_bytes(Authority(tmp_path, "wrong").file.read_bytes())
    origin = Origin("https", "localhost", port, ca_file=str(trust))
    upstream.admit([origin])
    with pytest.raises(Fault, match="connect"):
        await ask(upstream, origin)
    trust.write_bytes(authority.file.read_bytes())
    upstream.admit([origin])
    assert await ask(upstream, origin) == b"hello"


async def test_net_13_trust_does_not_come_from_the_environment(
    upstream: Upstream,
    provider: ScriptedProvider,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    log = tmp_path / "keys.log"
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.file))
    monkeypatch.setenv("SSLKEYLOGFILE", str(log))
    port = await provider.listen(provider.always(HELLO), authority.serve("localhost"))
    origin = Origin("https", "localhost", port)
    trusting = Origin("https", "localhost", port, ca_file=str(authority.file))
    upstream.admit([origin, trusting])
    with pytest.raises(Fault, match="connect"):
        await ask(upstream, origin)
    assert await ask(upstream, trusting) == b"hello"
    assert not log.exists()
    # the positive control: the standard library's own default would have trusted it
    assert ssl.create_default_context().get_ca_certs()
    assert log.exists()
