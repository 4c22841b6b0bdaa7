"""Google's own schemas as JSON schemas. It must not change what a schema accepts.

Source: official Python SDK 3.4, `types.Schema` (a subset of OpenAPI 3.0): types are words in capitals, null is a flag
beside the type, and counts may be written as strings (64-bit integers in ProtoJSON).
"""

from __future__ import annotations

from typing import Any

import msgspec

from ostiary.wire.dialects.gemini_generate.fields import camel, encode

_TYPES = {name: name.lower() for name in ("STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL")}
_COUNTS = frozenset({"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"})
_MAPS = frozenset({"properties", "defs", "$defs"})
_LISTS = frozenset({"anyOf", "prefixItems"})
_NESTED = frozenset({"items", "additionalProperties"})
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def to_json_schema(raw: msgspec.Raw) -> msgspec.Raw | None:
    """The JSON schema of an object that is Google's schema; None for one that cannot be read."""
    try:
        return msgspec.Raw(encode(_schema(_decode(raw))))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _schema(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    made: dict[str, Any] = {}
    for spelling, value in node.items():
        name = camel(spelling)
        if name == "type" and isinstance(value, str):
            made[name] = _TYPES.get(value, value)
        elif name in _COUNTS and isinstance(value, str) and value.isdecimal():
            made[name] = int(value[:15])
        elif name in _MAPS and isinstance(value, dict):
            made[name] = {key: _schema(inner) for key, inner in value.items()}
        elif name in _LISTS and isinstance(value, list):
            made[name] = [_schema(inner) for inner in value]
        elif name in _NESTED:
            made[name] = _schema(value)
        elif name not in ("nullable", "propertyOrdering"):
            made[name] = value
    return _nullable(made) if node.get("nullable") is True else made


def _nullable(made: dict[str, Any]) -> dict[str, Any]:
    """The same or null."""
    kind = made.get("type")
    if isinstance(kind, str):
        made["type"] = [kind, "null"]
    elif "anyOf" in made:
        made["anyOf"] = [*made["anyOf"], {"type": "null"}]
    if isinstance(made.get("enum"), list) and None not in made["enum"]:
        made["enum"] = [*made["enum"], None]
    return made
