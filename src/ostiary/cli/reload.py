"""What a reload cannot do: settings that are read once, and a configuration of nothing. It must not change anything."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

from ostiary.config.problem import Problem, Severity
from ostiary.config.shapes import Loaded
from ostiary.core.fault import Fault, Kind, Origin
from ostiary.core.snapshot import PolicySnapshot

# Members of settings structs that `bootstrap` reads, by the name of their block; the others are read anew.
_ONCE: dict[str, tuple[str, ...]] = {
    "ostiary.upstream": ("pool_per_origin", "idle_connection_seconds"),
    "ostiary.ledger": ("segment_mb", "flush_seconds"),
}


def refuse_errors(problems: Iterable[Problem]) -> None:
    """Stop at configuration problems that are errors.

    Raises:
        Fault: INVALID_REQUEST with a line for each.
    """
    errors = [str(problem) for problem in problems if problem.severity is Severity.ERROR]
    if errors:
        raise _refusal("\n".join(errors))


def refuse_nothing(before: PolicySnapshot, after: PolicySnapshot, stored: Collection[str]) -> None:
    """Stop at a configuration that takes every configured deployment away: its file is probably not whole yet.

    Args:
        stored: ids of the deployments that come from the store.

    Raises:
        Fault: INVALID_REQUEST.
    """
    if _configured(before, stored) and not _configured(after, stored):
        raise _refusal("the configuration names no deployment, and the running one does; restart to serve none")


def _configured(snapshot: PolicySnapshot, stored: Collection[str]) -> bool:
    return any(one.scheme != "demo" and one.id not in stored for one in snapshot.deployments.values())


def needs_restart(began: Loaded, now: Loaded) -> list[str]:
    """Names of the settings that are not as they were at the start, and have their effect only there."""
    changed = [
        f"ostiary.edge.{name}"
        for name in began.ostiary.edge.__struct_fields__
        if getattr(began.ostiary.edge, name) != getattr(now.ostiary.edge, name)
    ]
    blocks: dict[str, tuple[msgspec.Struct, msgspec.Struct]] = {
        "ostiary.upstream": (began.ostiary.upstream, now.ostiary.upstream),
        "ostiary.ledger": (began.ostiary.ledger, now.ostiary.ledger),
    }
    for block, (old, new) in blocks.items():
        changed += [f"{block}.{name}" for name in _ONCE[block] if getattr(old, name) != getattr(new, name)]
    old_general, new_general = began.general, now.general
    pairs: dict[str, tuple[object, object]] = {
        "ostiary.drain_seconds": (began.ostiary.drain_seconds, now.ostiary.drain_seconds),
        "general_settings.litellm_key_header_name": (old_general.key_header, new_general.key_header),
        "general_settings.database_url": (old_general.database_url, new_general.database_url),
        "PORT": (old_general.port, new_general.port),
        "OSTIARY_DATA_DIR": (old_general.data_dir, new_general.data_dir),
        "OSTIARY_REGION": (old_general.region, new_general.region),
    }
    changed += [name for name, (old_value, new_value) in pairs.items() if old_value != new_value]
    if old_general.admin_key is not None and new_general.admin_key is None:
        changed.append("general_settings.master_key")  # without one, the start looks for the key it made
    return changed


def _refusal(public: str) -> Fault:
    return Fault(Kind.INVALID_REQUEST, public, origin=Origin.GATEWAY)
