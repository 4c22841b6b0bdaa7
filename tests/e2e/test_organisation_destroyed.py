"""An organisation whose keys are destroyed by the command line, while the gateway serves it and others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ostiary.testing.factories import configuration, deployment
from ostiary.testing.gateway import ADMIN_KEY, Gateway, eventually, running_gateway
from ostiary.testing.provider import FakeProvider


def vault(data: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    settings = {"PATH": os.environ["PATH"], "OSTIARY_DATA_DIR": str(data), "OSTIARY_ADMIN_KEY": ADMIN_KEY, **env}
    command = [sys.executable, "-m", "ostiary.cli.main", "vault", *arguments]
    return subprocess.run(command, env=settings, capture_output=True, text=True, check=False, timeout=60)


def asks(gateway: Gateway, key: str) -> int:
    body = {"model": "shred", "messages": [{"role": "user", "content": "hello"}]}
    return gateway.call("POST", "/v1/chat/completions", body, key=key)[0]


@pytest.mark.attack("CRY-13")
def test_cry_13_its_keys_are_refused_within_seconds_and_everybody_else_goes_on(
    provider: FakeProvider, tmp_path: Path
) -> None:
    config = configuration(deployment("shred", provider.url), ostiary={"ledger": {"flush_seconds": 0.05}})
    data = tmp_path / "data"
    with running_gateway(config, data_dir=data) as gateway:
        theirs = gateway.key(organization_id="acme", key_alias="alias-of-acme", metadata={"a": "canary-of-acme"})
        ours = gateway.key(key_alias="alias-of-ours")
        assert (asks(gateway, theirs), asks(gateway, ours)) == (200, 200)

        wrong = vault(data, "shred", "acme", "--confirm", "acne")
        assert (wrong.returncode, asks(gateway, theirs)) == (1, 200)
        asked = vault(data, "shred", "acme", "--confirm", "acme")
        assert asked.returncode == 0, asked.stderr
        eventually(lambda: asks(gateway, theirs) != 200, 5, every=0.1)
        assert asks(gateway, ours) == 200

        undone = vault(data, "shred", "acme", "--undo")
        assert undone.returncode == 0, undone.stderr
        eventually(lambda: asks(gateway, theirs) == 200, 5, every=0.1)

        done = vault(data, "shred", "acme", "--confirm", "acme", OSTIARY_SHRED_DELAY_DAYS="0")
        assert done.returncode == 0, done.stderr
        eventually(lambda: asks(gateway, theirs) != 200, 5, every=0.1)
        assert asks(gateway, ours) == 200
        (certificate,) = (data / "certificates").iterdir()
        assert vault(data, "shred", "--check", str(certificate)).returncode == 0
        verified = vault(data, "verify")
        assert verified.returncode == 0, verified.stdout + verified.stderr
        # what is left of it is told as numbers only, and nothing fails because of it
        assert gateway.admin("GET", "/key/list?return_full_object=true&size=100")["total_count"] >= 1
        assert "acme" not in "\n".join(str(row) for row in gateway.records() if "acme" in str(row))
    with running_gateway(config, data_dir=data) as gateway:
        assert asks(gateway, ours) == 200
        assert asks(gateway, theirs) != 200
