"""The texts of what the ledger holds by id, in both directions. It must not sum anything up."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from ostiary.core.price import PriceState
from ostiary.core.record import Outcome, Record
from ostiary.core.usage import Usage
from ostiary.store.directory import Directory
from ostiary.store.names import NameKind, Names
from ostiary.store.schema.ledger import usage

Values = Mapping[str, Any]

NAMED: Mapping[str, NameKind] = {
    "end_user": "end_user", "model": "model", "deployment": "deployment", "upstream_model": "upstream_model",
    "tag": "tag",
}  # fmt: skip
OWNED_BY = ("user_id", "team_id", "org_id")

_TEXTS = [name for name in (*NAMED, *OWNED_BY) if name in usage.c]
_USAGE = Usage.__struct_fields__
_PLAIN = [
    name for name in Record.__struct_fields__ if name not in {"usage", "tags", "organization_id", *NAMED, *OWNED_BY}
]


class LedgerTexts:
    """Texts for columns of the ledger, and ids for texts.

    Args:
        names: the dictionaries of requests.
        directory: names of owners.
    """

    def __init__(self, names: Names, directory: Directory) -> None:
        self._names = names
        self._directory = directory

    async def of(self, column: str, ids: Iterable[tuple[str, Any]]) -> Mapping[Any, Any]:
        """What to show for the ids of a column, each given with its organisation; what is no id shows itself."""
        pairs = set(ids)
        if column in NAMED:
            return await self._names.texts(NAMED[column], pairs)
        if column in OWNED_BY:
            found = await self._owner_names(column, {owner for _, owner in pairs if owner})
            return {owner: found.get(owner, owner) for _, owner in pairs}
        return {value: value for _, value in pairs}

    async def ids(self, column: str, texts: Sequence[str]) -> list[Any]:
        """The values of a column that mean one of these texts."""
        if column in NAMED:
            return await self._names.everywhere(NAMED[column], texts)
        if column in OWNED_BY:
            return [found for text in texts for found in await self._owners(column, text)]
        return list(texts)

    async def records(self, rows: Sequence[Values]) -> list[Record]:
        """Records with the names that callers know, of rows of `usage`."""
        texts = {column: await self.of(column, ((row["org_id"], row[column]) for row in rows)) for column in _TEXTS}
        tags = {row["tags"]: numbers(row["tags"]) for row in rows}
        tagged = await self.of("tag", ((row["org_id"], tag) for row in rows for tag in tags[row["tags"]]))
        found = []
        for row in rows:
            values = {name: row[name] for name in _PLAIN}
            values.update((column, texts[column][row[column]]) for column in _TEXTS)
            values["organization_id"] = values.pop("org_id")
            values["outcome"], values["price"] = Outcome(row["outcome"]), PriceState(row["price"])
            values["tags"] = tuple(tagged[tag] for tag in tags[row["tags"]])
            found.append(Record(**values, usage=Usage(**{name: row[name] for name in _USAGE})))
        return found

    async def _owner_names(self, column: str, ids: Collection[str]) -> Mapping[str, str]:
        if column == "user_id":
            return await self._directory.user_names(ids)
        if column == "team_id":
            return await self._directory.team_names(ids)
        return await self._directory.organization_names(ids)

    async def _owners(self, column: str, text: str) -> Sequence[str]:
        if column == "org_id":
            found = await self._directory.find_organization(text) if text else self._directory.default_org
        elif not text:
            return [""]
        elif column == "team_id":
            return await self._directory.find_teams(text)
        else:
            found = await self._directory.find_user(text)
        return [] if found is None else [found]


def numbers(packed: bytes) -> tuple[int, ...]:
    """The ids in a column of several."""
    return tuple(int.from_bytes(packed[start : start + 8], "big") for start in range(0, len(packed), 8))
