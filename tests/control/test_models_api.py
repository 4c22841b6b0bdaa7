"""Models added over the API: in force at once, never with a credential in sight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gatehouse import Gatehouse

CANARY = "sk-provider-canary-77"


def document(**params: Any) -> dict[str, Any]:
    return {
        "model_name": "gpt-db",
        "litellm_params": {"model": "openai/gpt-4o", "api_key": CANARY, "api_base": "https://llm.example/v1", **params},
        "model_info": {"id": "db-1", "mode": "chat", "access_groups": ["beta"], "free": {"text": 1}},
    }


async def test_a_new_model_is_in_force_with_the_answer(house: Gatehouse, tmp_path: Path) -> None:
    answer = await house.client.post("/model/new", json=document(rpm=5, extra_headers={"x-auth": CANARY}))
    assert answer.status_code == 200
    body = answer.json()
    assert (body["model_id"], body["model_name"]) == ("db-1", "gpt-db")
    assert body["litellm_params"] == {
        "model": "openai/gpt-4o", "api_key": "****", "api_base": "https://llm.example/v1", "rpm": 5,
        "extra_headers": {"x-auth": "****"},
    }  # fmt: skip
    assert "db-1" in house.policy.snapshot.deployments
    shown = (await house.client.get("/v1/model/info")).text
    assert CANARY not in answer.text + shown
    assert not any(CANARY.encode() in file.read_bytes() for file in (tmp_path / "data").iterdir())
    (stored,) = await house.services.models.stored()
    assert stored.litellm_params["api_key"].reveal() == CANARY  # type: ignore[attr-defined]


async def test_model_info_lists_the_file_and_the_database(house: Gatehouse) -> None:
    await house.client.post("/model/new", json=document())
    answer = (await house.client.get("/model/info")).json()["data"]
    file, stored = sorted(answer, key=lambda model: model["model_info"]["db_model"])
    assert file["model_info"]["id"] == "from-file"
    assert file["litellm_params"]["api_key"] == "****"
    assert file["model_info"]["input_cost_per_token"] == 0.0025
    assert (stored["model_info"]["id"], stored["model_info"]["free"]) == ("db-1", {"text": 1})
    one = await house.client.get("/model/info", params={"litellm_model_id": "db-1"})
    assert [model["model_name"] for model in one.json()["data"]] == ["gpt-db"]
    assert (await house.client.get("/model/info", params={"litellm_model_id": "x"})).status_code == 404
    groups = (await house.client.get("/model_group/info")).json()["data"]
    assert {group["model_group"]: group["providers"] for group in groups} == {
        "house-model": ["openai"], "gpt-db": ["openai"],
    }  # fmt: skip


async def test_what_does_not_compile_is_not_stored(house: Gatehouse) -> None:
    refused = await house.client.post("/model/new", json={**document(), "model_name": "broken"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "litellm_params.model")
    assert await house.models.all() == []
    await house.client.post("/model/new", json=document())
    refused = await house.client.post("/model/update", json={"model_name": "broken", "model_info": {"id": "db-1"}})
    assert refused.status_code == 400
    assert house.policy.snapshot.deployments["db-1"].model_name == "gpt-db"
    assert [row.model_name for row in await house.models.all()] == ["gpt-db"]


async def test_an_update_changes_what_it_names(house: Gatehouse) -> None:
    await house.client.post("/model/new", json=document())
    answer = await house.client.patch(
        "/model/db-1/update",
        json={"litellm_params": {"rpm": 9, "api_key": "****"}, "model_info": {"mode": "completion", "free": None}},
    )
    body = answer.json()
    assert (body["litellm_params"]["rpm"], body["litellm_params"]["model"]) == (9, "openai/gpt-4o")
    assert body["model_info"] == {"id": "db-1", "mode": "completion", "access_groups": ["beta"], "db_model": True}
    (stored,) = await house.services.models.stored()
    assert stored.litellm_params["api_key"].reveal() == CANARY  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "change",
    [
        {"api_base": "https://evil.example/v1"}, {"api_base": "http://llm.example/v1"}, {"api_base": None},
        {"api_base": "https://llm.example:444/v1"}, {"api_base": "https://evil.example/v1", "api_key": "****"},
        {"api_base": None, "base_url": "https://evil.example"}, {"api_base": "https://llm.example.evil.example/v1"},
    ],
)  # fmt: skip
async def test_aig_06_a_credential_does_not_follow_a_changed_address(house: Gatehouse, change: dict[str, Any]) -> None:
    await house.client.post("/model/new", json=document())
    refused = await house.client.post("/model/update", json={"litellm_params": change, "model_info": {"id": "db-1"}})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "litellm_params.api_key")
    change = {**change, "api_key": "sk-for-the-new-address"}
    answer = await house.client.post("/model/update", json={"litellm_params": change, "model_info": {"id": "db-1"}})
    assert answer.status_code == 200


async def test_the_same_origin_written_otherwise_keeps_its_credential(house: Gatehouse) -> None:
    await house.client.post("/model/new", json=document())
    answer = await house.client.patch(
        "/model/db-1/update", json={"litellm_params": {"api_base": "https://LLM.example:443/v2"}}
    )
    assert answer.status_code == 200


async def test_deleting_takes_it_out_of_force(house: Gatehouse) -> None:
    await house.client.post("/model/new", json=document())
    assert (await house.client.post("/model/delete", json={"id": "db-1"})).status_code == 200
    assert "db-1" not in house.policy.snapshot.deployments
    assert (await house.client.post("/model/delete", json={"id": "db-1"})).status_code == 404


async def test_models_of_the_file_are_not_changed_over_the_api(house: Gatehouse) -> None:
    for path, body in (
        ("/model/delete", {"id": "from-file"}),
        ("/model/update", {"model_info": {"id": "from-file"}, "model_name": "x"}),
    ):
        refused = await house.client.post(path, json=body)
        assert refused.status_code == 400
        assert "configuration" in refused.json()["error"]["message"]


@pytest.mark.parametrize("taken", ["from-file", "db-1"])
async def test_aig_12_an_id_in_use_is_a_conflict(house: Gatehouse, taken: str) -> None:
    await house.client.post("/model/new", json=document())
    again = {**document(), "model_info": {"id": taken}}
    refused = await house.client.post("/model/new", json=again)
    assert (refused.status_code, refused.json()["error"]["param"]) == (409, "model_info.id")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model_name": ""}, "model_name"),
        ({"model_name": None}, "model_name"),
        ({"litellm_params": None}, "litellm_params"),
        ({"litellm_params": []}, "litellm_params"),
        ({"litellm_params": {}}, "litellm_params.model"),
        ({"litellm_params": {"model": 5}}, "litellm_params.model"),
        ({"litellm_params": {"model": "a", "api_key": "****"}}, "litellm_params.api_key"),
        ({"litellm_params": {"model": "a", "api_base": "ftp://x"}}, "litellm_params.api_base"),
        ({"litellm_params": {"model": "a", "api_base": 5}}, "litellm_params.api_base"),
        ({"litellm_params": {"model": "a", "api_base": "https://u:canary@h/"}}, "litellm_params.api_base"),
        ({"litellm_params": {"model": "a", "api_base": "https://h:canary/"}}, "litellm_params.api_base"),
        ({"litellm_params": {"model": "a", "base_url": "canary"}}, "litellm_params.base_url"),
        ({"model_info": {"id": 5}}, "model_info.id"),
        ({"model_info": {"id": "x" * 257}}, "model_info.id"),
        ({"model_info": "canary"}, "model_info"),
    ],
)
async def test_wrong_models_are_refused_by_the_name_of_the_field(
    house: Gatehouse, change: dict[str, Any], param: str
) -> None:
    refused = await house.client.post("/model/new", json={**document(), **change})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    assert "canary" not in refused.text
