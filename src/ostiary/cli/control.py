"""The management API behind the data plane, built when it is first needed. It must not decide anything.

Starlette and the services take a tenth of a second to import, which no start and no other request should wait for: a
thread does it, with the first call to the management API.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ostiary.cli.server import spare_the_collector
from ostiary.core.fault import Fault, Kind
from ostiary.observe.log import failure, log

if TYPE_CHECKING:
    from ostiary.cli.house import House


class LazyControl:
    """An ASGI application that becomes the management API."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._app: Any = None
        self._building: asyncio.Future[Any] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI."""
        if self._app is None:
            self._app = await self.build()
            spare_the_collector()
        await self._app(scope, receive, send)

    async def build(self) -> Any:
        """The application, imported in a thread."""
        if self._building is None:
            self._building = asyncio.get_running_loop().run_in_executor(None, _application, self._house)
        try:
            return await asyncio.shield(self._building)
        except Exception:
            self._building = None  # the next caller tries again
            raise


def _application(house: House) -> Any:
    from ostiary.catalog.models import load_models
    from ostiary.control.access.keys import KeyService
    from ostiary.control.access.models import ModelService
    from ostiary.control.api.app import create_api
    from ostiary.control.api.callers import Callers
    from ostiary.control.api.routes import Services
    from ostiary.control.ownrows import with_own_rows
    from ostiary.control.usage.activity import ActivityService
    from ostiary.control.usage.cost import CostService
    from ostiary.control.usage.logs import SpendLogService
    from ostiary.control.usage.names import KeyBook
    from ostiary.control.usage.spend import SpendService
    from ostiary.store.reports import UsageReports

    reports = UsageReports(house.store.database, house.names, house.book)
    book = KeyBook(house.keys, house.digest, house.book)
    services = Services(
        keys=KeyService(
            house.keys,
            house.digest,
            house,
            house.clock,
            house.book,
            region=house.store.region,
            spending=house.spend_of,
            defaults=house.began.new_keys.defaults,
            upper=house.began.new_keys.bounds,
        ),
        models=ModelService(
            house.models,
            house.compiler,
            lambda: house.plane.snapshot,
            house.clock,
            lambda: with_own_rows(load_models(), house.loaded)[0],
        ),
        logs=SpendLogService(reports, book, house.clock),
        activity=ActivityService(reports, book, house.clock),
        spend=SpendService(reports, book, house.clock),
        costs=CostService(house.plane.serving),
    )
    header = house.plane.snapshot.key_header
    callers = Callers(house.keys, house.digest, lambda: house.admin_digest, house.clock, header=header)
    return create_api(services, callers, report=_report)


def _report(error: Exception) -> None:
    """A store that cannot be asked is no bug: the operator learns which of the two it is."""
    if isinstance(error, Fault) and error.kind is Kind.UNAVAILABLE:
        log().error("a call to the management API could not be answered", problem=error.public)
    else:
        log().error("a bug of ours", **failure(error))
