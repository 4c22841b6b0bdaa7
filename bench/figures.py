"""The figures: each a small experiment that ends in one number beside its bar. None may touch another's state."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench import gateway
from bench.rig import LOAD_CORE, Rig, Subject, free_port, pinned

ROOT = Path(__file__).resolve().parent.parent
REFERENCE_US = 34.0  # processor time of nginx per request on the machine that the bar per chunk was set on


@dataclass(frozen=True)
class Effort:
    """How long and how often. The smoke run only shows that everything still runs."""

    seconds: float = 5.0
    rounds: int = 3
    requests: int = 100_000
    keys: int = 100_000
    streams: int = 256
    starts: int = 5


SMOKE = Effort(seconds=1.0, rounds=1, requests=2_000, keys=1_000, streams=64, starts=1)


@dataclass(frozen=True)
class Figure:
    """A measured value, its bar, and what it was made from. `at_most` tells which side of the bar is good."""

    name: str
    value: float
    unit: str
    bar: float
    at_most: bool = True
    detail: Mapping[str, object] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """Whether the value is on the good side of its bar."""
        return self.value <= self.bar if self.at_most else self.value >= self.bar


def load(*arguments: object) -> dict[str, float]:
    """Run `bench.load` on the load core; what it printed."""
    done = subprocess.run(_load(*arguments), cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout))


def _load(*arguments: object) -> list[str]:
    return pinned(LOAD_CORE, [sys.executable, "-m", "bench.load", *map(str, arguments)])


def must_be_clean(name: str, bad: float, errors: str = "") -> None:
    """A figure made from refused requests is no figure."""
    if bad:
        raise RuntimeError(f"{name}: {bad:.0f} requests were not answered 200 ({errors or 'no socket errors'})")


def side_by_side(rig: Rig, subjects: Sequence[Subject], effort: Effort) -> list[dict[str, float]]:
    """Load the subjects in turn, several rounds; per subject the medians."""
    rounds: list[list[dict[str, float]]] = [[] for _ in subjects]
    for subject in subjects:
        rig.wrk(subject, min(2.0, effort.seconds))  # warm
    for _ in range(effort.rounds):
        for subject, seen in zip(subjects, rounds, strict=True):
            result = rig.wrk(subject, effort.seconds)
            must_be_clean(subject.name, result.bad, result.errors)
            names = ("per_second", "p50", "p99", "cpu_us")
            seen.append({name: getattr(result, name) for name in names} | {"resident_mb": subject.resident_mb()})
    return [{name: median(one[name] for one in seen) for name in seen[0]} for seen in rounds]


def overhead(rig: Rig, effort: Effort) -> list[Figure]:
    """Processor time per proxied request against nginx, and what half of the saturating load adds to its p99."""
    with rig.running_subject(gateway.ready(rig, "overhead")) as subject:
        floor, own = side_by_side(rig, [rig.floor, subject], effort)
        rate = own["per_second"] / 2
        # The slower the machine's neighbours, the more rounds help: the median pair counts.
        pairs = []
        for _ in range(effort.rounds):
            plain = load("paced", rig.floor.port, "sk-none", rate, effort.seconds)
            proxied = load("paced", subject.port, subject.key, rate, effort.seconds)
            must_be_clean("half load", plain["bad"] + proxied["bad"])
            pairs.append((proxied["p99"] - plain["p99"], proxied, plain))
        added, proxied, plain = sorted(pairs, key=lambda pair: pair[0])[len(pairs) // 2]
    ratio = own["cpu_us"] / floor["cpu_us"]
    return [
        Figure("CPU per proxied request, against nginx", ratio, "x", 4.5, detail={"nginx": floor, "ostiary": own}),
        Figure(
            "added p99 at half of saturation",
            added,
            "ms",
            2.0,
            detail={"requests_per_second": rate, "nginx": plain, "ostiary": proxied},
        ),
    ]


def stream(rig: Rig, effort: Effort) -> list[Figure]:
    """Processor time per streamed chunk, 64 streams at once, 200 chunks each, one every 10 ms."""
    port = free_port()
    command = [sys.executable, "-m", "bench.stream_upstream", port, 200, 10]
    upstream = rig.start("streaming", command, port, "sk-none", core=LOAD_CORE)
    upstream.await_answer()
    with (
        rig.running_subject(upstream),
        rig.running_subject(gateway.ready(rig, "stream", upstream=port)) as subject,
    ):
        load("streams", subject.port, subject.key, 64, 64)
        costs, seen = [], []
        for _ in range(effort.rounds):
            before = subject.cpu()
            result = load("streams", subject.port, subject.key, 64, effort.streams)
            costs.append((subject.cpu() - before) * 1e6 / result["chunks"])
            must_be_clean("stream", result["bad"])
            seen.append(result)
    nginx = rig.wrk(rig.floor, effort.seconds).cpu_us
    cost = median(costs)
    detail = {"cpu_us_per_chunk": cost, "nginx_cpu_us_per_request": nginx, "rounds": seen}
    scaled = cost * REFERENCE_US / nginx
    return [
        Figure(f"CPU per streamed chunk, where nginx takes {REFERENCE_US:.0f} us", scaled, "us", 30.0, detail=detail)
    ]


def translation(rig: Rig, effort: Effort) -> list[Figure]:
    """What a translated request and a translated chunk cost, against the same that is passed on in its own dialect."""
    whole: list[float] = []
    with rig.running_subject(gateway.ready(rig, "translation")) as subject:
        for translated in (False, True):
            rig.wrk(subject, min(2.0, effort.seconds), translated=translated)
        for _ in range(effort.rounds):
            results = [rig.wrk(subject, effort.seconds, translated=translated) for translated in (False, True)]
            for result in results:
                must_be_clean("translation", result.bad, result.errors)
            whole.append(results[1].cpu_us / results[0].cpu_us)
    port, chunks = free_port(), 200
    upstream = rig.start(
        "streaming-two", [sys.executable, "-m", "bench.stream_upstream", port, chunks, 10], port, "sk-none",
        core=LOAD_CORE,
    )  # fmt: skip
    upstream.await_answer()
    each: list[float] = []
    costs: list[tuple[float, float]] = []
    with (
        rig.running_subject(upstream),
        rig.running_subject(gateway.ready(rig, "translated-stream", upstream=port)) as subject,
    ):
        for kind in ("streams", "translated-streams"):
            load(kind, subject.port, subject.key, 64, 64)
        for _ in range(effort.rounds):
            used = []
            for kind in ("streams", "translated-streams"):
                before = subject.cpu()
                must_be_clean(kind, load(kind, subject.port, subject.key, 64, effort.streams)["bad"])
                used.append((subject.cpu() - before) * 1e6 / (effort.streams * chunks))
            costs.append((used[0], used[1]))
            each.append(used[1] / used[0])
    return [
        Figure("CPU of a translated 1 kB chat, against one passed on", median(whole), "x", 2.0),
        Figure(
            "CPU of a translated chunk, against one passed on", median(each), "x", 2.5,
            detail={"cpu_us_per_chunk": costs},
        ),
    ]  # fmt: skip


def stall(rig: Rig, effort: Effort) -> list[Figure]:
    """How long a sign of life waits at p99 while 100 prompts of 300 kB a second are relayed."""

    def under_load(subject: Subject) -> dict[str, float]:
        with subprocess.Popen(
            _load("paced", subject.port, subject.key, 100, effort.seconds + 2, 300_000),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        ) as prompts:
            result = load("probe", subject.port, effort.seconds)
            answered = json.loads(prompts.communicate()[0])
        must_be_clean("stall", result["bad"] + answered["bad"])
        return result

    with rig.running_subject(gateway.ready(rig, "stall")) as subject:
        quiet = load("probe", subject.port, effort.seconds)
        floor, own = under_load(rig.floor), under_load(subject)
    detail = {"ostiary": own, "without_prompts": quiet, "nginx": floor}
    return [Figure("event-loop stall under 300 kB prompts, p99", own["p99"], "ms", 5.0, detail=detail)]


def keys(rig: Rig, effort: Effort) -> list[Figure]:
    """Processor time per request with a full store of keys, against a store of ten."""
    spread = min(1_000, effort.keys // 2)
    data = rig.folder / "many-data"
    few, many = gateway.start(rig, "few"), gateway.start(rig, "many", data=data)
    few.await_answer()
    many.await_answer()
    few_keys, many_keys = gateway.make_keys(few, 10), gateway.make_keys(many, spread)
    rig.stop(many)
    gateway.multiply_keys(data, effort.keys)
    many = gateway.start(rig, "many", data=data)
    many.await_answer()
    gateway.make_keys(many, 1)  # answers once the start is over, management included
    seen: list[tuple[float, float, float]] = []
    with rig.running_subject(few), rig.running_subject(many):
        loads = ((few, few_keys), (many, many_keys[:10]), (many, many_keys))
        for _ in range(effort.rounds + 1):  # the first warms
            results = [rig.wrk(subject, effort.seconds, keys=chosen) for subject, chosen in loads]
            for result, of in zip(results, ("ten", "ten of many", f"{spread} of many"), strict=True):
                must_be_clean(f"keys, {of}", result.bad, result.errors)
            seen.append((results[0].cpu_us, results[1].cpu_us, results[2].cpu_us))
    ten, same, wide = (median(column) for column in zip(*seen[1:], strict=True))
    detail = {
        "keys": effort.keys,
        "cpu_us_of_ten": ten,
        "cpu_us_ten_of_many": same,
        f"cpu_us_{spread}_of_many": wide,
        f"ratio_when_{spread}_are_in_use": wide / ten,
    }
    return [Figure(f"CPU per request, {effort.keys:,} keys against 10", same / ten, "x", 1.1, detail=detail)]


def memory(rig: Rig, effort: Effort) -> list[Figure]:
    """Resident memory after so many requests, and its growth over as many again."""
    with rig.running_subject(gateway.ready(rig, "memory")) as subject:
        at_start = subject.resident_mb()
        points = [(0, at_start)]
        while points[-1][0] < 2 * effort.requests:
            result = rig.wrk(subject, effort.seconds)
            must_be_clean("memory", result.bad, result.errors)
            points.append((points[-1][0] + result.requests, subject.resident_mb()))
    after = next(megabytes for requests, megabytes in points if requests >= effort.requests)
    late = [point for point in points if point[0] >= effort.requests]
    grown = (late[-1][1] - late[0][1]) * 100_000 / max(1, late[-1][0] - late[0][0])
    detail = {"at_start_mb": at_start, "points": points}
    return [
        Figure(f"resident memory after {effort.requests:,} requests", after, "MB", 100.0, detail=detail),
        Figure("growth per further 100,000 requests", grown, "MB", 2.0, detail=detail),
    ]


def cold_start(rig: Rig, effort: Effort) -> list[Figure]:
    """From the command to the first answer, with a new data directory and with an old one."""
    fresh: list[float] = []
    again: list[float] = []
    for number in range(effort.starts):
        for seen in (fresh, again):
            subject = gateway.start(rig, f"cold-{number}")
            seen.append(subject.await_answer())
            rig.stop(subject)
    detail = {"new_data_directory": fresh, "old_data_directory": again}
    return [Figure("cold start to first answer", median(fresh), "s", 2.0, detail=detail)]


FIGURES: dict[str, Callable[[Rig, Effort], list[Figure]]] = {
    "overhead": overhead,
    "stream": stream,
    "translation": translation,
    "stall": stall,
    "keys": keys,
    "memory": memory,
    "cold-start": cold_start,
}
