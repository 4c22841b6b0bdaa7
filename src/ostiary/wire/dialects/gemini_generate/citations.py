"""What grounds an answer, from and to the pivot's citations. It must not guess: what does not fit stays as it came.

Source: official Python SDK 3.4, `types.GroundingMetadata` (chunks, and supports that tie them to a segment of text) and
`CitationMetadata`, whose list is `citations` in Vertex AI and `citationSources` in the Gemini API. Places are bytes of
UTF-8 here and characters in the pivot. They belong to the last text of an answer, or to none that can be told.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import msgspec

from ostiary.wire.conversation.members import with_rest
from ostiary.wire.conversation.parts import Citation
from ostiary.wire.conversation.unknown import Extra, Loss, LossKind, find, losses_of
from ostiary.wire.dialects.gemini_generate.fields import DIALECT, INTEGER, RAWS, STRING, Fields, encode

GROUNDING, RECITED = "groundingMetadata", "citationMetadata"
_CHUNKS, _SUPPORTS, _SCORES = "groundingChunks", "groundingSupports", "confidenceScores"
_LISTS = ("citations", "citationSources")
_MOST = 10_000  # citations of one answer
_WORDS = 1 << 20  # characters of the text that are said again with its citations
_integers = msgspec.json.Decoder(list[int])
_numbers = msgspec.json.Decoder(list[float])


class _MisfitError(Exception):
    """Something the pivot cannot say."""


class Places:
    """Places in one text, in characters and in bytes of UTF-8."""

    def __init__(self, text: str) -> None:
        widths = (len(letter.encode("utf-8", "replace")) for letter in text)
        self._bytes = None if text.isascii() else array("Q", accumulate(widths, initial=0))
        self.text = text
        self._end = self._bytes[-1] if self._bytes is not None else len(text)

    def to_bytes(self, place: int) -> int:
        """The byte at which a character begins; the end for one beyond it."""
        place = min(max(place, 0), len(self.text))
        return place if self._bytes is None else self._bytes[place]

    def to_character(self, place: int) -> int:
        """The character that begins at a byte.

        Raises:
            _MisfitError: where none does.
        """
        if not 0 <= place <= self._end:
            raise _MisfitError
        if self._bytes is None:
            return place
        found = bisect_left(self._bytes, place)
        if self._bytes[found] != place:
            raise _MisfitError
        return found


def decode_citations(members: Fields, text: str | None) -> list[Citation]:
    """The citations of `text`, taken from a candidate; what does not fit is left as it came, all where it is None."""
    if GROUNDING not in members and RECITED not in members:
        return []
    places = Places(text) if text is not None else None
    return [*_decode_grounding(members, places), *_decode_recited(members, places)]


def _decode_grounding(members: Fields, places: Places | None) -> list[Citation]:
    raw = members.object(GROUNDING)
    inner = Fields.of(raw) if raw is not None else None
    if raw is None or inner is None:
        return []
    try:
        found = _grounded(inner, places)
    except _MisfitError:
        members.put_back(GROUNDING, raw)
        return []
    left = {extra.path[-1]: extra.value for extra in inner.rest(DIALECT)}
    if left:
        members.put_back(GROUNDING, _encoded(left))
        members.inside(GROUNDING)  # what is left of it travels member by member
    return found


def _encoded(value: object) -> msgspec.Raw:
    return msgspec.Raw(encode(value))


def _grounded(inner: Fields, places: Places | None) -> list[Citation]:
    chunks = [_chunk(raw) for raw in inner.take(_CHUNKS, RAWS) or ()]
    supports = inner.take(_SUPPORTS, RAWS) or []
    if _CHUNKS in inner or _SUPPORTS in inner or len(chunks) + len(supports) > _MOST:
        raise _MisfitError
    if places is None:
        if chunks or supports:
            raise _MisfitError
        return []
    found: list[Citation] = []
    unused = set(range(len(chunks)))
    for raw in supports:
        start, end, indices, scores = _support(raw, places)
        for place, score in zip(indices, scores, strict=True):
            if not 0 <= place < len(chunks) or len(found) > _MOST:
                raise _MisfitError
            unused.discard(place)
            cited = chunks[place]
            rest = cited.rest if score is None else (Extra(DIALECT, (_SCORES,), _encoded([score])), *cited.rest)
            found.append(msgspec.structs.replace(cited, start=start, end=end, rest=rest))
    return [*found, *(chunks[place] for place in sorted(unused))]


def _chunk(raw: msgspec.Raw) -> Citation:
    members = Fields.of(raw)
    inner = members.object("web") if members is not None else None
    web = Fields.of(inner) if inner is not None else None
    if members is None or web is None or not members.empty:
        raise _MisfitError
    url, title = web.take("uri", STRING), web.take("title", STRING)
    return Citation(
        url, title, rest=tuple(Extra(DIALECT, ("web", *extra.path), extra.value) for extra in web.rest(DIALECT))
    )


def _support(raw: msgspec.Raw, places: Places) -> tuple[int, int, list[int], Sequence[float | None]]:
    members = Fields.of(raw)
    if members is None:
        raise _MisfitError
    segment = members.inside("segment")
    indices = members.take("groundingChunkIndices", _integers) or []
    stated = members.take(_SCORES, _numbers)
    scores: Sequence[float | None] = stated or [None] * len(indices)
    start, end = _span(segment, places)
    words = segment.take("text", STRING)
    segment.take("partIndex", INTEGER)
    if not members.empty or not indices or len(scores) != len(indices):
        raise _MisfitError
    if words is not None and (len(words) != end - start or not places.text.startswith(words, start)):
        raise _MisfitError
    return start, end, indices, scores


def _span(members: Fields, places: Places) -> tuple[int, int]:
    """The characters from and to which something goes; a beginning at 0 may be left out."""
    start, end = members.take("startIndex", INTEGER) or 0, members.take("endIndex", INTEGER)
    if end is None or start > end:
        raise _MisfitError
    return places.to_character(start), places.to_character(end)


def _decode_recited(members: Fields, places: Places | None) -> list[Citation]:
    raw = members.object(RECITED) if places is not None else None
    inner = Fields.of(raw) if raw is not None else None
    if raw is None or inner is None or places is None:
        return []
    name = next((name for name in _LISTS if name in inner), "")
    items = inner.take(name, RAWS) or []
    try:
        found = [_recited(item, name, places) for item in items]
    except _MisfitError:
        found = []
    if not found or len(found) > _MOST or not inner.empty:
        members.put_back(RECITED, raw)
        return []
    return found


def _recited(raw: msgspec.Raw, name: str, places: Places) -> Citation:
    members = Fields.of(raw)
    if members is None:
        raise _MisfitError
    start, end = _span(members, places)
    url, title = members.take("uri", STRING), members.take("title", STRING)
    left = _encoded({extra.path[-1]: extra.value for extra in members.rest(DIALECT)})
    return Citation(url, title, start=start, end=end, rest=(Extra(DIALECT, (name,), left),))


def encode_citations(
    citations: Sequence[Citation], text: str, part: int, where: str, losses: list[Loss]
) -> dict[str, Any]:
    """The members of a candidate that say where `text`, its part of that index, comes from."""
    writing = _Writing(Places(text), part)
    for index, cited in enumerate(citations):
        place = f"{where}.citations.{index}"
        losses += losses_of(cited.rest, DIALECT, place)
        if cited.quote is not None:
            losses.append(Loss(LossKind.MARK, f"{place}.quote"))
        writing.add(cited)
    grounding = {name: items for name, items in ((_CHUNKS, writing.chunks), (_SUPPORTS, writing.supports)) if items}
    said = {RECITED: writing.recited, GROUNDING: grounding}
    return {name: members for name, members in said.items() if members}


class _Writing:
    """Citations of one text, as they are written."""

    def __init__(self, places: Places, part: int) -> None:
        self.chunks: list[Any] = []
        self.supports: list[Any] = []
        self.recited: dict[str, list[Any]] = {}
        self._known: dict[bytes, int] = {}
        self._places = places
        self._part = part
        self._words = _WORDS

    def add(self, cited: Citation) -> None:
        """One more."""
        source = {name: value for name, value in (("uri", cited.url), ("title", cited.title)) if value is not None}
        name = next((name for name in _LISTS if find(cited.rest, DIALECT, name) is not None), "")
        span = self._span(cited)
        if name:
            left = Fields.of(find(cited.rest, DIALECT, name) or b"") or Fields({})
            self.recited.setdefault(name, []).append(with_rest({**span, **source}, left.rest(DIALECT), DIALECT))
            return
        beside = tuple(extra for extra in cited.rest if extra.path[0] == "web")
        chunk = encode(with_rest({"web": source}, beside, DIALECT))
        place = self._known.setdefault(chunk, len(self.chunks)) if span else len(self.chunks)
        if place == len(self.chunks):
            self.chunks.append(msgspec.Raw(chunk))
        if span:
            score = find(cited.rest, DIALECT, _SCORES)
            scores = {_SCORES: score} if score is not None else {}
            segment = {**span, **self._said_again(cited), **({"partIndex": self._part} if self._part else {})}
            self.supports.append({"segment": segment, "groundingChunkIndices": [place], **scores})

    def _span(self, cited: Citation) -> dict[str, Any]:
        if cited.start is None or cited.end is None:
            return {}
        return {"startIndex": self._places.to_bytes(cited.start), "endIndex": self._places.to_bytes(cited.end)}

    def _said_again(self, cited: Citation) -> dict[str, str]:
        words = self._places.text[cited.start : cited.end] if self._words > 0 else ""
        self._words -= len(words)
        return {"text": words} if words else {}
