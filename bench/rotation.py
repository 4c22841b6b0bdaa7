"""Rotation of all keys under request load, killed again and again. It prints JSON and saves nothing.

A gateway serves requests that make new end users, while `ostiary vault rotate` runs beside it and is killed at random
points. Then it runs once undisturbed, for its speed, and `ostiary vault verify` opens everything.

python bench/rotation.py [values] [kills]
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ostiary.cli.clock import SystemClock
from ostiary.store.database import connect
from ostiary.store.instance import Store
from ostiary.store.keystore import FILE_NAME, DatabaseKeySlots
from ostiary.store.names import Names
from ostiary.testing.factories import configuration, deployment
from ostiary.testing.gateway import INHERITED, Gateway, running_gateway
from ostiary.testing.provider import hosted_provider
from ostiary.vault.keyring import open_keyring
from ostiary.vault.master import load_master_key
from ostiary.vault.wrapper import LocalSeal

BATCH = 5000
SHORTEST, LONGEST = 0.3, 6.0  # seconds until a kill
EVERY_VERIFIED = 20  # kills
PAUSE = 0.01  # seconds between two requests


async def fill(directory: Path, values: int) -> None:
    """Put this many end users into a new instance."""
    clock = SystemClock()
    slots = DatabaseKeySlots(f"sqlite:///{directory / FILE_NAME}")
    keyring = await open_keyring(slots, lambda: [LocalSeal(load_master_key(directory, {}))], clock)
    store = Store(connect(f"sqlite:///{directory}/ostiary.db"), keyring, clock)
    await store.prepare()
    names = Names(store.database, keyring, clock)
    for start in range(0, values, BATCH):
        numbers = range(start, min(start + BATCH, values))
        await names.resolve([(store.default_org, "end_user", f"customer-{number}") for number in numbers])
    await store.close()
    await slots.close()


class Load(threading.Thread):
    """Requests one after another until it is told to stop; each third one has an end user that nobody has seen."""

    def __init__(self, gateway: Gateway, key: str) -> None:
        super().__init__(daemon=True)
        self.statuses: Counter[int] = Counter()
        self.changes = 0
        self.slowest = 0.0
        self.ended = threading.Event()
        self._gateway, self._key = gateway, key

    def run(self) -> None:
        """Send requests, and change a key from time to time."""
        number = 0
        while not self.ended.wait(PAUSE):
            number += 1
            body = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "user": f"new-{number // 3}"}
            began = time.monotonic()
            status, _ = self._gateway.call("POST", "/v1/chat/completions", body, key=self._key, timeout=60)
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.statuses[status] += 1
            if number % 50 == 0:
                self._gateway.admin("POST", "/key/update", {"key": self._key, "metadata": {"number": number}})
                self.changes += 1


def vault(environment: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the vault to its end."""
    command = [sys.executable, "-m", "ostiary.cli.main", "vault", *words]
    return subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False)


def told(environment: Mapping[str, str], *words: str) -> Any:
    """What a command says as JSON."""
    done = vault(environment, *words, "--json")
    if not done.stdout:
        raise SystemExit(f"vault {' '.join(words)}: {done.stderr}")
    return json.loads(done.stdout)


def killed(environment: Mapping[str, str], seconds: float) -> int:
    """Run a rotation and kill it after some seconds; how it ended."""
    command = [sys.executable, "-m", "ostiary.cli.main", "vault", "rotate"]
    process = subprocess.Popen(command, env=dict(environment), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        return process.wait()


def rotated(environment: Mapping[str, str], kills: int) -> dict[str, Any]:
    """Kill rotations, see each time that everything opens, and let one run to its end."""
    chance, ends, broken = random.Random(1), Counter[int](), 0
    while ends[-signal.SIGKILL] < kills:
        ends[killed(environment, chance.uniform(SHORTEST, LONGEST))] += 1
        if sum(ends.values()) % EVERY_VERIFIED == 0:
            broken += told(environment, "verify")["broken"]
    last = vault(environment, "rotate")
    began = time.monotonic()
    whole = vault(environment, "rotate", "--data")
    seconds = time.monotonic() - began
    found = told(environment, "verify")
    status = told(environment, "status", "--count")
    under = [(key["state"], key["values"]) for keys in status["scopes"].values() for key in keys if "values" in key]
    return {
        "kills": ends[-signal.SIGKILL],
        "other_ends": {code: count for code, count in ends.items() if code != -signal.SIGKILL},
        "unreadable": broken + found["broken"],
        "values": found["values"],
        "values_under_old_keys": sum(count for state, count in under if state != "primary"),
        "slots": len(status["slots"]),
        "exit_codes": [last.returncode, whole.returncode],
        "whole_rotation_seconds": round(seconds, 1),
        "values_per_second": round(found["values"] / seconds),
    }


def main() -> None:
    """Run it and print one line of JSON."""
    values = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    kills = int(sys.argv[2]) if len(sys.argv) > 2 else 100
    with tempfile.TemporaryDirectory() as made, hosted_provider() as provider:
        directory = Path(made) / "data"
        directory.mkdir(mode=0o700)
        asyncio.run(fill(directory, values))
        environment = {"OSTIARY_DATA_DIR": str(directory)}
        environment |= {name: os.environ[name] for name in INHERITED if name in os.environ}
        with running_gateway(configuration(deployment("m", provider.url)), data_dir=directory) as gateway:
            load = Load(gateway, gateway.key())
            load.start()
            figures = rotated(environment, kills)
            load.ended.set()
            load.join()
            bad = [line for line in gateway.output.splitlines() if '"level":"error"' in line.lower()]
        figures["requests"] = sum(load.statuses.values())
        figures["failed_requests"] = figures["requests"] - load.statuses[200]
        figures["slowest_request_seconds"] = round(load.slowest, 3)
        figures["keys_changed"] = load.changes
        figures["errors_logged"] = len(bad)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
