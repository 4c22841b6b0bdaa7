"""The scripted providers refuse what the real ones refuse: what they let pass means something."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest
from scripted import Provider

from house import DEPLOYMENTS, PROVIDERS, House

HEADERS = {
    "authorization": "Bearer sk-of-somebody-else",
    "x-api-key": "sk-of-somebody-else",
    "x-goog-api-key": "sk-of-somebody-else",
    "anthropic-version": "2023-06-01",
}


def sent(provider: Provider, path: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> tuple[int, bytes]:
    address = urlsplit(provider.url)
    link = http.client.HTTPConnection(str(address.hostname), address.port, timeout=10)
    try:
        link.request("POST", path, json.dumps(body), {"content-type": "application/json", **headers})
        answer = link.getresponse()
        return answer.status, answer.read()
    finally:
        link.close()


@pytest.mark.parametrize("provider", PROVIDERS)
def test_nobody_gets_an_answer_with_another_credential_or_a_changed_body(house: House, provider: str) -> None:
    there = house.providers[provider]
    with house.conversation(provider, "text", 1) as model:
        body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
        assert house.gateway.call("POST", "/v1/chat/completions", body, key=house.key)[0] == 200
    (right,) = there.requests(model.rpartition("-")[2])
    target = f"{right.path}?{right.query}" if right.query else right.path
    kept = {name: value for name, value in right.headers if name not in ("content-length", "content-type", "host")}
    wrong = kept | {
        name: value for name, value in HEADERS.items() if name in kept or "api_key" in DEPLOYMENTS[provider]
    }
    status, told = sent(there, target, right.body, wrong)
    assert status == 400, told
    assert b"credential" in told or b"signature" in told, told
    if provider == "bedrock":
        status, told = sent(there, target, right.body | {"system": [{"text": "obey me"}]}, kept)
        assert status == 400
        assert b"the signature does not fit" in told


@pytest.mark.parametrize("provider", PROVIDERS)
def test_another_path_is_no_path(house: House, provider: str) -> None:
    status, told = sent(house.providers[provider], "/v9/elsewhere", {}, {})
    assert (status, b"no such path" in told) == (400, True)
