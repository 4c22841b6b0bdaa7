"""No spelling of a credential, a model or a file leads a key further than its rights."""

from __future__ import annotations

import json

import pytest
from kit_requests import form, refused_or_served, unharmed

from ostiary.testing.factories import chat, deployment
from ostiary.testing.gateway import Gateway
from ostiary.testing.provider import FakeProvider
from ostiary.testing.raw import RawAnswer, RawConnection, fetch, request
from ostiary.testing.script import SERVER_ERROR, Script


@pytest.mark.parametrize(
    "key",
    [
        "' OR '1'='1",
        "sk-x'; DROP TABLE virtual_keys; --",
        "sk-%",
        "%",
        "_" * 40,
        "*",
        "sk-\U0001f511",
        "sk-\xe9\xff",
        "sk-" + "a" * 20_000,
        "['sk-1', 'sk-2']",
        '{"$ne": null}',
        "",
        " ",
        "null",
        "undefined",
        "admin",
    ],
)
async def test_aig_02_a_credential_that_is_no_key_is_refused_and_never_echoed(
    door: Gateway, provider: FakeProvider, key: str
) -> None:
    before = len(provider.requests)
    line = b"authorization: Bearer " + key.encode()
    async with RawConnection(door.url) as link:
        body = chat("cheap")
        plain = request("POST", "/v1/chat/completions", body)
        await link.send(plain.replace(b"\r\n\r\n", b"\r\n" + line + b"\r\n\r\n", 1))
        answer = await link.receive()
    assert answer.status in ((401,) if len(key) < 10_000 else (401, 431))
    if len(key) > 9:
        assert key.encode() not in answer.body
    assert len(provider.requests) == before


@pytest.mark.parametrize("key", [b"sk-\x00abc", b"sk-\nabc", b"sk-" + b"a" * 1_000_000])
async def test_aig_02_a_credential_that_is_no_header_is_refused(
    door: Gateway, provider: FakeProvider, key: bytes
) -> None:
    before = len(provider.requests)
    async with RawConnection(door.url) as link:
        plain = request("POST", "/v1/chat/completions", chat("cheap"))
        try:
            await link.send(plain.replace(b"\r\n\r\n", b"\r\nauthorization: Bearer " + key + b"\r\n\r\n", 1))
            answer = await link.receive()
        except ConnectionError:
            answer = RawAnswer()
    assert answer.status in (0, 400, 401, 431)
    assert len(provider.requests) == before
    assert (await fetch(door.url, "GET", "/health/liveliness")).status == 200


async def test_aig_02_the_stored_digest_is_no_key(door: Gateway, limited: str) -> None:
    info = door.admin("GET", f"/key/info?key={limited}")
    for stored in {str(info.get("key")), str(info["info"].get("token")), str(info["info"].get("token_id"))}:
        if stored == limited:
            continue
        answer = await fetch(door.url, "POST", "/v1/chat/completions", chat("cheap"), key=stored)
        assert answer.status == 401


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"cheap","model":"secret","messages":[]}',
        b'{"model":"cheap","messages":[],"\\u006dodel":"secret"}',
        b'{"\\u006dodel":"cheap","messages":[],"\\u006d\\u006fdel":"secret"}',
        b'{"model":"cheap","messages":[],"messages":[]}',
        b'{"model":"cheap","messages":[],"max_tokens":1,"max_tokens":999999}',
        b'{"model":"cheap","messages":[],"stream":false,"stream":true}',
    ],
)
async def test_aig_03_a_governed_field_written_twice_is_refused(
    door: Gateway, provider: FakeProvider, limited: str, body: bytes
) -> None:
    before = len(provider.requests)
    answer = await fetch(door.url, "POST", "/v1/chat/completions", body, key=limited)
    assert answer.status == 400
    assert len(provider.requests) == before


async def test_aig_03_an_escaped_name_means_what_it_says_to_both(
    door: Gateway, provider: FakeProvider, limited: str
) -> None:
    before = len(provider.requests)
    denied = await fetch(
        door.url, "POST", "/v1/chat/completions", b'{"\\u006dodel":"secret","messages":[]}', key=limited
    )
    assert denied.status == 403
    served = await fetch(
        door.url, "POST", "/v1/chat/completions", b'{"\\u006dodel":"ch\\u0065ap","messages":[]}', key=limited
    )
    assert served.status == 200
    (seen,) = provider.requests[before:]
    assert seen.model == "u-cheap"


async def test_aig_03_a_name_in_other_case_is_another_field(
    door: Gateway, provider: FakeProvider, limited: str
) -> None:
    before = len(provider.requests)
    body = b'{"model":"cheap","Model":"secret","MODEL":"secret","messages":[]}'
    answer = await fetch(door.url, "POST", "/v1/chat/completions", body, key=limited)
    refused_or_served(answer)
    unharmed(provider, before, body)


async def test_aig_03_path_and_body_name_one_model(door: Gateway, provider: FakeProvider, limited: str) -> None:
    before = len(provider.requests)
    for path, model in (("cheap", "secret"), ("secret", "cheap")):
        for prefix in ("/openai/deployments", "/engines"):
            answer = await fetch(door.url, "POST", f"{prefix}/{path}/chat/completions", chat(model), key=limited)
            assert answer.status in (400, 403, 404)
    assert len(provider.requests) == before


async def test_aig_03_a_form_with_two_models_is_refused(door: Gateway, provider: FakeProvider, limited: str) -> None:
    before = len(provider.requests)
    headers = [("content-type", "multipart/form-data; boundary=b")]
    body = form("b", ("model", "cheap"), ("model", "secret"))
    answer = await fetch(door.url, "POST", "/v1/audio/transcriptions", body, key=limited, headers=headers)
    assert answer.status == 400
    json_as_form = await fetch(door.url, "POST", "/v1/audio/transcriptions", chat("cheap"), key=limited)
    assert json_as_form.status in (400, 415)
    form_as_json = await fetch(door.url, "POST", "/v1/chat/completions", body, key=limited, headers=headers)
    assert form_as_json.status in (400, 415)
    assert len(provider.requests) == before


@pytest.mark.parametrize(
    "name",
    [
        *(
            "secret",
            "Secret",
            "SECRET",
            "secret ",
            " secret",
            "secret\t",
            "openai/secret",
            "secret\u200b",
            "s\u0435cret",
        ),
        *("cheap/../secret", "cheap,secret", "*", "sec*", "the-secret-one", "nickname", "u-secret", "family/secret"),
        *("cheap\x00secret", "cheap?model=secret", "cheap#secret", "ft:secret:org", "eu.secret", ""),
    ],
)
@pytest.mark.parametrize("path", ["chat/completions", "completions", "embeddings", "moderations", "rerank"])
async def test_aig_04_no_spelling_and_no_route_leads_to_a_model_outside_the_list(
    door: Gateway, provider: FakeProvider, limited: str, name: str, path: str
) -> None:
    before = len(provider.requests)
    body = chat(name, prompt="x", input="x", query="q", documents=[])
    answer = await fetch(door.url, "POST", f"/v1/{path}", body, key=limited)
    assert answer.status in (400, 403, 404)
    assert len(provider.requests) == before


async def test_aig_04_a_key_for_nothing_reaches_nothing(door: Gateway, provider: FakeProvider) -> None:
    before = len(provider.requests)
    nobody = door.key(models=["no-default-models"])
    for name in ("cheap", "secret", "family/x"):
        assert (await fetch(door.url, "POST", "/v1/chat/completions", chat(name), key=nobody)).status in (403, 404)
    assert len(provider.requests) == before


async def test_aig_04_wildcards_of_a_key_match_whole_names_only(door: Gateway, provider: FakeProvider) -> None:
    key = door.key(models=["family/*"])
    allowed = await fetch(door.url, "POST", "/v1/chat/completions", chat("family/x"), key=key)
    assert allowed.status == 200
    for name in ("family", "xfamily/x", "cheap", "secret"):
        answer = await fetch(door.url, "POST", "/v1/chat/completions", chat(name), key=key)
        assert answer.status in (403, 404)


async def test_aig_04_aliases_of_a_key_lead_only_to_what_it_may_use(door: Gateway, provider: FakeProvider) -> None:
    before = len(provider.requests)
    status, made = door.call(
        "POST", "/key/generate", {"models": ["cheap"], "aliases": {"cheap": "secret"}}, key=door.admin_key
    )
    if status == 200:  # an administrator may do as he likes; then the list still rules
        answer = await fetch(door.url, "POST", "/v1/chat/completions", chat("cheap"), key=made["key"])
        assert answer.status == 403
    assert len(provider.requests) == before


async def test_aig_04_a_fallback_outside_the_list_is_not_taken(
    door: Gateway, provider: FakeProvider, limited: str
) -> None:
    provider.script("u-cheap", SERVER_ERROR)
    try:
        before = len(provider.seen("u-secret"))
        answer = await fetch(door.url, "POST", "/v1/chat/completions", chat("cheap"), key=limited)
        assert answer.status >= 500
        assert len(provider.seen("u-secret")) == before
    finally:
        provider.script("u-cheap", Script())


@pytest.mark.parametrize("what", ["", "/content"])
async def test_aig_11_a_file_belongs_to_the_key_that_sent_it(
    door: Gateway, provider: FakeProvider, limited: str, what: str
) -> None:
    body = form("b", ("purpose", "assistants"), ("model", "cheap"))
    headers = [("content-type", "multipart/form-data; boundary=b")]
    made = await fetch(door.url, "POST", "/v1/files", body, key=limited, headers=headers)
    assert made.status == 200
    name, before = made.json()["id"], len(provider.requests)
    stranger = door.key(models=["cheap"])
    answers = [
        await fetch(door.url, method, f"/v1/files/{id_}{what}", key=stranger)
        for id_ in (name, "file-of-nobody", name[:-2] + "AA", "file-1")
        for method in (("GET", "DELETE") if not what else ("GET",))
    ]
    assert {answer.status for answer in answers} == {404}
    assert len({answer.body for answer in answers}) == 1  # as if it had never been
    assert len(provider.requests) == before
    assert (await fetch(door.url, "GET", f"/v1/files/{name}{what}", key=limited)).status == 200


async def test_aig_11_nobody_lists_what_others_keep(door: Gateway, provider: FakeProvider, limited: str) -> None:
    before = len(provider.requests)
    for path in ("/v1/files", "/v1/batches"):
        assert (await fetch(door.url, "GET", path, key=limited)).status in (403, 404)
    assert len(provider.requests) == before


async def test_aig_11_a_batch_of_another_keys_file_is_refused(
    door: Gateway, provider: FakeProvider, limited: str
) -> None:
    body = form("b", ("purpose", "assistants"), ("model", "cheap"))
    headers = [("content-type", "multipart/form-data; boundary=b")]
    name = (await fetch(door.url, "POST", "/v1/files", body, key=limited, headers=headers)).json()["id"]
    batch = {"input_file_id": name, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    before = len(provider.requests)
    stranger = door.key(models=["cheap"])
    answer = await fetch(door.url, "POST", "/v1/batches", json.dumps(batch).encode(), key=stranger)
    assert answer.status == 404
    assert len(provider.requests) == before


@pytest.mark.parametrize("model", ["secret", "nickname", "the-secret-one", "u-secret", "family/x"])
async def test_aig_04_the_lines_of_a_batch_are_authorised_like_requests(
    door: Gateway, provider: FakeProvider, limited: str, model: str
) -> None:
    lines = [
        {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "cheap", "messages": []}}
    ]
    lines.append({**lines[0], "custom_id": "2", "body": {"model": model, "messages": []}})
    content = "\n".join(json.dumps(line) for line in lines)
    body = form("b", ("purpose", "batch"), ("model", "cheap"), content=content)
    headers = [("content-type", "multipart/form-data; boundary=b")]
    before = len(provider.requests)
    answer = await fetch(door.url, "POST", "/v1/files", body, key=limited, headers=headers)
    assert answer.status in (400, 403, 404)
    assert len(provider.requests) == before


def test_aig_12_a_stored_model_cannot_take_the_identity_of_a_configured_one(
    door: Gateway, provider: FakeProvider, attacker: FakeProvider
) -> None:
    row = deployment("secret", attacker.url, info={"id": "the-secret-one"})
    status, answer = door.call("POST", "/model/new", row, key=door.admin_key)
    assert status in (400, 409), answer
    for _ in range(5):
        served, _ = door.call("POST", "/v1/chat/completions", {"model": "secret", "messages": []}, key=door.admin_key)
        assert served == 200
