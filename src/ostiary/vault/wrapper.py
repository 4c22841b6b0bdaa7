"""What holds the master key: the port, and the one for a key of our own. It must not keep the root it wraps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ostiary.vault.derive import derived
from ostiary.vault.envelope import KEY_ID_LENGTH, KEY_LENGTH, Context, DataKey
from ostiary.vault.master import MasterKey
from ostiary.vault.purpose import Wrap
from ostiary.vault.scope import INSTANCE

LOCAL = "local"


class RootSeal(Protocol):
    """Wraps and unwraps the instance root key.

    Attributes:
        kind: `local`, or the name of a kind of key service.
        id: which key; shown to operators, no secret.
    """

    @property
    def kind(self) -> str: ...

    @property
    def id(self) -> str: ...

    async def wrap(self, root: bytes, context: Mapping[str, str]) -> bytes:
        """The root, wrapped and bound to the context (`instance`, `region`, `slot`)."""
        ...

    async def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """The root.

        Raises:
            Fault: INTERNAL for another key, another context or damage; UNAVAILABLE when a key service cannot be asked.
        """
        ...


class LocalSeal:
    """The wrapper of a master key that came from a file or the environment."""

    kind = LOCAL

    def __init__(self, master: MasterKey) -> None:
        self._master = master
        self.id = master.id
        self.source = master.source

    async def wrap(self, root: bytes, context: Mapping[str, str]) -> bytes:
        """See `RootSeal`."""
        return self._key(context).seal(root, _where(context))

    async def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """See `RootSeal`."""
        return self._key(context).open(wrapped, _where(context))

    def _key(self, context: Mapping[str, str]) -> DataKey:
        key = derived(self._master.material, context["instance"], Wrap.MASTER, KEY_LENGTH)
        key_id = derived(self._master.material, context["instance"], f"{Wrap.MASTER}/id", KEY_ID_LENGTH)
        return DataKey(key, key_id, (context["instance"], context["region"], INSTANCE))

    def __repr__(self) -> str:
        return f"LocalSeal({self.id})"


def _where(context: Mapping[str, str]) -> Context:
    return Context(table="keystore", column="root", row=context["slot"], revision=1)
