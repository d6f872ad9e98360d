"""Exported models decide as the models do, in ONNX Runtime."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import fairtrain
from fairtrain.datasets import make_miscalibrated
from fairtrain.exceptions import FairtrainError, InvalidParameterError

pytest.importorskip("onnx", reason="needs the onnx extra")
runtime = pytest.importorskip("onnxruntime", reason="needs the onnx extra")
from fairtrain.integrations.onnx import export_onnx  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::fairtrain.exceptions.FairtrainWarning")

FRESH = 10_000


def rows(n: int, seed: int = 0) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 3, n)
    X = rng.normal(size=(n, 4)) + 0.4 * group[:, None]
    y = (X[:, 0] + X[:, 1] + rng.normal(size=n) > 0.8).astype(int)
    return X, y, np.array(["north", "south", "west"])[group]


def frame(n: int, seed: int = 0) -> tuple[Any, Any, Any]:
    X, y, group = rows(n, seed)
    table = pd.DataFrame(X[:, :3], columns=["income", "debt", "age"])
    table["debt"] = table["debt"].where(table["debt"] < 1.5)  # missing where large
    jobs = np.array(["clerk", "cook", "nurse", "diver"])
    drawn = np.random.default_rng(seed).choice(4, n, p=[0.4, 0.3, 0.295, 0.005])
    return table.assign(job=jobs[drawn]), y, group


TRAIN, TEST = rows(1500), rows(FRESH, 1)
FRAME, FRESH_FRAME = frame(1500), frame(FRESH, 1)


def linear() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression())


def told(path: Path, inputs: dict[str, Any]) -> dict[str, Any]:
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def matrix(X: Any) -> dict[str, Any]:
    return {"X": X}


def single(X: Any) -> dict[str, Any]:
    return {"X": X.astype(np.float32)}


def columns(X: Any) -> dict[str, Any]:
    words = {name: X[[name]].to_numpy(object) for name in X if X[name].dtype.kind not in "fi"}
    return {name: X[[name]].to_numpy() for name in X} | words


def plug_in(estimator: Any = None, **more: Any) -> Any:
    more = {"group_estimator": linear(), "cv": 2, "difference_bound": 0.05} | more
    return fairtrain.FairPlugInClassifier(
        linear() if estimator is None else estimator, random_state=0, **more
    )


def boosting(booster: str, **more: Any) -> Any:
    settings = {"difference_bound": 0.1, "n_estimators": 12, "max_depth": 3, "n_jobs": 1}
    return fairtrain.LagrangianBoostingClassifier(
        booster=booster, random_state=0, **settings, **more
    )


def network(kind: Any, **more: Any) -> Any:
    return kind(max_epochs=2, batch_size=256, random_state=0, difference_bound=0.1, **more)


def priced(module: Any = None, **more: Any) -> Any:
    return fairtrain.FairPlugInTrainer(
        module, max_epochs=3, difference_bound=0.05, random_state=0, **more
    )


def own() -> Any:
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))


LAGRANGIAN, SOFT = fairtrain.LagrangianFairnessTrainer, fairtrain.RegularizedFairnessTrainer
CASES: dict[str, tuple[Any, Any, float]] = {
    "logistic plug-in": (plug_in, matrix, 1e-12),
    "plug-in where errors cost": (
        lambda: plug_in(objective={"false_positive": 1, "false_negative": 3}), matrix, 1e-12,
    ),
    "plug-in on other estimators": (
        lambda: plug_in(ExtraTreesClassifier(10, max_depth=4)), matrix, 1e-6,
    ),
    "xgboost": (lambda: boosting("xgboost"), matrix, 1e-6),
    "lightgbm": (lambda: boosting("lightgbm"), matrix, 1e-6),
    "network": (lambda: network(LAGRANGIAN), single, 1e-6),
    "soft network": (lambda: network(SOFT, eta=1.0), single, 1e-6),
    "priced networks": (lambda: priced(cv=2), single, 1e-6),
    "priced network of one's own": (lambda: priced(own(), cv=None, lr=0.02), single, 1e-6),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_file_decides_as_the_model_does(case: str, tmp_path: Path) -> None:
    make, inputs, tolerance = CASES[case]
    X, y, group = TRAIN
    model = make().fit(X, y, sensitive_features=group)
    found = told(export_onnx(model, tmp_path / "m.onnx"), inputs(TEST[0]))
    assert 0.05 < model.predict(TEST[0]).mean() < 0.95
    np.testing.assert_array_equal(found["label"], model.predict(TEST[0]))
    np.testing.assert_allclose(
        found["probabilities"], model.predict_proba(TEST[0]), rtol=0, atol=tolerance
    )


def test_labels_are_words_and_columns_are_inputs_by_name(tmp_path: Path) -> None:
    X, y, group = FRAME
    words = np.where(y == 1, "approve", "deny")
    model = plug_in(positive_label="approve", group_estimator=None)
    model.set_params(estimator=None).fit(X, words, sensitive_features=group)
    strange = FRESH_FRAME[0].assign(job=FRESH_FRAME[0]["job"].replace("cook", "pilot"))
    found = told(export_onnx(model, tmp_path / "m.onnx"), columns(strange))
    np.testing.assert_array_equal(found["label"], model.predict(strange))
    np.testing.assert_allclose(found["probabilities"], model.predict_proba(strange), atol=1e-6)


@pytest.mark.parametrize("booster", ["xgboost", "lightgbm"])
def test_missing_numbers_go_where_the_booster_sends_them(booster: str, tmp_path: Path) -> None:
    X, y, group = FRAME
    numbers = X[["income", "debt", "age"]].to_numpy()
    fresh = FRESH_FRAME[0][["income", "debt", "age"]].to_numpy()
    assert np.isnan(fresh).any()
    model = boosting(booster).fit(numbers, y, sensitive_features=group)
    found = told(export_onnx(model, tmp_path / "m.onnx"), {"X": fresh})
    np.testing.assert_array_equal(found["label"], model.predict(fresh))
    np.testing.assert_allclose(found["probabilities"], model.predict_proba(fresh), atol=1e-6)


METHODS = ("hierarchical", "platt", "isotonic", "beta", "histogram", "venn_abers", "auto")


@pytest.mark.parametrize("method", METHODS)
def test_calibrated_scores_are_those_of_the_calibrator(method: str, tmp_path: Path) -> None:
    data = make_miscalibrated(6000, random_state=0)
    model = fairtrain.GroupFairnessCalibrator(method, random_state=0)
    model.fit(data.scores, data.y, data.sensitive_features)
    fresh = data.fresh(random_state=1)
    who = fresh.sensitive_features.copy()
    inputs = {name: who[[name]].to_numpy(object) for name in who}
    found = told(export_onnx(model, tmp_path / "c.onnx"), {"scores": fresh.scores, **inputs})
    expected = model.transform(fresh.scores, who)
    np.testing.assert_allclose(found["probabilities"], expected, rtol=0, atol=1e-9)


def test_people_of_groups_never_seen_inherit_in_the_file_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    who = pd.DataFrame({"sex": rng.choice(["f", "m"], 900), "area": rng.choice(["a", "b"], 900)})
    seen = ~((who["sex"] == "f") & (who["area"] == "b"))
    scores, y = rng.uniform(size=900), rng.integers(0, 2, 900)
    model = fairtrain.GroupFairnessCalibrator().fit(scores[seen], y[seen], who[seen])
    strange = who.assign(sex=who["sex"].where(rng.uniform(size=900) < 0.8, "x"))
    inputs = {name: strange[[name]].to_numpy(object) for name in strange}
    found = told(export_onnx(model, tmp_path / "c.onnx"), {"scores": scores, **inputs})
    expected = model.transform(scores, strange)
    np.testing.assert_allclose(found["probabilities"], expected, rtol=0, atol=1e-9)


def test_a_calibrated_classifier_takes_its_group_as_an_input(tmp_path: Path) -> None:
    X, y, group = TRAIN
    model = fairtrain.CalibratedFairClassifier(linear(), cv=2, random_state=0)
    model.fit(X, y, sensitive_features=pd.Series(group, name="region"))
    inputs = {"X": TEST[0], "region": TEST[2].astype(object)[:, None]}
    found = told(export_onnx(model, tmp_path / "m.onnx"), inputs)
    who = pd.Series(TEST[2], name="region")
    np.testing.assert_array_equal(found["label"], model.predict(TEST[0], sensitive_features=who))
    expected = model.predict_proba(TEST[0], sensitive_features=who)
    np.testing.assert_allclose(found["probabilities"], expected, rtol=0, atol=1e-9)
    frozen = fairtrain.CalibratedFairClassifier(FrozenEstimator(linear().fit(X, y)))
    frozen.fit(X, y, sensitive_features=pd.Series(group, name="region"))
    assert told(export_onnx(frozen, tmp_path / "m.onnx"), inputs)["label"].shape == (FRESH,)


@pytest.mark.filterwarnings("ignore:Skipping features without any observed")
def test_what_stands_around_an_estimator_stays_as_it_is(tmp_path: Path) -> None:
    X, y, group = FRAME
    encoder = make_column_transformer(
        (SimpleImputer(), ["debt", "empty"]), (OneHotEncoder(handle_unknown="ignore"), ["floor"]),
        remainder="passthrough",
    )  # fmt: skip
    steps = make_pipeline(encoder, StandardScaler(), LogisticRegression())

    def as_read(X: Any) -> Any:
        floor = np.arange(len(X)) % 3
        return X.drop(columns="job").assign(empty=np.nan, floor=floor.astype(float))

    model = plug_in(steps, group_estimator=steps)
    model.fit(as_read(X), y, sensitive_features=group)
    fresh = as_read(FRESH_FRAME[0]).replace({"floor": {2.0: 2.7}})  # on no floor that fit saw
    fresh["income"] += 1e-9  # below single precision
    found = told(export_onnx(model, tmp_path / "m.onnx"), columns(fresh.drop(columns="empty")))
    expected = model.predict_proba(fresh)
    np.testing.assert_allclose(found["probabilities"], expected, rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore:Found unknown categories")
@pytest.mark.parametrize("drop", ["first", "if_binary"])
def test_columns_that_an_encoder_drops(drop: str, tmp_path: Path) -> None:
    X, y, group = FRAME
    encoder = OneHotEncoder(drop=drop, handle_unknown="ignore", min_frequency=0.05)
    steps = make_pipeline(
        make_column_transformer((encoder, ["job", "half"]), remainder="passthrough"),
        LogisticRegression(),
    )

    def as_read(X: Any) -> Any:
        return X.drop(columns="debt").assign(half=np.arange(len(X)) % 2)

    model = plug_in(steps, group_estimator=steps).fit(as_read(X), y, sensitive_features=group)
    fresh = as_read(FRESH_FRAME[0])
    fresh["job"] = fresh["job"].replace("cook", "pilot")
    inputs = columns(fresh.astype({"half": float}))
    found = told(export_onnx(model, tmp_path / "m.onnx"), inputs)
    expected = model.predict_proba(fresh)
    np.testing.assert_allclose(found["probabilities"], expected, rtol=0, atol=1e-12)


def test_an_estimator_around_another_is_exported_as_a_whole(tmp_path: Path) -> None:
    X, y, group = TRAIN
    search = GridSearchCV(LogisticRegression(), {"C": [1e-3, 1.0]}, cv=2)
    model = fairtrain.CalibratedFairClassifier(search, cv=2, random_state=0)
    model.fit(X, y, sensitive_features=pd.Series(group, name="region"))
    inputs = {"X": TEST[0], "region": TEST[2].astype(object)[:, None]}
    found = told(export_onnx(model, tmp_path / "m.onnx"), inputs)
    expected = model.predict_proba(TEST[0], sensitive_features=pd.Series(TEST[2], name="region"))
    np.testing.assert_allclose(found["probabilities"], expected, rtol=0, atol=1e-6)


def test_a_column_may_be_feature_and_group_at_once(tmp_path: Path) -> None:
    X, y, _ = FRAME
    X = X[["income", "job"]].assign(level=np.arange(len(X)) % 3)
    encoder = make_column_transformer((OneHotEncoder(), ["job", "level"]), remainder="passthrough")
    model = fairtrain.CalibratedFairClassifier(
        make_pipeline(encoder, LogisticRegression()), cv=2, random_state=0
    )
    who = X[["job", "level"]]
    model.fit(X, y, sensitive_features=who)
    found = told(export_onnx(model, tmp_path / "m.onnx"), columns(X.astype({"level": float})))
    np.testing.assert_array_equal(found["label"], model.predict(X, sensitive_features=who))


def test_torch_export_takes_a_trained_module() -> None:
    X, y, group = TRAIN
    model = network(LAGRANGIAN).fit(X, y, sensitive_features=group)
    fresh = torch.from_numpy(TEST[0]).float()
    rows = torch.export.Dim("rows")
    program = torch.export.export(model.module_, (fresh[:2],), dynamic_shapes=({0: rows},))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(fresh), model.module_(fresh))


def refused(case: str) -> tuple[Any, str]:
    X, y, group = TRAIN
    if case == "mixture":
        return network(LAGRANGIAN).fit(X, y, sensitive_features=group), "mixture=False"
    if case == "cross":
        model = plug_in(certification="cross", cv=2)
        return model.fit(X, y, sensitive_features=group), "certification_fraction"
    if case == "lottery":
        coarse = np.round(X[:, :1])
        return plug_in(difference_bound=0.01).fit(coarse, y, sensitive_features=group), "finer"
    if case == "told the group":
        model = plug_in(sensitive_at_predict=True)
        return model.fit(X, y, sensitive_features=group), "sensitive_at_predict"
    wrapper = fairtrain.ReductionsWrapper(LogisticRegression(), difference_bound=0.1, max_iter=3)
    return wrapper.fit(X, y, sensitive_features=group), "FairPlugInClassifier"


@pytest.mark.parametrize("case", ["mixture", "cross", "lottery", "told the group", "reductions"])
def test_what_is_drawn_is_refused_with_what_to_do(case: str, tmp_path: Path) -> None:
    with warnings.catch_warnings(action="ignore"):
        model, said = refused(case)
    if case == "mixture":
        model.mixture_ = ((0.5, model.module_),)
    if case == "lottery":
        assert model.lottery_
    with pytest.raises(InvalidParameterError, match=said) as caught:
        export_onnx(model, tmp_path / "m.onnx")
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "m.onnx").exists()


def test_a_booster_s_categories_are_refused(tmp_path: Path) -> None:
    X, y, group = FRAME
    table = X.assign(job=X["job"].astype("category"))
    model = boosting("lightgbm").fit(table, y, sensitive_features=group)
    with pytest.raises(FairtrainError, match="categories"):
        export_onnx(model, tmp_path / "m.onnx")


def test_a_model_of_single_precision_is_exported_in_double(tmp_path: Path) -> None:
    X, y, group = TRAIN
    model = plug_in().fit(X.astype(np.float32), y.astype(np.float32), sensitive_features=group)
    found = told(export_onnx(model, tmp_path / "m.onnx"), {"X": TEST[0]})
    np.testing.assert_array_equal(found["label"], model.predict(TEST[0]))


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    X, y, group = TRAIN
    model = plug_in().fit(X, y, sensitive_features=group)
    path = export_onnx(model, tmp_path / "m.onnx")
    kept = runtime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map
    assert kept["fairtrain.model"] == "FairPlugInClassifier"
    assert kept["fairtrain.classes"] == "[0, 1]"
    assert "demographic_parity" in kept["fairtrain.constraints"]
    assert kept["fairtrain.verdict"] == str(model.status_)
