"""Spend and usage as the API tells them: the compatible shapes, the exact amounts, from rollups."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from gatehouse import Gatehouse

from ostiary.core.price import PriceState
from ostiary.core.record import Outcome, Record
from ostiary.core.usage import Usage

DAY = 86_400_000
FIRST = 20_000 * DAY  # 2024-10-04
RANGE = {"start_date": "2024-10-04", "end_date": "2024-10-06"}


def request_id(started: int) -> str:
    """An id as the gateway makes them: it begins with the time."""
    return f"{started >> 16:08x}-{started & 0xFFFF:04x}-7000-8000-000000000000"


def request(number: int) -> str:
    """The id of the ledger's request of this number."""
    return request_id(FIRST + number % 3 * DAY + number)


OTHER = Record(
    id="x", started=FIRST, ended=FIRST + 1, endpoint="embeddings", key_id="k9", model="other",
    provider="other", upstream_model="other", outcome=Outcome.FAILED, usage=Usage(input=1, output=2), cost=5,
    tags=("t", "u"),
)  # fmt: skip


async def ledger(house: Gatehouse) -> dict[str, Any]:
    """Two keys, three days, two models: ten requests of 1 to 10 nanodollars and a thousandth of a dollar."""
    answer = await house.client.post("/key/generate", json={"key_alias": "ci", "user_id": "u1", "team_id": "t1"})
    key = answer.json()
    row = await house.keys.get(digest=bytes.fromhex(key["token"]))
    assert row is not None
    org_id = house.store.default_org
    user, team = await house.directory.user(org_id, "u1"), await house.directory.team(org_id, "t1")
    await house.usage.save(
        [
            Record(
                id=request(number), started=FIRST + number % 3 * DAY + number, endpoint="chat.completions",
                key_id=row.id if number % 2 else "admin", user_id=user if number % 2 else "", team_id=team,
                end_user="e", model="fast" if number < 5 else "slow", provider="openai", upstream_model="gpt-4o",
                deployment="d1", outcome=Outcome.FAILED if number == 9 else Outcome.COMPLETED, status=200,
                usage=Usage(input=10, output=5, cache_read=2), cost=1_000_000 + number, price=PriceState.LISTED,
                ended=FIRST + number % 3 * DAY + number + 500, tags=("t",), attempts=2, fallbacks=1, measured=True,
            )
            for number in range(10)
        ]
    )  # fmt: skip
    return key


async def test_daily_activity_has_the_compatible_shape(house: Gatehouse) -> None:
    key = await ledger(house)
    answer = await house.client.get("/user/daily/activity", params=RANGE)
    body = answer.json()
    assert [day["date"] for day in body["results"]] == ["2024-10-06", "2024-10-05", "2024-10-04"]
    day = body["results"][2]
    assert day["metrics"] == {
        "spend": 0.004000018, "prompt_tokens": 40, "completion_tokens": 20, "cache_read_input_tokens": 8,
        "cache_creation_input_tokens": 0, "total_tokens": 60, "successful_requests": 3, "failed_requests": 1,
        "api_requests": 4,
    }  # fmt: skip
    assert set(day["breakdown"]) >= {"models", "model_groups", "providers", "api_keys", "mcp_servers", "entities"}
    assert set(day["breakdown"]["model_groups"]) == {"fast", "slow"}
    assert day["breakdown"]["models"]["gpt-4o"]["metrics"]["api_requests"] == 4
    assert set(day["breakdown"]["models"]["gpt-4o"]["api_key_breakdown"]) == {key["token"], "admin"}
    own = day["breakdown"]["api_keys"][key["token"]]
    assert own["metadata"] == {"key_alias": "ci", "team_id": "t1"}
    assert own["metrics"]["api_requests"] == 2
    assert body["metadata"] == {
        "total_spend": 0.010000045, "total_prompt_tokens": 100, "total_completion_tokens": 50,
        "total_cache_read_input_tokens": 20, "total_cache_creation_input_tokens": 0, "total_tokens": 150,
        "total_successful_requests": 9, "total_failed_requests": 1, "total_api_requests": 10,
        "page": 1, "total_pages": 1, "has_more": False,
    }  # fmt: skip


async def test_pages_of_days_add_up_to_the_aggregate(house: Gatehouse) -> None:
    await ledger(house)
    pages = [
        (await house.client.get("/user/daily/activity", params={**RANGE, "page_size": 2, "page": page})).json()
        for page in (1, 2)
    ]
    assert [(page["metadata"]["total_pages"], page["metadata"]["has_more"]) for page in pages] == [
        (2, True),
        (2, False),
    ]
    whole = (await house.client.get("/user/daily/activity/aggregated", params=RANGE)).json()
    paged = pages[0]["results"] + pages[1]["results"]
    assert [day["metrics"] for day in paged] == [day["metrics"] for day in whole["results"]]
    keys = [day["breakdown"]["api_keys"] for day in whole["results"]]
    assert [day["breakdown"]["api_keys"] for day in paged] == keys
    assert sum(page["metadata"]["total_api_requests"] for page in pages) == whole["metadata"]["total_api_requests"]


async def test_activity_is_filtered_by_key_and_model(house: Gatehouse) -> None:
    key = await ledger(house)
    for name in (key["key"], key["token"]):
        one = (await house.client.get("/user/daily/activity", params={**RANGE, "api_key": name})).json()
        assert one["metadata"]["total_api_requests"] == 5
    model = (await house.client.get("/user/daily/activity", params={**RANGE, "model": "fast"})).json()
    assert model["metadata"]["total_api_requests"] == 5
    none = (await house.client.get("/user/daily/activity", params={**RANGE, "api_key": "0" * 64})).json()
    assert none["results"] == []


async def test_team_activity_has_teams_as_entities(house: Gatehouse) -> None:
    key = await ledger(house)
    team = await house.directory.team(house.store.default_org, "t2")
    await house.usage.save(
        [msgspec.structs.replace(OTHER, id="x1", team_id=team), msgspec.structs.replace(OTHER, id="x2")]
    )
    whole = (await house.client.get("/team/daily/activity", params=RANGE)).json()
    day = whole["results"][-1]
    assert {team: part["metrics"]["api_requests"] for team, part in day["breakdown"]["entities"].items()} == {
        "t1": 4, "t2": 1,
    }  # fmt: skip
    assert day["breakdown"]["entities"]["t1"]["api_key_breakdown"][key["token"]]["metrics"]["api_requests"] == 2
    assert day["metrics"]["api_requests"] == 5
    assert whole["metadata"]["total_api_requests"] == 11
    one = (await house.client.get("/team/daily/activity", params={**RANGE, "team_ids": "t2, t3"})).json()
    assert [set(day["breakdown"]["entities"]) for day in one["results"]] == [{"t2"}]
    assert set(one["results"][0]["breakdown"]["models"]) == {"other"}
    assert one["metadata"]["total_spend"] == 0.000000005


async def test_tag_activity_has_tags_as_entities(house: Gatehouse) -> None:
    await ledger(house)
    await house.usage.save([OTHER])
    whole = (await house.client.get("/tag/daily/activity", params=RANGE)).json()
    assert [day["date"] for day in whole["results"]] == ["2024-10-06", "2024-10-05", "2024-10-04"]
    entities = whole["results"][2]["breakdown"]["entities"]
    assert {tag: part["metrics"]["api_requests"] for tag, part in entities.items()} == {"t": 5, "u": 1}
    assert entities["t"]["metrics"]["prompt_tokens"] == 41
    one = (await house.client.get("/tag/daily/activity", params={**RANGE, "tags": "u", "page_size": 1})).json()
    assert one["metadata"] == {
        "total_spend": 0.000000005, "total_prompt_tokens": 1, "total_completion_tokens": 2,
        "total_cache_read_input_tokens": 0, "total_cache_creation_input_tokens": 0, "total_tokens": 3,
        "total_successful_requests": 0, "total_failed_requests": 1, "total_api_requests": 1,
        "page": 1, "total_pages": 1, "has_more": False,
    }  # fmt: skip
    assert (await house.client.get("/tag/daily/activity", params={**RANGE, "tags": "none"})).json()["results"] == []


async def test_a_cost_is_calculated_from_a_model_and_a_usage_or_from_an_answer(house: Gatehouse) -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
    answer = {"id": "chatcmpl-1", "model": "house-model", "choices": [], "usage": usage}
    for document in (
        {"model": "house-model", "usage": usage},
        {"completion_response": answer},
        {"model": "house-model", "completion_response": {**answer, "model": "gpt-4o-2024-08-06"}},
        {"model": "house-model", "usage": {"input_tokens": 1000, "output_tokens": 100}},
    ):
        found = await house.client.post("/spend/calculate", json=document)
        assert (found.status_code, found.text) == (200, '{"cost":3.5}')


@pytest.mark.parametrize(
    ("document", "status", "param"),
    [
        ({}, 400, "model"),
        ({"model": "house-model"}, 400, "usage"),
        ({"model": "house-model", "messages": [{"role": "user", "content": "canary"}]}, 400, "usage"),
        ({"model": "house-model", "usage": {"prompt_tokens": "canary"}}, 400, "usage"),
        ({"model": "house-model", "usage": {"prompt_tokens": -1}}, 400, "usage"),
        ({"model": "house-model", "usage": "canary"}, 400, "usage"),
        ({"model": "canary", "usage": {"prompt_tokens": 1}}, 404, "model"),
    ],
)
async def test_a_cost_that_cannot_be_told_is_refused_by_name(
    house: Gatehouse, document: dict[str, object], status: int, param: str
) -> None:
    answer = await house.client.post("/spend/calculate", json=document)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
    assert "canary" not in answer.text


async def test_a_model_without_a_price_has_no_cost(house: Gatehouse) -> None:
    params = {"model": "openai/unheard-of", "api_key": "sk-x"}
    await house.client.post("/model/new", json={"model_name": "dear", "litellm_params": params})
    answer = await house.client.post("/spend/calculate", json={"model": "dear", "usage": {"prompt_tokens": 1}})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")


async def test_spend_logs_show_single_requests_without_content(house: Gatehouse) -> None:
    key = await ledger(house)
    (row,) = (await house.client.get("/spend/logs", params={"request_id": request(9)})).json()
    expected = {
        "request_id": request(9), "call_type": "chat.completions", "api_key": key["token"], "spend": 0.001000009,
        "total_tokens": 15, "prompt_tokens": 10, "completion_tokens": 5, "model": "gpt-4o", "model_id": "d1",
        "model_group": "slow", "custom_llm_provider": "openai", "user": "u1", "team_id": "t1", "end_user": "e",
        "request_tags": ["t"], "status": "failure", "messages": {}, "response": {},
        "startTime": "2024-10-04T00:00:00.009+00:00", "endTime": "2024-10-04T00:00:00.509+00:00",
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    assert row["metadata"]["user_api_key_alias"] == "ci"


async def test_spend_logs_with_dates_are_summed_by_day(house: Gatehouse) -> None:
    await ledger(house)
    days = (await house.client.get("/spend/logs", params=RANGE)).json()
    assert [day["startTime"] for day in days] == ["2024-10-04", "2024-10-05", "2024-10-06"]
    assert days[0]["spend"] == 0.004000018
    assert days[0]["models"] == {"fast": 0.002000003, "slow": 0.002000015}
    assert days[0]["users"] == {"": 0.002000006, "u1": 0.002000012}
    rows = (await house.client.get("/spend/logs", params={**RANGE, "summarize": "false"})).json()
    assert [row["request_id"] for row in rows] == [request(number) for number in (8, 5, 2, 7, 4, 1, 9, 6, 3, 0)]


async def test_spend_log_pages_know_their_place_and_go_on_by_cursor(house: Gatehouse) -> None:
    key = await ledger(house)
    page = (await house.client.get("/spend/logs/v2", params={**RANGE, "page_size": 4})).json()
    assert (page["total"], page["page"], page["page_size"], page["total_pages"]) == (10, 1, 4, 3)
    second = await house.client.get("/spend/logs/v2", params={**RANGE, "page_size": 4, "cursor": page["next_cursor"]})
    by_number = await house.client.get("/spend/logs/ui", params={**RANGE, "page_size": 4, "page": 2})
    assert second.json()["data"] == by_number.json()["data"]
    own = (await house.client.get("/spend/logs/v2", params={"api_key": key["token"]})).json()
    assert (own["total"], own["next_cursor"]) == (5, None)
    hour = {"start_date": "2024-10-04T00:00:00.004", "end_date": "2024-10-04T01:00:00"}
    assert (await house.client.get("/spend/logs/v2", params=hour)).json()["total"] == 2


async def test_global_spend_and_its_rankings(house: Gatehouse) -> None:
    key = await ledger(house)
    total = await house.client.get("/global/spend")
    assert '"spend":0.010000045' in total.text
    get = house.client.get
    assert (await get("/global/spend/logs", params=RANGE)).json()[0] == {"date": "2024-10-04", "spend": 0.004000018}
    keys = (await get("/global/spend/keys", params=RANGE)).json()
    assert keys[0] == {
        "api_key": key["token"], "key_alias": "ci", "key_name": key["key_name"], "total_spend": 0.005000025,
    }  # fmt: skip
    models = (await get("/global/spend/models", params={**RANGE, "limit": 1})).json()
    assert [(model["model"], model["total_spend"]) for model in models] == [("slow", 0.005000035)]
    assert (await get("/global/spend/provider", params=RANGE)).json()[0]["provider"] == "openai"
    assert (await get("/global/spend/tags", params=RANGE)).json() == {
        "spend_per_tag": [{"name": "t", "spend": 0.010000045, "log_count": 10}]
    }
    assert (await get("/global/spend/all_tag_names")).json() == {"tag_names": ["t"]}
    assert (await get("/global/spend/end_users", params=RANGE)).json()[0]["total_count"] == 10
    activity = (await get("/global/activity", params=RANGE)).json()
    assert (activity["sum_api_requests"], activity["sum_total_tokens"], len(activity["daily_data"])) == (10, 150, 3)
    assert {model["model"] for model in (await get("/global/activity/model", params=RANGE)).json()} == {"fast", "slow"}
    report = (await get("/global/spend/report", params={**RANGE, "group_by": "api_key"})).json()
    assert {row["api_key"] for row in report} == {key["token"], "admin"}


async def test_reports_speak_the_names_of_callers_and_filter_by_them(house: Gatehouse) -> None:
    await ledger(house)
    other = await house.directory.organization("acme")
    team = await house.directory.team(other, "t1")
    await house.usage.save([msgspec.structs.replace(OTHER, id="x1", organization_id=other, team_id=team, model="fast")])
    get = house.client.get

    async def report(group: str) -> dict[str, int]:
        rows = (await get("/global/spend/report", params={**RANGE, "group_by": group})).json()
        found: dict[str, int] = {}
        for row in rows:
            name = row[group if group in {"model", "provider"} else f"{group}_id"]
            found[name] = found.get(name, 0) + row["api_requests"]
        return found

    assert await report("organization") == {"": 10, "acme": 1}
    assert await report("team") == {"t1": 11}
    assert await report("user") == {"": 6, "u1": 5}
    assert await report("model") == {"fast": 6, "slow": 5}
    assert len((await get("/spend/logs", params={"user_id": "u1"})).json()) == 5
    assert (await get("/spend/logs", params={"user_id": "u2"})).json() == []
    (row,) = (await get("/spend/logs", params={"start_date": "2024-10-04T00:00:00", "page_size": 1})).json()[:1]
    assert row["organization_id"] is None
    own = (await get("/user/daily/activity", params={**RANGE, "user_id": "u1"})).json()
    assert own["metadata"]["total_api_requests"] == 5
    teams = (await get("/team/daily/activity", params={**RANGE, "team_ids": "t1"})).json()
    assert teams["metadata"]["total_api_requests"] == 11


async def test_a_deleted_key_keeps_its_name_in_reports(house: Gatehouse) -> None:
    key = await ledger(house)
    await house.client.post("/key/delete", json={"keys": [key["key"]]})
    names = {row["key_alias"] for row in (await house.client.get("/global/spend/keys", params=RANGE)).json()}
    assert "ci" in names
    assert len((await house.client.get("/spend/logs", params={"api_key": key["token"]})).json()) == 5


async def test_every_amount_is_a_json_number(house: Gatehouse) -> None:
    await ledger(house)
    for path in ("/spend/logs", "/user/daily/activity", "/global/spend/keys", "/global/spend"):
        text = (await house.client.get(path, params=RANGE)).text
        assert not re.search(r'spend":"', text)


@pytest.mark.parametrize(
    ("path", "query", "param"),
    [
        ("/user/daily/activity", {}, "start_date"),
        ("/user/daily/activity", {"start_date": "2024-10-04"}, "end_date"),
        ("/user/daily/activity", {**RANGE, "start_date": "canary"}, "start_date"),
        ("/user/daily/activity", {**RANGE, "end_date": "2024-13-45"}, "end_date"),
        ("/user/daily/activity", {**RANGE, "page_size": "9999"}, "page_size"),
        ("/user/daily/activity", {"start_date": "2025-01-01", "end_date": "2024-01-01"}, "start_date"),
        ("/user/daily/activity", {"start_date": "0001-01-01", "end_date": "2024-01-01"}, "start_date"),
        ("/team/daily/activity", {"start_date": "2024-10-04"}, "end_date"),
        ("/team/daily/activity", {**RANGE, "team_ids": ",".join(map(str, range(101)))}, "team_ids"),
        ("/tag/daily/activity", {**RANGE, "page_size": "0"}, "page_size"),
        ("/tag/daily/activity", {}, "start_date"),
        ("/spend/logs", {"page_size": "0"}, "page_size"),
        ("/spend/logs", {"page": "999999999"}, "page"),
        ("/spend/logs/v2", {"cursor": "canary"}, "cursor"),
        ("/spend/logs", {"start_date": "yesterday-canary"}, "start_date"),
        ("/spend/logs", {"summarize": "canary"}, "summarize"),
        ("/global/spend/keys", {"limit": "100000"}, "limit"),
        ("/global/spend/report", {**RANGE, "group_by": "canary"}, "group_by"),
    ],
)
async def test_wrong_queries_are_refused_by_name(
    house: Gatehouse, path: str, query: dict[str, str], param: str
) -> None:
    answer = await house.client.get(path, params=query)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert "canary" not in answer.text
