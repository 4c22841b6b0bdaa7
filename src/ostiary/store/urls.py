"""What a database URL says, for the engine that it names. It must not repeat it: a URL may hold a password."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from ostiary.core.fault import Fault, Kind

_SQLITE = {"sqlite", "sqlite+aiosqlite"}
_POSTGRESQL = {"postgres", "postgresql", "postgresql+asyncpg"}
_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_VERIFYING = {"verify-ca", "verify-full"}
# Where systems keep the certificate authorities that they trust.
_AUTHORITIES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


def sqlite_file(url: str) -> Path | None:
    """The file that an SQLite URL names; None for a URL of PostgreSQL.

    Raises:
        Fault: INVALID_REQUEST for any other.
    """
    scheme, separator, rest = url.partition("://")
    if separator and scheme in _SQLITE and rest.startswith("/") and rest[1:] not in {"", ":memory:"}:
        return Path(rest[1:].partition("?")[0])
    if separator and scheme in _POSTGRESQL and _database(url):
        return None
    raise _refusal(
        "the database URL must name an SQLite file (sqlite:///path/to/ostiary.db) "
        "or a PostgreSQL database (postgresql://user:password@host/database)"
    )


def postgresql_dsn(url: str, *, strict: bool) -> str:
    """The address that the driver understands.

    Strict: whoever is reached over a network must prove who it is. Where certificates are checked and none is named,
    the system's authorities count. Of several hosts the one that can be written to is taken.

    Raises:
        Fault: INVALID_REQUEST for a wrong parameter, or one that strict mode forbids.
    """
    try:
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise _refusal("the database URL cannot be read") from None
    hosts = _hosts(parts.netloc, query)
    mode = query.get("sslmode")
    if mode is not None and mode not in _MODES:
        raise _refusal(f"sslmode in the database URL must be one of {', '.join(_MODES)}")
    if strict and any(not host.startswith("/") for host in hosts):
        if mode not in {None, "verify-full"}:
            raise _refusal("strict mode needs sslmode=verify-full in the database URL (sslrootcert names a private CA)")
        query["sslmode"] = mode = "verify-full"
    if mode in _VERIFYING and query.get("sslrootcert", "system") == "system":
        query["sslrootcert"] = _system_authorities()
    if len(hosts) > 1:
        query.setdefault("target_session_attrs", "read-write")
    return urlunsplit(("postgresql", parts.netloc, parts.path, urlencode(query), ""))


def _database(url: str) -> str:
    try:
        return urlsplit(url).path.strip("/")
    except ValueError:
        return ""


def _hosts(netloc: str, query: Mapping[str, str]) -> list[str]:
    named = netloc.rpartition("@")[2] or query.get("host", "")
    return [host for host in named.split(",") if host]


def _system_authorities() -> str:
    for path in (os.environ.get("SSL_CERT_FILE", ""), *_AUTHORITIES):
        if path and Path(path).is_file():
            return path
    raise _refusal("the system's certificate authorities are not found: name a file by sslrootcert in the database URL")


def _refusal(public: str) -> Fault:
    return Fault(Kind.INVALID_REQUEST, public)
