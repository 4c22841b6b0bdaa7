"""How a provider's answer reaches the client: as it came, translated, in one piece or as a stream. It must not choose
a target, nor try another one.
"""

from __future__ import annotations

from ostiary.core.operation import Meter, Operation
from ostiary.core.record import Outcome, Record
from ostiary.core.usage import Usage
from ostiary.gateway.answer import EVENTS, JSON, is_of, media_type
from ostiary.gateway.counting import counted
from ostiary.gateway.ending import Ending
from ostiary.gateway.plane import Plane
from ostiary.gateway.ports import PLAIN, Inbound, Route
from ostiary.gateway.relay import OpaqueTap, Relay, Tap
from ostiary.gateway.shaped import Shaped
from ostiary.gateway.translation import ObservingTap, TranslatingTap, Translation, dialect_of
from ostiary.gateway.upstream.response import Response
from ostiary.wire.dialect import Dialect
from ostiary.wire.dialects.openai_chat.raw import answered_usage, billed_usage, by_tokens
from ostiary.wire.dialects.openai_chat.raw_stream import EventTap
from ostiary.wire.dialects.openai_chat.tap import StreamTap
from ostiary.wire.dialects.openai_chat.usage import bad_answer
from ostiary.wire.dialects.openai_chat.values import FAMILY


class Delivery(Ending):
    """The state of an exchange that its answer depends on, and the ways to deliver one.

    Attributes:
        provider: the dialect that the attempt under way speaks; `translation`: into it, where it is not the client's.
        counts: the request only asks how long it is.
        pinned: only one deployment can answer, about what lives there; it is not charged for.
        alone: only the deployments of the model asked for can answer.
        judged: the lines of the file that this is about were authorised.
    """

    __slots__ = ("alone", "counts", "judged", "meter", "pinned", "provider", "route", "translation")

    def __init__(self, plane: Plane, inbound: Inbound, record: Record, route: Route) -> None:
        super().__init__(plane, inbound, record, dialect_of(route, inbound.query))
        self.route = route
        self.meter = route.endpoint.meter
        self.counts = route.endpoint.operation is Operation.COUNT
        self.provider: Dialect = self.dialect
        self.translation: Translation | None = None
        self.pinned = False
        self.alone = False
        self.judged = False

    def answer(self, body: bytes, kind: bytes) -> None:
        """A document: settle by what it states, then send it in one piece."""
        if self.translation is not None:
            self._translated(body, self.translation)
            return
        if self.counts:
            self.settle_nothing(Outcome.COMPLETED, 200)
            self.inbound.answer(200, self.head(media_type(kind), cost=0), body)
            return
        if self.provider.name in FAMILY:
            usage = answered_usage(body, self.meter, self.asked, None if self.pinned else self.target.price)
        else:
            usage = self.provider.usage_of(body)
        if self.relay is not None and self.relay.committed:
            raise bad_answer()  # comments have gone out: a document cannot follow
        if self.pinned:
            body = self.plane.objects.renamed(body, self.target, self.account.key, judged=self.judged)
        self.settle(Outcome.COMPLETED, usage, 200)
        self.inbound.answer(200, self.head(media_type(kind), cost=self.record.cost), body)

    def answer_shaped(self, passage: Shaped, answers: list[bytes]) -> None:
        """A document of another shape."""
        body, usage = passage.reply(answers)
        if self.meter is not Meter.TOKENS:
            price = self.target.price
            usage = billed_usage(usage, self.meter, None if by_tokens(price) else self.asked, price)
        self.settle(Outcome.COMPLETED, usage, 200)
        self.inbound.answer(200, self.head(JSON, cost=self.record.cost), body)

    def count(self) -> None:
        """Tell how long a request is where its model's maker cannot be asked in the client's dialect."""
        assert self.dialect.encode_count is not None
        body = self.dialect.encode_count(counted(self.dialect.decode_request(self.ask.body)))
        self.settle_nothing(Outcome.COMPLETED, 200)
        self.inbound.answer(200, self.head(JSON, cost=0) + b"x-ostiary-estimated: input_tokens\r\n", body)

    def _translated(self, body: bytes, translation: Translation) -> None:
        """A document of another dialect; told as a stream where one was asked for."""
        if not self.ask.stream:
            body, usage = translation.reply(body)
            self.settle(Outcome.COMPLETED, usage, 200)
            self.inbound.answer(200, self.head(JSON, cost=self.record.cost), body)
            return
        body, usage = translation.told(body)
        self.settle(Outcome.COMPLETED, usage, 200)
        if self.relay is not None and self.relay.committed:
            self.inbound.write(body)
            self.inbound.end()
        else:
            self.inbound.answer(200, self.head(self.dialect.stream_type, cost=self.record.cost), body)

    async def pass_on(self, response: Response, kind: bytes) -> None:
        """A stream, or bytes that are not for us to read."""
        if self.route.endpoint.name == PLAIN:
            await self._relay_through(OpaqueTap(), response)
        elif is_of(kind, EVENTS) or (self.ask.stream and is_of(kind, self.provider.stream_type)):
            await self._relay_through(self._tap(response), response)
        elif self.meter is Meter.TOKENS:
            response.abort()
            raise bad_answer()
        elif self.relay is not None and self.relay.committed:
            response.abort()
            raise bad_answer()  # comments have gone out: bytes of another kind cannot follow
        else:
            await self._relay_through(OpaqueTap(), response)

    def _tap(self, response: Response) -> StreamTap | EventTap | TranslatingTap | ObservingTap:
        if self.translation is not None:
            return self.translation.tap()
        if self.provider.name not in FAMILY:
            return ObservingTap(self.provider.decoder(), self.provider.stream_type)
        if self.route.endpoint.operation is Operation.RAW:
            return EventTap(announced=not response.close_delimited)
        return StreamTap(strip_usage=not self.ask.wants_usage)

    async def _relay_through(self, tap: Tap, response: Response) -> None:
        if self.relay is None:  # not asked for as a stream: no comments in it
            self.relay = self.new_relay(0.0)
        self.provider_headers = response.headers
        await self.relay.run(response, tap)

    def new_relay(self, seconds: float) -> Relay:
        """The client's side of a stream, with a sign of life after so many seconds of silence; 0 for none."""
        return Relay(self.inbound, self.stream_head, self._stream_ends, seconds, self.dialect.ping, self.plane.loop)

    def _stream_ends(self) -> None:
        self.settle(Outcome.COMPLETED, self.streamed_usage(), 200)

    def streamed_usage(self) -> Usage | None:
        """What a stream has stated of its use so far."""
        tap = self.relay.tap if self.relay is not None else None
        if isinstance(tap, (StreamTap, TranslatingTap, ObservingTap)):
            return tap.usage
        meter, price = self.meter, None if self.pinned else self.target.price
        counts = meter is Meter.CHARACTERS or (meter is Meter.REQUESTS and not by_tokens(price))
        stated = tap.usage if isinstance(tap, EventTap) else None
        return billed_usage(stated, meter, self.asked if counts else None, price)
