"""What reports call a key: its token and its names. It must not show a key's text."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from ostiary.control.access.keytext import possible_key, token_digest
from ostiary.core.key import ADMIN_KEY_ID
from ostiary.store.directory import Directory
from ostiary.store.keys import KeyRepository


class KeyNames(msgspec.Struct, frozen=True):
    """A key in a report. `token` is what the API calls its hash."""

    token: str
    alias: str | None = None
    name: str | None = None
    team_id: str | None = None


class KeyBook:
    """Keys by what reports and callers call them.

    Args:
        keys: where keys rest, deleted ones included.
        digest: the keyed digest of a key's text.
        directory: names of teams.
    """

    def __init__(self, keys: KeyRepository, digest: Callable[[str], bytes], directory: Directory) -> None:
        self._keys = keys
        self._digest = digest
        self._directory = directory

    async def names(self, ids: Iterable[str]) -> dict[str, KeyNames]:
        """Names for every id; one that is not a stored key is called by its id."""
        wanted = sorted(set(ids))
        found = await self._keys.names([key_id for key_id in wanted if key_id and key_id != ADMIN_KEY_ID])
        teams = await self._directory.team_names({row.team_id for row in found.values() if row.team_id})
        return {
            key_id: KeyNames(row.digest.hex(), row.alias, row.hint, teams.get(row.team_id, row.team_id) or None)
            if (row := found.get(key_id)) is not None
            else KeyNames(key_id)
            for key_id in wanted
        }

    async def id_of(self, text: str | None) -> str | None:
        """The id behind a key's text, token or id in a filter; None stays None, an unknown one matches nothing."""
        if text is None or text == ADMIN_KEY_ID:
            return text
        digest = token_digest(text) or (self._digest(text) if possible_key(text) else None)
        return (digest and await self._keys.id_of(digest)) or "-"
