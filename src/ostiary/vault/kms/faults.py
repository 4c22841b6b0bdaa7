"""What can go wrong with a key service, by what helps. It must not carry anything that a service answered."""

from __future__ import annotations

from ostiary.core.fault import Fault, Kind, Origin, Retry

AGAIN_AFTER = 2.0


class KeyServiceMisnamed(Fault):
    """`OSTIARY_KMS`, or a variable that goes with it, is missing or not of the form that is asked for."""

    def __init__(self, public: str) -> None:
        super().__init__(Kind.INTERNAL, public, origin=Origin.GATEWAY)


class KeyServiceUnreachable(Fault):
    """No answer, or one that says "later": the same call may work in a while."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(
            Kind.UNAVAILABLE,
            f"the key service at {where} cannot be used now: {why}",
            origin=Origin.GATEWAY,
            retry=Retry.SAME,
            retry_after=AGAIN_AFTER,
        )


class KeyServiceRefused(Fault):
    """The service answered, and will not use the key for us until somebody changes something there."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(Kind.INTERNAL, f"the key service refuses key {key}: {why}", origin=Origin.GATEWAY)


class WrongKey(Fault):
    """This key does not open what is stored, whatever is tried."""

    def __init__(self, key: str, why: str = "") -> None:
        reason = why or "it was wrapped by another key, or for another instance or region, or it is damaged"
        super().__init__(
            Kind.INTERNAL,
            f"the stored root key cannot be opened by key {key}: {reason}; name the key that wrapped it in OSTIARY_KMS",
            origin=Origin.GATEWAY,
        )
