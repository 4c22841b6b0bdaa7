"""One walk over the tree: every setting judged by the registry, typed values picked up. It must not stop early."""

from __future__ import annotations

import msgspec

from ostiary.config.conform import MisfitError, conform, expect_kind
from ostiary.config.node import Node, missing_in, plain, shown
from ostiary.config.problem import Finding, Place, Problem, Severity, Status, error, warning
from ostiary.config.rules import is_on
from ostiary.config.setting import Setting, Shape, Verdict
from ostiary.config.settings import find, nearest


class Survey(msgspec.Struct):
    """What a walk gathers. `places` and the names in findings and problems use concrete rows: `model_list[2].…`."""

    findings: list[Finding] = []
    problems: list[Problem] = []
    places: dict[str, Place] = {}

    def block(self, node: Node, path: str, label: str) -> dict[str, object]:
        """The typed values of a block. Known names that do not fit are left out; unknown ones are kept as they are.

        Args:
            node: a mapping.
            path: the block's path in the registry, empty for the whole configuration.
            label: the same with concrete rows.
        """
        values: dict[str, object] = {}
        for name, child in node.members.items():
            member = f"{label}.{shown(name)}" if label else shown(name)
            self.places[member] = child.place
            setting = find(path, name)
            if setting is None:
                self._unknown(child, path, name, member)
                values[name] = plain(child)
            elif child.value is None and not child.missing:
                self.findings.append(Finding(child.place, member, setting.status, "nothing given"))
            else:
                self._member(child, setting, name, member, values)
        return values

    def _member(self, node: Node, setting: Setting, name: str, label: str, values: dict[str, object]) -> None:
        try:
            if setting.shape is Shape.SECTION:
                expect_kind(node, setting.shape)
                values[name] = self.block(node, setting.path, label)
            elif setting.shape is Shape.ROWS:
                expect_kind(node, setting.shape)
                values[name] = self._rows(node, setting, label)
            elif not self._missing(node, setting, label):
                values[name] = self._value(node, setting, label)
        except MisfitError as misfit:
            self.findings.append(Finding(node.place, label, setting.status, str(misfit)))
            self.problems.append(error(node.place, label, str(misfit)))

    def _rows(self, node: Node, setting: Setting, label: str) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = []
        for index, row in enumerate(node.items):
            name = f"{label}[{index}]"
            self.places[name] = row.place
            if isinstance(row.value, dict):
                rows.append(self.block(row, f"{setting.path}[]", name))
            else:
                self.problems.append(error(row.place, name, "expected a mapping"))
                rows.append({})
        return rows

    def _value(self, node: Node, setting: Setting, label: str) -> object:
        value = conform(node, setting)  # first: what does not fit is said once, and by whoever catches that
        verdict = self._verdict(node, setting)
        hint = ""
        if setting.path.endswith(".*"):  # any name will do, but one that is nearly a known one is probably meant to be
            block, name = setting.path[:-2], label.rpartition(".")[2]
            close = nearest(block, name, cutoff=0.85)
            hint = f"did you mean {close}?" if close else ""
        self.findings.append(Finding(node.place, label, verdict.status, verdict.note, hint))
        severity = verdict.severity or (Severity.ERROR if verdict.status is Status.REFUSED else None)
        # What is refused of a deployment costs that deployment: `compile_snapshot` says so, for stored ones too.
        if severity and not (verdict.status is Status.REFUSED and setting.path.startswith("model_list[]")):
            place = node.place
            self.problems.append(Problem(severity, place.file, place.line, label, verdict.note))
        return value

    @staticmethod
    def _verdict(node: Node, setting: Setting) -> Verdict:
        value = plain(node)
        verdict = setting.rule(value) if setting.rule else None
        if verdict is not None:
            return verdict
        if setting.status is Status.REFUSED and not is_on(value):
            return Verdict(Status.INERT, "off, as it must be")
        if setting.status is Status.INERT:
            return Verdict(Status.INERT, setting.meaning, Severity.WARNING if setting.loud and is_on(value) else None)
        return Verdict(setting.status, setting.meaning if setting.status is Status.REFUSED else "")

    def _missing(self, node: Node, setting: Setting, label: str) -> bool:
        """Report variables that are not set. A deployment's are reported where it is decided what becomes of it."""
        names = missing_in(node)
        if not names:
            return False
        note = f"environment variable {', '.join(shown(name) for name in names)} is not set"
        self.findings.append(Finding(node.place, label, setting.status, note))
        if not setting.path.startswith("model_list[]"):
            grave = setting.status is not Status.INERT and not setting.path.startswith("credential_list[]")
            self.problems.append((error if grave else warning)(node.place, label, note))
        return True

    def _unknown(self, node: Node, path: str, name: str, label: str) -> None:
        close = nearest(path, name)
        hint = f"did you mean {close}?" if close else ""
        note = "not a known setting"
        self.findings.append(Finding(node.place, label, Status.UNKNOWN, note, hint))
        self.problems.append(warning(node.place, label, note, hint))
