"""Configuration and stored rows to a `PolicySnapshot`. It must not read files, the environment or a clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from ostiary.catalog.provider import Provider
from ostiary.config.problem import Problem, Severity
from ostiary.config.shapes import Loaded
from ostiary.core.price import Price
from ostiary.core.snapshot import PolicySnapshot


class StoredModel(msgspec.Struct, frozen=True):
    """A row of `/model/new`. Credentials in `litellm_params` arrive opened, as `Secret` or text."""

    id: str
    model_name: str
    litellm_params: Mapping[str, object]
    model_info: Mapping[str, object]

    def __repr__(self) -> str:
        return f"StoredModel({self.id!r}, {self.model_name!r})"


class Facts(Protocol):
    """What the price table knows of a model."""

    @property
    def price(self) -> Price | None: ...
    @property
    def mode(self) -> str: ...
    @property
    def max_input_tokens(self) -> int | None: ...
    @property
    def max_output_tokens(self) -> int | None: ...


class Providers(Protocol):
    """The rows of providers, by prefix."""

    def find(self, prefix: str) -> Provider | None: ...


class Models(Protocol):
    """The price table."""

    def find(self, provider: Provider, upstream_model: str, base_model: str | None = None) -> Facts | None: ...


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
    """The policy of one revision."""
    return Compiled(PolicySnapshot(revision=revision, groups={}, admin_digest=admin_digest))
