"""The cases: what clients and providers write, dialect by dialect, as it goes over the wire. It must not decode them.

A case is a folder below `cases`: `request.<dialect>.json`, `reply.<dialect>.json` and `stream.<dialect>.txt`, the last
as the bytes are, but for Bedrock's, which are framed in binary: a line `{"<event>": <payload>}` for each. `case.toml`:

    title, group, feature  what it shows; cases of one feature share a row of docs/fidelity.md
    profile                the name of one of `PROFILES`, that requests are also written for
    kind                   for errors: what they mean, and `status` the HTTP status of each dialect's answer
    fails                  streams that break off or tell a failure
    [sources]              what each file was written after
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ostiary.wire.framing.event_stream import write_message
from ostiary.wire.profile import ANY, Profile, Thinks
from ostiary.wire.registry import DIALECTS

HERE = Path(__file__).resolve().parent
CASES, SNAPSHOTS = HERE / "cases", HERE / "snapshots"
NAMES = tuple(DIALECTS)
# Models of an older kind, or of another maker's, for which a request is written otherwise.
PROFILES: dict[str, Profile] = {
    "adaptive": Profile(thinks=Thinks.ADAPTIVE),
    "budget": Profile(thinks=Thinks.BUDGET),
    "modest": Profile(thinks=Thinks.NEVER, sampling=False, developer=False, new_cap=False, cache_marks=False),
    "never": Profile(thinks=Thinks.NEVER),
    "no-schema": Profile(schema=False),
    "stricter": Profile(version="2026-10-21"),
    "any": ANY,
}


class File(NamedTuple):
    """One file of a case: `kind` is request, reply, stream or error."""

    case: str
    kind: str
    dialect: str
    path: Path

    @property
    def id(self) -> str:
        return f"{self.case}.{self.dialect}.{self.kind}"

    @property
    def snapshot(self) -> Path:
        return SNAPSHOTS / f"{self.id}.txt"

    @property
    def about(self) -> dict[str, Any]:
        """The case's `case.toml`."""
        return about(self.case)

    def wire(self) -> bytes:
        """The bytes that go over the wire."""
        data = self.path.read_bytes()
        if self.kind == "stream" and self.dialect == "bedrock_converse":
            return b"".join(_framed(line) for line in data.splitlines() if line.strip())
        return data


@cache
def about(case: str) -> dict[str, Any]:
    """What a case says of itself."""
    return tomllib.loads((CASES / case / "case.toml").read_text())


@cache
def files() -> tuple[File, ...]:
    """Every file of every case."""
    found = []
    for path in sorted(CASES.glob("*/*.*")):
        if path.name == "case.toml":
            continue
        kind, dialect, _ = path.name.split(".")
        case = path.parent.name
        found.append(File(case, "error" if kind == "reply" and "kind" in about(case) else kind, dialect, path))
    return tuple(found)


def of_kind(kind: str) -> list[File]:
    """The files of one kind."""
    return [file for file in files() if file.kind == kind]


def _framed(line: bytes) -> bytes:
    """One message of Bedrock's, from its readable form."""
    ((name, payload),) = msgspec.json.decode(line, type=dict[str, msgspec.Raw]).items()
    kind = "exception" if name.endswith("Exception") else "event"
    headers = {f":{kind}-type": name, ":content-type": "application/json", ":message-type": kind}
    return write_message(headers, bytes(payload))
