"""A management API on a real socket over a real database: the house that these tests knock at."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType

import httpx2
import uvicorn

from ostiary.control.access.keys import KeyService
from ostiary.control.access.models import ModelService
from ostiary.control.api.app import create_api
from ostiary.control.api.callers import Callers
from ostiary.control.api.routes import Services
from ostiary.control.compile import StoredModel
from ostiary.control.usage.activity import ActivityService
from ostiary.control.usage.cost import CostService
from ostiary.control.usage.logs import SpendLogService
from ostiary.control.usage.names import KeyBook
from ostiary.control.usage.spend import SpendService
from ostiary.core.fault import Fault, Kind
from ostiary.core.key import VirtualKey
from ostiary.core.price import Price
from ostiary.core.secret import Secret
from ostiary.core.snapshot import EMPTY, Deployment, PolicySnapshot
from ostiary.store.directory import Directory
from ostiary.store.instance import Store, open_store
from ostiary.store.keys import KeyRepository
from ostiary.store.keystore import DatabaseKeySlots
from ostiary.store.models import ModelRepository
from ostiary.store.names import Names
from ostiary.store.reports import UsageReports
from ostiary.store.usage import UsageRepository
from ostiary.vault.digest import digester
from ostiary.vault.keyring import open_keyring
from ostiary.vault.master import load_master_key
from ostiary.vault.purpose import Purpose
from ostiary.vault.wrapper import LocalSeal

ADMIN_KEY = "sk-admin-Zq81kXv02LmRt7"


class Clock:
    """A clock that a test can push forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> float:
        return time.time() + self.ahead

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


class Told:
    """What the data plane was told, in order."""

    def __init__(self) -> None:
        self.changed: list[tuple[VirtualKey, bool]] = []
        self.removed: list[tuple[str, bytes, bool]] = []

    def key_changed(self, key: VirtualKey, *, cancel_in_flight: bool = False) -> None:
        self.changed.append((key, cancel_in_flight))

    def key_removed(self, key_id: str, digest: bytes, *, cancel_in_flight: bool = False) -> None:
        self.removed.append((key_id, digest, cancel_in_flight))


class Policy:
    """A compiler that serves every model but those called `broken`."""

    def __init__(self) -> None:
        configured = Deployment(
            id="from-file", model_name="house-model", provider="openai", upstream_model="gpt-4o", scheme="https",
            host="api.example", port=443, base_path="/v1", credential=Secret("sk-provider-canary-1"),
            price=Price(input=2_500_000_000_000, output=10_000_000_000_000), max_output_tokens=16_384, rpm=100,
        )  # fmt: skip
        self.configured = {configured.id: configured}
        self.snapshot = self._made([])

    def __call__(self, stored: Sequence[StoredModel]) -> Callable[[], None]:
        if any(model.model_name == "broken" for model in stored):
            raise Fault(Kind.INVALID_REQUEST, "`litellm_params.model`: no such provider", param="litellm_params.model")
        made = self._made(stored)

        def swap() -> None:
            self.snapshot = made

        return swap

    def _made(self, stored: Sequence[StoredModel]) -> PolicySnapshot:
        deployments = dict(self.configured)
        for model in stored:
            provider, _, name = str(model.litellm_params["model"]).partition("/")
            deployments[model.id] = Deployment(
                id=model.id, model_name=model.model_name, provider=provider, upstream_model=name, scheme="https",
                host="db.example", port=443, base_path="", source="db",
            )  # fmt: skip
        groups: dict[str, tuple[Deployment, ...]] = {}
        for deployment in deployments.values():
            groups[deployment.model_name] = (*groups.get(deployment.model_name, ()), deployment)
        return PolicySnapshot(revision=EMPTY.revision + 1, groups=groups, deployments=MappingProxyType(deployments))


class CountingKeys:
    """Keys, and how often the store was asked."""

    def __init__(self, keys: KeyRepository) -> None:
        self._keys = keys
        self.asked = 0

    async def find(self, digest: bytes) -> VirtualKey | None:
        self.asked += 1
        return await self._keys.find(digest)


class Gatehouse:
    """The parts of a running management API."""

    def __init__(self, store: Store, clock: Clock, **key_options: object) -> None:
        pepper = store.keyring.key(Purpose.APIKEY_PEPPER)
        self.store, self.clock, self.told, self.policy = store, clock, Told(), Policy()
        self.errors: list[Exception] = []
        parts = store.database, store.keyring, clock
        self.directory, self.names = Directory(*parts, store.default_org), Names(*parts)
        self.usage = UsageRepository(store.database, self.names, store.default_org)
        self.keys = KeyRepository(*parts, self.directory)
        self.models = ModelRepository(*parts)
        self.finder = CountingKeys(self.keys)

        digest = self.digest = digester(pepper)
        book = KeyBook(self.keys, digest, self.directory)
        reports = UsageReports(store.database, self.names, self.directory)
        self.services = Services(
            keys=KeyService(
                self.keys,
                digest,
                self.told,
                clock,
                self.directory,
                region=store.region,
                **key_options,  # type: ignore[arg-type]
            ),
            models=ModelService(self.models, self.policy, lambda: self.policy.snapshot, clock),
            logs=SpendLogService(reports, book, clock),
            activity=ActivityService(reports, book, clock),
            spend=SpendService(reports, book, clock),
            costs=CostService(lambda model: self.policy.snapshot.groups.get(model, ())),
        )
        admin = digest(ADMIN_KEY)
        self.callers = Callers(self.finder, digest, lambda: admin, clock)
        self.app = create_api(self.services, self.callers, report=self.errors.append)
        self.port = 0
        self.client: httpx2.AsyncClient

    def as_key(self, key: str) -> dict[str, str]:
        return {"authorization": f"Bearer {key}"}


@asynccontextmanager
async def gatehouse(template: Path, directory: Path, **key_options: object) -> AsyncIterator[Gatehouse]:
    """A running API over a copy of an empty store; its client carries the administrator's key."""
    clock = Clock()
    shutil.copytree(template, directory / "data")
    async with (
        opened_store(directory / "data", clock) as store,
        _served(Gatehouse(store, clock, **key_options)) as house,
    ):
        yield house


@asynccontextmanager
async def opened_store(directory: Path, clock: Clock) -> AsyncIterator[Store]:
    """The store in a data directory, made where there is none."""
    slots = DatabaseKeySlots(f"sqlite:///{directory}/keystore.db")
    seal = LocalSeal(load_master_key(directory, {}))
    store = open_store(f"sqlite:///{directory}/ostiary.db", await open_keyring(slots, lambda: [seal], clock), clock)
    try:
        await store.prepare()
        yield store
    finally:
        await store.close()
        await slots.close()


@asynccontextmanager
async def _served(house: Gatehouse) -> AsyncIterator[Gatehouse]:
    config = uvicorn.Config(house.app, host="127.0.0.1", port=0, log_config=None, lifespan="off", server_header=False)
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    # Started and stopped by hand: its own loop and shutdown take a fifth of a second to end.
    await server.startup()
    house.port = server.servers[0].sockets[0].getsockname()[1]
    try:
        async with httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{house.port}", headers=house.as_key(ADMIN_KEY), trust_env=False, verify=False
        ) as client:
            house.client = client
            yield house
    finally:
        for listener in server.servers:
            listener.close()
        while server.server_state.connections:  # the client has closed its ends
            await asyncio.sleep(0)
