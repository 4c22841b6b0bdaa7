"""The data plane's front: the route table, and the few answers that need no provider. It must not decide rights.

Paths: every endpoint exists below each of its prefixes; those of the OpenAI API also below
`/openai/deployments/{model}` and `/engines/{model}`. What is not in the table belongs to the control plane.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple, TypeAlias

import msgspec

from ostiary.core.fault import Fault, Kind, Origin
from ostiary.core.operation import BodyKind, Endpoint, Operation
from ostiary.gateway.answer import fault_head
from ostiary.gateway.duplex import DuplexInbound
from ostiary.gateway.exchange import Exchange
from ostiary.gateway.ledger.account import Account
from ostiary.gateway.listing import asked_names
from ostiary.gateway.native import native_route
from ostiary.gateway.plane import Plane
from ostiary.gateway.policy.authorise import find_group, may_use, usable
from ostiary.gateway.policy.identify import credential_of
from ostiary.gateway.ports import Inbound, Route, WrongMethod
from ostiary.gateway.realtime import Seats, Session
from ostiary.gateway.responses import Responses
from ostiary.gateway.stored_responses import CANCEL, DELETE, ITEMS, StoredResponses
from ostiary.wire.dialects.openai_chat import raw
from ostiary.wire.dialects.openai_chat.faults import encode_fault
from ostiary.wire.dialects.openai_chat.values import FAMILY
from ostiary.wire.realtime import events
from ostiary.wire.registry import SPOKEN

_NONE = BodyKind.NONE
_OWN_ENDPOINTS = (
    Endpoint("models.list", Operation.RAW, "GET", "/models", _NONE),
    Endpoint("models.get", Operation.RAW, "GET", "/models/{id}", _NONE),
)
PAST_US = "realtime.past_us"
_PAST_US = tuple(
    Endpoint(PAST_US, Operation.RAW, "POST", path, _NONE, prefixes=events.ENDPOINT.prefixes) for path in events.PAST_US
)
_MODEL_PREFIXES = ("/openai/deployments/", "/engines/", "/v1/engines/")
# Endpoints with a state of their own: what is asked for may go on from something that is kept.
_EXCHANGES: dict[str, type[Exchange]] = {
    "responses": Responses,
    "responses.input_tokens": Responses,
    "responses.get": StoredResponses,
    DELETE: StoredResponses,
    ITEMS: StoredResponses,
    CANCEL: StoredResponses,
}
_JSON_HEAD = b"content-type: application/json\r\n"
_encode = msgspec.json.Encoder().encode

LocalAnswer: TypeAlias = tuple[int, bytes, bytes]  # status, header lines, body
Answerer: TypeAlias = Callable[[Inbound], Awaitable[LocalAnswer]]


class LocalRoute(NamedTuple):
    """A path the process answers itself, about itself."""

    route: Route
    answer: Answerer


class RouteTable:
    """Which endpoint a method and a canonical path mean."""

    def __init__(self, endpoints: tuple[Endpoint, ...]) -> None:
        self._fixed: dict[str, dict[bytes, Route]] = {}
        self._open: list[tuple[str, str, bytes, Endpoint]] = []  # paths with a name in them: before, after
        self._below_model: dict[str, dict[bytes, Endpoint]] = {}
        for endpoint in endpoints:
            method = endpoint.method.encode()
            name = next((name for name in ("{id}", "{model}") if name in endpoint.path), "")
            for prefix in endpoint.prefixes:
                path = prefix + endpoint.path
                if name:
                    before, _, after = path.partition(name)
                    self._open.append((before, after, method, endpoint))
                else:
                    self._fixed.setdefault(path, {})[method] = Route(endpoint)
            if endpoint.body is not _NONE and not name and endpoint.dialect in FAMILY:
                self._below_model.setdefault(endpoint.path, {})[method] = endpoint
        # "/files/{id}/content" before "/files/{id}"
        self._open.sort(key=lambda row: (-len(row[0]), -len(row[1])))

    def find(self, method: bytes, path: str) -> Route | None:
        """The route; None for a path that is not the data plane's.

        Raises:
            WrongMethod: only the method is wrong.
        """
        methods = self._fixed.get(path)
        if methods is not None:
            route = methods.get(method)
            if route is None:
                raise _wrong_method(methods)
            return route
        for prefix in _MODEL_PREFIXES:
            if path.startswith(prefix):
                return self._below(method, path, prefix)
        return self._named(method, path)

    def _below(self, method: bytes, path: str, prefix: str) -> Route | None:
        rest = path[len(prefix) :]
        for tail, methods in self._below_model.items():
            if rest.endswith(tail) and len(rest) > len(tail):
                endpoint = methods.get(method)
                if endpoint is None:
                    raise _wrong_method(methods)
                return Route(endpoint, model=rest[: -len(tail)])
        return None

    def _named(self, method: bytes, path: str) -> Route | None:
        taken: list[bytes] = []
        for before, after, wanted, endpoint in self._open:
            if not path.startswith(before) or not path.endswith(after):
                continue
            name = path[len(before) : len(path) - len(after)]
            of_model = "{model}" in endpoint.path
            if not name or ("/" in name and not of_model and endpoint.name != "models.get"):
                continue
            if wanted == method:
                return Route(endpoint, model=name) if of_model else Route(endpoint, item=name)
            taken.append(wanted)
        if taken:
            raise _wrong_method(taken)
        return None


class FrontDoor:
    """The `Door` the edge calls."""

    def __init__(self, plane: Plane) -> None:
        chats = (endpoint for dialect in SPOKEN.values() for endpoint in dialect.endpoints)
        self.endpoints = (*chats, *raw.ENDPOINTS, *events.ENDPOINTS, *_PAST_US, *_OWN_ENDPOINTS)
        self._plane = plane
        self._table = RouteTable(self.endpoints)
        self._local: dict[str, LocalRoute] = {}
        self._seats = Seats()

    def add_local(self, path: str, answer: Answerer) -> None:
        """Serve what the process says about itself at `path`: GET only, may raise `Fault`."""
        self._local[path] = LocalRoute(Route(Endpoint(f"local{path}", Operation.RAW, "GET", path, _NONE)), answer)

    def route(self, method: bytes, path: str) -> Route | None:
        """See `Door.route`."""
        route = self._table.find(method, path)
        snapshot = self._plane.snapshot
        if route is None and (snapshot.native or snapshot.pass_throughs):
            route = native_route(snapshot, self._table.find, method, path)
        if route is None and path in self._local:
            if method not in (b"GET", b"HEAD"):
                raise _wrong_method((b"GET", b"HEAD"))
            return self._local[path].route
        return route

    async def serve(self, inbound: Inbound, route: Route) -> None:
        """See `Door.serve`."""
        name = route.endpoint.name
        if name.startswith("local/"):
            await self._answer(inbound, self._local[route.endpoint.path].answer)
        elif name == "models.list":
            await self._answer(inbound, self._models)
        elif name == "models.get":
            await self._answer(inbound, lambda request: self._model(request, route.item))
        elif name == events.SESSION:
            await self._talk(inbound, route)
        elif name == PAST_US:
            await self._answer(inbound, self._past_us)
        else:
            await _EXCHANGES.get(name, Exchange)(self._plane, inbound, route).run()

    async def _talk(self, inbound: Inbound, route: Route) -> None:
        if isinstance(inbound, DuplexInbound):
            await Session(self._plane, self._seats, inbound, route).run()
        else:
            await self._answer(inbound, self._no_duplex)

    async def _no_duplex(self, inbound: Inbound) -> LocalAnswer:
        """What a server that is not ours answers to whoever wants a WebSocket."""
        await self._caller(inbound)
        raise Fault(Kind.INVALID_REQUEST, "WebSockets are served by the gateway's own listener only", status=501)

    async def _past_us(self, inbound: Inbound) -> LocalAnswer:
        """A secret of the provider's would take its holder to the provider directly: unlimited and unrecorded."""
        await self._caller(inbound)
        public = "clients connect to /v1/realtime with their virtual key; secrets for the provider are not given out"
        raise Fault(Kind.ROUTE_DENIED, public, origin=Origin.POLICY)

    async def _answer(self, inbound: Inbound, make: Answerer) -> None:
        try:
            status, head, body = await make(inbound)
        except Fault as fault:
            self._plane.refused(fault)
            call_id = self._plane.new_id(self._plane.clock.now())
            status, head, body = fault.status, fault_head(fault, call_id), encode_fault(fault)
        if not inbound.gone:
            inbound.answer(status, head, body)

    async def _models(self, inbound: Inbound) -> LocalAnswer:
        """GET /v1/models: what the key may use, and nothing else."""
        key = (await self._caller(inbound)).key
        names = asked_names(self._plane.snapshot, key, inbound.query)
        return 200, _JSON_HEAD, _encode({"object": "list", "data": [_model_row(name) for name in names]})

    async def _model(self, inbound: Inbound, name: str) -> LocalAnswer:
        """GET /v1/models/{id}: 404 alike for a model that does not exist and one that is not his."""
        key = (await self._caller(inbound)).key
        snapshot = self._plane.snapshot
        group = snapshot.aliases.get(name, name)
        if not find_group(snapshot, group) or not (may_use(snapshot, key, name) or may_use(snapshot, key, group)):
            raise Fault(Kind.UNKNOWN_MODEL, "there is no such model", param="model")
        return 200, _JSON_HEAD, _encode(_model_row(name))

    async def _caller(self, inbound: Inbound) -> Account:
        text = credential_of(inbound.headers, self._plane.key_header)
        account = self._plane.keys.resident(text) or await self._plane.keys.find(text, inbound.peer)
        usable(account.key, self._plane.clock.now())
        return account

    async def administrator(self, inbound: Inbound) -> None:
        """Refuse everybody but the administrator's key.

        Raises:
            Fault: UNAUTHENTICATED or ROUTE_DENIED.
        """
        account = await self._caller(inbound)
        if not account.key.admin:
            raise Fault(Kind.ROUTE_DENIED, "only the administrator may do this", origin=Origin.POLICY)


def _model_row(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 1_677_610_602, "owned_by": "ostiary"}


def _wrong_method(methods: Iterable[bytes]) -> WrongMethod:
    return WrongMethod("this path does not take this method", methods)
