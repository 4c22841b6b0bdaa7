"""Bedrock's Converse and ConverseStream as AWS speaks them. It must not use the codecs.

Sources: botocore 1.44, `bedrock-runtime` 2023-09-30; Amazon event stream encoding; AWS Signature Version 4, checked by
botocore's own signer.
"""

from __future__ import annotations

import re
import struct
from typing import Any, ClassVar
from zlib import crc32

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from lines import (
    ANSWERS,
    BROKEN,
    CACHED,
    INPUT,
    OUTPUT,
    PIECES,
    SIGNATURE,
    THOUGHT,
    THOUGHT_PIECES,
    TOOL,
    Answer,
    Request,
    answer_in,
    arguments,
    dumps,
    expect,
    pieces,
)
from scripted import segment_of

ACCESS_KEY, SECRET_KEY, REGION = "AKIASCRIPTEDSCRIPTED", "scripted/secret+access/key0123456789abcd", "eu-central-1"
IDS = {"Paris": "tooluse_PaRiS-1", "Oslo": "tooluse_OsLo_2"}
_ERRORS = {400: "ValidationException", 429: "ThrottlingException"}
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/bedrock/aws4_request, ?"
    r"SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})"
)


def _check_signature(request: Request) -> None:
    found = _AUTHORIZATION.fullmatch(request.header("authorization"))
    expect(found, f"no signature: {request.header('authorization')!r}")
    assert found is not None
    expect((found[1], found[3]) == (ACCESS_KEY, REGION), "signed by somebody else")
    names = found[4].split(";")
    expect({"host", "x-amz-date"} <= set(names), f"too few headers are signed: {names}")
    signer = SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "bedrock", REGION)
    signer_request = AWSRequest(request.method, f"http://{request.header('host')}{request.path}", data=request.raw)
    for name in names:
        signer_request.headers[name] = request.header(name)
    signer_request.context["timestamp"] = request.header("x-amz-date")
    text = signer.string_to_sign(signer_request, signer.canonical_request(signer_request))
    expect(signer.signature(text, signer_request) == found[5], "the signature does not fit")


def _event(kind: str, payload: dict[str, Any], *, message: str = "event") -> bytes:
    """One message of the event stream."""
    name = ":event-type" if message == "event" else ":exception-type"
    headers = b"".join(
        struct.pack(">B", len(key)) + key.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for key, value in ((name, kind), (":content-type", "application/json"), (":message-type", message))
    )
    body = dumps(payload | {"p": "abcdefghijk"} if message == "event" else payload)
    start = struct.pack(">II", len(headers) + len(body) + 16, len(headers))
    whole = start + struct.pack(">I", crc32(start)) + headers + body
    return whole + struct.pack(">I", crc32(whole))


class Converse:
    """See `scripted.Voice`."""

    name = "bedrock_converse"
    base = ""
    usage: ClassVar[dict[str, Any]] = {
        "inputTokens": INPUT - CACHED,
        "outputTokens": OUTPUT,
        "totalTokens": INPUT + OUTPUT,
        "cacheReadInputTokens": CACHED,
        "cacheWriteInputTokens": 0,
    }

    def serves(self, path: str) -> bool:
        return re.fullmatch(r"/model/[^/]+/converse(-stream)?", path) is not None

    def asked(self, request: Request) -> tuple[str, bool]:
        _check_signature(request)
        stream = request.path.endswith("-stream")
        roles = [message["role"] for message in request.body["messages"]]
        alternating = all(role == ("user", "assistant")[index % 2] for index, role in enumerate(roles))
        expect(roles and alternating, f"roles must alternate: {roles}")
        expect("stream" not in request.body and "model" not in request.body, "unknown member")
        return segment_of(request.path, "/model/", "/converse-stream" if stream else "/converse"), stream

    def answered(self, request: Request, *, proven: bool) -> bool:
        messages = request.body["messages"]
        results = {b["toolResult"]["toolUseId"]: b["toolResult"] for b in messages[-1]["content"] if "toolResult" in b}
        expect(request.body["toolConfig"]["tools"][0]["toolSpec"]["name"] == TOOL, "not the tool")
        if not results:
            return False
        told = {
            city: answer_in("".join(part["text"] for part in results[name]["content"])) if name in results else None
            for city, name in IDS.items()
        }
        expect(told == ANSWERS, f"wrong results: {results}")
        said = messages[-2]["content"]
        made = {block["toolUse"]["toolUseId"]: block["toolUse"]["input"] for block in said if "toolUse" in block}
        expect(made == {name: {"city": city} for city, name in IDS.items()}, f"not the calls it made: {made}")
        thought = [block["reasoningContent"]["reasoningText"] for block in said if "reasoningContent" in block]
        for block in thought:
            expect(block == {"text": THOUGHT, "signature": SIGNATURE}, f"The signature is invalid: {block}")
        expect(thought or not proven, "no reasoning before the calls")
        return True

    def _whole(self, content: list[dict[str, Any]], finish: str) -> Answer:
        message = {"role": "assistant", "content": content}
        told = {"output": {"message": message}, "stopReason": finish, "usage": self.usage, "metrics": {"latencyMs": 5}}
        return Answer(dumps(told), headers=(("x-amzn-requestid", "scripted"),))

    def _stream(self, blocks: list[tuple[dict[str, Any] | None, list[dict[str, Any]]]], finish: str | None) -> Answer:
        events = [_event("messageStart", {"role": "assistant"})]
        for index, (start, deltas) in enumerate(blocks):
            place = {"contentBlockIndex": index}
            if start is not None:
                events.append(_event("contentBlockStart", {"start": start} | place))
            events += [_event("contentBlockDelta", {"delta": delta} | place) for delta in deltas]
            if finish is not None:
                events.append(_event("contentBlockStop", place))
        then = b""
        if finish is None:
            then = _event("modelStreamErrorException", {"message": BROKEN}, message="exception")
        else:
            events.append(_event("messageStop", {"stopReason": finish}))
            events.append(_event("metadata", {"usage": self.usage, "metrics": {"latencyMs": 5}}))
        return Answer(b"".join(events), "application/vnd.amazon.eventstream", stream=True, then=then)

    def text(self, pieces: tuple[str, ...], *, stream: bool) -> Answer:
        if stream:
            return self._stream([(None, [{"text": piece} for piece in pieces])], "end_turn")
        return self._whole([{"text": "".join(pieces)}], "end_turn")

    def calls(self, *, thought: bool, stream: bool) -> Answer:
        if not stream:
            told = {"reasoningText": {"text": THOUGHT, "signature": SIGNATURE}}
            content: list[dict[str, Any]] = [{"reasoningContent": told}] if thought else []
            content += [
                {"toolUse": {"toolUseId": IDS[city], "name": TOOL, "input": {"city": city}}} for city in ANSWERS
            ]
            return self._whole(content, "tool_use")
        blocks: list[tuple[dict[str, Any] | None, list[dict[str, Any]]]] = []
        if thought:
            deltas = [{"reasoningContent": {"text": piece}} for piece in THOUGHT_PIECES]
            blocks.append((None, [*deltas, {"reasoningContent": {"signature": SIGNATURE}}]))
        for city in ANSWERS:
            start = {"toolUse": {"toolUseId": IDS[city], "name": TOOL}}
            blocks.append((start, [{"toolUse": {"input": piece}} for piece in pieces(arguments(city))]))
        return self._stream(blocks, "tool_use")

    def refusal(self, status: int, words: str) -> Answer:
        headers = (("x-amzn-errortype", f"{_ERRORS[status]}:http://internal.amazon.com/coral/"),)
        return Answer(dumps({"message": words}), status=status, headers=headers)

    def broken(self) -> Answer:
        return self._stream([(None, [{"text": piece} for piece in PIECES])], None)
