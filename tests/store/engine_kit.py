"""What tests of the two engines share: a clock, and a row that is quick to make."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import delete, insert, select

from ostiary.store.database import Database
from ostiary.store.schema.access import settings

START = 1_790_000_000_000  # Unix milliseconds


class ManualClock:
    """A clock that moves when it is told to. `at` is in Unix milliseconds."""

    def __init__(self) -> None:
        self.at = START

    def now(self) -> float:
        return self.at / 1000

    def monotonic(self) -> float:
        return self.at / 1000


def setting(name: str, org_id: str = "org-a") -> dict[str, object]:
    return {
        "org_id": org_id, "name": name, "details": b"sealed", "updated_at": START, "revision": 1, "row_mac": bytes(33),
    }  # fmt: skip


async def put(database: Database, *names: str, org_id: str | None = None) -> None:
    """Settings of `org-a`, in one transaction of the instance or of an organisation."""
    async with database.write(org_id) as connection:
        await connection.execute(insert(settings), [setting(name) for name in names])


async def names(database: Database, org_id: str | None = None) -> list[str]:
    """Names of all settings that the instance, or an organisation, sees."""
    async with database.read(org_id) as connection:
        return sorted((await connection.execute(select(settings.c.name))).scalars())


async def nothing_left(database: Database) -> None:
    """No settings."""
    async with database.write() as connection:
        await connection.execute(delete(settings))


def certificates(host: str) -> tuple[bytes, bytes, bytes]:
    """PEM of a new authority, of a certificate that it made for `host`, and of the key to that."""
    now = datetime.now(UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    named = [x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]) for name in ("authority", host)]
    made = []
    for position, extension in enumerate((x509.BasicConstraints(ca=True, path_length=0), None)):
        built = (
            x509.CertificateBuilder()
            .subject_name(named[position])
            .issuer_name(named[0])
            .public_key(keys[position].public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
            .add_extension(extension or x509.BasicConstraints(ca=False, path_length=None), critical=True)
        )
        made.append(built.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    secret = keys[1].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made[0], made[1], secret


@asynccontextmanager
async def behind_tls(port: int, context: ssl.SSLContext) -> AsyncIterator[int]:
    """The port on which the server at `port` is reached by TLS: a server of PostgreSQL may be built without."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = None
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if await reader.readexactly(8) == b"\0\0\0\x08\x04\xd2\x16\x2f":  # SSLRequest; nothing else is let in
                writer.write(b"S")
                await writer.start_tls(context)
                there, upstream = await asyncio.open_connection("127.0.0.1", port)
                await asyncio.gather(_pipe(reader, upstream), _pipe(there, writer))
        for one in (writer, upstream):
            if one is not None:
                one.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
