"""What a model accepts, from the table of model families. It must not know a provider by name.

A family is found by the name of the upstream model alone, because the same model is served by many. The first pattern
that matches counts; a provider's own facts stand above the family's.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files

import msgspec

from ostiary.catalog.provider import Provider, Variant
from ostiary.core.profile import Profile


class Family(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row of `profiles.toml`: patterns of model names, and the facts (fields of `Profile`) of those models."""

    match: tuple[str, ...]
    facts: dict[str, bool | str | int]


class Profiles:
    """The families in the order of the table."""

    def __init__(self, families: tuple[Family, ...]) -> None:
        self.families = families

    def find(self, provider: Provider, upstream_model: str, max_output: int | None) -> Profile:
        """The facts of one model of one provider.

        Args:
            max_output: the longest answer in tokens as the model table or the operator states it.
        """
        name = upstream_model.lower()
        family = next((row for row in self.families if _any(row.match, name)), None)
        facts: Mapping[str, object] = {**(family.facts if family else {}), **provider.facts}
        return msgspec.convert({"max_output": max_output, "stream_usage": provider.usage_in_stream, **facts}, Profile)


def variant_of(provider: Provider, upstream_model: str) -> Variant | None:
    """The variant of the provider's that a model is; None for the usual way."""
    name = upstream_model.lower()
    return next((variant for variant in provider.variants if _any(variant.match, name)), None)


def _any(patterns: tuple[str, ...], name: str) -> bool:
    return any(fnmatchcase(name, pattern.lower()) for pattern in patterns)


def parse_profiles(text: str) -> Profiles:
    """Families of a TOML document: an array of tables `family`.

    Raises:
        ValueError: not TOML, or a row that is none; names the row.
    """
    families = []
    for number, row in enumerate(tomllib.loads(text).get("family", []), 1):
        try:
            families.append(msgspec.convert(row, Family))
            msgspec.convert(families[-1].facts, Profile)
        except msgspec.ValidationError as error:
            raise ValueError(f"family {number}: {error}") from None
    return Profiles(tuple(families))


@cache
def load_profiles() -> Profiles:
    """The families that ship with the package."""
    return parse_profiles(files("ostiary.catalog").joinpath("profiles.toml").read_text(encoding="utf-8"))
