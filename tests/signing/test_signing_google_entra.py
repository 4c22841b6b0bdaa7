"""Google and Entra tokens from every place they come from, against endpoints that judge the proof; and where not."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from signing_kit import CANARY, JWT, FakeEntra, FakeGoogle, HandClock, Service, Told, serving, told

from ostiary.core.identity import EntraIdentity, GoogleIdentity
from ostiary.core.secret import Secret, secret_document
from ostiary.gateway.signing.entra import EntraSource
from ostiary.gateway.signing.google import GoogleSource
from ostiary.gateway.signing.tokens import NoToken


@pytest.fixture
def google() -> Iterator[tuple[FakeGoogle, Service]]:
    fake = FakeGoogle()
    with serving(fake) as service:
        yield fake, service


@pytest.fixture
def entra() -> Iterator[Service]:
    with serving(FakeEntra()) as service:
        yield service


def of_google(service: Service, **fields: Any) -> GoogleSource:
    urls = {"token_url": f"{service.url}/token", "exchange_url": f"{service.url}/v1/token"}
    base = {**urls, "impersonation_url": service.url, "trusted": True}
    return GoogleSource(GoogleIdentity(**{**base, **fields}), HandClock())


def of_entra(service: Service, **fields: Any) -> EntraSource:
    base = {"tenant": "tenant-1", "client_id": "app-1", "authority": service.url, "trusted": True}
    return EntraSource(EntraIdentity(**{**base, **fields}), HandClock())


async def test_a_service_account_proves_itself_by_a_signed_assertion(google: tuple[FakeGoogle, Service]) -> None:
    fake, service = google
    token = await of_google(service, credentials=Secret(json.dumps(fake.document()))).fetch()
    assert token.value == Secret("ya29.1")
    assert abs(token.expires - time.time() - 3599) < 5
    assert fake.header == {"alg": "RS256", "typ": "JWT", "kid": "k1"}
    assert fake.claims["exp"] - fake.claims["iat"] == 3600
    assert {name: fake.claims[name] for name in ("iss", "scope", "aud")} == {
        "iss": "gate@p.iam.gserviceaccount.com",
        "scope": "https://www.googleapis.com/auth/cloud-platform",
        "aud": f"{service.url}/token",
    }


async def test_the_document_may_be_a_mapping_with_secrets_or_a_file(
    google: tuple[FakeGoogle, Service], tmp_path: Path
) -> None:
    fake, service = google
    guarded = {name: Secret(value) if "key" in name else value for name, value in fake.document().items()}
    assert await of_google(service, credentials=secret_document(guarded)).fetch()
    file = tmp_path / "account.json"
    file.write_text(json.dumps(fake.document()))
    assert await of_google(service, credentials=Secret(str(file))).fetch()
    assert await of_google(service, credentials_file=str(file)).fetch()
    with pytest.raises(ValueError, match="not a JSON document"):
        secret_document({"x": object()})


USER = {"type": "authorized_user", "client_id": "c", "client_secret": "user secret", "refresh_token": "1//refresh"}


async def test_the_refresh_token_of_a_person(google: tuple[FakeGoogle, Service]) -> None:
    _, service = google
    assert (await of_google(service, credentials=Secret(json.dumps(USER))).fetch()).value == Secret("ya29.1")
    revoked = Secret(json.dumps({**USER, "refresh_token": "revoked"}))
    with pytest.raises(NoToken) as caught:
        await of_google(service, credentials=revoked).fetch()
    assert "invalid_grant" in caught.value.why
    assert CANARY not in caught.value.why


def external(file: Path, **fields: Any) -> Secret:
    document = {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "https://evil.example/token",
        "credential_source": {"file": str(file)},
        **fields,
    }
    return Secret(json.dumps(document))


async def test_the_token_of_another_issuer_is_exchanged(google: tuple[FakeGoogle, Service], tmp_path: Path) -> None:
    _, service = google
    file = tmp_path / "subject"
    file.write_text(JWT)
    assert (await of_google(service, credentials=external(file)).fetch()).value == Secret("ya29.1")
    assert service.asked[-1].form["audience"].startswith("//iam.googleapis.com/")
    file.write_text(json.dumps({"id_token": JWT}))
    form = {"type": "json", "subject_token_field_name": "id_token"}
    impersonation = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/a@p.iam:generateAccessToken"
    one = external(
        file,
        credential_source={"file": str(file), "format": form},
        service_account_impersonation_url=impersonation,
    )
    token = await of_google(service, credentials=one).fetch()
    assert token.value == Secret("ya29.impersonated")
    assert abs(token.expires - time.time() - 1800) < 5
    assert service.asked[-1].path == "/v1/projects/-/serviceAccounts/a@p.iam:generateAccessToken"
    strange = external(file, credential_source={"file": str(file), "format": form},
                       service_account_impersonation_url=f"{service.url}/v1/x:generateAccessToken")  # fmt: skip
    with pytest.raises(NoToken) as caught:
        await of_google(service, credentials=strange).fetch()
    assert "not one of Google's" in caught.value.why


async def test_google_machines_are_asked_only_where_the_operator_says_so(google: tuple[FakeGoogle, Service]) -> None:
    _, service = google
    assert (await of_google(service, metadata=service.url).fetch()).value == Secret("ya29.1")
    with pytest.raises(NoToken) as caught:
        await of_google(service).fetch()
    assert caught.value.why.startswith("no Google credentials are configured")
    with serving(lambda asked: told(200, {"access_token": "t", "expires_in": 9})) as other:
        with pytest.raises(NoToken) as caught:
            await of_google(other, metadata=other.url).fetch()
        assert "is no metadata service" in caught.value.why


def elliptic() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.mark.parametrize(
    "document",
    [
        "{}",
        "{",
        '{"type": 5}',
        '{"type": "service_account"}',
        json.dumps({"type": "service_account", "client_email": "e", "private_key": CANARY}),
        json.dumps({"type": "service_account", "client_email": "e", "private_key": elliptic()}),
        json.dumps({"type": "authorized_user", "client_id": "c", "client_secret": CANARY}),
        json.dumps({"type": "external_account", "audience": "a", "subject_token_type": "t",
                    "credential_source": {"url": "http://127.0.0.1/"}}),
        json.dumps({"type": "impersonated_service_account"}),
    ],
)  # fmt: skip
async def test_a_document_that_cannot_be_used_asks_nobody(google: tuple[FakeGoogle, Service], document: str) -> None:
    with pytest.raises(NoToken) as caught:
        await of_google(google[1], credentials=Secret(document)).fetch()
    assert CANARY not in caught.value.why
    assert google[1].asked == []


async def test_an_application_signs_in_with_its_secret(entra: Service) -> None:
    token = await of_entra(entra, client_secret=Secret("entra secret")).fetch()
    assert token.value == Secret("eyJ.entra.1")
    assert abs(token.expires - time.time() - 3599) < 5
    assert entra.asked[0].form["scope"] == "https://cognitiveservices.azure.com/.default"
    with pytest.raises(NoToken) as caught:
        await of_entra(entra, client_secret=Secret("run out")).fetch()
    assert caught.value.why.endswith("it answers 401 invalid_client; check the credentials")


async def test_a_federated_token_is_read_anew_each_time(entra: Service, tmp_path: Path) -> None:
    file = tmp_path / "federated"
    source = of_entra(entra, federated_file=str(file))
    with pytest.raises(NoToken) as caught:
        await source.fetch()
    assert "cannot be read (No such file or directory)" in caught.value.why
    file.write_text("eyJ.old.token")
    with pytest.raises(NoToken):
        await source.fetch()
    file.write_text(JWT)
    assert (await source.fetch()).value == Secret("eyJ.entra.1")
    assert entra.asked[-1].form["client_assertion_type"].endswith("jwt-bearer")


async def test_a_managed_identity_is_asked_only_where_the_operator_says_so(entra: Service) -> None:
    token = await of_entra(entra, metadata=entra.url).fetch()
    assert token.value == Secret("eyJ.managed")
    assert abs(token.expires - time.time() - 86_399) < 5
    assert "resource=https%3A%2F%2Fcognitiveservices.azure.com&client_id=app-1" in entra.asked[0].path
    with pytest.raises(NoToken):
        await of_entra(entra).fetch()


@pytest.mark.parametrize("tenant", ["", "../x", "a/b", "a?b", "a b"])
async def test_a_tenant_is_one_segment_of_the_path(entra: Service, tenant: str) -> None:
    with pytest.raises(NoToken):
        await of_entra(entra, tenant=tenant, client_secret=Secret("entra secret")).fetch()
    assert entra.asked == []


@pytest.mark.parametrize(
    "authority",
    [
        "https://evil.example",
        "http://login.microsoftonline.com",
        "https://login.microsoftonline.com.evil.example",
        "https://login.microsoftonline.com@evil.example",
        "https://login.microsoftonline.com:444",
        "https://login.microsoftonline.com/x",
    ],
)
async def test_what_is_not_trusted_signs_in_at_microsofts_clouds_only(authority: str) -> None:
    one = EntraIdentity(tenant="t", client_id="c", client_secret=Secret("s"), authority=authority)
    with pytest.raises(NoToken) as caught:
        await EntraSource(one, HandClock()).fetch()
    assert "Microsoft's clouds only" in caught.value.why


async def test_what_is_not_trusted_names_no_file(google: tuple[FakeGoogle, Service], tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text(json.dumps(google[0].document()))
    for credentials in (Secret(str(file)), external(file)):
        with pytest.raises(NoToken) as caught:
            await of_google(google[1], credentials=credentials, trusted=False).fetch()
        assert "configuration file" in caught.value.why
    with pytest.raises(NoToken):
        await EntraSource(EntraIdentity("t", "c", federated_file=str(file)), HandClock()).fetch()
    assert google[1].asked == []


GARBAGE = [
    Told(200, b""),
    Told(200, b"[1]"),
    Told(200, b'{"access_token": ""}'),
    Told(200, b'{"access_token": "a\\r\\nx: y", "expires_in": 5}'),
    Told(200, '{"access_token": "töken", "expires_in": 5}'.encode()),
    Told(200, b'{"access_token": 5}'),
    Told(400, b"\xff"),
    Told(400, b'{"error": "' + b"<b>" * 99 + b'"}'),
    Told(503, CANARY.encode()),
    Told(307, b"", {"location": "https://evil.example/"}),
]


@pytest.mark.parametrize("answer", GARBAGE, ids=range(len(GARBAGE)))
async def test_any_other_answer_is_a_fault_that_quotes_nothing(answer: Told) -> None:
    with serving(lambda asked: answer) as service:
        for source in (
            of_google(service, credentials=Secret(json.dumps(USER))),
            of_entra(service, client_secret=Secret("entra secret")),
        ):
            with pytest.raises(NoToken) as caught:
                await source.fetch()
            assert not any(text in caught.value.why for text in (CANARY, "<b>", "evil"))
        assert len(service.asked) == 2


async def test_a_life_that_is_not_told_or_absurd_is_bounded() -> None:
    for lasts, life in ((None, 0), ("x", 0), (10**9, 86_400), (-5, -5)):
        with serving(lambda asked, lasts=lasts: told(200, {"access_token": "t", "expires_in": lasts})) as service:
            source = of_entra(service, client_secret=Secret("s"))
            assert abs((await source.fetch()).expires - time.time() - life) < 5
