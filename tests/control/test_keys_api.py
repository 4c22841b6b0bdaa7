"""Virtual keys as a user of the management API meets them."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from gatehouse import Gatehouse, gatehouse

from ostiary.core.ids import checksum, well_formed_key
from ostiary.core.record import Record
from ostiary.gateway.ledger.account import Account

KEY = re.compile(r"sk-ost-[a-z0-9]{2,8}-[0-9A-Za-z]{12}-[0-9A-Za-z]{49}")


async def made(house: Gatehouse, **fields: Any) -> dict[str, Any]:
    answer = await house.client.post("/key/generate", json=fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def info(house: Gatehouse, key: str) -> dict[str, Any]:
    answer = await house.client.get("/key/info", params={"key": key})
    assert answer.status_code == 200, answer.text
    return answer.json()["info"]


async def test_a_generated_key_has_the_format_and_checksum_of_the_house(house: Gatehouse) -> None:
    key = (await made(house))["key"]
    assert KEY.fullmatch(key)
    assert well_formed_key(key)
    assert key.endswith(checksum(key[:-6]))


async def test_the_answer_has_the_fields_and_types_of_the_compatible_surface(house: Gatehouse) -> None:
    sent = {
        "models": ["gpt-4o"], "key_alias": "ci", "duration": "30d", "user_id": "u", "team_id": "t",
        "organization_id": "o", "max_budget": 12.5, "soft_budget": 10, "budget_duration": "30d", "tpm_limit": 1000,
        "rpm_limit": 10, "max_parallel_requests": 3, "model_rpm_limit": {"gpt-4o": 5}, "model_tpm_limit": {"gpt-4o": 6},
        "metadata": {"team": "core"}, "tags": ["prod"], "aliases": {"fast": "gpt-4o"},
        "allowed_routes": ["/v1/chat/completions"], "blocked": False,
        "guardrails": ["pii"], "permissions": {"a": True}, "config": {"x": 1}, "key_type": "llm_api",
        "model_max_budget": {"gpt-4o": {"max_budget": 1, "budget_duration": "1d"}}, "auto_rotate": False,
        "something_new": {"kept": [1, 2]},
    }  # fmt: skip
    answer = await made(house, **sent)
    for name in sent.keys() - {"duration"}:
        assert answer[name] == sent[name], name
    assert isinstance(answer["key"], str)
    assert re.fullmatch(r"[0-9a-f]{64}", answer["token"])
    assert answer["token_id"] == answer["token"]
    assert answer["key_name"] == f"sk-...{answer['key'][-4:]}"
    assert answer["spend"] == 0
    for moment in ("expires", "budget_reset_at", "created_at", "updated_at"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", answer[moment])
    assert answer["created_by"] == "admin"
    shown = await info(house, answer["key"])
    assert {name: shown[name] for name in sent if name != "duration"} == {
        name: sent[name] for name in sent if name != "duration"
    }
    assert "key" not in shown


async def test_the_key_is_shown_once_and_is_nowhere_in_the_files(house: Gatehouse, tmp_path: Path) -> None:
    own = "sk-brought-along-canary-0001"
    keys = [(await made(house))["key"], (await made(house, key=own))["key"]]
    keys.append((await house.client.post(f"/key/{own}/regenerate", json={})).json()["key"])
    said = (await house.client.get("/key/list", params={"return_full_object": True})).text
    files = [file for file in (tmp_path / "data").iterdir() if file.is_file()]
    assert {file.suffix for file in files} >= {".db", ".db-wal"}
    for key in keys:
        assert key not in said
        assert not any(key.encode() in file.read_bytes() for file in files)
    digest = bytes.fromhex((await info(house, keys[0]))["token"])
    assert any(digest in file.read_bytes() for file in files)  # the search does find what is there


async def test_a_key_is_named_by_its_text_or_its_token(house: Gatehouse) -> None:
    key = await made(house, key_alias="one")
    assert (await info(house, key["key"]))["key_alias"] == (await info(house, key["token"]))["key_alias"] == "one"


async def test_a_key_reads_itself_and_nothing_else(house: Gatehouse) -> None:
    mine, other = await made(house, key_alias="mine"), await made(house)
    headers = house.as_key(mine["key"])
    own = await house.client.get("/key/info", headers=headers)
    assert (own.status_code, own.json()["info"]["key_alias"]) == (200, "mine")
    named = await house.client.get("/key/info", params={"key": mine["token"]}, headers=headers)
    assert named.json() == own.json()
    foreign = await house.client.get("/key/info", params={"key": other["key"]}, headers=headers)
    missing = await house.client.get("/key/info", params={"key": "0" * 64}, headers=headers)
    assert (foreign.status_code, foreign.text) == (404, missing.text)


async def test_an_update_changes_what_it_names_and_null_takes_away(house: Gatehouse) -> None:
    key = await made(house, max_budget=5, rpm_limit=7, models=["a"], key_alias="x", guardrails=["g"])
    answer = await house.client.post(
        "/key/update", json={"key": key["key"], "max_budget": None, "models": ["b"], "policies": ["p"]}
    )
    assert answer.status_code == 200
    after = await info(house, key["token"])
    assert (after["max_budget"], after["models"], after["rpm_limit"], after["key_alias"]) == (None, ["b"], 7, "x")
    assert (after["guardrails"], after["policies"]) == (["g"], ["p"])


@pytest.mark.parametrize(
    ("written", "read"),
    [(0.1, "0.1"), ("0.000000001", "1E-9"), (1e-9, "1E-9"), (123456789.123456789, "123456789.12345679"), (0, "0")],
)
async def test_money_comes_back_digit_by_digit(house: Gatehouse, written: object, read: str) -> None:
    answer = await house.client.post("/key/generate", json={"max_budget": written})
    assert f'"max_budget":{read},' in answer.text
    assert Decimal(read) == Decimal(str(answer.json()["max_budget"]))


async def test_blocking_and_deleting_tell_the_data_plane_at_once(house: Gatehouse) -> None:
    key = await made(house)
    assert [told.id for told, _ in house.told.changed][-1]
    blocked = await house.client.post("/key/block", json={"key": key["key"], "cancel_in_flight": True})
    assert blocked.json()["blocked"] is True
    told, cancelled = house.told.changed[-1]
    assert (told.blocked, cancelled) == (True, True)
    assert (await house.client.get("/key/info", headers=house.as_key(key["key"]))).status_code == 401
    await house.client.post("/key/unblock", json={"key": key["token"]})
    assert house.told.changed[-1][0].blocked is False
    assert house.told.changed[-1][0].revision > told.revision
    assert (await house.client.get("/key/info", headers=house.as_key(key["key"]))).status_code == 200
    gone = await house.client.post("/key/delete", json={"keys": [key["key"]], "cancel_in_flight": True})
    assert gone.json()["deleted_keys"] == [key["token"]]
    assert house.told.removed == [(told.id, bytes.fromhex(key["token"]), True)]
    assert (await house.client.get("/key/info", headers=house.as_key(key["key"]))).status_code == 401


async def test_deleting_takes_all_or_none(house: Gatehouse) -> None:
    key = await made(house, key_alias="stays")
    refused = await house.client.post("/key/delete", json={"key_aliases": ["stays", "unknown"]})
    assert (refused.status_code, refused.json()["error"]["param"]) == (404, "key_aliases")
    assert (await info(house, key["key"]))["key_alias"] == "stays"
    assert (await house.client.post("/key/delete", json={"key_aliases": ["stays"]})).status_code == 200


async def test_a_regenerated_key_keeps_its_rights_and_its_spend(house: Gatehouse) -> None:
    old = await made(house, key_alias="x", models=["m"], max_budget=9, spend=2.5)
    new = (await house.client.post("/key/regenerate", json={"key": old["key"], "rpm_limit": 4})).json()
    assert new["key"] != old["key"]
    assert (new["key_alias"], new["models"], new["max_budget"], new["spend"], new["rpm_limit"]) == (
        "x",
        ["m"],
        9,
        2.5,
        4,
    )
    assert (await house.client.get("/key/info", headers=house.as_key(old["key"]))).status_code == 401
    assert (await house.client.get("/key/info", headers=house.as_key(new["key"]))).status_code == 200
    assert house.told.changed[-1][0].digest.hex() == new["token"]


async def test_a_grace_period_lets_both_work_and_a_block_ends_both(house: Gatehouse) -> None:
    old = await made(house)
    answer = await house.client.post(
        f"/key/{old['token']}/regenerate", json={"new_key": "sk-my-own-replacement", "grace_period": "1h"}
    )
    assert answer.json()["key"] == "sk-my-own-replacement"
    both = [house.as_key(old["key"]), house.as_key("sk-my-own-replacement")]
    assert [(await house.client.get("/key/info", headers=one)).status_code for one in both] == [200, 200]
    await house.client.post("/key/block", json={"key": "sk-my-own-replacement"})
    assert [(await house.client.get("/key/info", headers=one)).status_code for one in both] == [401, 401]
    assert bytes.fromhex(old["token"]) in {digest for _, digest, _ in house.told.removed}
    await house.client.post("/key/unblock", json={"key": "sk-my-own-replacement"})
    house.clock.ahead += 3601
    assert [(await house.client.get("/key/info", headers=one)).status_code for one in both] == [401, 200]


async def test_the_master_key_is_not_changed_over_the_network(house: Gatehouse) -> None:
    key = await made(house)
    refused = await house.client.post(f"/key/{key['key']}/regenerate", json={"new_master_key": "sk-canary-master"})
    assert (refused.status_code, "canary" in refused.text) == (400, False)


async def test_an_expired_key_is_refused_as_such(house: Gatehouse) -> None:
    key = await made(house, duration="30s")
    house.clock.ahead += 31
    answer = await house.client.get("/key/info", headers=house.as_key(key["key"]))
    assert (answer.status_code, answer.json()["error"]["type"]) == (401, "expired_key")


async def test_spend_shows_and_resets(house: Gatehouse) -> None:
    key = await made(house, max_budget=1)
    found = await house.keys.get(digest=bytes.fromhex(key["token"]))
    assert found is not None
    ended = int(house.clock.now() * 1000)
    record = Record(id="r", started=ended, ended=ended, endpoint="chat", key_id=found.id, cost=123_456_789)
    await house.usage.save([record])
    assert (await info(house, key["key"]))["spend"] == 0.123456789
    reset = await house.client.post(f"/key/{key['token']}/reset_spend", json={"reset_to": 0})
    assert reset.json()["spend"] == 0
    assert house.told.changed[-1][0].spend == 0


async def test_a_spend_that_is_set_is_in_force_at_once_in_the_account_of_the_data_plane(house: Gatehouse) -> None:
    """The account counts what the store has not seen yet; it takes a spend over with a later window only."""
    key = await made(house, max_budget=1, budget_duration="30d")
    account = Account(house.told.changed[-1][0], house.clock.now())
    account.pay(house.clock.now(), 0, 900_000_000)
    steps = [
        ("/key/update", {"key": key["key"], "spend": 0.25}, 250_000_000),
        ("/key/update", {"key": key["key"], "spend": 0.5}, 500_000_000),
        ("/key/update", {"key": key["key"], "spend": 0.125}, 125_000_000),
        ("/key/update", {"key": key["key"], "rpm_limit": 5}, 125_000_000),
        (f"/key/{key['token']}/reset_spend", {"reset_to": 0}, 0),
    ]
    for path, document, spend in steps:
        answer = await house.client.post(path, json=document)
        assert answer.status_code == 200
        account.replace(house.told.changed[-1][0])
        assert account.spend == spend
        assert (await info(house, key["key"]))["spend"] == spend / 1e9


async def test_resetting_all_spend_is_the_administrators_and_reaches_every_account(house: Gatehouse) -> None:
    keys = [await made(house, spend=number) for number in (1, 2, 3)]
    accounts = {told.id: Account(told, house.clock.now()) for told, _ in house.told.changed}
    for account in accounts.values():
        account.pay(house.clock.now(), 0, 7)
    refused = await house.client.post("/global/spend/reset", headers=house.as_key(keys[0]["key"]))
    assert refused.status_code == 403
    house.told.changed.clear()
    assert (await house.client.post("/global/spend/reset")).json()["status"] == "success"
    assert {told.id for told, _ in house.told.changed} == set(accounts)
    for told, _ in house.told.changed:
        accounts[told.id].replace(told)
    assert [account.spend for account in accounts.values()] == [0, 0, 0]
    assert [(await info(house, key["key"]))["spend"] for key in keys] == [0, 0, 0]


async def test_lists_have_pages_filters_and_order(house: Gatehouse) -> None:
    for number in range(12):
        await made(house, key_alias=f"k{number:02}", user_id=f"u{number % 2}", blocked=number == 3)
    first = (await house.client.get("/key/list", params={"page": 1, "size": 5})).json()
    assert {name: first[name] for name in ("total_count", "current_page", "total_pages")} == {
        "total_count": 12, "current_page": 1, "total_pages": 3,
    }  # fmt: skip
    assert all(re.fullmatch(r"[0-9a-f]{64}", token) for token in first["keys"])
    whole = await house.client.get(
        "/key/list",
        params={"return_full_object": True, "user_id": "u1", "sort_by": "key_alias", "sort_order": "asc", "size": 50},
    )
    assert [key["key_alias"] for key in whole.json()["keys"]] == ["k01", "k03", "k05", "k07", "k09", "k11"]
    assert (await house.client.get("/key/list", params={"status": "revoked"})).json()["total_count"] == 1
    assert (await house.client.get("/key/aliases", params={"size": 2})).json()["aliases"] == ["k00", "k01"]


async def test_a_bulk_update_answers_for_each(house: Gatehouse) -> None:
    key = await made(house)
    answer = await house.client.post(
        "/key/bulk_update",
        json={"keys": [{"key": key["key"], "max_budget": 3}, {"key": "sk-unknown-key-canary"}, {"rpm_limit": 1}]},
    )
    body = answer.json()
    assert (body["total_requested"], len(body["successful_updates"]), len(body["failed_updates"])) == (3, 1, 2)
    assert "canary" not in answer.text
    assert (await info(house, key["key"]))["max_budget"] == 3


async def test_a_service_account_has_a_team_and_no_user(house: Gatehouse) -> None:
    assert (await house.client.post("/key/service-account/generate", json={})).json()["error"]["param"] == "team_id"
    refused = await house.client.post("/key/service-account/generate", json={"team_id": "t", "user_id": "u"})
    assert refused.json()["error"]["param"] == "user_id"
    made_ = await house.client.post("/key/service-account/generate", json={"team_id": "t"})
    assert (made_.status_code, made_.json()["team_id"], made_.json()["user_id"]) == (200, "t", None)


async def test_iso_04_a_team_is_one_of_its_organisation(house: Gatehouse) -> None:
    """Callers keep the names they gave. The rows behind them differ from one organisation to the next."""
    plain = await made(house, team_id="red", user_id="ann")
    ours = await made(house, organization_id="a", team_id="red", user_id="ann", key_alias="ci")
    theirs = await made(house, organization_id="b", team_id="red", key_alias="ci")
    assert [key["organization_id"] for key in (plain, ours, theirs)] == [None, "a", "b"]
    assert {key["team_id"] for key in (plain, ours, theirs)} == {"red"}
    told = [key for key, _ in house.told.changed]
    assert len({key.team_id for key in told}) == len({key.organization_id for key in told}) == 3
    assert told[0].organization_id == house.store.default_org
    assert told[0].user_id == told[1].user_id
    for query, expected in (
        ({"team_id": "red"}, 3), ({"team_id": "red", "organization_id": "a"}, 1), ({"organization_id": "b"}, 1),
        ({"user_id": "ann"}, 2), ({"user_id": "n", "substring_matching": True}, 2), ({"key_alias": "ci"}, 2),
        ({"team_id": "blue"}, 0), ({"organization_id": "c"}, 0), ({"user_id": "bob"}, 0),
    ):  # fmt: skip
        found = await house.client.get("/key/list", params=query)
        assert (found.status_code, found.json()["total_count"]) == (200, expected), query
    refused = await house.client.post("/key/delete", json={"key_aliases": ["ci"]})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "key_aliases")


async def test_a_key_in_another_organisation_has_a_team_of_that_one(house: Gatehouse) -> None:
    key = await made(house, team_id="red", user_id="ann", spend=2)
    before = house.told.changed[-1][0]
    moved = (await house.client.post("/key/update", json={"key": key["key"], "organization_id": "b"})).json()
    assert [moved[name] for name in ("organization_id", "team_id", "user_id", "spend")] == ["b", "red", "ann", 2]
    after = house.told.changed[-1][0]
    assert before.team_id != after.team_id
    assert before.user_id == after.user_id
    assert (await house.client.get("/key/info", headers=house.as_key(key["key"]))).status_code == 200
    back = await house.client.post("/key/update", json={"key": key["key"], "organization_id": None, "team_id": None})
    assert [back.json()[name] for name in ("organization_id", "team_id", "user_id")] == [None, None, "ann"]
    assert house.told.changed[-1][0].organization_id == house.store.default_org


async def test_a_request_that_is_refused_makes_no_names(house: Gatehouse) -> None:
    refused = await house.client.post("/key/generate", json={"organization_id": "new", "duration": "canary"})
    assert refused.status_code == 400
    assert await house.directory.find_organization("new") is None


async def test_changes_that_meet_are_all_kept(house: Gatehouse) -> None:
    """Two updates of different fields, again and again at the same time: none is lost, or it says so."""
    import asyncio

    key = await made(house)
    answers = await asyncio.gather(
        *(
            house.client.post("/key/update", json={"key": key["key"], field: number})
            for number in range(1, 6)
            for field in ("rpm_limit", "tpm_limit")
        )
    )
    assert {answer.status_code for answer in answers} <= {200, 409}
    after = await info(house, key["key"])
    if all(answer.status_code == 200 for answer in answers):
        assert after["rpm_limit"] in range(1, 6)
        assert after["tpm_limit"] in range(1, 6)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"max_budget": -1}, "max_budget"),
    ({"max_budget": "canary"}, "max_budget"),
    ({"max_budget": {"canary": 1}}, "max_budget"),
    ({"max_budget": 1e300}, "max_budget"),
    ({"max_budget": True}, "max_budget"),
    ({"soft_budget": "nan"}, "soft_budget"),
    ({"spend": "-0.01"}, "spend"),
    ({"rpm_limit": "canary"}, "rpm_limit"),
    ({"rpm_limit": -1}, "rpm_limit"),
    ({"rpm_limit": 1.5}, "rpm_limit"),
    ({"tpm_limit": 10**16}, "tpm_limit"),
    ({"max_parallel_requests": [1]}, "max_parallel_requests"),
    ({"duration": "canary"}, "duration"),
    ({"duration": "0s"}, "duration"),
    ({"duration": "99999999999d"}, "duration"),
    ({"duration": "-5m"}, "duration"),
    ({"budget_duration": "30 days"}, "budget_duration"),
    ({"models": "canary"}, "models"),
    ({"models": [1]}, "models"),
    ({"models": ["m" * 300]}, "models"),
    ({"models": ["m"] * 1001}, "models"),
    ({"aliases": ["canary"]}, "aliases"),
    ({"aliases": {"a": 1}}, "aliases"),
    ({"model_rpm_limit": {"canary-model": "x"}}, "model_rpm_limit"),
    ({"metadata": "canary"}, "metadata"),
    ({"tags": {"canary": 1}}, "tags"),
    ({"blocked": "canary"}, "blocked"),
    ({"key_alias": "a" * 257}, "key_alias"),
    ({"key_alias": 5}, "key_alias"),
    ({"user_id": ["canary"]}, "user_id"),
    ({"key": "canary-not-sk"}, "key"),
    ({"key": "sk-canary"}, "key"),
    ({"key": "sk-canary with blanks in it"}, "key"),
    ({"key": "sk-" + "c" * 300}, "key"),
    ({"key": "sk-ost-eu-000000000000-canary0000000000000000000000000000000000000000000000"}, "key"),
    ({"key": ["sk-canary-in-a-list-0001"]}, "key"),
]


@pytest.mark.parametrize(("fields", "param"), WRONG, ids=lambda value: value if isinstance(value, str) else None)
async def test_wrong_input_is_refused_by_the_name_of_its_field_and_not_repeated(
    house: Gatehouse, fields: dict[str, Any], param: str
) -> None:
    answer = await house.client.post("/key/generate", json=fields)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["type"] == "bad_request_error"
    assert error["param"].partition("[")[0].partition(".")[0] == param
    assert param in error["message"]
    assert "canary" not in answer.text
    assert house.told.changed == []


async def test_a_key_or_alias_in_use_is_a_conflict(house: Gatehouse) -> None:
    await made(house, key="sk-this-is-my-own-key", key_alias="mine")
    again = await house.client.post("/key/generate", json={"key": "sk-this-is-my-own-key"})
    assert (again.status_code, again.json()["error"]["param"]) == (409, "key")
    alias = await house.client.post("/key/generate", json={"key_alias": "mine"})
    assert (alias.status_code, alias.json()["error"]["param"]) == (409, "key_alias")


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"page": "x"}, "page"), ({"size": "0"}, "size"), ({"size": "100000"}, "size"),
        ({"sort_order": "canary"}, "sort_order"), ({"status": "canary"}, "status"), ({"page": "-1"}, "page"),
        ({"return_full_object": "canary"}, "return_full_object"), ({"page": "9" * 40}, "page"),
        ({"sort_by": "digest"}, "sort_by"),
    ],
)  # fmt: skip
async def test_wrong_queries_are_refused_by_name(house: Gatehouse, query: dict[str, str], param: str) -> None:
    answer = await house.client.get("/key/list", params=query)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert "canary" not in answer.text


async def test_defaults_and_upper_bounds_of_the_configuration_hold(template: Path, tmp_path: Path) -> None:
    defaults, upper = {"models": ["small"], "tags": ["d"]}, {"max_budget": 10, "duration": "7d", "rpm_limit": 5}
    async with gatehouse(template, tmp_path, defaults=defaults, upper=upper) as house:
        plain = await made(house)
        assert (plain["models"], plain["tags"], plain["max_budget"], plain["rpm_limit"]) == (["small"], ["d"], 10, 5)
        assert plain["expires"] is not None
        assert (await made(house, max_budget=3, duration="1h"))["max_budget"] == 3
        beyond = [("max_budget", 11), ("max_budget", "11"), ("duration", "8d"), ("duration", "-1"), ("rpm_limit", 6)]
        for field, value in beyond:
            answer = await house.client.post("/key/generate", json={field: value})
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)
            for path in ("/key/update", f"/key/{plain['token']}/regenerate"):
                answer = await house.client.post(path, json={"key": plain["key"], field: value})
                assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)
        # An update changes what it names, and taking a limit away leaves the bound.
        changed = await house.client.post("/key/update", json={"key": plain["key"], "max_budget": 4, "tags": []})
        assert (changed.json()["max_budget"], changed.json()["expires"]) == (4, plain["expires"])
        freed = await house.client.post("/key/update", json={"key": plain["key"], "max_budget": None})
        assert freed.json()["max_budget"] == 10
