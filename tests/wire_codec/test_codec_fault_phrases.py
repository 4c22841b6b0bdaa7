"""A request too long, or against a provider's policy, is known as such from any server of this dialect."""

from __future__ import annotations

from typing import Any

import pytest
from codec_kit import body_of

from ostiary.core.fault import Kind, Retry
from ostiary.wire.dialects.openai_chat.faults import decode_fault, encode_fault
from ostiary.wire.dialects.openai_chat.usage import hidden_error


def enveloped(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


TOO_LONG: list[tuple[str, int, Any]] = [
    # OpenAI, as its users report it: wtm2 issue 579, chathub issue 126
    ("openai", 400, enveloped("This model's maximum context length is 8 tokens.", code="context_length_exceeded")),
    ("openai, code only", 400, enveloped("no", type="invalid_request_error", code="string_above_max_length")),
    # vLLM issue 4667 (bare) and pull request 33425 (enveloped)
    ("vllm, bare", 400, {"object": "error", "message": "This model's maximum context length is 8 tokens.",
                         "type": "BadRequestError", "param": None, "code": 400}),
    ("vllm", 400, enveloped("maximum context length is 8 tokens", type="BadRequestError", code=400)),
    # vLLM's engine, LlamaFactory issue 7723
    ("vllm, engine", 400, enveloped("Prompt length of 9 is longer than the maximum model length of 8.")),
    # Groq, amurex-backend issue 51; Cerebras words it so without the code, cline issue 5140
    ("groq", 400, enveloped("Please reduce the length of the messages or completion.", code="context_length_exceeded")),
    ("cerebras", 400, enveloped("Please reduce the length of the messages or completion. Current length is 9")),
    # Mistral answers bare, with a numeric code of its own
    ("mistral", 400, {"object": "error", "message": "Prompt contains 9 tokens, too large for model with 8 maximum "
                      "context length", "type": "invalid_request_error", "code": "3051"}),
    # DeepSeek: the words of OpenAI under a general code
    ("deepseek", 400, enveloped("This model's maximum context length is 8 tokens.", code="invalid_request_error")),
    # Together and text-generation-inference, helm pull request 2079
    ("together", 422, enveloped("Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8. Given: 9")),
    ("tgi", 422, {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8."}),
    # Fireworks, its cookbook's issue 134
    ("fireworks", 400, enveloped("The prompt is too long: 9, model maximum context length: 8", object="error")),
    # xAI, cline issue 3120
    ("xai", 400, {"code": "Client specified an invalid argument",
                  "error": "This model's maximum prompt length is 8 but the request contains 9 tokens."}),
    # OpenRouter, refly issue 1177
    ("openrouter", 400, enveloped("This endpoint's maximum context length is 8 tokens.", code=400)),
    # Anthropic behind compatible gateways, bolt.new issue 1748
    ("anthropic", 400, enveloped("prompt is too long: 9 tokens > 8 maximum")),
    # llama.cpp pull request 15780 and issue 17284; LM Studio, its bug tracker's issue 546
    ("llama.cpp", 400, enveloped("request (9 tokens) is too much", type="exceed_context_size_error")),
    ("llama.cpp, older", 500, enveloped("the request exceeds the available context size.", code=500)),
    ("lm studio", 400, {"error": "the model is loaded with context length of only 8 tokens, which is not enough."}),
    # llama-cpp-python issue 416
    ("llama-cpp-python", 400, enveloped("Requested tokens (9) exceed context window of 8")),
    # Ollama's words for what it does not cut off
    ("ollama", 400, enveloped("the input length exceeds the context length", type="invalid_request_error")),
    # Gemini's compatible endpoint puts the envelope into a list
    ("gemini", 400, [enveloped("The input token count (9) exceeds the maximum number of tokens allowed (8).")]),
]  # fmt: skip

FORBIDDEN: list[tuple[str, int, Any]] = [
    ("openai", 400, enveloped("Your request was rejected as a result of our safety system.")),
    ("openai, reasoning", 400, enveloped("flagged as potentially violating our usage policy", code="invalid_prompt")),
    # Azure OpenAI, content filtering: the outer code, or the inner one alone
    ("azure", 400, enveloped("The response was filtered", code="content_filter", param="prompt", status=400,
                             innererror={"code": "ResponsibleAIPolicyViolation", "content_filter_result": {}})),
    ("azure, inner", 400, enveloped("no", code=None, innererror={"code": "ResponsibleAIPolicyViolation"})),
    ("azure, words", 400, enveloped("triggering Azure OpenAI's content management policy")),
    # DeepSeek, BettaFish issue 108; bare in DeepSeek-V2 issue 30
    ("deepseek", 400, enveloped("Content Exists Risk", type="invalid_request_error", code="invalid_request_error")),
    ("deepseek, bare", 400, {"detail": "Content Exists Risk"}),
    # xAI, inspect_ai pull request 2267
    ("xai", 403, {"code": "The caller does not have permission to execute the specified operation",
                  "error": "Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE_BIO"}),
    # OpenRouter's errors reference: 403 where the input was flagged
    ("openrouter", 403, enveloped("Your input was flagged", code=403, metadata={"reasons": ["violence"]})),
]  # fmt: skip


@pytest.mark.parametrize(("server", "status", "body"), TOO_LONG, ids=[row[0] for row in TOO_LONG])
def test_a_request_longer_than_the_context_is_known_as_such(server: str, status: int, body: Any) -> None:
    fault = decode_fault(status, body_of(body))
    assert (fault.kind, fault.retry) == (Kind.CONTEXT_WINDOW, Retry.NEVER), server
    assert fault.status in (400, 422)


@pytest.mark.parametrize(("server", "status", "body"), FORBIDDEN, ids=[row[0] for row in FORBIDDEN])
def test_a_request_against_the_policy_is_known_as_such(server: str, status: int, body: Any) -> None:
    fault = decode_fault(status, body_of(body))
    assert (fault.kind, fault.status) == (Kind.CONTENT_POLICY, 400), server


def test_an_error_in_a_stream_or_a_200_is_known_too() -> None:
    assert hidden_error(body_of(enveloped("no", code="context_length_exceeded"))).kind is Kind.CONTEXT_WINDOW
    assert hidden_error(body_of(enveloped("no", code="content_filter"))).kind is Kind.CONTENT_POLICY


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (403, enveloped("This key may not use models with a context window of that size"), Kind.UPSTREAM_AUTH),
        (401, enveloped("content management policy"), Kind.UPSTREAM_AUTH),
        (429, enveloped("too many tokens per minute", code="rate_limit_exceeded"), Kind.UPSTREAM_RATE_LIMIT),
        (404, enveloped("no model with such a context length"), Kind.UPSTREAM_REJECTED),
        (400, enveloped("temperature must be below 2"), Kind.UPSTREAM_REJECTED),
        (400, {"message": [1, 2]}, Kind.UPSTREAM_REJECTED),
        (400, [], Kind.UPSTREAM_REJECTED),
    ],
)
def test_what_is_about_something_else_is_not_taken_for_it(status: int, body: Any, kind: Kind) -> None:
    assert decode_fault(status, body_of(body)).kind is kind


@pytest.mark.parametrize("body", [row[2] for row in TOO_LONG if not isinstance(row[2], dict) or "error" not in row[2]])
def test_a_body_out_of_the_envelope_is_not_relayed(body: Any) -> None:
    fault = decode_fault(400, body_of(body))
    assert encode_fault(fault) != body_of(body)
