"""Every section of the page on other packages runs, where its package is installed."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "integrations.md"
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
START, *SECTIONS = re.split(
    r"^## ",
    re.sub(r"^```.*$", "", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE),
    flags=re.MULTILINE,
)
PACKAGES = {"ONNX": "onnxruntime", "Lightning": "lightning", "MLflow": "mlflow"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("section", SECTIONS, ids=lambda text: text.splitlines()[0])
def test_every_line_of_a_section_runs(section: str) -> None:
    title = section.splitlines()[0]
    pytest.importorskip(PACKAGES.get(title, title), reason="needs the extra of that name")
    test = doctest.DocTestParser().get_doctest(START + section, {}, title, str(PAGE), 0)
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    said: list[str] = []
    assert not runner.run(test, out=said.append).failed, "".join(said)
