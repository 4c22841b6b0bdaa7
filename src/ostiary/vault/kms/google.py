"""Google Cloud KMS: encrypt and decrypt by one key, with additional authenticated data. It must not manage the key."""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Callable, Mapping

import msgspec

from ostiary.core.fault import Fault
from ostiary.vault.kms.bearer import Bearer
from ostiary.vault.kms.client import Answer, Client, origin_of
from ostiary.vault.kms.faults import KeyServiceMisnamed, KeyServiceRefused, KeyServiceUnreachable, WrongKey
from ostiary.vault.kms.google_token import google_bearer
from ostiary.vault.kms.root import canonical

KIND = "gcp-kms"
ENV_ENDPOINT = "OSTIARY_KMS_ENDPOINT"
ENDPOINT = "https://cloudkms.googleapis.com"

_NAME = re.compile(
    r"projects/(?:[a-z0-9.-]+:)?[a-z0-9-]{1,63}/locations/[a-z0-9-]{1,63}/keyRings/[\w-]{1,63}/cryptoKeys/[\w-]{1,63}",
    re.ASCII,
)


class GoogleKms:
    """One symmetric key of Google Cloud KMS.

    Args:
        name: `projects/…/locations/…/keyRings/…/cryptoKeys/…`.
        environment: `GOOGLE_APPLICATION_CREDENTIALS`, a service account's JSON file; without it the metadata service
            of the machine is asked. `OSTIARY_KMS_ENDPOINT` where the endpoint is not the public one.
        client: makes the calls.
        now: seconds since the epoch, for the assertion.

    Raises:
        KeyServiceMisnamed: no name of a key, or the credentials are of no use.
    """

    kind = KIND

    def __init__(
        self, name: str, environment: Mapping[str, str], client: Client, *, now: Callable[[], float] = time.time
    ) -> None:
        if not _NAME.fullmatch(name):
            form = "gcp-kms://projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY"
            raise KeyServiceMisnamed(f"OSTIARY_KMS has the form {form}")
        self.id = name
        self._origin = origin_of(environment.get(ENV_ENDPOINT, ENDPOINT), ENV_ENDPOINT)
        self.where = self._origin.partition("://")[2]
        self._bearer: Bearer = google_bearer(environment, client, now)
        self._client = client

    async def encrypt(self, plaintext: bytes, context: Mapping[str, str]) -> bytes:
        """Encrypt by the primary version; see the port."""
        return await self._call("encrypt", "plaintext", plaintext, context, "ciphertext")

    async def decrypt(self, ciphertext: bytes, context: Mapping[str, str]) -> bytes:
        """Decrypt by the version that the ciphertext names; see the port."""
        return await self._call("decrypt", "ciphertext", ciphertext, context, "plaintext")

    async def _call(self, action: str, field: str, value: bytes, context: Mapping[str, str], wanted: str) -> bytes:
        body = msgspec.json.encode(
            {
                field: base64.b64encode(value).decode(),
                "additionalAuthenticatedData": base64.b64encode(canonical(context)).decode(),
            }
        )
        headers = {"content-type": "application/json", **await self._bearer.header()}
        answer = await self._client.post(f"{self._origin}/v1/{self.id}:{action}", headers, body)
        if answer.status != 200:
            raise self._fault(answer, decrypting=action == "decrypt")
        try:
            return base64.b64decode(answer.text(wanted), validate=True)
        except binascii.Error:
            raise KeyServiceUnreachable(self.where, "its answer cannot be read") from None

    def _fault(self, answer: Answer, *, decrypting: bool) -> Fault:
        status = answer.text("error", "status")
        if answer.later:
            return KeyServiceUnreachable(self.where, f"it answers {answer.status}")
        if answer.status == 401:
            self._bearer.forget()
            return KeyServiceRefused(self.id, "the credentials are not accepted; check the service account")
        if answer.status == 403:
            role = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
            return KeyServiceRefused(self.id, f"access is denied; give the service account {role} on it")
        if answer.status == 404:
            return KeyServiceRefused(self.id, "it does not exist")
        if status == "FAILED_PRECONDITION":
            return KeyServiceRefused(self.id, "its version is disabled or to be destroyed; enable or restore it")
        if decrypting and answer.status == 400:
            return WrongKey(self.id)
        return KeyServiceRefused(self.id, f"it answers {answer.status}")
