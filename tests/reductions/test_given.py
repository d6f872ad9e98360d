"""Rates within strata are what fairlearn calls control features."""

from __future__ import annotations

from typing import Any

import fairlearn.reductions as fl
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from tests.reductions.data import make_rows

from fairtrain import ReductionsWrapper
from fairtrain.constraints import DemographicParity, EqualizedOdds
from fairtrain.data.groups import Groups
from fairtrain.reductions.moments import BincountMoment
from fairtrain.reductions.oracle import Oracle

# fairlearn relies on behaviour that newer releases of pandas deprecate.
FAIRLEARN = pytest.mark.filterwarnings("ignore::DeprecationWarning")
GIVEN = (("band", ()),)
BOUNDS = [{"difference_bound": 0.02}, {"ratio_bound": 0.9}]


def rows(n: int) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    X, y, group = make_rows(n, 2)
    rng = np.random.default_rng(7)
    band = np.where(rng.random(n) < 0.3 + 0.4 * (X[:, 0] > 0), "high", "low")
    return X, y, pd.DataFrame({"group": group, "band": band})


@FAIRLEARN
@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize(
    ("notion", "theirs"),
    [(DemographicParity, fl.DemographicParity), (EqualizedOdds, fl.EqualizedOdds)],
)
def test_the_moment_is_fairlearns_with_control_features(
    notion: Any, theirs: Any, bound: dict[str, float]
) -> None:
    X, y, who = rows(600)
    moment = theirs(**bound)
    moment.load_data(X, y, sensitive_features=who["group"], control_features=who["band"])
    ours = BincountMoment([notion(reference="overall", given="band", **bound)])
    ours.load_data(X, y, groups=Groups.from_sensitive(who, given=GIVEN))
    decisions = np.random.default_rng(0).random(len(y))
    # One row a sign, event and group in both; the order within a sign differs.
    np.testing.assert_allclose(
        np.sort(ours.gamma(lambda _: decisions)), np.sort(moment.gamma(lambda _: decisions))
    )
    np.testing.assert_allclose(np.sort(ours.bound()), np.sort(moment.bound()))


@FAIRLEARN
@pytest.mark.parametrize("bound", BOUNDS)
def test_the_whole_reduction_is_fairlearns(bound: dict[str, float]) -> None:
    X, y, who = rows(800)
    base = LogisticRegression()
    theirs = fl.ExponentiatedGradient(base, fl.DemographicParity(**bound), max_iter=8)
    theirs.fit(X, y, sensitive_features=who["group"], control_features=who["band"])
    asked = DemographicParity(reference="overall", given="band", **bound)
    ours = fl.ExponentiatedGradient(Oracle(base), BincountMoment([asked]), max_iter=8)
    ours.fit(X, y, groups=Groups.from_sensitive(who, given=GIVEN))
    np.testing.assert_allclose(ours.weights_.sort_index(), theirs.weights_.sort_index(), atol=1e-9)
    np.testing.assert_allclose(ours._pmf_predict(X), theirs._pmf_predict(X), atol=1e-9)


def test_the_wrapper_needs_no_strata_to_predict() -> None:
    X, y, who = rows(3_000)
    asked = DemographicParity(given="band", difference_bound=0.03)
    model = ReductionsWrapper(LogisticRegression(), asked, random_state=0)
    model.fit(X, y, sensitive_features=who)
    (result,) = model.fairness_report_.results
    assert result.achieved < 0.04
    share = model.decision_proba(X)[:, 1]
    by_cell = pd.Series(share).groupby([who["band"], who["group"]]).mean().unstack()  # noqa: PD010
    assert (by_cell.max(axis=1) - by_cell.min(axis=1)).max() < 0.06
