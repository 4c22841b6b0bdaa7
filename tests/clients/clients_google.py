"""The official `google-genai` library, with the answers it gets held strictly to its own types."""

from __future__ import annotations

import warnings
from typing import Any

import httpx2
from lines import ANSWERS, DESCRIPTION, QUESTION, SCHEMA, TOOL
from saying import Failure, Said, Seen

from house import House

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what the library's own dependencies announce as they are imported
    from google import genai
    from google.genai import errors, types


class GoogleGenAI:
    """See `saying.Client`."""

    name = "google-genai"
    dialect = "gemini_generate"
    stop = "STOP"
    carries = True
    thinks = True

    def __init__(self, house: House) -> None:
        self._http = httpx2.Client(event_hooks={"response": [self._judge]})
        options = types.HttpOptions(base_url=house.url, httpx_client=self._http)
        self._client = genai.Client(api_key=house.key, http_options=options)

    def _judge(self, response: httpx2.Response) -> None:
        """Answers in one piece are what the library's own types say, with nothing beside."""
        if response.status_code == 200 and response.headers["content-type"].startswith("application/json"):
            types.GenerateContentResponse.model_validate_json(response.read(), strict=True)

    def close(self) -> None:
        self._client.close()
        self._http.close()

    def text(self, model: str, *, stream: bool) -> Said:
        return self._turn(model, QUESTION, stream=stream)[1]

    def loop(self, model: str, *, stream: bool, thinking: bool) -> Said:
        declared = types.FunctionDeclaration(name=TOOL, description=DESCRIPTION, parameters_json_schema=SCHEMA)
        thoughts = types.ThinkingConfig(include_thoughts=True, thinking_budget=1024) if thinking else None
        config = types.GenerateContentConfig(
            tools=[types.Tool(function_declarations=[declared])],
            thinking_config=thoughts,
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        )
        contents: list[Any] = [types.Content(role="user", parts=[types.Part(text=QUESTION)])]
        parts, first = self._turn(model, contents, stream=stream, config=config)
        contents.append(types.Content(role="model", parts=parts))
        results = []
        for call in (part.function_call for part in parts if part.function_call):
            assert call.name == TOOL
            answer = types.FunctionResponse(id=call.id, name=call.name, response={"result": ANSWERS[call.args["city"]]})
            results.append(types.Part(function_response=answer))
        contents.append(types.Content(role="user", parts=results))
        _, said = self._turn(model, contents, stream=stream, config=config)
        said.thought = first.thought
        return said

    def failure(self, model: str, *, stream: bool, seen: Seen) -> Failure:
        try:
            if not stream:
                self._client.models.generate_content(model=model, contents=QUESTION)
            else:
                for chunk in self._client.models.generate_content_stream(model=model, contents=QUESTION):
                    seen(chunk.text or "")
        except errors.APIError as error:
            return Failure(error, error.code)
        raise AssertionError("no error")

    def _turn(self, model: str, contents: Any, *, stream: bool, config: Any = None) -> tuple[list[Any], Said]:
        if stream:
            told = self._client.models.generate_content_stream(model=model, contents=contents, config=config)
            replies = list(told)
        else:
            replies = [self._client.models.generate_content(model=model, contents=contents, config=config)]
        parts = [part for reply in replies for part in self._parts(reply)]
        usage, finish = replies[-1].usage_metadata, replies[-1].candidates[0].finish_reason
        assert usage.total_token_count == usage.prompt_token_count + usage.candidates_token_count + (
            usage.thoughts_token_count or 0
        )
        thought = usage.thoughts_token_count or 0
        return parts, Said(
            "".join(part.text for part in parts if part.text and not part.thought),
            finish.value if finish else None,
            usage.prompt_token_count,
            usage.candidates_token_count + thought,
            usage.cached_content_token_count or 0,
            thought,
            "".join(part.text for part in parts if part.text and part.thought),
        )

    def _parts(self, reply: Any) -> list[Any]:
        (candidate,) = reply.candidates
        return (candidate.content.parts if candidate.content else None) or []
