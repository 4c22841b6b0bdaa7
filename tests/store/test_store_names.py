"""The dictionaries: one number for each text of an organisation, whoever asks first, and no memory without bounds."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import select, update
from usage_kit import DEFAULT, OTHER, Ledger, opened_ledger, record

from ostiary.core.clock import Clock
from ostiary.store.database import Database
from ostiary.store.names import Names, Text
from ostiary.store.recent import Recent
from ostiary.store.reports import LogFilter
from ostiary.store.schema.ledger import end_users, names, tags, usage
from ostiary.vault.hierarchy import destroy_scope
from ostiary.vault.keyring import Keyring


@pytest.fixture
async def ledger(database: Database, keyring: Keyring, clock: Clock) -> Ledger:
    return await opened_ledger(database, keyring, clock)


async def test_a_text_has_one_number_by_organisation_and_kind(ledger: Ledger) -> None:
    places: list[Text] = [
        (DEFAULT, "model", "gpt"), (DEFAULT, "upstream_model", "gpt"), (DEFAULT, "end_user", "gpt"),
        (OTHER, "model", "gpt"), (DEFAULT, "model", "GPT"), (DEFAULT, "tag", ""),
    ]  # fmt: skip
    found = await ledger.names.resolve(places)
    assert found.pop((DEFAULT, "tag", "")) == 0
    assert len(set(found.values())) == len(found) == 5
    assert all(0 < number < 2**63 for number in found.values())
    assert await ledger.another_process().names.resolve(places[:5]) == found


async def test_texts_come_back_and_what_is_not_there_is_called_by_its_number(ledger: Ledger) -> None:
    found = await ledger.names.resolve([(DEFAULT, "tag", f"tag {number}\u00e9") for number in range(1200)])
    fresh = ledger.another_process().names
    asked = [(DEFAULT, number) for number in found.values()]
    assert await fresh.texts("tag", asked) == {number: text for (_, _, text), number in found.items()} | {0: ""}
    assert await fresh.texts("tag", [(DEFAULT, 17), (OTHER, asked[0][1]), ("gone", 5), (DEFAULT, 0)]) == {
        17: "17", asked[0][1]: str(asked[0][1]), 5: "5", 0: "",
    }  # fmt: skip


async def test_to_look_for_a_text_makes_none(ledger: Ledger) -> None:
    known = await ledger.names.resolve([(DEFAULT, "end_user", "anna")])
    assert await ledger.another_process().names.find(DEFAULT, "end_user", ["anna", "otto"]) == {
        "anna": known[DEFAULT, "end_user", "anna"]
    }
    assert await ledger.names.find("gone", "end_user", ["anna"]) == {}
    assert await ledger.names.everywhere("end_user", ["otto"]) == []
    assert len(await ledger.rows(end_users)) == 1


async def test_everywhere_is_every_organisation(ledger: Ledger) -> None:
    made = await ledger.names.resolve([(DEFAULT, "model", "m"), (OTHER, "model", "m"), (OTHER, "model", "n")])
    wanted = sorted(number for (_, _, text), number in made.items() if text == "m")
    assert await ledger.another_process().names.everywhere("model", ["m"]) == wanted


async def test_many_who_ask_first_at_once_get_the_same_number(ledger: Ledger) -> None:
    places: list[Text] = [(org, "end_user", f"e{number}") for org in (DEFAULT, OTHER) for number in range(40)]
    processes = [ledger.another_process().names for _ in range(6)]
    found = await asyncio.gather(
        *(process.resolve(places if number % 2 else places[::-1]) for number, process in enumerate(processes))
    )
    assert all(one == found[0] for one in found)
    assert len(await ledger.rows(end_users)) == 80


async def test_an_organisation_without_keys_has_no_numbers(ledger: Ledger) -> None:
    assert await ledger.names.resolve([("gone", "model", "m")]) == {("gone", "model", "m"): 0}
    await ledger.keyring.create("keys only")
    assert await ledger.names.resolve([("keys only", "model", "m")]) == {("keys only", "model", "m"): 0}
    assert await ledger.rows(names) == []


async def test_cry_the_texts_of_a_shredded_organisation_are_gone_from_reports_at_once(ledger: Ledger) -> None:
    """Also those that a process had opened before; and its ledger goes on without texts."""
    await ledger.usage.save([record(1, organization_id=OTHER, end_user="canary", tags=("canary",)), record(2)])
    assert "canary" in repr(await ledger.reports.records(LogFilter(), limit=9))
    await destroy_scope(ledger.keyring, OTHER)
    for process in (ledger, ledger.another_process()):
        shown = await process.reports.records(LogFilter(), limit=9)
        assert "canary" not in repr(shown)
        numbers = {row[7] for row in await ledger.rows(usage) if row[0] == OTHER}
        assert {row.end_user for row in shown} == {"", *map(str, numbers)}
    await ledger.another_process().usage.save([record(3, organization_id=OTHER, end_user="new"), record(4)])
    assert len(await ledger.rows(usage)) == 4
    assert len(await ledger.rows(end_users)) == 1


async def test_cry_an_entry_moved_to_another_row_is_not_shown_and_is_told_of(ledger: Ledger) -> None:
    made = await ledger.names.resolve([(DEFAULT, "tag", "mine"), (DEFAULT, "tag", "theirs")])
    mine, theirs = made.values()
    async with ledger.database.write() as connection:
        moved = (await connection.execute(select(tags.c.details).where(tags.c.id == theirs))).scalar_one()
        await connection.execute(update(tags).where(tags.c.id == mine).values(details=moved))
    fresh = ledger.another_process()
    assert await fresh.names.texts("tag", [(DEFAULT, mine), (DEFAULT, theirs)]) == {
        mine: str(mine), theirs: "theirs", 0: "",
    }  # fmt: skip
    assert fresh.alarm.broken_seals["tags"] == 1


async def test_a_label_that_another_process_removed_is_noticed_by_whoever_refers_to_it(ledger: Ledger) -> None:
    made = await ledger.names.resolve([(DEFAULT, "tag", "t"), (DEFAULT, "end_user", "e")])
    place = (DEFAULT, made[DEFAULT, "tag", "t"])
    other = ledger.another_process().names
    async with ledger.database.write() as connection:
        assert await ledger.names.hold(connection, made)
    async with ledger.database.write() as connection:
        await other.lock(connection, "tag", [place])
        await other.forget(connection, "tag", [place])
    async with ledger.database.write() as connection:
        assert not await ledger.names.hold(connection, made)
    again = await ledger.names.resolve(made)
    assert again[DEFAULT, "end_user", "e"] == made[DEFAULT, "end_user", "e"]
    assert again[DEFAULT, "tag", "t"] not in {0, place[1]}


async def test_numbers_made_in_a_transaction_that_is_undone_are_not_remembered(ledger: Ledger) -> None:
    scope = await ledger.keyring.organization(DEFAULT)
    undone: dict[str, int] = {}

    async def interrupted() -> None:
        async with ledger.database.write() as connection:
            undone.update(await ledger.names.ids(connection, scope, "model", ["m"]))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await interrupted()
    found = await ledger.names.resolve([(DEFAULT, "model", "m")])
    assert found[DEFAULT, "model", "m"] not in {0, undone["m"]}
    assert len(await ledger.rows(names)) == 1


async def test_dos_inventing_end_users_without_end_fills_no_memory(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ostiary.store.names.REMEMBERED", 100)
    small = Names(ledger.database, ledger.keyring, ledger.clock)
    for start in range(0, 1000, 250):
        await small.resolve([(DEFAULT, "end_user", f"e{number}") for number in range(start, start + 250)])
    assert len(small._ids) <= 100
    assert len(await ledger.rows(end_users)) == 1000


def test_what_is_used_is_remembered_and_what_is_not_is_let_go() -> None:
    recent: Recent[int, str] = Recent(10)
    for number in range(100):
        recent.put(number, str(number))
        assert recent.get(0) == "0"
        assert len(recent) <= 10
    assert recent.get(1) is None
    assert recent.get(99) == "99"
    recent.drop(99)
    recent.drop_values({"0"})
    assert (recent.get(99), recent.get(0)) == (None, None)
