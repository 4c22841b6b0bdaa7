"""MACs of rows: every column counts, and nothing but this row has this MAC."""

from __future__ import annotations

from typing import Any

import pytest

from ostiary.store.rowmac import COVERED, check, keeper, stamp, stamped
from ostiary.store.schema import metadata
from ostiary.store.sealing import owner
from ostiary.vault.keyring import Keyring
from ostiary.vault.scope import INSTANCE


def row(table: str) -> dict[str, Any]:
    """A row with a different value in every column."""
    values: dict[str, Any] = {}
    for number, column in enumerate(metadata.tables[table].c):
        kind = column.type.python_type
        values[column.name] = {int: number, str: f"text{number}", bytes: b"bytes%d" % number, bool: True}[kind]
    return values


def other(value: object) -> list[object]:
    """Values that are not this one, some of them nearly."""
    match value:
        case bool():
            return [not value, None, int(value)]
        case int():
            return [value + 1, -value - 1, None, str(value)]
        case str():
            return [value + "x", value[:-1], None, value.encode()]
        case bytes():
            return [value + b"x", value[:-1], None, value.decode()]
    raise AssertionError(value)


@pytest.mark.parametrize("table", sorted(COVERED))
def test_cry_06_every_column_of_a_row_counts(keyring: Keyring, table: str) -> None:
    values = stamped(keyring.instance, table, row(table))
    assert len(values["row_mac"]) == 33
    assert check(keyring.instance, table, values)
    for name in values.keys() - {"row_mac"}:
        for value in other(values[name]):
            assert not check(keyring.instance, table, {**values, name: value}), name
    for mac in (b"", b"\x01", b"\x02" + values["row_mac"][1:], values["row_mac"][:-1], values["row_mac"] + b"\0"):
        assert not check(keyring.instance, table, {**values, "row_mac": mac})


def test_every_table_with_a_mac_is_covered_whole() -> None:
    """A new column needs a new version, or it is one that anybody with the database can set."""
    guarded = {name for name, table in metadata.tables.items() if "row_mac" in table.c}
    assert set(COVERED) == guarded
    for name, versions in COVERED.items():
        columns = {column.name for column in metadata.tables[name].c}
        assert set(versions[max(versions)]) == columns - {"row_mac"}
        assert all(len(set(version)) == len(version) for version in versions.values())


def test_two_rows_whose_texts_read_the_same_in_a_row_have_different_macs(keyring: Keyring) -> None:
    first = {**row("settings"), "org_id": "ab", "name": "c"}
    second = {**first, "org_id": "a", "name": "bc"}
    assert stamp(keyring.instance, "settings", first) != stamp(keyring.instance, "settings", second)


async def test_a_mac_holds_for_one_organisation_and_one_table(keyring: Keyring) -> None:
    first, second = await keyring.create("org-1"), await keyring.create("org-2")
    values = stamped(first, "models", row("models"))
    assert check(first, "models", values)
    assert not check(second, "models", values)
    assert not check(keyring.instance, "models", values)
    assert not check(first, "credentials", {**values, "secret": values["params"]})


def test_a_value_that_no_column_has_is_refused(keyring: Keyring) -> None:
    with pytest.raises(TypeError, match="float"):
        stamp(keyring.instance, "settings", {**row("settings"), "revision": 1.0})
    with pytest.raises(KeyError):
        stamp(keyring.instance, "settings", {"org_id": "-"})


def test_what_is_asked_before_an_organisation_is_known_is_kept_by_the_instance() -> None:
    values = {"org_id": "org-1", "id": "one"}
    assert keeper("key_digests", values) == keeper("organizations", values) == keeper("users", values) == INSTANCE
    assert keeper("virtual_keys", values) == owner("virtual_keys", values) == "org-1"
    assert owner("organizations", {"id": "org-1"}) == "org-1"
    assert owner("users", {"id": "one"}) == INSTANCE
