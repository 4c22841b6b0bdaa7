"""The model table with the operator's own rows before the shipped ones. It must not read the file itself."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from ostiary.catalog.models import Models
from ostiary.catalog.overrides import Overrides, read_overrides
from ostiary.config.node import shown
from ostiary.config.problem import Place, Problem, error, warning
from ostiary.config.shapes import Loaded

SETTING = "ostiary.catalog_file"
_NAMED = 20  # rows that are refused, one by one
_EXAMPLES = 3


class _Last:
    """The file read last: every compilation asks for it again, and a large one takes a fifth of a second."""

    def __init__(self) -> None:
        self._seen: tuple[bytes, Models] | None = None
        self._found = Overrides()

    def read(self, raw: bytes, shipped: Models) -> Overrides:
        """What is in the file."""
        seen = self._seen
        if seen is None or seen[1] is not shipped or (seen[0] is not raw and seen[0] != raw):
            self._found = read_overrides(raw, shipped)
            self._seen = raw, shipped
        return self._found


@cache
def _last() -> _Last:
    return _Last()


def with_own_rows(shipped: Models, loaded: Loaded) -> tuple[Models, list[Problem]]:
    """The table that deployments are completed from, and what there is to say about the rows of the file."""
    if not loaded.catalog:
        return shipped, []
    found = _last().read(loaded.catalog, shipped)
    place = loaded.places.get(SETTING, Place())
    problems = [error(place, SETTING, f"{shown(row)}: {reason}" if row else reason) for row, reason in found.refused]
    if len(problems) > _NAMED:
        rest = len(problems) - _NAMED
        problems = [*problems[:_NAMED], error(place, SETTING, f"and {rest} members more that cannot be taken")]
    problems.extend(warning(place, SETTING, text) for text in _summed(found.remarks))
    return (shipped.under(found.models) if found.models else shipped), problems


def _summed(remarks: Iterable[tuple[str, str]]) -> list[str]:
    """A line for each reason, with how many rows it is about and the first of them."""
    rows: dict[str, list[str]] = {}
    for row, reason in remarks:
        rows.setdefault(reason, []).append(shown(row))
    texts = []
    for reason, names in rows.items():
        more = f" and {len(names) - _EXAMPLES} more" if len(names) > _EXAMPLES else ""
        texts.append(f"{', '.join(names[:_EXAMPLES])}{more}: {reason}")
    return texts
