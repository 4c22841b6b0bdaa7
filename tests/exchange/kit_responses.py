"""What tests of kept responses share: a store in memory, requests, answers of providers."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from kit import Room, deployment, key, room, run, snapshot
from kit_client import RecordingInbound
from kit_provider import JSON, Play

from ostiary.core.fault import Fault, Kind
from ostiary.core.kept import KeptResponse
from ostiary.core.key import VirtualKey
from ostiary.core.snapshot import KeepSettings, PolicySnapshot

CHAT = deployment("chat")
NATIVE = deployment("gpt", dialects=("openai_chat", "openai_responses"))
KEEP = KeepSettings(3600.0, 100_000)
OWNER, OTHER = "sk-the-client-key", "sk-other"
KEYS = [key(organization_id="org-a"), key(OTHER, "k2", organization_id="org-b")]


class Shelf:
    """A `ResponseStore` in memory."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str, str], KeptResponse] = {}
        self.failure: Fault | None = None

    async def put(self, responses: Sequence[KeptResponse]) -> None:
        if self.failure is not None:
            raise self.failure
        for one in responses:
            self.rows.setdefault((one.org_id, one.owner, one.id), one)

    async def get(self, org_id: str, owner: str, response_id: str) -> KeptResponse | None:
        if self.failure is not None:
            raise self.failure
        return self.rows.get((org_id, owner, response_id))

    async def delete(self, org_id: str, owner: str, response_id: str) -> bool:
        if self.failure is not None:
            raise self.failure
        return self.rows.pop((org_id, owner, response_id), None) is not None


def away() -> Fault:
    return Fault(Kind.UNAVAILABLE, "the store is away")


def policy(*deployments: Any, keep: KeepSettings | None = KEEP, **more: Any) -> PolicySnapshot:
    return snapshot(*(deployments or (CHAT, NATIVE)), keep=keep, **more)


def within(
    work: Callable[[Room, Shelf], Coroutine[Any, Any, None]],
    *plays: Play,
    policy: PolicySnapshot,
    keys: Sequence[VirtualKey] = KEYS,
) -> None:
    """Run `work` in a plane with a shelf."""

    async def go() -> None:
        shelf = Shelf()
        with room(policy, *plays, keys=keys, kept=shelf) as made:
            await work(made, shelf)

    run(go())


def asking(text: Any = "hi", *, who: str = OWNER, model: str = "chat", **fields: Any) -> RecordingInbound:
    """POST /v1/responses."""
    body = json.dumps({"model": model, "input": text, **fields}).encode()
    return RecordingInbound(body, path="/v1/responses", key=who)


def about(
    response_id: str, tail: str = "", *, who: str = OWNER, method: str = "GET", query: bytes = b""
) -> RecordingInbound:
    return RecordingInbound(method=method, path=f"/v1/responses/{response_id}{tail}", key=who, query=query)


def said(text: str, **more: Any) -> Play:
    """A whole chat answer."""
    message = {"role": "assistant", "content": text}
    document = {
        "id": "chatcmpl-1", "object": "chat.completion", "model": "chat",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}, **more,
    }  # fmt: skip
    return Play(json.dumps(document).encode(), headers=(JSON,))


def response(id_: str = "resp_upstream1", text: str = "hello", **more: Any) -> dict[str, Any]:
    """A provider's own response."""
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed",
               "content": [{"type": "output_text", "text": text, "annotations": []}]}  # fmt: skip
    return {
        "id": id_, "object": "response", "created_at": 1, "status": "completed", "model": "gpt", "output": [message],
        "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}, **more,
    }  # fmt: skip


def native(**more: Any) -> Play:
    return Play(json.dumps(response(**more)).encode(), headers=(JSON,))


def events(*documents: dict[str, Any]) -> bytes:
    return b"".join(b"event: %s\ndata: %s\n\n" % (one["type"].encode(), json.dumps(one).encode()) for one in documents)


def told(sent: bytes) -> list[dict[str, Any]]:
    """The events of a stream."""
    return [json.loads(line[6:]) for line in sent.split(b"\n") if line.startswith(b"data: ")]


def document(inbound: RecordingInbound) -> dict[str, Any]:
    assert inbound.status == 200, inbound.sent
    return dict(json.loads(inbound.sent))
