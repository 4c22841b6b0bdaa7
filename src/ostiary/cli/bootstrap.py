"""The only wiring: builds every adapter and hands it to whoever asks for its port. It must not decide anything else."""

from __future__ import annotations

import asyncio
import functools
import hmac
import os
import random
import secrets
import signal
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import uvicorn

from ostiary.catalog.models import load_models
from ostiary.catalog.providers import load_providers
from ostiary.cli.clock import SystemClock
from ostiary.cli.server import Server
from ostiary.cli.status import Status
from ostiary.config.load import load
from ostiary.config.problem import Problem, Severity
from ostiary.config.shapes import Loaded
from ostiary.config.watch import signature
from ostiary.control.compile import StoredModel, compile_snapshot
from ostiary.core.fault import Fault, Kind, Origin
from ostiary.core.ids import mint_key
from ostiary.core.key import VirtualKey
from ostiary.core.money import Nano
from ostiary.core.price import PriceState
from ostiary.core.snapshot import Deployment, PolicySnapshot
from ostiary.gateway.app import FrontDoor
from ostiary.gateway.deadlines import Sweeper
from ostiary.gateway.demo import Demo
from ostiary.gateway.edge import edge_protocol
from ostiary.gateway.edge_rules import EdgeLimits
from ostiary.gateway.ledger.flush import Flusher
from ostiary.gateway.ledger.journal import Journal
from ostiary.gateway.ledger.ledger import Ledger
from ostiary.gateway.objects import Objects
from ostiary.gateway.plane import Plane
from ostiary.gateway.policy.keys import KeyIndex
from ostiary.gateway.upstream.pool import Upstream
from ostiary.gateway.upstream.proxy import ignored_variables
from ostiary.observe.log import failure, log
from ostiary.observe.metrics import Tally
from ostiary.store.instance import Store, open_store
from ostiary.store.keys import KeyRepository
from ostiary.store.models import ModelRepository
from ostiary.store.usage import UsageRepository
from ostiary.vault.digest import digester
from ostiary.vault.keyring import Purpose
from ostiary.vault.master import load_master_key

RELOAD_SECONDS = 1.0  # between looks at the configuration's files
SYNC_SECONDS = 5.0  # between writes of the journal's pages to the disk, against loss of power
LAST_FLUSH_SECONDS = 10.0
DEFAULT_DIRECTORY = "ostiary-data"
ADMIN_DIGEST_FILE = "admin.digest"


class StartError(Exception):
    """The gateway cannot start; the text is one line for the operator."""


@dataclass
class Options:
    """What the command line asks for."""

    config: str | None = None
    host: str = "127.0.0.1"
    port: int | None = None
    dev: bool = False
    demo: bool = False
    say: Callable[[str], None] = field(default=print)


@dataclass
class House:
    """Everything that lives as long as the process."""

    options: Options
    environment: Mapping[str, str]
    loaded: Loaded
    directory: Path
    store: Store
    digest: Callable[[str], bytes]
    admin_digest: bytes
    shown_key: str  # what the start-up hint may show: the new admin key at the first start, else a placeholder
    clock: SystemClock
    plane: Plane
    ledger: Ledger
    journal: Journal
    upstream: Upstream
    keys: KeyRepository
    models: ModelRepository
    usage: UsageRepository
    tally: Tally
    status: Status
    stored: tuple[StoredModel, ...] = ()
    revision: int = 0
    store_well: bool = True
    watched: tuple[str, ...] = ()
    reloading: asyncio.Lock = field(default_factory=asyncio.Lock)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    # --- policy ---

    def compile(self, loaded: Loaded, stored: Sequence[StoredModel]) -> PolicySnapshot:
        """A snapshot from the configuration and the stored models.

        Raises:
            Fault: INVALID_REQUEST, naming each problem.
        """
        _refuse_errors(loaded.problems)
        compiled = compile_snapshot(
            loaded,
            stored,
            load_providers(),
            load_models(),
            revision=self.revision + 1,
            admin_digest=self.admin_digest,
            demo=self.options.demo or loaded.ostiary.demo,
        )
        _refuse_errors(compiled.problems)
        for problem in (*loaded.problems, *compiled.problems):
            if problem.severity is Severity.WARNING:
                log().warning("configuration", problem=str(problem))
        return compiled.snapshot

    def put_in_force(self, snapshot: PolicySnapshot) -> None:
        """Swap the snapshot of the data plane: one reference."""
        try:
            self.plane.swap(snapshot)
        except ValueError as error:
            raise Fault(Kind.INVALID_REQUEST, str(error), origin=Origin.GATEWAY) from None
        self.revision = snapshot.revision

    async def reload(self) -> None:
        """Read the configuration again, beside the running requests. A bad file leaves the running one in force."""
        async with self.reloading:
            loaded = await asyncio.to_thread(load, self.options.config, self.environment, dev=self.options.dev)
            self.watched = tuple(dict.fromkeys((*self.loaded.files, *loaded.files)))
            try:
                self.put_in_force(await asyncio.to_thread(self.compile, loaded, self.stored))
            except Fault as fault:
                self.status.config_problem = fault.public
                log().error("configuration not reloaded, the running one stays in force", problem=fault.public)
                return
            self.loaded = loaded
            self.watched = loaded.files
            self.status.config_problem = ""
            log().info("configuration reloaded", revision=self.revision)

    # --- ports of the control plane ---

    def key_changed(self, key: VirtualKey, *, cancel_in_flight: bool = False) -> None:
        """See `control.access.ports.Changes`."""
        self.plane.keys.put(key, cancel_in_flight=cancel_in_flight)

    def key_removed(self, key_id: str, digest: bytes, *, cancel_in_flight: bool = False) -> None:
        """See `control.access.ports.Changes`."""
        self.plane.keys.drop(key_id, digest, cancel_in_flight=cancel_in_flight)

    def compiler(self, stored: Sequence[StoredModel]) -> Callable[[], None]:
        """See `control.access.ports.Compiler`."""
        snapshot = self.compile(self.loaded, stored)

        def put_in_force() -> None:
            self.stored = tuple(stored)
            self.put_in_force(snapshot)

        return put_in_force

    def spend_of(self, key_id: str) -> Nano | None:
        """What a key has spent, unsaved records included; None where only the store knows."""
        account = self.plane.keys.account(key_id)
        return account.spend if account is not None else self.ledger.spend_of(key_id)

    # --- background work ---

    def records_saved(self) -> None:
        """The store has everything that was settled."""
        self.store_well = True
        self.ledger.rest()

    def records_refused(self, error: Exception) -> None:
        """The store failed to take records; they wait in the journal."""
        self.store_well = False
        log().error("the store did not take the records; trying again", **failure(error))

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run a task for the life of the process; its failure is logged, never silent."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        self.tasks.add(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log().critical("a background task has failed", task=task.get_name(), **failure(error))

    def start_named(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """`start` for work that is made when it is needed."""
        self.start(work(), name)

    async def watch_files(self) -> None:
        """Reload when a file of the configuration changes, or one that the last attempt has read."""
        self.watched = self.loaded.files
        seen = signature(self.watched)
        while True:
            await asyncio.sleep(RELOAD_SECONDS)
            if signature(self.watched) != seen:
                await self.reload()
                seen = signature(self.watched)

    async def sync_journal(self) -> None:
        """Bring the journal's pages to the disk from time to time: SIGKILL needs none of it, loss of power does."""
        while True:
            await asyncio.sleep(SYNC_SECONDS)
            await self.journal.sync()

    async def close(self) -> None:
        """After the last exchange: the ledger to the store, then everything shut."""
        running = list(self.tasks)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        try:
            async with asyncio.timeout(LAST_FLUSH_SECONDS):
                await Flusher(self.ledger.backlog, self.usage).flush()
        except TimeoutError:
            log().warning("the store took no more records; they stay in the journal")
        await self.upstream.close()
        await self.store.close()
        self.journal.close()


async def build(options: Options, environment: Mapping[str, str]) -> House:
    """Open everything and put the first snapshot in force.

    Raises:
        StartError: with one line that says what is wrong.
    """
    try:
        loaded = load(options.config, environment, dev=options.dev)
        _refuse_errors(loaded.problems)
        return await _build(options, environment, loaded)
    except Fault as fault:
        raise StartError(fault.public) from fault


def _refuse_errors(problems: Iterable[Problem]) -> None:
    errors = [str(problem) for problem in problems if problem.severity is Severity.ERROR]
    if errors:
        raise Fault(Kind.INVALID_REQUEST, "\n".join(errors), origin=Origin.GATEWAY)


async def _build(options: Options, environment: Mapping[str, str], loaded: Loaded) -> House:
    clock, loop = SystemClock(), asyncio.get_running_loop()
    for name in ignored_variables(environment):
        log().info("an environment variable that other programs obey is ignored here", variable=name)
    directory = _data_directory(loaded)
    url = loaded.general.database_url.reveal() if loaded.general.database_url else f"sqlite:///{directory}/ostiary.db"
    region = loaded.general.region if environment.get("OSTIARY_REGION") else None
    store = await open_store(url, load_master_key(directory, environment), clock, region)
    digest = digester(store.keyring.key(Purpose.APIKEY_PEPPER))
    object_key = store.keyring.key(Purpose.OBJECT_NAME)
    tally = Tally()
    segment = loaded.ostiary.ledger.segment_mb * 1024 * 1024
    journal = Journal(directory / "journal", int(clock.now() * 1000), segment_bytes=segment, damaged=_damaged)
    ledger = Ledger(journal, clock, tally.settled)
    keys = KeyRepository(store.database, clock)
    sweeper = Sweeper(loop)
    own = loaded.ostiary.upstream
    upstream = Upstream(sweeper, idle_seconds=own.idle_connection_seconds, most_per_origin=own.pool_per_origin)
    plane = Plane(
        keys=KeyIndex(digest, keys, ledger.account, clock),
        ledger=ledger,
        upstream=upstream,
        demo=Demo(loop, clock.now),
        sweeper=sweeper,
        clock=clock,
        chance=random.SystemRandom() if options.dev else random.Random(secrets.randbits(128)),
        loop=loop,
        refused=tally.refused,
        objects=Objects(lambda content: hmac.digest(object_key, content, "sha256")),
        priced=_priced,
    )
    admin_digest, new_key = _admin(loaded, directory, digest, store.region)
    if new_key:
        options.say(f"admin key (shown once, keep it): {new_key}")
    models = ModelRepository(store.database, store.keyring.sealer(Purpose.ROW_SEAL))
    house = House(
        options=options,
        environment=environment,
        loaded=loaded,
        directory=directory,
        store=store,
        digest=digest,
        admin_digest=admin_digest,
        shown_key=new_key or "<your key>",
        clock=clock,
        plane=plane,
        ledger=ledger,
        journal=journal,
        upstream=upstream,
        keys=keys,
        models=models,
        usage=UsageRepository(store.database),
        tally=tally,
        status=Status(),
    )
    house.stored = tuple(
        StoredModel(row.id, row.model_name, row.litellm_params, row.model_info) for row in await models.all()
    )
    house.put_in_force(house.compile(loaded, house.stored))
    return house


def _priced(deployment: Deployment) -> Deployment:
    """A deployment of one model with what the catalog knows of it."""
    provider = load_providers().find(deployment.provider)
    facts = load_models().find(provider, deployment.upstream_model) if provider is not None else None
    if facts is None or facts.price is None:
        return deployment
    return msgspec.structs.replace(
        deployment,
        price=facts.price,
        price_state=PriceState.LISTED,
        max_input_tokens=deployment.max_input_tokens or facts.max_input_tokens,
        max_output_tokens=deployment.max_output_tokens or facts.max_output_tokens,
    )


def _data_directory(loaded: Loaded) -> Path:
    directory = Path(loaded.general.data_dir or DEFAULT_DIRECTORY).absolute()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"the data directory {directory} cannot be made: {error.strerror}") from None
    return directory


def _admin(loaded: Loaded, directory: Path, digest: Callable[[str], bytes], region: str) -> tuple[bytes, str]:
    """The digest of the administrator's key: configured, or made at the first start; and the text of a new one."""
    if loaded.general.admin_key is not None:
        return digest(loaded.general.admin_key.reveal()), ""
    path = directory / ADMIN_DIGEST_FILE
    if path.exists():
        try:
            return bytes.fromhex(path.read_text().strip()), ""
        except ValueError:
            raise StartError(f"{path} is damaged; remove it to have a new admin key made") from None
    key = mint_key(region, os.urandom(43))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(digest(key).hex() + "\n")
    return digest(key), key


async def serve(options: Options, environment: Mapping[str, str]) -> None:
    """Run the gateway until it is told to stop.

    Raises:
        StartError: it could not start.
    """
    house = await build(options, environment)
    door = FrontDoor(house.plane)
    house.status.attach(house, door)
    own = house.loaded.ostiary
    config = uvicorn.Config(
        app=_control_app(house),
        host=options.host,
        port=options.port if options.port is not None else house.loaded.general.port,
        http=edge_protocol(door, _edge_limits(house.loaded), house.plane.sweeper),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=2048,
        timeout_graceful_shutdown=max(int(own.drain_seconds), 0),
    )
    announce = house.status.announcer(options.say)
    server = Server(config, ready=announce, stopping=house.status.stop, closed=house.close)
    flusher = Flusher(
        house.ledger.backlog,
        house.usage,
        own.ledger.flush_seconds,
        saved=house.records_saved,
        failed=house.records_refused,
    )
    house.start(flusher.run(), "flush")
    house.start(house.sync_journal(), "sync")
    if house.loaded.files:
        house.start(house.watch_files(), "watch")
    hang_up = functools.partial(house.start_named, "reload", house.reload)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hang_up)
    # uvicorn raises the signal again once it has stopped; by then everything is closed and there is nothing to do
    signal.signal(signal.SIGTERM, lambda *_: None)
    await server.serve()
    if not server.started:
        raise StartError("the listener could not be opened")


def _edge_limits(loaded: Loaded) -> EdgeLimits:
    edge = loaded.ostiary.edge
    return EdgeLimits(
        head_seconds=edge.header_seconds,
        body_seconds=edge.body_seconds,
        idle_seconds=edge.keep_alive_seconds,
        head=edge.max_header_bytes,
        headers=edge.max_headers,
        connections=edge.max_connections,
        connections_per_source=edge.max_connections_per_ip,
        hosts=frozenset(host.lower() for host in edge.allowed_hosts),
    )


def _control_app(house: House) -> Any:
    """The management API as an ASGI application, imported when it is first needed: FastAPI is slow to load."""
    from ostiary.cli.control import LazyControl  # the module that names the control plane's services

    return LazyControl(house)


def _damaged(path: Path, why: str) -> None:
    log().error("a damaged journal file was put aside", path=path.name, why=why)
