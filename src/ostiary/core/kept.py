"""A response that is kept for its owner. It must not be logged, compared or shown: it holds what people wrote."""

from __future__ import annotations

import msgspec


class KeptResponse(msgspec.Struct, frozen=True, kw_only=True):
    """One response. Times are Unix seconds.

    `org_id` is empty for whoever has no organisation of his own. `owner` tells whose it is within it; `id` is what the
    caller knows it by. `body` is the JSON text of what is kept (`gateway.conversations.Kept`).
    """

    org_id: str
    owner: str
    id: str
    created: float
    expires: float
    body: bytes

    def __repr__(self) -> str:
        return f"KeptResponse({len(self.body)} bytes)"
