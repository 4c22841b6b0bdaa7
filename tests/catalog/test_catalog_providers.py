"""The provider table: every stanza is usable, and a new one needs no code."""

from __future__ import annotations

import string
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ostiary.catalog.profiles import load_profiles
from ostiary.catalog.provider import Provider
from ostiary.catalog.providers import load_providers, parse_providers
from ostiary.catalog.reference import providers_markdown
from ostiary.core.snapshot import AuthStyle, UrlStyle
from ostiary.wire.registry import SPOKEN

ENDPOINTS = {
    "chat.completions",
    "completions",
    "embeddings",
    "moderations",
    "images.generations",
    "images.edits",
    "images.variations",
    "audio.speech",
    "audio.transcriptions",
    "audio.translations",
    "rerank",
    "files",
    "batches",
}

EXPECTED = [
    "openai",
    "azure",
    "azure_ai",
    "mistral",
    "groq",
    "together_ai",
    "fireworks_ai",
    "deepseek",
    "xai",
    "openrouter",
    "perplexity",
    "cerebras",
    "nvidia_nim",
    "sambanova",
    "ollama",
    "ollama_chat",
    "vllm",
    "hosted_vllm",
    "lm_studio",
    "llamafile",
    "llama_cpp",
    "huggingface",
    "databricks",
    "cloudflare",
    "github",
    "moonshot",
    "dashscope",
    "zai",
    "zhipu",
    "volcengine",
    "minimax",
    "deepinfra",
    "anyscale",
    "hyperbolic",
    "novita",
    "nebius",
    "lambda_ai",
    "friendliai",
    "featherless_ai",
    "nscale",
    "ovhcloud",
    "scaleway",
    "gradient_ai",
    "baseten",
    "infinity",
    "jina_ai",
    "voyage",
    "cohere",
    "gemini",
    "anthropic",
    "ai21",
    "siliconflow",
    "inception",
    "morph",
    "meta_llama",
    "v0",
    "vercel_ai_gateway",
    "wandb",
    "xinference",
    "litellm_proxy",
    "openai_like",
    "custom_openai",
    "text-completion-openai",
]


def is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def paths_of(dialect: str) -> set[str]:
    """The names under which a provider may state paths of its own for a dialect."""
    return {dialect, f"{dialect}.stream", *(endpoint.name for endpoint in SPOKEN[dialect].endpoints)}


every_provider = pytest.mark.parametrize("provider", list(load_providers()), ids=lambda provider: provider.name)


def test_there_are_at_least_fifty_providers() -> None:
    assert len(load_providers()) >= 50
    assert len(load_providers().names()) == len(load_providers())


@pytest.mark.parametrize("prefix", EXPECTED)
def test_a_prefix_in_use_is_known(prefix: str) -> None:
    provider = load_providers().find(prefix)
    assert provider is not None
    assert prefix in (provider.name, *provider.aliases)


def test_an_unknown_prefix_finds_nothing() -> None:
    assert load_providers().find("gpt-4o") is None
    assert load_providers().find("") is None
    assert load_providers().find("OpenAI") is None


@every_provider
def test_the_address_is_https_unless_it_is_this_machine(provider: Provider) -> None:
    if not provider.base_url:
        assert provider.base_env, "an address must come from somewhere"
        return
    url = urlsplit(provider.base_url)
    assert url.scheme == ("http" if is_local(url.hostname or "") else "https")
    assert url.hostname
    assert url.netloc + url.path == provider.base_url.partition("://")[2], "no user, query or fragment"
    assert "@" not in url.netloc
    assert not provider.base_url.endswith("/")
    placeholders = [name for _, name, _, _ in string.Formatter().parse(provider.base_url) if name is not None]
    assert all(name.isidentifier() for name in placeholders)


@every_provider
def test_a_stanza_is_complete(provider: Provider) -> None:
    assert provider.title
    assert urlsplit(provider.docs).scheme == "https"
    assert provider.endpoints
    assert set(provider.endpoints) <= ENDPOINTS
    assert provider.dialects
    assert set(provider.dialects) <= set(SPOKEN)
    assert len(set(provider.endpoints)) == len(provider.endpoints)
    spoken = {name for dialect in provider.dialects for name in paths_of(dialect)}
    assert set(provider.paths) <= set(provider.endpoints) | spoken
    assert all(path.startswith("/") for path in provider.paths.values())
    assert all(name.isupper() for name in provider.key_env + provider.base_env)
    assert all(name == name.lower() for name in (provider.auth_header, *provider.headers, *provider.forward_headers))
    assert provider.key_env or provider.sign_in or not provider.key_required
    assert (provider.auth is AuthStyle.BEARER) == (provider.auth_header == "authorization")


@every_provider
def test_no_header_that_carries_a_credential_is_passed_on(provider: Provider) -> None:
    secret = {"authorization", "cookie", "proxy-authorization", "x-api-key", "api-key"}
    assert secret.isdisjoint(provider.forward_headers)
    assert secret.isdisjoint(provider.headers)


def test_azure_is_called_by_deployment_with_its_own_key_header() -> None:
    azure = load_providers().find("azure")
    assert azure is not None
    assert (azure.url_style, azure.auth, azure.auth_header) == (UrlStyle.AZURE, AuthStyle.HEADER, "api-key")
    assert azure.base_url == ""
    assert azure.api_version


@every_provider
def test_a_variant_is_reached_in_a_way_that_there_is(provider: Provider) -> None:
    for variant in provider.variants:
        assert variant.match
        assert set(variant.dialects) <= set(SPOKEN)
        spoken = {name for dialect in variant.dialects or provider.dialects for name in paths_of(dialect)}
        assert set(variant.paths) <= spoken
        assert all(path.startswith("/") for path in variant.paths.values())


@pytest.mark.parametrize("prefix", ["mistral", "databricks"])
def test_a_provider_that_refuses_stream_options_says_so(prefix: str) -> None:
    provider = load_providers().find(prefix)
    assert provider is not None
    assert not provider.usage_in_stream


def test_a_new_provider_is_a_stanza_and_no_code(tmp_path: Path) -> None:
    table = tmp_path / "providers.toml"
    table.write_text(
        """
        [acme]
        title = "Acme"
        base_url = "https://api.acme.example/v1"
        key_env = ["ACME_API_KEY"]
        aliases = ["acme_chat"]
        endpoints = ["chat.completions", "embeddings"]
        docs = "https://docs.acme.example/"
        """
    )
    providers = parse_providers(table.read_text())
    acme = providers.find("acme_chat")
    assert acme == Provider(
        name="acme",
        title="Acme",
        base_url="https://api.acme.example/v1",
        key_env=("ACME_API_KEY",),
        aliases=("acme_chat",),
        endpoints=("chat.completions", "embeddings"),
        docs="https://docs.acme.example/",
    )
    assert providers.find("acme") is acme
    assert providers.names() == ("acme",)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[acme]\ntitle = "A"\nbase_urll = "https://a.example"', ("acme", "base_urll")),
        ('[acme]\ntitle = "A"\nauth = "magic"', ("acme", "magic")),
        ("[acme]\ntitle = 1", ("acme", "title")),
        ("[acme]\n", ("acme", "title")),
        ('[acme]\ntitle = "A"\nname = "other"', ("acme", "heading")),
        ('acme = "A"', ("acme", "table")),
        ('[a]\ntitle = "A"\naliases = ["x"]\n[b]\ntitle = "B"\naliases = ["x"]', ("b", "x")),
        ('[a]\ntitle = "A"\naliases = ["b"]\n[b]\ntitle = "B"', ("b", "a")),
        ('[a]\ntitle = "A"\n[a]\ntitle = "B"', ()),
    ],
)
def test_a_wrong_stanza_is_refused_by_name(text: str, named: tuple[str, ...]) -> None:
    with pytest.raises(ValueError) as refusal:
        parse_providers(text)
    assert all(word in str(refusal.value) for word in named)


def test_the_reference_page_names_every_provider_and_is_up_to_date() -> None:
    page = providers_markdown()
    for provider in load_providers():
        assert f"## {provider.title}\n" in page
        assert provider.base_url in page
        assert provider.docs in page
    assert page == (Path(__file__).parents[2] / "docs" / "reference" / "providers.md").read_text()


@pytest.mark.parametrize(
    ("name", "marks"),
    [("openai", False), ("azure", False), ("groq", False), ("openrouter", True), ("litellm_proxy", True),
     ("anthropic", True), ("bedrock", True)],
)  # fmt: skip
def test_marks_for_the_prompt_cache_go_only_to_providers_that_know_them(name: str, marks: bool) -> None:
    provider = load_providers().find(name)
    assert provider is not None
    assert load_profiles().find(provider, "any-model", None).cache_marks is marks
