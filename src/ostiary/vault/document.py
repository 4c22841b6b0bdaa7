"""JSON documents with credentials in them, sealed and opened whole. It must not leave a credential bare outside."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from ostiary.core.secret import Secret
from ostiary.vault.envelope import Context, SealBroken
from ostiary.vault.scope import Scope

# Names whose values are credentials wherever they stand. Counts of tokens (`max_tokens`) are not.
_CREDENTIAL = re.compile(
    r"(?:^|[_-])(?:api[_-]?key|key|keys|secret|password|passwd|credentials?|authorization|cookie|token|private|salt)"
    r"(?:$|[_-](?:id|value|json|path)$)|secret|password",
    re.IGNORECASE,
)
_PLAIN = re.compile(r"cost|credential_name", re.IGNORECASE)
_HEADERS = frozenset({"extra_headers", "headers", "default_headers"})


def is_credential(name: str) -> bool:
    """Whether a value under this name is to be kept from sight."""
    return _PLAIN.search(name) is None and _CREDENTIAL.search(name) is not None


def guarded(document: Mapping[str, object]) -> dict[str, object]:
    """The document with every credential text, and every value of a header map, as a `Secret`."""
    return {name: _guard(value, is_credential(name) or name in _HEADERS) for name, value in document.items()}


def has_secret(value: object) -> bool:
    """Whether there is a `Secret` anywhere in a value."""
    if isinstance(value, Mapping):
        return any(map(has_secret, value.values()))
    return any(map(has_secret, value)) if isinstance(value, list) else isinstance(value, Secret)


def masked(document: Mapping[str, object]) -> dict[str, object]:
    """The document for showing: a `Secret` becomes asterisks."""
    return {name: _mask(value) for name, value in document.items()}


def seal_document(scope: Scope, document: Mapping[str, object], where: Context) -> bytes:
    """The sealed JSON of a document, its secrets included."""
    return scope.seal(msgspec.json.encode(document, enc_hook=_reveal), where)


def open_document(scope: Scope, sealed: bytes, where: Context) -> dict[str, object]:
    """The document sealed at `where`, its credentials guarded.

    Raises:
        SealBroken: when it does not open or is no document.
    """
    try:
        return guarded(msgspec.json.decode(scope.open(sealed, where), type=dict[str, object]))
    except msgspec.MsgspecError:
        raise SealBroken(where) from None


def _guard(value: object, secret: bool) -> object:
    if isinstance(value, Mapping):
        return {name: _guard(inner, secret or is_credential(name)) for name, inner in value.items()}
    if isinstance(value, list):
        return [_guard(inner, secret) for inner in value]
    return Secret(value) if secret and isinstance(value, str) else value


def _mask(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _mask(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_mask(inner) for inner in value]
    return "****" if isinstance(value, Secret) else value


def _reveal(value: object) -> object:
    if isinstance(value, Secret):
        return value.reveal()
    raise NotImplementedError(f"a {type(value).__name__} is not JSON")
