"""What the process says about itself: liveness, readiness, metrics. It must not tell a stranger more than yes or no."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import msgspec

from ostiary.core.fault import Fault, Kind
from ostiary.gateway.app import FrontDoor, LocalAnswer
from ostiary.gateway.policy.identify import credential_of
from ostiary.gateway.ports import Inbound
from ostiary.observe.metrics import Labels, Reading

if TYPE_CHECKING:
    from ostiary.cli.house import House

_JSON = b"content-type: application/json\r\ncache-control: no-store\r\n"
_ALIVE = b'"I\'m alive!"'
STORE_LAG_RECORDS = 100_000  # unsaved records beyond which the instance should get no more work


class Status:
    """Health and metrics of one process."""

    def __init__(self) -> None:
        self.stopping = False
        self.config_problem = ""
        self._house: House | None = None
        self._door: FrontDoor | None = None

    def attach(self, house: House, door: FrontDoor) -> None:
        """Say what to report on."""
        self._house = house
        self._door = door
        house.tally.gauges = self.readings
        for path in ("/health/liveliness", "/health/liveness"):
            door.add_local(path, self.liveness)
        door.add_local("/health/readiness", self.readiness)
        door.add_local("/metrics", self.metrics)

    def stop(self) -> None:
        """The process is told to stop: not ready any more."""
        self.stopping = True

    def announcer(self, say: Callable[[str], None]) -> Callable[[str], None]:
        """What to say once the listener is open: where, and a call that works."""
        house = self._house
        assert house is not None

        def announce(url: str) -> None:
            say(f"listening on {url}")
            name = next(iter(house.plane.snapshot.groups), "demo")
            document = f'{{"model":"{name}","messages":[{{"role":"user","content":"hello"}}]}}'
            say(
                f"try: curl {url}/v1/chat/completions -H 'Authorization: Bearer {house.shown_key}' "
                f"-H 'Content-Type: application/json' -d '{document}'"
            )

        return announce

    async def liveness(self, _inbound: Inbound) -> LocalAnswer:
        """The loop turns: that is all there is to say."""
        return 200, _JSON, _ALIVE

    async def readiness(self, _inbound: Inbound) -> LocalAnswer:
        """Whether this process should be given requests: 200 or 503."""
        house = self._house
        assert house is not None
        state = self._state(house)
        body = {
            "status": state,
            "db": "connected" if house.watch.well and house.store_well else "not connected",
            "vault": "failing" if house.watch.vault_problem or house.alarm.broken_seals else "ok",
            "config": "reload failed" if self.config_problem else "ok",
        }
        return (200 if state == "healthy" else 503), _JSON, msgspec.json.encode(body)

    def _state(self, house: House) -> str:
        if self.stopping:
            return "stopping"
        if not house.watch.ready:
            return "store not reached"
        if house.watch.suspended:
            return "store away"
        return "store behind" if len(house.ledger.backlog) > STORE_LAG_RECORDS else "healthy"

    async def metrics(self, inbound: Inbound) -> LocalAnswer:
        """Prometheus text, closed unless the configuration opens it, and then for the admin key or the token.

        Raises:
            Fault: NOT_FOUND while closed; UNAUTHENTICATED or ROUTE_DENIED.
        """
        house, door = self._house, self._door
        assert house is not None
        assert door is not None
        settings = house.loaded.ostiary.metrics
        if not settings.enabled:
            raise Fault(Kind.NOT_FOUND, "there is no such route")
        token = settings.token
        offered = credential_of(inbound.headers)
        if token is None or not hmac.compare_digest(house.digest(offered), house.digest(token.reveal())):
            await door.administrator(inbound)
        from ostiary.observe.exposition import CONTENT_TYPE, exposition  # loaded by whoever scrapes first

        return 200, b"content-type: %s\r\n" % CONTENT_TYPE, exposition(house.tally)

    def readings(self) -> Iterable[Reading]:
        """Gauges, read at each scrape."""
        house = self._house
        assert house is not None
        yield "litellm_in_flight_requests", "Requests under way", (), [((), house.ledger.in_flight)]
        yield "ostiary_unsaved_records", "Settled records not in the store yet", (), [((), len(house.ledger.backlog))]
        alarm = house.alarm
        tampered: list[tuple[Labels, float]] = [((table,), count) for table, count in alarm.tampered_rows.items()]
        broken: list[tuple[Labels, float]] = [((table,), count) for table, count in alarm.broken_seals.items()]
        yield "ostiary_tampered_rows", "Rows refused because they were edited past the gateway", ("table",), tampered
        yield "ostiary_broken_seals", "Sealed values that did not open", ("table",), broken
        yield "ostiary_upstream_connections", "Open connections to providers", (), [((), house.upstream.connections)]
        yield "ostiary_policy_revision", "Revision of the snapshot in force", (), [((), house.revision)]
        now = house.clock.monotonic()
        deployments = house.plane.snapshot.deployments.values()
        pulses = house.plane.health.pulses
        states: list[tuple[Labels, float]] = [
            ((d.model_name, d.id), 2.0 if d.id in pulses and pulses[d.id].resting_until > now else 0.0)
            for d in deployments
        ]
        yield "litellm_deployment_state", "0 healthy, 2 resting", ("model", "model_id"), states
