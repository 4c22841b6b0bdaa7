"""NET-16: the chunk decoder agrees with itself however it is fed, and with llhttp on what it accepts."""

from __future__ import annotations

import contextlib
from itertools import pairwise

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.core.fault import Fault
from ostiary.gateway.edge_rules import Chunks


class Reference:
    """llhttp's reading of a chunked body."""

    def __init__(self) -> None:
        self.body = b""
        self.complete = False

    def on_body(self, piece: bytes) -> None:
        self.body += piece

    def on_message_complete(self) -> None:
        self.complete = True


def decode(wire: bytes, cuts: list[int]) -> tuple[str, bytes, bytes]:
    """What the decoder makes of `wire` cut at `cuts`: its verdict, the body, and what came after it."""
    chunks = Chunks()
    body = b""
    edges = [0, *sorted(cut % (len(wire) + 1) for cut in cuts), len(wire)]
    try:
        for start, stop in pairwise(edges):
            if chunks.done:
                return "done", body, chunks.rest + wire[start:]
            body += chunks.feed(wire[start:stop])
    except Fault as fault:
        return f"refused {fault.status}", b"", b""
    assert chunks.size == len(body)
    return "done" if chunks.done else "more", body, chunks.rest


def encode(pieces: list[bytes]) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


CUTS = st.lists(st.integers(0, 400), max_size=6)
PIECES = st.lists(st.binary(min_size=1, max_size=40), max_size=8)


@given(PIECES, st.binary(max_size=20), CUTS)
def test_net_16_law_a_split_changes_nothing(pieces: list[bytes], after: bytes, cuts: list[int]) -> None:
    assert decode(encode(pieces) + after, cuts) == ("done", b"".join(pieces), after)


@given(st.text("0123456789abcdefABC\r\n; \txg+-", max_size=40), CUTS)
def test_net_16_law_a_split_changes_nothing_about_nonsense(text: str, cuts: list[int]) -> None:
    wire = text.encode()
    whole, split = decode(wire, []), decode(wire, cuts)
    assert whole == split


@given(st.text("0123456789abcABC\r\n; xg", max_size=30).map(str.encode) | PIECES.map(encode))
def test_net_16_law_what_is_accepted_reads_the_same_in_llhttp(wire: bytes) -> None:
    verdict, body, after = decode(wire, [])
    if verdict != "done":
        return
    reference = Reference()
    parser = httptools.HttpRequestParser(reference)
    parser.feed_data(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    with contextlib.suppress(httptools.HttpParserError):
        parser.feed_data(wire[: len(wire) - len(after)])
    assert (reference.body, reference.complete) == (body, True)


def test_dos_03_a_body_of_very_many_tiny_chunks_is_refused() -> None:
    chunks = Chunks()
    with pytest.raises(Fault):
        chunks.feed(b"1\r\na\r\n" * 2000)
    assert chunks.size < 2000


def test_a_thousand_small_chunks_are_taken() -> None:
    assert decode(encode([b"ab"] * 1000), [7, 300]) == ("done", b"ab" * 1000, b"")
