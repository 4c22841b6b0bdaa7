"""The typed configuration, as the rest of the house receives it. It must not show a secret in any `repr`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from ostiary.config.problem import Finding, Place, Problem, Severity
from ostiary.core.secret import Secret
from ostiary.core.snapshot import KeepSettings, LimitSettings, RoutingSettings

NOTHING: Mapping[str, object] = MappingProxyType({})


class Environment:
    """The process environment and the configuration's `environment_variables`, without a way to print them.

    Args:
        process: the variables of the process.
        declared: the configuration's own; they win, as if they had been exported.
    """

    __slots__ = ("_declared", "_process")

    def __init__(self, process: Mapping[str, str], declared: Mapping[str, str] = MappingProxyType({})) -> None:
        self._process = dict(process)
        self._declared = dict(declared)

    def get(self, name: str) -> str | None:
        """The variable's text; None when it is absent, empty or not UTF-8."""
        text = self._declared.get(name) or self._process.get(name)
        return text if text and not any("\ud800" <= char <= "\udfff" for char in text) else None

    def __repr__(self) -> str:
        return f"Environment({len(self._process)} variables, {len(self._declared)} declared)"


class ModelEntry(msgspec.Struct, frozen=True):
    """One row of `model_list`. Credentials in `params` are `Secret`; other values are plain JSON values.

    `label` is how reports call the row ("model_list[2]"); `places` maps a dotted name below it
    ("litellm_params.api_base") to its line. `missing` holds (dotted name, environment variable) for every variable
    that the row refers to and that is not set.
    """

    model_name: str
    params: Mapping[str, object] = NOTHING
    info: Mapping[str, object] = NOTHING
    label: str = ""
    place: Place = Place()
    places: Mapping[str, Place] = MappingProxyType({})
    missing: tuple[tuple[str, str], ...] = ()
    stored_id: str = ""  # the id of a row of `/model/new`; empty for a row of a file

    def __repr__(self) -> str:
        return f"ModelEntry({self.model_name!r}, {self.place})"


class CredentialEntry(msgspec.Struct, frozen=True):
    """One row of `credential_list`; its values stand in for the same names of `litellm_params`."""

    name: str
    values: Mapping[str, object] = NOTHING
    place: Place = Place()

    def __repr__(self) -> str:
        return f"CredentialEntry({self.name!r}, {self.place})"


class Alias(msgspec.Struct, frozen=True):
    """A further public name of a model group."""

    group: str
    hidden: bool = False
    place: Place = Place()


class GeneralSettings(msgspec.Struct, frozen=True):
    """Who administers, where the state lives, and which header may carry a key.

    `admin_key` is the master key of the configuration or the environment, None where neither names one.
    `data_dir` is empty where nothing names one. `keystore_url` None is a file in the data directory; `kms` names the
    key management service that holds the master key, empty where it is a file or a variable. Records older than
    `keep_seconds` are deleted, every `purge_seconds`; None keeps them for ever.
    """

    admin_key: Secret | None = None
    database_url: Secret | None = None
    keystore_url: Secret | None = None
    kms: str = ""
    redis_url: Secret | None = None
    key_header: str = ""
    data_dir: str = ""
    keep_seconds: float | None = None
    purge_seconds: float = 86_400.0
    region: str = "local"
    port: int = 4000


class EdgeSettings(msgspec.Struct, frozen=True):
    """Deadlines in seconds and caps of the HTTP edge. `allowed_hosts` empty: any single well-formed Host;
    `allowed_origins` empty: no browser's page may open a WebSocket."""

    header_seconds: float = 10.0
    body_seconds: float = 60.0
    keep_alive_seconds: float = 75.0
    max_header_bytes: int = 32768
    max_headers: int = 100
    max_connections: int = 4096
    max_connections_per_ip: int = 2048
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()


class UpstreamSettings(msgspec.Struct, frozen=True):
    """Deadlines in seconds, pool sizes and the forward proxy of calls to providers.

    `instance_metadata`: whether the metadata service of a cloud's machine is asked for credentials.
    """

    connect_seconds: float = 5.0
    first_byte_seconds: float = 600.0
    idle_seconds: float = 300.0
    total_seconds: float = 3600.0
    proxy: str | None = None
    use_environment_proxy: bool = False
    pool_per_origin: int = 1024
    idle_connection_seconds: float = 30.0
    ca_file: str | None = None
    instance_metadata: bool = False


class MetricsSettings(msgspec.Struct, frozen=True):
    """Whether `/metrics` answers, and the bearer token it asks for besides the admin key."""

    enabled: bool = False
    token: Secret | None = None


class LedgerSettings(msgspec.Struct, frozen=True):
    """Size of one journal segment and the pause between batches to the store."""

    segment_mb: int = 4
    flush_seconds: float = 1.0


class StoreSettings(msgspec.Struct, frozen=True):
    """Connections to PostgreSQL, whether their TLS must be verified, and how long known keys go on without it."""

    connections: int = 10
    grace_seconds: float = 3600.0
    strict_tls: bool = False


class NewKeys(msgspec.Struct, frozen=True):
    """Fields of new keys that a call leaves out, and the most that one may ask for."""

    defaults: Mapping[str, object] = NOTHING
    bounds: Mapping[str, object] = NOTHING


class OstiarySettings(msgspec.Struct, frozen=True):
    """The `ostiary:` block, as far as it is not part of `Loaded.routing` and `Loaded.limits`.

    `keep` says that responses may be kept.
    """

    edge: EdgeSettings = EdgeSettings()
    upstream: UpstreamSettings = UpstreamSettings()
    metrics: MetricsSettings = MetricsSettings()
    ledger: LedgerSettings = LedgerSettings()
    store: StoreSettings = StoreSettings()
    drain_seconds: float = 600.0
    demo: bool = False
    keep: KeepSettings | None = None


class ModelDefaults(msgspec.Struct, frozen=True):
    """What deployments inherit. `params` never holds a credential or an address."""

    params: Mapping[str, object] = NOTHING
    timeout: float | None = None
    stream_timeout: float | None = None
    max_parallel: int | None = None
    drop_params: bool | None = None
    verify: bool = True
    ca_file: str | None = None
    ignore_invalid: bool = True


class Loaded(msgspec.Struct, frozen=True):
    """A configuration read to the end, with everything there is to say about it.

    `routing` holds fallbacks as written; `compile_snapshot` checks them against the groups. `places` locates the
    settings that a later check may complain about, by dotted name. `files` are all files read, the main one first.
    """

    files: tuple[str, ...] = ()
    models: tuple[ModelEntry, ...] = ()
    credentials: Mapping[str, CredentialEntry] = MappingProxyType({})
    aliases: Mapping[str, Alias] = MappingProxyType({})
    defaults: ModelDefaults = ModelDefaults()
    routing: RoutingSettings = RoutingSettings()
    limits: LimitSettings = LimitSettings()
    general: GeneralSettings = GeneralSettings()
    pass_throughs: tuple[object, ...] = ()  # rows as written
    new_keys: NewKeys = NewKeys()
    ostiary: OstiarySettings = OstiarySettings()
    catalog: bytes = b""  # the file of the operator's own rows of the model table
    environment: Environment = msgspec.field(default_factory=lambda: Environment({}))
    places: Mapping[str, Place] = MappingProxyType({})
    findings: tuple[Finding, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing stops this configuration from being put in force."""
        return not any(problem.severity is Severity.ERROR for problem in self.problems)

    def __repr__(self) -> str:
        return f"Loaded({self.files}, {len(self.models)} models, {len(self.problems)} problems)"
