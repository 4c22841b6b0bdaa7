"""Where an instance lies, for commands that work beside a gateway. It must not make a key or a keystore."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ostiary.cli.clock import SystemClock
from ostiary.cli.unlock import database_url, directory_of, key_slots, region_asked, root_seals
from ostiary.config.load import load
from ostiary.config.problem import Severity
from ostiary.config.shapes import Loaded
from ostiary.core.fault import Fault, Kind, Origin
from ostiary.store.database import Database, connect
from ostiary.store.keystore import DatabaseKeySlots
from ostiary.vault.keyring import Keyring, open_keyring


class Place:
    """Where an instance lies, as its configuration says. `close` shuts what was opened.

    Args:
        config: the configuration file.
        environment: the process environment.
        file: the backup that needs the master key: none is made where it is missing.
    """

    def __init__(self, config: str | None, environment: Mapping[str, str], file: Path) -> None:
        self._loaded = _loaded(config, environment)
        self._environment = environment
        self.directory = directory_of(self._loaded)
        self.url = database_url(self._loaded, self.directory)
        self.region = region_asked(self._loaded, environment)
        self.slots: DatabaseKeySlots = key_slots(self._loaded, self.directory)
        self.seals = root_seals(
            self._loaded, environment, self.directory, [file, self.directory, file.absolute().parent]
        )
        self.clock = SystemClock()

    async def keyring(self) -> Keyring:
        """The keyring of a keystore that is there."""
        if self.slots.file is not None and not self.slots.file.exists():
            raise refusal(f"there is no keystore {self.slots.file}: restore it first (ostiary restore --keystore FILE)")
        return await open_keyring(self.slots, self.seals, self.clock, region=self.region, create=False)

    def database(self) -> Database:
        """The database. It is not connected yet."""
        return connect(self.url, strict=self._loaded.ostiary.store.strict_tls)

    async def close(self) -> None:
        """Close the keystore."""
        await self.slots.close()


def bytes_of(path: Path) -> bytes:
    """What is in a file that the operator named.

    Raises:
        Fault: INVALID_REQUEST where it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise refusal(f"the file {path} cannot be read ({error.strerror})") from None


def _loaded(config: str | None, environment: Mapping[str, str]) -> Loaded:
    loaded = load(config, environment)
    wrong = next((problem for problem in loaded.problems if problem.severity is Severity.ERROR), None)
    if wrong is not None:
        raise refusal(f"the configuration cannot be used: {wrong}")
    return loaded


def refusal(public: str) -> Fault:
    """What the operator asked for is not done, for this reason."""
    return Fault(Kind.INVALID_REQUEST, public, origin=Origin.GATEWAY)
