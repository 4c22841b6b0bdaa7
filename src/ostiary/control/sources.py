"""What entries are compiled from, and how an entry fails. It must not hold a rule of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import msgspec

from ostiary.catalog.provider import Provider
from ostiary.config.shapes import Loaded
from ostiary.core.price import Price
from ostiary.core.profile import Profile


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
    @property
    def name(self) -> str: ...


class Providers(Protocol):
    """The rows of providers."""

    def find(self, prefix: str) -> Provider | None: ...
    def names(self) -> Iterable[str]: ...


class Models(Protocol):
    """The price table."""

    def find(self, provider: Provider, upstream_model: str, base_model: str | None = None) -> Facts | None: ...


class Profiles(Protocol):
    """The facts of model families."""

    def find(self, provider: Provider, upstream_model: str, max_output: int | None) -> Profile: ...


class Sources(msgspec.Struct, frozen=True):
    """What an entry is completed from."""

    loaded: Loaded
    providers: Providers
    models: Models
    profiles: Profiles


class UnusableError(Exception):
    """The entry cannot be a deployment. `grave`: a mistake, rather than something missing or not offered."""

    def __init__(self, setting: str, message: str, hint: str = "", *, grave: bool = True) -> None:
        super().__init__(message)
        self.setting = setting
        self.hint = hint
        self.grave = grave
