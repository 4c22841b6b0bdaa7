"""The command line: `ostiary serve` and `ostiary check`. It must not do work of its own."""

from __future__ import annotations

import argparse
import os
import sys
from typing import NoReturn

from ostiary import __version__
from ostiary.cli.vault_arguments import add_vault

LAST_PORT = 65535
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def main(arguments: list[str] | None = None) -> int:
    """Run a command; the exit status. 2 for anything that keeps it from starting."""
    asked = _parser().parse_args(arguments)
    if asked.command == "check":
        from ostiary.cli.check import check  # what `serve` needs takes longer to load than a check takes

        return check(asked.config, dev=asked.dev)
    if asked.command in ("backup", "restore"):
        from ostiary.cli import backup  # likewise

        return backup.run(asked, dict(os.environ))
    if asked.command == "vault":
        from ostiary.cli import vault  # likewise

        return vault.run(asked, dict(os.environ))
    if asked.command == "catalog":
        from ostiary.cli import catalog  # likewise

        return catalog.run(asked)
    return _serve(asked)


def _serve(asked: argparse.Namespace) -> int:
    if asked.workers != 1:
        _stop("several workers need a coordinator, and none is configured: run with --workers 1")
    import uvloop  # see above

    from ostiary.cli import bootstrap
    from ostiary.cli.house import Options
    from ostiary.observe.log import configure

    configure(asked.log_level)
    os.umask(0o077)
    config = asked.config or os.environ.get("CONFIG_FILE_PATH")
    options = Options(config, asked.host, asked.port, asked.dev, asked.demo, say=_say)
    try:
        uvloop.run(bootstrap.serve(options, dict(os.environ)))
    except bootstrap.StartError as error:
        _stop(str(error))
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ostiary", description="One door in front of all language models.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="run the gateway")
    serve.add_argument("-c", "--config", help="configuration file (YAML, LiteLLM's shape); none: the demo model")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=_port, help="port to listen on; 0 takes a free one (default: 4000)")
    serve.add_argument("--workers", type=int, default=1, help="worker processes (default: %(default)s)")
    serve.add_argument("--demo", action="store_true", help="offer the built-in model besides the configured ones")
    serve.add_argument("--dev", action="store_true", help="accept weak admin keys; never in production")
    serve.add_argument("--log-level", type=str.upper, choices=LEVELS, default="INFO", help="default: %(default)s")
    check = commands.add_parser("check", help="say, setting by setting, what a configuration means here")
    check.add_argument("config", help="configuration file")
    check.add_argument("--dev", action="store_true", help="accept weak admin keys")
    _add_backup(commands)
    add_vault(commands)
    _add_catalog(commands)
    return parser


def _add_backup(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    backup = commands.add_parser("backup", help="write the database to a sealed file, while the gateway serves")
    restore = commands.add_parser("restore", help="write a backup into an empty database")
    restore.add_argument("--check", action="store_true", help="read the backup to its end and write nothing")
    for command in (backup, restore):
        command.add_argument("file", help="the backup")
        command.add_argument("-c", "--config", help="configuration file, as for serve")
        command.add_argument("--keystore", action="store_true", help="the keystore (wrapped keys), not the database")


def _add_catalog(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    catalog = commands.add_parser("catalog", help="what is known of models: prices, limits, capabilities")
    verbs = catalog.add_subparsers(dest="verb", required=True, metavar="VERB")
    show = verbs.add_parser("show", help="what is known of one model")
    show.add_argument("model", help="its name in the table, or provider/model as in a configuration")
    diff = verbs.add_parser("diff", help="what another table would change; 0: nothing, 1: something, 2: unreadable")
    diff.add_argument("file", help="a price table of the shape LiteLLM publishes, or a models.jsonl")
    for verb in (show, diff):
        verb.add_argument("--json", action="store_true", help="as JSON")


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= LAST_PORT):
        raise argparse.ArgumentTypeError(f"expected a port from 0 to {LAST_PORT}")
    return int(text)


def _say(line: str) -> None:
    print(line, flush=True)


def _stop(text: str) -> NoReturn:
    for line in text.splitlines():
        print(f"ostiary: {line}", file=sys.stderr)
    sys.exit(2)


def run() -> NoReturn:
    """The console script."""
    sys.exit(main())


if __name__ == "__main__":
    run()
