"""Through a running gateway: a client's request leaves signed for AWS, or with a token of Entra, over real sockets."""

from __future__ import annotations

from typing import Any

from botocore.credentials import Credentials
from signing_kit import Asked, FakeEntra, Told, genuine, serving, told

from ostiary.testing.factories import configuration
from ostiary.testing.gateway import Gateway, running_gateway

PRICES = {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}


def row(name: str, **params: Any) -> dict[str, Any]:
    return {"model_name": name, "litellm_params": {**PRICES, **params}}


class FakeBedrock:
    """Converse behind a check of the signature by botocore."""

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials

    def __call__(self, asked: Asked) -> Told:
        if not genuine(asked, self.credentials):
            return told(403, {"message": "The request signature we calculated does not match"})
        message = {"role": "assistant", "content": [{"text": "signed and sealed"}]}
        usage = {"inputTokens": 7, "outputTokens": 3, "totalTokens": 10}
        return told(
            200, {"output": {"message": message}, "stopReason": "end_turn", "usage": usage, "metrics": {"latencyMs": 1}}
        )


class FakeAzure:
    """Chat completions for those who have a token in force."""

    def __init__(self) -> None:
        self.accepted = {"Bearer eyJ.entra.1"}

    def __call__(self, asked: Asked) -> Told:
        if asked.headers.get("authorization") not in self.accepted or "api-key" in asked.headers:
            return told(401, {"error": {"code": "401", "message": "token expired"}})
        choice = {"index": 0, "message": {"role": "assistant", "content": "let in"}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        answer = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        return told(200, {**answer, "usage": usage})


def text_of(gateway: Gateway, key: str, model: str) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}
    status, answer = gateway.call("POST", "/v1/chat/completions", body, key=key)
    assert status == 200, (status, answer, gateway.output)
    return str(answer["choices"][0]["message"]["content"])


def test_a_request_leaves_with_a_signature_that_aws_would_accept() -> None:
    with serving(FakeBedrock(Credentials("AKID", "the secret", "session/+="))) as bedrock:
        config = configuration(
            row(
                "claude",
                model="bedrock/anthropic.claude-v2:1",
                aws_region_name="eu-central-1",
                aws_access_key_id="AKID",
                aws_secret_access_key="the secret",
                aws_session_token="os.environ/SESSION",
                aws_bedrock_runtime_endpoint=bedrock.url,
            )
        )
        with running_gateway(config, env={"SESSION": "session/+="}) as gateway:
            key = gateway.key()
            assert text_of(gateway, key, "claude") == "signed and sealed"
            assert bedrock.asked[0].path == "/model/anthropic.claude-v2%3A1/converse"
            assert "/eu-central-1/bedrock/aws4_request" in bedrock.asked[0].headers["authorization"]
            assert key not in str(bedrock.asked)
            assert "the secret" not in str(bedrock.asked) + gateway.output


def test_a_token_of_entra_is_fetched_once_and_survives_a_reload() -> None:
    with serving(FakeEntra()) as entra, serving(FakeAzure()) as azure:
        config = configuration(
            row(
                "gpt",
                model="azure/gpt-4o",
                api_base=azure.url,
                tenant_id="tenant-1",
                client_id="app-1",
                client_secret="entra secret",
                azure_authority_host=entra.url,
            )
        )
        with running_gateway(config) as gateway:
            key = gateway.key()
            assert [text_of(gateway, key, "gpt") for _ in range(3)] == ["let in"] * 3
            mark = gateway.lines()
            gateway.hang_up()
            gateway.wait_for("configuration reloaded", after=mark)
            assert text_of(gateway, key, "gpt") == "let in"
            assert len(entra.asked) == 1
            assert "eyJ.entra" not in gateway.output
            assert "entra secret" not in gateway.output


def test_without_a_token_the_request_goes_to_the_next_deployment_and_the_log_says_why() -> None:
    with serving(FakeEntra()) as entra, serving(FakeAzure()) as azure:
        wrong = row(
            "gpt",
            model="azure/gpt-4o",
            api_base=azure.url,
            order=1,
            tenant_id="tenant-1",
            client_id="app-1",
            client_secret="run out",
            azure_authority_host=entra.url,
        )
        right = row("gpt", model="azure/gpt-4o", api_base=azure.url, order=2, azure_ad_token="eyJ.entra.1")
        with running_gateway(configuration(wrong, right)) as gateway:
            assert text_of(gateway, gateway.key(), "gpt") == "let in"
            gateway.wait_for("invalid_client")
            assert "run out" not in gateway.output
            assert len(azure.asked) == 1
