"""Native pass-through: a provider's own paths below its name, and paths that the operator has given to targets.

`/anthropic/v1/messages` is the messages endpoint, held to the deployments of Anthropic that the operator has opened
for this (`use_in_pass_through`); the model in it is the provider's own name. A path below the prefix that no endpoint
has is relayed as it stands, for keys whose `allowed_routes` name it. It must not let a request choose a host: the
prefix chooses among deployments, and the path is appended to what the operator wrote.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import parse_qsl, urlencode

from ostiary.core.fault import Fault, Kind, Origin
from ostiary.core.key import VirtualKey
from ostiary.core.operation import BodyKind, Endpoint, Meter, Operation
from ostiary.core.snapshot import Deployment, PolicySnapshot
from ostiary.core.wildcard import matched
from ostiary.gateway.policy.authorise import may_use, names_route
from ostiary.gateway.ports import PLAIN, Route, WrongMethod

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
# Other names of prefixes, as in the compatible surface.
_OTHER_NAMES = {"openai_passthrough": "openai", "vertex-ai": "vertex_ai", "vllm": "hosted_vllm"}
# Where Google's path says whose project it is: the deployment knows that itself.
_PROJECT = re.compile(r"^/(v1|v1beta1)/projects/[^/]+/locations/[^/]+(?=/publishers/)")
_LONGEST_QUERY = 4096

Find = Callable[[bytes, str], Route | None]


def native_route(snapshot: PolicySnapshot, find: Find, method: bytes, path: str) -> Route | None:
    """The route of a path below an opened provider's name, or of one that the operator has given to a target.

    Args:
        find: the route table's.

    Raises:
        WrongMethod: a path of the operator's does not take this method.
    """
    for target in snapshot.pass_throughs:
        if path == target.path or (target.subpaths and path.startswith(f"{target.path}/")):
            if method.decode("ascii") not in target.methods:
                raise WrongMethod("this path does not take this method", [name.encode() for name in target.methods])
            return Route(_plain(method, path[len(target.path) :]), native=target.deployment.id, full=path)
    prefix, slash, rest = path[1:].partition("/")
    provider = _OTHER_NAMES.get(prefix, prefix)
    if not slash or provider not in snapshot.native or method.decode("ascii") not in METHODS:
        return None
    inner = _known(find, method, _PROJECT.sub(r"/\1", f"/{rest}"))
    if inner is None:
        return Route(_plain(method, f"/{rest}"), native=provider, full=path)
    return Route(inner.endpoint, model=inner.model, native=provider, full=path)


def _known(find: Find, method: bytes, path: str) -> Route | None:
    """The endpoint that a provider's path means, if it is one that names a model."""
    try:
        route = find(method, path)
    except WrongMethod:
        return None
    return None if route is None or route.item or route.endpoint.body is BodyKind.NONE else route


def _plain(method: bytes, path: str) -> Endpoint:
    return Endpoint(PLAIN, Operation.RAW, method.decode("ascii"), path, meter=Meter.REQUESTS, mode=PLAIN)


def native_deployments(
    snapshot: PolicySnapshot, key: VirtualKey, route: Route, model: str
) -> tuple[str, tuple[Deployment, ...]]:
    """The public name of what a provider's own name of a model means here, and the deployments that may serve it.

    Raises:
        Fault: UNKNOWN_MODEL for one that no opened deployment has, or that the key may not use: alike.
    """
    for deployment in snapshot.native[route.native]:
        name = deployment.model_name
        if "*" in deployment.upstream_model:
            stars = matched(deployment.upstream_model, model)
            if stars is None:
                continue
            name = _filled(name, stars)
        elif deployment.upstream_model != model:
            continue
        if may_use(snapshot, key, name):
            same = [d for d in snapshot.native[route.native] if d.model_name == deployment.model_name]
            same = [d for d in same if d.upstream_model == deployment.upstream_model]
            return name, tuple(same)
    raise Fault(Kind.UNKNOWN_MODEL, "there is no such model below this prefix", param="model")


def plain_target(snapshot: PolicySnapshot, key: VirtualKey, route: Route) -> Deployment:
    """Where a request goes that is relayed as it stands.

    Raises:
        Fault: ROUTE_DENIED where the key is not let to it by name; UNKNOWN_PRICE for keys with a budget.
    """
    given = next((each for each in snapshot.pass_throughs if each.deployment.id == route.native), None)
    if given is not None:
        return given.deployment
    # Such paths reach what others keep in the same account: only who was let to them by name may go.
    if not key.admin and not names_route(key, route.full):
        public = "below a provider's name only known endpoints are open; a key's `allowed_routes` can name others"
        raise Fault(Kind.ROUTE_DENIED, public, origin=Origin.POLICY)
    if key.max_budget is not None:
        public = "what this request will cost is not known, and this key has a budget"
        raise Fault(Kind.UNKNOWN_PRICE, public, origin=Origin.POLICY)
    for deployment in snapshot.native[route.native]:
        if may_use(snapshot, key, deployment.model_name):
            return deployment
    raise Fault(Kind.MODEL_DENIED, "the key may use none of this provider's models", origin=Origin.POLICY)


def forwarded_query(snapshot: PolicySnapshot, route: Route, query: bytes) -> str:
    """The query to send, with its mark: the caller's without credentials, over the operator's own.

    Raises:
        Fault: INVALID_REQUEST for one that is too long or not ASCII.
    """
    if len(query) > _LONGEST_QUERY or not query.isascii():
        raise Fault(Kind.INVALID_REQUEST, "the query is too long, or not ASCII")
    given = next((each for each in snapshot.pass_throughs if each.deployment.id == route.native), None)
    pairs = [pair for pair in parse_qsl(query.decode("ascii"), keep_blank_values=True) if pair[0].lower() != "key"]
    named = {name for name, _ in pairs}
    fixed = [pair for pair in (given.query if given is not None else ()) if pair[0] not in named]
    return f"?{urlencode([*fixed, *pairs])}" if fixed or pairs else ""


def _filled(pattern: str, stars: tuple[str, ...]) -> str:
    pieces = pattern.split("*")
    filled = pieces[0]
    for index, piece in enumerate(pieces[1:]):
        filled += (stars[index] if index < len(stars) else "") + piece
    return filled
