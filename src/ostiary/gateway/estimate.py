"""What a request will use, before anybody knows: stated rules, on the high side. It must not count tokens.

Input: a third of a token per byte of body, though never more than the model takes; the body's base64 parts (pictures,
sound) count as 16 kB in all, since providers do not bill them by the byte. The floor, which can refuse a request, is
an eighth of a token per byte. Output: the cap the client named, else `default_output_estimate`, never more than the
model makes. Pictures and characters: as many as the request names.
"""

from __future__ import annotations

from ostiary.core.operation import Meter
from ostiary.core.price import PriceState
from ostiary.core.snapshot import Deployment
from ostiary.core.usage import Usage
from ostiary.gateway.ledger.account import Estimate
from ostiary.wire.dialects.openai_chat.raw import by_tokens, rated

BASE64_BODY = 16 * 1024


def expected_usage(
    body: bytes, max_output: int | None, asked: Usage, meter: Meter, deployment: Deployment, default_output: int
) -> Usage:
    """The usage to reserve, and to charge where none is ever measured."""
    if meter is Meter.CHARACTERS:
        return asked
    if meter is Meter.IMAGES:
        return Usage(images=max(asked.images, 1))
    if meter is Meter.SECONDS:
        return Usage(milliseconds=len(body) // 16)  # 16 kB of compressed sound a second
    if meter is Meter.REQUESTS:
        return Usage(input=len(body) // 3 + 1) if by_tokens(deployment.price) else Usage()
    size = _text_size(body)
    into = size // 3 + 1
    if deployment.max_input_tokens is not None:
        into = min(into, deployment.max_input_tokens)
    if deployment.mode == "embedding":
        return Usage(input=into)
    out = default_output if max_output is None else max_output
    if deployment.max_output_tokens is not None:
        out = min(out, deployment.max_output_tokens)
    return Usage(input=into, output=out)


def estimate_of(expected: Usage, deployment: Deployment) -> Estimate:
    """Tokens and cost to reserve, and their floors."""
    floor = expected.input * 3 // 8
    price = deployment.price
    tokens = expected.input + expected.output
    if price is None:
        return Estimate(floor, tokens, 0, 0)
    return Estimate(floor, tokens, price.cost_of_tokens(floor, 0), price.cost(expected))


def state_of(deployment: Deployment, meter: Meter) -> PriceState:
    """What is known of the price before the answer: nothing, where it names no rate for what the meter counts.

    Some providers state tokens for pictures and sound, some do not; only then is such a price one that can be charged.
    """
    price, state = deployment.price, deployment.price_state
    if state is PriceState.FREE or price is None or rated(price, meter):
        return state
    return PriceState.UNKNOWN


def _text_size(body: bytes) -> int:
    size = len(body)
    if size > BASE64_BODY and b";base64," in body:
        return BASE64_BODY
    return size
