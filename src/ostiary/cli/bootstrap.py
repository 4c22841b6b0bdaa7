"""The only wiring: builds every adapter and hands it to whoever asks for its port. It must not decide anything else."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hmac
import os
import random
import secrets
import signal
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import uvicorn

from ostiary.catalog.models import load_models
from ostiary.catalog.profiles import load_profiles
from ostiary.catalog.providers import load_providers
from ostiary.cli.chores import forget_expired, retention, shred_what_is_due
from ostiary.cli.clock import SystemClock
from ostiary.cli.house import House, Options
from ostiary.cli.reload import refuse_errors
from ostiary.cli.server import ListenError, Server, listen_on
from ostiary.cli.status import Status
from ostiary.cli.unlock import database_url, directory_of, unlock
from ostiary.config.load import load
from ostiary.config.shapes import Loaded
from ostiary.control.deployments import as_reached
from ostiary.control.ownrows import with_own_rows
from ostiary.core.fault import Fault, Kind
from ostiary.core.ids import mint_key
from ostiary.core.price import PriceState
from ostiary.core.snapshot import Deployment
from ostiary.gateway.app import FrontDoor
from ostiary.gateway.deadlines import Sweeper
from ostiary.gateway.demo import Demo
from ostiary.gateway.edge import edge_protocol
from ostiary.gateway.edge_rules import EdgeLimits
from ostiary.gateway.key_reads import SharedReads
from ostiary.gateway.ledger.flush import Flusher
from ostiary.gateway.ledger.journal import Journal
from ostiary.gateway.ledger.ledger import Ledger
from ostiary.gateway.objects import Objects
from ostiary.gateway.plane import Plane
from ostiary.gateway.policy.keys import KeyIndex
from ostiary.gateway.remembered import Remembered
from ostiary.gateway.signing.signer import Signers
from ostiary.gateway.upstream.pool import Upstream
from ostiary.gateway.upstream.proxy import ignored_variables
from ostiary.observe.log import log
from ostiary.observe.metrics import Tally
from ostiary.store.database import connect
from ostiary.store.directory import Directory
from ostiary.store.instance import Store
from ostiary.store.keys import KeyRepository
from ostiary.store.models import ModelRepository
from ostiary.store.names import Names
from ostiary.store.responses import ResponseRepository
from ostiary.store.sealing import Alarm
from ostiary.store.urls import sqlite_file
from ostiary.store.usage import UsageRepository
from ostiary.vault.digest import digester
from ostiary.vault.purpose import Purpose
from ostiary.vault.spool import Spool

ADMIN_DIGEST_FILE = "admin.digest"
JOURNAL = "journal"


class StartError(Exception):
    """The gateway cannot start; the text is one line for the operator."""


async def build(options: Options, environment: Mapping[str, str]) -> House:
    """Open everything and put the first snapshot in force.

    Raises:
        StartError: with one line that says what is wrong.
    """
    return await _built(options, environment, _loaded(options, environment))


def _loaded(options: Options, environment: Mapping[str, str]) -> Loaded:
    loaded = load(options.config, environment, dev=options.dev)
    try:
        refuse_errors(loaded.problems)
    except Fault as fault:
        raise StartError(fault.public) from fault
    return loaded


async def _built(options: Options, environment: Mapping[str, str], loaded: Loaded) -> House:
    try:
        return await _build(options, environment, loaded)
    except Fault as fault:
        raise StartError(fault.public) from fault


async def _build(options: Options, environment: Mapping[str, str], loaded: Loaded) -> House:
    clock, loop = SystemClock(), asyncio.get_running_loop()
    for name in ignored_variables(environment):
        log().info("an environment variable that other programs obey is ignored here", variable=name)
    directory = _data_directory(loaded)
    journal_path = directory / JOURNAL
    url = database_url(loaded, directory)
    file = sqlite_file(url)
    remains = [path for path in (file, journal_path) if path is not None]
    keyring = await unlock(loaded, environment, directory, clock, remains=remains)
    own = loaded.ostiary
    database = connect(url, strict=own.store.strict_tls, connections=own.store.connections)
    store = Store(database, keyring, clock)
    await keyring.create(store.default_org)  # also where the store is away: nobody has to wait for it to have keys
    digest = digester(keyring.key(Purpose.APIKEY_PEPPER))
    object_key = keyring.key(Purpose.OBJECT_NAME)
    tally = Tally()
    segment = own.ledger.segment_mb * 1024 * 1024
    spool = Spool(lambda: keyring.instance.keys(Purpose.JOURNAL), keyring.instance_id, keyring.region)
    journal = Journal(journal_path, int(clock.now() * 1000), spool, segment_bytes=segment, damaged=_damaged)
    ledger = Ledger(journal, clock, tally.settled)
    alarm = Alarm(_tampered, _broken)
    book = Directory(store.database, keyring, clock, store.default_org, alarm=alarm)
    names = Names(store.database, keyring, clock, alarm=alarm)
    keys = KeyRepository(store.database, keyring, clock, book, alarm=alarm)
    sweeper = Sweeper(loop)
    upstream = Upstream(
        sweeper, idle_seconds=own.upstream.idle_connection_seconds, most_per_origin=own.upstream.pool_per_origin
    )
    shared = SharedReads(keys, lambda: index.changes)
    index = KeyIndex(digest, shared, ledger.account, clock)
    kept = ResponseRepository(store.database, keyring, clock, store.default_org, alarm=alarm)
    remembered = Remembered(kept, clock, failed=_not_kept)
    signers = Signers(clock, lambda why: log().warning("no credential for a provider", problem=why))
    plane = Plane(
        keys=index,
        ledger=ledger,
        upstream=upstream,
        demo=Demo(loop, clock.now),
        sweeper=sweeper,
        clock=clock,
        chance=random.SystemRandom() if options.dev else random.Random(secrets.randbits(128)),
        loop=loop,
        refused=tally.refused,
        objects=Objects(lambda content: hmac.digest(object_key, content, "sha256")),
        priced=lambda deployment: _priced(deployment, house.loaded),
        signers=signers,
        responses=remembered,
    )
    admin_digest, new_key = _admin(loaded, directory, digest, keyring.region)
    if new_key:
        options.say(f"admin key (shown once, keep it): {new_key}")
    house = House(
        options=options,
        environment=environment,
        loaded=loaded,
        directory=directory,
        keyring=keyring,
        store=store,
        alarm=alarm,
        digest=digest,
        admin_digest=admin_digest,
        configured_admin=functools.partial(_configured_admin, digest),
        shown_key=new_key or "<your key>",
        clock=clock,
        plane=plane,
        signers=signers,
        ledger=ledger,
        journal=journal,
        upstream=upstream,
        keys=keys,
        models=ModelRepository(store.database, keyring, clock, alarm=alarm),
        book=book,
        names=names,
        usage=UsageRepository(store.database, names, store.default_org),
        kept=kept,
        remembered=remembered,
        tally=tally,
        status=Status(),
    )
    await house.watch.follow_keys()  # a rotation waits for us from here on
    house.put_in_force(house.compile(loaded, ()))
    try:
        await house.watch.reach()
    except Fault as fault:
        if fault.kind is not Kind.UNAVAILABLE or file is not None:
            raise  # a file does not come back by itself
        log().error("the store cannot be reached; trying again until it is", problem=fault.public)
    return house


def _tampered(table: str, row: str) -> None:
    log().critical("a row was edited past the gateway and is not used", table=table, row=row)


def _broken(table: str, row: str) -> None:
    log().critical("a sealed value does not open", table=table, row=row)


def _not_kept(fault: Fault) -> None:
    log().error("the store did not take responses that are to be kept; trying again", problem=fault.public)


def _priced(deployment: Deployment, loaded: Loaded) -> Deployment:
    """A deployment of one model with what the catalog and the operator's own rows know of it."""
    provider = load_providers().find(deployment.provider)
    if provider is None:
        return deployment
    table, _ = with_own_rows(load_models(), loaded)
    facts = table.find(provider, deployment.upstream_model)
    if facts is not None:
        deployment = msgspec.structs.replace(
            deployment,
            mode="realtime" if facts.mode == "realtime" else deployment.mode,
            max_input_tokens=deployment.max_input_tokens or facts.max_input_tokens,
            max_output_tokens=deployment.max_output_tokens or facts.max_output_tokens,
        )
        if facts.price is not None and deployment.price_state is PriceState.UNKNOWN:
            deployment = msgspec.structs.replace(deployment, price=facts.price, price_state=PriceState.LISTED)
    return as_reached(deployment, provider, load_profiles(), known=facts is not None)


def _data_directory(loaded: Loaded) -> Path:
    directory = directory_of(loaded)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise StartError(f"the data directory {directory} is a file, not a directory") from None
    except OSError as error:
        raise StartError(f"the data directory {directory} cannot be made: {error.strerror}") from None
    return directory


def _configured_admin(digest: Callable[[str], bytes], loaded: Loaded) -> bytes | None:
    key = loaded.general.admin_key
    return digest(key.reveal()) if key is not None else None


def _admin(loaded: Loaded, directory: Path, digest: Callable[[str], bytes], region: str) -> tuple[bytes, str]:
    """The digest of the administrator's key: configured, or made at the first start; and the text of a new one."""
    configured = _configured_admin(digest, loaded)
    if configured is not None:
        return configured, ""
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
    loaded = _loaded(options, environment)
    port = options.port if options.port is not None else loaded.general.port
    try:
        listeners = listen_on(options.host, port)  # before anything is made, or said
    except ListenError as error:
        raise StartError(str(error)) from None
    with contextlib.ExitStack() as stack:
        for listener in listeners:
            stack.enter_context(listener)
        await _serve(await _built(options, environment, loaded), listeners)


async def _serve(house: House, listeners: list[socket.socket]) -> None:
    door = FrontDoor(house.plane)
    house.status.attach(house, door)
    own = house.loaded.ostiary
    config = uvicorn.Config(
        app=_control_app(house),
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
    announce = house.status.announcer(house.options.say)
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
    house.start(house.watch.run(), "store")
    house.start(retention(house).run(), "retention")
    house.start(house.remembered.run(), "responses")
    house.start(forget_expired(house), "expiry")
    house.start(shred_what_is_due(house), "shred")
    if house.loaded.files:
        house.start(house.watch_files(), "watch")
    hang_up = functools.partial(house.start_named, "reload", house.reload)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hang_up)
    # uvicorn raises the signal again once it has stopped; by then everything is closed and there is nothing to do
    signal.signal(signal.SIGTERM, lambda *_: None)
    await server.serve(listeners)
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
        origins=frozenset(origin.lower() for origin in edge.allowed_origins),
    )


def _control_app(house: House) -> Any:
    """The management API as an ASGI application, imported when it is first needed."""
    from ostiary.cli.control import LazyControl  # the module that names the control plane's services

    return LazyControl(house)


def _damaged(path: Path, why: str) -> None:
    log().error("a damaged journal file was put aside", path=path.name, why=why)
