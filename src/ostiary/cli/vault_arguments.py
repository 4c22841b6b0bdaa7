"""The words of `ostiary vault` on the command line. It must not load what the commands need."""

from __future__ import annotations

import argparse


def add_vault(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `vault` and what belongs to it to the command line."""
    vault = commands.add_parser("vault", help="the keys that everything stored is sealed under")
    verbs = vault.add_subparsers(dest="verb", required=True, metavar="VERB")
    status = verbs.add_parser("status", help="which keys there are, and of what age")
    status.add_argument("--count", action="store_true", help="count what is sealed under each key")
    rotate = verbs.add_parser("rotate", help="new keys, while the gateway serves; run again to go on after a failure")
    only = rotate.add_mutually_exclusive_group()
    only.add_argument("--master", action="store_true", help="the master key only")
    only.add_argument("--data", action="store_true", help="the data keys only")
    rotate.add_argument("--keep", action="store_true", help="keep old data keys, for backups; the next run drops them")
    rotate.add_argument("--grace", type=float, default=3.0, metavar="SECONDS", help="for processes that begin just now")
    new = rotate.add_mutually_exclusive_group()
    new.add_argument("--new-key-file", metavar="PATH", help="the new master key: made where there is none")
    new.add_argument("--to", metavar="URI", help="the key service that holds the new master key")
    check = verbs.add_parser("verify", help="open everything that is sealed, and check every row")
    shred = verbs.add_parser("shred", help="destroy the keys of an organisation")
    shred.add_argument("organization", nargs="?", metavar="ORG", help="its name or id")
    shred.add_argument("--confirm", metavar="NAME", help="its name again, where there is no terminal to type it")
    what = shred.add_mutually_exclusive_group()
    what.add_argument("--undo", action="store_true", help="let it live, if there is still time")
    what.add_argument("--due", action="store_true", help="destroy those whose time has come, and write certificates")
    what.add_argument("--check", metavar="CERT", help="check a certificate")
    for verb in (status, rotate, check, shred):
        verb.add_argument("-c", "--config", help="configuration file")
    for verb in (status, check):
        verb.add_argument("--json", action="store_true", help="as JSON")
