"""Canaries, the places where they could end up, and the scanner. It must not know how anything is stored.

All canaries of one planter begin with the same random mark, so that one search finds any of them, in whatever encoding:
as it is, escaped, in hexadecimal, percent signs, UTF-16, base64 at each of its three offsets, turned round. Half of the
mark is enough, for a text may lie across the edge of a page. Digests are searched canary by canary.

What is compressed cannot be searched like this, since a canary's bytes depend on what stands before it. Nothing
that is searched is: PostgreSQL's dumps are taken as text, and it compresses only values longer than two kilobytes.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

MARK_LENGTH = 22


class Planter:
    """Makes canaries and remembers what they were for: lower-case letters and digits, so that no field refuses them."""

    def __init__(self) -> None:
        self.mark = "c" + secrets.token_hex(MARK_LENGTH // 2)[: MARK_LENGTH - 1]
        self.planted: dict[str, str] = {}

    def __call__(self, place: str) -> str:
        """A new canary for this place."""
        assert place not in self.planted, place
        self.planted[place] = f"{self.mark}x{len(self.planted):04d}"
        return self.planted[place]

    def named(self, data: bytes) -> str:
        """The places of the canaries that stand in `data` as they are."""
        return ", ".join(place for place, canary in self.planted.items() if canary.encode() in data)


@dataclass(frozen=True)
class Hit:
    """A canary that was found."""

    sink: str
    disguise: str
    place: str


def disguises(text: str) -> dict[str, bytes]:
    """A text as the bytes of the encodings in which it might be stored, those of every half of it included."""
    half = len(text) // 2
    found = {}
    for part, piece in (("", text), ("first half of ", text[:half]), ("second half of ", text[half:])):
        raw = piece.encode()
        found |= {
            f"{part}plain": raw,
            f"{part}utf-16": piece.encode("utf-16-le"),
            f"{part}hex": raw.hex().encode(),
            f"{part}HEX": raw.hex().upper().encode(),
            f"{part}reversed": raw[::-1],
            f"{part}percent": "".join(f"%{byte:02x}" for byte in raw).encode(),
            f"{part}PERCENT": "".join(f"%{byte:02X}" for byte in raw).encode(),
            f"{part}json": "".join(f"\\u{byte:04x}" for byte in raw).encode(),
            f"{part}octal": "".join(f"\\{byte:03o}" for byte in raw).encode(),
        }
    for shift in range(3):  # a text inside a longer base64 text starts at one of three offsets
        found[f"base64+{shift}"] = _base64(text, shift)
        found[f"base64+{shift} of hex"] = _base64(text.encode().hex(), shift)
    return found


def digests(text: str) -> dict[str, bytes]:
    """The digests of a text that need no key, raw and in hexadecimal. The first eight bytes are enough."""
    found = {}
    for name in ("md5", "sha1", "sha256"):
        digest = hashlib.new(name, text.encode()).digest()[:8]
        found |= {name: digest, f"{name} hex": digest.hex().encode()}
    return found


def scan(planter: Planter, sinks: Mapping[str, bytes], digested: Callable[[str], bool] = bool) -> list[Hit]:
    """Every trace of a canary in these bytes. `digested` says for which places digests are searched, by default all."""
    found = []
    needles = disguises(planter.mark)
    assert urllib.parse.quote(planter.mark) == planter.mark  # so that URLs, JSON and quotes leave it as it is
    prints = {place: digests(canary) for place, canary in planter.planted.items() if digested(place)}
    for sink, data in sinks.items():
        found += [Hit(sink, how, _around(planter, data, needle)) for how, needle in needles.items() if needle in data]
        small = data.lower()
        found += [
            Hit(sink, how, place)
            for place, hashes in prints.items()
            for how, needle in hashes.items()
            if needle in (small if how.endswith("hex") else data)
        ]
    return found


def files_below(*roots: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below some directories, by path."""
    for root in roots:
        for path in sorted(root.rglob("*")):
            if path.is_file() and not path.is_symlink():
                try:
                    yield str(path), path.read_bytes()
                except FileNotFoundError:  # gone meanwhile
                    continue


def _base64(text: str, shift: int) -> bytes:
    encoded = base64.b64encode(b"\0" * shift + text.encode())
    return encoded[-(-8 * shift // 6) : len(encoded) - 4]


def _around(planter: Planter, data: bytes, needle: bytes) -> str:
    at = data.find(needle)
    window = data[max(at - 40, 0) : at + len(needle) + 40]
    return planter.named(window) or repr(window)
