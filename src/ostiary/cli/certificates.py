"""Where the certificates of destroyed keys are put. It must not change one that is there."""

from __future__ import annotations

from pathlib import Path

from ostiary.vault.shred import Certified

DIRECTORY = "certificates"


def write_certificate(data: Path, one: Certified) -> Path | None:
    """Write a certificate below the data directory; its path, None where it is there already."""
    path = data / DIRECTORY / f"shred-{one.organization}.json"
    if path.exists():
        return None
    path.parent.mkdir(mode=0o700, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_bytes(one.certificate)
    draft.replace(path)
    return path
