"""A located value to the value its setting promises. It must not quote the value when it does not fit."""

from __future__ import annotations

import math

from ostiary.config.node import Node, kind_of, plain
from ostiary.config.setting import Setting, Shape
from ostiary.core.secret import Secret, secret_document

MOST = 10**12  # above this a number is a mistake

_EXPECTED = {
    Shape.TEXT: "text",
    Shape.SECRET: "text",
    Shape.SECRET_DOCUMENT: "text or a mapping",
    Shape.WHOLE: "a whole number",
    Shape.NUMBER: "a number",
    Shape.FLAG: "true or false",
    Shape.FLAG_OR_TEXT: "true, false or a file name",
    Shape.NAMES: "text or a list of texts",
    Shape.LIST: "a list",
    Shape.MAP: "a mapping",
    Shape.SECTION: "a mapping",
    Shape.ROWS: "a list of mappings",
}
_IN_HEADER = (".api_key", ".azure_ad_token", ".aws_access_key_id", ".aws_session_token")
_FLAGS = {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False}


class MisfitError(Exception):
    """The value is not what the setting holds; the text says what was expected."""


def conform(node: Node, setting: Setting) -> object:
    """The typed value: Secret, str, int, float, bool, tuple of str, list, dict. Numbers and flags may be text.

    Raises:
        MisfitError: another kind of value, or one out of bounds.
    """
    value = node.value
    if setting.shape is Shape.SECRET:
        return _secret(value, in_header=setting.path.endswith(_IN_HEADER))
    if setting.shape is Shape.SECRET_DOCUMENT:
        document = plain(node)
        return secret_document(document) if isinstance(document, dict) else _secret(value, in_header=False)
    if setting.shape is Shape.TEXT and isinstance(value, str):
        return value
    if setting.shape is Shape.WHOLE or setting.shape is Shape.NUMBER:
        return _number(value, setting)
    if setting.shape in (Shape.FLAG, Shape.FLAG_OR_TEXT) and isinstance(value, bool | str):
        flag = value if isinstance(value, bool) else _FLAGS.get(value.lower())
        if flag is not None:
            return flag
        if setting.shape is Shape.FLAG_OR_TEXT and value:
            return value
    if setting.shape is Shape.NAMES:
        names = [value] if isinstance(value, str) else [item.value for item in node.items]
        if (names or value == []) and all(isinstance(name, str) for name in names):
            return tuple(name for name in names if isinstance(name, str))
    if setting.shape is Shape.ANY or (setting.shape, type(value)) in ((Shape.LIST, list), (Shape.MAP, dict)):
        return plain(node)
    raise MisfitError(f"expected {_EXPECTED[setting.shape]}, found {kind_of(value)}")


def expect_kind(node: Node, shape: Shape) -> None:
    """Check that a block is a mapping and that rows are a list.

    Raises:
        MisfitError: it is not.
    """
    if not isinstance(node.value, dict if shape is Shape.SECTION else list):
        raise MisfitError(f"expected {_EXPECTED[shape]}, found {kind_of(node.value)}")


def _secret(value: object, *, in_header: bool) -> Secret:
    if isinstance(value, Secret):
        return value
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise MisfitError(f"expected text, found {kind_of(value)}")
    text = str(value)
    if not text.strip():
        raise MisfitError("is empty")
    if in_header and not all(" " < char <= "~" for char in text):
        raise MisfitError("holds a character that no header can carry")
    return Secret(text)


def _number(value: object, setting: Setting) -> int | float:
    number: int | float | None = None
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = value
    elif isinstance(value, str) and len(value) <= 40:
        try:
            number = float(value)
        except ValueError:
            number = None
    expected = _EXPECTED[setting.shape]
    if number is None or (isinstance(number, float) and not math.isfinite(number)):
        raise MisfitError(f"expected {expected}, found {kind_of(value)}")
    if setting.least is not None and number < setting.least:
        raise MisfitError(f"expected {expected} of at least {setting.least:g}")
    if abs(number) > MOST:
        raise MisfitError(f"expected {expected} of at most {MOST}")
    if setting.shape is Shape.NUMBER:
        return number
    if number != int(number):
        raise MisfitError(f"expected {expected}, found a fraction")
    return int(number)
