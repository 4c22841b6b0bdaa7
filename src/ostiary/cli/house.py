"""What lives as long as the process: the policy in force, reloads, background work, the end. It builds no adapter."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ostiary.catalog.models import load_models
from ostiary.catalog.providers import load_providers
from ostiary.cli.clock import SystemClock
from ostiary.cli.reload import needs_restart, refuse_errors, refuse_nothing
from ostiary.cli.status import Status
from ostiary.cli.storewatch import StoreWatch
from ostiary.config.load import load
from ostiary.config.problem import Severity
from ostiary.config.shapes import Loaded
from ostiary.config.watch import Signature, signature
from ostiary.control.compile import StoredModel, compile_snapshot
from ostiary.core.fault import Fault, Kind, Origin
from ostiary.core.key import VirtualKey
from ostiary.core.money import Nano
from ostiary.core.snapshot import EMPTY, PolicySnapshot
from ostiary.gateway.ledger.flush import Flusher
from ostiary.gateway.ledger.journal import Journal
from ostiary.gateway.ledger.ledger import Ledger
from ostiary.gateway.plane import Plane
from ostiary.gateway.remembered import Remembered
from ostiary.gateway.signing.signer import Signers
from ostiary.gateway.upstream.pool import Upstream
from ostiary.observe.log import failure, log
from ostiary.observe.metrics import Tally
from ostiary.store.directory import Directory
from ostiary.store.instance import Store
from ostiary.store.keys import KeyRepository
from ostiary.store.models import ModelRepository
from ostiary.store.names import Names
from ostiary.store.responses import ResponseRepository
from ostiary.store.sealing import Alarm
from ostiary.store.usage import UsageRepository
from ostiary.vault.keyring import Keyring

RELOAD_SECONDS = 1.0  # between looks at the configuration's files
SYNC_SECONDS = 5.0  # between writes of the journal's pages to the disk, against loss of power
LAST_FLUSH_SECONDS = 10.0


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
    keyring: Keyring
    store: Store
    alarm: Alarm
    digest: Callable[[str], bytes]
    admin_digest: bytes  # in force: of the configured admin key, else of the one made at the first start
    configured_admin: Callable[[Loaded], bytes | None]
    shown_key: str  # what the start-up hint may show: the new admin key at the first start, else a placeholder
    clock: SystemClock
    plane: Plane
    ledger: Ledger
    journal: Journal
    upstream: Upstream
    signers: Signers
    keys: KeyRepository
    models: ModelRepository
    book: Directory
    names: Names
    usage: UsageRepository
    kept: ResponseRepository
    remembered: Remembered
    tally: Tally
    status: Status
    stored: tuple[StoredModel, ...] = ()
    revision: int = 0
    store_well: bool = True
    watched: tuple[str, ...] = ()
    reloading: bool = False
    reload_again: bool = False
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    watch: StoreWatch = field(init=False)
    began: Loaded = field(init=False)  # the configuration of the start: some settings are read only there
    read: Signature = field(init=False)  # of the files, before they were read last

    def __post_init__(self) -> None:
        self.began = self.loaded
        self.watch = StoreWatch(self, self.loaded.ostiary.store.grace_seconds, secrets.randbits(62))
        self.watched = self.loaded.files
        self.read = signature(self.watched)

    # --- policy ---

    def compile(self, loaded: Loaded, stored: Sequence[StoredModel]) -> PolicySnapshot:
        """A snapshot from the configuration and the stored models.

        Raises:
            Fault: INVALID_REQUEST, naming each problem.
        """
        refuse_errors(loaded.problems)
        configured = self.configured_admin(loaded)
        compiled = compile_snapshot(
            loaded,
            stored,
            load_providers(),
            load_models(),
            revision=self.revision + 1,
            admin_digest=self.admin_digest if configured is None else configured,
            demo=self.options.demo or loaded.ostiary.demo,
        )
        refuse_errors(compiled.problems)
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
        self.admin_digest = snapshot.admin_digest

    def is_next(self, snapshot: PolicySnapshot) -> bool:
        """Whether nothing else was put in force since this was compiled."""
        return snapshot.revision == self.revision + 1

    async def reload(self) -> None:
        """Read the configuration again, beside the running requests. A bad file leaves the running one in force.

        One that is asked for while another runs follows that one, and stands for all that are asked for meanwhile.
        """
        self.reload_again = True
        if self.reloading:
            return
        self.reloading = True
        try:
            while self.reload_again:
                self.reload_again = False
                await self._reload()
        finally:
            self.reloading = False

    async def _reload(self) -> None:
        loaded = await asyncio.to_thread(load, self.options.config, self.environment, dev=self.options.dev)
        self.watched = tuple(dict.fromkeys((*self.loaded.files, *loaded.files)))
        try:
            stored, snapshot = None, EMPTY
            while stored is not self.stored or not self.is_next(snapshot):  # again where `/model/new` was faster
                stored = self.stored
                snapshot = await asyncio.to_thread(self.compile, loaded, stored)
            refuse_nothing(self.plane.snapshot, snapshot, {model.id for model in self.stored})
            self.put_in_force(snapshot)
        except Fault as fault:
            self.status.config_problem = fault.public
            log().error("configuration not reloaded, the running one stays in force", problem=fault.public)
            return
        self.loaded = loaded
        self.watched = loaded.files
        self.status.config_problem = ""
        await self.signers.keep(self.plane.snapshot.deployments.values())
        log().info("configuration reloaded", revision=self.revision)
        for name in needs_restart(self.began, loaded):
            log().warning("a changed setting needs a restart", setting=name)

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
            # after a reload meanwhile: with its configuration
            self.put_in_force(snapshot if self.is_next(snapshot) else self.compile(self.loaded, self.stored))

        return put_in_force

    def spend_of(self, key_id: str) -> Nano | None:
        """What a key has spent, unsaved records included; None where only the store knows."""
        account = self.plane.keys.account(key_id)
        if account is None:
            return self.ledger.spend_of(key_id)
        account.roll(self.clock.now())
        return account.spend

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
        """Reload when a file of the configuration changes, or one that the last attempt has read.

        A change counts once two looks find the same: a file that is being written is left alone.
        """
        last = self.read
        while True:
            await asyncio.sleep(RELOAD_SECONDS)
            seen = signature(self.watched)
            if seen == last != self.read:
                self.read = seen  # before the reload: what changes during it is seen
                await self.reload()
            last = seen

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
        await self._write_responses()
        await self.upstream.close()
        await self.signers.close()
        await self.watch.close()
        await self.store.close()
        await self.keyring.slots.close()
        self.journal.close()

    async def _write_responses(self) -> None:
        """What is to be kept and is not written yet."""
        try:
            async with asyncio.timeout(LAST_FLUSH_SECONDS):
                await self.remembered.flush()
        except (TimeoutError, Fault):
            log().warning("the store took no more responses; they are forgotten", responses=len(self.remembered))
