"""What of a provider's answer reaches the client's head, and what of a client's text reaches any head at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import ask, deployment, key, once, snapshot
from kit_client import RecordingInbound
from kit_provider import JSON, STREAM, Play, refusal, reply

from ostiary.core.secret import Secret
from ostiary.gateway.answer import media_type, retry_after

HOSTILE_HEADERS = [
    (b"set-cookie", b"session=stolen"),
    (b"location", b"https://evil.test"),
    (b"content-security-policy", b"default-src *"),
    (b"access-control-allow-origin", b"*"),
    (b"connection", b"close, x-secret"),
    (b"keep-alive", b"timeout=1"),
    (b"transfer-encoding", b"chunked"),
    (b"content-encoding", b"gzip"),
    (b"content-length", b"999"),
    (b"upgrade", b"h2c"),
    (b"server", b"provider/1"),
    (b"www-authenticate", b"Basic"),
    (b"x-litellm-call-id", b"forged"),
    (b"x-litellm-response-cost", b"0"),
    (b"x-litellm-key-spend", b"0"),
    (b"llm_provider-x-request-id", b"forged"),
    (b"openai-organization", b"org-of-the-gateway"),
    (b"x-envoy-upstream-service-time", b"3"),
    (b"refresh", b"0; url=https://evil.test"),
]
OWN = {
    "content-type",
    "x-litellm-call-id",
    "x-litellm-model-id",
    "x-litellm-model-group",
    "x-litellm-response-cost",
    "x-litellm-key-spend",
    "x-litellm-response-duration-ms",
    "x-litellm-overhead-duration-ms",
    "x-litellm-attempted-retries",
    "x-litellm-attempted-fallbacks",
    "cache-control",
    "x-accel-buffering",
}


@pytest.mark.parametrize("stream", [False, True])
def test_aig_10_a_providers_headers_pass_an_allow_list(stream: bool) -> None:
    play = Play(*STREAM) if stream else reply()
    play.headers += [*HOSTILE_HEADERS, (b"x-request-id", b"req_1"), (b"openai-processing-ms", b"12")]
    _, inbound = once(snapshot(deployment("gpt")), play, inbound=RecordingInbound(ask(stream=stream)))
    names = [name for name, _ in inbound.lines]
    assert len(names) == len(set(names))
    assert set(names) - OWN == {"llm_provider-x-request-id", "llm_provider-openai-processing-ms"}
    assert "forged" not in inbound.head.values()


@pytest.mark.parametrize("status", [400, 404, 429, 500])
def test_aig_10_a_providers_error_brings_no_headers(status: int) -> None:
    play = refusal(status, *HOSTILE_HEADERS)
    _, inbound = once(snapshot(deployment("gpt"), routing={"num_retries": 0}), play)
    assert set(inbound.head) <= {"content-type", "x-litellm-call-id", "retry-after"}
    assert inbound.head["content-type"] == "application/json"


@pytest.mark.parametrize("value", [b"req\x80", b"a" * 300, b"a\tb"])
def test_aig_10_an_odd_value_of_an_allowed_header_does_not_pass(value: bytes) -> None:
    _, inbound = once(snapshot(deployment("gpt")), reply(headers=[(b"x-request-id", value)]))
    assert "llm_provider-x-request-id" not in inbound.head


def test_a_providers_limits_are_told_only_to_keys_without_limits_of_their_own() -> None:
    limits = [(b"x-ratelimit-remaining-requests", b"77")]
    _, inbound = once(snapshot(deployment("gpt")), reply(headers=limits))
    assert inbound.head["x-ratelimit-remaining-requests"] == "77"
    _, inbound = once(snapshot(deployment("gpt")), reply(headers=limits), keys=[key(rpm_limit=5)])
    assert [value for name, value in inbound.lines if name == "x-ratelimit-remaining-requests"] == ["4"]


@pytest.mark.parametrize(
    "kind",
    [b"text/html", b"TEXT/HTML; charset=utf-8", b"image/svg+xml", b"application/xhtml+xml", b"text/xml", b"x", b"",
     b"text/javascript", b"audio/mpeg\r\nx: y", b"audio/mpeg; name=\x80", b"a/b, text/html"],
)  # fmt: skip
def test_aig_10_what_a_browser_would_run_leaves_as_bytes(kind: bytes) -> None:
    sound = deployment("tts", mode="audio_speech")
    asked = RecordingInbound(b'{"model":"tts","input":"a"}', path="/v1/audio/speech")
    play = Play(b"<script>", headers=[(b"content-type", kind)])
    _, inbound = once(snapshot(sound), play, inbound=asked)
    assert inbound.head["content-type"] == "application/octet-stream"


@pytest.mark.parametrize("kind", [b"audio/mpeg", b"text/plain; charset=utf-8", b"application/x-ndjson", b"image/png"])
def test_a_plain_media_type_is_kept(kind: bytes) -> None:
    assert media_type(kind) == kind


def test_a_missing_media_type_is_bytes() -> None:
    assert media_type(None) == b"application/octet-stream"


# --- NET-19 ---

INJECTIONS = [
    "x\r\nset-cookie: a=b",
    "x\nx: y",
    "x\x00y",
    "x\x85y",
    "x\u2028y",
    "näive",
    "\u202egpt",
    "x\ty",
    "a" * 5000,
]


@pytest.mark.parametrize("text", INJECTIONS)
@pytest.mark.parametrize("stream", [False, True])
def test_net_19_a_model_name_never_becomes_a_header_line(text: str, stream: bool) -> None:
    play = Play(*STREAM) if stream else reply()
    asked = RecordingInbound(ask(f"w/{text}", stream=stream, user=text, metadata={text: text}, litellm_call_id=text))
    made, inbound = once(snapshot(deployment("w/*")), play, inbound=asked)
    names = {name for name, _ in inbound.lines}
    assert names <= OWN, "the kit checks each line as well"
    for sent in made.upstream.sent:
        assert {name for name, _ in sent.headers} == {
            b"host", b"user-agent", b"accept", b"accept-encoding", b"authorization", b"content-type", b"content-length"
        }  # fmt: skip
    assert all(len(value) <= 600 for _, value in inbound.lines)


@pytest.mark.parametrize("text", INJECTIONS)
def test_net_19_names_in_the_configuration_never_become_header_lines(text: str) -> None:
    odd = deployment(text, host="odd.test", credential=None)
    _, inbound = once(snapshot(odd), reply(), inbound=RecordingInbound(ask(text)))
    assert {name for name, _ in inbound.lines} <= OWN
    assert inbound.status in (200, 404)
    made, inbound = once(snapshot(deployment("gpt", text, host="odd.test", credential=None)), reply())
    assert {name for name, _ in inbound.lines} <= OWN
    assert made.record.deployment == text


@pytest.mark.parametrize("text", INJECTIONS)
def test_net_19_an_error_names_nothing_of_the_clients_in_its_head(text: str) -> None:
    _, inbound = once(snapshot(deployment("gpt")), inbound=RecordingInbound(ask(text)))
    assert inbound.status == 404
    assert set(inbound.head) == {"content-type", "x-litellm-call-id"}
    assert text not in inbound.error["message"]


@pytest.mark.parametrize("secret", ["a\r\nb", "näive", " padded ", "a\x00b"])
def test_net_19_a_credential_that_cannot_stand_in_a_header_is_refused_when_it_is_configured(secret: str) -> None:
    with pytest.raises(ValueError, match="cannot stand in a header") as refused:
        once(snapshot(deployment("gpt", credential=Secret(secret))), reply())
    assert secret not in str(refused.value)


# --- Retry-After ---


@pytest.mark.parametrize(
    ("name", "value", "seconds"),
    [
        (b"retry-after", b"3", 3.0),
        (b"retry-after", b"2.5", 2.5),
        (b"retry-after-ms", b"1500", 1.5),
        (b"retry-after", b"Tue, 14 Nov 2023 22:13:30 GMT", 10.0),
        (b"retry-after", b"Tue, 14 Nov 2023 22:13:00 GMT", 0.0),
        (b"retry-after", b"-5", 0.0),
        (b"retry-after", b"nan", None),
        (b"retry-after", b"inf", None),
        (b"retry-after", b"soon", None),
        (b"retry-after", b"9" * 70, None),
        (b"retry-after", b"Tue, 14 Nov 2023 22:13:30 +99999999999999999999", None),
        (b"x-other", b"3", None),
    ],
)
def test_how_long_a_provider_asks_to_wait(name: bytes, value: bytes, seconds: float | None) -> None:
    assert retry_after([(name, value)], 1_700_000_000.0) == seconds


DATES = st.from_regex(
    rb"(Mon, )?[0-9]{1,9} (Jan|Feb|x) [0-9]{1,12} [0-9:]{0,12} ?([+-][0-9]{1,30}|GMT|)", fullmatch=True
)


@given(st.one_of(st.binary(max_size=64), DATES, st.floats().map(lambda number: str(number).encode())))
def test_any_retry_after_is_a_number_of_seconds_or_nothing(value: bytes) -> None:
    seconds = retry_after([(b"retry-after", value)], 1_700_000_000.0)
    assert seconds is None or 0.0 <= seconds < 10**7


def test_json_is_the_common_case() -> None:
    assert media_type(JSON[1]) == b"application/json"
