"""AWS KMS: requests as AWS signs them, key states and contexts against a fake, request shapes against moto."""

from __future__ import annotations

import asyncio
import calendar
import time
from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st
from kms_kit import CONTEXT, OTHERS, ROOT, Asked, FakeAws, Server, Told, genuine, serving, told
from moto.server import ThreadedMotoServer

from ostiary.core.fault import Fault, Kind, Retry
from ostiary.core.secret import Secret
from ostiary.vault.kms.aws import _LATER, _REFUSED, _WRONG, AwsKms
from ostiary.vault.kms.client import Client
from ostiary.vault.kms.configured import wrapper_from
from ostiary.vault.kms.faults import KeyServiceMisnamed, KeyServiceRefused, KeyServiceUnreachable, WrongKey
from ostiary.vault.kms.root import KmsRoot
from ostiary.vault.kms.sigv4 import AwsCredentials, signed, signing_key

ARN = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
OTHER_ARN = "arn:aws:kms:eu-central-1:111122223333:key/ffffabcd-12ab-34cd-56ef-1234567890ab"
PAIR = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "the-secret-of-the-tests"}
PUBLISHED = Secret("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")


@pytest.fixture
def fake() -> FakeAws:
    return FakeAws(ARN, OTHER_ARN)


@pytest.fixture
def server(fake: FakeAws) -> Iterator[Server]:
    with serving(fake) as server:
        yield server


@pytest.fixture
def root(fake: FakeAws, server: Server) -> KmsRoot:
    return wrapper_from(f"aws-kms://{ARN}", fake.environment(server.url))


def test_the_signing_key_is_the_published_one() -> None:
    key = signing_key(PUBLISHED, "20150830/us-east-1/iam/aws4_request")
    assert key.hex() == "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"


def test_the_signature_of_a_bare_post_is_the_published_one() -> None:
    headers = signed(
        "https://example.amazonaws.com/",
        {},
        b"",
        AwsCredentials("AKIDEXAMPLE", PUBLISHED),
        region="us-east-1",
        service="service",
        now=calendar.timegm(time.strptime("20150830T123600Z", "%Y%m%dT%H%M%SZ")),
    )
    expected = "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
    assert headers["authorization"].endswith(f"Signature={expected}")


@settings(max_examples=60, deadline=None)
@given(
    body=st.binary(max_size=200),
    now=st.integers(0, 4_000_000_000),
    session=st.none() | st.text("abcXYZ019/+=", min_size=1),
    value=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20),
)
def test_every_signature_is_the_one_that_botocore_makes(body: bytes, now: int, session: str | None, value: str) -> None:
    token = Secret(session) if session else None
    headers = signed(
        "http://127.0.0.1:4566/",
        {"content-type": "application/x-amz-json-1.1", "x-more": value},
        body,
        AwsCredentials("AKIDEXAMPLE", PUBLISHED, token),
        region="eu-central-1",
        service="kms",
        now=now,
    )
    asked = Asked("POST", "/", headers, body)
    assert headers.get("x-amz-security-token") == session
    assert genuine(asked, Credentials("AKIDEXAMPLE", PUBLISHED.reveal(), session))
    assert not genuine(asked._replace(body=body + b"x"), Credentials("AKIDEXAMPLE", PUBLISHED.reveal(), session))


def test_every_code_that_aws_declares_for_the_two_calls_is_known() -> None:
    model = botocore.session.get_session().get_service_model("kms")
    declared = {shape.name for name in ("Encrypt", "Decrypt") for shape in model.operation_model(name).error_shapes}
    never = {"InvalidGrantTokenException", "DryRunOperationException"}  # neither is asked for
    assert declared - never <= _LATER | _WRONG | set(_REFUSED)


@pytest.mark.parametrize(
    ("arn", "host"),
    [
        (ARN, "kms.eu-central-1.amazonaws.com"),
        (
            ARN.replace("arn:aws:", "arn:aws-cn:").replace("eu-central-1", "cn-north-1"),
            "kms.cn-north-1.amazonaws.com.cn",
        ),
        (ARN.replace("arn:aws:", "arn:aws-us-gov:").replace("eu-", "us-gov-"), "kms.us-gov-central-1.amazonaws.com"),
    ],
)
def test_the_host_is_of_the_region_of_the_arn(arn: str, host: str) -> None:
    assert AwsKms(arn, {**PAIR, "AWS_REGION": "us-east-1"}, Client()).where == host


async def test_a_root_comes_back_and_is_not_in_sight(root: KmsRoot, server: Server) -> None:
    wrapped = await root.wrap(ROOT, CONTEXT)
    assert ROOT not in wrapped
    assert await root.unwrap(wrapped, CONTEXT) == ROOT
    assert await root.unwrap(wrapped, dict(reversed(CONTEXT.items()))) == ROOT
    assert server.asked[0].document["EncryptionContext"] == CONTEXT
    assert {asked.document["KeyId"] for asked in server.asked} == {ARN}
    assert (root.kind, root.id) == ("aws-kms", ARN)


@pytest.mark.attack("CRY-02")
@pytest.mark.parametrize("other", OTHERS)
async def test_cry_02_a_root_of_another_context_is_refused(root: KmsRoot, other: dict[str, str]) -> None:
    wrapped = await root.wrap(ROOT, CONTEXT)
    with pytest.raises(WrongKey):
        await root.unwrap(wrapped, other)


async def test_a_root_of_another_key_is_refused(root: KmsRoot, fake: FakeAws, server: Server) -> None:
    other = wrapper_from(f"aws-kms://{OTHER_ARN}", fake.environment(server.url))
    wrapped = await other.wrap(ROOT, CONTEXT)
    with pytest.raises(WrongKey) as raised:
        await root.unwrap(wrapped, CONTEXT)
    assert ARN in raised.value.public
    assert (raised.value.kind, raised.value.retry) == (Kind.INTERNAL, Retry.NEVER)


async def test_a_damaged_root_is_refused_at_every_byte(root: KmsRoot) -> None:
    wrapped = await root.wrap(ROOT, CONTEXT)
    for place in range(len(wrapped)):
        broken = bytes(byte ^ (place == at) for at, byte in enumerate(wrapped))
        with pytest.raises(WrongKey):
            await root.unwrap(broken, CONTEXT)
    for length in (0, 3, 5, 12, len(wrapped) - 1):
        with pytest.raises(WrongKey):
            await root.unwrap(wrapped[:length], CONTEXT)


@pytest.mark.attack("AVL-06")
@pytest.mark.parametrize(
    ("state", "remedy"), [("Disabled", "enable it"), ("PendingDeletion", "cancel the deletion"), ("Gone", "")]
)
async def test_avl_06_a_key_that_may_not_be_used_is_a_refusal_with_a_remedy(
    root: KmsRoot, fake: FakeAws, state: str, remedy: str
) -> None:
    wrapped = await root.wrap(ROOT, CONTEXT)
    fake.keys[ARN].state = state
    for attempt in (root.unwrap(wrapped, CONTEXT), root.wrap(ROOT, CONTEXT)):
        with pytest.raises(KeyServiceRefused) as raised:
            await attempt
        assert raised.value.kind is Kind.INTERNAL
        assert ARN in raised.value.public
        assert remedy in raised.value.public
    fake.keys[ARN].state = "Enabled"
    assert await root.unwrap(wrapped, CONTEXT) == ROOT


@pytest.mark.attack("AVL-06")
@pytest.mark.parametrize(
    "instead",
    [
        FakeAws.error("ThrottlingException"),
        FakeAws.error("KMSInternalException", 500),
        FakeAws.error("KeyUnavailableException", 500),
        Told(503, b"<html>LEAK-OF-THE-SERVICE"),
        Told(429, b""),
        Told(302, b"", {"location": "http://127.0.0.1:9/"}),
        Told(200, b"x" * 70_000),
        told(200, {"Plaintext": "LEAK-OF-THE-SERVICE!"}),
    ],
    ids=lambda instead: f"{instead.status}-{instead.body[:40]!r}",
)
async def test_avl_06_what_may_pass_is_said_to_be_tried_again(root: KmsRoot, server: Server, instead: Told) -> None:
    wrapped = await root.wrap(ROOT, CONTEXT)
    server.instead = instead
    with pytest.raises(KeyServiceUnreachable) as raised:
        await root.unwrap(wrapped, CONTEXT)
    fault = raised.value
    assert (fault.kind, fault.retry, fault.status) == (Kind.UNAVAILABLE, Retry.SAME, 503)
    assert fault.retry_after is not None
    assert "LEAK" not in fault.public


@pytest.mark.attack("AVL-06")
async def test_avl_06_a_slow_service_ends_in_time(fake: FakeAws, server: Server) -> None:
    service = AwsKms(ARN, fake.environment(server.url), Client())
    wrapped = await KmsRoot(service).wrap(ROOT, CONTEXT)
    server.free.clear()
    with pytest.raises(KeyServiceUnreachable, match="unavailable") as raised:
        await KmsRoot(service, seconds=0.1).unwrap(wrapped, CONTEXT)
    assert "no answer in 0.1 s" in raised.value.public


async def test_one_who_stops_waiting_is_not_told_of_a_failure(root: KmsRoot, server: Server) -> None:
    wrapped = await root.wrap(ROOT, CONTEXT)
    server.free.clear()
    task = asyncio.create_task(root.unwrap(wrapped, CONTEXT))
    while len(server.asked) < 3:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    ("code", "remedy"),
    [("AccessDeniedException", "kms:Decrypt"), ("ExpiredTokenException", "AWS_SESSION_TOKEN"), ("Unheard", "400")],
)
async def test_a_denial_names_the_remedy(root: KmsRoot, server: Server, code: str, remedy: str) -> None:
    server.instead = FakeAws.error(code)
    with pytest.raises(KeyServiceRefused) as raised:
        await root.wrap(ROOT, CONTEXT)
    assert remedy in raised.value.public
    assert "LEAK" not in raised.value.public


async def test_credentials_that_are_not_accepted_are_named_and_not_shown(fake: FakeAws, server: Server) -> None:
    wrong = {**fake.environment(server.url), "AWS_SECRET_ACCESS_KEY": "another-secret-of-the-tests"}
    root = wrapper_from(f"aws-kms://{ARN}", wrong)
    with pytest.raises(KeyServiceRefused) as raised:
        await root.wrap(ROOT, CONTEXT)
    assert "AWS_SECRET_ACCESS_KEY" in raised.value.public
    assert "another-secret" not in f"{raised.value!r} {raised.value.public} {root!r} {vars(root)}"


async def test_a_root_that_would_not_open_is_not_handed_out(root: KmsRoot, fake: FakeAws, server: Server) -> None:
    """A key that encrypts and gives back something else: found while there is still a root to keep."""
    honest = told(200, {"Plaintext": "AAAA"})
    with serving(lambda asked: honest if b"CiphertextBlob" in asked.body else fake(asked)) as liar:
        root = wrapper_from(f"aws-kms://{ARN}", fake.environment(liar.url))
        with pytest.raises(KeyServiceRefused):
            await root.wrap(ROOT, CONTEXT)


async def test_a_root_has_32_bytes(root: KmsRoot) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        await root.wrap(ROOT[:31], CONTEXT)


@pytest.mark.parametrize(
    "uri",
    [
        "aws-kms://",
        f"aws-kms://{ARN}/../x",
        "aws-kms://1234abcd-12ab-34cd-56ef-1234567890ab",
        f"aws-kms://{ARN.replace('eu-central-1', 'evil.example')}",
        f"aws-kms://{ARN.replace(':kms:', ':s3:')}",
        f"aws-kms://{ARN}@evil.example",
    ],
)
def test_a_uri_without_an_arn_is_refused(uri: str) -> None:
    with pytest.raises(KeyServiceMisnamed) as raised:
        wrapper_from(uri, PAIR)
    assert "aws-kms://arn:aws:kms:REGION" in raised.value.public


@pytest.mark.parametrize("name", sorted(PAIR))
def test_missing_credentials_are_named(name: str) -> None:
    with pytest.raises(KeyServiceMisnamed) as raised:
        wrapper_from(f"aws-kms://{ARN}", {**PAIR, name: ""})
    assert name in raised.value.public


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def account(moto: str) -> Any:
    """A client of AWS's own make, towards moto."""
    return botocore.session.get_session().create_client(
        "kms", "eu-central-1", endpoint_url=moto, aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key="s"
    )


async def test_moto_takes_our_requests_and_binds_the_context(moto: str, account: Any) -> None:
    arns = [account.create_key()["KeyMetadata"]["Arn"] for _ in range(2)]
    roots = [wrapper_from(f"aws-kms://{arn}", {**PAIR, "AWS_ENDPOINT_URL_KMS": moto}) for arn in arns]
    wrapped = await roots[0].wrap(ROOT, CONTEXT)
    assert await roots[0].unwrap(wrapped, CONTEXT) == ROOT
    for other in OTHERS:
        with pytest.raises(Fault) as raised:
            await roots[0].unwrap(wrapped, other)
        assert raised.value.kind is Kind.INTERNAL
    blob = wrapped.partition(b"aws-kms")[2]
    opened = account.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT)["Plaintext"]
    assert opened.endswith(ROOT)


async def test_moto_knows_no_such_key(moto: str, account: Any) -> None:
    root = wrapper_from(f"aws-kms://{ARN}", {**PAIR, "AWS_ENDPOINT_URL_KMS": moto})
    with pytest.raises(KeyServiceRefused) as raised:
        await root.wrap(ROOT, CONTEXT)
    assert "does not exist" in raised.value.public


async def test_an_alias_names_a_key_too(moto: str, account: Any) -> None:
    key = account.create_key()["KeyMetadata"]
    account.create_alias(AliasName="alias/ostiary/root", TargetKeyId=key["KeyId"])
    alias = key["Arn"].partition(":key/")[0] + ":alias/ostiary/root"
    root = wrapper_from(f"aws-kms://{alias}", {**PAIR, "AWS_ENDPOINT_URL_KMS": moto})
    assert await root.unwrap(await root.wrap(ROOT, CONTEXT), CONTEXT) == ROOT
