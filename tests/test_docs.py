"""Pages whose every line is run."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from fairtrain import load

DOCS = Path(__file__).parents[1] / "docs"
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fairlearn's, under newer pandas
@pytest.mark.filterwarnings("ignore::fairtrain.exceptions.FairtrainWarning")
@pytest.mark.parametrize(
    "page", ["cases.md", "choosing.md", "course.md", "recipes.md", "selection.md", "verdicts.md"]
)
def test_every_line_of_a_page_runs(page: str) -> None:
    text = re.sub(r"^```.*$", "", (DOCS / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    test = doctest.DocTestParser().get_doctest(text, {}, page, page, 0)
    assert test.examples
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    said: list[str] = []
    assert not runner.run(test, out=said.append).failed, "".join(said)


@pytest.mark.filterwarnings("ignore::fairtrain.exceptions.FairtrainWarning")
def test_the_script_of_torchrun_runs_in_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OUT", str(tmp_path / "model"))
    found = re.search(
        r"```python\n(# train.py.*?)```", (DOCS / "recipes.md").read_text(), re.DOTALL
    )
    assert found is not None
    exec(compile(found[1], "train.py", "exec"), {})
    assert "took no part in training" in capsys.readouterr().out
    assert load(tmp_path / "model").status_
