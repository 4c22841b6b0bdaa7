"""`ostiary check`: what a configuration means, setting by setting. It must not print a value of any setting."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from ostiary.catalog.models import load_models
from ostiary.catalog.providers import load_providers
from ostiary.config.load import load
from ostiary.config.node import shown
from ostiary.config.problem import Finding, Place, Problem, Severity, Status
from ostiary.config.shapes import Loaded
from ostiary.control.compile import Compiled, compile_snapshot
from ostiary.core.snapshot import Deployment


def check(path: str, *, dev: bool = False) -> int:
    """Print what there is to say about a configuration.

    Returns:
        The exit code: 0 if it can be put in force, 1 if not.
    """
    loaded = load(path, os.environ, dev=dev)
    compiled = compile_snapshot(loaded, (), load_providers(), load_models(), revision=0, admin_digest=b"")
    sys.stdout.write(render(loaded, compiled))
    return 0 if loaded.ok and compiled.ok else 1


def render(loaded: Loaded, compiled: Compiled) -> str:
    """The report: settings in the order of the files, other problems, deployments, and the sum of it."""
    problems = [*loaded.problems, *compiled.problems]
    untold = list(problems)
    settings = []
    for finding in _in_order(loaded):
        problem = next((one for one in untold if (_place(one), one.setting) == (finding.place, finding.setting)), None)
        if problem is not None:
            untold.remove(problem)
        left_out = problem in compiled.problems and finding.setting.startswith("model_list[")
        settings.append(_setting(finding, problem, left_out=left_out))
    others = [str(problem) for problem in untold]
    errors = sum(problem.severity is Severity.ERROR for problem in problems)
    warnings = sum(problem.severity is Severity.WARNING for problem in problems)
    verdict = "cannot be put in force" if errors else "can be put in force"
    return "\n".join(
        [
            *_part("Settings", settings),
            *_part("Problems", others),
            *_part("Deployments", [*_deployments(compiled)]),
            f"{_count(errors, 'error')}, {_count(warnings, 'warning')}: the configuration {verdict}.",
            "",
        ]
    )


def _place(problem: Problem) -> Place:
    return Place(problem.file, problem.line)


def _in_order(loaded: Loaded) -> list[Finding]:
    rank = {file: index for index, file in enumerate(loaded.files)}
    return sorted(loaded.findings, key=lambda finding: (rank.get(finding.place.file, 0), finding.place.line))


def _part(title: str, lines: list[str]) -> list[str]:
    return [title, *(f"  {line}" for line in lines), ""] if lines else []


def _setting(finding: Finding, problem: Problem | None, *, left_out: bool) -> str:
    """`file:line setting: status — note (hint)`, with the problem's words where there is one."""
    status, note, hint = finding.status, finding.note, finding.hint
    if problem is not None:
        note, hint = problem.message, problem.hint or hint
        if problem.severity is Severity.ERROR or left_out:
            status = Status.REFUSED
    note = f" — {note.rstrip('.')}" if note else ""
    hint = f" ({hint})" if hint else ""
    return f"{finding.place} {finding.setting}: {status}{note}{hint}"


def _deployments(compiled: Compiled) -> Iterator[str]:
    for deployment in compiled.snapshot.deployments.values():
        where = "in this process" if deployment.scheme == "demo" else f"at {_origin(deployment)}{deployment.base_path}"
        credential = "with a credential" if deployment.credential else "without a credential"
        if deployment.identity is not None:
            credential = f"signing in by {deployment.auth}"
        yield (
            f"{shown(deployment.model_name)} → {deployment.provider}/{shown(deployment.upstream_model)}"
            f" {where}, {credential}, price {deployment.price_state}"
        )


def _origin(deployment: Deployment) -> str:
    host = f"[{deployment.host}]" if ":" in deployment.host else deployment.host
    usual = {"https": 443, "http": 80}.get(deployment.scheme)
    return f"{deployment.scheme}://{host}" + ("" if deployment.port == usual else f":{deployment.port}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
