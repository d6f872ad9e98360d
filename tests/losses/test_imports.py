"""What importing costs and says."""

from __future__ import annotations

import subprocess
import sys

import pytest

import fairtrain.losses
import fairtrain.training


def run(code: str) -> str:
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


def test_importing_fairtrain_imports_no_torch() -> None:
    assert run("import fairtrain, sys; print('torch' in sys.modules)") == "False"


@pytest.mark.parametrize("package", ["torch", "jaxtyping"])
def test_a_missing_package_is_named_with_its_extra(package: str) -> None:
    code = f"""
import sys
sys.modules[{package!r}] = None
from fairtrain.exceptions import MissingDependencyError
from importlib import import_module
for module in ("fairtrain.losses", "fairtrain.training"):
    try:
        import_module(module)
    except MissingDependencyError as error:
        print(error)
"""
    said = f"{package} is not installed: pip install 'fairtrain[torch]' brings it."
    assert run(code).splitlines() == [said, said]


@pytest.mark.parametrize("module", [fairtrain.losses, fairtrain.training])
def test_every_public_name_is_there(module: object) -> None:
    assert all(hasattr(module, name) for name in module.__all__)
