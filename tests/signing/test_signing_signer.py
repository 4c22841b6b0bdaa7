"""The port of the exchange: lines at once or after `ready`, for one host alone, tokens shared by equal identities."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st
from signing_kit import Asked, FakeEntra, FakeGoogle, HandClock, Service, deployment, genuine, serving, told

from ostiary.core.identity import AwsIdentity, EntraIdentity, GoogleIdentity
from ostiary.core.secret import Secret
from ostiary.core.snapshot import AuthStyle
from ostiary.gateway.signing.signer import AwsSigner, BearerSigner, Signers, StaticSigner, host_of
from ostiary.gateway.signing.tokens import NoToken

BEDROCK = "bedrock-runtime.eu-central-1.amazonaws.com"
TARGET = "/model/anthropic.claude-v2%3A1/converse"


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def entra() -> Iterator[Service]:
    with serving(FakeEntra()) as service:
        yield service


def of_aws(**fields: Any) -> Any:
    identity = AwsIdentity(region="eu-central-1", access_key_id=Secret("AKID"), secret_access_key=Secret("s"), **fields)
    return deployment(host=BEDROCK, auth=AuthStyle.AWS, identity=identity, headers=(("x-amz-extra", "1"), ("x-b", "2")))


def of_entra(service: Service, **fields: Any) -> Any:
    identity = EntraIdentity("tenant-1", "app-1", Secret("entra secret"), authority=service.url, trusted=True, **fields)
    return deployment(auth=AuthStyle.ENTRA, identity=identity)


def test_a_static_credential_is_there_at_once(clock: HandClock) -> None:
    signers = Signers(clock)
    bearer = signers.of(deployment(credential=Secret("k")))
    header = signers.of(deployment(credential=Secret("k"), auth=AuthStyle.HEADER, auth_header="x-goog-api-key"))
    nothing = signers.of(deployment(auth=AuthStyle.NONE))
    now = clock.now()
    assert bearer.lines("POST", "api.example", "/", b"", now) == b"authorization: Bearer k\r\n"
    assert header.lines("POST", "api.example", "/", b"", now) == b"x-goog-api-key: k\r\n"
    assert nothing.lines("POST", "api.example", "/", b"", now) == b""


def test_aws_keys_sign_at_once_with_every_amazon_header(clock: HandClock) -> None:
    signer = Signers(clock).of(of_aws(session_token=Secret("session+/=")))
    for method, target, body in (("POST", TARGET, b'{"a":1}'), ("GET", "/x?b=2&a=1", b"")):
        lines = signer.lines(method, BEDROCK, target, body, clock.now())
        assert lines is not None
        headers = dict(line.split(": ", 1) for line in lines.decode().splitlines())
        asked = Asked(method, target, {**headers, "host": BEDROCK, "x-amz-extra": "1"}, body)
        assert genuine(asked, Credentials("AKID", "s", "session+/="))
        assert not genuine(asked._replace(body=b"other"), Credentials("AKID", "s", "session+/="))


@given(body=st.binary(max_size=64), path=st.text("abc%/?=&1", max_size=12))
def test_aws_lines_never_hold_the_secret_or_a_stray_line(body: bytes, path: str) -> None:
    clock = HandClock()
    lines = Signers(clock).of(of_aws()).lines("POST", BEDROCK, f"/{path}", body, clock.now())
    assert lines is not None
    names = [line.partition(b":")[0] for line in lines.split(b"\r\n")]
    assert names == [b"x-amz-date", b"authorization", b""]


async def test_a_token_is_there_after_ready_and_is_shared_by_equal_identities(clock: HandClock, entra: Service) -> None:
    signers = Signers(clock)
    first, second = (signers.of(of_entra(entra)) for _ in range(2))
    assert first.lines("POST", "api.example", "/", b"", clock.now()) is None
    await first.ready()
    for signer in (first, second):
        assert signer.lines("POST", "api.example", "/", b"", clock.now()) == b"authorization: Bearer eyJ.entra.1\r\n"
    assert len(entra.asked) == 1
    other = signers.of(of_entra(entra, scope="https://ai.azure.com/.default"))
    assert other.lines("POST", "api.example", "/", b"", clock.now()) is None
    await signers.close()


async def test_a_reload_keeps_tokens_that_are_still_in_use_and_ends_the_others(
    clock: HandClock, entra: Service
) -> None:
    signers = Signers(clock)
    before = of_entra(entra)
    signer = signers.of(before)
    await signer.ready()
    await signers.keep([of_entra(entra)])
    assert signers.of(of_entra(entra)).lines("POST", "api.example", "/", b"", clock.now()) is not None
    await signers.keep([of_aws()])
    assert signer.lines("POST", "api.example", "/", b"", clock.now()) is None
    with pytest.raises(NoToken):
        await signer.ready()


async def test_a_refused_token_is_replaced(clock: HandClock, entra: Service) -> None:
    signers = Signers(clock)
    signer = signers.of(of_entra(entra))
    await signer.ready()
    signer.lines("POST", "api.example", "/", b"", clock.now())
    clock.at += 60
    signer.refused()
    assert signer.lines("POST", "api.example", "/", b"", clock.now()) is None
    await signer.ready()
    assert signer.lines("POST", "api.example", "/", b"", clock.now()) == b"authorization: Bearer eyJ.entra.2\r\n"
    await signers.close()


async def test_the_log_is_told_why_and_the_caller_is_not(clock: HandClock, entra: Service) -> None:
    told_why: list[str] = []
    signers = Signers(clock, told_why.append)
    bad = of_entra(entra)
    identity = EntraIdentity("tenant-1", "app-1", Secret("run out"), authority=entra.url, trusted=True)
    signer = signers.of(deployment(auth=AuthStyle.ENTRA, identity=identity))
    with pytest.raises(NoToken) as caught:
        await signer.ready()
    (why,) = told_why
    assert "invalid_client" in why
    assert "run out" not in why
    assert entra.url.removeprefix("http://") not in caught.value.public
    assert bad.identity is not None
    await signers.close()


async def test_google_and_the_clouds_machines_go_the_same_way(clock: HandClock) -> None:
    with serving(FakeGoogle()) as service:
        identity = GoogleIdentity(metadata=service.url, trusted=True)
        signers = Signers(clock)
        signer = signers.of(deployment(auth=AuthStyle.GOOGLE, identity=identity))
        await signer.ready()
        assert signer.lines("POST", "api.example", "/", b"", clock.now()) == b"authorization: Bearer ya29.1\r\n"
        await signers.close()


async def test_aws_credentials_of_a_container_are_used_when_they_are_there(clock: HandClock) -> None:
    document = {"AccessKeyId": "ASIA1", "SecretAccessKey": "s", "Token": "t", "Expiration": "2999-01-01T00:00:00Z"}
    with serving(lambda asked: told(200, document)) as service:
        identity = AwsIdentity(region="eu-central-1", container=f"{service.url}/", trusted=True)
        signers = Signers(clock)
        signer = signers.of(deployment(host=BEDROCK, auth=AuthStyle.AWS, identity=identity))
        assert signer.lines("POST", BEDROCK, TARGET, b"", clock.now()) is None
        await signer.ready()
        lines = signer.lines("POST", BEDROCK, TARGET, b"", clock.now())
        assert lines is not None
        assert b"x-amz-security-token: t\r\n" in lines
        assert b"Credential=ASIA1/" in lines
        await signers.close()


@pytest.mark.parametrize("host", ["evil.example", "api.example:8443", "API.example", "", "api.example.evil.example"])
def test_law_7_no_signer_signs_for_another_host(clock: HandClock, host: str) -> None:
    signers = Signers(clock)
    identity = EntraIdentity("t", "c", Secret("s"))
    for signer in (
        signers.of(deployment(credential=Secret("k"))),
        signers.of(of_aws()),
        signers.of(deployment(auth=AuthStyle.ENTRA, identity=identity)),
    ):
        assert isinstance(signer, StaticSigner | AwsSigner | BearerSigner)
        with pytest.raises(ValueError, match="its deployment only"):
            signer.lines("POST", host, "/", b"", clock.now())


@pytest.mark.parametrize(
    ("fields", "host"),
    [
        ({}, "api.example"),
        ({"port": 8443}, "api.example:8443"),
        ({"scheme": "http", "port": 80}, "api.example"),
        ({"scheme": "http", "port": 443}, "api.example:443"),
        ({"host": "2001:DB8::1"}, "[2001:db8::1]"),
        ({"host": "2001:db8::1", "port": 8443}, "[2001:db8::1]:8443"),
        ({"scheme": "demo", "host": "", "port": 0}, ""),
    ],
)
def test_the_host_is_the_one_that_the_head_has(fields: dict[str, Any], host: str) -> None:
    assert host_of(deployment(**fields)) == host


def test_a_key_that_no_header_can_carry_is_refused_when_the_policy_is_made(clock: HandClock) -> None:
    identity = AwsIdentity(region="eu-central-1", access_key_id=Secret("A\r\nx: y"), secret_access_key=Secret("s"))
    with pytest.raises(ValueError, match="cannot stand in a header"):
        Signers(clock).of(deployment(auth=AuthStyle.AWS, identity=identity))


def test_nothing_shows_what_it_holds(clock: HandClock) -> None:
    shown = [
        repr(of_aws(session_token=Secret("canary"), container_token=Secret("canary"), web_identity=Secret("canary"))),
        repr(deployment(identity=GoogleIdentity(credentials=Secret(json.dumps({"private_key": "canary"}))))),
        repr(deployment(identity=EntraIdentity("t", "c", Secret("canary")))),
    ]
    assert all("canary" not in text for text in shown)
    assert hashlib.sha256(b"").hexdigest() not in "".join(shown)
