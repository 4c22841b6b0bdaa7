"""The generated pages that no other test compares are what the code says."""

from __future__ import annotations

import runpy

import pytest
from pages import ROOT

BUILD = runpy.run_path(str(ROOT / "scripts" / "build_docs.py"))


@pytest.mark.parametrize("page", ["endpoints.md", "faults.md", "stored-data.md"])
def test_the_page_is_what_the_code_says(page: str) -> None:
    assert (ROOT / "docs" / "reference" / page).read_text() == BUILD["PAGES"][page]()
