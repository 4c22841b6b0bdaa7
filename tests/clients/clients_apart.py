"""Clients that run in a process of their own, asked by lines of JSON: the Vercel AI SDK, and older libraries."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lines import ANSWERS, DESCRIPTION, QUESTION, SCHEMA, TOOL
from saying import Client, Failure, Said, Seen

from house import House

HERE = Path(__file__).parent
ENVIRONMENT = Path(sys.prefix)
IDS = itertools.count(1)


class CallFailedError(Exception):
    """What a client library raised in its own process."""

    def __init__(self, name: str, message: str, status: int | None) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name
        self.status = status


class Apart:
    """A process that answers jobs one by one."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert self._read() == {"ready": True}

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process of the clients has ended"
        return json.loads(line)

    def ask(self, seen: Seen, **job: Any) -> Said:
        """The outcome of one job.

        Raises:
            CallFailedError: the library raised.
        """
        assert self._process.stdin is not None
        number = next(IDS)
        self._process.stdin.write(json.dumps({"id": number} | job) + "\n")
        self._process.stdin.flush()
        while True:
            told = self._read()
            assert told["id"] == number, told
            if "seen" in told:
                seen(told["seen"])
            elif "failed" in told:
                raise CallFailedError(**told["failed"])
            else:
                return Said(**told["said"])


class ApartClient:
    """See `saying.Client`."""

    def __init__(
        self, apart: Apart, name: str, *, stop: str | None = "stop", carries: bool = False, thinks: bool = True
    ) -> None:
        self._apart = apart
        self.name = name
        self.stop = stop
        self.carries = carries
        self.thinks = thinks

    def text(self, model: str, *, stream: bool) -> Said:
        return self._ask("ask", model, stream=stream)

    def loop(self, model: str, *, stream: bool, thinking: bool) -> Said:
        said = self._ask("loop", model, stream=stream, thinking=thinking)
        said.thought = said.thought if self.thinks else None
        return said

    def failure(self, model: str, *, stream: bool, seen: Seen) -> Failure:
        try:
            self._ask("ask", model, stream=stream, seen=seen)
        except CallFailedError as error:
            return Failure(error, error.status)
        raise AssertionError("no error")

    def close(self) -> None:
        """Its process is ended for all of them."""

    def _ask(self, kind: str, model: str, *, stream: bool, thinking: bool = False, seen: Seen = lambda _: None) -> Said:
        return self._apart.ask(seen, client=self.name, kind=kind, model=model, stream=stream, thinking=thinking)


@contextmanager
def _started(command: Sequence[str | Path], house: House, folder: str) -> Iterator[Apart]:
    environment = {
        "URL_OF_GATEWAY": house.url,
        "KEY": house.key,
        "QUESTION": QUESTION,
        "TOOL": TOOL,
        "DESCRIPTION": DESCRIPTION,
        "SCHEMA": json.dumps(SCHEMA),
        "ANSWERS": json.dumps(ANSWERS),
        "HOME": folder,
        "PATH": "/usr/bin:/bin",
        "NO_COLOR": "1",
    }
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, cwd=folder, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield Apart(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(20) == 0


@contextmanager
def vercel(house: House) -> Iterator[Mapping[str, Client]]:
    """The Vercel AI SDK with its five ways to this gateway. Packages: `.venv/js`; Node: a wheel."""
    packages = ENVIRONMENT / "js" / "node_modules"
    assert packages.is_dir(), f"{packages} is missing: make env-dev"
    with tempfile.TemporaryDirectory(prefix="vercel-") as folder:
        program = Path(folder, "vercel.mjs")
        program.write_bytes((HERE / "js" / "vercel.mjs").read_bytes())
        Path(folder, "node_modules").symlink_to(packages)
        with _started([ENVIRONMENT / "bin" / "node", program], house, folder) as apart:
            made: list[Client] = [
                ApartClient(apart, "ai-openai", thinks=False),
                ApartClient(apart, "ai-responses", carries=True),
                ApartClient(apart, "ai-anthropic", carries=True),
                ApartClient(apart, "ai-google", carries=True),
                ApartClient(apart, "ai-compatible"),
            ]
            yield {client.name: client for client in made}


@contextmanager
def older(house: House) -> Iterator[Mapping[str, Client]]:
    """LlamaIndex and the `openai` library of the generation that it wants. Packages: `.venv/older`."""
    python = ENVIRONMENT / "older" / "bin" / "python"
    assert python.exists(), f"{python} is missing: make env-dev"
    program = HERE / "older" / "older_clients.py"
    with tempfile.TemporaryDirectory(prefix="older-") as folder, _started([python, program], house, folder) as apart:
        made: list[Client] = [
            ApartClient(apart, "llama-index", stop=None, thinks=False),
            ApartClient(apart, "openai-2"),
        ]
        yield {client.name: client for client in made}
