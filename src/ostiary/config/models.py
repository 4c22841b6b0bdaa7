"""Rows of `model_list` and `credential_list`, of files and of the store. It must not decide what they mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from ostiary.config.node import Node, located, missing_in
from ostiary.config.problem import Place, Problem, Severity, Status, error
from ostiary.config.settings import find
from ostiary.config.shapes import NOTHING, CredentialEntry, ModelEntry
from ostiary.config.survey import Survey

MAX_NAME = 256


def block(value: object) -> Mapping[str, object]:
    """The value if it is a block; an empty one otherwise."""
    return value if isinstance(value, dict) else NOTHING


def model_entries(rows: Sequence[Mapping[str, object]], nodes: Sequence[Node], survey: Survey) -> list[ModelEntry]:
    """One entry per row that has a name and parameters; the others leave a problem in `survey`.

    Args:
        rows: the typed values that `survey` made of `nodes`.
        nodes: the rows as written.
        survey: the walk they come from.
    """
    places: dict[str, dict[str, Place]] = {}
    for path, place in survey.places.items():
        row_label, _, rest = path.partition(".")
        places.setdefault(row_label, {})[rest] = place
    wrong = {problem.setting.partition(".")[0] for problem in survey.problems if problem.severity is Severity.ERROR}
    entries = []
    for index, (row, node) in enumerate(zip(rows, nodes, strict=True)):
        label = f"model_list[{index}]"
        if isinstance(node.value, dict):  # else the walk has said so
            entry = _entry(row, node, label, places.get(label, {}), survey)
            if entry is not None and label not in wrong:
                entries.append(entry)
    return entries


def _entry(
    row: Mapping[str, object], node: Node, label: str, places: Mapping[str, Place], survey: Survey
) -> ModelEntry | None:
    name = row.get("model_name")
    if not isinstance(name, str):
        written = node.members.get("model_name")
        if written is None or written.value is None:
            variables = ", ".join(written.missing) if written else ""
            reason = f"environment variable {variables} is not set" if variables else "is missing"
            survey.problems.append(error(node.place, f"{label}.model_name", reason))
        return None
    if not name or len(name) > MAX_NAME or not name.isprintable() or name != name.strip():
        reason = f"expected 1 to {MAX_NAME} printable characters"
        survey.problems.append(error(places["model_name"], f"{label}.model_name", reason))
        return None
    written = node.members.get("litellm_params")
    if written is None or (written.value is None and not written.missing):
        survey.problems.append(error(node.place, f"{label}.litellm_params", "is missing"))
        return None
    model = written.members.get("model")
    if isinstance(written.value, dict) and (model is None or (model.value is None and not model.missing)):
        survey.problems.append(error(written.place, f"{label}.litellm_params.model", "is missing"))
        return None
    return ModelEntry(
        model_name=name,
        params=block(row.get("litellm_params")),
        info=block(row.get("model_info")),
        label=label,
        place=node.place,
        places=places,
        missing=tuple(_missing(node)),
    )


def _missing(node: Node) -> Iterator[tuple[str, str]]:
    """The variables without which the deployment cannot be what the row says; inert and unknown settings need none."""
    for part, members in node.members.items():
        for name, member in members.members.items():
            setting = find(f"model_list[].{part}", name)
            if setting is not None and setting.status is not Status.INERT:
                for variable in missing_in(member):
                    yield f"{part}.{name}", variable


def stored_entry(
    stored_id: str, model_name: str, params: Mapping[str, object], info: Mapping[str, object]
) -> tuple[ModelEntry | None, tuple[Problem, ...]]:
    """The entry of a stored row, judged like a row of a file; None, with problems, when it cannot be one.

    References to the environment are literal text here: only files resolve them.
    """
    place = Place(f"stored model {stored_id}")
    survey = Survey()
    try:
        node = located({"model_name": model_name, "litellm_params": params, "model_info": info}, place)
    except ValueError as failure:
        return None, (error(place, "", str(failure)),)
    values = survey.block(node, "model_list[]", "model_list[0]")
    entries = model_entries([values], [node], survey)
    if not entries or any(problem.severity is Severity.ERROR for problem in survey.problems):
        return None, tuple(survey.problems)
    entry = msgspec.structs.replace(entries[0], stored_id=stored_id)
    return entry, ()


def credential_entries(
    rows: Sequence[Mapping[str, object]], nodes: Sequence[Node], survey: Survey
) -> dict[str, CredentialEntry]:
    """The credentials by name; a second one of the same name is a problem."""
    entries: dict[str, CredentialEntry] = {}
    for index, (row, node) in enumerate(zip(rows, nodes, strict=True)):
        name, label = row.get("credential_name"), f"credential_list[{index}].credential_name"
        if not isinstance(node.value, dict):
            continue  # said already
        if not isinstance(name, str) or not name:
            survey.problems.append(error(node.place, label, "is missing"))
        elif name in entries:
            first = entries[name].place
            survey.problems.append(error(node.place, label, f"names a credential twice, first on line {first.line}"))
        else:
            entries[name] = CredentialEntry(name, block(row.get("credential_values")), node.place)
    return entries
