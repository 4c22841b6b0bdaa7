"""Configuration and stored rows to a `PolicySnapshot`. It must not read files, the environment or a clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from ostiary.catalog.models import Models
from ostiary.catalog.profiles import load_profiles
from ostiary.config.models import stored_entry
from ostiary.config.problem import Problem, Severity
from ostiary.config.shapes import Loaded, ModelEntry
from ostiary.control.deployments import Built, deployments_of, place_of
from ostiary.control.groups import checked_routing, grouped, with_aliases
from ostiary.control.ownrows import with_own_rows
from ostiary.control.passthroughs import pass_throughs
from ostiary.control.sources import Providers, Sources, UnusableError
from ostiary.core.price import FREE, PriceState
from ostiary.core.snapshot import AuthStyle, Deployment, PolicySnapshot

DEMO = "demo"


class StoredModel(msgspec.Struct, frozen=True):
    """A row of `/model/new`. Credentials in `litellm_params` arrive opened, as `Secret` or text."""

    id: str
    model_name: str
    litellm_params: Mapping[str, object]
    model_info: Mapping[str, object]

    def __repr__(self) -> str:
        return f"StoredModel({self.id!r}, {self.model_name!r})"


class Compiled(msgspec.Struct, frozen=True):
    """A snapshot and what there is to say about it; not to be put in force unless `ok`."""

    snapshot: PolicySnapshot
    problems: tuple[Problem, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the snapshot may be put in force."""
        return not any(problem.severity is Severity.ERROR for problem in self.problems)


def compile_snapshot(
    loaded: Loaded,
    stored: Sequence[StoredModel],
    providers: Providers,
    models: Models,
    *,
    revision: int,
    admin_digest: bytes,
    demo: bool = False,
) -> Compiled:
    """The policy of one revision. Pure: equal arguments give equal snapshots.

    Args:
        loaded: the configuration; its own problems are not repeated.
        stored: rows of the store, whose mistakes are warnings: they must not keep the gateway from starting.
        providers, models: the tables that ship with the package; own rows of the configuration win over the latter.
        revision: the number of this policy.
        admin_digest: the keyed digest of the admin key.
        demo: offer the built-in model although others are configured.
    """
    table, of_rows = with_own_rows(models, loaded)
    sources = Sources(loaded, providers, table, load_profiles())
    problems: list[Problem] = []
    built = _Rows(problems, loaded.defaults.ignore_invalid)
    for entry in loaded.models:
        built.add(entry, sources)
    for row in stored:
        _add_stored(row, sources, built)
    if demo or loaded.ostiary.demo or not (loaded.models or stored):
        built.add_demo()
    names = grouped(built.rows)
    names, hidden, found = with_aliases(names, loaded)
    routing, more = checked_routing(names, loaded)
    given, remarks = pass_throughs(loaded)
    snapshot = PolicySnapshot(
        revision=revision,
        groups=names.groups,
        patterns=names.patterns,
        aliases=names.aliases,
        hidden=hidden,
        access_groups=_access_groups(names.deployments.values()),
        deployments={**names.deployments, **{each.deployment.id: each.deployment for each in given}},
        native=_native(names.deployments.values()),
        pass_throughs=given,
        routing=routing,
        limits=loaded.limits,
        keep=loaded.ostiary.keep,
        admin_digest=admin_digest,
        key_header=loaded.general.key_header,
    )
    return Compiled(snapshot, (*of_rows, *problems, *found, *more, *remarks))


def demo_deployment() -> Deployment:
    """The built-in model: answered in this process, by nobody else, for nothing."""
    return Deployment(
        id=DEMO,
        model_name=DEMO,
        provider=DEMO,
        upstream_model=DEMO,
        scheme=DEMO,
        host="",
        port=0,
        base_path="",
        auth=AuthStyle.NONE,
        price=FREE,
        price_state=PriceState.FREE,
    )


class _Rows:
    """The deployments so far, each id once."""

    def __init__(self, problems: list[Problem], ignore_invalid: bool) -> None:
        self.rows: list[Built] = []
        self.problems = problems
        self._ignore_invalid = ignore_invalid
        self._ids: set[str] = set()

    def add(self, entry: ModelEntry, sources: Sources) -> None:
        """The entry's deployments, or the problem that leaves it out."""
        try:
            for row in deployments_of(entry, sources):
                self._append(row, entry)
        except UnusableError as failure:
            self._leave_out(entry, failure)

    def add_demo(self) -> None:
        """The built-in model, unless its name is taken."""
        if not any(DEMO in (row.deployment.model_name, row.deployment.id) for row in self.rows):
            self.rows.append(Built(demo_deployment(), None))

    def _append(self, row: Built, entry: ModelEntry) -> None:
        deployment = row.deployment
        if deployment.id in self._ids:
            if entry.stored_id or "id" in entry.info:
                raise UnusableError("model_info.id", "is taken by another deployment")
            count = 2
            while f"{deployment.id}-{count}" in self._ids:
                count += 1
            deployment = msgspec.structs.replace(deployment, id=f"{deployment.id}-{count}")
        self._ids.add(deployment.id)
        self.rows.append(Built(deployment, row.weight))

    def _leave_out(self, entry: ModelEntry, failure: UnusableError) -> None:
        fatal = not entry.stored_id and (failure.grave or not self._ignore_invalid)
        severity = Severity.ERROR if fatal else Severity.WARNING
        place = place_of(entry, failure.setting)
        setting = f"{entry.label}.{failure.setting}" if failure.setting else entry.label
        message = str(failure) if fatal else f"{str(failure).rstrip('.')}; the deployment is left out"
        self.problems.append(Problem(severity, place.file, place.line, setting, message, failure.hint))


def _add_stored(row: StoredModel, sources: Sources, built: _Rows) -> None:
    entry, problems = stored_entry(row.id, row.model_name, row.litellm_params, row.model_info)
    if entry is not None:
        built.add(entry, sources)
        return
    for problem in problems:
        if problem.severity is Severity.ERROR:
            message = f"{problem.message}; the deployment is left out"
            built.problems.append(msgspec.structs.replace(problem, severity=Severity.WARNING, message=message))


def _native(deployments: Iterable[Deployment]) -> dict[str, tuple[Deployment, ...]]:
    """The deployments of every provider that are open below its name."""
    found: dict[str, list[Deployment]] = {}
    for deployment in deployments:
        if deployment.pass_through:
            found.setdefault(deployment.provider, []).append(deployment)
    return {provider: tuple(rows) for provider, rows in found.items()}


def _access_groups(deployments: Iterable[Deployment]) -> dict[str, frozenset[str]]:
    """The model names of every access group."""
    members: dict[str, set[str]] = {}
    for deployment in deployments:
        for group in deployment.access_groups:
            members.setdefault(group, set()).add(deployment.model_name)
    return {group: frozenset(names) for group, names in members.items()}
