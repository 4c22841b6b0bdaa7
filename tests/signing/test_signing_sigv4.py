"""SigV4 against the vectors that AWS published and against botocore, over requests of any shape."""

from __future__ import annotations

import hashlib
import time
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from ostiary.core.secret import Secret
from ostiary.gateway.signing.sigv4 import EMPTY_BODY, AwsCredentials, canonical_path, signature_lines

PUBLISHED = AwsCredentials("AKIDEXAMPLE", Secret("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"))
AT = 1440938160.0  # 2015-08-30T12:36:00Z
UNRESERVED = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

# Signatures of "AWS Signature Version 4 test suite": name, method, target, further headers, signature.
VECTORS = [
    ("get-vanilla", "GET", "/", {}, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    ("post-vanilla", "POST", "/", {}, "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    (
        "get-vanilla-query-order-key-case",
        "GET",
        "/?Param2=value2&Param1=value1",
        {},
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    (
        "get-vanilla-empty-query-key",
        "GET",
        "/?Param1=value1",
        {},
        "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
    ),
    (
        "get-vanilla-query-unreserved",
        "GET",
        f"/?{UNRESERVED}={UNRESERVED}",
        {},
        "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
    ),
    (
        "get-unreserved",
        "GET",
        f"/{UNRESERVED}",
        {},
        "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
    ),
    (
        "get-header-value-trim",
        "GET",
        "/",
        {"my-header1": " value1", "my-header2": ' "a   b   c"'},
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
    ),
    ("get-relative", "GET", "/example/..", {}, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    ("get-slash", "GET", "//", {}, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
]


@pytest.mark.parametrize(("name", "method", "target", "headers", "signature"), VECTORS, ids=lambda one: str(one)[:32])
def test_the_published_vectors(name: str, method: str, target: str, headers: dict[str, str], signature: str) -> None:
    lines = signature_lines(
        method,
        "example.amazonaws.com",
        target,
        EMPTY_BODY,
        PUBLISHED,
        region="us-east-1",
        service="service",
        now=AT,
        headers=headers,
    )
    assert lines.decode().rstrip().endswith(f"Signature={signature}")


def test_the_example_of_the_guide() -> None:
    """ListUsers of IAM, the worked example of the signing guide."""
    lines = signature_lines(
        "GET",
        "iam.amazonaws.com",
        "/?Action=ListUsers&Version=2010-05-08",
        EMPTY_BODY,
        PUBLISHED,
        region="us-east-1",
        service="iam",
        now=AT,
        headers={"content-type": "application/x-www-form-urlencoded; charset=utf-8"},
    )
    assert b"Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7" in lines


def reference(
    method: str, url: str, headers: dict[str, str], body: bytes, credentials: Credentials, service: str, now: float
) -> str:
    """The authorization value that botocore makes."""
    request = AWSRequest(method, url, headers, body)
    request.context["timestamp"] = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    signer = (S3SigV4Auth if service == "s3" else SigV4Auth)(credentials, service, "eu-central-1")
    signer._modify_request_before_signing(request)
    text = signer.string_to_sign(request, signer.canonical_request(request))
    signer._inject_signature_to_request(request, signer.signature(text, request))
    return str(request.headers["Authorization"])


segments = st.text(min_size=1, max_size=12).filter(lambda text: text not in (".", "..") and _encodes(text))
values = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12)
names = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=8).map(lambda text: f"x-amz-{text}")


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@given(
    method=st.sampled_from(["GET", "POST", "DELETE"]),
    path=st.lists(segments, max_size=4),
    slash=st.booleans(),
    query=st.lists(st.tuples(segments, segments | st.just("")), max_size=4),
    headers=st.dictionaries(names, values, max_size=3).map(
        lambda found: {k: v for k, v in found.items() if k not in ("x-amz-date", "x-amz-security-token")}
    ),
    body=st.binary(max_size=40),
    token=st.none() | st.text("abcXYZ09+/=", min_size=1, max_size=20),
    now=st.integers(0, 4_000_000_000),
)
def test_every_request_is_signed_as_botocore_signs_it(
    method: str,
    path: list[str],
    slash: bool,
    query: list[tuple[str, str]],
    headers: dict[str, str],
    body: bytes,
    token: str | None,
    now: int,
) -> None:
    target = "/" + "/".join(quote(segment, safe="") for segment in path) + ("/" if slash and path else "")
    if query:
        target += "?" + "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query)
    host = "bedrock-runtime.eu-central-1.amazonaws.com"
    lines = signature_lines(
        method,
        host,
        target,
        hashlib.sha256(body).hexdigest(),
        AwsCredentials("AKID", Secret("a secret"), Secret(token) if token else None),
        region="eu-central-1",
        service="bedrock",
        now=float(now),
        headers=headers,
    )
    written = dict(line.split(": ", 1) for line in lines.decode().splitlines())
    assert written["authorization"] == reference(
        method, f"https://{host}{target}", dict(headers), body, Credentials("AKID", "a secret", token), "bedrock", now
    )
    assert written.get("x-amz-security-token") == token


@pytest.mark.parametrize(
    "model", ["anthropic.claude-v2:1", "arn:aws:bedrock:eu-central-1:111122223333:inference-profile/eu.x:0", "a b%/ü"]
)
def test_a_model_id_in_the_path_is_encoded_twice_under_the_signature(model: str) -> None:
    once = quote(model, safe="")
    assert canonical_path(f"/model/{once}/converse", "bedrock") == f"/model/{quote(once, safe='')}/converse"
    assert canonical_path(f"/model/{once}/converse", "s3") == f"/model/{once}/converse"


def test_s3_signs_the_path_as_it_is() -> None:
    headers = {"x-amz-content-sha256": EMPTY_BODY}
    lines = signature_lines(
        "GET",
        "bucket.s3.amazonaws.com",
        "/a%3Ab//c",
        EMPTY_BODY,
        AwsCredentials("AKID", Secret("s")),
        region="eu-central-1",
        service="s3",
        now=AT,
        headers=headers,
    )
    url = "https://bucket.s3.amazonaws.com/a%3Ab//c"
    assert reference("GET", url, headers, b"", Credentials("AKID", "s"), "s3", AT) in lines.decode()


def test_credentials_do_not_show_themselves() -> None:
    shown = repr(AwsCredentials("AKID", Secret("hidden"), Secret("hidden-too")))
    assert "AKID" in shown
    assert "hidden" not in shown
