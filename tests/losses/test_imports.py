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
@pytest.mark.parametrize("module", ["losses", "training"])
def test_a_missing_package_is_named_with_its_extra(package: str, module: str) -> None:
    code = f"""
import sys
sys.modules[{package!r}] = None
from fairtrain.exceptions import MissingDependencyError
try:
    import fairtrain.{module}
except MissingDependencyError as error:
    print(error)
"""
    assert run(code) == f"{package} is not installed: pip install 'fairtrain[torch]' brings it."


@pytest.mark.parametrize("module", [fairtrain.losses, fairtrain.training])
def test_every_public_name_is_there(module: object) -> None:
    assert all(hasattr(module, name) for name in module.__all__)
