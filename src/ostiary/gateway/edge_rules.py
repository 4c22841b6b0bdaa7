"""What the edge accepts as a request: heads, hosts, paths, chunks. Pure: it must not touch a connection or a clock.

A head is judged whole. The edge cuts it at its first blank line (CRLF CRLF) and gives it here in one piece, so how the
network split it cannot change the verdict; llhttp (httptools) checks the grammar with a parser that has seen nothing
else, and what llhttp lets pass but two servers could read differently is refused here. Bodies are cut by the edge by
Content-Length, or by `Chunks`; no other framing exists.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address

import httptools
import msgspec

from ostiary.core.fault import Fault, Kind
from ostiary.gateway.ports import Route, WrongMethod

METHODS = {m.encode(): m for m in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")}
CHUNKED = -1  # RequestHead.length of a chunked body

# The only places where a path may hold %2F: model names with slashes, on data-plane routes.
SLASH_PREFIXES = (
    "/v1/models/", "/models/", "/v1beta/models/", "/model/", "/bedrock/model/", "/openai/deployments/", "/engines/",
)  # fmt: skip

# What an answer's head may not hold: any control byte but TAB and the CR LF of its line ends, and framing lines.
_LINE_BYTES = bytes(code for code in range(256) if code >= 32 and code != 127) + b"\t"

_STEERING = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection", b"expect"})
_HOST = re.compile(rb"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_LENGTH = re.compile(rb"[0-9]{1,15}")
_LENGTH_LINE = re.compile(rb"\r\ncontent-length: ([0-9]{1,15})\r\n", re.IGNORECASE)
LONGEST_SEEN = 2048  # bytes of a head that a connection remembers
# Paths that need no further look: no escape, no empty segment, none that begins with a dot.
_PLAIN_PATH = re.compile(r"(?:/[A-Za-z0-9_~!$&'()*+,=:@-][A-Za-z0-9._~!$&'()*+,=:@-]*)+/?")
_ESCAPE = re.compile(rb"%[0-9A-Fa-f]{2}")
_FORBIDDEN_IN_PATH = re.compile(r"[\x00-\x20\x7f-\x9f\\;%?#]|//|/\.{1,2}(?:/|$)")
_PRINTABLE = re.compile(rb"[\x21-\x7e]*")
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,8}")
_LONGEST_SIZE_LINE = 10
_FREE_CHUNKS = 1024
_LEAST_MEAN_CHUNK = 64


class EdgeLimits(msgspec.Struct, frozen=True):
    """Caps and deadlines of the edge. Bytes, counts and seconds.

    `head_seconds` runs from the connection's or the request's first byte to the end of the head; `body_seconds` from
    there to the end of the body, with one second more for each `body_rate` bytes announced (chunked: received).
    `unread` is what is taken from a client that is not being listened to: body bytes before the exchange asks for
    them, or what follows a refusal. `pipelined` is what may follow the running request. `app_body` caps bodies of
    requests that go to the ASGI application. `bodies_total` caps the bytes of all data-plane bodies held at once, those
    aside that are no longer than `unread`: their number is that of the connections. `hosts` are the accepted names in
    lower case, without port; empty for any. `origins` are those whose pages may open a WebSocket.
    """

    head_seconds: float = 10.0
    body_seconds: float = 60.0
    body_rate: int = 64 * 1024
    idle_seconds: float = 75.0
    linger_seconds: float = 1.0
    head: int = 32 * 1024
    headers: int = 100
    target: int = 8 * 1024
    connections: int = 4096
    connections_per_source: int = 2048
    unread: int = 64 * 1024
    pipelined: int = 256 * 1024
    app_body: int = 4 * 1024 * 1024
    bodies_total: int = 512 * 1024 * 1024
    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()


def refused(public: str, status: int = 400) -> Fault:
    """A request that is not taken as HTTP."""
    return Fault(Kind.MALFORMED, public, status=status)


class RequestHead:
    """An accepted request head.

    Header names are lower-case; headers whose name has an underscore are dropped, because programs behind a CGI-like
    boundary cannot tell them from their twins with a hyphen.
    """

    __slots__ = (
        "escaped_slash",
        "expect",
        "headers",
        "keep_alive",
        "length",
        "method",
        "modern",
        "path",
        "query",
        "raw_path",
        "target",
    )

    def __init__(self) -> None:
        self.method = b""
        self.target = b""
        self.raw_path = b""
        self.path = ""  # canonical: decoded once
        self.query = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.modern = True  # HTTP/1.1
        self.keep_alive = True
        self.length = 0
        self.expect = False
        self.escaped_slash = False

    # called by llhttp
    def on_url(self, piece: bytes) -> None:
        self.target += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        if b"_" not in name:
            self.headers.append((name.lower(), value))


class SeenHead:
    """A head that was accepted on this connection. Clients send the same one again, but for the length of the body.

    `match` gives the accepted head for the same bytes with another number in the same Content-Length line; what was
    judged once need not be judged again.
    """

    __slots__ = ("_after", "_before", "_head", "_place", "route")

    def __init__(self, block: bytes, head: RequestHead, route: Route) -> None:
        found = _LENGTH_LINE.search(block)
        start, end = found.span(1) if found is not None else (len(block), len(block))
        self._before, self._after = block[:start], block[end:]
        self._head = head
        self._place = next((i for i, (name, _) in enumerate(head.headers) if name == b"content-length"), -1)
        self.route = route

    def match(self, block: bytes) -> RequestHead | None:
        """The head, if `block` is the same but for the length of the body."""
        before, after = self._before, self._after
        if not (block.startswith(before) and block.endswith(after)):
            return None
        digits = block[len(before) : len(block) - len(after)]
        head = self._head
        if self._place < 0:
            return head if not digits and len(block) == len(before) + len(after) else None
        if not 0 < len(digits) <= 15 or not digits.isdigit():
            return None
        head.headers = head.headers.copy()
        head.headers[self._place] = (b"content-length", digits)
        head.length = int(digits)
        return head


def check_answer_head(head: bytes) -> None:
    """Refuse header lines that would break an answer's framing: it is ours alone.

    Raises:
        ValueError: a line is empty, unended, holds a control byte, or frames the message.
    """
    ends = head.translate(None, _LINE_BYTES)
    low = b"\n" + head.lower()
    if ends != b"\r\n" * (len(ends) // 2) or b"\n\r" in low or not low.endswith(b"\n"):
        raise ValueError("an answer's head is malformed")
    if b"\ncontent-length:" in low or b"\ntransfer-encoding:" in low or b"\nconnection:" in low or b"\ndate:" in low:
        raise ValueError("an answer's head is not to frame it")


def read_head(block: bytes, limits: EdgeLimits) -> RequestHead:
    """Judge a head that ends in its blank line.

    Raises:
        Fault: with the status that the refusal has. Nothing else, for any bytes.
    """
    lines = block.count(b"\r\n")
    if block.count(b"\n") != lines or block.count(b"\r") != lines:
        raise refused("a line of the request head does not end in CR LF")
    if lines > limits.headers + 2:
        raise refused(f"the request has more than {limits.headers} headers", 431)
    first = block[: block.find(b"\r\n")]
    if len(first) > limits.target + 20:
        raise refused(f"the request target is longer than {limits.target} bytes", 414)
    head = RequestHead()
    parser = httptools.HttpRequestParser(head)
    try:
        parser.feed_data(block)
    except httptools.HttpParserUpgrade:
        pass  # an offer to switch protocols is ignored; CONNECT is refused below
    except httptools.HttpParserError as error:
        if isinstance(error, httptools.HttpParserInvalidMethodError) and first.endswith((b" HTTP/1.1", b" HTTP/1.0")):
            raise WrongMethod("this method is not supported", METHODS) from None
        raise refused("the request head is malformed") from None
    head.method = parser.get_method()
    if head.method not in METHODS:
        raise WrongMethod("this method is not supported", METHODS)
    if len(head.target) > limits.target:
        raise refused(f"the request target is longer than {limits.target} bytes", 414)
    if first != b"%b %b HTTP/1.1" % (head.method, head.target):
        if first != b"%b %b HTTP/1.0" % (head.method, head.target):
            raise refused("the request line is malformed")
        head.modern = head.keep_alive = False
    _read_headers(head, limits)
    head.raw_path, _, head.query = head.target.partition(b"?")
    head.path = canonical_path(head.raw_path)
    if b"%" in head.raw_path:
        head.escaped_slash = b"%2f" in head.raw_path.lower()
    if _PRINTABLE.fullmatch(head.query) is None or b"#" in head.query:
        raise refused("the query holds bytes that must be escaped")
    return head


def _read_headers(head: RequestHead, limits: EdgeLimits) -> None:
    """Host, framing, Connection and Expect. No other header steers the edge."""
    hosts = 0
    framed = False
    for name, value in head.headers:
        if name not in _STEERING:
            continue
        if name == b"host":
            hosts += 1
            check_host(value, limits.hosts)
        elif name == b"content-length":
            if framed or _LENGTH.fullmatch(value) is None:
                raise refused("the length of the body is ambiguous")
            framed = True
            head.length = int(value)
        elif name == b"transfer-encoding":
            if framed or value != b"chunked" or not head.modern:
                raise refused("the length of the body is ambiguous")
            framed = True
            head.length = CHUNKED
        elif name == b"connection":
            if b"close" in [token.strip() for token in value.lower().split(b",")]:
                head.keep_alive = False
        elif name == b"expect":
            if value.lower() != b"100-continue":
                raise refused("this expectation cannot be met", 417)
            head.expect = head.modern
    if hosts != 1:
        raise refused("a request names exactly one Host")


def check_host(value: bytes, allowed: frozenset[str]) -> None:
    """Refuse a Host that is not `host[:port]`, or not one of `allowed` where that is not empty.

    Raises:
        Fault: status 400, or 421 for a name that is not served here.
    """
    if _HOST.fullmatch(value) is None:
        raise refused("the Host is malformed")
    if allowed:
        name = value.decode("ascii").lower()
        host = name[: name.index("]") + 1] if name.startswith("[") else name.partition(":")[0]
        if host not in allowed:
            raise refused("this host is not served here", 421)


def canonical_path(raw: bytes) -> str:
    """The path with its escapes decoded, once.

    Raises:
        Fault: status 400 for a path that two programs could read differently.
    """
    try:
        path = raw.decode("ascii")
        if _PLAIN_PATH.fullmatch(path) or path == "/":
            return path
        if b"%" in raw:
            if len(_ESCAPE.findall(raw)) != raw.count(b"%"):
                raise refused("the path holds an invalid escape")
            path = _ESCAPE.sub(_decoded, raw).decode("utf-8")
            if b"%2f" in raw.lower() and not path.startswith(SLASH_PREFIXES):
                raise refused("the path holds an escaped slash")
    except UnicodeDecodeError:
        raise refused("the path is not UTF-8") from None
    if not path.startswith("/") or _FORBIDDEN_IN_PATH.search(path):
        raise refused("the path is not canonical")
    return path


def _decoded(escape: re.Match[bytes]) -> bytes:
    return bytes((int(escape.group()[1:], 16),))


def source_of(host: str) -> tuple[str, str]:
    """A peer's address as shown, and the source it counts as: IPv4 unmapped, IPv6 by its /64."""
    if ":" not in host:
        return host, host
    address = IPv6Address(host.partition("%")[0])
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped), str(address.ipv4_mapped)
    return str(address), address.exploded[:19]


class Chunks:
    """The chunked coding, strictly: sizes in hex, CR LF, no extensions and no trailers. Sans-io.

    `done` tells that the last chunk has been read; `rest` then holds what came after it. `size` counts body bytes.
    Chunks that are very small on average are refused: they cost their reader far more than their sender.
    """

    __slots__ = ("_closing", "_held", "_left", "_number", "done", "rest", "size")

    def __init__(self) -> None:
        self.size = 0
        self.done = False
        self.rest = b""
        self._held = b""  # an incomplete size line or line end
        self._left = 0  # bytes of the running chunk still to come
        self._closing = False  # the line end after a chunk's bytes is due
        self._number = 0

    def feed(self, data: bytes) -> bytes:
        """The body bytes in `data`.

        Raises:
            Fault: the coding is broken.
        """
        if self._held:
            data, self._held = self._held + data, b""
        pieces: list[bytes] = []
        at = 0
        while not self.done:
            if self._left:
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                self.size += len(piece)
                self._closing = True
                if self._left:
                    break
            after = self._line_end(data, at) if self._closing else self._size_line(data, at)
            if not after:
                self._held = data[at:]
                break
            at = after
        if self.done:
            self.rest = data[at:]
        return b"".join(pieces)

    def _line_end(self, data: bytes, at: int) -> int:
        """The position behind the CR LF at `at`; 0 if it is not all there."""
        mark = data[at : at + 2]
        if not b"\r\n".startswith(mark):
            raise refused("a chunk does not end in CR LF")
        if len(mark) < 2:
            return 0
        self._closing = False
        self.done = self._number < 0
        return at + 2

    def _size_line(self, data: bytes, at: int) -> int:
        """Read the size line at `at` and return the position behind it; 0 if it is not all there."""
        end = data.find(b"\r\n", at, at + _LONGEST_SIZE_LINE)
        line = data[at : end if end >= 0 else at + _LONGEST_SIZE_LINE]
        if end < 0:
            digits = line[:-1] if line.endswith(b"\r") else line
            if len(line) >= _LONGEST_SIZE_LINE or (line and _CHUNK_SIZE.fullmatch(digits) is None):
                raise refused("a chunk's size is malformed")
            return 0
        if _CHUNK_SIZE.fullmatch(line) is None:
            raise refused("a chunk's size is malformed")
        self._left = int(line, 16)
        self._number += 1
        if self._number > _FREE_CHUNKS and self.size < self._number * _LEAST_MEAN_CHUNK:
            raise refused("the body comes in too many small chunks")
        if not self._left:
            self._number = -1
            self._closing = True
        return end + 2
