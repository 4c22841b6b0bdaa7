"""Azure Key Vault: wrapKey and unwrapKey by an RSA key, OAEP with SHA-256. It must not bind the context by itself.

RSA-OAEP has no associated data: the context is inside what is wrapped (`root.py`). What is stored is the version of
the key, 32 characters, and the wrapped bytes.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Mapping
from urllib.parse import urlencode

import msgspec

from ostiary.core.fault import Fault
from ostiary.core.secret import Secret
from ostiary.vault.kms.bearer import Bearer
from ostiary.vault.kms.client import Answer, Client, origin_of
from ostiary.vault.kms.faults import KeyServiceMisnamed, KeyServiceRefused, KeyServiceUnreachable, WrongKey

KIND = "azure-kv"
ENV_TENANT, ENV_CLIENT, ENV_SECRET = "AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"
ENV_AUTHORITY = "AZURE_AUTHORITY_HOST"
ENV_ENDPOINT = "OSTIARY_KMS_ENDPOINT"
AUTHORITY = "https://login.microsoftonline.com"
ALGORITHM = "RSA-OAEP-256"
VERSION_LENGTH = 32

# A token for Key Vault opens every vault that the application may use: it goes to Azure's own domains only.
_URI = re.compile(
    r"(?P<host>[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\."
    r"(?P<domain>(?:vault|managedhsm)\.azure\.(?:net|cn)|(?:vault|managedhsm)\.usgovcloudapi\.net))"
    r"/keys/(?P<name>[A-Za-z0-9-]{1,127})"
)
_KID = re.compile(r"https://[^/]+/keys/(?P<name>[A-Za-z0-9-]{1,127})/(?P<version>[0-9a-f]{32})")
_VERSION = re.compile(rb"[0-9a-f]{32}")
_PLAIN_ID = re.compile(r"[A-Za-z0-9.-]{1,128}")
_API = "api-version=7.4"


class AzureKeyVault:
    """One RSA key of Azure Key Vault or Managed HSM.

    Args:
        path: `host/keys/name`; no version, since the newest wraps and the one that wrapped unwraps.
        environment: `AZURE_TENANT_ID`, `AZURE_CLIENT_ID`, `AZURE_CLIENT_SECRET`; `AZURE_AUTHORITY_HOST` for another
            cloud than the public one; `OSTIARY_KMS_ENDPOINT` where the vault is reached by another address.
        client: makes the calls.

    Raises:
        KeyServiceMisnamed: no such path, or credentials are missing.
    """

    kind = KIND

    def __init__(self, path: str, environment: Mapping[str, str], client: Client) -> None:
        found = _URI.fullmatch(path)
        if found is None:
            raise KeyServiceMisnamed("OSTIARY_KMS has the form azure-kv://NAME.vault.azure.net/keys/KEY")
        self.id = path
        self._name = found["name"]
        self._origin = origin_of(environment.get(ENV_ENDPOINT, f"https://{found['host']}"), ENV_ENDPOINT)
        self.where = self._origin.partition("://")[2]
        self._client = client
        self._bearer = _bearer(environment, client, f"https://{found['domain']}/.default")

    async def encrypt(self, plaintext: bytes, context: Mapping[str, str]) -> bytes:  # noqa: ARG002 (see above)
        """Wrap by the newest version; see the port."""
        answer = await self._call(f"keys/{self._name}/wrapkey", plaintext, unwrapping=False)
        kid = _KID.fullmatch(answer.text("kid"))
        wrapped = _bytes(answer.text("value"))
        if kid is None or kid["name"].lower() != self._name.lower() or not wrapped:
            raise KeyServiceUnreachable(self.where, "its answer cannot be read")
        return kid["version"].encode() + wrapped

    async def decrypt(self, ciphertext: bytes, context: Mapping[str, str]) -> bytes:  # noqa: ARG002 (see above)
        """Unwrap by the version that wrapped; see the port."""
        version, wrapped = ciphertext[:VERSION_LENGTH], ciphertext[VERSION_LENGTH:]
        if not _VERSION.fullmatch(version):
            raise WrongKey(self.id)
        answer = await self._call(f"keys/{self._name}/{version.decode()}/unwrapkey", wrapped, unwrapping=True)
        plaintext = _bytes(answer.text("value"))
        if not plaintext:
            raise KeyServiceUnreachable(self.where, "its answer cannot be read")
        return plaintext

    async def _call(self, path: str, value: bytes, *, unwrapping: bool) -> Answer:
        text = base64.urlsafe_b64encode(value).decode().rstrip("=")
        body = msgspec.json.encode({"alg": ALGORITHM, "value": text})
        headers = {"content-type": "application/json", **await self._bearer.header()}
        answer = await self._client.post(f"{self._origin}/{path}?{_API}", headers, body)
        if answer.status != 200:
            raise self._fault(answer, unwrapping=unwrapping)
        return answer

    def _fault(self, answer: Answer, *, unwrapping: bool) -> Fault:
        inner = answer.text("error", "innererror", "code") or answer.text("error", "innerError", "code")
        if answer.later:
            return KeyServiceUnreachable(self.where, f"it answers {answer.status}")
        if answer.status == 401:
            self._bearer.forget()
            return KeyServiceRefused(self.id, "the token is not accepted; the vault may belong to another tenant")
        if answer.status == 403 and inner == "KeyDisabled":
            return KeyServiceRefused(self.id, "it is disabled; enable it")
        if answer.status == 403:
            why = "give the application Wrap Key and Unwrap Key on it, and let this address through the firewall"
            return KeyServiceRefused(self.id, f"access is denied; {why}")
        if answer.status == 404:
            return KeyServiceRefused(self.id, "it does not exist, or was deleted; recover it")
        if unwrapping and answer.status == 400:
            return WrongKey(self.id)
        return KeyServiceRefused(self.id, f"it answers {answer.status}; it must be an RSA key of 2048 bits or more")


def _bearer(environment: Mapping[str, str], client: Client, scope: str) -> Bearer:
    tenant, application = environment.get(ENV_TENANT, ""), environment.get(ENV_CLIENT, "")
    secret = Secret(environment.get(ENV_SECRET, ""))
    if not secret or not _PLAIN_ID.fullmatch(tenant) or not _PLAIN_ID.fullmatch(application):
        raise KeyServiceMisnamed(f"Azure Key Vault needs credentials; set {ENV_TENANT}, {ENV_CLIENT} and {ENV_SECRET}")
    authority = environment.get(ENV_AUTHORITY, AUTHORITY)
    origin = origin_of(authority if "://" in authority else f"https://{authority}", ENV_AUTHORITY)
    where = origin.partition("://")[2]

    async def fetch() -> Answer:
        form = {"grant_type": "client_credentials", "client_id": application, "scope": scope}
        answer = await client.post(
            f"{origin}/{tenant}/oauth2/v2.0/token",
            {"content-type": "application/x-www-form-urlencoded"},
            urlencode({**form, "client_secret": secret.reveal()}).encode(),
        )
        if answer.later:
            raise KeyServiceUnreachable(where, f"it answers {answer.status}")
        if answer.status != 200:
            raise KeyServiceMisnamed(
                f"{where} gives no token; check {ENV_TENANT}, {ENV_CLIENT} and {ENV_SECRET}, which may have run out"
            )
        return answer

    return Bearer(fetch, where, time.monotonic)


def _bytes(text: str) -> bytes:
    """Base64url without padding; empty when it is none."""
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return b""
