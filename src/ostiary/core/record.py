"""The record of one request: what was asked of whom, what it used and cost, and how it ended. No content, ever."""

from __future__ import annotations

from enum import IntFlag, StrEnum

import msgspec

from ostiary.core.money import Nano
from ostiary.core.price import PriceState
from ostiary.core.usage import NOTHING, Usage


class Outcome(StrEnum):
    """How a request ended. `OPEN` is the state from admission until it is settled, once."""

    OPEN = "open"
    COMPLETED = "completed"
    TRUNCATED = "truncated"  # the upstream broke off after the answer had begun
    CLIENT_GONE = "client_gone"
    BLOCKED = "blocked"  # refused by policy: limits, budget, model access, a guard
    FAILED = "failed"


class Lost(IntFlag):
    """What of a request or its answer could not be said in another dialect and was left out. Stored as a number:
    flags may only be added."""

    TEMPERATURE = 1
    TOP_P = 2
    TOP_K = 4
    PENALTIES = 8
    SEED = 16
    THINKING = 32
    LOGPROBS = 64
    USER = 128
    METADATA = 256
    TIER = 512
    STORE = 1024
    OTHER_KNOB = 2048
    UNKNOWN = 4096  # a member only one dialect understands
    SEAL = 8192  # a proof that only its issuer can read
    SHAPE = 16384  # order or division of parts
    MARK = 32768  # a mark on content, such as where to cache


class Record(msgspec.Struct, array_like=True, gc=False):
    """One row of the ledger. Array-encoded in the journal: fields may only be appended, with defaults.

    Times are Unix milliseconds. `cost` is in nanodollars. `measured` is False where usage is an estimate.
    Not tracked by the collector of cycles: it can be part of none, and thousands wait for the store under load.
    `metadata` keys of callers are not here; `tags` are, at most 16 of at most 64 characters each.
    """

    id: str
    started: int
    endpoint: str  # Endpoint.name
    key_id: str = ""  # id of the virtual key; "admin" for the administrator's key
    team_id: str = ""
    user_id: str = ""
    organization_id: str = ""
    end_user: str = ""
    model: str = ""  # the public name asked for
    deployment: str = ""
    provider: str = ""
    upstream_model: str = ""
    stream: bool = False
    outcome: Outcome = Outcome.OPEN
    status: int = 0
    fault: str = ""  # Fault.kind of the failure, if any
    attempts: int = 0
    fallbacks: int = 0
    first_byte: int = 0  # when the first byte went to the client
    ended: int = 0
    usage: Usage = NOTHING
    measured: bool = False
    cost: Nano = 0
    price: PriceState = PriceState.UNKNOWN
    tags: tuple[str, ...] = ()
    upstream_ms: int = 0  # time spent waiting for upstreams until the answer was complete
    losses: int = 0  # flags of Lost
