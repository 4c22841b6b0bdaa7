"""Intake of the master key: from a file, from the environment, or made at the first start. It must not use it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import itertools
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ostiary.core.fault import Fault, Kind, Origin

LENGTH = 32
FILE_NAME = "master.key"
ENV_VALUE = "OSTIARY_MASTER_KEY"
ENV_FILE = "OSTIARY_MASTER_KEY_FILE"
FEWEST_DISTINCT = 8

# Anybody's first guesses, as they are hashed to get 32 bytes out of them.
_GUESSES = (
    "", "0", "1", "1234", "12345678", "1234567890", "admin", "changeme", "default", "example", "key", "letmein",
    "litellm", "master", "master-key", "master_key", "masterkey", "ostiary", "passphrase", "password", "qwerty", "root",
    "salt", "secret", "sk-1234", "sk-12345", "sk-master", "sk-master-key", "test", "your-master-key",
)  # fmt: skip
# Keys out of published test vectors of AES-256: NIST SP 800-38A and the GCM specification.
_PUBLISHED = frozenset(
    bytes.fromhex(text)
    for text in (
        "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
        "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
        "8000000000000000000000000000000000000000000000000000000000000001",
    )
)


class MasterKey:
    """The root of all keys at rest. Shows its id, never its bytes."""

    __slots__ = ("id", "material", "source")

    def __init__(self, material: bytes, source: str) -> None:
        self.material = material
        self.source = source
        self.id = base64.b32encode(hashlib.sha256(b"gw-mk-id" + material).digest()).decode()[:10]

    def __repr__(self) -> str:
        return f"MasterKey(id={self.id}, source={self.source})"


def load_master_key(directory: Path, environment: Mapping[str, str], *, needed_by: Iterable[Path] = ()) -> MasterKey:
    """The master key of this instance: `OSTIARY_MASTER_KEY`, else `OSTIARY_MASTER_KEY_FILE`, else `master.key` in
    `directory`, which is made at the first start (directory 0700, file 0600).

    Args:
        needed_by: what an earlier start made: where one of these is there, the key was lost, and none is made anew.

    Raises:
        Fault: INTERNAL, naming the source and what is wrong with it, never the value.
    """
    value, path = environment.get(ENV_VALUE), environment.get(ENV_FILE)
    if value is not None and path is not None:
        raise _refusal(f"{ENV_VALUE} and {ENV_FILE} are both set; set one of them")
    if value is not None:
        return MasterKey(_checked(_decoded(value.encode("utf-8", "replace"), ENV_VALUE), ENV_VALUE), ENV_VALUE)
    if path is not None:
        return _from_file(Path(path))
    own = directory / FILE_NAME
    if not own.exists():
        remains = next((one for one in needed_by if one.exists()), None)
        if remains is not None:
            ways = f"restore the file, or set {ENV_VALUE} or {ENV_FILE}"
            raise _refusal(f"the master key file {own} is missing, and {remains} cannot be read without it: {ways}")
        _make(own)
    return _from_file(own)


def _make(path: Path) -> None:
    """Write a new key file."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{FILE_NAME}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(base64.b64encode(_random()) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(fresh, path)  # never replaces a key that another process wrote meanwhile
    except FileExistsError:
        pass
    finally:
        fresh.unlink()


def _random() -> bytes:
    """Fresh material that passes the intake's own checks."""
    while True:
        material = os.urandom(LENGTH)
        if _weakness(material) is None:
            return material


def _from_file(path: Path) -> MasterKey:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise _refusal(f"the master key file {path} is not a regular file")
        if status.st_mode & 0o077:
            raise _refusal(f"the master key file {path} can be read by others; run: chmod 600 {path}")
        with path.open("rb") as file:
            raw = file.read(1024)
    except OSError as error:
        raise _refusal(f"the master key file {path} cannot be read ({error.strerror})") from None
    return MasterKey(_checked(_decoded(raw, str(path)), str(path)), str(path))


def _decoded(raw: bytes, source: str) -> bytes:
    """32 raw bytes, or their hex or base64 text."""
    if len(raw) == LENGTH:
        return raw
    text = raw.strip()
    try:
        return bytes.fromhex(text.decode("ascii"))
    except ValueError:
        pass
    try:
        return base64.b64decode(text.replace(b"-", b"+").replace(b"_", b"/") + b"=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise _refusal(f"the master key in {source} is neither hex nor base64 nor {LENGTH} raw bytes") from None


def _checked(material: bytes, source: str) -> bytes:
    weakness = _weakness(material)
    if weakness is not None:
        raise _refusal(f"the master key in {source} is refused: {weakness}; make one with: openssl rand -base64 32")
    return material


def _weakness(material: bytes) -> str | None:
    """Why this is no master key, or None."""
    if len(material) != LENGTH:
        return f"it has {len(material)} bytes, not {LENGTH}"
    if len(set(material)) == 1:
        return "all its bytes are equal"
    if len(set(material)) < FEWEST_DISTINCT:
        return f"it has fewer than {FEWEST_DISTINCT} distinct bytes"
    if all(0x20 <= byte < 0x7F for byte in material):
        return "it is printable text, not random bytes"
    return _pattern(material)


def _pattern(material: bytes) -> str | None:
    """Why these bytes, though they differ, are not random, or None. Of random keys none will ever be refused."""
    if material in _PUBLISHED or any(material == digest(word) for word in _GUESSES for digest in _digests()):
        return "it is well known"
    if len({(after - before) % 256 for before, after in itertools.pairwise(material)}) == 1:
        return "its bytes are a sequence"
    if any(material == material[:length] * (LENGTH // length) for length in (8, 16)):
        return "it repeats itself"
    bare = material.strip(b"\0")
    if len(bare) <= LENGTH // 2 or all(0x20 <= byte < 0x7F for byte in bare):
        return "it is a short key filled up with zeros"
    return None


def _digests() -> tuple[Callable[[str], bytes], ...]:
    """The ways to make 32 bytes of a word that are tried first."""
    return (
        lambda word: hashlib.sha256(word.encode()).digest(),
        lambda word: hashlib.sha256(f"{word}\n".encode()).digest(),
        lambda word: hashlib.sha3_256(word.encode()).digest(),
        lambda word: hashlib.sha512(word.encode()).digest()[:LENGTH],
    )


def _refusal(public: str) -> Fault:
    return Fault(Kind.INTERNAL, public, origin=Origin.GATEWAY)
