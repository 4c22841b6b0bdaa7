"""What the control plane asks of the rest of the process. It must not know who implements it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ostiary.control.compile import StoredModel
from ostiary.core.key import VirtualKey
from ostiary.core.money import Nano


class Changes(Protocol):
    """Called after a change is committed; it is in force in this process when the call returns."""

    def key_changed(self, key: VirtualKey, *, cancel_in_flight: bool = False) -> None:
        """A key is new or changed: its id may have had another digest before, which now answers no more.

        An older `revision` than one already known is to be ignored. With `cancel_in_flight`, its running requests
        are cut.
        """
        ...

    def key_removed(self, key_id: str, digest: bytes, *, cancel_in_flight: bool = False) -> None:
        """Forget this digest, and only this one: the key may still answer to another.

        It was deleted, or it is in its grace after a regeneration and is to be asked for anew.
        """
        ...


class Spending(Protocol):
    """What keys have spent, sooner than the store knows it."""

    def __call__(self, key_id: str) -> Nano | None:
        """Nanodollars spent in the key's running window, unsaved records included; None: the store knows it all."""
        ...


class Compiler(Protocol):
    """Policy made from the configuration and the stored models."""

    def __call__(self, stored: Sequence[StoredModel]) -> Callable[[], None]:
        """Compile, without putting into force.

        Returns:
            what puts the compiled policy into force; called once the rows are committed.

        Raises:
            Fault: INVALID_REQUEST, saying what is wrong with the models.
        """
        ...
