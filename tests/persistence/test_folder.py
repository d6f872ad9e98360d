"""Model folders: what comes back, what is refused, what a killed process leaves."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightgbm import LGBMClassifier
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import Binarizer, StandardScaler
from torch import nn
from xgboost import XGBClassifier

from fairtrain import (
    AdversarialDebiasingTrainer,
    BoundedGroupLoss,
    CalibratedFairClassifier,
    FairPlugInTrainer,
    GroupFairnessCalibrator,
    GroupThresholds,
    LagrangianBoostingClassifier,
    LagrangianBoostingRegressor,
    LagrangianFairnessTrainer,
    Multicalibrator,
    ReductionsWrapper,
    RegularizedFairnessTrainer,
    TemperatureScaling,
    load,
    save,
)
from fairtrain.datasets import make_miscalibrated
from fairtrain.exceptions import FairtrainWarning, PersistenceError
from fairtrain.persistence.allowed import foreign_types
from fairtrain.training.modules import DefaultModule

pytestmark = [
    pytest.mark.filterwarnings("ignore::fairtrain.exceptions.FairtrainWarning"),
    pytest.mark.filterwarnings("ignore:X does not have valid feature names"),
]

CANARY = 0.12345678912345
EXTREME = 98765.43212345
"""For trees on histograms, whose bin edges are single values from the middle of a column."""


def table(n: int = 500) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    who = np.array(["her", "him"])[rng.integers(0, 2, n)]
    X = pd.DataFrame(rng.normal(size=(n, 3)) + 0.5 * (who == "her")[:, None], columns=list("uvw"))
    y = np.where(X.sum(axis=1) + rng.normal(size=n) > 0.5, "yes", "no")
    X.iloc[3, 1] = CANARY
    return X, y, who


def factory(n_features: int, n_outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(n_features, 4), nn.Tanh(), nn.Linear(4, n_outputs))


YES: dict[str, Any] = {"positive_label": "yes", "random_state": 0}
MODELS: dict[str, Callable[[], Any]] = {
    "reductions": lambda: ReductionsWrapper(LogisticRegression(), validation_fraction=0.3, **YES),
    "pipeline inside": lambda: ReductionsWrapper(
        make_pipeline(StandardScaler(), LogisticRegression()), **YES
    ),
    "histogram trees": lambda: ReductionsWrapper(
        HistGradientBoostingClassifier(max_iter=5), max_iter=5, **YES
    ),
    "categories of histogram trees": lambda: ReductionsWrapper(
        make_pipeline(
            Binarizer(), HistGradientBoostingClassifier(max_iter=5, categorical_features=[0, 1])
        ),
        max_iter=3,
        **YES,
    ),
    "forest": lambda: ReductionsWrapper(RandomForestClassifier(4), max_iter=3, **YES),
    "xgboost inside": lambda: ReductionsWrapper(XGBClassifier(n_estimators=4), max_iter=3, **YES),
    "lightgbm inside": lambda: ReductionsWrapper(
        LGBMClassifier(n_estimators=4, verbose=-1), max_iter=3, **YES
    ),
    "boosting": lambda: LagrangianBoostingClassifier(n_estimators=8, **YES),
    "boosting, lightgbm": lambda: LagrangianBoostingClassifier(
        n_estimators=8, booster="lightgbm", **YES
    ),
    "lagrangian": lambda: LagrangianFairnessTrainer(max_epochs=2, **YES),
    "regularized": lambda: RegularizedFairnessTrainer(max_epochs=2, **YES),
    "adversarial": lambda: AdversarialDebiasingTrainer(max_epochs=2, **YES),
    "priced": lambda: FairPlugInTrainer(max_epochs=2, cv=2, **YES),
    "own network": lambda: RegularizedFairnessTrainer(factory, max_epochs=2, **YES),
    "calibrated": lambda: CalibratedFairClassifier(LogisticRegression()),
}


def answers(model: Any, X: Any, who: Any) -> tuple[np.ndarray, np.ndarray]:
    more = {"sensitive_features": who} if isinstance(model, CalibratedFairClassifier) else {}
    return model.predict(X, **more), model.predict_proba(X, **more)


@pytest.mark.parametrize("name", MODELS)
def test_what_comes_back_answers_bit_for_bit_and_holds_no_row(name: str, tmp_path: Path) -> None:
    X, y, who = table()
    planted = EXTREME if name.endswith("histogram trees") else CANARY
    X.iloc[3, 1] = planted
    model = MODELS[name]().fit(X, y, sensitive_features=who)
    before = pickle.dumps(model.predict(X) if name != "calibrated" else 0)
    save(model, tmp_path / "model")
    module = factory if name == "own network" else None
    again = load(tmp_path / "model", module=module)
    for one, other in zip(answers(model, X, who), answers(again, X, who), strict=True):
        np.testing.assert_array_equal(one, other)
    assert type(again) is type(model)
    assert before == pickle.dumps(model.predict(X) if name != "calibrated" else 0)
    saved = b"".join(file.read_bytes() for file in (tmp_path / "model").iterdir())
    for canary in (np.float64(planted), np.float32(planted)):
        assert canary.tobytes() not in saved
    assert str(planted)[:10].encode() not in saved
    manifest = json.loads((tmp_path / "model" / "manifest.json").read_text())
    assert manifest["feature_names_in"] == ["u", "v", "w"]
    assert manifest["classes"] == ["no", "yes"]
    if hasattr(model, "evaluate"):
        report, twin = (m.evaluate(X, y, sensitive_features=who) for m in (model, again))
        assert str(report) == str(twin)
    if hasattr(model, "status_"):
        assert again.status_ is model.status_  # a Verdict, not its name
        assert again.explain() == model.explain()


def test_calibration_and_regression(tmp_path: Path) -> None:
    data = make_miscalibrated(1500, random_state=0)
    given = data.scores, data.sensitive_features
    made = {
        "c": GroupFairnessCalibrator().fit(data.scores, data.y, data.sensitive_features),
        "i": GroupFairnessCalibrator("isotonic").fit(data.scores, data.y, data.sensitive_features),
        "m": Multicalibrator().fit(data.scores, data.y, data.sensitive_features),
    }
    for name, model in made.items():
        save(model, tmp_path / name)
        np.testing.assert_array_equal(
            load(tmp_path / name).transform(*given), model.transform(*given)
        )
    thresholds = GroupThresholds(random_state=0).fit(data.scores, data.y, data.sensitive_features)
    save(thresholds, tmp_path / "t")
    np.testing.assert_array_equal(load(tmp_path / "t").predict(*given), thresholds.predict(*given))
    X, _, who = table()
    booster = LagrangianBoostingRegressor(
        BoundedGroupLoss(upper_bound=2.0, loss="squared"), n_estimators=5
    )
    booster.fit(X, X["u"] * 2, sensitive_features=who)
    save(booster, tmp_path / "r")
    np.testing.assert_array_equal(load(tmp_path / "r").predict(X), booster.predict(X))
    scaling = TemperatureScaling(2)
    save(scaling, tmp_path / "s")
    logits = torch.linspace(-2, 2, 4)
    again = load(tmp_path / "s", module=TemperatureScaling(2))
    groups = torch.tensor([0, 1, 0, 1])
    assert torch.equal(again(logits, groups), scaling(logits, groups))


def test_a_pipeline_with_a_model_at_its_end(tmp_path: Path) -> None:
    X, y, who = table()
    scaler = StandardScaler().fit(X)
    fair = ReductionsWrapper(LogisticRegression(), **YES)
    fair.fit(scaler.transform(X), y, sensitive_features=who)
    model = Pipeline([("scale", scaler), ("fair", fair)])
    save(model, tmp_path / "model", metadata={"data": "t.csv"})
    np.testing.assert_array_equal(load(tmp_path / "model").predict(X), model.predict(X))


def test_small_groups_are_not_disclosed(tmp_path: Path) -> None:
    X, y, who = table()
    who = who.astype(object)
    who[:3] = "few"
    model = LagrangianBoostingClassifier(n_estimators=4, **YES).fit(X, y, sensitive_features=who)
    save(model, tmp_path / "model")
    again = load(tmp_path / "model")
    for report in again.reports_.values():
        small = report.group_rates[report.group_rates["count"].between(1, 9)]
        assert len(small)
        assert small["rate"].isna().all()
    assert (
        model.reports_["training"].group_rates["rate"].notna().sum()
        > again.reports_["training"].group_rates["rate"].notna().sum()
    )


def test_tables_of_groups_are_not_disclosed_either(tmp_path: Path) -> None:
    data = make_miscalibrated(600, random_state=0)
    who = np.array(["many"] * 596 + ["few"] * 4, dtype=object)
    model = GroupThresholds(random_state=0).fit(data.scores, data.y, who)
    save(model, tmp_path / "model")
    again = load(tmp_path / "model")
    few = again.rates_[again.rates_["rows"] < 10]
    assert len(few) == 1
    assert few.select_dtypes("float").isna().all(axis=None)
    np.testing.assert_array_equal(again.predict(data.scores, who), model.predict(data.scores, who))


def test_names_that_scikit_learn_only_imports_are_foreign() -> None:
    assert foreign_types(["sklearn.datasets._base.Path", "sklearn.os"]) != []
    assert foreign_types(["sklearn.linear_model._logistic.LogisticRegression"]) == []


class OwnEstimator(ClassifierMixin, BaseEstimator):
    """Somebody's own class."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> OwnEstimator:
        self.classes_ = np.unique(y)
        return self

    def predict(self, X: Any) -> np.ndarray:
        return np.full(len(X), self.classes_[0])


def test_what_would_not_load_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    X, y, who = table()
    own = ReductionsWrapper(OwnEstimator(), max_iter=2, **YES).fit(X, y, sensitive_features=who)
    for model in (own, OwnEstimator().fit(X, y), object()):
        with pytest.raises(PersistenceError, match=r"cannot be saved|no class of") as caught:
            save(model, tmp_path / "model")
        assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_settings_that_predicting_does_not_need_are_left_out(tmp_path: Path) -> None:
    X, y, who = table()
    model = RegularizedFairnessTrainer(
        max_epochs=1, optimizer=lambda p: torch.optim.SGD(p, lr=0.1), eta=lambda step: 0.5, **YES
    ).fit(X, y, sensitive_features=who)
    save(model, tmp_path / "model")
    manifest = json.loads((tmp_path / "model" / "manifest.json").read_text())
    left = [name.partition(".")[2] for name in manifest["left_out"]]
    assert sorted(left) == ["eta", "optimizer"]
    np.testing.assert_array_equal(load(tmp_path / "model").predict(X), model.predict(X))


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    X, y, who = table(200)
    model = ReductionsWrapper(LogisticRegression(), **YES).fit(X, y, sensitive_features=who)
    folder = tmp_path_factory.mktemp("pristine") / "model"
    save(model, folder)
    return folder


@pytest.fixture
def saved(pristine: Path, tmp_path: Path) -> Path:
    shutil.copytree(pristine, tmp_path / "model")
    return tmp_path / "model"


def edited(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest, with hashes that fit what is there."""
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    for name in list(manifest["files"]):
        content = (folder / name).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        manifest["files"][name] = {"bytes": len(content), "sha256": digest}
    change(manifest)
    file.write_text(json.dumps(manifest))


def structure(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    file = folder / "structure.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    edited(folder, lambda manifest: None)


def truncate(folder: Path) -> None:
    file = folder / "arrays.safetensors"
    file.write_bytes(file.read_bytes()[:-3])


def flip(folder: Path) -> None:
    file = next(folder.glob("*.skops"))
    content = bytearray(file.read_bytes())
    content[50] ^= 1
    file.write_bytes(bytes(content))


def link(folder: Path) -> None:
    file = folder / "structure.json"
    file.rename(folder.parent / "elsewhere.json")
    file.symlink_to(folder.parent / "elsewhere.json")


def foreign_skops(folder: Path) -> None:
    import skops.io

    file = next(folder.glob("*.skops"))
    file.write_bytes(skops.io.dumps(OwnEstimator()))
    edited(folder, lambda manifest: None)


def evil_pickle(folder: Path) -> None:
    file = next(folder.glob("*.skops"))
    file.write_bytes(pickle.dumps(os.getcwd))
    edited(folder, lambda manifest: None)


def rooted(name: str) -> Callable[[Path], None]:
    def change(content: dict[str, Any]) -> None:
        content["nodes"][0]["class"] = name

    return lambda folder: structure(folder, change)


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "truncated": (truncate, "bytes, not what the manifest says"),
    "changed": (flip, "was changed"),
    "missing": (lambda f: (f / "structure.json").unlink(), "is missing"),
    "more": (lambda f: (f / "run.py").touch(), "is not part of the model"),
    "linked": (link, "is a link"),
    "newer": (lambda f: edited(f, lambda m: m.update(schema=99)), "schema 99"),
    "other format": (lambda f: edited(f, lambda m: m.update(format="x")), "not the manifest"),
    "outside": (lambda f: edited(f, lambda m: m["files"].update({"../x": {}})), "outside"),
    "no JSON": (lambda f: (f / "manifest.json").write_text("{"), "is not JSON"),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "not a model folder"),
    "foreign skops type": (foreign_skops, "may not be made from a file"),
    "a pickle": (evil_pickle, "cannot be read"),
    "os.system": (rooted("os.system"), "may not be made from a file"),
    "posix.system": (rooted("posix.system"), "may not be made from a file"),
    "a module of ours": (rooted("fairtrain.persistence.folder.os.system"), "no '|may not be made"),
    "a function of ours": (rooted("fairtrain.cli.main"), "may not be made from a file"),
    "unknown kind": (lambda f: structure(f, lambda c: c["nodes"][0].update(t="?")), "unknown kind"),
    "nowhere": (lambda f: structure(f, lambda c: c.update(root={"#": 10**9})), "does not hold"),
    "itself": (
        lambda f: structure(f, lambda c: c.update(nodes=[{"t": "list", "items": [{"#": 0}]}])),
        "refers to itself",
    ),
    "class swap": (
        lambda f: structure(f, lambda c: c["nodes"][0]["state"].update({"__class__": 1})),
        "attribute '__class__'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_one_clear_error(kind: str, saved: Path) -> None:
    damage, says = DAMAGE[kind]
    damage(saved)
    with pytest.raises(PersistenceError, match=says) as caught:
        load(saved)
    assert "\n" not in str(caught.value)


def test_only_model_folders_are_replaced(saved: Path, tmp_path: Path) -> None:
    model = load(saved)
    with pytest.raises(PersistenceError, match="overwrite=True"):
        save(model, saved)
    before = sorted(entry.name for entry in saved.iterdir())
    save(model, saved, overwrite=True)
    assert sorted(entry.name for entry in saved.iterdir()) == before
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").touch()
    with pytest.raises(PersistenceError, match="not replaced"):
        save(model, precious, overwrite=True)
    assert (precious / "thesis.tex").exists()
    (precious / "manifest.json").write_text("{}")
    (saved / "notes.txt").touch()
    for folder in (precious, saved):
        with pytest.raises(PersistenceError, match="not replaced"):
            save(model, folder, overwrite=True)
    assert (precious / "thesis.tex").exists()
    assert (saved / "notes.txt").exists()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["model", "precious"]


def test_a_killed_save_leaves_the_old_folder_whole(pristine: Path, tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from fairtrain import _atomic, load, save

        def die(*given, **named):
            os.kill(os.getpid(), signal.SIGKILL)

        moments = [(Path, "write_bytes"), (_atomic, "sync"), (_atomic, "_replace")]
        models = [load(folder) for folder in sys.argv[1:]]
        for folder, model, (place, name) in zip(sys.argv[1:], models, moments, strict=True):
            child = os.fork()
            if not child:
                setattr(place, name, die)
                save(model, folder, overwrite=True)
                os._exit(0)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """
    )
    folders = [Path(shutil.copytree(pristine, tmp_path / str(i) / "model")) for i in range(3)]
    done = subprocess.run(
        [sys.executable, "-c", script, *folders], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(-signal.SIGKILL)] * 3
    X, _, _ = table(200)
    for folder in folders:
        assert len(load(folder).predict(X)) == 200


def test_loads_where_torch_is_absent(saved: Path) -> None:
    script = textwrap.dedent(
        """
        import sys

        class Absent:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in ("torch", "xgboost", "lightgbm"):
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        sys.meta_path.insert(0, Absent())
        import numpy as np
        import pandas as pd
        from fairtrain import load
        X = pd.DataFrame(np.zeros((3, 3)), columns=list("uvw"))
        print(load(sys.argv[1]).predict_proba(X)[:, 1].tolist())
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(saved)], capture_output=True, text=True, check=True
    )
    X = pd.DataFrame(np.zeros((3, 3)), columns=list("uvw"))
    assert json.loads(done.stdout) == load(saved).predict_proba(X)[:, 1].tolist()


def test_a_network_needs_its_architecture(tmp_path: Path) -> None:
    X, y, who = table(200)
    model = RegularizedFairnessTrainer(factory(3, 1), max_epochs=1, **YES)
    save(model.fit(X, y, sensitive_features=who), tmp_path / "model")
    with pytest.raises(PersistenceError, match="module="):
        load(tmp_path / "model")
    with pytest.raises(PersistenceError, match="another architecture"):
        load(tmp_path / "model", module=nn.Linear(3, 1))
    again = load(tmp_path / "model", module=factory(3, 1))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


def test_a_network_of_before_features_had_pieces_loads_as_it_was(tmp_path: Path) -> None:
    X, y, who = table(200)
    before = DefaultModule.without_pieces(3, 1)
    model = LagrangianFairnessTrainer(before, max_epochs=2, mixture=False, **YES)
    model.fit(X, y, sensitive_features=who)
    save(model, tmp_path / "model")

    def older(node: Any) -> None:
        if isinstance(node, dict) and "default" in node:
            node["default"] = node["default"][:2]
            for name in ("reach", "feature", "start", "width"):
                del node["weights"][f"0.{name}"]
        for inner in node.values() if isinstance(node, dict) else node:
            if isinstance(inner, dict | list):
                older(inner)

    structure(tmp_path / "model", older)
    again = load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    again.mixture_ = (0.25, again.module_)  # so were mixtures written
    assert [share for share, _ in again._members] == [0.75, 0.25]
    tuned = LagrangianFairnessTrainer(again.module_, max_epochs=1, lr=1e-9, mixture=False, **YES)
    tuned.fit(X, y, sensitive_features=who)  # learns from where it was
    torch.testing.assert_close(tuned.module_.state_dict(), model.module_.state_dict())


def test_models_that_store_rows_are_refused_or_named(tmp_path: Path) -> None:
    X, y, who = table(200)
    with pytest.warns(FairtrainWarning, match="keeps training rows"):
        ReductionsWrapper(_Weighted(), max_iter=1, **YES).fit(X, y, sensitive_features=who)


class _Weighted(KNeighborsClassifier):
    """Takes weights, and keeps every row."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> _Weighted:
        super().fit(X, y)
        return self
