"""AWS KMS: Encrypt and Decrypt by one key, with the encryption context. It must not ask any other service of AWS."""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Callable, Mapping

import msgspec

from ostiary.core.fault import Fault
from ostiary.core.secret import Secret
from ostiary.vault.kms.client import Answer, Client, origin_of
from ostiary.vault.kms.faults import KeyServiceMisnamed, KeyServiceRefused, KeyServiceUnreachable, WrongKey
from ostiary.vault.kms.sigv4 import AwsCredentials, signed

KIND = "aws-kms"
ENV_ID, ENV_SECRET, ENV_SESSION = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"
ENV_ENDPOINT = "AWS_ENDPOINT_URL_KMS"

_ARN = re.compile(
    r"arn:(?P<partition>aws|aws-cn|aws-us-gov):kms:(?P<region>[a-z]{2}(?:-[a-z]+)+-\d):\d{12}:"
    r"(?:key/(?:mrk-[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})|alias/[\w/-]{1,250})"
)
# Codes as AWS lists them for these two calls and for all calls (common errors).
_LATER = {"ThrottlingException", "KMSInternalException", "DependencyTimeoutException", "KeyUnavailableException",
          "LimitExceededException", "ServiceUnavailable", "InternalFailure", "RequestTimeoutException"}  # fmt: skip
_WRONG = {"InvalidCiphertextException", "IncorrectKeyException"}
_CREDENTIALS = (
    f"the credentials are not accepted; check {ENV_ID}, {ENV_SECRET} and {ENV_SESSION}, and this machine's clock"
)
_REFUSED = {
    "DisabledException": "it is disabled; enable it",
    "KMSInvalidStateException": "it is pending deletion, or in another state that forbids its use; cancel the deletion",
    "NotFoundException": "it does not exist in that account and region",
    "AccessDeniedException": "access is denied; allow kms:Encrypt and kms:Decrypt on it",
    "InvalidKeyUsageException": "it is not for encryption; it must be a symmetric key, ENCRYPT_DECRYPT",
    "UnrecognizedClientException": _CREDENTIALS,
    "InvalidSignatureException": _CREDENTIALS,
    "IncompleteSignature": _CREDENTIALS,
    "InvalidClientTokenId": _CREDENTIALS,
    "MissingAuthenticationToken": _CREDENTIALS,
    "MissingAuthenticationTokenException": _CREDENTIALS,
    "ExpiredTokenException": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
    "OptInRequired": _CREDENTIALS,
}


class AwsKms:
    """One symmetric key of AWS KMS.

    Args:
        arn: of the key or of an alias; the region is taken from it.
        environment: the credentials, and `AWS_ENDPOINT_URL_KMS` where the endpoint is not the region's public one.
        client: makes the calls.
        now: seconds since the epoch, for the signature.

    Raises:
        KeyServiceMisnamed: no ARN of a key, or credentials are missing.
    """

    kind = KIND

    def __init__(
        self, arn: str, environment: Mapping[str, str], client: Client, *, now: Callable[[], float] = time.time
    ) -> None:
        found = _ARN.fullmatch(arn)
        if found is None:
            raise KeyServiceMisnamed("OSTIARY_KMS has the form aws-kms://arn:aws:kms:REGION:ACCOUNT:key/ID")
        self.id = arn
        self._region = found["region"]
        suffix = "amazonaws.com.cn" if found["partition"] == "aws-cn" else "amazonaws.com"
        endpoint = environment.get(ENV_ENDPOINT)
        self._origin = f"https://kms.{self._region}.{suffix}" if endpoint is None else origin_of(endpoint, ENV_ENDPOINT)
        self.where = self._origin.partition("://")[2]
        self._credentials = _credentials(environment)
        self._client = client
        self._now = now

    async def encrypt(self, plaintext: bytes, context: Mapping[str, str]) -> bytes:
        """Encrypt; see the port."""
        return await self._call("Encrypt", "Plaintext", plaintext, context, "CiphertextBlob")

    async def decrypt(self, ciphertext: bytes, context: Mapping[str, str]) -> bytes:
        """Decrypt; see the port."""
        return await self._call("Decrypt", "CiphertextBlob", ciphertext, context, "Plaintext")

    async def _call(self, action: str, field: str, value: bytes, context: Mapping[str, str], wanted: str) -> bytes:
        body = msgspec.json.encode(
            {"KeyId": self.id, field: base64.b64encode(value).decode(), "EncryptionContext": dict(context)}
        )
        headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": f"TrentService.{action}"}
        url = f"{self._origin}/"
        answer = await self._client.post(
            url,
            signed(url, headers, body, self._credentials, region=self._region, service="kms", now=self._now()),
            body,
        )
        if answer.status != 200:
            raise self._fault(answer, decrypting=action == "Decrypt")
        try:
            return base64.b64decode(answer.text(wanted), validate=True)
        except binascii.Error:
            raise KeyServiceUnreachable(self.where, "its answer cannot be read") from None

    def _fault(self, answer: Answer, *, decrypting: bool) -> Fault:
        code = answer.text("__type").rpartition("#")[2]
        if code in _LATER or answer.later:
            return KeyServiceUnreachable(self.where, f"it answers {answer.status}")
        if decrypting and code in _WRONG:
            return WrongKey(self.id)
        return KeyServiceRefused(self.id, _REFUSED.get(code, f"it answers {answer.status}"))


def _credentials(environment: Mapping[str, str]) -> AwsCredentials:
    key_id, secret = environment.get(ENV_ID, ""), environment.get(ENV_SECRET, "")
    session = environment.get(ENV_SESSION, "")
    if not key_id or not secret:
        raise KeyServiceMisnamed(f"AWS KMS needs credentials; set {ENV_ID} and {ENV_SECRET}")
    if not re.fullmatch(r"\w+", key_id, re.ASCII) or not re.fullmatch(r"[\x21-\x7e]*", session):
        raise KeyServiceMisnamed(f"{ENV_ID} or {ENV_SESSION} has characters that no such value has")
    return AwsCredentials(key_id, Secret(secret), Secret(session) if session else None)
