"""The known settings of `model_list`, `credential_list` and `environment_variables`. It must not read any."""

from __future__ import annotations

from ostiary.config.rules import certificate_check
from ostiary.config.setting import Setting, Shape, below, inert, refused, used

# Fields of a request that a deployment may give a default to.
BODY_DEFAULTS = (
    "audio", "dimensions", "encoding_format", "frequency_penalty", "function_call", "functions", "input_type",
    "keep_alive", "language", "logit_bias", "logprobs", "max_completion_tokens", "max_tokens", "metadata", "min_p",
    "modalities", "n", "num_ctx", "parallel_tool_calls", "prediction", "presence_penalty", "prompt_cache_key",
    "quality", "reasoning_effort", "repetition_penalty", "response_format", "safety_identifier", "seed",
    "service_tier", "size", "stop", "store", "temperature", "thinking", "tool_choice", "tools", "top_k",
    "top_logprobs", "top_p", "truncate", "user", "verbosity", "voice", "web_search_options",
)  # fmt: skip

PRICES = (
    ("input_cost_per_token", "Dollars per input token."),
    ("output_cost_per_token", "Dollars per output token."),
    ("cache_read_input_token_cost", "Dollars per input token read from the provider's cache."),
    ("cache_creation_input_token_cost", "Dollars per input token written to the provider's cache."),
    ("input_cost_per_audio_token", "Dollars per audio token heard."),
    ("output_cost_per_audio_token", "Dollars per audio token spoken."),
    ("output_cost_per_reasoning_token", "Dollars per reasoning token."),
    ("input_cost_per_second", "Dollars per second of audio heard."),
    ("output_cost_per_second", "Dollars per second of audio made."),
    ("input_cost_per_character", "Dollars per character read."),
    ("output_cost_per_character", "Dollars per character spoken."),
    ("output_cost_per_image", "Dollars per picture."),
    ("input_cost_per_image", "Dollars per picture, where the price table states it on the input side."),
    ("input_cost_per_request", "Dollars per request."),
    ("input_cost_per_query", "Another name of `input_cost_per_request`."),
)

# Who the gateway is towards a cloud; see docs/provider-credentials.md. Files and profiles are the configuration's only.
SIGN_IN = (
    used("aws_access_key_id", Shape.SECRET, "Access key of AWS; without it the environment is asked, as the SDKs do."),
    used("aws_secret_access_key", Shape.SECRET, "Secret half of the access key."),
    used("aws_session_token", Shape.SECRET, "Session token that belongs to a temporary access key."),
    used("aws_region_name", Shape.TEXT, "Region of AWS; without it `AWS_REGION`."),
    used("aws_profile_name", Shape.TEXT, "Profile of `~/.aws/config` and `~/.aws/credentials`."),
    used("aws_role_name", Shape.TEXT, "ARN of a role to take on."),
    used("aws_session_name", Shape.TEXT, "Name of the session with a role.", "ostiary"),
    used("aws_external_id", Shape.TEXT, "External id that the role's trust policy asks for."),
    used("aws_web_identity_token", Shape.SECRET, "Token of another issuer that gives the role, or the file it is in."),
    used("aws_sts_endpoint", Shape.TEXT, "Endpoint of STS.", "the region's public one"),
    used("aws_bedrock_runtime_endpoint", Shape.TEXT, "Another name of `api_base`."),
    used("vertex_project", Shape.TEXT, "Google project; without it `VERTEXAI_PROJECT`."),
    used("vertex_location", Shape.TEXT, "Google location; without it `VERTEXAI_LOCATION`."),
    used("vertex_credentials", Shape.SECRET_DOCUMENT, "Google credentials: a path, the JSON text, or the document."),
    used("azure_ad_token", Shape.SECRET, "Entra token, sent as a bearer token to Azure."),
    used("tenant_id", Shape.TEXT, "Entra tenant to sign in to; without it `AZURE_TENANT_ID`."),
    used("client_id", Shape.TEXT, "Entra application; without it `AZURE_CLIENT_ID`."),
    used("client_secret", Shape.SECRET, "Secret of the application; without it `AZURE_CLIENT_SECRET`."),
    used("azure_scope", Shape.TEXT, "Scope of Entra tokens.", "https://cognitiveservices.azure.com/.default"),
    used("azure_authority_host", Shape.TEXT, "Where to sign in to Entra.", "https://login.microsoftonline.com"),
)

_NO_CHOICE = "A request never chooses where it goes or with which credential."

_PARAMS: tuple[Setting, ...] = (
    used("model", Shape.TEXT, "Provider and the provider's own name of the model, as in `groq/llama-3.3-70b`."),
    used("api_key", Shape.SECRET, "Credential; without it the provider's environment variables are asked."),
    used("api_base", Shape.TEXT, "Base URL, http or https; without it the provider's own."),
    used("base_url", Shape.TEXT, "Another name of `api_base`."),
    used("api_version", Shape.TEXT, "The `api-version` of Azure calls."),
    used("organization", Shape.NAMES, "OpenAI organisation; a list makes one deployment of each."),
    used("custom_llm_provider", Shape.TEXT, "Provider, where `model` carries no prefix."),
    used("litellm_credential_name", Shape.TEXT, "Name of a row of `credential_list` that fills in what is missing."),
    *SIGN_IN,
    used("account_id", Shape.TEXT, "Fills `{account_id}` in the provider's base URL."),
    used("rpm", Shape.WHOLE, "Requests per minute; also the weight where `weight` is absent.", least=0),
    used("tpm", Shape.WHOLE, "Tokens per minute; also the weight where `weight` and `rpm` are absent.", least=0),
    used("weight", Shape.NUMBER, "Share of the traffic of its model name.", "1", least=0),
    used("order", Shape.WHOLE, "Tier; lower tiers are tried first.", "0", least=0),
    used("max_parallel_requests", Shape.WHOLE, "Calls at once.", least=1),
    used("timeout", Shape.NUMBER, "Seconds to the first byte, and at most between bytes.", least=0.001),
    used("stream_timeout", Shape.NUMBER, "The same for streams.", least=0.001),
    used("max_retries", Shape.WHOLE, "Retries on this deployment.", least=0),
    used("num_retries", Shape.WHOLE, "Another name of `max_retries`.", least=0),
    used("extra_headers", Shape.MAP, "Headers added to every call."),
    used("extra_body", Shape.MAP, "Request fields used where the request has none."),
    used(
        "ssl_verify", Shape.FLAG_OR_TEXT, "Verify the certificate; or the path of a CA file.", "true",
        rule=certificate_check,
    ),
    *(used(name, Shape.ANY, f"Default of the request field `{name}`.") for name in BODY_DEFAULTS),
    *(used(name, Shape.NUMBER, meaning, least=0) for name, meaning in PRICES),
    refused("mock_response", "A canned answer is not offered; the built-in `demo` model needs no provider."),
    used("use_in_pass_through", Shape.FLAG, "Open for native pass-through below the provider's name, too."),
    refused("use_litellm_proxy", "Chaining by this switch is not offered; give the other proxy as `api_base`."),
    refused("guardrails", "Guards are not implemented and would not run."),
    refused("max_budget", "Budgets of deployments are not enforced; set `max_budget` on keys."),
    refused("budget_duration", "Budgets of deployments are not enforced; set `budget_duration` on keys."),
    refused("silent_model", "Mirroring would send content to a second provider; it is not offered."),
    refused("tag_regex", "Choosing deployments by tag is not implemented and would not hold."),
    inert("region_name", Shape.TEXT, "Not used for routing yet.", loud=True),
    inert("tags", Shape.LIST, "Not used for routing; `enable_tag_filtering` is refused."),
    used("drop_params", Shape.FLAG, "As `litellm_settings.drop_params`, for this deployment."),
    inert("additional_drop_params", Shape.LIST, "Request fields are passed on as they are."),
    inert("allowed_openai_params", Shape.LIST, "Every request field is passed on."),
    inert("merge_reasoning_content_in_choices", Shape.FLAG, "Answers are passed on as they are."),
    inert("cache_control_injection_points", Shape.LIST, "Requests are passed on as they are."),
    inert("configurable_clientside_auth_params", Shape.LIST, _NO_CHOICE),
    inert("rust", Shape.FLAG, "Chooses an implementation of another product."),
    *(
        inert(name, Shape.ANY, "Prompt templates are not applied: providers get messages.")
        for name in ("initial_prompt_value", "roles", "final_prompt_value", "bos_token", "eos_token")
    ),
)  # fmt: skip

_INFO: tuple[Setting, ...] = (
    used("id", Shape.TEXT, "Stable name of the deployment, shown in headers and usable as a fallback."),
    used("mode", Shape.TEXT, "Kind of model, as in the price table.", "from the price table, else `chat`"),
    used("base_model", Shape.TEXT, "Name under which price and limits are looked up."),
    used("max_tokens", Shape.WHOLE, "Output limit, where `max_output_tokens` is absent.", least=0),
    used("max_input_tokens", Shape.WHOLE, "Input limit in tokens.", least=0),
    used("max_output_tokens", Shape.WHOLE, "Output limit in tokens.", least=0),
    used("access_groups", Shape.NAMES, "Groups that keys may name in place of models."),
    used("supported_environments", Shape.NAMES, "Values of `LITELLM_ENVIRONMENT` under which the deployment exists."),
    refused("team_id", "A model of one team cannot be kept to that team yet."),
    *(used(name, Shape.NUMBER, meaning, least=0) for name, meaning in PRICES),
    inert("custom_tokenizer", Shape.MAP, "Tokens are taken from the provider's own count."),
    *(
        inert(name, Shape.ANY, "Background health checks are not made.")
        for name in (
            "health_check_model", "health_check_timeout", "health_check_voice", "health_check_max_tokens",
            "disable_background_health_check",
        )
    ),
    used("*", Shape.ANY, "Kept and shown by `/model/info`."),
)  # fmt: skip

MODEL_SETTINGS: tuple[Setting, ...] = (
    used("model_list", Shape.ROWS, "The deployments; several with one `model_name` share its traffic."),
    used("model_list[].model_name", Shape.TEXT, "Public name; may hold `*`."),
    used("model_list[].litellm_params", Shape.SECTION, "Where the deployment is and how it is called."),
    *below("model_list[].litellm_params", *_PARAMS),
    used("model_list[].model_info", Shape.SECTION, "What is known about the deployment."),
    *below("model_list[].model_info", *_INFO),
    used("credential_list", Shape.ROWS, "Credentials that several deployments share."),
    used("credential_list[].credential_name", Shape.TEXT, "Name, referred to by `litellm_credential_name`."),
    used("credential_list[].credential_values", Shape.SECTION, "Values that stand in for `litellm_params`."),
    used("credential_list[].credential_values.api_key", Shape.SECRET, "Credential."),
    *below("credential_list[].credential_values", *SIGN_IN),
    used("credential_list[].credential_values.api_base", Shape.TEXT, "The one base URL the credential may go to."),
    used("credential_list[].credential_values.base_url", Shape.TEXT, "Another name of `api_base`."),
    used("credential_list[].credential_values.api_version", Shape.TEXT, "The `api-version` of Azure calls."),
    used("credential_list[].credential_values.organization", Shape.NAMES, "OpenAI organisation."),
    used("credential_list[].credential_values.account_id", Shape.TEXT, "Fills `{account_id}` in a base URL."),
    inert("credential_list[].credential_info", Shape.MAP, "A note for people."),
    used("environment_variables", Shape.SECTION, "Variables for `os.environ/NAME` in this configuration only."),
    used(
        "environment_variables.*", Shape.SECRET,
        "Resolves `os.environ/NAME` here; it is not exported to the process.",
    ),
)  # fmt: skip
