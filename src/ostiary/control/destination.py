"""Where a deployment is, and with which credential it is called. It must not let anything later change that.

The host a credential may go to is fixed here, and nowhere else. A credential that comes from the environment goes to
the provider's own address; to another one only where the operator's file names that address and the provider has none
of its own.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

import msgspec

from ostiary.catalog.provider import Provider
from ostiary.config.shapes import ModelEntry
from ostiary.control.address import Address, azure_address, base_address, bypasses, fill, proxy_address
from ostiary.control.identities import SCHEMES, ambient_identity, scheme_of, stated_identity
from ostiary.control.sources import Sources, UnusableError
from ostiary.core.secret import Secret
from ostiary.core.snapshot import AuthStyle, Deployment, UrlStyle

CONTROL = re.compile(r"[\x00-\x20\x7f]")
HEADER_VALUE = re.compile(r"[\x20-\x7e]{0,8192}\Z")

HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}\Z")
_VERSION = re.compile(r"[A-Za-z0-9._-]{1,40}\Z")
_NOT_IN_PATH = re.compile(r"[/?#%\\]")
CREDENTIAL_HEADER = re.compile(r"authorization\Z|.*(?:api-?key|token|secret)|key\Z|cookie\Z")
# The message's framing and the connection are the gateway's own.
OWN_HEADERS = frozenset(
    {
        "accept-encoding", "connection", "content-encoding", "content-length", "content-type", "expect", "host",
        "keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip


def provider_of(params: Mapping[str, object], sources: Sources) -> tuple[Provider, str]:
    model, custom = str(params.get("model", "")), params.get("custom_llm_provider")
    if not model or len(model) > 256 or CONTROL.search(model) or not model.isprintable():
        raise UnusableError("litellm_params.model", "expected provider/model in printable characters without blanks")
    prefix, slash, rest = model.partition("/")
    if isinstance(custom, str) and custom:
        prefix, rest = custom, model.removeprefix(f"{custom}/")
        setting = "litellm_params.custom_llm_provider"
    elif slash:
        setting = "litellm_params.model"
    else:
        return _provider_of_bare(model, params, sources), model
    provider = sources.providers.find(prefix)
    if provider is None:
        raise UnusableError(setting, "names a provider that is not offered", _offered(prefix, sources), grave=False)
    if not rest:
        raise UnusableError("litellm_params.model", "names a provider and no model")
    return provider, rest


def _offered(prefix: str, sources: Sources) -> str:
    near = difflib.get_close_matches(prefix[:80], list(sources.providers.names()), n=1, cutoff=0.75)
    return f"did you mean {near[0]}?" if near else ""


def _provider_of_bare(model: str, params: Mapping[str, object], sources: Sources) -> Provider:
    """OpenAI for its own models and for servers with an address of their own; else the maker the table names."""
    openai = sources.providers.find("openai")
    if openai is not None and ("api_base" in params or sources.models.find(openai, model) is not None):
        return openai
    for name in sources.providers.names():
        provider = sources.providers.find(name)
        facts = sources.models.find(provider, model) if provider is not None else None
        if provider is not None and facts is not None and facts.name == model:
            return provider
    raise UnusableError("litellm_params.model", "names no provider, and is no model of the price table",
                        "write provider/model", grave=False)  # fmt: skip


def address_of(params: dict[str, object], provider: Provider, sources: Sources) -> tuple[Address, UrlStyle, bool]:
    """Where the deployment is, how its paths are formed, and whether that is the provider's own address."""
    setting, stated = "litellm_params.api_base", params.get("api_base")
    own = stated is None
    try:
        if isinstance(stated, str):
            base = stated
        else:
            named = (sources.loaded.environment.get(variable) for variable in provider.base_env)
            base = next((text for text in named if text), "") or _filled(provider, params)
        if not base:
            variables = " or ".join(provider.base_env)
            hint = f"or set {variables}" if variables else ""
            raise UnusableError(setting, "is missing, and the provider has no address of its own", hint, grave=False)
        version = str(params.get("api_version") or provider.api_version)
        if provider.url_style is UrlStyle.AZURE:
            explicit = str(params.get("api_version") or "")
            address, versioned = azure_address(base, explicit)
            if not versioned:
                return address, UrlStyle.OPENAI, own
            version = address.api_version or version
        else:
            address = base_address(base)
    except ValueError as failure:
        raise UnusableError(setting, str(failure)) from None
    if version and not _VERSION.match(version):
        raise UnusableError("litellm_params.api_version", "expected a version such as 2025-02-01-preview")
    return msgspec.structs.replace(address, api_version=version), provider.url_style, own


def _filled(provider: Provider, params: dict[str, object]) -> str:
    base = fill(provider.base_url, params)
    for part, spelling in provider.respelled.items():
        base = base.replace(part, spelling)
    return base


def reached(
    plain: Deployment,
    address: Address,
    style: UrlStyle,
    provider: Provider,
    params: Mapping[str, object],
    sources: Sources,
) -> Deployment:
    """With address, TLS and proxy."""
    defaults, upstream, verify = sources.loaded.defaults, sources.loaded.ostiary.upstream, params.get("ssl_verify")
    if style is UrlStyle.AZURE and _NOT_IN_PATH.search(plain.upstream_model):
        raise UnusableError("litellm_params.model", "names an Azure deployment with a character no URL path takes")
    return msgspec.structs.replace(
        plain,
        scheme=address.scheme,
        host=address.host,
        port=address.port,
        base_path=address.base_path,
        url_style=style,
        api_version=address.api_version,
        forward_headers=tuple(name.lower() for name in provider.forward_headers),
        verify=verify is not False if verify is not None else defaults.verify,
        ca_file=verify if isinstance(verify, str) else defaults.ca_file or upstream.ca_file,
        proxy=_proxy(address, sources),
    )


def _proxy(address: Address, sources: Sources) -> str | None:
    upstream, environment = sources.loaded.ostiary.upstream, sources.loaded.environment
    if upstream.proxy is not None or not upstream.use_environment_proxy:
        return upstream.proxy
    name = f"{address.scheme}_proxy"
    text = environment.get(name.upper()) or environment.get(name)
    if not text or bypasses(environment.get("NO_PROXY") or environment.get("no_proxy") or "", address.host):
        return None
    try:
        return proxy_address(text)
    except ValueError:
        raise UnusableError("", f"{name.upper()} is not of the form http://host:port") from None


def signed(
    plain: Deployment,
    entry: ModelEntry,
    params: Mapping[str, object],
    provider: Provider,
    sources: Sources,
    *,
    own: bool,
) -> Deployment:
    """With credential and headers: a key, else what signs in, else the same of the environment."""
    headers = _extra_headers(params)
    surrounded = own or (not provider.base_url and not entry.stored_id)
    key, token = params.get("api_key"), params.get("azure_ad_token")
    auth, auth_header = provider.auth, provider.auth_header
    if not isinstance(key, Secret) and isinstance(token, Secret):
        key, auth, auth_header = token, AuthStyle.BEARER, "authorization"
    if not isinstance(key, Secret):
        # A credential written as a header is one: it is kept where nothing prints it.
        for name in [name for name in headers if CREDENTIAL_HEADER.match(name)][:1]:
            key, auth, auth_header = Secret(headers.pop(name)), AuthStyle.HEADER, name
    identity = None if isinstance(key, Secret) else stated_identity(entry, params, provider, sources)
    if not isinstance(key, Secret) and identity is None and surrounded:
        key = _environment_key(provider, sources)
    # A signature shows no secret: the configuration may have one made for an endpoint of its own.
    signing = scheme_of(provider) is AuthStyle.AWS and not entry.stored_id
    if not isinstance(key, Secret) and identity is None and (surrounded or signing):
        identity = ambient_identity(params, provider, sources)
    if identity is None and not isinstance(key, Secret) and provider.key_required and (own or not provider.base_url):
        variables = " or ".join(provider.key_env)
        hint = f"give it, or set {variables}" if variables else ""
        raise UnusableError("litellm_params.api_key", "is missing", hint, grave=False)
    credential = key if isinstance(key, Secret) else None
    if identity is not None:
        auth = scheme_of(provider) or AuthStyle.NONE
    elif credential is None:
        auth = AuthStyle.NONE
    elif auth is AuthStyle.NONE or auth in SCHEMES:
        auth, auth_header = AuthStyle.BEARER, "authorization"
    return msgspec.structs.replace(
        plain,
        auth=auth,
        auth_header=auth_header.lower(),
        credential=credential,
        identity=identity,
        headers=tuple(({name.lower(): value for name, value in provider.headers.items()} | headers).items()),
    )


def _environment_key(provider: Provider, sources: Sources) -> Secret | None:
    for variable in provider.key_env:
        text = sources.loaded.environment.get(variable)
        if text:
            if not HEADER_VALUE.match(text):
                raise UnusableError("", f"{variable} holds a character that no header can carry")
            return Secret(text)
    return None


def _extra_headers(params: Mapping[str, object]) -> dict[str, str]:
    setting, written = "litellm_params.extra_headers", params.get("extra_headers")
    headers: dict[str, str] = {}
    for name, value in written.items() if isinstance(written, dict) else ():
        text = str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else "\n"
        if not HEADER_NAME.match(name) or not HEADER_VALUE.match(text):
            raise UnusableError(setting, "holds a name or value that no header can carry")
        if name.lower() in OWN_HEADERS:
            raise UnusableError(setting, "holds a header that is the gateway's own")
        headers[name.lower()] = text.strip()
    return headers
