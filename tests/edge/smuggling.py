"""Requests that two servers could cut differently (NET-16). Each hides a second request, `GET /v1/smuggled`."""

from __future__ import annotations

HIDDEN = b"GET /v1/smuggled HTTP/1.1\r\nHost: gateway.test\r\n\r\n"


def post(headers: bytes, body: bytes, *, line: bytes = b"POST /v1/echo HTTP/1.1\r\n") -> bytes:
    return line + b"Host: gateway.test\r\n" + headers + b"\r\n" + body


CHUNKED = b"Transfer-Encoding: chunked\r\n"
NO_CHUNKS = b"0\r\n\r\n" + HIDDEN

# What breaks the head.
HEADS: dict[str, bytes] = {
    "CL and TE": post(b"Content-Length: 6\r\n" + CHUNKED, NO_CHUNKS),
    "TE and CL": post(CHUNKED + b"Content-Length: 6\r\n", NO_CHUNKS),
    "TE xchunked": post(b"Transfer-Encoding: xchunked\r\nContent-Length: 3\r\n", b"abc" + HIDDEN),
    "TE xchunked alone": post(b"Transfer-Encoding: xchunked\r\n", NO_CHUNKS),
    "TE chunked, identity": post(b"Transfer-Encoding: chunked, identity\r\n", NO_CHUNKS),
    "TE identity, chunked": post(b"Transfer-Encoding: identity, chunked\r\n", NO_CHUNKS),
    "TE gzip, chunked": post(b"Transfer-Encoding: gzip, chunked\r\n", NO_CHUNKS),
    "TE twice": post(CHUNKED + CHUNKED, NO_CHUNKS),
    "TE twice, one identity": post(CHUNKED + b"Transfer-Encoding: identity\r\n", NO_CHUNKS),
    "TE quoted": post(b'Transfer-Encoding: "chunked"\r\n', NO_CHUNKS),
    "TE in odd case": post(b"Transfer-Encoding: cHuNkEd\r\n", NO_CHUNKS),
    "TE with a vertical tab": post(b"Transfer-Encoding: \x0bchunked\r\n", NO_CHUNKS),
    "TE with a parameter": post(b"Transfer-Encoding: chunked;q=1\r\n", NO_CHUNKS),
    "TE with a trailing comma": post(b"Transfer-Encoding: chunked,\r\n", NO_CHUNKS),
    "TE empty": post(b"Transfer-Encoding: \r\n", NO_CHUNKS),
    "TE behind a space": post(b"Transfer-Encoding : chunked\r\n", NO_CHUNKS),
    "TE behind a tab": post(b"Transfer-Encoding\t: chunked\r\n", NO_CHUNKS),
    "TE folded": post(b"Transfer-Encoding:\r\n chunked\r\n", NO_CHUNKS),
    "TE behind a NUL": post(b"Transfer-Encoding\x00: chunked\r\n", NO_CHUNKS),
    "TE in HTTP/1.0": post(CHUNKED, NO_CHUNKS, line=b"POST /v1/echo HTTP/1.0\r\n"),
    "CL twice, same": post(b"Content-Length: 3\r\nContent-Length: 3\r\n", b"abc" + HIDDEN),
    "CL twice, other": post(b"Content-Length: 3\r\nContent-Length: 0\r\n", b"abc" + HIDDEN),
    "CL with a sign": post(b"Content-Length: +3\r\n", b"abc" + HIDDEN),
    "CL negative": post(b"Content-Length: -3\r\n", HIDDEN),
    "CL list": post(b"Content-Length: 3,3\r\n", b"abc" + HIDDEN),
    "CL in hex": post(b"Content-Length: 0x3\r\n", b"abc" + HIDDEN),
    "CL with an underscore": post(b"Content-Length: 1_0\r\n", b"0123456789" + HIDDEN),
    "CL with spaces in it": post(b"Content-Length: 3 3\r\n", b"abc" + HIDDEN),
    "CL with a space after it": post(b"Content-Length: 3 \r\n", b"abc" + HIDDEN),
    "CL of two lines": post(b"Content-Length: 3\r\n 3\r\n", b"abc" + HIDDEN),
    "CL empty": post(b"Content-Length:\r\n", HIDDEN),
    "CL beyond 64 bits": post(b"Content-Length: 18446744073709551619\r\n", b"abc" + HIDDEN),
    "CL behind a space": post(b"Content-Length : 3\r\n", b"abc" + HIDDEN),
    "CL of other digits": post("Content-Length: \u0663\r\n".encode(), b"abc" + HIDDEN),
    "fold before the first header": b"POST /v1/echo HTTP/1.1\r\n Host: gateway.test\r\n\r\n" + HIDDEN,
    "fold": post(b"X: a\r\n b\r\n", HIDDEN),
    "fold by tab": post(b"X: a\r\n\tb\r\n", HIDDEN),
    "bare LF after a header": post(b"X: a\nContent-Length: 3\r\n", b"abc" + HIDDEN),
    "bare LF after the request line": b"POST /v1/echo HTTP/1.1\nHost: gateway.test\r\n\r\n" + HIDDEN,
    "bare LF as the end": b"POST /v1/echo HTTP/1.1\r\nHost: gateway.test\n\n" + HIDDEN,
    "LF CR LF as the end": b"POST /v1/echo HTTP/1.1\r\nHost: gateway.test\n\r\n" + HIDDEN,
    "bare CR in a value": post(b"X: a\rContent-Length: 3\r\n", b"abc" + HIDDEN),
    "CR CR LF": post(b"X: a\r\r\n", HIDDEN),
    "NUL in a value": post(b"X: a\x00b\r\n", HIDDEN),
    "NUL in a name": post(b"X\x00: a\r\n", HIDDEN),
    "NUL after the head": post(b"X: a\r\n\x00", HIDDEN),
    "no name": post(b": a\r\n", HIDDEN),
    "no colon": post(b"X\r\n", HIDDEN),
    "a space in a name": post(b"X Y: a\r\n", HIDDEN),
    "two spaces in the request line": post(b"", HIDDEN, line=b"POST /v1/echo  HTTP/1.1\r\n"),
    "tab in the request line": post(b"", HIDDEN, line=b"POST\t/v1/echo HTTP/1.1\r\n"),
    "space after the version": post(b"", HIDDEN, line=b"POST /v1/echo HTTP/1.1 \r\n"),
    "HTTP/0.9": b"GET /v1/echo\r\n\r\n" + HIDDEN,
    "HTTP/0.9, named": post(b"", HIDDEN, line=b"GET /v1/echo HTTP/0.9\r\n"),
    "HTTP/1.2": post(b"", HIDDEN, line=b"GET /v1/echo HTTP/1.2\r\n"),
    "HTTP/2.0": post(b"", HIDDEN, line=b"GET /v1/echo HTTP/2.0\r\n"),
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN,
    "another protocol": post(b"", HIDDEN, line=b"OPTIONS /v1/echo RTSP/1.0\r\n"),
    "an empty line first": b"\r\n" + post(b"", HIDDEN),
    "a TLS greeting": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + HIDDEN,
}

# What breaks the body, behind a good head.
CHUNKS: dict[str, bytes] = {
    name: post(CHUNKED, coding + NO_CHUNKS)
    for name, coding in {
        "chunk size overflow": b"FFFFFFFFFFFFFFFF1\r\na\r\n",
        "chunk size of 16 digits": b"FFFFFFFFFFFFFFFF\r\na\r\n",
        "chunk size padded": b"0000000000000001\r\na\r\n",
        "chunk size 0x": b"0x1\r\na\r\n",
        "chunk size signed": b"+1\r\na\r\n",
        "chunk size negative": b"-1\r\na\r\n",
        "chunk size empty": b"\r\na\r\n",
        "chunk size behind a space": b" 1\r\na\r\n",
        "chunk size before a space": b"1 \r\na\r\n",
        "chunk size with an underscore": b"1_0\r\n0123456789abcdef\r\n",
        "chunk extension": b"1;a=b\r\na\r\n",
        "chunk extension with a bare LF": b"1;\na\r\na\r\n",
        "chunk size ends in LF": b"1\na\r\n",
        "chunk size ends in CR": b"1\ra\r\n",
        "chunk ends in LF": b"1\r\na\n",
        "chunk ends in nothing": b"1\r\na",
        "chunk ends in two letters": b"1\r\naXX",
        "chunk shorter than it says": b"5\r\nabc\r\n",
        "last chunk ends in LF": b"0\r\n\n",
        "trailer": b"0\r\nContent-Length: 3\r\n\r\n",
        "trailer that folds": b"0\r\n a\r\n\r\n",
    }.items()
}

CORPUS = HEADS | CHUNKS
