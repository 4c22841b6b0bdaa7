"""A running gateway with the operator's own rows of the model table: prices, limits, wildcards, and a changed file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ostiary.testing.factories import chat, configuration, deployment
from ostiary.testing.gateway import Gateway, eventually, running_gateway
from ostiary.testing.provider import FakeProvider


def row(price: float) -> dict[str, Any]:
    return {
        "openai/our-model": {
            "litellm_provider": "openai", "mode": "chat", "max_input_tokens": 9000, "supports_vision": True,
            "input_cost_per_token": price, "output_cost_per_token": price,
        }
    }  # fmt: skip


def asking(model: str) -> Any:
    return json.loads(chat(model))


def price(gateway: Gateway, name: str) -> float | None:
    (group,) = gateway.admin("GET", f"/model_group/info?model_group={name}")["data"]
    found: float | None = group["input_cost_per_token"]
    return found


def test_own_rows_are_in_force_and_followed(tmp_path: Path, provider: FakeProvider) -> None:
    file = tmp_path / "rows.json"
    file.write_text(json.dumps(row(1e-06)), encoding="utf-8")
    named = deployment("named", provider.url, model="our-model")
    any_model = deployment("open/*", provider.url, model="*")
    for params in (named["litellm_params"], any_model["litellm_params"]):
        for member in [name for name in params if "cost" in name]:
            del params[member]
    with running_gateway(configuration(named, any_model, ostiary={"catalog_file": str(file)})) as gateway:
        assert price(gateway, "named") == price(gateway, "open/our-model") == 1e-06
        (shown,) = [each for each in gateway.admin("GET", "/v1/model/info")["data"] if each["model_name"] == "named"]
        assert (shown["model_info"]["key"], shown["model_info"]["supports_vision"]) == ("openai/our-model", True)
        assert shown["model_info"]["price_state"] == "listed"
        # A key with a budget may only use what has a price: the wildcard's model has one, from the file.
        key = gateway.admin("POST", "/key/generate", {"max_budget": 1})["key"]
        assert gateway.call("POST", "/v1/chat/completions", asking("open/our-model"), key=key)[0] == 200
        assert gateway.call("POST", "/v1/chat/completions", asking("open/nobody-knows"), key=key)[0] == 400
        file.write_text(json.dumps(row(2e-06)), encoding="utf-8")
        eventually(lambda: price(gateway, "named") == price(gateway, "open/our-model") == 2e-06, 10)
        mark = gateway.lines()
        file.write_text("{", encoding="utf-8")
        gateway.wait_for(r"catalog_file: error: is no JSON object", after=mark)
        assert price(gateway, "named") == 2e-06
