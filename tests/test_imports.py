from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import fairtrain
from fairtrain._imports import lazy_exports, require
from fairtrain.exceptions import MissingDependencyError

HEAVY = ("torch", "fairlearn", "xgboost", "lightgbm", "matplotlib")
LIGHT_NAMES = [
    name
    for name, module in fairtrain._MODULES.items()
    if module.startswith(("fairtrain.c", "fairtrain.g", "fairtrain.m"))
]


def loaded_after(code: str) -> set[str]:
    script = f"{code}; import sys; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_import_loads_nothing_heavy() -> None:
    assert loaded_after("import fairtrain; dir(fairtrain)") == set()


def test_groups_constraints_and_metrics_load_nothing_heavy() -> None:
    code = "from fairtrain import Groups, DemographicParity as D, fairness_report as f"
    use = "f([0, 1] * 9, [0, 1] * 9, ['a', 'b'] * 9, D(difference_bound=0.1))"
    assert loaded_after(f"{code}; {use}") == set()


@pytest.mark.parametrize("name", LIGHT_NAMES)
def test_lazy_names_are_the_module_s_own(name: str) -> None:
    module = importlib.import_module(fairtrain._MODULES[name])
    assert getattr(fairtrain, name) is getattr(module, name)


def test_dir_and_all_list_every_public_name() -> None:
    assert set(fairtrain._MODULES) <= set(dir(fairtrain))
    assert set(fairtrain._MODULES) <= set(fairtrain.__all__)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Fairness'"):
        fairtrain.Fairness  # noqa: B018


def test_lazy_name_is_kept_once_loaded() -> None:
    namespace: dict[str, object] = {"own": 1}
    get, names = lazy_exports("package", {"sqrt": "math"}, namespace)
    assert names() == ["own", "sqrt"]
    assert get("sqrt")(4) == 2
    assert "sqrt" in namespace


def test_require_returns_the_module() -> None:
    assert require("os.path", extra="any").join("a", "b") == str(Path("a") / "b")


@pytest.mark.parametrize("module", ["no_such_package", "no_such_package.inner"])
def test_require_names_the_extra(module: str) -> None:
    with pytest.raises(MissingDependencyError, match=r"pip install 'fairtrain\[torch\]'") as caught:
        require(module, extra="torch")
    assert caught.value.package == "no_such_package"


def test_require_lets_a_broken_package_speak_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_installed.py").write_text("import what_it_needs\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="what_it_needs") as caught:
        require("half_installed", extra="torch")
    assert not isinstance(caught.value, MissingDependencyError)


@pytest.mark.parametrize("package", ["fairtrain", "fairtrain.training"])
def test_type_checkers_read_the_same_names(package: str) -> None:
    module = pytest.importorskip(package, exc_type=MissingDependencyError)
    tree = ast.parse(Path(module.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    names = [alias for node in imports for alias in node.names]
    assert all(alias.asname == alias.name for alias in names)  # else it is no public name
    assert len(names) == len({alias.name for alias in names})
    for name, home in module._MODULES.items():
        assert getattr(module, name) is getattr(importlib.import_module(home), name)
