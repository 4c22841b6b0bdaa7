"""The real gateway as a process of its own, for tests. It must not reach into the gateway's insides or touch others."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import yaml

T = TypeVar("T")

ADMIN_KEY = "sk-ost-test-administrator-0123456789abcdef"
INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH")


class Gateway:
    """A started `ostiary serve`: where it listens, what it says, and the means to end it.

    Everything it writes to standard output and error is kept in `output`.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str], config: Path | None, data_dir: Path) -> None:
        self.config = config
        self.data_dir = data_dir
        self.admin_key = env["OSTIARY_ADMIN_KEY"]
        self.host, self.port = "127.0.0.1", 0
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self.process = subprocess.Popen(  # noqa: S603 - our own command, no shell
            command, env=dict(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self._reader = threading.Thread(target=self._read, name="gateway-output", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            for line in stream:
                with self._changed:
                    self._lines.append(line.decode(errors="replace"))
                    self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    @property
    def output(self) -> str:
        """All that was written so far."""
        with self._changed:
            return "".join(self._lines)

    @property
    def url(self) -> str:
        """The origin, without a path."""
        return f"http://{self.host}:{self.port}"

    @property
    def base_url(self) -> str:
        """What an OpenAI client takes as its base URL."""
        return f"{self.url}/v1"

    def wait_for(self, pattern: str, seconds: float = 10.0, *, after: int = 0) -> re.Match[str]:
        """Wait until a line of the output, from line number `after` on, matches.

        Raises:
            TimeoutError: no such line came in time.
            ChildProcessError: the process ended without one.
        """
        limit = time.monotonic() + seconds
        with self._changed:
            while True:
                for line in self._lines[after:]:
                    if found := re.search(pattern, line):
                        return found
                if not self._reader.is_alive():
                    raise ChildProcessError(f"the gateway ended:\n{''.join(self._lines)}")
                if not self._changed.wait(min(0.2, limit - time.monotonic())) and time.monotonic() >= limit:
                    raise TimeoutError(f"no line matches {pattern!r}:\n{''.join(self._lines)}")

    def lines(self) -> int:
        """How many lines were written so far: a mark for `wait_for`."""
        with self._changed:
            return len(self._lines)

    def until_ready(self, seconds: float) -> None:
        """Wait for the line that says where it listens."""
        found = self.wait_for(r"listening on http://([0-9.]+):(\d+)", seconds)
        self.host, self.port = found[1], int(found[2])

    def configure(self, config: Mapping[str, Any] | str) -> None:
        """Replace the configuration file in one step; the gateway notices by itself."""
        assert self.config is not None
        draft = self.config.with_suffix(".new")
        _write(draft, config)
        draft.replace(self.config)

    def send_signal(self, number: int) -> None:
        """Send a signal to the process."""
        self.process.send_signal(number)

    def hang_up(self) -> None:
        """Ask for a reload."""
        self.send_signal(signal.SIGHUP)

    def terminate(self) -> None:
        """Ask for an orderly end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, as a crash would, and wait until it is gone."""
        self.send_signal(signal.SIGKILL)
        self.wait()

    def wait(self, seconds: float = 15.0) -> int:
        """Wait for its end; the exit status."""
        status = self.process.wait(seconds)
        self._reader.join(seconds)
        return status

    def close(self) -> None:
        """End it in order, by force if it does not obey."""
        if self.process.poll() is None:
            self.terminate()
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                self.kill()
        self._reader.join()

    def call(
        self, method: str, path: str, body: object = None, *, key: str | None = None, timeout: float = 10.0
    ) -> tuple[int, Any]:
        """One JSON request; the status and the decoded answer (text where it is not JSON)."""
        link = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        headers = {"content-type": "application/json", "connection": "close"}
        if key is not None:
            headers["authorization"] = f"Bearer {key}"
        try:
            link.request(method, path, None if body is None else json.dumps(body), headers)
            answer = link.getresponse()
            data = answer.read()
        finally:
            link.close()
        try:
            return answer.status, json.loads(data)
        except ValueError:
            return answer.status, data.decode(errors="replace")

    def admin(self, method: str, path: str, body: object = None) -> Any:
        """A request with the administrator's key that is expected to succeed; the decoded answer.

        Raises:
            RuntimeError: the answer is an error.
        """
        status, answer = self.call(method, path, body, key=self.admin_key)
        if status >= 400:
            said = f"\n{self.output}" if status >= 500 else ""
            raise RuntimeError(f"{method} {path}: {status} {answer}{said}")
        return answer

    def key(self, **fields: object) -> str:
        """A new virtual key."""
        made: str = self.admin("POST", "/key/generate", fields)["key"]
        return made

    def records(self, **query: str) -> list[dict[str, Any]]:
        """All rows of the spend log that match the query, page by page, newest first."""
        rows: list[dict[str, Any]] = []
        asked = {"page_size": "1000"} | query
        while True:
            page = self.admin("GET", f"/spend/logs/v2?{urlencode(asked)}")
            rows += page["data"]
            if page["next_cursor"] is None:
                return rows
            asked["cursor"] = page["next_cursor"]

    def record(self, request_id: str | None, seconds: float = 5.0) -> dict[str, Any]:
        """The one settled row of a request; settled records reach the store with a short delay.

        Raises:
            AssertionError: there is none in time, or more than one.
        """
        assert request_id, "the answer named no request"
        rows = eventually(lambda: self.records(request_id=request_id), seconds)
        assert len(rows) == 1, rows
        return rows[0]


def eventually(ask: Callable[[], T], seconds: float = 5.0, every: float = 0.02) -> T:
    """Ask again and again until the answer is true; for what can only be seen from outside. Its value.

    Raises:
        AssertionError: it did not become true in time.
    """
    limit = time.monotonic() + seconds
    while not (value := ask()):
        if time.monotonic() > limit:
            raise AssertionError(f"not true after {seconds} s: {value!r}")
        time.sleep(every)
    return value


def _write(path: Path, config: Mapping[str, Any] | str) -> None:
    path.write_text(config if isinstance(config, str) else yaml.safe_dump(dict(config), sort_keys=False))


@contextmanager
def running_gateway(
    config: Mapping[str, Any] | str | None = None,
    *,
    env: Mapping[str, str] | None = None,
    args: Sequence[str] = (),
    data_dir: Path | None = None,
    ready_seconds: float = 20.0,
) -> Iterator[Gateway]:
    """Start the gateway and wait until it serves; it is ended, and its own directory removed, on leaving.

    Args:
        config: the configuration as a value or as YAML text; None starts it without one.
        env: further environment variables; only a few harmless ones are inherited.
        args: further arguments of `ostiary serve`.
        data_dir: the data directory, kept; by default a new one.
        ready_seconds: how long the start may take.
    """
    with tempfile.TemporaryDirectory(prefix="ostiary-") as made:
        home = Path(made)
        data = data_dir if data_dir is not None else home / "data"
        inherited = {k: v for k, v in os.environ.items() if k in INHERITED or k.startswith("COVERAGE_")}
        settings = {"OSTIARY_DATA_DIR": str(data), "OSTIARY_ADMIN_KEY": ADMIN_KEY, "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, "-m", "ostiary.cli.main", "serve", "--host", "127.0.0.1", "--port", "0"]
        path = None
        if config is not None:
            path = home / "config.yaml"
            _write(path, config)
            command += ["--config", str(path)]
        gateway = Gateway([*command, *args], inherited | settings | dict(env or {}), path, data)
        try:
            gateway.until_ready(ready_seconds)
            yield gateway
        finally:
            gateway.close()
