"""The official `boto3` library, whose parser is its model: bodies, streams, check sums and exceptions."""

from __future__ import annotations

import json
import os
from contextlib import closing
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError
from lines import ANSWERS, DESCRIPTION, QUESTION, SCHEMA, TOOL
from saying import Failure, Said, Seen

from house import House

TOOLS: Any = {"tools": [{"toolSpec": {"name": TOOL, "description": DESCRIPTION, "inputSchema": {"json": SCHEMA}}}]}


class BedrockRuntime:
    """See `saying.Client`. The virtual key stands where Bedrock's own API keys do."""

    name = "boto3"
    dialect = "bedrock_converse"
    stop = "end_turn"
    carries = True
    thinks = True

    def __init__(self, house: House) -> None:
        assert os.environ["AWS_BEARER_TOKEN_BEDROCK"] == house.key  # the library reads it with each request
        self._client: Any = boto3.Session().client(
            "bedrock-runtime",
            region_name="us-east-1",
            endpoint_url=f"{house.secure_url}/bedrock",
            verify=house.authority,
            config=Config(retries={"total_max_attempts": 1}),
        )

    def close(self) -> None:
        self._client.close()

    def text(self, model: str, *, stream: bool) -> Said:
        return self._turn(model, [{"role": "user", "content": [{"text": QUESTION}]}], stream=stream)[1]

    def loop(self, model: str, *, stream: bool, thinking: bool) -> Said:
        messages: list[Any] = [{"role": "user", "content": [{"text": QUESTION}]}]
        more: dict[str, Any] = {"toolConfig": TOOLS, "inferenceConfig": {"maxTokens": 2048}}
        if thinking:
            more["additionalModelRequestFields"] = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
        message, first = self._turn(model, messages, stream=stream, **more)
        assert first.finish == "tool_use", first
        uses = [block["toolUse"] for block in message["content"] if "toolUse" in block]
        results = [
            {"toolResult": {"toolUseId": use["toolUseId"], "content": [{"text": ANSWERS[use["input"]["city"]]}]}}
            for use in uses
        ]
        messages += [message, {"role": "user", "content": results}]
        _, said = self._turn(model, messages, stream=stream, **more)
        said.thought = first.thought
        return said

    def failure(self, model: str, *, stream: bool, seen: Seen) -> Failure:
        messages = [{"role": "user", "content": [{"text": QUESTION}]}]
        try:
            if not stream:
                self._client.converse(modelId=model, messages=messages)
            else:
                with closing(self._client.converse_stream(modelId=model, messages=messages)["stream"]) as told:
                    for event in told:
                        seen(event.get("contentBlockDelta", {}).get("delta", {}).get("text", ""))
        except EventStreamError as error:
            return Failure(error, None)
        except ClientError as error:
            return Failure(error, error.response["ResponseMetadata"]["HTTPStatusCode"])
        raise AssertionError("no error")

    def _turn(self, model: str, messages: Any, *, stream: bool, **more: Any) -> tuple[dict[str, Any], Said]:
        if not stream:
            reply = self._client.converse(modelId=model, messages=messages, **more)
            message, finish = reply["output"]["message"], reply["stopReason"]
        else:
            with closing(self._client.converse_stream(modelId=model, messages=messages, **more)["stream"]) as told:
                events = list(told)
            message, finish, reply = self._gathered(events)
        usage = reply["usage"]
        assert reply["metrics"]["latencyMs"] >= 0
        cached, written = usage.get("cacheReadInputTokens", 0), usage.get("cacheWriteInputTokens", 0)
        content = message["content"]
        reasoning = [block["reasoningContent"] for block in content if "reasoningContent" in block]
        thoughts = [told["reasoningText"]["text"] for told in reasoning if "reasoningText" in told]
        total = usage["inputTokens"] + cached + written + usage["outputTokens"]
        assert usage["totalTokens"] == total
        return message, Said(
            "".join(block["text"] for block in content if "text" in block),
            finish,
            usage["inputTokens"] + cached + written,
            usage["outputTokens"],
            cached,
            None,
            "".join(thoughts),
        )

    def _gathered(self, events: list[dict[str, Any]]) -> tuple[dict[str, Any], str, dict[str, Any]]:
        """The message as users of the library put it together, its end, and its metadata."""
        blocks: dict[int, dict[str, Any]] = {}
        role, finish, metadata = "", "", {}
        for event in events:
            ((kind, value),) = event.items()
            match kind:
                case "messageStart":
                    role = value["role"]
                case "contentBlockStart":
                    blocks[value["contentBlockIndex"]] = {"toolUse": value["start"]["toolUse"] | {"input": ""}}
                case "contentBlockDelta":
                    self._put(blocks.setdefault(value["contentBlockIndex"], {}), value["delta"])
                case "messageStop":
                    finish = value["stopReason"]
                case "metadata":
                    metadata = value
                case _:
                    assert kind == "contentBlockStop", kind
        for block in blocks.values():
            if "toolUse" in block:
                block["toolUse"]["input"] = json.loads(block["toolUse"]["input"] or "{}")
        return {"role": role, "content": [blocks[index] for index in sorted(blocks)]}, finish, metadata

    def _put(self, block: dict[str, Any], delta: dict[str, Any]) -> None:
        if "toolUse" in delta:
            block["toolUse"]["input"] += delta["toolUse"]["input"]
        elif "redactedContent" in delta.get("reasoningContent", {}):
            block.setdefault("reasoningContent", {"redactedContent": b""})
            block["reasoningContent"]["redactedContent"] += delta["reasoningContent"]["redactedContent"]
        elif "reasoningContent" in delta:
            told = block.setdefault("reasoningContent", {"reasoningText": {"text": ""}})["reasoningText"]
            for name, value in delta["reasoningContent"].items():
                told[name] = told.get(name, "") + value
        else:
            block["text"] = block.get("text", "") + delta["text"]
