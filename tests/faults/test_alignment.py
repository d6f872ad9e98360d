"""Whose row is whose: an argument whose index differs from the first one's is refused everywhere.

Nothing is re-ordered and nothing is ignored: both would pair a person with somebody else's label,
group or weight.
"""

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

import fairtrain
from fairtrain.exceptions import InvalidDataError
from fairtrain.plotting import plot_scores

N = 120
RNG = np.random.default_rng(0)
INDEX = pd.RangeIndex(N)
X = pd.DataFrame(RNG.normal(size=(N, 2)), columns=["a", "b"], index=INDEX)
GROUP = pd.Series(np.arange(N) % 2, index=INDEX, name="group")
Y = pd.Series((X["a"] + RNG.normal(size=N) > 0).astype(int), index=INDEX, name="y")
WEIGHT = pd.Series(RNG.uniform(0.5, 2, N), index=INDEX, name="weight")
SCORE = pd.Series(RNG.uniform(0.05, 0.95, N), index=INDEX, name="score")
DECISION = (SCORE > 0.5).astype(int)

FIT = {"X": X, "y": Y, "sensitive_features": GROUP, "sample_weight": WEIGHT}
JUDGED = {
    "y_true": Y,
    "y_pred": DECISION,
    "sensitive_features": GROUP,
    "sample_weight": WEIGHT,
}
SCORED = {"scores": SCORE, "y": Y, "sensitive_features": GROUP}


def reductions():
    return fairtrain.ReductionsWrapper(LogisticRegression(), difference_bound=0.9)


def boosting(kind=fairtrain.LagrangianBoostingClassifier):
    return kind(difference_bound=0.9, n_estimators=2, random_state=0)


def trainer(kind=fairtrain.LagrangianFairnessTrainer):
    return kind(max_epochs=2, random_state=0)


def evaluate(**rows):
    model = reductions().fit(X, Y, sensitive_features=GROUP)
    return model.evaluate(**rows)


ENTRIES = {
    "ReductionsWrapper.fit": (lambda **rows: reductions().fit(**rows), FIT),
    "ReductionsWrapper.evaluate": (evaluate, FIT),
    "FairPlugInClassifier.fit": (
        lambda **rows: fairtrain.FairPlugInClassifier(LogisticRegression()).fit(**rows),
        FIT,
    ),
    "LagrangianBoostingClassifier.fit": (lambda **rows: boosting().fit(**rows), FIT),
    "LagrangianFairnessTrainer.fit": (lambda **rows: trainer().fit(**rows), FIT),
    "RegularizedFairnessTrainer.fit": (
        lambda **rows: trainer(fairtrain.RegularizedFairnessTrainer).fit(**rows),
        FIT,
    ),
    "AdversarialDebiasingTrainer.fit": (
        lambda **rows: trainer(fairtrain.AdversarialDebiasingTrainer).fit(**rows),
        FIT,
    ),
    "CalibratedFairClassifier.fit": (
        lambda **rows: fairtrain.CalibratedFairClassifier(LogisticRegression()).fit(**rows),
        FIT,
    ),
    "GroupFairnessCalibrator.fit": (
        lambda **rows: fairtrain.GroupFairnessCalibrator().fit(**rows),
        {**SCORED, "sample_weight": WEIGHT},
    ),
    "GroupThresholds.fit": (lambda **rows: fairtrain.GroupThresholds().fit(**rows), SCORED),
    "Multicalibrator.fit": (
        lambda **rows: fairtrain.Multicalibrator().fit(**rows),
        {**SCORED, "sample_weight": WEIGHT},
    ),
    "GroupFairnessCalibrator.transform": (
        lambda **rows: fairtrain.GroupFairnessCalibrator().fit(**SCORED).transform(**rows),
        {"scores": SCORE, "sensitive_features": GROUP},
    ),
    "calibration_audit": (
        lambda **rows: fairtrain.calibration_audit(**rows, n_simulations=20),
        {**SCORED, "sample_weight": WEIGHT},
    ),
    "CalibrationMonitor.update": (
        lambda **rows: fairtrain.CalibrationMonitor().update(**rows),
        SCORED,
    ),
    "fairness_report": (fairtrain.fairness_report, JUDGED),
    "gap": (fairtrain.gap, JUDGED),
    "ratio": (fairtrain.ratio, JUDGED),
    "group_rates": (fairtrain.group_rates, {**JUDGED, "y_score": SCORE}),
    "FairnessMonitor.update": (
        lambda **rows: fairtrain.FairnessMonitor().update(**rows),
        {"y_pred": DECISION, "sensitive_features": GROUP},
    ),
    "plot_scores": (
        plot_scores,
        {"scores": SCORE, "sensitive_features": GROUP},
    ),
    "pareto_frontier": (
        lambda **rows: fairtrain.pareto_frontier(None, etas=[0.0], **rows),
        {"X": X, "y": Y, "sensitive_features": GROUP},
    ),
}
CASES = [(entry, name) for entry, (_, rows) in ENTRIES.items() for name in rows]


@pytest.mark.parametrize(("entry", "name"), CASES)
@pytest.mark.filterwarnings("ignore")
def test_another_index_is_refused(entry, name):
    call, rows = ENTRIES[entry]
    other = rows[name].iloc[::-1]
    with pytest.raises(InvalidDataError, match="carries another index") as caught:
        call(**{**rows, name: other})
    assert "\n" not in str(caught.value)
