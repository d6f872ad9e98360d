"""Certificates from all rows: what they rest on, what they say, and where they are refused."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fairtrain
from fairtrain import FairPlugInClassifier
from fairtrain.constraints import NoLevellingDown
from fairtrain.data.rows import Rows
from fairtrain.datasets import BiasedData, make_biased
from fairtrain.exceptions import InvalidParameterError
from fairtrain.metrics.paired import narrowed
from fairtrain.metrics.report import report_on
from fairtrain.metrics.verdicts import Verdict
from fairtrain.plugin.cross import DESIGN_EFFECT, FOLDS

pytestmark = pytest.mark.filterwarnings("ignore::fairtrain.exceptions.ConstraintNotMetWarning")


def plug_in(**settings: Any) -> FairPlugInClassifier:
    given = {"difference_bound": 0.1, "cv": 2, "certification": "cross", "random_state": 0}
    return FairPlugInClassifier(
        LogisticRegression(), group_estimator=LogisticRegression(), **{**given, **settings}
    )


@pytest.fixture(scope="module")
def data() -> BiasedData:
    return make_biased(3000, n_noise=0, random_state=4)


@pytest.fixture(scope="module")
def model(data: BiasedData) -> FairPlugInClassifier:
    return plug_in().fit(data.X, data.y, sensitive_features=data.sensitive_features)


def test_every_row_certifies_and_none_steers_the_verdict(
    model: FairPlugInClassifier, data: BiasedData
) -> None:
    assert list(model.reports_) == ["certification"]
    report = model.fairness_report_
    assert report.n_rows == len(data)
    assert sum(report.results[0].counts.values()) == len(data)
    assert "each was judged on rows that it never saw" in model.explain()


def test_too_few_rows_still_say_what_is_better_than_without_prices(data: BiasedData) -> None:
    few = plug_in(difference_bound=0.05)
    few.fit(data.X, data.y, sensitive_features=data.sensitive_features)
    assert few.status_ is Verdict.TOO_FEW_ROWS
    held, free = few.held_out_, few.free_held_out_
    assert held is not None
    assert free is not None
    found = narrowed(few.constraints_[0], free, held)
    assert found is not None
    assert found.change[1] > 0
    assert found.words() in few.explain()


def test_each_member_trained_without_the_rows_it_is_judged_on(data: BiasedData) -> None:
    seen: list[set[float]] = []

    class Watched(LogisticRegression):
        def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
            seen.append(set(np.asarray(X)[:, -1].tolist()))
            return super().fit(X, y, sample_weight)

    names = np.column_stack([data.X, np.arange(len(data)) / len(data)])
    FairPlugInClassifier(
        Watched(), group_estimator=LogisticRegression(), cv=2, certification="cross", random_state=0
    ).fit(names, data.y, sensitive_features=data.sensitive_features)
    assert len(seen) == 2 * FOLDS
    members = [seen[2 * k] | seen[2 * k + 1] for k in range(FOLDS)]
    held = [set(names[:, -1].tolist()) - member for member in members]
    assert sorted(len(h) for h in held) == [600] * FOLDS
    assert set.union(*held) == set(names[:, -1].tolist())
    assert sum(len(h) for h in held) == len(names)


def test_the_lottery_decides_with_the_mean_chance_of_its_members(
    model: FairPlugInClassifier, data: BiasedData
) -> None:
    assert model._lottery is not None
    members = model._lottery.members
    chances = np.stack([member._decision(data.X) for member in members])
    np.testing.assert_allclose(model.decision_proba(data.X)[:, 1], chances.mean(axis=0))
    sure = np.ptp(chances, axis=0) == 0
    assert 1 - sure.mean() == pytest.approx(model._lottery.disagreement)
    decided = model.predict(data.X)
    assert (decided[sure] == chances[0][sure]).all()
    assert (decided == model.predict(data.X)).all()
    assert ((model.predict_proba(data.X)[:, 1] > 0.5) == (decided == 1))[sure].all()
    alone = np.mean([m._scores(data.X, None).outcome for m in members], axis=0)
    np.testing.assert_allclose(model.outcome_proba(data.X)[:, 1], alone, atol=1e-12)
    told = model.contributions(data.X)
    np.testing.assert_allclose(told["margin"], model.decision_function(data.X), atol=1e-12)


def test_limits_are_those_of_fewer_rows(model: FairPlugInClassifier, data: BiasedData) -> None:
    result = model.fairness_report_.results[0]
    groups = fairtrain.Groups.from_sensitive(data.sensitive_features)
    decisions = np.zeros(len(data))
    table = model.fairness_report_.group_rates
    table = table[table["metric"] == "selection_rate"].set_index("group")
    for g, name in enumerate(groups.names):
        inside = np.flatnonzero(groups.codes == g)
        decisions[inside[: round(table.loc[name, "rate"] * len(inside))]] = 1
    rows = Rows.judged(data.y.astype(float), decisions, groups)
    plain = report_on(rows, model.constraints_, rows="certification").results[0]
    assert result.achieved == pytest.approx(plain.achieved, abs=1e-9)
    wider = (result.upper - result.lower) / (plain.upper - plain.lower)
    assert wider == pytest.approx(np.sqrt(DESIGN_EFFECT), rel=0.03)


def test_aiming_lower_can_be_met() -> None:
    data = make_biased(8000, base_rates=(0.5, 0.45), n_noise=0, random_state=2)
    fitted = plug_in(confidence=0.95).fit(
        data.X, data.y, sensitive_features=data.sensitive_features
    )
    assert fitted.status_ == "met"
    assert data.population.judge(lambda X: fitted.decision_proba(X)[:, 1])["gap"] <= 0.1


def test_it_survives_pickles_and_folders(
    model: FairPlugInClassifier, data: BiasedData, tmp_path: Path
) -> None:
    fairtrain.save(model, tmp_path / "model")
    for again in (pickle.loads(pickle.dumps(model)), fairtrain.load(tmp_path / "model")):
        assert (again.predict(data.X) == model.predict(data.X)).all()
        assert again.status_ == model.status_


def test_the_same_seed_gives_the_same_lottery(
    model: FairPlugInClassifier, data: BiasedData
) -> None:
    again = plug_in().fit(data.X, data.y, sensitive_features=data.sensitive_features)
    assert (again.predict(data.X) == model.predict(data.X)).all()
    assert again.fairness_report_.results == model.fairness_report_.results


def test_other_bounds_need_a_certificate_of_their_own(
    model: FairPlugInClassifier, data: BiasedData
) -> None:
    with pytest.raises(InvalidParameterError, match="the best of several by their gaps"):
        model.with_bounds(difference_bound=0.2)
    with pytest.raises(InvalidParameterError, match="the best of several by their gaps"):
        model.frontier([0.1, 0.2])
    with pytest.raises(InvalidParameterError, match="the best of several by their gaps"):
        model.with_rows(data.X, data.y, sensitive_features=data.sensitive_features)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"certification_fraction": 0.2}, "leave certification_fraction out"),
        ({"cv": [(np.arange(1500), np.arange(1500, 3000))]}, "cv must be a number"),
        ({"estimator": HistGradientBoostingClassifier()}, "linear scores only"),
        (
            {"group_estimator": make_pipeline(StandardScaler(), HistGradientBoostingClassifier())},
            "group_estimator is a HistGradientBoostingClassifier",
        ),
        ({"constraints": NoLevellingDown()}, "certify it with certification_fraction"),
        ({"certification": "loo"}, "certification must be 'cross' or None"),
    ],
)
def test_what_it_does_not_hold_for_is_refused(
    settings: dict[str, Any], words: str, data: BiasedData
) -> None:
    refused = plug_in().set_params(**settings)
    if "constraints" in settings:
        refused.set_params(difference_bound=None)
    with pytest.raises(InvalidParameterError, match=words):
        refused.fit(data.X, data.y, sensitive_features=data.sensitive_features)


def test_a_pipeline_of_a_linear_model_and_the_default_are_linear(data: BiasedData) -> None:
    scaled = make_pipeline(StandardScaler(), LogisticRegression())
    fitted = FairPlugInClassifier(scaled, cv=2, certification="cross", random_state=0).fit(
        data.X, data.y, sensitive_features=data.sensitive_features
    )
    assert fitted.estimator_name_ == "LogisticRegression"
    assert fitted.group_estimator_name_ == "LogisticRegression"


def test_a_label_of_one_row_and_a_group_of_one_row_can_be_certified_on() -> None:
    rng = np.random.default_rng(0)
    X, group = rng.normal(size=(200, 2)), np.arange(200) % 2
    model = FairPlugInClassifier(LogisticRegression(), cv=2, certification="cross", random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, (np.arange(200) == 0).astype(int), sensitive_features=group)
        assert model.reports_["certification"].n_rows == 200
        group[0] = 7
        model.fit(X, (X[:, 0] > 0).astype(int), sensitive_features=group)
    assert model.status_ == "too_few_rows"
    assert model.scheme_.names == ("0", "1", "7")


def test_a_second_fit_holds_no_rows_of_the_first(data: BiasedData) -> None:
    model = FairPlugInClassifier(LogisticRegression(), cv=2, random_state=0)
    rows = {
        "X": data.X[:500],
        "y": data.y[:500],
        "sensitive_features": data.sensitive_features[:500],
    }
    assert model.fit(**rows)._memory is not None
    assert model.set_params(certification="cross").fit(**rows)._memory is None
