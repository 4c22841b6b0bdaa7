"""The one failure type: what went wrong, whose fault it is, and whether trying again can help.

It must not carry content: `public` is written by us and is safe to show to the caller and to log.
"""

from __future__ import annotations

from enum import StrEnum


class Origin(StrEnum):
    """Who caused the failure. A client that hangs up is an outcome, not an error of ours."""

    CLIENT = "client"
    POLICY = "policy"
    GATEWAY = "gateway"
    UPSTREAM = "upstream"


class Retry(StrEnum):
    """What may help. `SAME`: this target or another; `NEXT`: another target only; `NEVER`: nothing will."""

    NEVER = "never"
    SAME = "same"
    NEXT = "next"


class Kind(StrEnum):
    """What happened. Each kind has a default status and wire `type` in `FAULTS`."""

    MALFORMED = "malformed"
    INVALID_REQUEST = "invalid_request"
    TOO_LARGE = "too_large"
    UNSUPPORTED_MEDIA = "unsupported_media"
    UNAUTHENTICATED = "unauthenticated"
    EXPIRED_KEY = "expired_key"
    BLOCKED_KEY = "blocked_key"
    MODEL_DENIED = "model_denied"
    ROUTE_DENIED = "route_denied"
    UNKNOWN_MODEL = "unknown_model"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    BUDGET_EXCEEDED = "budget_exceeded"
    UNKNOWN_PRICE = "unknown_price"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    NO_DEPLOYMENT = "no_deployment"
    UNAVAILABLE = "unavailable"
    STOPPING = "stopping"
    INTERNAL = "internal"
    CLIENT_TIMEOUT = "client_timeout"
    # what an upstream did
    CONNECT = "connect"
    TIMEOUT = "timeout"
    TRUNCATED = "truncated"
    BAD_ANSWER = "bad_answer"
    UPSTREAM_REJECTED = "upstream_rejected"
    UPSTREAM_AUTH = "upstream_auth"
    UPSTREAM_RATE_LIMIT = "upstream_rate_limit"
    UPSTREAM_ERROR = "upstream_error"
    CONTEXT_WINDOW = "context_window"
    CONTENT_POLICY = "content_policy"


# kind -> (HTTP status, `error.type` of the OpenAI envelope). Types as listed in the compatible surface.
FAULTS: dict[Kind, tuple[int, str]] = {
    Kind.MALFORMED: (400, "bad_request_error"),
    Kind.INVALID_REQUEST: (400, "bad_request_error"),
    Kind.TOO_LARGE: (413, "bad_request_error"),
    Kind.UNSUPPORTED_MEDIA: (415, "bad_request_error"),
    Kind.UNAUTHENTICATED: (401, "auth_error"),
    Kind.EXPIRED_KEY: (401, "expired_key"),
    Kind.BLOCKED_KEY: (401, "auth_error"),
    Kind.MODEL_DENIED: (403, "key_model_access_denied"),
    Kind.ROUTE_DENIED: (403, "auth_error"),
    Kind.UNKNOWN_MODEL: (404, "not_found_error"),
    Kind.NOT_FOUND: (404, "not_found_error"),
    Kind.METHOD_NOT_ALLOWED: (405, "bad_request_error"),
    Kind.BUDGET_EXCEEDED: (400, "budget_exceeded"),
    Kind.UNKNOWN_PRICE: (400, "budget_exceeded"),
    Kind.RATE_LIMITED: (429, "rate_limit_error"),
    Kind.OVERLOADED: (503, "internal_server_error"),
    Kind.NO_DEPLOYMENT: (429, "rate_limit_error"),
    Kind.UNAVAILABLE: (503, "no_db_connection"),
    Kind.STOPPING: (503, "internal_server_error"),
    Kind.INTERNAL: (500, "internal_server_error"),
    Kind.CLIENT_TIMEOUT: (408, "bad_request_error"),
    Kind.CONNECT: (502, "internal_server_error"),
    Kind.TIMEOUT: (504, "internal_server_error"),
    Kind.TRUNCATED: (502, "internal_server_error"),
    Kind.BAD_ANSWER: (502, "internal_server_error"),
    Kind.UPSTREAM_REJECTED: (400, "bad_request_error"),
    Kind.UPSTREAM_AUTH: (502, "internal_server_error"),
    Kind.UPSTREAM_RATE_LIMIT: (429, "rate_limit_error"),
    Kind.UPSTREAM_ERROR: (502, "internal_server_error"),
    Kind.CONTEXT_WINDOW: (400, "invalid_request_error"),
    Kind.CONTENT_POLICY: (400, "invalid_request_error"),
}


class Fault(Exception):
    """A failure on its way to the caller.

    Args:
        kind: what happened.
        public: one sentence for the caller; never contains content or secrets.
        origin: whose fault.
        retry: whether another attempt may help.
        status: HTTP status; the kind's default when None.
        param: the request field at fault, in the caller's naming.
        retry_after: seconds after which trying again makes sense.
        answer: an upstream's own error body, to be relayed to the caller byte for byte when it speaks his dialect.
    """

    __slots__ = ("answer", "kind", "origin", "param", "public", "retry", "retry_after", "status")

    def __init__(
        self,
        kind: Kind,
        public: str,
        *,
        origin: Origin = Origin.CLIENT,
        retry: Retry = Retry.NEVER,
        status: int | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        answer: bytes | None = None,
    ) -> None:
        super().__init__(kind.value)
        self.kind = kind
        self.public = public
        self.origin = origin
        self.retry = retry
        self.status = status if status is not None else FAULTS[kind][0]
        self.param = param
        self.retry_after = retry_after
        self.answer = answer

    @property
    def type(self) -> str:
        """The `error.type` of the OpenAI envelope."""
        return FAULTS[self.kind][1]

    def __repr__(self) -> str:
        return f"Fault({self.kind}, origin={self.origin}, status={self.status}, retry={self.retry})"
