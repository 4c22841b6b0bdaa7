"""Usage metadata, from and to the pivot's usage. It must not keep content.

Source: official Python SDK 3.4, `types.GenerateContentResponseUsageMetadata`. The prompt's count includes what was
cached; what tools brought in and what was thought are counted beside prompt and candidates.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ostiary.core.usage import Usage

_MOST = 10**12  # beyond this a count is no count, and would not fit where it is stored
# Vertex AI tells the tier of service as the kind of traffic.
_TIERS = {"ON_DEMAND": "default", "ON_DEMAND_PRIORITY": "priority", "ON_DEMAND_FLEX": "flex"}
_TRAFFIC = {tier: traffic for traffic, tier in _TIERS.items()} | {
    word: word for word in ("ON_DEMAND_OFFPEAK", "PROVISIONED_THROUGHPUT")
}


class _Modality(msgspec.Struct):
    modality: str = ""
    token_count: int = msgspec.field(name="tokenCount", default=0)


class WireUsage(msgspec.Struct, rename="camel"):
    """The `usageMetadata` object."""

    prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    cached_content_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    total_token_count: int | None = None
    prompt_tokens_details: list[_Modality] | None = None
    candidates_tokens_details: list[_Modality] | None = None
    tool_use_prompt_tokens_details: list[_Modality] | None = None
    traffic_type: str | None = None

    def to_usage(self) -> Usage | None:
        """The usage in the house's convention; None where no number is stated, or one that cannot be meant."""
        thought = self.thoughts_token_count or 0
        made = (self.candidates_token_count or 0) + thought
        if self.prompt_token_count is None and self.total_token_count is None and not made:
            return None
        asked = self.prompt_token_count
        if asked is None:
            into = max((self.total_token_count or 0) - made, 0)
        else:
            into = asked + (self.tool_use_prompt_token_count or 0)
        heard = _audio(self.prompt_tokens_details) + _audio(self.tool_use_prompt_tokens_details)
        cached, spoken = self.cached_content_token_count or 0, _audio(self.candidates_tokens_details)
        counts = (into, made, cached, thought, heard, spoken)
        if min(*counts, asked or 0, made - thought) < 0 or max(counts) > _MOST:
            return None
        return Usage(into, made, cached, 0, thought, heard, spoken)

    @property
    def tier(self) -> str:
        """The tier of service; "" where it is not told."""
        return _TIERS.get(self.traffic_type or "", self.traffic_type or "")


def _audio(details: list[_Modality] | None) -> int:
    return sum(one.token_count for one in details or () if one.modality == "AUDIO")


def has_tier(tier: str) -> bool:
    """Whether there is a word for a tier of service."""
    return tier in _TRAFFIC


def encode_usage(usage: Usage, tier: str = "") -> dict[str, Any]:
    """The `usageMetadata` object."""
    made = max(usage.output - usage.reasoning, 0)
    document: dict[str, Any] = {"promptTokenCount": usage.input, "candidatesTokenCount": made}
    if usage.cache_read:
        document["cachedContentTokenCount"] = usage.cache_read
    if usage.reasoning:
        document["thoughtsTokenCount"] = usage.reasoning
    if usage.audio_input:
        document["promptTokensDetails"] = _details(usage.input, usage.audio_input)
    if usage.audio_output:
        document["candidatesTokensDetails"] = _details(made, usage.audio_output)
    if tier in _TRAFFIC:
        document["trafficType"] = _TRAFFIC[tier]
    return {**document, "totalTokenCount": usage.input + made + usage.reasoning}


def _details(total: int, audio: int) -> list[dict[str, Any]]:
    said = [{"modality": "TEXT", "tokenCount": total - audio}] if total > audio else []
    return [*said, {"modality": "AUDIO", "tokenCount": audio}]
