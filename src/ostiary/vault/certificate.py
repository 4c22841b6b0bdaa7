"""The signed statement that an organisation's keys were destroyed. It must not name what was sealed under them.

The signature is Ed25519 (RFC 8032) over `ostiary/shred-certificate/1`, a line feed, and the statement's own bytes as
they stand in the certificate, so that nobody has to agree on how JSON is written.
"""

from __future__ import annotations

import base64
import binascii

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ostiary.core.fault import Fault, Kind, Origin
from ostiary.vault.keyring import Keyring
from ostiary.vault.keystore import Tombstone
from ostiary.vault.purpose import Purpose

_DOMAIN = b"ostiary/shred-certificate/1\n"


class CertificateBroken(Fault):
    """A certificate that does not say what somebody signed, or was signed by somebody else."""

    def __init__(self, why: str) -> None:
        super().__init__(Kind.INVALID_REQUEST, f"the certificate does not hold: {why}", origin=Origin.GATEWAY)


class Statement(msgspec.Struct, frozen=True):
    """What is certified: at `destroyed_at` (Unix milliseconds) these keys of this organisation were destroyed."""

    instance: str
    region: str
    organization: str
    keys: tuple[str, ...]
    destroyed_at: int


class _Certificate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    certificate: str
    statement: msgspec.Raw
    public_key: str
    signature: str


_KIND = "ostiary/shred/1"


def certify(keyring: Keyring, dead: Tombstone) -> bytes:
    """The certificate of a destruction, as JSON. The same destruction gives the same certificate."""
    statement = Statement(
        keyring.instance_id, keyring.region, dead.scope, tuple(sorted(key.hex() for key in dead.keys)), dead.at
    )
    said = msgspec.json.encode(statement)
    signed = _signer(keyring).sign(_DOMAIN + said)
    document = _Certificate(_KIND, msgspec.Raw(said), public_key(keyring), base64.b64encode(signed).decode())
    return msgspec.json.encode(document) + b"\n"


def certified(keyring: Keyring, certificate: bytes) -> Statement:
    """What a certificate of this instance says.

    Raises:
        CertificateBroken: it was edited, or is none, or of another instance.
    """
    try:
        document = msgspec.json.decode(certificate, type=_Certificate)
        statement = msgspec.json.decode(document.statement, type=Statement)
        signature = base64.b64decode(document.signature, validate=True)
    except (msgspec.MsgspecError, binascii.Error, ValueError):
        raise CertificateBroken("it cannot be read") from None
    if document.certificate != _KIND:
        raise CertificateBroken("it is of another kind")
    if document.public_key != public_key(keyring) or statement.instance != keyring.instance_id:
        raise CertificateBroken("it is not of this instance")
    try:
        _verifier(keyring).verify(signature, _DOMAIN + bytes(document.statement))
    except InvalidSignature:
        raise CertificateBroken("its signature does not fit what it says") from None
    return statement


def public_key(keyring: Keyring) -> str:
    """The instance's public key, 32 bytes in base64: who gets a certificate should have it from elsewhere."""
    return base64.b64encode(_verifier(keyring).public_bytes_raw()).decode()


def _signer(keyring: Keyring) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(keyring.key(Purpose.AUDIT_SIGN))


def _verifier(keyring: Keyring) -> Ed25519PublicKey:
    return _signer(keyring).public_key()
