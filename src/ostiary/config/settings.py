"""The registry of all known settings. It must not claim `used` for a setting that nothing is made of."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from ostiary.config.setting import Setting
from ostiary.config.settings_general import BLOCK_SETTINGS, GENERAL_SETTINGS
from ostiary.config.settings_litellm import LITELLM_SETTINGS
from ostiary.config.settings_models import MODEL_SETTINGS
from ostiary.config.settings_ostiary import OSTIARY_SETTINGS
from ostiary.config.settings_router import ROUTER_SETTINGS

PARAMS = "model_list[].litellm_params"
DEFAULT_PARAMS = "router_settings.default_litellm_params"  # the same names, but for those it refuses

SETTINGS: tuple[Setting, ...] = (
    *MODEL_SETTINGS,
    *ROUTER_SETTINGS,
    *LITELLM_SETTINGS,
    *GENERAL_SETTINGS,
    *BLOCK_SETTINGS,
    *OSTIARY_SETTINGS,
)


@cache
def by_path() -> Mapping[str, Setting]:
    """The rows by path.

    Raises:
        ValueError: a path is listed twice.
    """
    rows: dict[str, Setting] = {}
    for setting in SETTINGS:
        if setting.path in rows:
            raise ValueError(f"{setting.path} is listed twice")
        rows[setting.path] = setting
    return MappingProxyType(rows)


@cache
def _members() -> Mapping[str, tuple[str, ...]]:
    """The known names of every block, by the block's path."""
    names: dict[str, list[str]] = {}
    for path in by_path():
        block, _, name = path.rpartition(".")
        if name != "*":
            names.setdefault(block, []).append(name)
    return MappingProxyType({block: tuple(members) for block, members in names.items()})


def find(block: str, name: str) -> Setting | None:
    """The row of `name` in a block: its own, or the block's row for any name."""
    rows = by_path()
    path = f"{block}.{name}" if block else name
    row = rows.get(path) or rows.get(f"{block}.*")
    if row is None and block == DEFAULT_PARAMS:
        return rows.get(f"{PARAMS}.{name}")
    return row


def nearest(block: str, name: str, cutoff: float = 0.6) -> str:
    """The known name of the block that `name` was probably meant to be; empty when none is near.

    A name that is known in another block gives that block's name with it.
    """
    if block == DEFAULT_PARAMS:
        block = PARAMS
    close = difflib.get_close_matches(name[:80], _members().get(block, ()), n=1, cutoff=cutoff)
    if close:
        return close[0]
    if block in ("router_settings", "litellm_settings", "general_settings", "ostiary", ""):
        for other in ("router_settings", "litellm_settings", "general_settings", "ostiary"):
            if other != block and name in _members()[other]:
                return f"{other}.{name}"
    return ""
