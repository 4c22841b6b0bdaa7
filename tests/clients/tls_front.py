"""A TLS front as an operator puts one before the gateway; some clients send a bearer token over nothing else."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

HOST = "127.0.0.1"


def _certificate() -> tuple[bytes, bytes]:
    """A certificate for the loopback address that is its own authority, and its key, both as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "front of the tests")])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return made.public_bytes(pem), key.private_bytes(pem, plain, none)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _serve(
    port: int, context: ssl.SSLContext, ready: list[int], up: threading.Event, stop: asyncio.Event
) -> None:
    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(HOST, port)
        await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))

    server = await asyncio.start_server(relay, HOST, 0, ssl=context)
    ready.append(server.sockets[0].getsockname()[1])
    up.set()
    await stop.wait()
    server.close()


@contextmanager
def tls_front(port: int) -> Iterator[tuple[str, str]]:
    """The address of a front before a loopback port, and the file of the authority to trust."""
    with tempfile.TemporaryDirectory(prefix="front-") as made:
        certificate, key = Path(made, "front.pem"), Path(made, "front.key")
        for path, pem in zip((certificate, key), _certificate(), strict=True):
            path.write_bytes(pem)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key)
        ready: list[int] = []
        up, loop, stop = threading.Event(), asyncio.new_event_loop(), asyncio.Event()
        thread = threading.Thread(
            target=lambda: loop.run_until_complete(_serve(port, context, ready, up, stop)), name="front", daemon=True
        )
        thread.start()
        assert up.wait(10.0)
        try:
            yield f"https://{HOST}:{ready[0]}", str(certificate)
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join()
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()
