"""One model entry to its deployments, with price, limits and defaults. It must not decide which groups they form."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from ostiary.catalog.declared import declared_price
from ostiary.catalog.profiles import variant_of
from ostiary.catalog.provider import Provider, Variant
from ostiary.config.problem import Place, Status
from ostiary.config.rules import is_on
from ostiary.config.settings import find
from ostiary.config.settings_models import BODY_DEFAULTS
from ostiary.config.shapes import ModelEntry
from ostiary.control.destination import CONTROL, HEADER_VALUE, address_of, provider_of, reached, signed
from ostiary.control.identities import with_places
from ostiary.control.sources import Facts, Profiles, Sources, UnusableError
from ostiary.core.price import FREE, Price, PriceState
from ostiary.core.snapshot import Deployment, Timeouts

MAX_STARS = 4

_OTHER_NAMES = ("base_url", "aws_bedrock_runtime_endpoint")  # of api_base
# Modes of models, as the table and operators call them.
CHAT, COMPLETION, RESPONSES = "chat", "completion", "responses"
_GOVERNED = frozenset({"model", "stream"})
_NOT_SHOWN = frozenset({"id", "custom_tokenizer"})


class Built(msgspec.Struct, frozen=True):
    """A deployment and the share of traffic it states, if any."""

    deployment: Deployment
    weight: float | None


def deployments_of(entry: ModelEntry, sources: Sources) -> list[Built]:
    """The deployments of an entry, one per organisation it names.

    Raises:
        UnusableError: it cannot be one.
    """
    if entry.missing:
        names = ", ".join(dict.fromkeys(variable for _, variable in entry.missing))
        raise UnusableError(entry.missing[0][0], f"environment variable {names} is not set", grave=False)
    _refuse_what_is_refused(entry)
    _refuse_other_environment(entry, sources)
    params = _completed(entry, sources)
    provider, upstream_model = provider_of(params, sources)
    params = with_places(params, provider, sources)
    address, style, own = address_of(params, provider, sources)
    if address.model and address.model != upstream_model:
        raise UnusableError("litellm_params.api_base", "names another deployment than model does")
    _check_stars(entry.model_name, upstream_model)
    plain = _deployment(entry, params, provider, upstream_model, sources)
    plain = reached(plain, address, style, provider, params, sources)
    plain = signed(plain, entry, params, provider, sources, own=own)
    weight = params.get("weight")
    organizations = params.get("organization")
    built: list[Built] = []
    for organization in organizations if isinstance(organizations, tuple) and organizations else ("",):
        deployment = _of_organization(plain, entry, organization, len(built))
        built.append(Built(deployment, float(weight) if isinstance(weight, int | float) else None))
    return built


def _refuse_what_is_refused(entry: ModelEntry) -> None:
    for block, name in (("litellm_params", entry.params), ("model_info", entry.info)):
        for member, value in name.items():
            setting = find(f"model_list[].{block}", member)
            if setting is not None and setting.status is Status.REFUSED and is_on(value):
                raise UnusableError(f"{block}.{member}", setting.meaning, grave=False)


def _refuse_other_environment(entry: ModelEntry, sources: Sources) -> None:
    allowed = entry.info.get("supported_environments")
    if isinstance(allowed, tuple) and allowed:
        current = sources.loaded.environment.get("LITELLM_ENVIRONMENT")
        if current not in allowed:
            raise UnusableError("model_info.supported_environments", "does not name this environment", grave=False)


def _completed(entry: ModelEntry, sources: Sources) -> dict[str, object]:
    """The entry's parameters over those of its credential over the defaults of all."""
    written = dict(entry.params)
    _address_by_its_other_names(written)
    name = written.get("litellm_credential_name")
    values: dict[str, object] = {}
    if name is not None:
        credential = sources.loaded.credentials.get(str(name))
        if credential is None:
            raise UnusableError("litellm_params.litellm_credential_name", "names no row of credential_list")
        values = dict(credential.values)
        _address_by_its_other_names(values)
        mine, its = written.get("api_base"), values.get("api_base")
        if mine is not None and mine != its and (its is not None or entry.stored_id):
            raise UnusableError("litellm_params.api_base", "is not the address that its credential belongs to")
    return {**sources.loaded.defaults.params, **values, **written}


def _address_by_its_other_names(params: dict[str, object]) -> None:
    for other in _OTHER_NAMES:
        if other in params:
            params.setdefault("api_base", params[other])


def _check_stars(public: str, upstream: str) -> None:
    stars, filled = public.count("*"), upstream.count("*")
    if stars > MAX_STARS or "**" in public:
        raise UnusableError("model_name", f"holds more than {MAX_STARS} wildcards, or two in a row")
    if filled and filled != stars:
        raise UnusableError("litellm_params.model", "holds not as many wildcards as model_name does")


def _deployment(
    entry: ModelEntry, params: Mapping[str, object], provider: Provider, upstream_model: str, sources: Sources
) -> Deployment:
    """What does not depend on the address: limits, price, defaults."""
    info, defaults = entry.info, sources.loaded.defaults
    base_model = info.get("base_model")
    base_model = base_model if isinstance(base_model, str) and base_model else None
    known = base_model or "*" not in upstream_model
    facts = sources.models.find(provider, upstream_model, base_model) if known else None
    price, state = _price({**info, **params}, facts)
    longest = _whole(info, "max_output_tokens", "max_tokens") or (facts.max_output_tokens if facts else None)
    plain = Deployment(
        id="",
        model_name=entry.model_name,
        provider=provider.name,
        upstream_model=upstream_model,
        scheme="https",
        host="",
        port=443,
        base_path="",
        defaults=_defaults(params),
        usage_in_stream=provider.usage_in_stream,
        pass_through=params.get("use_in_pass_through") is True,
        drop_params=_flag(params.get("drop_params"), sources.loaded.defaults.drop_params),
        order=_whole(params, "order") or 0,
        rpm=_whole(params, "rpm"),
        tpm=_whole(params, "tpm"),
        max_parallel=_whole(params, "max_parallel_requests") or defaults.max_parallel,
        max_retries=_whole(params, "max_retries", "num_retries"),
        timeouts=_timeouts(params, sources),
        stream_timeout=_seconds(params.get("stream_timeout")) or defaults.stream_timeout,
        price=price,
        price_state=state,
        mode=str(info.get("mode") or (facts.mode if facts else "chat")),
        max_output_tokens=longest,
        max_input_tokens=_whole(info, "max_input_tokens") or (facts.max_input_tokens if facts else None),
        access_groups=_names(info.get("access_groups")),
        info=tuple(
            (name, _json(value, f"model_info.{name}")) for name, value in info.items() if name not in _NOT_SHOWN
        ),
        source="db" if entry.stored_id else "config",
    )
    return as_reached(plain, provider, sources.profiles, known=facts is not None)


def as_reached(plain: Deployment, provider: Provider, profiles: Profiles, *, known: bool) -> Deployment:
    """With how its model is spoken to at its provider, and what is known of the model's family.

    Args:
        known: the model table has the model, so that its mode is a fact.
    """
    variant = variant_of(provider, plain.upstream_model) or Variant(match=())
    dialects = variant.dialects or provider.dialects
    if plain.mode == RESPONSES and "openai_chat" in dialects:
        dialects = ("openai_responses",)
    elif plain.mode == COMPLETION and "completions" in provider.endpoints:
        dialects = ("openai_completions",)
    elif "completions" in provider.endpoints and not (known and plain.mode == CHAT):
        dialects = (*dialects, "openai_completions")
    return msgspec.structs.replace(
        plain,
        paths=tuple({**provider.paths, **variant.paths}.items()),
        dialects=dialects,
        embedding=variant.embedding or provider.embedding,
        rerank=variant.rerank or provider.rerank,
        profile=profiles.find(provider, plain.upstream_model, plain.max_output_tokens),
        drops=variant.drops,
        adds=tuple((name, msgspec.json.encode(value)) for name, value in variant.adds.items()),
    )


def _price(declared: Mapping[str, object], facts: Facts | None) -> tuple[Price | None, PriceState]:
    try:
        price = declared_price(declared)
    except ValueError as failure:
        field, _, reason = str(failure).partition(": ")
        raise UnusableError(f"litellm_params.{field}", reason) from None
    if price is not None:
        return price, PriceState.FREE if price == FREE else PriceState.DECLARED
    if facts is not None and facts.price is not None:
        return facts.price, PriceState.LISTED
    return None, PriceState.UNKNOWN


def _defaults(params: Mapping[str, object]) -> tuple[tuple[str, bytes], ...]:
    extra = params.get("extra_body")
    fields = dict(extra) if isinstance(extra, dict) else {}
    if not _GOVERNED.isdisjoint(fields):
        raise UnusableError("litellm_params.extra_body", "may not hold model or stream")
    fields.update((name, params[name]) for name in BODY_DEFAULTS if name in params)
    return tuple((name, _json(value, f"litellm_params.{name}")) for name, value in fields.items())


def _json(value: object, setting: str) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError, msgspec.EncodeError):
        raise UnusableError(setting, "cannot be written as JSON") from None


def _timeouts(params: Mapping[str, object], sources: Sources) -> Timeouts:
    upstream = sources.loaded.ostiary.upstream
    timeout = _seconds(params.get("timeout")) or sources.loaded.defaults.timeout
    first_byte = timeout or upstream.first_byte_seconds
    return Timeouts(
        connect=min(upstream.connect_seconds, first_byte),
        first_byte=first_byte,
        idle=min(upstream.idle_seconds, first_byte) if timeout else upstream.idle_seconds,
        total=max(upstream.total_seconds, first_byte),
    )


def _of_organization(plain: Deployment, entry: ModelEntry, organization: str, index: int) -> Deployment:
    headers = plain.headers
    if organization:
        if not HEADER_VALUE.match(organization):
            raise UnusableError("litellm_params.organization", "holds a character that no header can carry")
        headers = (*headers, ("openai-organization", organization))
    stated = entry.stored_id or entry.info.get("id")
    if not isinstance(stated, str) or not stated:
        stated = stable_id(plain, organization)
    elif len(stated) > 128 or not stated.isprintable() or CONTROL.search(stated) or not stated.isascii():
        raise UnusableError("model_info.id", "expected up to 128 printable ASCII characters without blanks")
    elif index:
        stated = f"{stated}-{index + 1}"
    return msgspec.structs.replace(plain, id=stated, headers=headers)


def stable_id(deployment: Deployment, organization: str) -> str:
    """An id that stays the same while the deployment is the same place: no secret and no tuning goes into it."""
    parts = (
        deployment.model_name, deployment.provider, deployment.upstream_model, deployment.scheme, deployment.host,
        str(deployment.port), deployment.base_path, deployment.api_version, organization,
    )  # fmt: skip
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def place_of(entry: ModelEntry, setting: str) -> Place:
    """The line of a setting of the entry, or of what encloses it."""
    while setting and setting not in entry.places:
        setting = setting.rpartition(".")[0]
    return entry.places.get(setting, entry.place)


def _whole(values: Mapping[str, object], *names: str) -> int | None:
    """The first of the named values that is there."""
    for name in names:
        value = values.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None


def _flag(value: object, default: bool | None) -> bool | None:
    return value if isinstance(value, bool) else default


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _names(value: object) -> tuple[str, ...]:
    return tuple(str(name) for name in value) if isinstance(value, tuple) else ()
