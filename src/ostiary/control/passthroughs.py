"""The operator's own pass-through paths: rows of `pass_through_endpoints`. It must not open one to everybody.

A path always asks for a virtual key, whatever `auth` says, and nothing of the client's headers travels on: what the
target wants to see is written in `headers`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from ostiary.catalog.declared import declared_price
from ostiary.config.problem import Place, Problem, error, warning
from ostiary.config.shapes import Loaded
from ostiary.control.address import parse_address
from ostiary.control.destination import CREDENTIAL_HEADER, HEADER_NAME, HEADER_VALUE, OWN_HEADERS
from ostiary.core.price import FREE, PriceState
from ostiary.core.secret import Secret
from ostiary.core.snapshot import GIVEN_BY_OPERATOR, AuthStyle, Deployment, PassThrough, Timeouts

SETTING = "general_settings.pass_through_endpoints"
PROVIDER = "pass_through"
_PATH = re.compile(r"(?:/[A-Za-z0-9_~!$&'()*+,=:@.-]+)+\Z")
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_KNOWN = frozenset(
    {"path", "target", "headers", "auth", "forward_headers", "include_subpath", "methods", "default_query_params",
     "cost_per_request", "guardrails", "id"}
)  # fmt: skip
# What the gateway itself answers: a row cannot take it away.
_TAKEN = ("/v1", "/health", "/key", "/team", "/user", "/model", "/spend", "/ui", "/metrics", "/docs", "/openapi.json")


class _WrongRowError(ValueError):
    """A row that cannot be one; the text is ours."""


def pass_throughs(loaded: Loaded) -> tuple[tuple[PassThrough, ...], list[Problem]]:
    """The rows, longest path first, and what is wrong with those that are left out."""
    found: list[PassThrough] = []
    problems: list[Problem] = []
    place = loaded.places.get(SETTING, Place())
    for number, row in enumerate(loaded.pass_throughs):
        setting = f"{SETTING}[{number}]"
        try:
            made = _row(row)
        except ValueError as failure:
            problems.append(error(place, setting, str(failure)))
            continue
        if any(made.path == other.path for other in found):
            problems.append(error(place, setting, "has the path of an earlier row"))
            continue
        found.append(made)
        problems += [warning(place, setting, message) for message in _remarks(row)]
    return tuple(sorted(found, key=lambda each: -len(each.path))), problems


def _row(row: object) -> PassThrough:
    if not isinstance(row, Mapping):
        raise _WrongRowError("expected a row of names and values")
    unknown = sorted(str(name) for name in row.keys() - _KNOWN)
    if unknown:
        raise _WrongRowError(f"holds an unknown member: {', '.join(unknown)[:80]}")
    path = row.get("path")
    if not isinstance(path, str) or not _PATH.match(path) or "/." in path:
        raise _WrongRowError("path: expected an absolute path of plain segments")
    if any(path == taken or path.startswith(f"{taken}/") for taken in _TAKEN):
        raise _WrongRowError("path: is one that the gateway answers itself")
    if row.get("guardrails"):
        raise _WrongRowError("guardrails: are not implemented and would not run")
    methods = row.get("methods") or list(_METHODS)
    if not isinstance(methods, (list, tuple)) or not set(methods) <= set(_METHODS):
        raise _WrongRowError(f"methods: expected some of {', '.join(_METHODS)}")
    query = row.get("default_query_params") or {}
    if not isinstance(query, Mapping):
        raise _WrongRowError("default_query_params: expected names and values")
    return PassThrough(
        path=path,
        deployment=_deployment(path, row),
        subpaths=row.get("include_subpath") is True,
        methods=tuple(methods),
        query=tuple((str(name), str(value)) for name, value in query.items()),
    )


def _deployment(path: str, row: Mapping[str, object]) -> Deployment:
    target = row.get("target")
    if not isinstance(target, str):
        raise _WrongRowError("target: expected a URL")
    address = parse_address(target)
    headers = _headers(row.get("headers") or {})
    credential = next((name for name in headers if CREDENTIAL_HEADER.match(name)), None)
    cost = row.get("cost_per_request")
    price = declared_price({"input_cost_per_request": cost}) if cost is not None else FREE
    secret = Secret(headers.pop(credential)) if credential is not None else None
    return Deployment(
        id=hashlib.sha256(f"{PROVIDER}\0{path}\0{target}".encode()).hexdigest()[:32],
        model_name=f"{PROVIDER}:{path}",
        provider=PROVIDER,
        upstream_model="",
        scheme=address.scheme,
        host=address.host,
        port=address.port,
        base_path=address.base_path,
        auth=AuthStyle.HEADER if secret is not None else AuthStyle.NONE,
        auth_header=credential or "authorization",
        credential=secret,
        headers=tuple(headers.items()),
        timeouts=Timeouts(),
        price=price,
        price_state=PriceState.FREE if price == FREE else PriceState.DECLARED,
        mode=GIVEN_BY_OPERATOR,
    )


def _headers(written: object) -> dict[str, str]:
    if not isinstance(written, Mapping):
        raise _WrongRowError("headers: expected names and values")
    headers: dict[str, str] = {}
    for name, value in written.items():
        text = str(value) if isinstance(value, str | int | float) else "\n"
        if not HEADER_NAME.match(str(name)) or not HEADER_VALUE.match(text) or str(name).lower() in OWN_HEADERS:
            raise _WrongRowError("headers: holds a name or value that no header can carry, or one of the gateway's own")
        headers[str(name).lower()] = text.strip()
    return headers


def _remarks(row: object) -> list[str]:
    remarks: list[str] = []
    if not isinstance(row, Mapping):
        return remarks
    if row.get("auth") is False:
        remarks.append("auth: every request needs a virtual key all the same")
    if row.get("forward_headers") is True:
        remarks.append("forward_headers: no header of the client travels on; name what the target needs in headers")
    return remarks
