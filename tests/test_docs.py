"""Pages whose every line is run."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fairlearn's, under newer pandas
@pytest.mark.filterwarnings("ignore::fairtrain.exceptions.FairtrainWarning")
@pytest.mark.parametrize("page", ["choosing.md", "course.md", "selection.md", "verdicts.md"])
def test_every_line_of_a_page_runs(page: str) -> None:
    text = re.sub(r"^```.*$", "", (DOCS / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    test = doctest.DocTestParser().get_doctest(text, {}, page, page, 0)
    assert test.examples
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    said: list[str] = []
    assert not runner.run(test, out=said.append).failed, "".join(said)
