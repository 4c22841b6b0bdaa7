"""The transit engine of OpenBao or HashiCorp Vault. It must not read the key, only ask for its use.

The context goes along as associated data, and once more as derivation context: a key made with `derived=true` needs
that, any other passes over it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from ostiary.core.fault import Fault
from ostiary.core.secret import Secret
from ostiary.vault.kms.client import Answer, Client, origin_of
from ostiary.vault.kms.faults import KeyServiceMisnamed, KeyServiceRefused, KeyServiceUnreachable, WrongKey
from ostiary.vault.kms.root import canonical

KIND = "transit"
FAMILIES = ("BAO", "VAULT")

_SEGMENT = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9_.-]{1,128}")
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_MOST_TOKEN = 16 * 1024


def family(environment: Mapping[str, str]) -> str:
    """Whose variables are used: "BAO" or "VAULT". Never a token of one for the address of the other.

    Raises:
        KeyServiceMisnamed: neither address is set, or both are.
    """
    named = [name for name in FAMILIES if environment.get(f"{name}_ADDR")]
    if len(named) != 1:
        raise KeyServiceMisnamed("transit needs the server's address; set one of BAO_ADDR and VAULT_ADDR")
    return named[0]


class Transit:
    """One key of a transit engine.

    Args:
        path: `mount/key`; a mount may have slashes in it.
        environment: `*_ADDR`, `*_TOKEN` or `*_TOKEN_FILE` (read for every call, so that an agent may renew it) and
            `*_NAMESPACE`, with BAO or VAULT for the star.
        client: makes the calls.

    Raises:
        KeyServiceMisnamed: no such path, or address or token are missing.
    """

    kind = KIND

    def __init__(self, path: str, environment: Mapping[str, str], client: Client) -> None:
        mount, _, key = path.rpartition("/")
        if not mount or not all(_SEGMENT.fullmatch(part) for part in path.split("/")):
            raise KeyServiceMisnamed("OSTIARY_KMS has the form transit://MOUNT/KEY")
        prefix = family(environment)
        self.id = path
        self._mount = mount
        self._key = key
        self._origin = origin_of(environment[f"{prefix}_ADDR"], f"{prefix}_ADDR")
        self.where = self._origin.partition("://")[2]
        self._token = _token_of(environment, prefix)
        self._namespace = environment.get(f"{prefix}_NAMESPACE", "")
        if self._namespace and not all(_SEGMENT.fullmatch(part) for part in self._namespace.strip("/").split("/")):
            raise KeyServiceMisnamed(f"{prefix}_NAMESPACE is no path of a namespace")
        self._client = client

    async def encrypt(self, plaintext: bytes, context: Mapping[str, str]) -> bytes:
        """Encrypt under the newest version; see the port."""
        text = base64.b64encode(plaintext).decode()
        return (await self._call("encrypt", "plaintext", text, context, "ciphertext")).encode()

    async def decrypt(self, ciphertext: bytes, context: Mapping[str, str]) -> bytes:
        """Decrypt by the version that the ciphertext names; see the port."""
        try:
            text = ciphertext.decode("ascii")
        except UnicodeDecodeError:
            raise WrongKey(self.id) from None
        found = await self._call("decrypt", "ciphertext", text, context, "plaintext")
        try:
            return base64.b64decode(found, validate=True)
        except binascii.Error:
            raise KeyServiceUnreachable(self.where, "its answer cannot be read") from None

    async def _call(self, action: str, field: str, value: str, context: Mapping[str, str], wanted: str) -> str:
        bound = base64.b64encode(canonical(context)).decode()
        body = msgspec.json.encode({field: value, "associated_data": bound, "context": bound})
        headers = {
            "content-type": "application/json",
            "x-vault-request": "true",
            "x-vault-token": self._token().reveal(),
            **({"x-vault-namespace": self._namespace} if self._namespace else {}),
        }
        answer = await self._client.post(f"{self._origin}/v1/{self._mount}/{action}/{self._key}", headers, body)
        if answer.status != 200:
            raise self._fault(answer, decrypting=action == "decrypt")
        found = answer.text("data", wanted)
        if not found:
            raise KeyServiceUnreachable(self.where, "its answer cannot be read")
        return found

    def _fault(self, answer: Answer, *, decrypting: bool) -> Fault:
        said = _errors(answer)
        if answer.status == 503 and "sealed" in said:
            return KeyServiceUnreachable(self.where, "it is sealed; unseal it")
        if answer.later:
            return KeyServiceUnreachable(self.where, f"it answers {answer.status}")
        if answer.status == 403:
            paths = f"{self._mount}/encrypt/{self._key} and {self._mount}/decrypt/{self._key}"
            return KeyServiceRefused(self.id, f"the token is not valid, or its policy lacks update on {paths}")
        if answer.status == 404:
            return KeyServiceRefused(self.id, f"there is no transit engine at {self._mount}, or no such namespace")
        if "non-aead" in said:
            return KeyServiceRefused(self.id, "it cannot bind a context; it must be of an AEAD type: aes256-gcm96")
        if "key not found" in said:
            return KeyServiceRefused(self.id, "it does not exist")
        if "disallowed by policy" in said:
            return KeyServiceRefused(self.id, "the version that wrapped is retired; lower its min_decryption_version")
        if decrypting and answer.status == 400:
            return WrongKey(self.id)
        return KeyServiceRefused(self.id, f"it answers {answer.status}")


def _errors(answer: Answer) -> str:
    """What the server says, in lower case: to tell cases apart, not to be shown."""
    said = answer.document.get("errors")
    return " ".join(one for one in said if isinstance(one, str)).lower() if isinstance(said, list) else ""


def _token_of(environment: Mapping[str, str], prefix: str) -> Callable[[], Secret]:
    text, path = environment.get(f"{prefix}_TOKEN"), environment.get(f"{prefix}_TOKEN_FILE")
    if bool(text) == bool(path):
        raise KeyServiceMisnamed(f"transit needs a token; set one of {prefix}_TOKEN and {prefix}_TOKEN_FILE")
    if text:
        token = _checked(text, f"{prefix}_TOKEN")
        return lambda: token
    file = Path(path or "")
    return lambda: _read(file)


def _read(file: Path) -> Secret:
    try:
        with file.open("rb") as opened:
            return _checked(opened.read(_MOST_TOKEN).decode("utf-8", "replace"), str(file))
    except OSError as error:
        raise KeyServiceMisnamed(f"the token file {file} cannot be read ({error.strerror})") from None


def _checked(text: str, source: str) -> Secret:
    token = text.strip()
    if not _VISIBLE.fullmatch(token):
        raise KeyServiceMisnamed(f"{source} holds no token")
    return Secret(token)
