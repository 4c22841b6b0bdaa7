"""A JSON Web Token signed with RS256 (RFC 7515, RFC 7518 section 3.3). It must not read a clock or a file."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from ostiary.core.secret import Secret
from ostiary.gateway.signing.tokens import NoToken

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey


def private_key(pem: Secret) -> RSAPrivateKey:
    """The key in a PEM text.

    Raises:
        NoToken: it holds no RSA key, or one that needs a password.
    """
    from cryptography.exceptions import UnsupportedAlgorithm  # as below
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey  # for service accounts only
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem.reveal().encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise NoToken("the private key of the credentials is no PEM key without a password") from None
    if not isinstance(key, RSAPrivateKey):
        raise NoToken("the private key of the credentials is no RSA key")
    return key


def assertion(key: RSAPrivateKey, claims: Mapping[str, object], *, key_id: str = "") -> str:
    """The compact form: header, claims and signature, base64url with points between them."""
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15  # as above
    from cryptography.hazmat.primitives.hashes import SHA256

    header = {"alg": "RS256", "typ": "JWT", **({"kid": key_id} if key_id else {})}
    text = f"{_part(msgspec.json.encode(header))}.{_part(msgspec.json.encode(claims))}"
    return f"{text}.{_part(key.sign(text.encode(), PKCS1v15(), SHA256()))}"


def _part(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")
