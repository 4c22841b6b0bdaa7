"""Runs agents through one gateway to scripted providers of other dialects, and says what was found.

usage: python -m tests.agents.run [--agent NAME] [--provider DIALECT] [--model NAME] [--cache DIR] [--wire DIR]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from tests.agents.agents import AGENTS, ENVIRONMENT, Agent
from tests.agents.install import Tools, installed
from tests.agents.provider import Provider, playing
from tests.agents.stage import FIRST_TEXT, LAST_WORD, SECOND_TEXT, TURNS, Stage, Stated
from tests.agents.voice import Voice
from tests.agents.voices_claude import Converse, Messages
from tests.agents.voices_gemini import Generate
from tests.agents.voices_gpt import Chat, Responses

from ostiary.testing.factories import configuration
from ostiary.testing.gateway import Gateway, eventually, running_gateway

VOICES: dict[str, Voice] = {voice.name: voice for voice in (Messages(), Responses(), Chat(), Generate(), Converse())}
PAIRS = {
    "claude": ("openai_responses", "openai_chat", "gemini_generate", "bedrock_converse"),
    "codex": ("anthropic_messages", "openai_chat", "gemini_generate"),
    "gemini": ("anthropic_messages", "openai_responses", "openai_chat"),
    "opencode": ("anthropic_messages", "openai_responses", "gemini_generate"),
}
SECONDS = 120.0  # for one agent


@dataclass
class Run:
    """One agent with one provider: what it took, and what was wrong."""

    agent: Agent
    provider: Provider
    folder: Path
    seconds: float = 0.0
    wrong: tuple[str, ...] = ()
    lost: str = ""

    @property
    def row(self) -> str:
        """A line of the table."""
        stage, total = self.provider.stage, self.provider.stage.total
        verdict = "; ".join(self.wrong) or "ok"
        return (
            f"{self.agent.name:8} {self.provider.voice.name:18} {stage.turns - 1}+1 turns, {stage.asides} beside  "
            f"{self.seconds:5.1f} s  in {total.input} cached {total.cached} written {total.created} "
            f"out {total.output} thought {total.reasoning}  {verdict}"
        )


def play(run: Run, gateway: Gateway, tools: Tools, home: Path) -> None:
    """Run the agent, and look at everything that is left of it."""
    agent, stage = run.agent, run.provider.stage
    key = gateway.key(aliases={agent.model: _public(agent, run.provider)}, models=[])
    home.mkdir()
    environment = {**ENVIRONMENT, "HOME": str(home), "PATH": f"{tools.path}:/usr/bin:/bin", "TMPDIR": str(home)}
    environment |= agent.prepare(home, gateway.url, key)
    command = [part.replace("{model}", agent.model) for part in agent.command]
    program = tools.found(command[0])
    assert program is not None
    mark, began = gateway.lines(), time.monotonic()
    with (run.provider.wire / "agent.out").open("wb") as out, (run.provider.wire / "agent.err").open("wb") as err:
        process = subprocess.run(
            [program, *command[1:]], cwd=run.folder, env=environment, stdin=subprocess.DEVNULL,
            stdout=out, stderr=err, timeout=SECONDS, check=False,
        )  # fmt: skip
    run.seconds = time.monotonic() - began
    wrong = list(dict.fromkeys(stage.complaints))
    if process.returncode:
        wrong.append(f"it ended with {process.returncode}")
    if stage.turns != TURNS + 1:
        wrong.append(f"{stage.turns} turns were played, not {TURNS + 1}")
    wrong += _files_of(run.folder)
    wrong += _reported(run, (run.provider.wire / "agent.out").read_bytes())
    wrong += _recorded(run, gateway, key)
    said = gateway.output.splitlines()[mark:]
    wrong += [f"the gateway says: {line}" for line in said if _is_complaint(line)]
    run.wrong = tuple(wrong)


def _is_complaint(line: str) -> bool:
    return any(word in line.lower() for word in ("error", "warning", "traceback", "exception"))


def _files_of(folder: Path) -> list[str]:
    wanted = {"first.txt": FIRST_TEXT, "second.txt": SECOND_TEXT, "both.txt": FIRST_TEXT + SECOND_TEXT}
    found = {name: (folder / name).read_text() if (folder / name).exists() else None for name in wanted}
    return [f"{name} holds {found[name]!r}" for name, text in wanted.items() if found[name] != text]


def _reported(run: Run, output: bytes) -> list[str]:
    try:
        report = run.agent.report(output)
    except (ValueError, KeyError, TypeError, IndexError) as failure:
        return [f"no report: {failure!r}"]
    wrong = [] if LAST_WORD in report.words else [f"its last words are {report.words!r}"]
    wanted = run.agent.counts(run.provider.stage.total)
    if report.counts != wanted:
        wrong.append(f"it counts {report.counts}, the provider stated {wanted}")
    return wrong


def _recorded(run: Run, gateway: Gateway, key: str) -> list[str]:
    stage = run.provider.stage
    try:
        rows = eventually(lambda: found if len(found := gateway.records(api_key=key)) >= len(stage.stated) else None)
    except AssertionError:
        return ["the ledger has too few rows"]
    assert rows is not None
    failed = [row["metadata"] for row in rows if row["status"] != "success" or row["metadata"]["error"]]
    used = [row["metadata"]["usage"] for row in rows if row["call_type"] != "messages.count_tokens"]
    fields = ("input", "cache_read", "cache_creation", "output", "reasoning")
    total = Stated(*(sum(usage.get(name, 0) for usage in used) for name in fields))
    run.lost = ", ".join(sorted({name for row in rows for name in row["metadata"]["losses"]}))
    wrong = [f"the ledger has a failure: {failed[0]}"] if failed else []
    if total != stage.total:
        wrong.append(f"the ledger says {total}, the provider {stage.total}")
    return wrong


def _public(agent: Agent, provider: Provider) -> str:
    return f"{agent.name}-{provider.voice.name}"


def _stage(agent: Agent, voice: Voice, folder: Path) -> Stage:
    return Stage(
        folder, ids=voice.ids, proven=voice.proven and agent.proofs, creates=voice.creates, thinks=voice.thinks,
        marked=voice.marks and (agent.marks or "extra_body" in voice.params),
    )  # fmt: skip


def runs(asked: argparse.Namespace, place: Path, wire: Path) -> list[Run]:
    """What is to be run."""
    made = []
    for agent in (replace(one, model=asked.model or one.model) for one in AGENTS):
        for name in PAIRS[agent.name]:
            if asked.agent not in (None, agent.name) or asked.provider not in (None, name):
                continue
            folder, kept = place / f"{agent.name}-{name}", wire / f"{agent.name}-{name}"
            folder.mkdir()
            kept.mkdir(parents=True, exist_ok=True)
            voice = VOICES[name]
            made.append(Run(agent, Provider(voice, _stage(agent, voice, folder), kept), folder))
    return made


def main() -> int:
    """Run them all; 0 where nothing was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agent", choices=list(PAIRS))
    parser.add_argument("--provider", choices=list(VOICES))
    parser.add_argument("--model", help="what the agent asks for, which decides how it asks")
    parser.add_argument("--cache", type=Path, default=None, help="where the agents are installed")
    parser.add_argument("--wire", type=Path, default=None, help="keep requests, answers and outputs here")
    asked = parser.parse_args()
    tools = installed(asked.cache or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ostiary-agents")
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ostiary-agents-", dir=asked.wire)))
        planned = [
            run
            for run in runs(asked, _made(place / "work"), asked.wire or place / "wire")
            if tools.found(run.agent.command[0])
        ]
        if not planned:
            parser.error("no such pair")
        rows = []
        for run in planned:
            voice, url = run.provider.voice, stack.enter_context(playing(run.provider))
            params = voice.params | {"api_base": url}
            rows.append(
                {"model_name": _public(run.agent, run.provider), "litellm_params": params, "model_info": voice.info}
            )
        config = configuration(
            *rows,
            router_settings={"num_retries": 0, "disable_cooldowns": True},
            ostiary={"ledger": {"flush_seconds": 0.05}},
        )
        gateway = stack.enter_context(running_gateway(config))
        for run in planned:
            play(run, gateway, tools, place / f"home-{run.folder.name}")
            print(run.row, flush=True)
            if run.lost:
                print(f"{'':26} left out: {run.lost}", flush=True)
        if asked.wire:
            (asked.wire / "gateway.log").write_text(gateway.output)
    wrong = [run for run in planned if run.wrong]
    print(f"{len(planned) - len(wrong)} of {len(planned)} as they should be; {tools.versions}")
    return 1 if wrong else 0


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


if __name__ == "__main__":
    sys.exit(main())
