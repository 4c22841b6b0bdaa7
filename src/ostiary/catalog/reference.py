"""Renders the provider reference page from the catalog. It must not hold a fact of its own."""

from __future__ import annotations

from collections.abc import Iterable

from ostiary.catalog.provider import Provider
from ostiary.catalog.providers import load_providers
from ostiary.core.snapshot import AuthStyle

_HEAD = """# Providers

Generated from `src/ostiary/catalog/providers.toml`; change that file, not this page.

`model: <prefix>/<model>` in `litellm_params` chooses the provider. `api_base` and `api_key` of a deployment win over
the environment variables named here, and those over the address given here; the first variable that is set wins.
A `{name}` in an address is filled from the deployment's parameter of that name. Where no address is given, the
deployment or the environment must give one. A provider that is not listed and speaks the OpenAI dialect needs no code:
use `openai_like/<model>` with `api_base`, or add a stanza.

"""


def providers_markdown() -> str:
    """The page `docs/reference/providers.md`, ending in a newline."""
    providers = sorted(load_providers(), key=lambda provider: provider.title.casefold())
    return _HEAD + f"{len(providers)} providers.\n\n" + _overview(providers) + "".join(map(_section, providers))


def _overview(providers: Iterable[Provider]) -> str:
    rows = "".join(f"| [{p.title}](#{p.name}) | {_code((p.name, *p.aliases))} |\n" for p in providers)
    return "| Provider | Prefix |\n| --- | --- |\n" + rows


def _section(provider: Provider) -> str:
    facts = {
        "Prefix": _code((provider.name, *provider.aliases)),
        "Address": f"`{provider.base_url}`" if provider.base_url else "given by `api_base`",
        "Address from": _code(provider.base_env),
        "Credential": _credential(provider),
        "Credential from": _code(provider.key_env),
        "Conversations in": _code(provider.dialects),
        "Paths of its own": ", ".join(f"`{name}` at `{path}`" for name, path in provider.paths.items()),
        "API version": f"`{provider.api_version}`" if provider.api_version else "",
        "Serves": _code(provider.endpoints),
        "Usage of streams": "" if provider.usage_in_stream else "`stream_options` is not sent: the provider refuses it",
        "Headers passed on": _code(provider.forward_headers),
        "Documentation": f"<{provider.docs}>" if provider.docs else "",
    }
    for variant in provider.variants:
        spoken = _code(variant.dialects or provider.dialects)
        facts[f"Models {_code(variant.match)}"] = f"{spoken}, at " + ", ".join(
            f"`{path}`" for path in variant.paths.values()
        )
    lines = "".join(f"- {name}: {value}\n" for name, value in facts.items() if value)
    return f'\n<a id="{provider.name}"></a>\n\n## {provider.title}\n\n{lines}'


def _credential(provider: Provider) -> str:
    if provider.auth is AuthStyle.NONE:
        return "none"
    if provider.sign_in is not None and not provider.key_env:
        return f"signs in to {provider.sign_in}"
    carrier = "`Authorization: Bearer`" if provider.auth is AuthStyle.BEARER else f"header `{provider.auth_header}`"
    return carrier if provider.key_required else f"{carrier}, optional"


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
