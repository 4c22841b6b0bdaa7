"""Law 5: whatever breaks, wherever, the record is right and single. Law 7: a credential goes to its own host only."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kit import CREDENTIAL, ask, deployment, digest, key, room, run, snapshot
from kit_client import CLIENT_KEY, RecordingInbound
from kit_provider import DONE, JSON, STREAM, USAGE, Play, broken, chunk, refusal, reply

from ostiary.core.fault import Kind, Retry
from ostiary.core.key import VirtualKey
from ostiary.core.record import Outcome
from ostiary.core.snapshot import AuthStyle, LimitSettings, UrlStyle
from ostiary.gateway.app import RouteTable
from ostiary.wire.dialects.openai_chat import raw, wire

# --- law 5 ---

CUT_AT = range(len(STREAM) + 1)
PASSED = [b"".join(step for step in STREAM[:at] if step != USAGE) for at in CUT_AT]


@pytest.mark.parametrize("at", CUT_AT)
def test_law_5_the_client_leaves_at_every_event(at: int) -> None:
    async def go() -> None:
        inbound = RecordingInbound(ask(stream=True))
        play = Play(*STREAM[:at], inbound.leave, *STREAM[at:])
        with room(snapshot(deployment("gpt")), play, keys=[key(max_budget=10**15, tpm_limit=10**6)]) as made:
            await made.serve(inbound)
            record = made.record
            assert inbound.sent == PASSED[at]
            if at == len(STREAM):
                assert (record.outcome, record.cost, inbound.ended) == (Outcome.COMPLETED, 20000, "end")
                return
            assert (record.outcome, record.status, inbound.ended) == (Outcome.CLIENT_GONE, 499, "")
            assert play.aborted
            assert record.measured == (at > STREAM.index(USAGE))
            assert record.cost == (20000 if record.measured else record.usage.input * 1000 + record.usage.output * 2000)
            assert record.usage.output == (5 if record.measured else at or 100)

    run(go())


@pytest.mark.parametrize("how", [broken(), broken(Kind.TIMEOUT), broken(Kind.BAD_ANSWER, Retry.NEXT)])
@pytest.mark.parametrize("at", range(len(STREAM)))
def test_law_5_the_provider_breaks_off_at_every_event(at: int, how: Any) -> None:
    async def go() -> None:
        play = Play(*STREAM[:at], how)
        policy = snapshot(deployment("gpt"), routing={"num_retries": 0})
        with room(policy, play, keys=[key(max_budget=10**15, tpm_limit=10**6)]) as made:
            inbound = await made.serve(RecordingInbound(ask(stream=True)))
            record = made.record
            assert DONE not in inbound.sent
            assert inbound.journal_at_end == [record]
            assert inbound.sent.startswith(PASSED[at])
            if at == 0:
                assert (inbound.status, record.outcome) == (how.status, Outcome.FAILED)
            else:
                assert record.outcome is Outcome.TRUNCATED
                assert record.measured == (at > STREAM.index(USAGE))
                assert record.cost > 0

    run(go())


@pytest.mark.parametrize("after", [0.0005, 0.5, 1.5, 2.5, 3.5, 4.5])
def test_law_5_the_client_leaves_in_every_phase(after: float) -> None:
    """While its key is looked up, its body read, an attempt fails, a retry waits, and an answer is awaited."""

    async def go() -> None:
        failing = refusal(500)
        failing.wait = 1.0
        late = reply()
        late.wait = 1.0
        policy = snapshot(deployment("gpt"), routing={"retry_base_seconds": 1.4})
        with room(policy, failing, late) as made:
            inbound = RecordingInbound(ask())
            inbound.body_wait = 1.0
            made.begin(inbound)
            await asyncio.sleep(after)
            if not inbound.ended:
                inbound.leave()
            await asyncio.sleep(10)
            assert inbound.task is not None
            assert inbound.task.done()
            if after < 0.01:
                assert made.settled == []
            else:
                outcome = Outcome.CLIENT_GONE if inbound.gone else Outcome.COMPLETED
                assert made.record.outcome is outcome
                assert (made.record.cost > 0) == (after > 1.0)

    run(go())


FAULTS = st.sampled_from([*(Kind(kind) for kind in ("connect", "timeout", "truncated", "bad_answer"))])
BROKEN = st.builds(broken, FAULTS, st.sampled_from([Retry.SAME, Retry.NEXT]))
STEPS = st.lists(
    st.one_of(
        st.sampled_from([chunk("a"), chunk("", "stop"), USAGE, DONE, b"data: {\n\n", b"da", b": x\n\n", b"\n"]),
        st.floats(0, 40),
        BROKEN,
    ),
    max_size=6,
)
PLAYS = st.one_of(
    st.builds(lambda steps, wait: Play(*steps, wait=wait), STEPS, st.floats(0, 40)),
    st.builds(lambda steps: Play(*steps, headers=[JSON]), st.lists(st.sampled_from([b"{}", b"[", b"1", b" "]))),
    st.builds(lambda fault, wait: Play(raises=fault, wait=wait), BROKEN, st.floats(0, 40)),
    st.builds(refusal, st.sampled_from([400, 401, 404, 408, 418, 429, 500, 503])),
    st.builds(lambda after: refusal(429, (b"retry-after", b"%d" % after)), st.integers(0, 90)),
    st.builds(reply, st.one_of(st.none(), st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)))),
)
REQUEST = st.tuples(
    st.sampled_from(["gpt", "two", "wild/x", "nobody"]),
    st.booleans(),
    st.floats(0, 60),  # begins after
    st.one_of(st.none(), st.floats(0, 60)),  # leaves after
)


@settings(max_examples=60, deadline=None)
@given(
    plays=st.lists(PLAYS, min_size=40, max_size=40),
    requests=st.lists(REQUEST, min_size=1, max_size=4),
    blocked=st.one_of(st.none(), st.floats(0, 90)),
    limits=st.sampled_from([{}, {"max_budget": 10**6}, {"max_budget": 10**12, "tpm_limit": 500}, {"max_parallel": 1}]),
)
def test_law_5_conservation(
    plays: list[Play], requests: list[Any], blocked: float | None, limits: dict[str, Any]
) -> None:
    async def go() -> None:
        policy = snapshot(
            deployment("gpt", "a"),
            deployment("gpt", "b", max_parallel=1),
            deployment("two"),
            deployment("wild/*"),
            routing={"fallbacks": {"gpt": ("two",), "two": ("wild/y", "gpt")}, "exchange_seconds": 200.0},
            limits=LimitSettings(ping_seconds=15.0),
        )
        with room(policy, *plays, keys=[key(**limits)]) as made:
            inbounds = []
            for model, stream, begins, leaves in requests:
                inbound = RecordingInbound(ask(model, stream=stream))
                inbounds.append(inbound)
                loop = asyncio.get_running_loop()
                loop.call_later(begins, made.begin, inbound)
                if leaves is not None:
                    loop.call_later(begins + leaves, lambda it=inbound: it.ended or it.leave())
            if blocked is not None:
                await asyncio.sleep(blocked)
                made.plane.keys.put(key(revision=1, blocked=True, **limits), cancel_in_flight=True)
            await asyncio.sleep(1000)
            records = {record.id: record for record in made.settled}
            for inbound in inbounds:
                assert inbound.task is not None
                assert inbound.task.done()
                if inbound.gone and not inbound.log:
                    continue
                record = records[inbound.head["x-litellm-call-id"]]
                if inbound.ended in ("answer", "end"):
                    assert record in (inbound.journal_at_end or []), "settled before the last byte"
                whole = inbound.ended == "answer" or DONE in inbound.sent
                if record.outcome is Outcome.COMPLETED:
                    assert inbound.status == 200
                    assert b'{"error":' not in inbound.sent
                elif inbound.ended == "end":
                    assert not whole
                    assert b'data: {"error":' in inbound.sent
            # `room` itself checks that everything is settled once, returned, and that spend is the sum of costs

    run(go())


# --- law 7 ---

TABLE = RouteTable((*wire.ENDPOINTS, *raw.ENDPOINTS))
HOMES = (
    deployment("gpt", "plain"),
    deployment("gpt", "second", auth=AuthStyle.HEADER, auth_header="api-key", forward_headers=("openai-beta",)),
    deployment("wild/*", "wild", upstream_model="up/*"),
    deployment("az/*", "azure", upstream_model="*", url_style=UrlStyle.AZURE, api_version="v1", base_path=""),
    deployment("open", "open", credential=None, auth=AuthStyle.NONE, port=80),
)
TEXT = st.text(max_size=20)
NASTY = st.sampled_from(
    [
        "x\r\nhost: evil.test",
        "x HTTP/1.1\r\nhost: evil.test\r\n\r\n",
        "../../other",
        "..",
        ".",
        "?api_base=evil",
        "#",
        "@evil.test",
        "//evil.test/",
        "%2e%2e",
        "\x00",
        "\x85",
        "\u2028",
        "naïve",
        "a" * 300,
    ]
)
HEADER_NAME = st.sampled_from(
    ["host", "x-forwarded-host", "openai-beta", "openai-organization", "api-key", "x-api-base", "cookie", "te",
     "content-length", "transfer-encoding", "proxy-authorization", "x-litellm-model", "content-type"]
)  # fmt: skip
CONTROLS = bytes(code for code in range(128) if code < 32 or code == 127)  # no adapter lets them in
HEADER_VALUE = st.one_of(
    st.sampled_from([b"evil.test", b"http://evil.test", b"Bearer sk-other", b"chunked", b"gpt", b"application/json"]),
    st.binary(max_size=20).map(lambda value: value.translate(None, CONTROLS)),
)


@settings(max_examples=100, deadline=None)
@example(prefix="az/", rest="..", route="/v1/chat/completions", fields={}, headers=[], query=b"")
@given(
    prefix=st.sampled_from(["gpt", "wild/", "az/", "open", "plain", "azure"]),
    rest=st.one_of(TEXT, NASTY, st.just("")),
    route=st.sampled_from(
        [
            "/v1/chat/completions",
            "/completions",
            "/v1/embeddings",
            "/v1/moderations",
            "/openai/deployments/%s/completions",
        ]
    ),
    fields=st.dictionaries(TEXT, st.one_of(TEXT, st.integers(), NASTY), max_size=3),
    headers=st.lists(st.tuples(HEADER_NAME, HEADER_VALUE), max_size=4),
    query=st.sampled_from([b"", b"api_base=http://evil.test", b"api-version=evil"]),
)
def test_law_7_a_credential_leaves_to_its_own_host_only(
    prefix: str, rest: str, route: str, fields: dict[str, Any], headers: list[Any], query: bytes
) -> None:
    async def go() -> None:
        name = prefix + (rest if "/" in prefix else "")
        body = json.dumps({"messages": [], "model": name, **fields}).encode()
        path = route % name if "%" in route else route
        if "%" in route and TABLE.find(b"POST", path) is None:
            return
        with room(snapshot(*HOMES, routing={"num_retries": 0}), reply()) as made:
            sent_headers = [(header.encode(), value) for header, value in headers]
            await made.serve(RecordingInbound(body, path=path, query=query, headers=sent_headers))
            for sent in made.upstream.sent:
                home = made.plane.snapshot.deployments[made.settled[0].deployment]
                assert (sent.origin.scheme, sent.origin.host, sent.origin.port) == (home.scheme, home.host, home.port)
                own_host = home.host if home.port == 80 else f"{home.host}:{home.port}"
                assert sent.all(b"host") == [own_host.encode()]
                assert CLIENT_KEY.encode() not in sent.head
                # the one header of the caller's that is passed on: it steers nothing
                steered = [value for header, value in sent.headers if header != b"openai-beta"]
                assert not any(b"sk-other" in value or b"evil.test" in value for value in steered)
                _carries_its_credential(sent.headers, home)
                _is_one_request(sent)

    run(go())


def _carries_its_credential(headers: list[tuple[bytes, bytes]], home: Any) -> None:
    own = (CREDENTIAL % home.id).encode()
    expected = {
        "plain": [(b"authorization", b"Bearer " + own)],
        "second": [(b"api-key", own)],
        "wild": [(b"authorization", b"Bearer " + own)],
        "azure": [(b"authorization", b"Bearer " + own)],
        "open": [],
    }[home.id]
    steering = {b"authorization", b"api-key", b"x-api-key", b"cookie", b"proxy-authorization", b"openai-organization"}
    assert [header for header in headers if header[0] in steering] == expected


def _is_one_request(sent: Any) -> None:
    """One request line, one empty line at the end, one framing, and a path that stays below the base."""
    method, target, version = sent.line.split(b" ")
    assert (method, version) == (b"POST", b"HTTP/1.1")
    assert target.startswith((b"/v1/", b"/openai/"))
    path, _, query = target.partition(b"?")
    assert query in (b"", b"api-version=v1")
    assert not {b"..", b"."} & set(path.split(b"/"))
    assert all(0x21 <= byte <= 0x7E for byte in target)
    names = [name for name, _ in sent.headers]
    allowed = {b"host", b"user-agent", b"accept", b"accept-encoding", b"authorization", b"api-key", b"openai-beta"}
    assert set(names) <= allowed | {b"content-type", b"content-length"}
    assert sent.all(b"content-length") == [b"%d" % len(sent.body)]
    assert b"\r\n\r\n" not in sent.head[:-4]
    assert not set(sent.head) & set(CONTROLS) - set(b"\r\n")


def test_law_7_after_a_swap_the_old_credential_stays_with_the_old_host() -> None:
    """A request that began before a reload finishes with the deployment it began with."""

    async def go() -> None:
        before = snapshot(deployment("gpt"))
        moved = snapshot(deployment("gpt", host="moved.test"))
        with room(before, refusal(500), reply(), reply(), chance=None) as made:
            inbound = RecordingInbound(ask())
            inbound.body_wait = 1.0
            task = made.begin(inbound)
            await asyncio.sleep(0.5)
            made.plane.swap(moved)
            await task
            assert [sent.origin.host for sent in made.upstream.sent] == ["d-gpt.test"] * 2
            await made.serve(RecordingInbound(ask()))
            assert made.upstream.sent[-1].origin.host == "moved.test"
            assert {origin.host for origin in made.upstream.admitted} == {"moved.test"}

    run(go())


def test_no_secret_shows_in_the_repr_of_anything() -> None:
    async def go() -> None:
        home = deployment("gpt")
        with room(snapshot(home), reply()) as made:
            await made.serve(RecordingInbound(ask()))
            plane = made.plane
            shown = [home, plane, plane.snapshot, plane.outbound(home), plane.keys, made.ledger, made.settled]
            shown += [plane.keys.account("k1"), plane.outbound(home).origin, made.door, plane.objects, plane.health]
            account = plane.keys.account("k1")
            assert account is not None
            for thing in [*shown, account.key]:
                text = f"{thing!r} {thing!s} {thing}"
                assert CREDENTIAL % home.id not in text
                assert CLIENT_KEY not in text
            assert VirtualKey(id="x", digest=digest(CLIENT_KEY)).digest != CLIENT_KEY.encode()

    run(go())
