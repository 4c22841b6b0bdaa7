"""Files and batches: whose they are, where they live, and what their lines may name."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import CREDENTIAL, Room, deployment, key, room, run, snapshot
from kit_client import RecordingInbound
from kit_provider import JSON, Play

from ostiary.core.fault import Fault, Kind
from ostiary.core.key import VirtualKey
from ostiary.gateway.objects import Objects

POLICY = snapshot(deployment("gpt"), deployment("secret"), deployment("mini", "d-mini", upstream_model="up-mini"))
OWNER, OTHER, MATE = "sk-the-client-key", "sk-other", "sk-mate"
KEYS = [key(), key(OTHER, "k2"), key(MATE, "k3", user_id="u1"), key("sk-mate-too", "k4", user_id="u1")]


def form(content: bytes, boundary: str = "b0", **fields: str) -> RecordingInbound:
    parts = "".join(
        f'--{boundary}\r\ncontent-disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in fields.items()
    )
    file = f'--{boundary}\r\ncontent-disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
    body = parts.encode() + file.encode() + content + f"\r\n--{boundary}--\r\n".encode()
    return typed(RecordingInbound(body, path="/v1/files"), f"multipart/form-data; boundary={boundary}")


def typed(inbound: RecordingInbound, kind: str) -> RecordingInbound:
    inbound.headers = [(n, kind.encode() if n == b"content-type" else value) for n, value in inbound.headers]
    return inbound


def document(**members: Any) -> Play:
    return Play(json.dumps(members).encode(), headers=[JSON])


def about(file: str, *, who: str = OWNER, method: str = "GET", tail: str = "") -> RecordingInbound:
    return RecordingInbound(method=method, path=f"/v1/files/{file}{tail}", key=who)


def within(work: Callable[[Room], Awaitable[None]], *plays: Play, keys: list[VirtualKey] = KEYS) -> None:
    async def go() -> None:
        with room(POLICY, *plays, keys=keys) as made:
            await work(made)

    run(go())


async def uploaded(made: Room, *, who: str = OWNER, purpose: str = "user_data", content: bytes = b"content") -> str:
    made.upstream.plays.insert(0, document(id="file-abc", purpose=purpose))
    asked = form(content, model="gpt", purpose=purpose)
    asked.headers[1] = (b"authorization", b"Bearer " + who.encode())
    inbound = await made.serve(asked)
    assert inbound.status == 200
    return str(json.loads(inbound.sent)["id"])


def test_a_file_goes_to_its_models_deployment_and_comes_back_under_a_name_of_ours() -> None:
    async def work(made: Room) -> None:
        name = await uploaded(made)
        assert name.startswith("file-ost-")
        assert "abc" not in name
        assert b'name="model"' not in made.upstream.sent[0].body
        inbound = await made.serve(about(name))
        assert (made.upstream.sent[1].line, json.loads(inbound.sent)["id"]) == (
            b"GET /v1/files/file-abc HTTP/1.1",
            name,
        )
        assert (await made.serve(about(name, tail="/content"))).sent == b"bytes"
        assert (await made.serve(about(name, method="DELETE"))).status == 200
        assert made.upstream.sent[3].line == b"DELETE /v1/files/file-abc HTTP/1.1"
        assert all(sent.origin.host == "d-gpt.test" for sent in made.upstream.sent)
        assert all(record.cost == 0 for record in made.settled)

    within(work, document(id="file-abc"), Play(b"bytes", headers=[(b"content-type", b"application/octet-stream")]),
           document(id="file-abc", deleted=True))  # fmt: skip


@pytest.mark.parametrize("kind", [b"application/jsonl", b"application/json"])
@pytest.mark.parametrize(
    "content", [b'{"id":"line"}\n{"id":"line"}\n', b'{"id": "one" }', b'{"error":"in a line"}', b"[1]"]
)
def test_the_content_of_a_file_is_its_bytes_whatever_it_is_called(kind: bytes, content: bytes) -> None:
    async def work(made: Room) -> None:
        name = await uploaded(made)
        inbound = await made.serve(about(name, tail="/content"))
        assert (inbound.status, inbound.sent) == (200, content)

    within(work, Play(content, headers=[(b"content-type", kind)]))


def test_aig_11_another_owners_a_forged_and_an_unknown_id_are_one_answer() -> None:
    async def work(made: Room) -> None:
        name = await uploaded(made)
        before = len(made.upstream.sent)
        forged = [
            about(name, who=OTHER),
            about(name[:-1]),
            about(name[:-4]),
            about(name[:30]),
            about(name[:-6] + "AAAAAA"),
            about("file-ost-" + "A" * 80),
            about("file-ost-"),
            about("file-ost-\u00e9\u00e9"),
            about("file-ost-!!!!"),
            about("file-abc"),
            about("file-abc", tail="/content"),
            about(name, who=OTHER, tail="/content"),
            about(name, who=OTHER, method="DELETE"),
        ]
        answers = [await made.serve(inbound) for inbound in forged]
        assert {inbound.sent for inbound in answers} == {answers[0].sent}
        assert {inbound.status for inbound in answers} == {404}
        assert {frozenset(inbound.head) for inbound in answers} == {frozenset(answers[0].head)}
        assert len(made.upstream.sent) == before, "nobody was asked"

    within(work)


def test_aig_11_a_user_shares_with_his_other_keys_and_a_namesake_is_nobody() -> None:
    async def work(made: Room) -> None:
        name = await uploaded(made, who=MATE)
        assert (await made.serve(about(name, who="sk-mate-too"))).status == 200
        for text in ("sk-team-named-u1", "sk-key-named-u1"):
            assert (await made.serve(about(name, who=text))).status == 404
        assert (await made.serve(about(name, who="sk-admin"))).status == 200

    keys = [*KEYS, key("sk-team-named-u1", "k5", team_id="u1"), key("sk-key-named-u1", "u1")]
    within(work, document(id="file-abc"), document(id="file-abc"), keys=keys)


def test_aig_11_who_lost_the_model_lost_its_files() -> None:
    async def work(made: Room) -> None:
        name = await uploaded(made)
        made.plane.keys.put(key(revision=1, models=("mini",)))
        assert (await made.serve(about(name))).status == 404
        made.plane.keys.put(key(revision=2))
        made.plane.swap(snapshot(deployment("mini")))
        assert (await made.serve(about(name))).status == 404

    within(work)


def test_files_are_not_tried_elsewhere() -> None:
    async def work(made: Room) -> None:
        policy = snapshot(
            deployment("gpt", "a"), deployment("gpt", "b"), deployment("mini"),
            routing={"fallbacks": {"gpt": ("mini",)}, "num_retries": 3},
        )  # fmt: skip
        made.plane.swap(policy)
        inbound = await made.serve(form(b"x", model="gpt", purpose="user_data"))
        assert inbound.status == 502
        assert len({sent.origin.host for sent in made.upstream.sent}) == 1

    refused = [Play(b"{}", status=401, headers=[JSON]) for _ in range(4)]
    within(work, *refused)


def test_the_model_of_a_file_may_be_named_in_three_places() -> None:
    async def work(made: Room) -> None:
        made.upstream.plays = [document(id="file-1") for _ in range(3)]
        for place in ("query", "header", "part"):
            asked = form(b"x", purpose="user_data", **({"target_model_names": "mini, gpt"} if place == "part" else {}))
            if place == "query":
                asked.query = b"model=mini"
            if place == "header":
                asked.headers.append((b"x-litellm-model", b"mini"))
            assert (await made.serve(asked)).status == 200
        assert {sent.origin.host for sent in made.upstream.sent} == {"d-mini.test"}
        asked = form(b"x", purpose="user_data")
        asked.query = b"model=\xff"
        assert (await made.serve(asked)).error["param"] == "model"

    within(work)


# --- batches ---


def line(model: str, **more: Any) -> bytes:
    return json.dumps({"custom_id": "1", "method": "POST", "url": "/v1/x", "body": {"model": model, **more}}).encode()


def test_each_line_of_a_batch_is_written_for_its_deployment() -> None:
    async def work(made: Room) -> None:
        content = b"\n".join([line("mini"), b"", line("mini", temperature=1)] + [line("mini")] * 150)
        inbound = await made.serve(form(content, model="mini", purpose="batch"))
        assert inbound.status == 200
        sent = made.upstream.sent[0].body
        assert sent.count(b'"up-mini"') == 152
        assert b'"mini"' not in sent

    within(work, document(id="file-in"))


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([line("mini"), line("secret")], 403),
        ([line("mini"), line("gpt")], 400),
        ([line("nobody")], 404),
        ([line("mini", api_base="http://evil.test")], 400),
        ([b"{"], 400),
        ([b"[1]"], 400),
        ([b'{"body":{"messages":[]}}'], 400),
        ([b'{"body":{"model":"mini","model":"secret"}}'], 400),
        ([b'{"\\u0062ody":{"model":"secret"}}'], 403),
        ([b'{"body":{"model":"mini"},"body":{"model":"secret"}}'], 403),
    ],
)
def test_aig_04_a_line_that_may_not_pass_stops_the_file(lines: list[bytes], status: int) -> None:
    async def work(made: Room) -> None:
        inbound = await made.serve(form(b"\n".join(lines), model="mini", purpose="batch"))
        assert inbound.status == status
        assert made.upstream.sent == []

    within(work, keys=[key(models=("mini", "gpt"))])


def test_a_batch_is_made_of_a_file_of_ones_own() -> None:
    async def work(made: Room) -> None:
        name = await uploaded(made, purpose="batch", content=line("gpt"))
        made.upstream.plays = [document(id="batch_77", input_file_id="file-abc", output_file_id=None)]
        body = {
            "input_file_id": name,
            "endpoint": "/v1/x",
            "completion_window": "24h",
            "model": "gpt",
            "num_retries": 1,
        }
        inbound = await made.serve(RecordingInbound(json.dumps(body).encode(), path="/v1/batches"))
        answer = json.loads(inbound.sent)
        assert answer["id"].startswith("batch_ost-")
        assert (answer["input_file_id"], answer["output_file_id"]) == (name, None)
        sent = json.loads(made.upstream.sent[1].body)
        assert sent == {"input_file_id": "file-abc", "endpoint": "/v1/x", "completion_window": "24h"}
        made.upstream.plays = [document(id="batch_77", status="cancelling")]
        path = f"/v1/batches/{answer['id']}/cancel"
        assert (await made.serve(RecordingInbound(path=path))).status == 200
        assert made.upstream.sent[2].line == b"POST /v1/batches/batch_77/cancel HTTP/1.1"
        for foreign in ("file-abc", name[:-2], 7):
            again = json.dumps({**body, "input_file_id": foreign}).encode()
            refused = await made.serve(RecordingInbound(again, path="/v1/batches"))
            assert refused.status == (400 if foreign == 7 else 404)

    within(work)


def test_aig_04_a_file_whose_lines_nobody_judged_makes_no_batch() -> None:
    async def work(made: Room) -> None:
        name = await uploaded(made, purpose="user_data", content=line("secret"))
        body = json.dumps({"input_file_id": name, "endpoint": "/v1/x"}).encode()
        inbound = await made.serve(RecordingInbound(body, path="/v1/batches"))
        assert (inbound.status, inbound.error["param"]) == (400, "input_file_id")
        assert len(made.upstream.sent) == 1
        spelled = await made.serve(form(line("secret"), model="gpt", purpose="batch-api"))
        assert spelled.status == 403

    within(work, keys=[key(models=("gpt",))])


def test_what_a_batch_has_made_keeps_its_name_and_makes_no_other_batch() -> None:
    async def work(made: Room) -> None:
        name = await uploaded(made, purpose="batch", content=line("gpt"))
        made.upstream.plays = [
            document(id="batch_77", input_file_id="file-abc", output_file_id="file-out"),
            document(id="batch_77", input_file_id="file-abc", output_file_id="file-out"),
            document(id="file-out"),
        ]
        body = json.dumps({"input_file_id": name}).encode()
        made_by = json.loads((await made.serve(RecordingInbound(body, path="/v1/batches"))).sent)
        path = f"/v1/batches/{made_by['id']}"
        assert json.loads((await made.serve(RecordingInbound(method="GET", path=path))).sent) == made_by
        out = made_by["output_file_id"]
        assert json.loads((await made.serve(about(out))).sent)["id"] == out
        again = json.dumps({"input_file_id": out}).encode()
        assert (await made.serve(RecordingInbound(again, path="/v1/batches"))).status == 400

    within(work)


def test_a_key_with_a_budget_makes_no_batches() -> None:
    async def work(made: Room) -> None:
        inbound = await made.serve(RecordingInbound(b'{"input_file_id":"x"}', path="/v1/batches"))
        assert (inbound.status, inbound.error["type"]) == (400, "budget_exceeded")

    within(work, keys=[key(max_budget=10**12)])


def test_an_answer_in_another_shape_is_relayed_as_it_came() -> None:
    assert Objects(lambda _: b"0" * 16).renamed(b"[1]", POLICY.deployments["d-gpt"], key(), judged=True) == b"[1]"


@settings(max_examples=200)
@given(st.text(max_size=60), st.text("ABCabc019-_=", max_size=90))
def test_aig_11_no_text_opens_anything_but_a_name_that_was_given(prefix: str, sealed: str) -> None:
    objects = Objects(lambda content: b"k" * 16 if content == b"given" else b"x" * 16)
    for name in (prefix, f"file-ost-{sealed}", f"{prefix}ost-{sealed}"):
        with pytest.raises(Fault) as fault:
            objects.open(POLICY, key(), name)
        assert fault.value.kind is Kind.NOT_FOUND
    assert CREDENTIAL not in prefix
