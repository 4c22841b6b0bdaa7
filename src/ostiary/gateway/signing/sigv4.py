"""AWS Signature Version 4 of a request as it goes over the wire. It must not read a clock or the environment.

After "Create a signed AWS API request" of the AWS IAM user guide; checked against the published vectors and botocore.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from urllib.parse import quote

import msgspec

from ostiary.core.secret import Secret

ALGORITHM = "AWS4-HMAC-SHA256"
EMPTY_BODY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


class AwsCredentials(msgspec.Struct, frozen=True):
    """A key pair, and the session token that comes with a temporary one.

    Raises:
        ValueError: id or token have a character that no header can carry.
    """

    access_key_id: str
    secret_access_key: Secret
    session_token: Secret | None = None

    def __post_init__(self) -> None:
        session = self.session_token.reveal() if self.session_token is not None else ""
        if not all(" " < char <= "~" for char in self.access_key_id + session):
            raise ValueError("an AWS access key id or session token cannot stand in a header")


def signature_lines(
    method: str,
    host: str,
    target: str,
    body_hash: str,
    credentials: AwsCredentials,
    *,
    region: str,
    service: str,
    now: float,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """The header lines that sign a request: `x-amz-date`, `x-amz-security-token` where there is one, `authorization`.

    Args:
        method: upper-case.
        host: the value of the `host` header.
        target: path and query as they stand in the request line, percent-encoded: `/model/a%3A0/converse`.
        body_hash: SHA-256 of the body in hex; `EMPTY_BODY` without one.
        credentials: the secret key never leaves; the id and the session token do.
        region, service: the scope, as in `eu-central-1` and `bedrock`.
        now: seconds since the epoch; AWS refuses what is five minutes off.
        headers: further headers to sign, lower-case names; every `x-amz-` header of the request must be among them.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    full = {**(headers or {}), "host": host, "x-amz-date": stamp}
    lines = f"x-amz-date: {stamp}\r\n"
    if credentials.session_token is not None:
        full["x-amz-security-token"] = credentials.session_token.reveal()
        lines += f"x-amz-security-token: {full['x-amz-security-token']}\r\n"
    names = ";".join(sorted(full))
    path, _, query = target.partition("?")
    request = "\n".join(
        (
            method,
            canonical_path(path, service),
            canonical_query(query),
            *(f"{name}:{' '.join(full[name].split())}" for name in sorted(full)),
            "",
            names,
            body_hash,
        )
    )
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    text = "\n".join((ALGORITHM, stamp, scope, hashlib.sha256(request.encode()).hexdigest()))
    signature = hmac.digest(_signing_key(credentials.secret_access_key, scope), text.encode(), "sha256").hex()
    credential = f"{credentials.access_key_id}/{scope}"
    lines += f"authorization: {ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}\r\n"
    return lines.encode("latin-1")


def canonical_path(path: str, service: str) -> str:
    """The path as it is signed: what is percent-encoded on the wire is encoded once more, but for S3.

    Empty and dot segments are taken out first (RFC 3986, section 5.2.4), as the service does before it compares.
    """
    if service == "s3":
        return path or "/"
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment and segment != ".":
            kept.append(segment)
    end = "/" if kept and path.endswith("/") else ""
    return quote(f"/{'/'.join(kept)}{end}", safe="/~")


def canonical_query(query: str) -> str:
    """The encoded pairs of a query in the order of their bytes; a name without `=` gets one."""
    pairs = (pair.partition("=") for pair in query.split("&") if pair)
    return "&".join(f"{name}={value}" for name, value in sorted((name, value) for name, _, value in pairs))


def _signing_key(secret: Secret, scope: str) -> bytes:
    """The 32 bytes that sign for one day, region and service: `date/region/service/aws4_request`."""
    key = b"AWS4" + secret.reveal().encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
