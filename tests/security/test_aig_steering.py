"""A caller cannot steer the gateway by what he writes: judged by what the provider, and nobody else, received."""

from __future__ import annotations

import json
import secrets
from typing import Any

import pytest
from kit_requests import CANARY, form, refused_or_served, unharmed

from ostiary.testing.factories import chat
from ostiary.testing.gateway import Gateway
from ostiary.testing.provider import FakeProvider
from ostiary.testing.raw import fetch
from ostiary.testing.script import Script

FIELDS: dict[str, Any] = {
    "api_base": "URL",
    "base_url": "URL",
    "api_key": CANARY,
    "extra_headers": {"authorization": f"Bearer {CANARY}"},
    "headers": {"authorization": f"Bearer {CANARY}"},
    "organization": "org-attacker",
    "azure_endpoint": "URL",
    "model_list": [{"model_name": "x", "litellm_params": {"model": "openai/x", "api_base": "URL"}}],
    "litellm_params": {"api_base": "URL"},
    "user_config": {"model_list": []},
    "litellm_embedding_config": {"api_base": "URL"},
    "fallbacks": ["secret"],
    "context_window_fallback_dict": {"cheap": "secret"},
    "mock_response": "mocked",
    "mock_testing_fallbacks": True,
    "custom_llm_provider": "azure",
    "vertex_credentials": "{}",
    "aws_bedrock_runtime_endpoint": "URL",
    "proxy": "URL",
}


def aimed(value: Any, attacker: FakeProvider) -> Any:
    return json.loads(json.dumps(value).replace("URL", attacker.url))


@pytest.mark.parametrize("name", FIELDS)
async def test_aig_01_a_field_that_would_steer_is_refused_at_the_top_level(
    door: Gateway, provider: FakeProvider, attacker: FakeProvider, limited: str, name: str
) -> None:
    before = len(provider.requests)
    body = chat("cheap", **{name: aimed(FIELDS[name], attacker)})
    answer = await fetch(door.url, "POST", "/v1/chat/completions", body, key=limited)
    assert answer.status == 400
    assert answer.json()["error"]["param"] == name
    assert len(provider.requests) == before


@pytest.mark.parametrize("place", ["metadata", "extra_body", "litellm_metadata", "tool", "message", "stream_options"])
@pytest.mark.parametrize("name", FIELDS)
async def test_aig_01_inside_other_fields_it_is_opaque(
    door: Gateway, provider: FakeProvider, attacker: FakeProvider, limited: str, place: str, name: str
) -> None:
    before = len(provider.requests)
    inner = {name: aimed(FIELDS[name], attacker)}
    function = {"name": "f", "parameters": {"type": "object", "properties": {}}}
    fields: dict[str, Any] = {
        "tool": {"tools": [{"type": "function", "function": function | inner}]},
        "message": {"messages": [{"role": "user", "content": "x", **inner}]},
    }.get(place, {place: inner})
    body = chat("cheap", **fields)
    answer = await fetch(door.url, "POST", "/v1/chat/completions", body, key=limited)
    refused_or_served(answer)
    unharmed(provider, before, None if place == "litellm_metadata" else body)


@pytest.mark.parametrize("name", FIELDS)
async def test_aig_01_in_the_query_and_in_headers_it_is_not_heard(
    door: Gateway, provider: FakeProvider, attacker: FakeProvider, limited: str, name: str
) -> None:
    before = len(provider.requests)
    value = str(aimed(FIELDS[name], attacker))
    headers = [(f"{prefix}{name.replace('_', '-')}", value) for prefix in ("x-", "x-litellm-", "x-pass-", "llm-")]
    headers += [("x-forwarded-host", f"127.0.0.1:{attacker.port}")]
    body = chat("cheap")
    query = f"?{name}=" + value.replace(" ", "%20").replace('"', "%22")
    answer = await fetch(door.url, "POST", f"/v1/chat/completions{query}", body, key=limited, headers=headers)
    refused_or_served(answer)
    unharmed(provider, before, body)


@pytest.mark.parametrize("header", ["openai-organization", "openai-project", "openai-beta", "x-stainless-lang"])
async def test_aig_01_a_caller_does_not_choose_the_organisation_that_pays(
    door: Gateway, provider: FakeProvider, limited: str, header: str
) -> None:
    before = len(provider.requests)
    headers = [(header, "org-attacker")]
    await fetch(door.url, "POST", "/v1/chat/completions", chat("cheap"), key=limited, headers=headers)
    unharmed(provider, before, chat("cheap"))


@pytest.mark.parametrize("name", FIELDS)
async def test_aig_01_in_a_form_it_is_refused(
    door: Gateway, provider: FakeProvider, attacker: FakeProvider, limited: str, name: str
) -> None:
    before = len(provider.requests)
    body = form("b", ("model", "cheap"), (name, str(aimed(FIELDS[name], attacker))))
    headers = [("content-type", "multipart/form-data; boundary=b")]
    answer = await fetch(door.url, "POST", "/v1/audio/transcriptions", body, key=limited, headers=headers)
    assert answer.status == 400
    assert len(provider.requests) == before


@pytest.mark.parametrize(
    "text", ["os.environ/PATH", "${PATH}", "{{ env.PATH }}", "file:///etc/passwd", "vault:secret/x"]
)
async def test_aig_07_references_to_secrets_are_plain_text(
    door: Gateway, provider: FakeProvider, limited: str, text: str
) -> None:
    body = chat("cheap", text, user=text, metadata={"x": text})
    answer = await fetch(door.url, "POST", "/v1/chat/completions", body, key=limited)
    assert answer.status == 200
    assert provider.seen("u-cheap")[-1].body == body.replace(b'"cheap"', b'"u-cheap"')
    key = door.key(metadata={"note": text}, key_alias=f"{text} {secrets.token_hex(4)}")
    assert door.admin("GET", f"/key/info?key={key}")["info"]["metadata"]["note"] == text
    denied = await fetch(door.url, "POST", "/v1/chat/completions", chat(text), key=door.key())
    assert denied.status == 404


@pytest.mark.parametrize("text", ["{0.__class__}", "%n%s%d", "{{7*7}}", "<script>alert(1)</script>", "${7*7}"])
async def test_aig_08_templates_in_names_are_data(door: Gateway, text: str) -> None:
    answer = await fetch(door.url, "POST", "/v1/chat/completions", chat(text), key=door.key())
    assert answer.status == 404
    assert "49" not in answer.json()["error"]["message"]
    assert (answer.header("content-type") or "").startswith("application/json")


async def test_aig_10_headers_of_a_provider_do_not_reach_the_client(
    door: Gateway, provider: FakeProvider, limited: str
) -> None:
    evil = (
        ("set-cookie", "session=evil"),
        ("location", "http://evil.test/"),
        ("content-security-policy", "default-src *"),
        ("access-control-allow-origin", "*"),
        ("x-litellm-call-id", "forged"),
        ("x-litellm-response-cost", "0"),
        ("strict-transport-security", "max-age=0"),
        ("x-internal-host", "10.0.0.1"),
        ("server", "evil"),
        ("keep-alive", "timeout=1"),
        ("x-request-id", "req_1"),
    )
    for stream in (False, True):
        provider.script("u-cheap", Script(headers=evil), Script())
        answer = await fetch(door.url, "POST", "/v1/chat/completions", chat("cheap", stream=stream), key=limited)
        assert answer.status == 200
        given = "\n".join(f"{name}: {value}" for name, value in answer.headers).lower()
        for forbidden in ("evil", "forged", "10.0.0.1", "max-age=0", "default-src", "allow-origin", "timeout=1"):
            assert forbidden not in given


async def test_aig_10_an_answer_in_html_is_not_passed_on_as_such(
    door: Gateway, provider: FakeProvider, limited: str
) -> None:
    page = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 25\r\n\r\n<script>alert(1)</script>"
    provider.script("u-cheap", Script(raw=page), Script())
    answer = await fetch(door.url, "POST", "/v1/chat/completions", chat("cheap"), key=limited)
    assert answer.status >= 500
    assert b"<script>" not in answer.body
    assert (answer.header("content-type") or "").startswith("application/json")
