"""How a request goes out to one target: its body in the target's words, its head, its signature. It must not choose the
target, nor judge what a failure means for the request.
"""

from __future__ import annotations

import asyncio

import msgspec

from ostiary.core.fault import Fault, Kind, Origin, Retry
from ostiary.core.operation import Meter, Operation
from ostiary.core.record import Record
from ostiary.core.snapshot import Deployment
from ostiary.gateway.answer import retry_after
from ostiary.gateway.delivery import Delivery
from ostiary.gateway.outbound import Call, Outbound
from ostiary.gateway.plane import Plane
from ostiary.gateway.ports import Inbound, Route
from ostiary.gateway.shaped import Shaped, shaped
from ostiary.gateway.signing.signer import Signer, host_of
from ostiary.gateway.translation import Translation, adjusted, is_strict, spoken_to
from ostiary.gateway.upstream.response import Response
from ostiary.wire.dialect import Answering
from ostiary.wire.dialects.openai_chat.faults import LARGEST_ERROR
from ostiary.wire.dialects.openai_chat.values import FAMILY

CALLS_AT_ONCE = 8  # of a request that takes several


class Sending(Delivery):
    """The state of an exchange that its requests to providers depend on, and the way to make them.

    Attributes:
        item: the provider's id of the file or batch that this is about.
        query: with its mark, for what is relayed as it stands.
    """

    __slots__ = ("_answering", "item", "query")

    def __init__(self, plane: Plane, inbound: Inbound, record: Record, route: Route) -> None:
        super().__init__(plane, inbound, record, route)
        self._answering: Answering | None = None  # the request as values, once something needs it so
        self.item = ""
        self.query = ""

    def content_type(self) -> bytes:
        """Of the client's request; empty where it names none."""
        return next((value for name, value in self.inbound.headers if name == b"content-type"), b"")

    async def send(self, target: Deployment) -> Response:
        """The target's answer to the request, its head at least.

        Raises:
            Fault: it cannot be said, or there is no answer.
        """
        ask, endpoint = self.ask, self.route.endpoint
        body = self._body_for(target)
        self.entry.sent = True
        if target.scheme == "demo":
            return self.plane.demo.send(endpoint.name if self.translation is None else "chat.completions", body)
        chat = self.provider if endpoint.operation is Operation.CHAT else None
        call = Call(endpoint, target.upstream_model, self.item, chat, ask.stream, query=self.query)
        return await self._post(target, call, body, [] if self.translation is not None else self.inbound.headers)

    async def send_shaped(self, target: Deployment, passage: Shaped) -> list[bytes]:
        """The target's answers to the calls that a request of another shape takes, a few of them at once.

        Raises:
            Fault: one of them is an error, or none.
        """
        self.entry.sent = True
        self.losses = passage.losses
        call = Call(self.route.endpoint, target.upstream_model, below=passage.path)
        answers: list[bytes] = []
        for start in range(0, len(passage.bodies), CALLS_AT_ONCE):
            some = passage.bodies[start : start + CALLS_AT_ONCE]
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(self._whole(target, call, body)) for body in some]
            except ExceptionGroup as failures:
                raise failures.exceptions[0] from None
            answers += [task.result() for task in tasks]
        return answers

    async def _whole(self, target: Deployment, call: Call, body: bytes) -> bytes:
        response = await self._post(target, call, body, [])
        if not 200 <= response.status < 300:
            raise await self.rejected(response)
        return await response.read(self.snapshot.limits.max_answer)

    async def _post(
        self, target: Deployment, call: Call, body: bytes, client_headers: list[tuple[bytes, bytes]]
    ) -> Response:
        plane = self.plane
        out = plane.outbound(target)
        assert out.origin is not None
        signature = await self._signed(out, out.signer, call, body) if out.signer is not None else b""
        head = out.head(call, self.ask.content_type, len(body), client_headers, signature)
        timeouts = out.stream_timeouts if self.ask.stream else out.timeouts
        left = self.time_left()
        if timeouts.total - left > 1.0:
            timeouts = msgspec.structs.replace(timeouts, total=left, first_byte=min(timeouts.first_byte, left))
        return await plane.upstream.send(out.origin, head, body, timeouts, idempotent=call.endpoint.method == "GET")

    async def _signed(self, out: Outbound, signer: Signer, call: Call, body: bytes) -> bytes:
        method, host, path, clock = call.endpoint.method, host_of(out.deployment), out.target(call), self.plane.clock
        lines = signer.lines(method, host, path, body, clock.now())
        if lines is None:
            try:
                async with asyncio.timeout(max(self.time_left(), 0.0)):
                    await signer.ready()
            except TimeoutError:
                public = "the provider's credential did not come in time"
                raise Fault(Kind.TIMEOUT, public, origin=Origin.UPSTREAM, retry=Retry.NEXT) from None
            lines = signer.lines(method, host, path, body, clock.now())
        if lines is None:
            public = "there is no credential for the provider"
            raise Fault(Kind.UPSTREAM_AUTH, public, origin=Origin.UPSTREAM, retry=Retry.NEXT)
        return lines

    def passage_to(self, target: Deployment) -> Shaped | None:
        """The translation of embeddings or a rerank for a target; None where it takes them as they are.

        Raises:
            Fault: the request is none, or cannot be said to this target; another may do.
        """
        shape = self.route.endpoint.shape
        if not shape or shape in (target.embedding, target.rerank):
            return None
        strict = is_strict(self.account.key, target, self.ask.own)
        return shaped(shape, self._plain(), self.ask.model, target, self.record.id, strict=strict)

    def _plain(self) -> bytes:
        """The client's body without what was meant for the gateway."""
        return self.ask.patched(self.ask.model, include_usage=False) if self.ask.own else self.ask.body

    def _body_for(self, target: Deployment) -> bytes:
        """The request as the target is to see it: patched where it speaks the client's dialect, else translated."""
        ask, endpoint = self.ask, self.route.endpoint
        self.translation, self.provider = None, self.dialect
        if endpoint.operation is Operation.CHAT:
            self.provider = spoken_to(target, self.dialect)
        if self.provider is self.dialect:
            wanted = ask.stream and target.usage_in_stream and endpoint.dialect in FAMILY
            wanted = wanted and self.meter is Meter.TOKENS
            body = ask.patched(target.upstream_model, include_usage=wanted, defaults=target.defaults)
            return adjusted(body, target) if target.drops or target.adds else body
        if self._answering is None:
            asked = self.dialect.decode_request(self._plain())
            asked = msgspec.structs.replace(asked, model=ask.model, stream=ask.stream)
            created = self.record.started // 1000
            self._answering = Answering(id=self.record.id, created=created, model=ask.model, asked=asked)
        strict = is_strict(self.account.key, target, ask.own)
        self.translation = self.translated(self._answering, strict=strict)
        defaults = self.plane.outbound(target).defaults if target.defaults else None
        body = self.translation.request(target, defaults, stream=ask.stream)
        self.losses = self.translation.losses
        return body

    def translated(self, answering: Answering, *, strict: bool) -> Translation:
        """The translation of a request that `answering` tells."""
        return Translation(self.dialect, self.provider, answering, strict=strict)

    async def rejected(self, response: Response) -> Fault:
        """What an answer means that is an error."""
        try:
            body = await response.read(LARGEST_ERROR)
        except Fault:  # too long to be an explanation, or it never came: the status says enough
            body = b""
        fault = self.provider.decode_fault(response.status, body, retry_after(response.headers, self.plane.clock.now()))
        if self.translation is not None:
            fault.answer = None  # in the provider's dialect, which the client does not speak
        signer = self.plane.outbound(self.target).signer if fault.kind is Kind.UPSTREAM_AUTH else None
        if signer is not None:
            signer.refused()
        return fault
