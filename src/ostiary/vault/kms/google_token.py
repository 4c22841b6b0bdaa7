"""Access tokens of Google: for a service account's key, or of the machine. It must not ask where a key file says."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import urlencode

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ostiary.vault.kms.bearer import Bearer
from ostiary.vault.kms.client import Answer, Client, origin_of
from ostiary.vault.kms.faults import KeyServiceMisnamed, KeyServiceUnreachable

ENV_FILE = "GOOGLE_APPLICATION_CREDENTIALS"
ENV_EXCHANGE = "OSTIARY_KMS_TOKEN_URL"
ENV_METADATA = "GCE_METADATA_HOST"
EXCHANGE = "https://oauth2.googleapis.com/token"
METADATA = "metadata.google.internal"
SCOPE = "https://www.googleapis.com/auth/cloudkms"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"

_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(?::\d{1,5})?")
_LASTS = 600
_MOST_BYTES = 64 * 1024


class _Account(msgspec.Struct):
    """What is used of a service account's JSON file. `token_uri` is not: no file says where credentials go."""

    type: Literal["service_account"]
    client_email: str
    private_key: str
    private_key_id: str = ""


def google_bearer(environment: Mapping[str, str], client: Client, now: Callable[[], float]) -> Bearer:
    """Tokens for Cloud KMS.

    Raises:
        KeyServiceMisnamed: the file of the service account is of no use.
    """
    path = environment.get(ENV_FILE)
    if path is None:
        return _of_machine(environment.get(ENV_METADATA, METADATA), client)
    account, key = _account(Path(path))
    url = origin_of(environment.get(ENV_EXCHANGE, EXCHANGE), ENV_EXCHANGE)
    where = url.partition("://")[2].partition("/")[0]

    async def fetch() -> Answer:
        form = urlencode({"grant_type": GRANT, "assertion": _assertion(account, key, url, now())}).encode()
        answer = await client.post(url, {"content-type": "application/x-www-form-urlencoded"}, form)
        if answer.later:
            raise KeyServiceUnreachable(where, f"it answers {answer.status}")
        if answer.status != 200:
            raise KeyServiceMisnamed(
                f"{where} gives no token for the service account of {path}; make a new key for it, or set the clock"
            )
        return answer

    return Bearer(fetch, where, time.monotonic)


def _of_machine(host: str, client: Client) -> Bearer:
    """Tokens of the account that a machine in the cloud runs as. Plain HTTP: the service is the machine's own."""
    if not _HOST.fullmatch(host):
        raise KeyServiceMisnamed(f"{ENV_METADATA} is no host or host:port")
    url = f"http://{host}/computeMetadata/v1/instance/service-accounts/default/token"

    async def fetch() -> Answer:
        try:
            answer = await client.get(url, {"metadata-flavor": "Google"})
        except KeyServiceUnreachable as fault:
            raise KeyServiceUnreachable(host, f"no metadata service answers; set {ENV_FILE}") from fault
        if answer.status != 200 or answer.headers.get("metadata-flavor") != "Google":
            raise KeyServiceUnreachable(host, f"it gives no token; set {ENV_FILE}, or give the machine an account")
        return answer

    return Bearer(fetch, host, time.monotonic)


def _account(path: Path) -> tuple[_Account, RSAPrivateKey]:
    try:
        with path.open("rb") as file:
            account = msgspec.json.decode(file.read(_MOST_BYTES), type=_Account)
        key = load_pem_private_key(account.private_key.encode(), None)
    except OSError as error:
        raise KeyServiceMisnamed(f"{ENV_FILE}: {path} cannot be read ({error.strerror})") from None
    except (msgspec.MsgspecError, UnicodeError, ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyServiceMisnamed(f"{ENV_FILE}: {path} is no JSON key file of a service account") from None
    if not isinstance(key, RSAPrivateKey):
        raise KeyServiceMisnamed(f"{ENV_FILE}: the key in {path} is no RSA key")
    return account, key


def _assertion(account: _Account, key: RSAPrivateKey, audience: str, now: float) -> str:
    """A JSON Web Token, RS256, that asks for a token (RFC 7523)."""
    header = {"alg": "RS256", "typ": "JWT", **({"kid": account.private_key_id} if account.private_key_id else {})}
    claims = {
        "iss": account.client_email,
        "scope": SCOPE,
        "aud": audience,
        "iat": int(now),
        "exp": int(now) + _LASTS,
    }
    text = f"{_part(msgspec.json.encode(header))}.{_part(msgspec.json.encode(claims))}"
    return f"{text}.{_part(key.sign(text.encode(), PKCS1v15(), SHA256()))}"


def _part(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")
