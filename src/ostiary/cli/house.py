"""What lives as long as the process: the policy in force, reloads, background work, the end. It builds no adapter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ostiary.catalog.models import load_models
from ostiary.catalog.providers import load_providers
from ostiary.cli.clock import SystemClock
from ostiary.cli.status import Status
from ostiary.config.load import load
from ostiary.config.problem import Problem, Severity
from ostiary.config.shapes import Loaded
from ostiary.config.watch import signature
from ostiary.control.compile import StoredModel, compile_snapshot
from ostiary.core.fault import Fault, Kind, Origin
from ostiary.core.key import VirtualKey
from ostiary.core.money import Nano
from ostiary.core.snapshot import PolicySnapshot
from ostiary.gateway.ledger.flush import Flusher
from ostiary.gateway.ledger.journal import Journal
from ostiary.gateway.ledger.ledger import Ledger
from ostiary.gateway.plane import Plane
from ostiary.gateway.upstream.pool import Upstream
from ostiary.observe.log import failure, log
from ostiary.observe.metrics import Tally
from ostiary.store.instance import Store
from ostiary.store.keys import KeyRepository
from ostiary.store.models import ModelRepository
from ostiary.store.usage import UsageRepository

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
        refuse_errors(loaded.problems)
        compiled = compile_snapshot(
            loaded,
            stored,
            load_providers(),
            load_models(),
            revision=self.revision + 1,
            admin_digest=self.admin_digest,
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


def refuse_errors(problems: Iterable[Problem]) -> None:
    """Stop at configuration problems that are errors.

    Raises:
        Fault: INVALID_REQUEST with a line for each.
    """
    errors = [str(problem) for problem in problems if problem.severity is Severity.ERROR]
    if errors:
        raise Fault(Kind.INVALID_REQUEST, "\n".join(errors), origin=Origin.GATEWAY)
