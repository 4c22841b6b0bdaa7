"""What is known to be wrong and not mended yet. It must only ever become shorter: what is mended and still here fails.

A place is `<case>.<dialect>.<kind> -> <target>`; each line is matched against whole places.
"""

from __future__ import annotations

import re

_WORDLESS = "clients cannot tell this error from any other wrong request"
GAPS: dict[str, str] = {
    r"(budget\.\w+|reasoning_loop\.anthropic_messages)\.request -> openai_chat": "a budget becomes a word undeclared",
    r"effort\.(?!anthropic)\w+\.request -> bedrock_converse": "a word becomes a budget undeclared",
    r"stop_met\.anthropic_messages\.\w+ -> bedrock_converse": "the stop sequence that was met is lost undeclared",
    r"hidden_reasoning\.openai_responses\.stream -> bedrock_converse": "hidden reasoning loses that it is hidden",
    r"stream_error_after_stop\.openai_chat\.stream -> bedrock_converse": "a normal end stands before the failure",
    r"context_window\.(\w+)\.error -> (?!\1$|anthropic)\w+": _WORDLESS,
    r"content_policy\.(\w+)\.error -> (?!\1$)(openai|gemini)\w+": _WORDLESS,
}


def judge(place: str, problems: list[str]) -> None:
    """Fail where there are problems, or where there are none at a place that is listed."""
    reasons = [reason for pattern, reason in GAPS.items() if re.fullmatch(pattern, place)]
    if reasons:
        assert problems, f"{place} is right now: take it out of golden_gaps.py ({reasons[0]})"
    else:
        assert problems == []
