"""Who may do what: the closed list of permissions, and the callers that hold them. It must not know any route."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from ostiary.core.key import ADMIN_KEY_ID, VirtualKey


class Permission(StrEnum):
    """What a route can ask for."""

    KEY_CREATE = "key:create"
    KEY_READ = "key:read"
    KEY_READ_SELF = "key:read:self"
    KEY_UPDATE = "key:update"
    KEY_DELETE = "key:delete"
    KEY_BLOCK = "key:block"
    KEY_ROTATE = "key:rotate"
    MODEL_CREATE = "model:create"
    MODEL_READ_SELF = "model:read:self"
    MODEL_UPDATE = "model:update"
    MODEL_DELETE = "model:delete"
    USAGE_READ = "usage:read"
    SPEND_RESET = "spend:reset"
    API_READ = "api:read"


class Caller(msgspec.Struct, frozen=True):
    """Somebody known. `key` is the virtual key that was shown, None for the administrator's key."""

    id: str
    permissions: frozenset[Permission]
    key: VirtualKey | None = None

    def may(self, permission: Permission) -> bool:
        """Whether the caller holds this permission."""
        return permission in self.permissions


ADMINISTRATOR = Caller(ADMIN_KEY_ID, frozenset(Permission))


def key_caller(key: VirtualKey) -> Caller:
    """The caller behind a virtual key: it may look at itself, and at the models it may use."""
    return Caller(key.id, frozenset({Permission.KEY_READ_SELF, Permission.MODEL_READ_SELF}), key)
