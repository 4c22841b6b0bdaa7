"""Who the gateway is towards a cloud, of a deployment's parameters. It must not read a file or ask anybody.

A stored model, which anyone with the right to add models can write, never makes the gateway use what is the machine's:
it names no file, no profile and no host for secrets but the clouds' own, and takes on no role with credentials that
are not its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from ostiary.catalog.provider import Provider
from ostiary.config.shapes import Environment, ModelEntry
from ostiary.control.address import parse_address, proxy_address
from ostiary.control.sources import Sources, UnusableError
from ostiary.core.identity import ENTRA_AUTHORITY, ENTRA_SCOPE, AwsIdentity, EntraIdentity, GoogleIdentity, Identity
from ostiary.core.secret import Secret
from ostiary.core.snapshot import AuthStyle

I = TypeVar("I", AwsIdentity, GoogleIdentity, EntraIdentity)  # noqa: E741 (an identity)

SCHEMES = frozenset({AuthStyle.AWS, AuthStyle.GOOGLE, AuthStyle.ENTRA})

_STATED = {
    AuthStyle.AWS: (
        "aws_access_key_id", "aws_secret_access_key", "aws_session_token", "aws_profile_name", "aws_role_name",
        "aws_session_name", "aws_web_identity_token", "aws_external_id", "aws_sts_endpoint",
    ),
    AuthStyle.GOOGLE: ("vertex_credentials",),
    AuthStyle.ENTRA: ("tenant_id", "client_id", "client_secret", "azure_scope", "azure_authority_host"),
}  # fmt: skip
# Where a parameter comes from that is written nowhere; it forms the address, so it is no secret.
_FROM_ENVIRONMENT = {
    "aws_region_name": ("AWS_REGION_NAME", "AWS_REGION", "AWS_DEFAULT_REGION"),
    "vertex_project": ("VERTEXAI_PROJECT", "GOOGLE_CLOUD_PROJECT"),
    "vertex_location": ("VERTEXAI_LOCATION", "GOOGLE_CLOUD_LOCATION"),
}
_CONTAINER = "http://169.254.170.2"
_MACHINE = "http://169.254.169.254"
_PATTERNS = {
    "aws_region_name": re.compile(r"[a-z]{2}(?:-[a-z]+)+-\d{1,2}"),
    "aws_role_name": re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]{1,576}", re.ASCII),
    "aws_session_name": re.compile(r"[\w+=,.@-]{2,64}", re.ASCII),
    "aws_external_id": re.compile(r"[\w+=,.@:/-]{2,1224}", re.ASCII),
    "aws_profile_name": re.compile(r"[\w+=,.@:/ -]{1,128}", re.ASCII),
    "tenant_id": re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,127}"),
    "client_id": re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,127}"),
    "azure_scope": re.compile(r"[\x21-\x7e]{1,512}"),
}
_STS_HOST = re.compile(r"sts(?:-fips)?(?:\.[a-z0-9-]+)?\.amazonaws\.com(?:\.cn)?")
_ENTRA_HOSTS = frozenset(
    {"login.microsoftonline.com", "login.microsoftonline.us", "login.partner.microsoftonline.cn",
     "login.chinacloudapi.cn", "login.windows.net"}
)  # fmt: skip


def scheme_of(provider: Provider) -> AuthStyle | None:
    """The scheme by which the provider is signed in to where no key is given; None: it takes keys only."""
    if provider.sign_in is not None:
        return provider.sign_in
    return provider.auth if provider.auth in SCHEMES else None


def with_places(params: Mapping[str, object], provider: Provider, sources: Sources) -> dict[str, object]:
    """The parameters with region, project and location of the environment where the provider's address needs them.

    Raises:
        UnusableError: one that the address is formed with is nowhere.
    """
    completed, environment = dict(params), sources.loaded.environment
    formed = "api_base" not in params and not any(map(environment.get, provider.base_env))
    for name, variables in _FROM_ENVIRONMENT.items():
        if name in completed or (f"{{{name}}}" not in provider.base_url and scheme_of(provider) is not AuthStyle.AWS):
            continue
        found = next((text for text in map(environment.get, variables) if text), None)
        if found is not None:
            completed[name] = found
        elif formed and f"{{{name}}}" in provider.base_url:
            raise UnusableError(f"litellm_params.{name}", "is missing", f"give it, or set {variables[0]}", grave=False)
    return completed


def stated_identity(
    entry: ModelEntry, params: Mapping[str, object], provider: Provider, sources: Sources
) -> Identity | None:
    """The identity that the parameters state; None where they state none.

    Raises:
        UnusableError: a parameter is of no use, or a stored model may not state it.
    """
    scheme = scheme_of(provider)
    names = _STATED[scheme] if scheme is not None else ()
    if not any(name in params for name in names):
        return None
    by_config = "litellm_credential_name" in params
    if entry.stored_id:
        _refuse_what_is_the_machines(entry, names, by_config=by_config)
    trusted = not entry.stored_id or by_config
    for name in names:
        _check(name, params.get(name))
    if scheme is AuthStyle.AWS:
        return _aws_stated(params, sources, trusted=trusted)
    if scheme is AuthStyle.GOOGLE:
        credentials = params.get("vertex_credentials")
        found = GoogleIdentity(credentials=credentials if isinstance(credentials, Secret) else None, trusted=trusted)
        return _routed(found, sources)
    return _entra(params, sources, trusted=trusted)


def ambient_identity(params: Mapping[str, object], provider: Provider, sources: Sources) -> Identity | None:
    """The identity that the process has by its environment; None where it has none."""
    scheme, environment = scheme_of(provider), sources.loaded.environment
    if scheme is AuthStyle.AWS:
        return _aws_ambient(_region(params), sources)
    if scheme is AuthStyle.GOOGLE:
        file, metadata = environment.get("GOOGLE_APPLICATION_CREDENTIALS") or "", ""
        if sources.loaded.ostiary.upstream.instance_metadata:
            metadata = f"http://{environment.get('GCE_METADATA_HOST') or 'metadata.google.internal'}"
        if not file and not metadata:
            return None
        return _routed(GoogleIdentity(credentials_file=file, metadata=metadata, trusted=True), sources)
    return _entra({}, sources, trusted=True) if scheme is AuthStyle.ENTRA else None


def _refuse_what_is_the_machines(entry: ModelEntry, names: tuple[str, ...], *, by_config: bool) -> None:
    own = entry.params
    for name in names:
        if by_config and name in own:
            raise UnusableError(f"litellm_params.{name}", "may not be stated beside a credential of the configuration")
    if "aws_profile_name" in own:
        raise UnusableError("litellm_params.aws_profile_name", "may be named by the configuration file only")
    proof = "aws_secret_access_key" in own or "aws_web_identity_token" in own
    if "aws_role_name" in own and not proof:
        raise UnusableError(
            "litellm_params.aws_role_name", "needs credentials of its own, unless the configuration file names it"
        )
    for name, known in (("aws_sts_endpoint", _STS_HOST.fullmatch), ("azure_authority_host", _ENTRA_HOSTS.__contains__)):
        value = own.get(name)
        if isinstance(value, str):
            address = parse_address(_url(value))
            if address.scheme != "https" or address.port != 443 or not known(address.host) or address.base_path:
                raise UnusableError(
                    f"litellm_params.{name}", "is not the cloud's own; the configuration file may name others"
                )


def _check(name: str, value: object) -> None:
    """Refuses what no such parameter is."""
    pattern = _PATTERNS.get(name)
    if pattern is not None and value is not None and not (isinstance(value, str) and pattern.fullmatch(value)):
        raise UnusableError(f"litellm_params.{name}", "is not of the form that it has at the provider")
    if name in ("aws_sts_endpoint", "azure_authority_host") and isinstance(value, str):
        try:
            parse_address(_url(value))
        except ValueError as failure:
            raise UnusableError(f"litellm_params.{name}", str(failure)) from None


def _region(params: Mapping[str, object]) -> str:
    region = params.get("aws_region_name")
    if region is None:
        raise UnusableError("litellm_params.aws_region_name", "is missing", "give it, or set AWS_REGION", grave=False)
    _check("aws_region_name", region)
    return str(region)


def _aws_stated(params: Mapping[str, object], sources: Sources, *, trusted: bool) -> AwsIdentity:
    key_id, secret = _secret(params, "aws_access_key_id"), _secret(params, "aws_secret_access_key")
    if (key_id is None) != (secret is None):
        missing = "aws_access_key_id" if key_id is None else "aws_secret_access_key"
        raise UnusableError(f"litellm_params.{missing}", "is missing beside its other half")
    web, role = _secret(params, "aws_web_identity_token"), _text(params, "aws_role_name")
    if web is not None and not role:
        raise UnusableError("litellm_params.aws_role_name", "is missing beside aws_web_identity_token")
    region, profile = _region(params), _text(params, "aws_profile_name")
    base = AwsIdentity(region=region, trusted=trusted)
    if key_id is not None:
        session = _secret(params, "aws_session_token")
        base = msgspec.structs.replace(base, access_key_id=key_id, secret_access_key=secret, session_token=session)
    elif web is not None:
        base = msgspec.structs.replace(base, web_identity=web, web_role_arn=role)
    elif trusted:
        base = _aws_ambient(region, sources, profile=profile)
    else:
        raise UnusableError("litellm_params.aws_secret_access_key", "is missing")
    return msgspec.structs.replace(
        _routed(base, sources),
        role_arn="" if role == base.web_role_arn else role,
        session_name=_text(params, "aws_session_name") or base.session_name,
        external_id=_text(params, "aws_external_id"),
        sts_endpoint=_text(params, "aws_sts_endpoint"),
    )


def _aws_ambient(region: str, sources: Sources, *, profile: str = "") -> AwsIdentity:
    """What the SDKs of AWS look for, in their order; of a machine's metadata service only where it is asked for."""
    environment = sources.loaded.environment
    key_id, secret = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
    web_file, web_role = environment.get("AWS_WEB_IDENTITY_TOKEN_FILE"), environment.get("AWS_ROLE_ARN")
    session, relative = environment.get("AWS_SESSION_TOKEN"), environment.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    files = AwsIdentity(
        region=region,
        profile=profile or environment.get("AWS_PROFILE") or "",
        config_file=environment.get("AWS_CONFIG_FILE") or "~/.aws/config",
        credentials_file=environment.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials",
        container=(
            f"{_CONTAINER}/{relative.lstrip('/')}"
            if relative
            else environment.get("AWS_CONTAINER_CREDENTIALS_FULL_URI") or ""
        ),
        container_token=_wrapped(environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN")),
        container_token_file=environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") or "",
        metadata=_aws_metadata(sources),
        trusted=True,
    )
    if profile:
        return _routed(files, sources)
    if key_id and secret:
        keys = AwsIdentity(
            region=region,
            access_key_id=Secret(key_id),
            secret_access_key=Secret(secret),
            session_token=_wrapped(session),
            trusted=True,
        )
        return _routed(keys, sources)
    if web_file and web_role:
        name = environment.get("AWS_ROLE_SESSION_NAME") or files.session_name
        files = AwsIdentity(
            region=region, web_identity=Secret(web_file), web_role_arn=web_role, session_name=name, trusted=True
        )
    return _routed(files, sources)


def _aws_metadata(sources: Sources) -> str:
    environment = sources.loaded.environment
    off = (environment.get("AWS_EC2_METADATA_DISABLED") or "").lower() == "true"
    if off or not sources.loaded.ostiary.upstream.instance_metadata:
        return ""
    return environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or _MACHINE


def _entra(params: Mapping[str, object], sources: Sources, *, trusted: bool) -> EntraIdentity | None:
    """Of the parameters, completed from the environment where the configuration file states them."""
    environment = sources.loaded.environment if trusted else Environment({})
    metadata = _MACHINE if trusted and sources.loaded.ostiary.upstream.instance_metadata else ""
    identity = EntraIdentity(
        tenant=_text(params, "tenant_id") or environment.get("AZURE_TENANT_ID") or "",
        client_id=_text(params, "client_id") or environment.get("AZURE_CLIENT_ID") or "",
        client_secret=_secret(params, "client_secret") or _wrapped(environment.get("AZURE_CLIENT_SECRET")),
        federated_file=environment.get("AZURE_FEDERATED_TOKEN_FILE") or "",
        scope=_text(params, "azure_scope") or environment.get("AZURE_SCOPE") or ENTRA_SCOPE,
        authority=_url(
            _text(params, "azure_authority_host") or environment.get("AZURE_AUTHORITY_HOST") or ENTRA_AUTHORITY
        ),
        metadata=metadata,
        trusted=trusted,
    )
    complete = identity.tenant and identity.client_id and (identity.client_secret or identity.federated_file)
    if not complete and not metadata:
        if not params:
            return None
        missing = next((name for name in ("tenant_id", "client_id") if not _text(params, name)), "client_secret")
        raise UnusableError(f"litellm_params.{missing}", "is missing, and signing in needs it", grave=False)
    return _routed(identity, sources)


def _routed(identity: I, sources: Sources) -> I:
    """With the trust and the proxy of the instance."""
    upstream, environment = sources.loaded.ostiary.upstream, sources.loaded.environment
    proxy = upstream.proxy
    if proxy is None and upstream.use_environment_proxy:
        stated = environment.get("HTTPS_PROXY") or environment.get("https_proxy")
        try:
            proxy = proxy_address(stated) if stated else None
        except ValueError:
            raise UnusableError("", "HTTPS_PROXY is not of the form http://host:port") from None
    ca_file = sources.loaded.defaults.ca_file or upstream.ca_file
    return msgspec.structs.replace(identity, ca_file=ca_file, proxy=proxy)


def _url(text: str) -> str:
    return text if "://" in text else f"https://{text}"


def _text(params: Mapping[str, object], name: str) -> str:
    value = params.get(name)
    return value if isinstance(value, str) else ""


def _secret(params: Mapping[str, object], name: str) -> Secret | None:
    value = params.get(name)
    return value if isinstance(value, Secret) else None


def _wrapped(text: str | None) -> Secret | None:
    return Secret(text) if text else None
