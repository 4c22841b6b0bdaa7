"""A bounded memory of what was used of late. It must not grow beyond what it was made for."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """A mapping that lets go of what has not been used for longest, half of it at a time.

    Two generations: what is looked up moves into the younger one, and when that has its half, the older one goes. That
    costs a lookup less than keeping an order would. None is no value.

    Args:
        most: entries at most.
    """

    __slots__ = ("_half", "_old", "_young")

    def __init__(self, most: int) -> None:
        self._half = max(most // 2, 1)
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, key: K) -> V | None:
        """What is remembered under this key."""
        found = self._young.get(key)
        if found is None and self._old:
            found = self._old.pop(key, None)
            if found is not None:
                self.put(key, found)
        return found

    def put(self, key: K, value: V) -> None:
        """Remember."""
        self._old.pop(key, None)
        if key not in self._young and len(self._young) >= self._half:
            self._old, self._young = self._young, {}
        self._young[key] = value

    def drop(self, key: K) -> None:
        """Forget one."""
        self._young.pop(key, None)
        self._old.pop(key, None)

    def drop_values(self, values: Collection[V]) -> None:
        """Forget every key that leads to one of these values."""
        self._young = {key: value for key, value in self._young.items() if value not in values}
        self._old = {key: value for key, value in self._old.items() if value not in values}
