"""AWS Signature Version 4 for a POST with a body and no query. It must not read a clock or the environment."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from ostiary.core.secret import Secret

ALGORITHM = "AWS4-HMAC-SHA256"


class AwsCredentials(NamedTuple):
    """A key pair, and the session token that comes with a temporary one."""

    access_key_id: str
    secret_access_key: Secret
    session_token: Secret | None = None


def signed(
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    credentials: AwsCredentials,
    *,
    region: str,
    service: str,
    now: float,
) -> dict[str, str]:
    """The headers of a POST with those that sign it: `host`, `x-amz-date`, the session token, `authorization`.

    Args:
        url: with a path that needs no encoding, and no query.
        headers: lower-case names; all are signed.
        body: hashed into the signature.
        credentials: the secret key never leaves; the id and the session token do.
        region: as in the name of the key.
        service: "kms".
        now: seconds since the epoch; AWS refuses what is five minutes off.
    """
    parts = urlsplit(url)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    full = {**headers, "host": parts.netloc, "x-amz-date": stamp}
    if credentials.session_token is not None:
        full["x-amz-security-token"] = credentials.session_token.reveal()
    names = ";".join(sorted(full))
    request = "\n".join(
        (
            "POST",
            parts.path or "/",
            "",
            *(f"{name}:{' '.join(full[name].split())}" for name in sorted(full)),
            "",
            names,
            hashlib.sha256(body).hexdigest(),
        )
    )
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    text = "\n".join((ALGORITHM, stamp, scope, hashlib.sha256(request.encode()).hexdigest()))
    signature = hmac.new(signing_key(credentials.secret_access_key, scope), text.encode(), hashlib.sha256).hexdigest()
    full["authorization"] = (
        f"{ALGORITHM} Credential={credentials.access_key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return full


def signing_key(secret: Secret, scope: str) -> bytes:
    """The 32 bytes that sign for one day, region and service: `date/region/service/aws4_request`."""
    key = b"AWS4" + secret.reveal().encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key
