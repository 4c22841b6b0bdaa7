"""The command line: `ostiary serve` and `ostiary check`. It must not do work of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Ostiary: one door in front of all language models.")

Config = Annotated[Path | None, typer.Option("--config", "-c", help="Configuration file (YAML, LiteLLM's shape).")]


@app.command()
def serve(
    config: Config = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    workers: Annotated[int, typer.Option(help="Worker processes.")] = 1,
    demo: Annotated[bool, typer.Option("--demo", help="Offer the built-in model besides the configured ones.")] = False,
    dev: Annotated[bool, typer.Option("--dev", help="Accept weak admin keys. Never in production.")] = False,
    log_level: Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = "INFO",
) -> None:
    """Run the gateway."""
    if workers != 1:
        _stop("several workers need a coordinator, and none is configured: run with --workers 1")
    import uvloop  # both are slow to load, and `check` needs neither

    from ostiary.cli import bootstrap
    from ostiary.observe.log import configure

    if log_level.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        _stop("--log-level is one of DEBUG, INFO, WARNING, ERROR")
    configure(log_level.upper())
    os.umask(0o077)
    path = str(config) if config is not None else os.environ.get("CONFIG_FILE_PATH")
    options = bootstrap.Options(path, host, port, dev, demo, say=_say)
    try:
        uvloop.run(bootstrap.serve(options, dict(os.environ)))
    except bootstrap.StartError as error:
        _stop(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


@app.command()
def check(
    config: Annotated[Path, typer.Argument(help="Configuration file to check.")],
    dev: Annotated[bool, typer.Option("--dev", help="Accept weak admin keys.")] = False,
) -> None:
    """Say, setting by setting, what a configuration means here."""
    from ostiary.cli.check import check as check_file

    sys.exit(check_file(str(config), dev=dev))


def _say(line: str) -> None:
    print(line, flush=True)


def _stop(text: str) -> None:
    for line in text.splitlines():
        print(f"ostiary: {line}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    app()
