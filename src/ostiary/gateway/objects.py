"""Files, batches and responses that live at a provider and belong to a caller. It must not keep a table of them.

The id a caller gets is not the provider's: it carries the deployment where the object lives, its owner, the provider's
id and whether the lines of the file were judged, under a keyed MAC. So a foreign or forged id is refused without asking
anybody, exactly as one that never existed, and an object is always asked for where it was made. Listing would show what
others keep in the same provider account, and is refused.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
from collections.abc import Callable
from typing import NamedTuple, TypeAlias
from urllib.parse import parse_qs

import msgspec

from ostiary.core.fault import Fault, Kind, Origin
from ostiary.core.key import VirtualKey
from ostiary.core.snapshot import Deployment, PolicySnapshot
from ostiary.gateway.policy.authorise import may_use, resolve
from ostiary.gateway.ports import Inbound, Route
from ostiary.wire.dialects.openai_chat.batch import rewritten_line
from ostiary.wire.dialects.openai_chat.raw import FormAsk, read_form
from ostiary.wire.governed import Ask, read

MARK = "ost-"
RESPONSE = "resp_"
MAC_BYTES = 16
LINES_AT_ONCE = 100  # of a batch file, before other requests get their turn
_ID_MEMBERS = ("id", "input_file_id", "output_file_id", "error_file_id")
_GIVEN_MEMBERS = ("id", "input_file_id")  # of those, what a request may have brought
_MODEL_FIELDS = ("model", "target_model_names")
_OF_RESPONSES = b"response\0"  # before what the MAC covers: no content of a file's name begins like that

# the deployments of a public name, and that name -> the same, with a wildcard's stars filled
Specific: TypeAlias = Callable[[tuple[Deployment, ...], str], tuple[Deployment, ...]]

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class Placed(NamedTuple):
    """Where a request about an object goes: what is sent, to which deployment, about which of the provider's ids.

    `judged`: the file's lines were authorised, so that a batch may be made of it.
    """

    ask: PlainAsk
    deployment: Deployment
    item: str
    judged: bool


class PlainAsk:
    """A request whose body is ready: the same face as `Ask`, nothing left to patch."""

    __slots__ = ("body", "content_type", "max_output", "model", "own", "stream", "user", "wants_usage")

    def __init__(self, body: bytes, content_type: bytes, model: str) -> None:
        self.body = body
        self.content_type = content_type
        self.model = model
        self.own: dict[str, msgspec.Raw] = {}
        self.max_output: int | None = None
        self.stream = self.wants_usage = False
        self.user = ""

    def patched(self, model: str, *, include_usage: bool, defaults: object = ()) -> bytes:
        """The body as it is."""
        del model, include_usage, defaults
        return self.body


class Objects:
    """Names objects for callers and finds them again.

    Args:
        mac: a keyed MAC of at least 16 bytes.
    """

    def __init__(self, mac: Callable[[bytes], bytes]) -> None:
        self._mac = mac

    async def place(
        self, snapshot: PolicySnapshot, key: VirtualKey, route: Route, inbound: Inbound, body: bytes, specific: Specific
    ) -> Placed:
        """Judge a request of the files and batches endpoints.

        Args:
            specific: gives the deployments of a wildcard the name of one model.

        Raises:
            Fault: NOT_FOUND for an id that is not the caller's; what reading and authorising the request raises.
        """
        name, kind = route.endpoint.name, _content_type(inbound)
        if name in ("files.list", "batches.list"):
            public = (
                "the objects of a provider account are not listed, since others share it; keep the ids you are given"
            )
            raise Fault(Kind.ROUTE_DENIED, public, origin=Origin.POLICY)
        if name == "files.create":
            return await self._new_file(snapshot, key, inbound, body, kind, specific)
        if name == "batches.create":
            return self._new_batch(snapshot, key, body)
        deployment, item, judged = self.open(snapshot, key, route.item)
        return Placed(PlainAsk(b"", b"application/json", deployment.model_name), deployment, item, judged)

    async def _new_file(
        self,
        snapshot: PolicySnapshot,
        key: VirtualKey,
        inbound: Inbound,
        body: bytes,
        kind: bytes,
        specific: Specific,
    ) -> Placed:
        """A file goes to the first deployment of its model, resting or not: it will have to stay where it is put."""
        form = read_form(body, kind, default_model=_named_model(inbound), model_fields=_MODEL_FIELDS)
        group, deployments = resolve(snapshot, key, form.model)
        deployment = specific(deployments, group)[0]
        content = None
        judged = form.field("purpose").startswith("batch")  # some providers spell it `batch-api`
        if judged:
            content = await self._batch_lines(snapshot, key, form, deployment, specific)
        ask = PlainAsk(form.without(_MODEL_FIELDS, file=content), kind, group)
        return Placed(ask, deployment, "", judged)

    async def _batch_lines(
        self, snapshot: PolicySnapshot, key: VirtualKey, form: FormAsk, home: Deployment, specific: Specific
    ) -> bytes:
        """Each line authorised and written for the deployment, like a request of its own."""

        def rewrite(ask: Ask) -> bytes:
            group, deployments = resolve(snapshot, key, ask.model)
            deployment = next((d for d in specific(deployments, group) if d.id == home.id), None)
            if deployment is None:
                public = "a batch file names models of one deployment only: those of its `model`"
                raise Fault(Kind.INVALID_REQUEST, public, param="file")
            return ask.patched(deployment.upstream_model, include_usage=False, defaults=deployment.defaults)

        lines = form.file().split(b"\n")
        for index, line in enumerate(lines):
            lines[index] = rewritten_line(line, index + 1, snapshot.limits.max_depth, rewrite)
            if index % LINES_AT_ONCE == LINES_AT_ONCE - 1:
                await asyncio.sleep(0)
        return b"\n".join(lines)

    def _new_batch(self, snapshot: PolicySnapshot, key: VirtualKey, body: bytes) -> Placed:
        if key.max_budget is not None:
            public = "what a batch will cost is not known when it is made, and this key has a budget"
            raise Fault(Kind.UNKNOWN_PRICE, public, origin=Origin.POLICY)
        ask = read(body, max_depth=snapshot.limits.max_depth, default_model="-")
        try:
            file_id = msgspec.json.decode(ask.members["input_file_id"], type=str)
        except (KeyError, msgspec.DecodeError):
            raise Fault(Kind.INVALID_REQUEST, "'input_file_id' must be a string", param="input_file_id") from None
        deployment, item, judged = self.open(snapshot, key, file_id)
        if not judged:
            public = "a batch is made of a file that was uploaded for one, with the purpose 'batch'"
            raise Fault(Kind.INVALID_REQUEST, public, param="input_file_id")
        members = {**ask.members, "input_file_id": msgspec.Raw(_encode(item))}
        members.pop("model", None)
        kept = {name: value for name, value in members.items() if name not in ask.own}
        return Placed(PlainAsk(_encode(kept), b"application/json", deployment.model_name), deployment, "", True)

    # --- ids ---

    def name(self, deployment: Deployment, key: VirtualKey, upstream_id: str, *, judged: bool) -> str:
        """The id under which the key's owner knows an object."""
        prefix = "batch_" if upstream_id.startswith("batch") else "file-"
        return self._named(prefix, msgspec.msgpack.encode((deployment.id, owner_of(key), upstream_id, judged)))

    def response_name(self, deployment: Deployment, key: VirtualKey, upstream_id: str) -> str:
        """The id under which the key's owner knows a response that a provider keeps."""
        content = (deployment.id, key.organization_id, owner_of(key), upstream_id)
        return self._named(RESPONSE, msgspec.msgpack.encode(content), _OF_RESPONSES)

    def open_response(self, snapshot: PolicySnapshot, key: VirtualKey, name: str) -> tuple[Deployment, str]:
        """The deployment and the provider's id behind a response's name. Content is its owner's only, and no
        administrator's.

        Raises:
            Fault: NOT_FOUND for a name that was never given, was given to somebody else, or whose home is gone.
        """
        content = self._content(name, _OF_RESPONSES)
        deployment_id, org_id, owner, upstream_id = msgspec.msgpack.decode(content, type=tuple[str, str, str, str])
        deployment = snapshot.deployments.get(deployment_id)
        if deployment is None or (org_id, owner) != (key.organization_id, owner_of(key)):
            raise absent()
        if not may_use(snapshot, key, deployment.model_name):
            raise absent()
        return deployment, upstream_id

    def _named(self, prefix: str, content: bytes, domain: bytes = b"") -> str:
        mac = self._mac(domain + content)[:MAC_BYTES]
        return f"{prefix}{MARK}{base64.urlsafe_b64encode(mac + content).rstrip(b'=').decode()}"

    def _content(self, name: str, domain: bytes = b"") -> bytes:
        """What a name carries, if it was given here.

        Raises:
            Fault: NOT_FOUND.
        """
        _, mark, text = name.partition(MARK)
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise absent() from None
        mac, content = raw[:MAC_BYTES], raw[MAC_BYTES:]
        if not mark or not hmac.compare_digest(mac, self._mac(domain + content)[:MAC_BYTES]):
            raise absent()
        return content

    def open(self, snapshot: PolicySnapshot, key: VirtualKey, name: str) -> tuple[Deployment, str, bool]:
        """The deployment and the provider's id behind a name, and whether its lines were judged.

        Raises:
            Fault: NOT_FOUND for a name that was never given, was given to somebody else, or whose home is gone.
        """
        content = self._content(name)
        deployment_id, owner, upstream_id, judged = msgspec.msgpack.decode(content, type=tuple[str, str, str, bool])
        deployment = snapshot.deployments.get(deployment_id)
        if deployment is None or not (key.admin or owner == owner_of(key)):
            raise absent()
        if not may_use(snapshot, key, deployment.model_name):
            raise absent()
        return deployment, upstream_id, judged

    def renamed(self, body: bytes, deployment: Deployment, key: VirtualKey, *, judged: bool) -> bytes:
        """A provider's answer about an object, with its ids replaced by the caller's. What it made is not judged."""
        try:
            members = _members(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return body  # an error in another shape; it is relayed
        for member in _ID_MEMBERS:
            raw = members.get(member)
            if raw is not None and bytes(raw).startswith(b'"'):
                upstream_id = msgspec.json.decode(raw, type=str)
                name = self.name(deployment, key, upstream_id, judged=judged and member in _GIVEN_MEMBERS)
                members[member] = msgspec.Raw(_encode(name))
        return _encode(members)


def is_about_objects(route: Route) -> bool:
    """Whether a route's requests concern files or batches."""
    return route.endpoint.mode in ("file", "batch")


def _named_model(inbound: Inbound) -> str:
    """The model a file is meant for, named outside its form."""
    for name, value in inbound.headers:
        if name == b"x-litellm-model":
            return value.decode("latin-1")
    try:
        return parse_qs(inbound.query.decode("ascii")).get("model", [""])[0]
    except (UnicodeDecodeError, ValueError):
        return ""


def _content_type(inbound: Inbound) -> bytes:
    return next((value for name, value in inbound.headers if name == b"content-type"), b"")


def owner_of(key: VirtualKey) -> str:
    """Who shares an object: the team, else the user, else the key alone. A user named like a team is not that team."""
    if key.team_id:
        return f"team:{key.team_id}"
    return f"user:{key.user_id}" if key.user_id else f"key:{key.id}"


def absent() -> Fault:
    """The answer for what is not there, or not for the caller."""
    return Fault(Kind.NOT_FOUND, "there is no such object")
