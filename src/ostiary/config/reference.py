"""The reference of all settings, as Markdown, from the registry. It must not say anything the registry does not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ostiary.config.problem import Status
from ostiary.config.setting import Setting, Shape
from ostiary.config.settings import SETTINGS

_INTRODUCTION = """\
# Configuration

This page is made from the registry of settings that `ostiary check` uses; a test keeps the two equal.

A configuration is one YAML file, or several by `include`, in the shape of the LiteLLM proxy, with one block of our own,
`ostiary`. `ostiary check config.yaml` says for each line what becomes of it:

- **used**: it is put in force.
- **inert**: it is accepted and changes nothing, for the reason given.
- **refused**: the load fails, because ignoring it would let through what it is meant to stop, or because it names code.
  In `model_list` it costs the one deployment. A refused setting that is off (`false`, empty, null) is accepted.
- A name that is not listed is kept and reported, with the nearest known name.

Rules for all settings:

- `os.environ/NAME` in any text is replaced by the environment variable. A missing one is an error; in `model_list` it
  costs the one deployment (see `ignore_invalid_deployments`). Models added by the management API are not resolved.
- Where `router_settings` and `litellm_settings` have the same setting, `router_settings` wins.
- Included files lie in the directory of the main file or below. Mappings are merged, lists joined; a setting written
  twice is an error.
- Values are never printed, neither in reports nor in logs.

Variables of the process that count as settings: `OSTIARY_ADMIN_KEY` (or `LITELLM_MASTER_KEY`; the file's `master_key`
wins), `OSTIARY_DATA_DIR`, `OSTIARY_REGION`, `DATABASE_URL`, `REDIS_URL`, `CONFIG_FILE_PATH`, `PORT`, and with
`use_environment_proxy` also `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`.
"""


def configuration_markdown() -> str:
    """The whole page."""
    parts = [_INTRODUCTION]
    for title, settings in _blocks():
        parts.append("\n".join([f"## `{title}`", "", *_table(settings), ""]))
    return "\n".join(parts)


def _blocks() -> Iterator[tuple[str, list[Setting]]]:
    """The settings by top-level block, in the order of the registry."""
    blocks: dict[str, list[Setting]] = {}
    for setting in SETTINGS:
        blocks.setdefault(setting.path.split(".")[0].removesuffix("[]"), []).append(setting)
    yield from blocks.items()


def _table(settings: Sequence[Setting]) -> Iterator[str]:
    yield "| Setting | | Holds | Default | Meaning |"
    yield "| --- | --- | --- | --- | --- |"
    for setting in settings:
        status = setting.status.value if setting.status is Status.USED else f"**{setting.status.value}**"
        holds = "" if setting.status is Status.REFUSED and setting.shape is Shape.ANY else setting.shape.value
        default = setting.default if "`" in setting.default or not setting.default else f"`{setting.default}`"
        cells = (f"`{setting.path}`", status, holds, default, setting.meaning)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
