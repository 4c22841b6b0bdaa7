"""Models added over the API that sign in to a cloud: secrets are sealed, and nothing of this machine is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gatehouse import Gatehouse

from ostiary.core.secret import Secret

CANARY = "entra-canary-4471"
PEM = "pem-canary-9023"


def document(**params: Any) -> dict[str, Any]:
    base = {"model": "azure/gpt-4o", "api_base": "https://llm.openai.azure.com", "tenant_id": "t", "client_id": "c"}
    return {
        "model_name": "gpt-db",
        "litellm_params": {**base, "client_secret": CANARY, **params},
        "model_info": {"id": "db-1", "mode": "chat"},
    }


async def test_a_client_secret_is_sealed_and_masked(house: Gatehouse, tmp_path: Path) -> None:
    answer = await house.client.post("/model/new", json=document())
    assert answer.status_code == 200
    assert answer.json()["litellm_params"]["client_secret"] == "****"
    (stored,) = await house.services.models.stored()
    assert stored.litellm_params["client_secret"] == Secret(CANARY)
    shown = (await house.client.get("/v1/model/info")).text
    assert CANARY not in answer.text + shown
    assert not any(CANARY.encode() in file.read_bytes() for file in (tmp_path / "data").iterdir())


async def test_a_document_of_credentials_is_sealed_and_survives_an_edit_of_what_is_shown(
    house: Gatehouse, tmp_path: Path
) -> None:
    credentials = {"type": "service_account", "private_key": PEM, "client_email": "e@p"}
    answer = await house.client.post("/model/new", json=document(vertex_credentials=credentials))
    assert answer.status_code == 200
    assert PEM not in answer.text
    assert not any(PEM.encode() in file.read_bytes() for file in (tmp_path / "data").iterdir())
    shown = answer.json()["litellm_params"]
    changed = await house.client.patch("/model/db-1/update", json={"litellm_params": {**shown, "rpm": 3}})
    assert changed.status_code == 200
    (stored,) = await house.services.models.stored()
    kept = stored.litellm_params["vertex_credentials"]
    assert isinstance(kept, dict)
    assert kept["private_key"].reveal() == PEM
    assert stored.litellm_params["rpm"] == 3


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"vertex_credentials": "/etc/passwd"}, "vertex_credentials"),
        ({"vertex_credentials": {"type": "service_account", "private_key": "****"}}, "vertex_credentials"),
        ({"aws_web_identity_token": "/var/run/secrets/token"}, "aws_web_identity_token"),
        ({"aws_web_identity_token": "oidc/file//etc/passwd"}, "aws_web_identity_token"),
        ({"client_secret": "****"}, "client_secret"),
        ({"aws_access_key_id": "AKID\r\nx: y"}, "aws_access_key_id"),
        ({"aws_session_token": "a b"}, "aws_session_token"),
    ],
)
async def test_aig_06_a_model_of_the_api_names_nothing_of_this_machine(
    house: Gatehouse, params: dict[str, Any], field: str
) -> None:
    refused = await house.client.post("/model/new", json=document(**params))
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, f"litellm_params.{field}")
    assert await house.models.all() == []


async def test_aig_06_keys_of_aws_do_not_follow_a_changed_endpoint(house: Gatehouse) -> None:
    keys = {"aws_access_key_id": "AKID", "aws_secret_access_key": CANARY}
    first = document(api_base=None, aws_bedrock_runtime_endpoint="https://llm.openai.azure.com", **keys)
    assert (await house.client.post("/model/new", json=first)).status_code == 200
    change = {"aws_bedrock_runtime_endpoint": "https://evil.example"}
    refused = await house.client.patch("/model/db-1/update", json={"litellm_params": change})
    assert refused.status_code == 400
    assert "must be given again" in refused.json()["error"]["message"]
