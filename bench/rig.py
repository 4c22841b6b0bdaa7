"""The test bench: processes pinned to a core, what they cost, and load by wrk. It must not judge what comes out."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
TICK = os.sysconf("SC_CLK_TCK")
GATEWAY_CORE, LOAD_CORE = 0, 1
MODEL = "gpt-4o-mini"
PATH = "/v1/chat/completions"
# About 1 kB on the wire with its headers, as a short chat request is.
CHAT = json.dumps(
    {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "You answer in one sentence. " + "Keep to the facts you are given. " * 12},
            {"role": "user", "content": "What does a gateway in front of language models do for the people behind it?"},
        ],
        "temperature": 0.2,
        "max_tokens": 64,
    }
)
ANSWER = json.dumps(
    {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1700000000,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "It checks who asks, what they may spend and where their words may go, and hands on "
                    "everything else exactly as it came, so that nobody has to think of it.",
                    "refusal": None,
                },
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 97,
            "completion_tokens": 33,
            "total_tokens": 130,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        },
        "service_tier": "default",
        "system_fingerprint": "fp_bench",
    }
)
# The same question in another dialect, which a provider of OpenAI's has to be asked in translation.
MESSAGES_PATH = "/v1/messages"
_turns = json.loads(CHAT)["messages"]
MESSAGES = json.dumps(
    {
        "model": MODEL,
        "system": _turns[0]["content"],
        "messages": _turns[1:],
        "temperature": 0.2,
        "max_tokens": 64,
    }
)
NGINX = """
worker_processes 1; pid {name}.pid; error_log stderr error;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 600s;
  client_body_buffer_size 4m; client_max_body_size 32m;
  client_body_temp_path {name}-body; proxy_temp_path {name}-proxy; fastcgi_temp_path {name}-fastcgi;
  uwsgi_temp_path {name}-uwsgi; scgi_temp_path {name}-scgi;
  {body}
}}
"""
UPSTREAM = """
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ default_type application/json; return 200 '{answer}'; }}
  }}
"""
FLOOR = """
  upstream up {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location /health/ {{ return 200 'ok'; }}
    location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection "";
                 proxy_set_header Authorization "Bearer sk-upstream"; }}
  }}
"""


def free_port() -> int:
    """A port of the loopback that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def pinned(core: int, command: Sequence[object]) -> list[str]:
    """`command`, kept on one core."""
    return ["taskset", "-c", str(core), *map(str, command)]


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for known in found:  # grows while it is walked
        found.extend(children.get(known, []))
    return found


@dataclass
class Subject:
    """A server under measurement: where it listens, which key it takes, and its process."""

    name: str
    port: int
    key: str
    process: subprocess.Popen[bytes]
    log: Path

    def cpu(self) -> float:
        """Processor seconds used so far by the whole process tree."""
        ticks = 0
        for pid in tree(self.process.pid):
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / TICK

    def resident_mb(self) -> float:
        """Resident memory of the whole process tree."""
        total = 0
        for pid in tree(self.process.pid):
            with contextlib.suppress(OSError):
                match = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
                total += int(match[1]) if match else 0
        return total / 1024

    def post(self, path: str, body: object, timeout: float = 10.0) -> tuple[int, bytes]:
        """One JSON request; status and body of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            head = {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"}
            connection.request("POST", path, body if isinstance(body, str) else json.dumps(body), head)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def await_answer(self, seconds: float = 120.0, path: str = PATH, body: object = CHAT) -> float:
        """Wait until a request is answered 200; how many seconds that took."""
        started = time.monotonic()
        status: int | str = "no answer"
        while time.monotonic() - started < seconds and self.process.poll() is None:
            try:
                status, _ = self.post(path, body, timeout=5.0)
            except (OSError, http.client.HTTPException) as failure:
                status = type(failure).__name__
            if status == 200:
                return time.monotonic() - started
            time.sleep(0.01)
        raise RuntimeError(f"{self.name} gives {status}, its log ends:\n{self.log.read_text(errors='replace')[-3000:]}")


@dataclass(frozen=True)
class Load:
    """What wrk saw, and what it cost the server. Times in milliseconds, `cpu_us` per request in microseconds."""

    requests: int
    per_second: float
    p50: float
    p99: float
    bad: int  # answers that were not 200, and broken or timed-out connections
    cpu_us: float
    errors: str = ""  # wrk's words for the broken and timed-out ones


def parse_wrk(report: str, cpu_seconds: float) -> Load:
    """Read what `wrk --latency` prints."""

    def number(pattern: str, default: str | None = None) -> str:
        match = re.search(pattern, report, re.MULTILINE)
        if match is None and default is None:
            raise RuntimeError(f"wrk did not say {pattern}:\n{report}")
        return match[1] if match else str(default)

    def milliseconds(pattern: str) -> float:
        value = number(pattern)
        factor = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60000.0}
        unit = value.lstrip("0123456789.")
        return float(value.removesuffix(unit)) * factor[unit]

    requests = int(number(r"(\d+) requests in"))
    errors = number(r"Socket errors: (.*)", "")
    broken = sum(map(int, re.findall(r"(?:connect|read|write|timeout) (\d+)", errors)))
    return Load(
        requests=requests,
        per_second=float(number(r"Requests/sec:\s+([\d.]+)")),
        p50=milliseconds(r"^ *50%\s+(\S+)"),
        p99=milliseconds(r"^ *99%\s+(\S+)"),
        bad=int(number(r"Non-2xx or 3xx responses: (\d+)", "0")) + broken,
        cpu_us=cpu_seconds * 1e6 / max(requests, 1),
        errors=errors,
    )


@dataclass
class Rig:
    """The bench itself: a work folder, the upstream and the floor, and what else is started. Use as a context."""

    folder: Path
    running: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> Rig:
        for tool in ("nginx", "wrk", "taskset"):
            if shutil.which(tool) is None:
                raise SystemExit(f"The bench needs {tool} (Debian packages: nginx-light, wrk, util-linux).")
        if len(os.sched_getaffinity(0)) < 2:
            raise SystemExit("The bench needs two processor cores: one for the gateway, one for all else.")
        self.upstream_port = free_port()
        upstream = UPSTREAM.format(port=self.upstream_port, answer=ANSWER)
        self._nginx("upstream", LOAD_CORE, self.upstream_port, upstream).await_answer()
        port = free_port()
        floor = FLOOR.format(port=port, upstream=self.upstream_port)
        self.floor = self._nginx("nginx", GATEWAY_CORE, port, floor)
        self.floor.await_answer()
        return self

    def __exit__(self, *failure: object) -> None:
        self.running.close()

    def _nginx(self, name: str, core: int, port: int, body: str) -> Subject:
        """Start an nginx with one worker."""
        conf = self.folder / f"{name}.conf"
        conf.write_text(NGINX.format(name=name, body=body))
        command = ["nginx", "-p", self.folder, "-e", "stderr", "-c", conf, "-g", "daemon off;"]
        return self.start(name, command, port, "sk-none", core=core)

    def start(
        self,
        name: str,
        command: Sequence[object],
        port: int,
        key: str,
        *,
        core: int = GATEWAY_CORE,
        environment: Mapping[str, str] | None = None,
    ) -> Subject:
        """Start a server on one core; it is stopped with the rig."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                pinned(core, command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
            )
        subject = Subject(name, port, key, process, log)
        self.running.callback(self.stop, subject)
        return subject

    def stop(self, subject: Subject) -> None:
        """End a server and all below it; twice does no harm."""
        if subject.process.poll() is None:
            subject.process.terminate()
            try:
                subject.process.wait(20)
            except subprocess.TimeoutExpired:
                for pid in reversed(tree(subject.process.pid)):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, 9)
                subject.process.wait()

    @contextlib.contextmanager
    def running_subject(self, subject: Subject) -> Iterator[Subject]:
        """`subject`, stopped at the end of the block rather than with the rig."""
        try:
            yield subject
        finally:
            self.stop(subject)

    def wrk(
        self,
        subject: Subject,
        seconds: float,
        *,
        connections: int = 64,
        keys: Sequence[str] = (),
        translated: bool = False,
    ) -> Load:
        """Load a server as fast as it answers, with its key or with several in turn.

        Args:
            translated: ask in the other dialect.
        """
        names = self.folder / "keys.txt"
        names.write_text("\n".join(keys or [subject.key]))
        environment = {**os.environ, "BENCH_KEYS": str(names), "BENCH_BODY": MESSAGES if translated else CHAT}
        path = MESSAGES_PATH if translated else PATH
        options = [
            "-t1",
            f"-c{connections}",
            f"-d{max(1, round(seconds))}",
            "--latency",
            "--timeout",
            "10s",
            "-s",
            HERE / "chat.lua",
        ]
        command = pinned(LOAD_CORE, ["wrk", *options, f"http://127.0.0.1:{subject.port}{path}"])
        before = subject.cpu()
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        return parse_wrk(done.stdout, subject.cpu() - before)
