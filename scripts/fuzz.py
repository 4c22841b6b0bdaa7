"""Throws arbitrary bytes at everything that reads bytes from outside, guided by coverage: `make fuzz`.

Whatever comes, a reader gives a value or raises `Fault`, in bounded time. Anything else ends the run with the input
that did it. It must not use the network or keep anything but its corpus.

usage: fuzz.py [--seconds N] [--target NAME]... [--corpus DIRECTORY] [--crashes DIRECTORY]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from ostiary.core.fault import Fault
from ostiary.wire.conversation.conversation import Conversation
from ostiary.wire.dialect import Answering, Dialect
from ostiary.wire.dialects.openai_chat.tap import StreamTap
from ostiary.wire.embedding.shapes import SHAPES as EMBEDDINGS
from ostiary.wire.framing.multipart import boundary_of, parts_of
from ostiary.wire.governed import read
from ostiary.wire.profile import ANY
from ostiary.wire.registry import SPOKEN
from ostiary.wire.rerank.shapes import SHAPES as RERANKS

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 64 * 1024  # bytes of an input
SLOWEST = 2.0  # seconds for one input, instrumented
GOLDENS = ROOT / "tests" / "golden" / "cases"

Target = Callable[[bytes], object]


def _request(dialect: Dialect) -> Target:
    def take(data: bytes) -> None:
        asked = dialect.decode_request(data)
        for other in SPOKEN.values():
            try:
                other.encode_request(asked, ANY)
            except Fault:
                continue

    return take


def _reply(dialect: Dialect) -> Target:
    asked = Answering(id="fuzz", created=1, model="m", asked=Conversation(model="m", messages=()))

    def take(data: bytes) -> None:
        reply = dialect.decode_reply(data)
        for other in SPOKEN.values():
            try:
                other.encode_reply(reply, asked)
            except Fault:
                continue

    return take


def _stream(dialect: Dialect) -> Target:
    asked = Answering(id="fuzz", created=1, model="m", asked=Conversation(model="m", messages=()))

    def take(data: bytes) -> None:
        decoder, middle = dialect.decoder(), len(data) // 2
        events = [*decoder.feed(data[:middle]), *decoder.feed(data[middle:]), *decoder.finish()]
        for other in SPOKEN.values():
            encoder = other.encoder(asked)
            try:
                for event in events:
                    encoder.encode(event)
                encoder.end()
            except Fault:
                continue

    return take


def _fault(dialect: Dialect) -> Target:
    def take(data: bytes) -> None:
        for status in (400, 401, 404, 429, 500, 529):
            dialect.encode_fault(dialect.decode_fault(status, data, None))

    return take


def _tap(data: bytes) -> None:
    tap = StreamTap(strip_usage=True)
    tap.feed(data)
    tap.finish()


def _form(data: bytes) -> None:
    parts_of(data, boundary_of(b"multipart/form-data; boundary=x"))


def targets() -> dict[str, Target]:
    """Everything that reads bytes from outside, by name."""
    found: dict[str, Target] = {"governed": lambda data: read(data, max_depth=64), "chat-tap": _tap, "form": _form}
    for name, dialect in SPOKEN.items():
        found |= {
            f"{name}-request": _request(dialect),
            f"{name}-reply": _reply(dialect),
            f"{name}-stream": _stream(dialect),
            f"{name}-fault": _fault(dialect),
        }
    found |= {f"embedding-{name}": shape.decode_request for name, shape in EMBEDDINGS.items()}
    found |= {f"rerank-{name}": shape.decode_request for name, shape in RERANKS.items()}
    return found


def guarded(take: Target) -> Target:
    """The same, within its bounds: a `Fault` is an answer, slowness is none."""

    def run(data: bytes) -> None:
        began = time.perf_counter()
        with contextlib.suppress(Fault):
            take(data)
        took = time.perf_counter() - began
        if took > SLOWEST:
            raise RuntimeError(f"took {took:.1f} s for {len(data)} bytes")

    return run


def seeds(name: str, into: Path) -> None:
    """Files to begin with: the golden cases of the target's dialect."""
    for number, path in enumerate(_goldens(name)):
        (into / f"golden-{number}").write_bytes(path.read_bytes()[:LONGEST])


def _goldens(name: str) -> Iterable[Path]:
    dialect, _, kind = name.rpartition("-")
    return sorted(GOLDENS.glob(f"*/{kind}.{dialect}.*"))


def fuzz_one(name: str, corpus: Path, crashes: Path, seconds: int) -> None:
    """Fuzz one target in this process; it ends the process."""
    import atheris  # type: ignore[import-untyped,unused-ignore]  # heavy, and only here

    atheris.instrument_all()
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST}",
        "-rss_limit_mb=2048",
        f"-artifact_prefix={crashes}/{name}-",
    ]
    atheris.Setup([sys.argv[0], str(corpus), *options], guarded(targets()[name]))
    atheris.Fuzz()


def main() -> int:
    """Each target in a process of its own, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=20, help="for each target")
    parser.add_argument("--target", action="append", choices=sorted(targets()), help="only these")
    parser.add_argument("--corpus", type=Path, help="kept from run to run; a temporary directory by default")
    parser.add_argument(
        "--crashes", type=Path, default=Path(".fuzz"), help="where inputs are left that break something"
    )
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.inside:
        fuzz_one(asked.inside, asked.corpus, asked.crashes, asked.seconds)
        return 0
    failed: list[str] = []
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    crashes = asked.crashes.resolve()
    crashes.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        for name in asked.target or targets():
            corpus = (asked.corpus or Path(temporary)).resolve() / name
            corpus.mkdir(parents=True, exist_ok=True)
            seeds(name, corpus)
            command: list[object] = [sys.executable, Path(__file__).resolve(), "--inside", name, "--corpus", corpus]
            command += ["--crashes", crashes, "--seconds", asked.seconds]
            done = subprocess.run(
                list(map(str, command)), check=False, capture_output=True, text=True, cwd=temporary, env=environment
            )
            last = next((line for line in reversed(done.stderr.splitlines()) if "DONE" in line), "")
            print(f"{name:<36}{'ok' if done.returncode == 0 else 'FAILED'}  {last[:110]}", flush=True)
            if done.returncode:
                failed.append(name)
                print(done.stdout[-4000:], flush=True)
    print(msgspec.json.encode({"targets": len(asked.target or targets()), "failed": failed}).decode())
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
