"""Every refusal arrives as the exception class that the SDK has for it, and says what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import openai
import pytest

from ostiary.testing import script as scripts
from ostiary.testing.gateway import Gateway, eventually
from ostiary.testing.provider import FakeProvider
from ostiary.testing.script import Script


@contextlib.contextmanager
def sdk(gateway: Gateway, key: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=gateway.base_url, api_key=key, max_retries=0) as client:
        yield client


def ask(gateway: Gateway, key: str, model: str, **fields: object) -> object:
    with sdk(gateway, key) as client:
        return client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": "x"}],
            **fields,  # type: ignore[call-overload]
        )


def test_an_unknown_key_is_an_authentication_error(gateway: Gateway, model: str) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        ask(gateway, "sk-unknown-key-of-nobody", model)
    assert caught.value.body["type"] == "auth_error"
    assert caught.value.body["code"] == "401"  # a string, as clients of the compatible surface expect


def test_a_key_with_a_wrong_checksum_is_named_as_such_without_being_echoed(
    gateway: Gateway, key: str, model: str
) -> None:
    broken = key[:-1] + ("0" if key[-1] != "0" else "1")
    with pytest.raises(openai.AuthenticationError) as caught:
        ask(gateway, broken, model)
    assert broken not in str(caught.value)


def test_an_expired_key_says_so(gateway: Gateway, model: str) -> None:
    key = gateway.key(duration="1s")

    def refused() -> object:
        try:
            ask(gateway, key, model)
        except openai.AuthenticationError as error:
            return error
        return None

    error = eventually(refused, 5, every=0.1)
    assert error.body["type"] == "expired_key"  # type: ignore[attr-defined]


def test_a_model_outside_the_keys_list_is_a_permission_error(gateway: Gateway, model: str) -> None:
    with pytest.raises(openai.PermissionDeniedError) as caught:
        ask(gateway, gateway.key(models=[model]), "chat-somebody-elses")
    assert caught.value.body["type"] == "key_model_access_denied"


def test_an_unknown_model_is_not_found_and_names_those_the_key_may_use(gateway: Gateway, key: str) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        ask(gateway, key, "no-such-model")
    assert caught.value.body["type"] == "not_found_error"
    assert "chat-*" in str(caught.value)


def test_a_malformed_body_is_a_bad_request(gateway: Gateway, key: str) -> None:
    status, answer = gateway.call("POST", "/v1/chat/completions", "not an object", key=key)
    assert status == 400
    assert answer["error"]["type"] == "bad_request_error"
    assert answer["error"]["code"] == "400"
    assert set(answer["error"]) >= {"message", "type", "param", "code"}


def test_a_missing_model_is_a_bad_request_that_names_the_field(gateway: Gateway, key: str) -> None:
    status, answer = gateway.call("POST", "/v1/chat/completions", {"messages": []}, key=key)
    assert status == 400
    assert answer["error"]["param"] == "model"


def test_the_providers_own_client_error_is_relayed(
    gateway: Gateway, key: str, provider: FakeProvider, model: str
) -> None:
    provider.script(model, scripts.BAD_REQUEST)
    with pytest.raises(openai.BadRequestError) as caught:
        ask(gateway, key, model)
    assert caught.value.code == "unsupported_value"
    assert caught.value.param == "temperature"
    assert len(provider.seen(model)) == 1  # a client error is never tried again


def test_the_providers_rate_limit_arrives_with_its_retry_after(
    gateway: Gateway, key: str, provider: FakeProvider, model: str
) -> None:
    provider.script(model, scripts.rejected(7))
    with pytest.raises(openai.RateLimitError) as caught:
        ask(gateway, key, model)
    assert caught.value.response.headers["retry-after"] == "7"


def test_the_providers_refusal_of_our_credential_is_not_the_callers_fault(
    gateway: Gateway, key: str, provider: FakeProvider, model: str
) -> None:
    provider.script(model, scripts.BAD_KEY)
    with pytest.raises(openai.InternalServerError) as caught:
        ask(gateway, key, model)
    assert caught.value.status_code in (502, 503)


@pytest.mark.parametrize(
    "script", [scripts.SERVER_ERROR, scripts.OVERLOADED, scripts.GARBAGE, scripts.ENDLESS_HEADERS, scripts.REDIRECT]
)
@pytest.mark.parametrize("stream", [True, False])
def test_a_failing_provider_is_a_server_error(
    gateway: Gateway, key: str, provider: FakeProvider, model: str, script: Script, stream: bool
) -> None:
    provider.script(model, script)
    with pytest.raises(openai.InternalServerError):
        ask(gateway, key, model, stream=stream)


def test_a_redirect_is_not_followed(gateway: Gateway, key: str, provider: FakeProvider, model: str) -> None:
    target = f"{provider.url}/chat/completions"
    provider.script(model, Script(status=307, headers=(("location", target),), body=b""))
    with pytest.raises(openai.InternalServerError):
        ask(gateway, key, model)
    assert len(provider.seen(model)) == 1


def test_a_wrong_length_is_not_taken_for_an_answer(
    gateway: Gateway, key: str, provider: FakeProvider, model: str
) -> None:
    provider.script(model, Script(length=100_000))
    with pytest.raises(openai.InternalServerError):
        ask(gateway, key, model)


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_packed_unasked_is_unpacked_or_refused_but_never_garbled(
    gateway: Gateway, key: str, provider: FakeProvider, model: str, stream: bool
) -> None:
    provider.script(model, Script(gzip=True, text="readable"))
    try:
        reply = ask(gateway, key, model, stream=stream)
    except openai.InternalServerError:
        return
    if stream:
        text = "".join(c.choices[0].delta.content or "" for c in reply if c.choices)  # type: ignore[attr-defined]
    else:
        text = reply.choices[0].message.content  # type: ignore[attr-defined]
    assert text == "readable"


def test_two_credentials_in_one_request_are_refused(gateway: Gateway, key: str, model: str) -> None:
    other = gateway.key()
    client = openai.OpenAI(base_url=gateway.base_url, api_key=key, max_retries=0, default_headers={"x-api-key": other})
    with client, pytest.raises((openai.AuthenticationError, openai.BadRequestError)):
        client.chat.completions.create(model=model, messages=[])


def test_a_key_without_budget_left_is_told_so(gateway: Gateway, model: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(gateway, gateway.key(max_budget=0), model)
    assert caught.value.body["type"] == "budget_exceeded"


def test_a_wrong_method_and_a_wrong_type_of_body(gateway: Gateway, key: str) -> None:
    assert gateway.call("PUT", "/v1/chat/completions", {}, key=key)[0] == 405
    with sdk(gateway, key) as client, pytest.raises(openai.APIStatusError) as caught:
        client.post(
            "/chat/completions",
            body={"model": "m"},
            cast_to=object,
            options={"headers": {"content-type": "text/plain"}},
        )
    assert caught.value.status_code == 415
