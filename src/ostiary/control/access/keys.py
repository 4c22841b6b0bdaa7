"""The service of virtual keys: every rule about making and changing them. It must not keep or log a key's text."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from ostiary.control.access.documents import LONGEST_SECONDS, money, read, rest, seconds, wrong
from ostiary.control.access.keyfields import (
    BulkUpdate,
    DeleteKeys,
    GenerateKey,
    KeyFields,
    KeyInfo,
    ListAliases,
    ListKeys,
    OneKey,
    RegenerateKey,
    ResetSpend,
    UpdateKey,
    key_view,
)
from ostiary.control.access.keytext import SHORTEST, possible_key, token_digest
from ostiary.control.access.owners import Owners
from ostiary.control.access.permissions import Caller, Permission
from ostiary.control.access.ports import Changes, Spending
from ostiary.core.clock import Clock
from ostiary.core.fault import Fault, Kind
from ostiary.core.ids import key_hint, mint_key, time_ordered_id
from ostiary.core.money import Nano
from ostiary.store.directory import Directory
from ostiary.store.keys import KeyRepository, SortField, Status
from ostiary.store.rows import MILLISECONDS, KeyRow

ENTROPY = 64  # bytes: 10 for the kid, the rest for the secret
LARGEST_PAGE = 1000
LARGEST_BULK = 500
TOLD_AT_ONCE = 100  # keys that the data plane is told of in one turn of the event loop
FOR_EVER = "-1"  # a duration that takes the expiry away
ATTEMPTS = 3  # at a change that somebody else's change overtakes

# Request field -> field of the row, where the value travels as it is.
_PLAIN = {
    "rpm_limit": "rpm_limit",
    "tpm_limit": "tpm_limit",
    "max_parallel_requests": "max_parallel",
    "model_rpm_limit": "model_rpm",
    "model_tpm_limit": "model_tpm",
    "models": "models",
    "aliases": "aliases",
    "metadata": "metadata",
    "tags": "tags",
    "allowed_routes": "allowed_routes",
    "blocked": "blocked",
}
_SORTS: dict[str, SortField] = {
    "created_at": "created_at",
    "updated_at": "updated_at",
    "key_alias": "alias",
    "expires": "expires",
    "max_budget": "max_budget",
    "user_id": "user_id",
    "team_id": "team_id",
}
_STATUSES: dict[str, Status] = {name: name for name in ("active", "expired", "revoked", "deleted")}
# Fields that belong to a request, not to the key.
_REQUEST_ONLY = frozenset({"send_invite_email", "new_master_key", "key", "token", "token_id", "key_name"})


class KeyService:
    """Virtual keys, under the requests and answers of the compatible surface.

    Args:
        keys: where they rest.
        digest: the keyed digest of a key's text.
        changes: told after each change.
        clock: for expiry and budget windows.
        directory: organisations, teams and users by name.
        region: part of every key made here.
        defaults: `default_key_generate_params`: fields for requests that leave them out.
        upper: `upperbound_key_generate_params`: the most a request may ask for, and what a new key gets without asking.
        entropy: bytes for new keys.
        spending: what keys have spent that the store may not know yet.
    """

    def __init__(
        self,
        keys: KeyRepository,
        digest: Callable[[str], bytes],
        changes: Changes,
        clock: Clock,
        directory: Directory,
        *,
        region: str = "local",
        defaults: Mapping[str, object] | None = None,
        upper: Mapping[str, object] | None = None,
        entropy: Callable[[int], bytes] = os.urandom,
        spending: Spending = lambda _key_id: None,
    ) -> None:
        self._keys = keys
        self._digest = digest
        self._changes = changes
        self._clock = clock
        self._owners = Owners(directory)
        self._region = region
        self._defaults = dict(defaults or {})
        self._upper = dict(upper or {})
        self._entropy = entropy
        self._spending = spending

    async def generate(self, document: Mapping[str, object], caller: Caller) -> dict[str, object]:
        """A new key. The answer holds its text, this once."""
        document = self._within_bounds({**dict.fromkeys(self._upper), **self._defaults, **document})
        fields = read(document, GenerateKey)
        text = self._own_text(fields.key, "key") or mint_key(self._region, self._entropy(ENTROPY))
        now = self._now()
        blank = KeyRow(
            id=time_ordered_id(now, int.from_bytes(self._entropy(10), "big")),
            digest=self._digest(text),
            hint=key_hint(text),
            organization_id=self._owners.default_org,
            budget_from=now,
            created_at=now,
            created_by=caller.id,
        )
        row, spend = self._edited(blank, fields, _further(document, GenerateKey), caller)
        row = await self._keys.add(await self._owners.applied(row, fields), spend or 0)
        self._changes.key_changed(row.virtual_key())
        return {**await self._view(row), "key": text}

    async def generate_for_service(self, document: Mapping[str, object], caller: Caller) -> dict[str, object]:
        """A new key that belongs to a team and to no user."""
        if not isinstance(document.get("team_id"), str):
            raise wrong("team_id", "is required")
        if document.get("user_id") is not None:
            raise wrong("user_id", "a service account has no user")
        return await self.generate(document, caller)

    async def info(self, query: Mapping[str, object], caller: Caller) -> dict[str, object]:
        """The key asked for, or the caller's own. Whoever may not read others gets the answer for an unknown one."""
        text = read(query, KeyInfo, strict=False).key
        if text is None:
            if caller.key is None:
                raise wrong("key", "is required: the administrator's key is not a virtual key")
            row = await self._keys.get(key_id=caller.key.id)
        else:
            row = await self._keys.get(digest=self._digest_of(text))
        own = caller.key is not None and row is not None and row.id == caller.key.id
        if row is None or not (own or caller.may(Permission.KEY_READ)):
            raise _unknown()
        info = await self._view(row)
        return {"key": info["token"], "info": info}

    async def list(self, query: Mapping[str, object]) -> dict[str, object]:
        """One page of keys: their tokens, or whole with `return_full_object`."""
        asked = read(query, ListKeys, strict=False)
        if asked.sort_by not in _SORTS:
            raise wrong("sort_by", "expected one of " + ", ".join(_SORTS))
        if asked.sort_order not in {"asc", "desc"}:
            raise wrong("sort_order", "expected asc or desc")
        if asked.status is not None and asked.status not in _STATUSES:
            raise wrong("status", "expected one of " + ", ".join(_STATUSES))
        size, page = _page(asked.size, "size"), max(asked.page, 1)
        wanted = msgspec.structs.replace(
            await self._owners.filter(asked),
            alias=asked.key_alias,
            digest=None if asked.key_hash is None else self._digest_of(asked.key_hash),
            status=None if asked.status is None else _STATUSES[asked.status],
            substring=asked.substring_matching,
        )
        rows, total = await self._keys.page(
            wanted,
            sort=_SORTS[asked.sort_by],
            descending=asked.sort_order == "desc",
            offset=(page - 1) * size,
            limit=size,
        )
        return {
            "keys": await self._views(rows) if asked.return_full_object else [row.digest.hex() for row in rows],
            "total_count": total,
            "current_page": page,
            "total_pages": -(-total // size),
        }

    async def aliases(self, query: Mapping[str, object]) -> dict[str, object]:
        """One page of key aliases."""
        asked = read(query, ListAliases, strict=False)
        size, page = _page(asked.size, "size"), max(asked.page, 1)
        found, total = await self._keys.aliases(offset=(page - 1) * size, limit=size, search=asked.search)
        pages = -(-total // size)
        return {"aliases": found, "total_count": total, "current_page": page, "total_pages": pages, "size": size}

    async def health(self, caller: Caller) -> dict[str, object]:
        """Whether the key that was shown works: it does, or it would not have come here."""
        return {"key": "healthy", "logging_callbacks": None, "key_id": caller.id}

    async def update(self, document: Mapping[str, object], caller: Caller) -> dict[str, object]:
        """Change what the document names."""
        document = self._within_bounds({**document})
        fields = read(document, UpdateKey)
        row = await self._change(
            fields.key, fields, _further(document, UpdateKey), caller, cancel=fields.cancel_in_flight
        )
        view = await self._view(row)
        return {"key": view["token"], **view}

    async def bulk_update(self, document: Mapping[str, object], caller: Caller) -> dict[str, object]:
        """Many updates; each succeeds or fails on its own."""
        asked = read(document, BulkUpdate).keys
        if not 0 < len(asked) <= LARGEST_BULK:
            raise wrong("keys", f"expected 1 to {LARGEST_BULK} keys")
        done: list[object] = []
        failed: list[object] = []
        for position, one in enumerate(asked):
            try:
                answer = await self.update(one, caller)
            except Fault as fault:
                if fault.kind is Kind.UNAVAILABLE:
                    raise
                failed.append({"key": f"keys.{position}", "failed_reason": fault.public})
            else:
                done.append({"key": answer["token"], "key_info": answer})
        return {"total_requested": len(asked), "successful_updates": done, "failed_updates": failed}

    async def block(self, document: Mapping[str, object], caller: Caller, *, blocked: bool) -> dict[str, object]:
        """Block or unblock a key."""
        asked = read(document, OneKey)
        fields = KeyFields(blocked=blocked)
        row = await self._change(asked.key, fields, {}, caller, cancel=blocked and asked.cancel_in_flight)
        return await self._view(row)

    async def delete(self, document: Mapping[str, object], caller: Caller) -> dict[str, object]:
        """Delete keys by key, token or alias: all of them, or none when one is unknown."""
        asked = read(document, DeleteKeys)
        names = [("keys", name) for name in asked.keys or ()] + [
            ("key_aliases", name) for name in asked.key_aliases or ()
        ]
        if not 0 < len(names) <= LARGEST_BULK:
            raise wrong("keys", f"expected 1 to {LARGEST_BULK} of `keys` or `key_aliases`")
        rows: dict[str, KeyRow] = {}
        for field, name in names:
            row = await (self._called(name) if field == "key_aliases" else self._keys.get(digest=self._digest_of(name)))
            if row is None:
                raise Fault(Kind.NOT_FOUND, f"`{field}` names a key that does not exist", param=field)
            rows[row.id] = row
        retired = {row.id: await self._keys.retired(row.id) for row in rows.values()}
        await self._keys.remove(list(rows))
        for row in rows.values():
            for digest in (*(old for old, _ in retired[row.id]), row.digest):
                self._changes.key_removed(row.id, digest, cancel_in_flight=asked.cancel_in_flight)
        return {"deleted_keys": [row.digest.hex() for row in rows.values()], "deleted_by": caller.id}

    async def regenerate(
        self, document: Mapping[str, object], caller: Caller, key: str | None = None
    ) -> dict[str, object]:
        """A new text for a key, with changes where the document names some. The old one works until its grace ends."""
        if document.get("new_master_key") is not None:
            raise wrong("new_master_key", "the master key is not changed over the network")
        document = self._within_bounds({**document})
        fields = read(document, RegenerateKey)
        name = key or fields.key
        if name is None:
            raise wrong("key", "is required")
        text = self._own_text(fields.new_key, "new_key") or mint_key(self._region, self._entropy(ENTROPY))
        grace = seconds(fields.grace_period, "grace_period")
        row = await self._change(
            name, fields, _further(document, RegenerateKey), caller, cancel=fields.cancel_in_flight,
            text=text, retire_until=None if grace is None else self._now() + grace * MILLISECONDS,
        )  # fmt: skip
        return {**await self._view(row), "key": text}

    async def reset_spend(self, document: Mapping[str, object], caller: Caller, key: str) -> dict[str, object]:
        """Set what a key has spent in its running window."""
        fields = KeyFields(spend=read(document, ResetSpend).reset_to)
        return await self._view(await self._change(key, fields, {}, caller, cancel=False))

    async def reset_all_spend(self, caller: Caller) -> dict[str, object]:
        """Begin a new budget window for every key, in which nothing is spent. What was used stays in the ledger."""
        await self._keys.begin_windows(caller.id)
        last = ""
        while rows := await self._keys.after(last, TOLD_AT_ONCE):
            for row in rows:
                self._changes.key_changed(row.virtual_key())
            last = rows[-1].id
        return {"message": "Spend for all API Keys reset successfully", "status": "success"}

    async def _change(
        self,
        name: str,
        fields: KeyFields,
        further: Mapping[str, object],
        caller: Caller,
        *,
        cancel: bool,
        text: str | None = None,
        retire_until: int | None = None,
    ) -> KeyRow:
        """Edit one key, commit, and tell."""
        for attempt in range(1, ATTEMPTS + 1):
            before = await self._keys.get(digest=self._digest_of(name))
            if before is None:
                raise _unknown()
            row, spend = self._edited(before, fields, further, caller)
            row = await self._owners.applied(row, fields)
            if text is not None:
                row = msgspec.structs.replace(row, digest=self._digest(text), hint=key_hint(text))
            try:
                row = await self._keys.change(row, revision=before.revision, spend=spend, retire_until=retire_until)
            except Fault as fault:
                overtaken = fault.status == 409 and fault.param is None
                if not overtaken or attempt == ATTEMPTS:
                    raise
            else:
                await self._tell(row, cancel)
                return row
        raise AssertionError("the last attempt returns or raises")

    async def _called(self, alias: str) -> KeyRow | None:
        """The one key with this alias. Each organisation may have one."""
        rows = await self._keys.called(alias)
        if len(rows) > 1:
            raise wrong("key_aliases", "several organisations have a key of this alias: name it in `keys`")
        return rows[0] if rows else None

    async def _view(self, row: KeyRow) -> dict[str, object]:
        return (await self._views([row]))[0]

    async def _views(self, rows: Sequence[KeyRow]) -> Sequence[dict[str, object]]:
        owners = await self._owners.of(rows)
        views = []
        for row in rows:
            spend = self._spending(row.id)
            shown = row if spend is None else msgspec.structs.replace(row, spend=spend)
            views.append(key_view(shown, owners[row.id]))
        return views

    async def _tell(self, row: KeyRow, cancel: bool) -> None:
        """Digests in their grace are forgotten first, and read anew: the store knows how long they last."""
        for digest, _ in await self._keys.retired(row.id):
            self._changes.key_removed(row.id, digest, cancel_in_flight=cancel)
        self._changes.key_changed(row.virtual_key(), cancel_in_flight=cancel)

    def _edited(
        self, row: KeyRow, fields: KeyFields, further: Mapping[str, object], caller: Caller
    ) -> tuple[KeyRow, Nano | None]:
        """The row with the fields applied, and what its window shall have spent, if that is set."""
        blank = {field.name: field.default for field in msgspec.structs.fields(KeyRow)}
        changes: dict[str, Any] = {"updated_at": self._now(), "updated_by": caller.id}
        for name, column in _PLAIN.items():
            value = getattr(fields, name)
            if value is not UNSET:
                value = blank[column] if value is None else value
                changes[column] = tuple(value) if isinstance(value, list) else value
        if fields.key_alias is not UNSET:
            changes["alias"] = fields.key_alias or None
        for name in ("max_budget", "soft_budget"):
            value = getattr(fields, name)
            if value is not UNSET:
                changes[name] = money(value, name)
        if fields.duration is not UNSET:
            length = None if fields.duration in {None, FOR_EVER} else seconds(fields.duration, "duration")
            changes["expires"] = None if length is None else self._now() + length * MILLISECONDS
        if fields.budget_duration is not UNSET and fields.budget_duration != row.budget_duration:
            changes["budget_seconds"] = seconds(fields.budget_duration, "budget_duration")
            changes["budget_duration"] = fields.budget_duration
            changes["budget_from"] = self._now()
        extra = {**row.extra, **further}
        spend = None if fields.spend is UNSET else money(fields.spend or 0, "spend")
        if spend is not None:  # a new window: the data plane takes a spend over with a later window only
            changes["budget_from"] = max(self._now(), row.spend_from + 1)
        return msgspec.structs.replace(row, **changes, extra=extra), spend

    def _within_bounds(self, document: dict[str, object]) -> dict[str, object]:
        """The document with the configuration's upper bounds for fields that are null, refused beyond one of them."""
        for name, most in self._upper.items():
            if name not in document:
                continue
            if document[name] is None:
                document[name] = most
            elif _size(document[name], name) > _size(most, name):
                raise wrong(name, f"at most {most}")
        return document

    def _own_text(self, text: str | None, field: str) -> str | None:
        """A key that the caller brings along."""
        if text is not None and not possible_key(text):
            raise wrong(
                field,
                f"a key begins with sk- and has {SHORTEST} to 256 letters, digits or -_.~+/=; "
                "one beginning with sk-ost- carries a checksum",
            )
        return text

    def _digest_of(self, text: str) -> bytes:
        """The digest of a key named by its text or its token."""
        digest = token_digest(text)
        if digest is None:
            if not possible_key(text):
                raise _unknown()
            digest = self._digest(text)
        return digest

    def _now(self) -> int:
        return int(self._clock.now() * MILLISECONDS)


def _further(document: Mapping[str, object], kind: type[msgspec.Struct]) -> dict[str, object]:
    """The fields without a meaning here: kept and shown, but never in place of one that has."""
    return {name: value for name, value in rest(document, kind).items() if name not in _REQUEST_ONLY}


def _size(value: object, field: str) -> int:
    """What to compare with an upper bound: seconds, nanodollars, or the number itself."""
    if field in {"duration", "budget_duration"} and isinstance(value, str):
        return LONGEST_SECONDS + 1 if value == FOR_EVER else seconds(value, field) or 0
    if field in {"max_budget", "soft_budget"} and isinstance(value, int | float | str):
        return money(value, field) or 0
    return value if isinstance(value, int) else 0  # of another type: refused when the fields are read


def _page(size: int, field: str) -> int:
    if not 1 <= size <= LARGEST_PAGE:
        raise wrong(field, f"expected 1 to {LARGEST_PAGE}")
    return size


def _unknown() -> Fault:
    return Fault(Kind.NOT_FOUND, "the key does not exist", param="key")
