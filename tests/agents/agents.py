"""The agents: how each is started, and what it reports in the end. It must not know a provider.

Each runs in a home and an environment of its own. Everything but the loopback leads to a proxy that is not there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.agents.stage import TASK, Stated

DEAD_PROXY = "http://127.0.0.1:9"
_PROXIES = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"), DEAD_PROXY)
ENVIRONMENT = {**_PROXIES, "NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost", "TERM": "dumb"}


@dataclass(frozen=True)
class Report:
    """What an agent says at its end: its last words, and the tokens it counted in its own convention.

    `counts` are those numbers of the report that must equal what the provider stated, by name.
    """

    words: str
    counts: dict[str, int]


@dataclass(frozen=True)
class Agent:
    """One agent.

    Attributes:
        name: of it and of its package.
        model: the model that it asks for.
        marks: it marks what to cache.
        proofs: its dialect has a place for proofs of reasoning, and it keeps them.
        prepare: writes its settings into a home, for an address and a key; further environment variables.
        command: its arguments.
        report: what its standard output says.
        counts: what the report has to count, from what was stated.
    """

    name: str
    package: str
    model: str
    marks: bool
    proofs: bool
    prepare: Callable[[Path, str, str], Mapping[str, str]]
    command: tuple[str, ...]
    report: Callable[[bytes], Report]
    counts: Callable[[Stated], dict[str, int]]


def _prepare_claude(home: Path, url: str, key: str) -> dict[str, str]:
    del home
    return {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": key,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
    }


def _report_claude(output: bytes) -> Report:
    document = _last_object(output)
    fields = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheCreationInputTokens")
    used = document["modelUsage"].values()
    return Report(document["result"], {name: sum(row[name] for row in used) for name in fields})


def _counts_claude(stated: Stated) -> dict[str, int]:
    return {
        "inputTokens": stated.input - stated.cached - stated.created,
        "outputTokens": stated.output,
        "cacheReadInputTokens": stated.cached,
        "cacheCreationInputTokens": stated.created,
    }


def _prepare_codex(home: Path, url: str, key: str) -> dict[str, str]:
    settings = home / ".codex" / "config.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text(
        'model_provider = "ostiary"\n'
        "check_for_update_on_startup = false\n"
        "[analytics]\nenabled = false\n"
        "[model_providers.ostiary]\n"
        'name = "Ostiary"\n'
        f'base_url = "{url}/v1"\n'
        'env_key = "OSTIARY_KEY"\n'
        'wire_api = "responses"\n'
    )
    return {"OSTIARY_KEY": key}


def _report_codex(output: bytes) -> Report:
    events = [json.loads(line) for line in output.splitlines() if line.startswith(b"{")]
    said = [event["item"] for event in events if event["type"] == "item.completed"]
    words = [item["text"] for item in said if item["type"] == "agent_message"]
    (usage,) = (event["usage"] for event in events if event["type"] == "turn.completed")
    names = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_output_tokens")
    return Report(words[-1] if words else "", {name: usage[name] for name in names if name in usage})


def _counts_codex(stated: Stated) -> dict[str, int]:
    return {
        "input_tokens": stated.input,
        "cached_input_tokens": stated.cached,
        "output_tokens": stated.output,
        "reasoning_output_tokens": stated.reasoning,
    }


def _prepare_gemini(home: Path, url: str, key: str) -> dict[str, str]:
    settings = home / ".gemini" / "settings.json"
    settings.parent.mkdir(parents=True)
    document = {
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "privacy": {"usageStatisticsEnabled": False},
        "telemetry": {"enabled": False},
        "general": {"disableAutoUpdate": True, "enableAutoUpdate": False},
    }
    settings.write_text(json.dumps(document))
    return {"GOOGLE_GEMINI_BASE_URL": url, "GEMINI_API_KEY": key}


def _report_gemini(output: bytes) -> Report:
    document = _last_object(output)
    used = [model["tokens"] for model in document["stats"]["models"].values()]
    names = ("prompt", "candidates", "cached", "thoughts", "total")
    return Report(document["response"], {name: sum(tokens[name] for tokens in used) for name in names})


def _counts_gemini(stated: Stated) -> dict[str, int]:
    return {
        "prompt": stated.input,
        "candidates": stated.output - stated.reasoning,
        "cached": stated.cached,
        "thoughts": stated.reasoning,
        "total": stated.input + stated.output,
    }


def _prepare_opencode(home: Path, url: str, key: str) -> dict[str, str]:
    settings = home / ".config" / "opencode" / "opencode.json"
    settings.parent.mkdir(parents=True)
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "Ostiary",
        "options": {"baseURL": f"{url}/v1", "apiKey": "{env:OSTIARY_KEY}"},
        "models": {"coder": {"name": "coder", "limit": {"context": 200000, "output": 32000}}},
    }
    document = {
        "$schema": "https://opencode.ai/config.json",
        "autoupdate": False,
        "share": "disabled",
        "small_model": "ostiary/coder",
        "provider": {"ostiary": provider},
    }
    settings.write_text(json.dumps(document))
    return {"OSTIARY_KEY": key, "OPENCODE_DISABLE_MODELS_FETCH": "1", "OPENCODE_DISABLE_AUTOUPDATE": "1"}


def _report_opencode(output: bytes) -> Report:
    events = [json.loads(line) for line in output.splitlines() if line.startswith(b"{")]
    parts = [event["part"] for event in events if "part" in event]
    words = [part["text"] for part in parts if part["type"] == "text"]
    used = [part["tokens"] for part in parts if part["type"] == "step-finish"]
    counts = {name: sum(tokens[name] for tokens in used) for name in ("input", "output", "reasoning")}
    counts |= {name: sum(tokens["cache"][name] for tokens in used) for name in ("read", "write")}
    return Report(words[-1] if words else "", counts)


def _counts_opencode(stated: Stated) -> dict[str, int]:
    return {
        "input": stated.input - stated.cached,
        "output": stated.output - stated.reasoning,
        "reasoning": stated.reasoning,
        "read": stated.cached,
        "write": 0,
    }


def _last_object(output: bytes) -> Any:
    """The JSON object that the output ends with."""
    text = output.decode()
    for place, line in enumerate(lines := text.splitlines()):
        if line.startswith("{"):
            try:
                return json.loads("\n".join(lines[place:]))
            except ValueError:
                continue
    raise ValueError(f"no JSON in {text[-500:]!r}")


AGENTS = (
    Agent(
        name="claude",
        package="@anthropic-ai/claude-code",
        model="claude-sonnet-4-5",
        marks=True,
        proofs=True,
        prepare=_prepare_claude,
        command=("claude", "-p", TASK, "--model", "{model}", "--allowedTools", "Write,Read,Bash",
                 "--output-format", "json"),
        report=_report_claude,
        counts=_counts_claude,
    ),
    Agent(
        name="codex",
        package="@openai/codex",
        model="gpt-5.5",
        marks=False,
        proofs=True,
        prepare=_prepare_codex,
        command=("codex", "exec", "--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox",
                 "--model", "{model}", TASK),
        report=_report_codex,
        counts=_counts_codex,
    ),
    Agent(
        name="gemini",
        package="@google/gemini-cli",
        model="gemini-2.5-pro",
        marks=False,
        proofs=True,
        prepare=_prepare_gemini,
        command=("gemini", "-m", "{model}", "--skip-trust", "--yolo", "-o", "json", "-p", TASK),
        report=_report_gemini,
        counts=_counts_gemini,
    ),
    Agent(
        name="opencode",
        package="opencode-linux-x64",
        model="coder",
        marks=False,
        proofs=False,
        prepare=_prepare_opencode,
        command=("opencode", "run", "--format", "json", "--auto", "--title", "house",
                 "--model", "ostiary/{model}", TASK),
        report=_report_opencode,
        counts=_counts_opencode,
    ),
)  # fmt: skip
