"""Other gateways, each in an environment of its own, beside Ostiary under the same load. Never a dependency of ours."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bench import gateway
from bench.figures import Effort, Figure, side_by_side
from bench.rig import MODEL, Rig, Subject, free_port

HOME = Path(__file__).resolve().parent / ".peers"
LITELLM_KEY = "sk-litellm-bench-0123456789"
# What keeps it from calling home for prices, for news and for telemetry.
LITELLM_QUIET = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False", "LITELLM_LOG": "ERROR"}


def install(name: str, requirement: str) -> Path:
    """The folder of the programs of a peer, installed at first use."""
    home = HOME / name
    if not (home / "installed").exists():
        print(f"Installing {requirement} into bench/.peers/{name}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
        pip = (home / "bin" / "python", "-m", "pip", "install", "--quiet", "--only-binary=:all:", requirement)
        subprocess.run(pip, check=True)
        (home / "installed").touch()
    return home / "bin"


def version(programs: Path, package: str) -> str:
    """The version that is installed."""
    ask = f"from importlib.metadata import version; print(version('{package}'))"
    return subprocess.run([programs / "python", "-c", ask], check=True, capture_output=True, text=True).stdout.strip()


def start_litellm(rig: Rig) -> tuple[Subject, str]:
    """LiteLLM's proxy with one worker. Its master key is the only key: virtual keys need a PostgreSQL there."""
    programs = install("litellm", "litellm[proxy]")
    port = free_port()
    deployment = {
        "model": f"openai/{MODEL}",
        "api_base": f"http://127.0.0.1:{rig.upstream_port}/v1",
        "api_key": "sk-upstream",
    }
    config = rig.folder / "litellm.yaml"
    settings = {
        "model_list": [{"model_name": MODEL, "litellm_params": deployment}],
        "general_settings": {"master_key": LITELLM_KEY},
    }
    config.write_text(json.dumps(settings))
    command = [programs / "litellm", "--config", config, "--host", "127.0.0.1", "--port", str(port)]
    subject = rig.start("litellm", command, port, LITELLM_KEY, environment=LITELLM_QUIET)
    subject.await_answer(seconds=180)
    return subject, version(programs, "litellm")


def litellm(rig: Rig, effort: Effort) -> list[Figure]:
    """Requests a second of one core, Ostiary's as a multiple of LiteLLM's."""
    peer, release = start_litellm(rig)
    with rig.running_subject(peer), rig.running_subject(gateway.ready(rig, "beside-litellm")) as own:
        theirs, ours = side_by_side(rig, [peer, own], effort)
    detail = {
        "litellm_version": release,
        "litellm": theirs,
        "ostiary": ours,
        "cpu_ratio": theirs["cpu_us"] / ours["cpu_us"],
        "note": "LiteLLM checks its master key only, without a database; Ostiary checks a virtual key with budget, "
        "rate limits, accounting and journal.",
    }
    ratio = ours["per_second"] / theirs["per_second"]
    return [Figure("requests/s per core, against LiteLLM", ratio, "x", 80.0, at_most=False, detail=detail)]


PEERS = {"litellm": litellm}
