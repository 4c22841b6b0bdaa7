"""Loads the table of providers. It must not know any provider by name: what is special about one is in its stanza."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

import msgspec

from ostiary.catalog.provider import Provider


class Providers:
    """The providers by prefix: the name of a stanza or one of its aliases."""

    def __init__(self, by_name: Mapping[str, Provider]) -> None:
        by_prefix: dict[str, Provider] = {}
        for provider in by_name.values():
            for prefix in (provider.name, *provider.aliases):
                other = by_prefix.setdefault(prefix, provider)
                if other is not provider:
                    raise ValueError(f"provider {provider.name}: the prefix {prefix!r} already means {other.name}")
        self._by_name = MappingProxyType(dict(by_name))
        self._by_prefix = MappingProxyType(by_prefix)

    def find(self, prefix: str) -> Provider | None:
        """The provider that `prefix` means, as in `groq` of `groq/llama-3.3-70b-versatile`."""
        return self._by_prefix.get(prefix)

    def names(self) -> tuple[str, ...]:
        """The names of all providers, without aliases, sorted."""
        return tuple(sorted(self._by_name))

    def __iter__(self) -> Iterator[Provider]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)


def parse_providers(text: str) -> Providers:
    """Providers of a TOML document with one table per provider.

    Raises:
        ValueError: not TOML, a field unknown or of the wrong type, or a prefix taken twice; names the stanza.
    """
    by_name = {}
    for name, stanza in tomllib.loads(text).items():
        if not isinstance(stanza, dict) or "name" in stanza:
            raise ValueError(f"provider {name}: a stanza is a table, named by its heading alone")
        try:
            by_name[name] = msgspec.convert({"name": name, **stanza}, Provider)
        except msgspec.ValidationError as error:
            raise ValueError(f"provider {name}: {error}") from None
    return Providers(by_name)


@cache
def load_providers() -> Providers:
    """The providers that ship with the package."""
    return parse_providers(files("ostiary.catalog").joinpath("providers.toml").read_text(encoding="utf-8"))
