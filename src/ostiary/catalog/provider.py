"""A provider as a row of data: who serves, where, and how a credential travels. It must not hold code per provider."""

from __future__ import annotations

import msgspec

from ostiary.core.snapshot import AuthStyle, UrlStyle


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Models of a provider that are reached in another way than the rest of them.

    `match` are patterns of the provider's own names (`*` for any text), compared without regard to case. What is not
    given is as in the provider's stanza.
    """

    match: tuple[str, ...]
    dialects: tuple[str, ...] = ()
    paths: dict[str, str] = {}
    embedding: str = ""
    rerank: str = ""
    drops: tuple[str, ...] = ()
    adds: dict[str, str] = {}


def _compatible() -> dict[str, bool | str | int]:
    """What is true of a server that speaks OpenAI's dialect and has no more to say: it knows the older names, and no
    members that are not OpenAI's."""
    return {"new_cap": False, "developer": False, "cache_marks": False}


class Provider(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One stanza of `providers.toml`.

    `base_url` may contain `{name}` placeholders, filled from the deployment's parameters of that name (for example
    `{account_id}`); empty when the operator must give `api_base`. `respelled` are parts of the filled address that
    stand otherwise in special cases. `key_env` lists environment variables that hold the credential where the
    configuration names none, first found wins; `sign_in` what is done where there is no key. `dialects` are the chat
    formats it speaks, the one to translate into first. `facts` are what all its models have in common, over what is
    known of a model's family (see `profiles.toml`); `variants` the models that are reached in another way, of which the
    first that matches counts. `forward_headers` travel only to a provider that is spoken to in the client's own
    dialect.
    """

    name: str
    title: str
    base_url: str = ""
    respelled: dict[str, str] = {}
    base_env: tuple[str, ...] = ()
    key_env: tuple[str, ...] = ()
    auth: AuthStyle = AuthStyle.BEARER
    auth_header: str = "authorization"
    sign_in: AuthStyle | None = None  # aws, google or entra: what is done where no key is given
    url_style: UrlStyle = UrlStyle.OPENAI
    key_required: bool = True
    aliases: tuple[str, ...] = ()  # other prefixes that mean this provider, as in `hosted_vllm/`
    headers: dict[str, str] = {}
    forward_headers: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ("chat.completions",)  # Endpoint names it serves
    paths: dict[str, str] = {}  # Endpoint name -> path below base_url, where it differs
    usage_in_stream: bool = True
    api_version: str = ""
    dialects: tuple[str, ...] = ("openai_chat",)
    embedding: str = "openai"
    rerank: str = "cohere_v2"
    facts: dict[str, bool | str | int] = msgspec.field(default_factory=_compatible)
    variants: tuple[Variant, ...] = ()
    price_names: tuple[str, ...] = ()  # names of this provider in the price table
    docs: str = ""
