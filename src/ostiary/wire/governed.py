"""What the gateway reads of a request without decoding it, and the smallest edits that make it ready for a provider.

It must not change a byte outside the governed fields: the provider receives what the client wrote.

How duplicates are caught without a full decode. The typed decoder keeps the last of two equal members, another parser
may keep the first, so a governed member must stand once. Its quoted name is counted in the raw bytes: once or never
is proof that no second member can be written literally. An escaped spelling of a name (`"\\u006dodel"`) needs a
`\\u00` followed by 5, 6 or 7; where that occurs, or a count is above one, the length decides: members, quotes, colons
and commas that fill the body to the last byte leave no room for another member. Only where that fails, too (blanks
between members, escapes in names), the exact outline is made (`json_scan`) and judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import msgspec

from ostiary.core.fault import Fault, Kind
from ostiary.wire.dialect import Peeked
from ostiary.wire.framing.json_scan import Member, MisshapenError, Outline, check_shape, outline

Edit: TypeAlias = tuple[int, int, bytes]  # replace body[start:end] by these bytes

# Members whose value decides where a request goes, what it may cost or what is inspected. They must stand once.
GOVERNED = (
    "model",
    "messages",
    "prompt",
    "input",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "user",
    "tools",
    # of other dialects
    "system",
    "instructions",
    "max_output_tokens",
    "metadata",
    "previous_response_id",
    "conversation",
    "store",
    "background",
    "contents",
    "systemInstruction",
    "system_instruction",
    "generationConfig",
    "generation_config",
    "inferenceConfig",
    "toolConfig",
    "tool_config",
)
# Members that would choose a host, a credential or a mock in other gateways. A client may not send them.
REFUSED = frozenset(
    {
        "api_base",
        "base_url",
        "api_key",
        "api_version",
        "api_type",
        "azure_endpoint",
        "azure_ad_token",
        "organization",
        "extra_headers",
        "headers",
        "default_headers",
        "model_list",
        "litellm_params",
        "litellm_credential_name",
        "litellm_embedding_config",
        "custom_llm_provider",
        "user_config",
        "router_settings",
        "fallbacks",
        "context_window_fallbacks",
        "content_policy_fallbacks",
        "context_window_fallback_dict",
        "mock_response",
        "mock_tool_calls",
        "mock_timeout",
        "mock_delay",
        "mock_testing_fallbacks",
        "mock_testing_context_fallbacks",
        "mock_testing_content_policy_fallbacks",
        "mock_testing_context_window_fallbacks",
        "mock_testing_rate_limit_error",
        "aws_access_key_id",
        "aws_secret_access_key",
        "aws_session_token",
        "aws_region_name",
        "aws_role_name",
        "aws_session_name",
        "aws_profile_name",
        "aws_external_id",
        "aws_web_identity_token",
        "aws_sts_endpoint",
        "aws_bedrock_runtime_endpoint",
        "azure_authority_host",
        "client_secret",
        "vertex_credentials",
        "vertex_project",
        "vertex_location",
        "proxy",
        "ssl_verify",
        "http_client",
        "inference_geo",
        "guardrails",
        "disable_global_guardrails",
    }
)
# Members other gateways take as instructions to themselves. They are obeyed or inert here and never travel on.
OWN = frozenset(
    {
        "num_retries",
        "disable_fallbacks",
        "tags",
        "litellm_metadata",
        "litellm_call_id",
        "litellm_trace_id",
        "litellm_session_id",
        "drop_params",
        "additional_drop_params",
        "allowed_openai_params",
        "caching",
        "cache",
        "no-log",
        "priority",
        "timeout",
        "stream_timeout",
    }
)

_SPECIAL = REFUSED | OWN
_QUOTED = {name: f'"{name}"'.encode() for name in GOVERNED}
_ESCAPED_LETTER = tuple(rb"\u00" + digit for digit in (b"5", b"6", b"7"))
_INCLUDE_USAGE = b'"stream_options":{"include_usage":true}'

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_string = msgspec.json.Decoder(str).decode
_scalar = msgspec.json.Decoder(str | int | float | bool | None).decode
_whole = msgspec.json.Decoder(int | None).decode
_encode = msgspec.json.Encoder().encode


class Ask:
    """A request as the gateway understands it, able to write itself for a target.

    `members` are the outermost members as raw JSON. `max_output` is the output cap the client named, for all answers
    together; None where he named none. `wants_usage`: the client asked for usage in the stream. `own`: members that
    were instructions to the gateway, never sent on. `in_path`: the dialect names the model in the path, not here.
    """

    __slots__ = (
        "_outline",
        "_repeats",
        "body",
        "content_type",
        "in_path",
        "max_output",
        "members",
        "model",
        "own",
        "stream",
        "user",
        "wants_usage",
    )

    def __init__(
        self,
        body: bytes,
        members: dict[str, msgspec.Raw],
        model: str,
        found: Outline | None,
        *,
        in_path: bool = False,
        repeats: bool = True,
    ) -> None:
        self.body = body
        self._repeats = repeats  # the name of a member may stand in the body more than once
        self.members = members
        self.model = model
        self._outline = found
        self.own: dict[str, msgspec.Raw] = {}
        self.content_type = b"application/json"
        self.in_path = in_path
        self.stream = "stream" in members and _flag(members, "stream")
        self.user = ""
        self.max_output: int | None = None
        self.wants_usage = self.stream and "stream_options" in members and _asks_usage(members["stream_options"])

    def patched(self, model: str, *, include_usage: bool, defaults: Sequence[tuple[str, bytes]] = ()) -> bytes:
        """The body for one target: `model` replaced, usage asked for in a stream, absent defaults added.

        Everything else keeps its bytes, order and white space; only members meant for the gateway are cut out.
        """
        changed: dict[str, bytes] = {}
        added: list[bytes] = []
        if not self.in_path and (model != self.model or "model" not in self.members):
            changed["model"] = _encode(model)
        if include_usage and self.stream and not self.wants_usage:
            if "stream_options" in self.members:
                changed["stream_options"] = _with_usage(self.members["stream_options"])
            else:
                added.append(_INCLUDE_USAGE)
        for name, value in defaults:
            if name not in self.members:
                added.append(b'"%s":%s' % (name.encode(), value))
        if self.own:
            return self._rewritten(changed, added)
        edits: list[Edit] = []
        for name, value in changed.items():
            place = self._place(name)
            if place is None:
                added.append(b'"%s":%s' % (name.encode(), value))
            else:
                edits.append((*place, value))
        if added:
            close = self.body.rindex(b"}")
            edits.append((close, close, b"," + b",".join(added) if self.members else b",".join(added)))
        return apply(self.body, edits)

    def _place(self, name: str) -> tuple[int, int] | None:
        """The byte range of a member's value; None when there is no such member."""
        if name not in self.members:
            return None
        quoted = _QUOTED[name]
        if self._outline is None and not (self._repeats and self._is_within(quoted)):
            start = _value_start(self.body, quoted)
            raw = bytes(self.members[name])
            if start is not None and self.body.startswith(raw, start):
                return start, start + len(raw)
        return next((m.value_start, m.value_end) for m in self._scan().members if m.key == name)

    def _is_within(self, quoted: bytes) -> bool:
        """Whether a name stands more than once: the first may be within another member."""
        return self.body.find(quoted, self.body.find(quoted) + 1) >= 0

    def _scan(self) -> Outline:
        if self._outline is None:
            self._outline = _outline(self.body)
        return self._outline

    def _rewritten(self, changed: dict[str, bytes], added: list[bytes]) -> bytes:
        """The body without the gateway's own members: the kept ones keep their bytes, in their order."""
        found = self._scan()
        kept = [self._written(member, changed) for member in found.members if member.key not in OWN]
        missing = [b'"%s":%s' % (n.encode(), v) for n, v in changed.items() if n not in self.members]
        return b"{" + b",".join(kept + missing + added) + self.body[found.close :]

    def _written(self, member: Member, changed: dict[str, bytes]) -> bytes:
        value = changed.get(member.key)
        if value is None:
            return self.body[member.start : member.value_end]
        return self.body[member.start : member.value_start] + value


def peek_openai(members: Mapping[str, msgspec.Raw]) -> Peeked:
    """The cap on output times `n`, and `user`, as the OpenAI API says them on all its endpoints but Responses.

    Raises:
        Fault: INVALID_REQUEST for wrong types.
    """
    cap = None
    for name in ("max_completion_tokens", "max_tokens"):
        if name in members and (named := count(members, name)) is not None:
            cap = named if cap is None else max(cap, named)  # whichever of two the provider obeys
    if cap is not None and "n" in members:
        cap *= max(count(members, "n") or 1, 1)
    return Peeked(cap, text(members, "user") if "user" in members else "")


def read(
    body: bytes,
    *,
    max_depth: int,
    peek: Callable[[Mapping[str, msgspec.Raw]], Peeked] = peek_openai,
    model: str = "",
    default_model: str = "",
    in_path: bool = False,
) -> Ask:
    """Read what governs a JSON request.

    Args:
        body: the request body.
        max_depth: the deepest nesting accepted.
        peek: the dialect's, for what else governs.
        model: the model the path named; a different one in the body is refused.
        default_model: the model meant where nothing names one.
        in_path: the dialect has no member for the model.

    Raises:
        Fault: MALFORMED for what is no JSON object or ambiguous, INVALID_REQUEST for governed fields of a wrong type
            for members a client may not send, and for a number of retries that is none.
    """
    try:
        check_shape(body, max_depth)
        members = _members(body)
    except MisshapenError as error:
        raise Fault(Kind.MALFORMED, f"the request body is not acceptable JSON: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Fault(Kind.MALFORMED, "the request body is not a valid JSON object") from None
    found, repeats = _judge(body, members)
    named = text(members, "model") if "model" in members and not in_path else ""
    if model and named not in ("", model):
        raise Fault(Kind.INVALID_REQUEST, "the body names another model than the path", param="model")
    model = model or named or default_model
    if not model:
        raise Fault(Kind.INVALID_REQUEST, "the request names no model", param="model")
    own = not _SPECIAL.isdisjoint(members)
    if own:
        _refuse(members)
    ask = Ask(body, members, model, found, in_path=in_path, repeats=repeats)
    ask.max_output, ask.user = peek(members)
    if own:
        ask.own = {name: value for name, value in members.items() if name in OWN}
        asked_retries(ask.own)
    return ask


def asked_retries(own: dict[str, msgspec.Raw]) -> int | None:
    """The caller's `num_retries`; None where he named none.

    Raises:
        Fault: INVALID_REQUEST for what is not a whole number.
    """
    raw = own.get("num_retries")
    if raw is None:
        return None
    try:
        number = _whole(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Fault(Kind.INVALID_REQUEST, "'num_retries' must be a whole number", param="num_retries") from None
    return None if number is None else max(number, 0)


def _judge(body: bytes, members: dict[str, msgspec.Raw]) -> tuple[Outline | None, bool]:
    """None when the bytes cannot hide a duplicate, else the outline, after judging it; and whether a name repeats."""
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError:
            raise Fault(Kind.MALFORMED, "the request body is not valid UTF-8") from None
    repeats = _repeats(body, members)
    if not repeats or _filled(body, members):
        return None, repeats
    found = _outline(body)
    seen: set[str] = set()
    for member in found.members:
        if member.key in seen and (member.key in _QUOTED or member.key in _SPECIAL):
            raise Fault(Kind.MALFORMED, f"the member {member.key!r} stands twice in the request", param=member.key)
        seen.add(member.key)
    return found, repeats


def _repeats(body: bytes, members: dict[str, msgspec.Raw]) -> bool:
    """Whether the name of a governed member stands more than once, or may be spelled in another way."""
    for name in members:
        quoted = _QUOTED.get(name)
        if quoted is not None and body.count(quoted) != 1:
            return True
    return rb"\u00" in body and any(letter in body for letter in _ESCAPED_LETTER)


def _filled(body: bytes, members: dict[str, msgspec.Raw]) -> bool:
    """Whether these members, with a colon, a comma and two quotes each, are all that the body has room for."""
    return len(body) == 1 + sum(len(name.encode()) + len(memoryview(raw)) + 4 for name, raw in members.items())


def _outline(body: bytes) -> Outline:
    try:
        return outline(body)
    except MisshapenError as error:
        raise Fault(Kind.MALFORMED, f"the request body is not acceptable JSON: {error}") from None


def _refuse(members: dict[str, msgspec.Raw]) -> None:
    for name in members:
        if name in REFUSED:
            raise Fault(Kind.INVALID_REQUEST, f"the member {name!r} is not accepted from a client", param=name)


def text(members: Mapping[str, msgspec.Raw], name: str) -> str:
    """A member that is a string; "" for null.

    Raises:
        Fault: INVALID_REQUEST for any other type.
    """
    raw = members[name]
    try:
        return _string(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        if bytes(raw) == b"null":
            return ""
        raise Fault(Kind.INVALID_REQUEST, f"{name!r} must be a string", param=name) from None


def _flag(members: dict[str, msgspec.Raw], name: str) -> bool:
    raw = bytes(members[name])
    if raw not in (b"true", b"false", b"null"):
        raise Fault(Kind.INVALID_REQUEST, f"{name!r} must be a boolean", param=name)
    return raw == b"true"


def count(members: Mapping[str, msgspec.Raw], name: str) -> int | None:
    """A member that is a number of tokens or choices, None for null. Bounded, whatever the client wrote.

    Raises:
        Fault: INVALID_REQUEST for what is no number.
    """
    try:
        value = _scalar(members[name])
    except (msgspec.DecodeError, UnicodeDecodeError):
        value = ""
    if value is None:
        return None
    if isinstance(value, (str, bool)) or value != value or abs(value) > 1e12:
        raise Fault(Kind.INVALID_REQUEST, f"{name!r} must be a number", param=name)
    return max(int(value), 0)


def _asks_usage(options: msgspec.Raw) -> bool:
    if bytes(options) == b"null":
        return False
    try:
        return bytes(_members(options).get("include_usage", b"")) == b"true"
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Fault(Kind.INVALID_REQUEST, "'stream_options' must be an object", param="stream_options") from None


def _with_usage(options: msgspec.Raw) -> bytes:
    fields = {} if bytes(options) == b"null" else _members(options)
    fields["include_usage"] = msgspec.Raw(b"true")
    return _encode(fields)


def _value_start(body: bytes, quoted: bytes) -> int | None:
    """The offset of the value after `quoted` and a colon; None where the bytes are not that plain."""
    position = body.find(quoted)
    if position < 0:
        return None
    position = _past_space(body, position + len(quoted))
    return _past_space(body, position + 1) if body[position : position + 1] == b":" else None


def _past_space(body: bytes, position: int) -> int:
    while body[position : position + 1] in (b" ", b"\t", b"\n", b"\r"):
        position += 1
    return position


def apply(body: bytes, edits: list[Edit]) -> bytes:
    """`body` with the edits made. Edits do not overlap."""
    if not edits:
        return body
    edits.sort()
    pieces: list[bytes] = []
    position = 0
    for start, end, replacement in edits:
        pieces += (body[position:start], replacement)
        position = end
    pieces.append(body[position:])
    return b"".join(pieces)
