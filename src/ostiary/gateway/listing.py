"""What `GET /v1/models` lists, as its query asks. It must not list a name that the key may not use."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qsl

from ostiary.core.fault import Fault, Kind
from ostiary.core.key import VirtualKey
from ostiary.core.snapshot import PolicySnapshot
from ostiary.gateway.policy.authorise import listed

_WORDS = {"true": True, "1": True, "false": False, "0": False}
_MAX_FIELDS = 32


def asked_names(snapshot: PolicySnapshot, key: VirtualKey, query: bytes) -> list[str]:
    """The public names, each once.

    `return_wildcard_routes=false` leaves wildcards out; `include_model_access_groups=true` adds the key's access
    groups, and `only_model_access_groups=true` lists nothing else.

    Raises:
        Fault: INVALID_REQUEST for a value that is not true or false, or a query that is none.
    """
    if not query:
        return list(dict.fromkeys(listed(snapshot, key)))
    options = _options(query)
    wildcards = _flag(options, "return_wildcard_routes", default=True)
    alone = _flag(options, "only_model_access_groups", default=False)
    groups = _flag(options, "include_model_access_groups", default=alone)
    names = [] if alone else [name for name in listed(snapshot, key) if wildcards or "*" not in name]
    names += _access_groups(snapshot, key) if groups else ()
    return list(dict.fromkeys(names))


def _access_groups(snapshot: PolicySnapshot, key: VirtualKey) -> Iterator[str]:
    """The groups that the key names; all of them for one that may use everything."""
    whole = key.admin or not key.models
    return (group for group in snapshot.access_groups if whole or group in key.models)


def _options(query: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(query.decode("ascii"), max_num_fields=_MAX_FIELDS))
    except ValueError:
        raise Fault(Kind.INVALID_REQUEST, "the query cannot be read") from None


def _flag(options: dict[str, str], name: str, *, default: bool) -> bool:
    text = options.get(name)
    if text is None:
        return default
    if text.lower() not in _WORDS:
        raise Fault(Kind.INVALID_REQUEST, f"`{name}`: expected true or false", param=name)
    return _WORDS[text.lower()]
