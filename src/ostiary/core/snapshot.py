"""The policy snapshot: everything the data plane needs to decide, immutable, swapped by one reference.

It must not hold anything that changes while it is in force: health, counters and connections live elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

import msgspec

from ostiary.core.identity import Identity
from ostiary.core.price import Price, PriceState
from ostiary.core.profile import ANY, Profile
from ostiary.core.secret import Secret

GIVEN_BY_OPERATOR = "pass_through"  # mode of a target of the operator's


class AuthStyle(StrEnum):
    """How a credential travels to the provider."""

    BEARER = "bearer"  # Authorization: Bearer …
    HEADER = "header"  # a header of the provider's own (Deployment.auth_header)
    NONE = "none"
    AWS = "aws"  # Signature Version 4 over the whole request (Deployment.identity)
    GOOGLE = "google"  # a bearer token that Google gives for a while (Deployment.identity)
    ENTRA = "entra"  # the same of Microsoft Entra


class UrlStyle(StrEnum):
    """How the path of a call is formed below the base URL."""

    OPENAI = "openai"  # {base}{endpoint path}
    AZURE = "azure"  # {base}/openai/deployments/{model}{endpoint path}?api-version=…


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds. `first_byte` runs from the request's last byte, `idle` between bytes, `total` over one attempt."""

    connect: float = 5.0
    first_byte: float = 600.0
    idle: float = 300.0
    total: float = 3600.0


class Deployment(msgspec.Struct, frozen=True):
    """One configured way to reach one model: where, with which credential, at what price.

    `upstream_model` may contain one `*`, filled with what the wildcard of `model_name` matched.
    `defaults` are top-level request fields (name, JSON bytes) used where the request has none.
    `rpm` and `tpm` weigh it against its group, as in the compatible surface; `max_parallel` is a limit.
    `dialects` are the chat formats it speaks, the preferred first; `embedding` and `rerank` name the shapes of those
    calls. `drops` and `adds` are body members that this way to a model has no place for, or always wants.
    """

    id: str
    model_name: str
    provider: str
    upstream_model: str
    scheme: str  # "https", "http", or "demo": answered in-process
    host: str
    port: int
    base_path: str  # "/v1", without trailing slash
    url_style: UrlStyle = UrlStyle.OPENAI
    api_version: str = ""
    auth: AuthStyle = AuthStyle.BEARER
    auth_header: str = "authorization"
    credential: Secret | None = None
    identity: Identity | None = None  # in place of a credential, for AuthStyle AWS, GOOGLE and ENTRA
    headers: tuple[tuple[str, str], ...] = ()  # fixed headers of the provider or of `extra_headers`
    forward_headers: tuple[str, ...] = ()  # the client's headers that may travel on, lower-case
    defaults: tuple[tuple[str, bytes], ...] = ()
    usage_in_stream: bool = True  # accepts stream_options.include_usage
    paths: tuple[tuple[str, str], ...] = ()  # endpoint name -> path, where the provider's differs
    dialects: tuple[str, ...] = ("openai_chat", "openai_completions")
    embedding: str = "openai"
    rerank: str = "cohere_v2"
    profile: Profile = ANY
    drop_params: bool | None = None  # may knobs be left out that its interface has no word for
    drops: tuple[str, ...] = ()
    adds: tuple[tuple[str, bytes], ...] = ()  # name, JSON
    proxy: str | None = None  # forward proxy URL, named by the configuration
    verify: bool = True  # verify the TLS certificate
    ca_file: str | None = None
    weight: int = 1
    order: int = 0  # lower tiers first
    rpm: int | None = None
    tpm: int | None = None
    max_parallel: int | None = None
    max_retries: int | None = None
    timeouts: Timeouts = Timeouts()
    stream_timeout: float | None = None
    price: Price | None = None
    price_state: PriceState = PriceState.UNKNOWN
    mode: str = "chat"
    pass_through: bool = False  # open below the provider's name, too
    max_output_tokens: int | None = None
    max_input_tokens: int | None = None
    access_groups: tuple[str, ...] = ()
    info: tuple[tuple[str, bytes], ...] = ()  # the rest of model_info, for /model/info
    source: str = "config"  # "config" or "db"


class PassThrough(msgspec.Struct, frozen=True):
    """A path of the operator's that leads to a target of his. `query` are parameters used where the caller has none."""

    path: str
    deployment: Deployment
    subpaths: bool = False
    methods: tuple[str, ...] = ("GET", "POST", "PUT", "PATCH", "DELETE")
    query: tuple[tuple[str, str], ...] = ()


class RoutingSettings(msgspec.Struct, frozen=True):
    """Retries, fallbacks and cooldown. Group names map to ordered tuples of group names or deployment ids."""

    num_retries: int = 2
    retry_base_seconds: float = 0.25
    retry_cap_seconds: float = 8.0
    fallbacks: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    context_window_fallbacks: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    content_policy_fallbacks: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    default_fallbacks: tuple[str, ...] = ()
    max_fallbacks: int = 5
    max_attempts: int = 8
    exchange_seconds: float = 3600.0  # deadline for the whole exchange
    allowed_fails: int = 3
    cooldown_seconds: float = 5.0
    cooldowns: bool = True
    # retries by Fault.kind, over num_retries where named
    retry_policy: Mapping[str, int] = MappingProxyType({})


class LimitSettings(msgspec.Struct, frozen=True):
    """Caps on what a request may be. Bytes, counts and seconds. `session…`, `silence…` and `max_event` are of realtime
    sessions."""

    max_body: int = 32 * 1024 * 1024
    max_answer: int = 64 * 1024 * 1024  # a non-streamed JSON answer held in memory
    max_depth: int = 64
    ping_seconds: float = 15.0  # silence after which a stream gets an SSE comment
    default_output_estimate: int = 1024  # output tokens reserved where the request names no cap
    sessions: int = 512  # open at once
    sessions_per_key: int = 32
    session_seconds: float = 3600.0
    silence_seconds: float = 30.0  # after which a side is pinged; after as many again it counts as gone
    max_event: int = 16 * 1024 * 1024


class KeepSettings(msgspec.Struct, frozen=True):
    """That responses may be kept: for so many seconds, and of so many bytes of conversation at most."""

    seconds: float
    most_bytes: int


class PolicySnapshot(msgspec.Struct, frozen=True):
    """All policy of one revision.

    `groups` maps a public name to its deployments; `patterns` are the wildcard names in order of precedence (longest
    literal part first); `aliases` map further public names to a group; `hidden` names are not listed. `native` maps a
    provider to its deployments that are open for native pass-through; those of `pass_throughs` are in `deployments`
    too, and in no group. `keep` says whether responses may be kept, None where nobody's may.
    """

    revision: int
    groups: Mapping[str, tuple[Deployment, ...]]
    patterns: tuple[tuple[str, tuple[Deployment, ...]], ...] = ()
    aliases: Mapping[str, str] = MappingProxyType({})
    hidden: frozenset[str] = frozenset()
    access_groups: Mapping[str, frozenset[str]] = MappingProxyType({})
    deployments: Mapping[str, Deployment] = MappingProxyType({})
    native: Mapping[str, tuple[Deployment, ...]] = MappingProxyType({})
    pass_throughs: tuple[PassThrough, ...] = ()
    routing: RoutingSettings = RoutingSettings()
    limits: LimitSettings = LimitSettings()
    keep: KeepSettings | None = None
    admin_digest: bytes = b""
    key_header: str = ""  # a further header that may carry the virtual key, lower-case
    settings: Mapping[str, object] = MappingProxyType({})


EMPTY = PolicySnapshot(revision=0, groups=MappingProxyType({}))
