"""Which fields of a chat request a deployment takes: asked of the codecs. It must not keep a list of its own.

Each field is put into a request of OpenAI's dialect, which is read and written for the deployment as a call would be.
What is refused, or changes nothing because there is no word for it, is not supported.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

from ostiary.core.fault import Fault
from ostiary.core.profile import Profile
from ostiary.core.snapshot import Deployment
from ostiary.wire.conversation.unknown import Encoded, LossKind
from ostiary.wire.registry import SPOKEN

CLIENT = "openai_chat"
_TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
_SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}
# Field -> what a request has besides the model and a message, the field itself first.
_FIELDS: Mapping[str, dict[str, Any]] = {
    "audio": {"audio": {"voice": "alloy", "format": "wav"}, "modalities": ["text", "audio"]},
    "frequency_penalty": {"frequency_penalty": 0.5},
    "logit_bias": {"logit_bias": {"1": 1}},
    "logprobs": {"logprobs": True},
    "max_completion_tokens": {"max_completion_tokens": 9},
    "max_tokens": {"max_tokens": 9},
    "metadata": {"metadata": {"a": "b"}},
    "modalities": {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}},
    "n": {"n": 2},
    "parallel_tool_calls": {"parallel_tool_calls": False, "tools": [_TOOL]},
    "prediction": {"prediction": {"type": "content", "content": "a"}},
    "presence_penalty": {"presence_penalty": 0.5},
    "prompt_cache_key": {"prompt_cache_key": "k"},
    "reasoning_effort": {"reasoning_effort": "low"},
    "response_format": {"response_format": _SCHEMA},
    "safety_identifier": {"safety_identifier": "s"},
    "seed": {"seed": 1},
    "service_tier": {"service_tier": "auto"},
    "stop": {"stop": ["a"]},
    "stream": {"stream": True},
    "stream_options": {"stream_options": {"include_usage": True}, "stream": True},
    "temperature": {"temperature": 0.5},
    "tool_choice": {"tool_choice": "required", "tools": [_TOOL]},
    "tools": {"tools": [_TOOL]},
    "top_logprobs": {"top_logprobs": 2, "logprobs": True},
    "top_p": {"top_p": 0.5},
    "user": {"user": "u"},
    "verbosity": {"verbosity": "low"},
    "web_search_options": {"web_search_options": {}},
}
_ROOM = 64_000  # tokens: enough for any budget
_LEFT_OUT = frozenset({LossKind.KNOB, LossKind.UNKNOWN})
# Fields that mean nothing to a model of which the catalogue says that it cannot.
_NEEDS = {
    "supports_function_calling": ("tools", "tool_choice", "parallel_tool_calls"),
    "supports_tool_choice": ("tool_choice",),
    "supports_parallel_function_calling": ("parallel_tool_calls",),
    "supports_response_schema": ("response_format",),
    "supports_reasoning": ("reasoning_effort",),
    "supports_web_search": ("web_search_options",),
    "supports_audio_output": ("audio", "modalities"),
}


def accepted_fields(deployment: Deployment, capabilities: Mapping[str, bool]) -> list[str] | None:
    """The fields, sorted; None for a model that is not for chat. Sound is given only where it is known to be."""
    if deployment.mode not in ("chat", "responses") or not set(deployment.dialects) & SPOKEN.keys():
        return None
    dialect = CLIENT if CLIENT in deployment.dialects else deployment.dialects[0]
    profile = msgspec.structs.replace(deployment.profile, max_output=_ROOM)
    unable = {"supports_audio_output": False, **capabilities}
    out = {field for name, fields in _NEEDS.items() if unable.get(name) is False for field in fields}
    out.update(deployment.drops)
    return [field for field in _expressible(dialect, profile) if field not in out]


@cache  # by a dialect and a handful of flags
def _expressible(dialect: str, profile: Profile) -> tuple[str, ...]:
    return tuple(field for field, members in _FIELDS.items() if _travels(field, members, dialect, profile))


def _travels(field: str, members: Mapping[str, Any], dialect: str, profile: Profile) -> bool:
    try:
        told = _written(members, dialect, profile)
        if not any(loss.kind in _LEFT_OUT for loss in told.losses):
            return True
        # What is said in another way is reported as a loss, too: a budget for an effort.
        return told.body != _written({**members, field: None}, dialect, profile).body
    except Fault:
        return False


def _written(members: Mapping[str, Any], dialect: str, profile: Profile) -> Encoded:
    body = {"model": "m", "messages": [{"role": "user", "content": "a"}], **members}
    stated = {name: value for name, value in body.items() if value is not None}
    return SPOKEN[dialect].encode_request(SPOKEN[CLIENT].decode_request(msgspec.json.encode(stated)), profile)
