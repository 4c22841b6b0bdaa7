"""A value that cannot be printed by accident. It must not offer any implicit conversion to text."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import NoReturn

import msgspec


class Secret:
    """A credential or key. Only `reveal()` gives it back; its callers are allow-listed by a test.

    Neither `str`, `repr`, `format`, pickling nor JSON encoding shows the value.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself. For signing and sealing only."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "Secret(***)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be serialised")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash((Secret, len(self._value)))

    def __bool__(self) -> bool:
        return bool(self._value)


def secret_document(document: Mapping[str, object]) -> Secret:
    """A document with texts and secrets in it, such as a cloud's credential file, as one secret: its JSON text.

    Raises:
        ValueError: it holds something else than JSON values and secrets.
    """
    try:
        return Secret(msgspec.json.encode(document, enc_hook=_opened).decode())
    except (TypeError, ValueError, NotImplementedError, msgspec.EncodeError):
        raise ValueError("not a JSON document") from None


def _opened(value: object) -> object:
    if isinstance(value, Secret):
        return value._value
    raise NotImplementedError
