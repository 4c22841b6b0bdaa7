"""Libraries of an older generation, asked over standard input: one JSON job a line, answered by lines of JSON.

{id, client, kind: "ask" | "loop", model, stream, thinking} -> {id, seen: text}* then {id, said} or {id, failed}.
It runs in an environment of its own: `openai` 2, as LlamaIndex wants it.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what the libraries' own dependencies announce as they are imported
    import openai
    from llama_index.core.base.llms.types import ChatMessage
    from llama_index.core.tools import FunctionTool
    from llama_index.llms.openai_like import OpenAILike

URL, KEY, QUESTION = os.environ["URL_OF_GATEWAY"], os.environ["KEY"], os.environ["QUESTION"]
TOOL, DESCRIPTION = os.environ["TOOL"], os.environ["DESCRIPTION"]
SCHEMA, ANSWERS = json.loads(os.environ["SCHEMA"]), json.loads(os.environ["ANSWERS"])


def tell(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


def seen(job: dict[str, Any], text: str | None) -> None:
    if text:
        tell({"id": job["id"], "seen": text})


def weather(city: str) -> str:
    """The weather in a city."""
    answer: str = ANSWERS[city]
    return answer


def llama_index(job: dict[str, Any]) -> dict[str, Any]:
    """LlamaIndex's client for servers of OpenAI's kind."""
    llm = OpenAILike(
        model=job["model"],
        api_base=f"{URL}/v1",
        api_key=KEY,
        max_retries=0,
        is_chat_model=True,
        is_function_calling_model=True,
        additional_kwargs={"stream_options": {"include_usage": True}} if job["stream"] else {},
    )
    history = [ChatMessage(role="user", content=QUESTION)]
    if job["kind"] == "loop":
        tool = FunctionTool.from_defaults(weather, name=TOOL, description=DESCRIPTION)
        told = _last(job, llm, history, [tool])
        history.append(told.message)
        for call in llm.get_tool_calls_from_response(told):
            made = {"tool_call_id": call.tool_id}
            answer = tool(**call.tool_kwargs).content
            history.append(ChatMessage(role="tool", content=answer, additional_kwargs=made))
        told = _last(job, llm, history, [tool])
    else:
        told = _last(job, llm, history, None)
    return {"text": told.message.content or ""} | _usage(told.raw.usage)


def _last(job: dict[str, Any], llm: Any, history: list[ChatMessage], tools: list[Any] | None) -> Any:
    if tools is None:
        told = llm.stream_chat(history) if job["stream"] else llm.chat(history)
    elif job["stream"]:
        told = llm.stream_chat_with_tools(tools, chat_history=history, allow_parallel_tool_calls=True)
    else:
        told = llm.chat_with_tools(tools, chat_history=history, allow_parallel_tool_calls=True)
    if job["stream"]:
        last = None
        for last in told:
            seen(job, last.delta)
        return last
    return told


def _usage(usage: Any) -> dict[str, Any]:
    ins, outs = usage.prompt_tokens_details, usage.completion_tokens_details
    return {
        "input": usage.prompt_tokens,
        "output": usage.completion_tokens,
        "cached": ins.cached_tokens if ins else 0,
        "reasoning": outs.reasoning_tokens if outs else 0,
    }


def openai_2(job: dict[str, Any]) -> dict[str, Any]:
    """The last generation of the official library, validating strictly."""
    tools: Any = [{"type": "function", "function": {"name": TOOL, "description": DESCRIPTION, "parameters": SCHEMA}}]
    more: dict[str, Any] = {"tools": tools} if job["kind"] == "loop" else {}
    if job["thinking"]:
        more["reasoning_effort"] = "low"
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    with openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0, _strict_response_validation=True) as client:
        reply = _completion(job, client, messages, more)
        thought = getattr(reply.choices[0].message, "reasoning_content", None)
        if job["kind"] == "loop":
            message = reply.choices[0].message
            messages.append(message.model_dump(exclude_none=True, exclude={"parsed"}))
            for call in message.tool_calls:
                answer = weather(**json.loads(call.function.arguments))
                messages.append({"role": "tool", "tool_call_id": call.id, "content": answer})
            reply = _completion(job, client, messages, more)
    choice = reply.choices[0]
    told = {"text": choice.message.content or "", "finish": choice.finish_reason, "thought": thought or ""}
    return told | _usage(reply.usage)


def _completion(job: dict[str, Any], client: openai.OpenAI, messages: list[Any], more: dict[str, Any]) -> Any:
    if not job["stream"]:
        return client.chat.completions.create(model=job["model"], messages=messages, **more)
    options: Any = {"include_usage": True}
    with client.chat.completions.stream(model=job["model"], messages=messages, stream_options=options, **more) as told:
        for event in told:
            seen(job, event.delta if event.type == "content.delta" else "")
        return told.get_final_completion()


CLIENTS = {"llama-index": llama_index, "openai-2": openai_2}


def main() -> None:
    """Answer jobs until there are no more."""
    warnings.simplefilter("error")
    tell({"ready": True})
    for line in sys.stdin:
        job = json.loads(line)
        try:
            tell({"id": job["id"], "said": CLIENTS[job["client"]](job)})
        except Exception as error:  # noqa: BLE001 - whatever the library raises is what the test asks about
            failed = {
                "name": type(error).__name__,
                "message": str(error),
                "status": getattr(error, "status_code", None),
            }
            tell({"id": job["id"], "failed": failed})


if __name__ == "__main__":
    main()
