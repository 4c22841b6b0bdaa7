"""From a configuration file to `Loaded`. It must not raise on anything a file can contain."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec

from ostiary.config.adminkey import weakness
from ostiary.config.attached import attached
from ostiary.config.document import Document, read
from ostiary.config.models import block, credential_entries, model_entries
from ostiary.config.node import Node
from ostiary.config.problem import Finding, Place, Problem, Status, error, warning
from ostiary.config.routing import aliases, routing_settings
from ostiary.config.shapes import (
    EdgeSettings,
    Environment,
    GeneralSettings,
    LedgerSettings,
    Loaded,
    MetricsSettings,
    ModelDefaults,
    NewKeys,
    OstiarySettings,
    StoreSettings,
    UpstreamSettings,
)
from ostiary.config.survey import Survey
from ostiary.core.secret import Secret
from ostiary.core.snapshot import KeepSettings, LimitSettings

MEBIBYTE = 1024 * 1024
KEPT_BYTES, MOST_KEPT_BYTES = MEBIBYTE, 4 * MEBIBYTE
KEPT_SECONDS, MOST_KEPT_SECONDS = 86_400.0, 30 * 86_400
T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)

_REGION = re.compile(r"[a-z0-9]{2,8}\Z")
_DURATION = re.compile(r"([0-9]{1,6})(s|m|h|d|w|mo)\Z", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "mo": 2_592_000}
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,64}\Z")
_HOST = re.compile(r"[A-Za-z0-9.:\[\]-]{1,255}\Z")
_PROXY = re.compile(r"http://[A-Za-z0-9.-]+(:[0-9]{1,5})?/?\Z|http://\[[0-9a-fA-F:.]+\](:[0-9]{1,5})?/?\Z")


def load(path: str | None, environ: Mapping[str, str], *, dev: bool = False) -> Loaded:
    """Read a configuration and all it includes. Never raises: what is wrong is in `Loaded.problems`.

    Args:
        path: the main file; None for the defaults and the environment alone.
        environ: the process environment.
        dev: accept admin keys that are easy to guess.
    """
    document = Document(Node({}, Place()), (), Environment(environ), ()) if path is None else read(path, environ)
    root, environment, survey = document.root, document.environment, Survey(problems=list(document.problems))
    values = survey.block(root, "", "")
    _note_overridden(values, survey)
    router, litellm = block(values.get("router_settings")), block(values.get("litellm_settings"))
    general, own = block(values.get("general_settings")), block(values.get("ostiary"))
    edge = block(own.get("edge"))
    rows, catalog = attached(own, "catalog_file", "ostiary.catalog_file", path, survey)
    files = (*document.files, rows) if rows else document.files
    return Loaded(
        files=files,
        models=tuple(model_entries(_rows(values, "model_list"), _nodes(root, "model_list"), survey)),
        credentials=credential_entries(_rows(values, "credential_list"), _nodes(root, "credential_list"), survey),
        aliases=aliases(router, survey),
        defaults=_defaults(router, litellm),
        routing=routing_settings(router, litellm, block(own.get("routing")), survey),
        limits=_limits(general, own, edge),
        general=_general(general, root, environment, survey, dev=dev),
        pass_throughs=tuple(_rows(general, "pass_through_endpoints")),
        new_keys=NewKeys(
            block(litellm.get("default_key_generate_params")), block(litellm.get("upperbound_key_generate_params"))
        ),
        ostiary=_ostiary(own, edge, survey),
        catalog=catalog,
        environment=environment,
        places=survey.places,
        findings=tuple(survey.findings),
        problems=in_order(survey.problems, document.files),
    )


def in_order(problems: Sequence[Problem], files: Sequence[str]) -> tuple[Problem, ...]:
    """The problems as a reader meets them: file by file, line by line; those of no file come first."""
    rank = {file: index for index, file in enumerate(files, start=1)}
    return tuple(sorted(problems, key=lambda problem: (rank.get(problem.file, 0), problem.line)))


def _rows(values: Mapping[str, object], name: str) -> list[dict[str, object]]:
    rows = values.get(name)
    return rows if isinstance(rows, list) else []


def _nodes(root: Node, name: str) -> list[Node]:
    node = root.members.get(name)
    return node.items if node else []


def _note_overridden(values: Mapping[str, object], survey: Survey) -> None:
    router = block(values.get("router_settings"))
    shared = {f"litellm_settings.{name}" for name in block(values.get("litellm_settings")) if name in router}
    for index, finding in enumerate(survey.findings):
        if finding.setting in shared and finding.status is Status.USED:
            note = "router_settings has it too, and wins"
            survey.findings[index] = Finding(finding.place, finding.setting, Status.INERT, note)


def _defaults(router: Mapping[str, object], litellm: Mapping[str, object]) -> ModelDefaults:
    verify = litellm.get("ssl_verify")
    timeout = router.get("timeout", litellm.get("request_timeout"))
    return ModelDefaults(
        params=block(router.get("default_litellm_params")),
        timeout=_number(timeout),
        stream_timeout=_number(router.get("stream_timeout")),
        max_parallel=_get(router, "default_max_parallel_requests", int),
        drop_params=_get(litellm, "drop_params", bool),
        verify=verify is not False,
        ca_file=verify if isinstance(verify, str) else None,
        ignore_invalid=router.get("ignore_invalid_deployments") is not False,
    )


def _limits(general: Mapping[str, object], own: Mapping[str, object], edge: Mapping[str, object]) -> LimitSettings:
    limits = LimitSettings()
    body = _number(edge.get("max_body_mb", general.get("max_request_size_mb")))
    answer = _number(general.get("max_response_size_mb"))
    talk = block(own.get("realtime"))
    event = _number(talk.get("max_event_mb"))
    return LimitSettings(
        max_body=int(body * MEBIBYTE) if body else limits.max_body,
        max_answer=int(answer * MEBIBYTE) if answer else limits.max_answer,
        ping_seconds=_number(own.get("ping_seconds")) or limits.ping_seconds,
        default_output_estimate=_get(own, "default_output_estimate", int) or limits.default_output_estimate,
        sessions=_get(talk, "max_sessions", int) or limits.sessions,
        sessions_per_key=_get(talk, "max_sessions_per_key", int) or limits.sessions_per_key,
        session_seconds=_number(talk.get("session_seconds")) or limits.session_seconds,
        silence_seconds=_number(talk.get("silence_seconds")) or limits.silence_seconds,
        max_event=int(event * MEBIBYTE) if event else limits.max_event,
    )


def _general(
    general: Mapping[str, object], root: Node, environment: Environment, survey: Survey, *, dev: bool
) -> GeneralSettings:
    header = _get(general, "litellm_key_header_name", str) or ""
    if header and not _HEADER_NAME.match(header):
        place = survey.places["general_settings.litellm_key_header_name"]
        survey.problems.append(
            error(place, "general_settings.litellm_key_header_name", "expected the name of a header")
        )
        header = ""
    region = environment.get("OSTIARY_REGION") or GeneralSettings().region
    if not _REGION.match(region):
        survey.problems.append(error(Place(), "OSTIARY_REGION", "expected 2 to 8 lower-case letters or digits"))
        region = GeneralSettings().region
    port = environment.get("PORT") or str(GeneralSettings().port)
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        survey.problems.append(error(Place(), "PORT", "expected a number from 1 to 65535"))
        port = str(GeneralSettings().port)
    return GeneralSettings(
        admin_key=_admin_key(root, environment, survey, dev=dev),
        database_url=_get(general, "database_url", Secret) or _variable(environment, "DATABASE_URL"),
        keystore_url=_variable(environment, "OSTIARY_KEYSTORE_URL"),
        kms=environment.get("OSTIARY_KMS") or "",
        redis_url=_variable(environment, "REDIS_URL"),
        key_header=header.lower(),
        data_dir=environment.get("OSTIARY_DATA_DIR") or "",
        keep_seconds=_duration(general, "maximum_spend_logs_retention_period", survey),
        purge_seconds=_duration(general, "maximum_spend_logs_retention_interval", survey)
        or GeneralSettings().purge_seconds,
        region=region,
        port=int(port),
    )


def _duration(general: Mapping[str, object], name: str, survey: Survey) -> float | None:
    """Seconds of a duration, None where there is none."""
    text = general.get(name)
    if not isinstance(text, str) or not text:
        return None
    found = _DURATION.match(text.strip())
    if found is not None and int(found[1]):
        return float(int(found[1]) * _SECONDS[found[2]])
    setting = f"general_settings.{name}"
    survey.problems.append(error(survey.places[setting], setting, "expected a duration such as 12h, 30d, 2w or 6mo"))
    return None


def _admin_key(root: Node, environment: Environment, survey: Survey, *, dev: bool) -> Secret | None:
    """The key of the file, else of the environment. Judged as text, before it becomes a `Secret`."""
    name = "general_settings.master_key"
    node = root.members.get("general_settings", root).members.get("master_key")
    found: list[tuple[Place, str, str]] = []
    if node is not None and isinstance(node.value, str | int | float) and str(node.value).strip():
        found.append((node.place, name, str(node.value)))
    for variable in ("OSTIARY_ADMIN_KEY", "LITELLM_MASTER_KEY"):
        text = environment.get(variable)
        if text is not None:
            found.append((Place(), variable, text))
    if not found or (node is not None and node.missing):
        return None
    place, setting, key = found[0]
    for _, other, text in found[1:]:
        if text != key:
            survey.problems.append(warning(place, setting, f"{other} differs and is not used"))
    reason = weakness(key, dev=dev)
    if not reason:
        return Secret(key)
    hint = "make one with: openssl rand -hex 24, and put sk- before it"
    survey.problems.append(error(place, setting, reason, hint))
    return None


def _ostiary(own: Mapping[str, object], edge: Mapping[str, object], survey: Survey) -> OstiarySettings:
    upstream = dict(block(own.get("upstream")))
    proxy = upstream.get("proxy")
    if isinstance(proxy, str) and not _PROXY.match(proxy):
        reason = "expected http://host:port" + (", without user and password" if "@" in proxy else "")
        survey.problems.append(error(survey.places["ostiary.upstream.proxy"], "ostiary.upstream.proxy", reason))
        del upstream["proxy"]
    hosts = edge.get("allowed_hosts")
    if isinstance(hosts, tuple) and not all(_HOST.match(host) for host in hosts):
        place = survey.places["ostiary.edge.allowed_hosts"]
        survey.problems.append(error(place, "ostiary.edge.allowed_hosts", "expected host names"))
    return OstiarySettings(
        edge=_struct(EdgeSettings, edge),
        upstream=_struct(UpstreamSettings, upstream),
        metrics=_struct(MetricsSettings, block(own.get("metrics"))),
        ledger=_struct(LedgerSettings, block(own.get("ledger"))),
        store=_struct(StoreSettings, block(own.get("store"))),
        drain_seconds=_struct(OstiarySettings, {"drain_seconds": own.get("drain_seconds")}).drain_seconds,
        demo=own.get("demo") is True,
        keep=_keep(block(own.get("responses")).get("keep"), survey),
    )


def _keep(value: object, survey: Survey) -> KeepSettings | None:
    """Whether responses may be kept: not, where anything about it is wrong."""
    if not isinstance(value, dict):
        return None
    name = "ostiary.responses.keep"
    if any(problem.setting.startswith(f"{name}.") for problem in survey.problems):
        return None  # what is wrong has been said
    seconds, most_bytes = _number(value.get("seconds")) or KEPT_SECONDS, _get(value, "most_bytes", int) or KEPT_BYTES
    for setting, number, most in (("seconds", seconds, MOST_KEPT_SECONDS), ("most_bytes", most_bytes, MOST_KEPT_BYTES)):
        if number > most:
            place = survey.places[f"{name}.{setting}"]
            survey.problems.append(error(place, f"{name}.{setting}", f"expected {most} at most"))
            return None
    return KeepSettings(seconds, most_bytes)


def _struct(kind: type[S], values: Mapping[str, object]) -> S:
    """A settings struct of those values that it has fields for; the walk has typed them."""
    names = {field.name for field in msgspec.structs.fields(kind)}
    return kind(**{name: value for name, value in values.items() if name in names and value is not None})


def _variable(environment: Environment, name: str) -> Secret | None:
    text = environment.get(name)
    return Secret(text) if text else None


def _get(values: Mapping[str, object], name: str, kind: type[T]) -> T | None:
    value = values.get(name)
    return value if isinstance(value, kind) else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
