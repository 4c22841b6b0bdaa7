"""From a configuration file to `Loaded`. It must not raise on anything a file can contain."""

from __future__ import annotations

from collections.abc import Mapping

from ostiary.config.shapes import Environment, Loaded


def load(path: str | None, environ: Mapping[str, str], *, dev: bool = False) -> Loaded:
    """Read a configuration and all it includes.

    Args:
        path: the main file; None for the defaults and the environment alone.
        environ: the process environment.
        dev: accept weak master keys.
    """
    return Loaded(files=(path,) if path else (), environment=Environment(environ))
