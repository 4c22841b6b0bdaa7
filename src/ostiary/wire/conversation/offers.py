"""Which of the tools of a request a dialect can offer. It must not leave out a tool that the model has to call.

A tool that only another dialect understands (a search that the provider runs, a free-form tool) is an offer: the model
may do without it. It is left out and told as a loss, so that an agent that offers its provider's own tools works with
any provider. Where the request forces a call of it, leaving it out would change what is asked: that is refused.
"""

from __future__ import annotations

import msgspec

from ostiary.wire.conversation.conversation import Call, Conversation, Tool
from ostiary.wire.conversation.unknown import Loss, LossKind, inexpressible


def offered(conversation: Conversation, dialect: str, losses: list[Loss]) -> tuple[Conversation, tuple[str, ...]]:
    """The conversation with the tools that `dialect` can say, and the place of each of them among all.

    Where none is left, nothing is said of their choice either.

    Raises:
        Fault: INVALID_REQUEST where a call of a tool that would be left out is forced.
    """
    places = tuple(f"tools.{index}" for index in range(len(conversation.tools)))
    kept = [
        (place, tool)
        for place, tool in zip(places, conversation.tools, strict=True)
        if isinstance(tool, Tool) or tool.said_by == dialect
    ]
    if len(kept) == len(places):
        return conversation, places
    _refuse_forced(conversation, any_left=bool(kept))
    said = {place for place, _ in kept}
    losses += [Loss(LossKind.UNKNOWN, place) for place in places if place not in said]
    fewer = msgspec.structs.replace(conversation, tools=tuple(tool for _, tool in kept))
    if not kept:
        fewer = msgspec.structs.replace(fewer, tool_choice=None, parallel_calls=None)
    return fewer, tuple(place for place, _ in kept)


def _refuse_forced(conversation: Conversation, *, any_left: bool) -> None:
    choice = conversation.tool_choice
    if choice is None or (choice.call is not Call.REQUIRED and not choice.names):
        return
    known = {tool.name for tool in conversation.tools if isinstance(tool, Tool)}
    if not any_left or not known.issuperset(choice.names):
        raise inexpressible("tool_choice")
