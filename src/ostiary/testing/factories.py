"""Configurations and request bodies for tests, with figures that make sums easy. It must not start anything."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

PROVIDER_KEY = "sk-provider-key-of-the-tests"
INPUT_PRICE, OUTPUT_PRICE = 1e-6, 2e-6  # dollars per token
DEFAULT_COST = 0.00002  # dollars: what an answer with `script.Tokens()` costs at these prices


def deployment(model_name: str, base_url: str, *, model: str | None = None, **params: Any) -> dict[str, Any]:
    """One row of `model_list`: an OpenAI-compatible provider at `base_url`.

    Args:
        model_name: the public name, or a pattern with one `*`.
        base_url: where, `/v1` included.
        model: the provider's own name; by default the public one.
        params: further `litellm_params`; `info` goes to `model_info`.
    """
    info = params.pop("info", None)
    given = {
        "model": f"openai/{model or model_name}",
        "api_base": base_url,
        "api_key": PROVIDER_KEY,
        "input_cost_per_token": INPUT_PRICE,
        "output_cost_per_token": OUTPUT_PRICE,
    }
    row: dict[str, Any] = {"model_name": model_name, "litellm_params": given | params}
    if info is not None:
        row["model_info"] = info
    return row


def configuration(*rows: Mapping[str, Any], **sections: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration of these deployments and sections (`router_settings`, `general_settings`, `ostiary`, …)."""
    return {"model_list": [dict(row) for row in rows]} | {name: dict(value) for name, value in sections.items()}


def chat(model: str, text: str = "hello", **fields: Any) -> bytes:
    """The body of a chat request with one message."""
    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 5}
    return json.dumps(body | fields, ensure_ascii=False).encode()
