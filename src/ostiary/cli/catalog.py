"""`ostiary catalog`: looks into the table of models. It must not write anything, nor fetch anything."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import groupby
from pathlib import Path

import msgspec

from ostiary.catalog.difference import Change, Difference, compare, stated
from ostiary.catalog.facts import ModelFacts
from ostiary.catalog.models import Models, load_models
from ostiary.catalog.profiles import load_profiles
from ostiary.catalog.provider import Provider
from ostiary.catalog.providers import load_providers

SAME, DIFFERENT, UNREADABLE = 0, 1, 2
MAX_FILE_BYTES = 64 * 1024 * 1024
_encoder = msgspec.json.Encoder(decimal_format="number")
_MILLION = 10**6


def run(asked: argparse.Namespace) -> int:
    """Run a verb; the exit status."""
    if asked.verb == "show":
        return show(asked.model, as_json=asked.json)
    return diff(asked.file, as_json=asked.json)


def diff(path: str, *, as_json: bool = False) -> int:
    """Print what would change if the table in the file took the place of the shipped one.

    Returns:
        0: nothing; 1: something; 2: the file cannot be read.
    """
    try:
        difference = compare(load_models(), _bytes_of(path))
    except OSError as failure:
        return _unreadable(failure.strerror or "cannot be read")
    except ValueError as failure:
        return _unreadable(str(failure))
    _print(_encoder.encode(difference).decode() + "\n" if as_json else report(difference))
    return DIFFERENT if difference else SAME


def show(model: str, *, as_json: bool = False) -> int:
    """Print what is known of a model.

    Returns:
        0, or 1 if the table does not hold it.
    """
    models = load_models()
    facts, provider = find(models, model)
    if facts is None:
        print("ostiary: the table holds no such model", file=sys.stderr)
        return DIFFERENT
    known: dict[str, object] = {"key": facts.name, **stated(facts)}
    if provider is not None:
        profile = load_profiles().find(provider, model.partition("/")[2], facts.max_output_tokens)
        known["accepts"] = {name: getattr(profile, name) for name in ("thinks", "sampling", "schema", "cache_marks")}
    provenance = models.provenance()
    source = provenance.sources[facts.source]
    known["source"] = f"{source.name} {source.version}, {provenance.as_of}"
    _print(_encoder.encode(known).decode() + "\n" if as_json else "".join(_lines(known)))
    return SAME


def find(models: Models, model: str) -> tuple[ModelFacts | None, Provider | None]:
    """The facts of `provider/model` as a configuration names it, and the provider; else those of the table's key."""
    prefix, _, name = model.partition("/")
    provider = load_providers().find(prefix) if name else None
    facts = models.find(provider, name) if provider else None
    return (facts, provider) if facts else (models.row(model), None)


def report(difference: Difference) -> str:
    """The difference for people: models that come and go, then the changes model by model."""
    lines = [f"+ {name}\n" for name in difference.added]
    lines += [f"- {name}\n" for name in difference.removed]
    models = 0
    for model, changes in groupby(difference.changed, key=lambda change: change.model):
        models += 1
        lines += [f"~ {model}\n", *(f"    {line}\n" for line in _told(changes))]
    summary = f"{len(difference.added)} added, {len(difference.removed)} removed, {models} changed\n"
    return "".join(lines) + summary


def _told(changes: Iterable[Change]) -> Iterator[str]:
    for change in changes:
        before, after = _text(change.field, change.before), _text(change.field, change.after)
        share = ""
        if isinstance(change.before, Decimal) and isinstance(change.after, Decimal) and change.before:
            share = f" ({float(100 * (change.after / change.before - 1)):+.4g} %)"
        yield f"{change.field}: {before} -> {after}{share}"


def _lines(known: dict[str, object]) -> Iterator[str]:
    for field, value in known.items():
        if isinstance(value, dict):
            yield f"{field}: " + ", ".join(f"{name} {_text(name, each)}" for name, each in value.items()) + "\n"
        else:
            yield f"{field}: {_text(field, value)}\n"


def _text(field: str, value: object) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Decimal):
        if "_token" in field or "_character" in field:
            return f"{(value * _MILLION).normalize():f} dollars per million"
        return f"{value.normalize():f} dollars"
    return str(value)


def _bytes_of(path: str) -> bytes:
    """The file's bytes.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no file, or longer than any table.
    """
    file = Path(path)
    if "\0" in path or not file.is_file():
        raise ValueError("is no file")
    with file.open("rb") as stream:
        raw = stream.read(MAX_FILE_BYTES + 1)
    if len(raw) > MAX_FILE_BYTES:
        raise ValueError(f"is larger than {MAX_FILE_BYTES >> 20} MiB")
    return raw


def _unreadable(reason: str) -> int:
    print(f"ostiary: the table {reason}", file=sys.stderr)
    return UNREADABLE


def _print(text: str) -> None:
    # Names come from a file: none of them may steer the terminal.
    sys.stdout.write("".join(char if char.isprintable() or char == "\n" else "?" for char in text))
