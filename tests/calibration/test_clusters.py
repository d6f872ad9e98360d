"""Calibration where rows come in clusters: tests keep their level, maps fold clusters whole."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from fairtrain import (
    CalibratedFairClassifier,
    GroupFairnessCalibrator,
    Multicalibrator,
    calibration_audit,
)
from fairtrain.calibration.cells import Cells
from fairtrain.calibration.intake import read_scored
from fairtrain.exceptions import InvalidParameterError


def scored(
    seed: int, n: int = 1000, size: int = 20
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Perfectly calibrated scores whose outcomes agree within clusters."""
    rng = np.random.default_rng(seed)
    cluster = np.arange(n) // size
    group = np.array(list("ab"))[cluster % 2]
    scores = rng.uniform(0.2, 0.8, n)
    common = rng.random(cluster[-1] + 1)[cluster]
    y = (np.where(rng.random(n) < 0.7, common, rng.random(n)) < scores).astype(int)
    return scores, y, group, cluster


def test_an_audit_keeps_its_level_and_counts_what_rows_are_worth() -> None:
    ignored, counted = [], []
    for seed in range(25):
        scores, y, group, cluster = scored(seed)
        alone, found = (
            calibration_audit(scores, y, group, clusters=c, n_simulations=40, random_state=0).groups
            for c in (None, cluster)
        )
        assert (found["effective_rows"] < 0.5 * found["rows"]).all()
        ignored.append(alone["calibration_p"] < 0.05)
        counted.append(found["calibration_p"] < 0.05)
    assert np.mean(counted) <= 0.12
    assert np.mean(ignored) >= 0.3


def test_cells_are_worth_fewer_rows_where_residuals_agree() -> None:
    scores, y, group, cluster = scored(0)
    alone, found = (Cells.of(read_scored(scores, y, group, clusters=c)) for c in (None, cluster))
    assert (found.effective < 0.5 * alone.effective).all()
    np.testing.assert_array_equal(found.events, alone.events)


def test_calibrators_take_clusters() -> None:
    scores, y, group, cluster = scored(1)
    together = GroupFairnessCalibrator(random_state=0).fit(scores, y, group, clusters=cluster)
    assert np.isfinite(together.transform(scores, group)).all()
    many = Multicalibrator(random_state=0).fit(scores, y, group, clusters=cluster)
    assert np.isfinite(many.transform(scores, group)).all()


def test_held_out_scores_are_of_other_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, y, group, cluster = scored(2)
    folds: list[set[int]] = []
    plain = LogisticRegression.fit

    def fit(self: LogisticRegression, X: np.ndarray, *rest: object, **more: object) -> object:
        folds.append(set(X[:, 1].astype(int).tolist()))
        return plain(self, X, *rest, **more)

    monkeypatch.setattr(LogisticRegression, "fit", fit)
    X = np.stack([scores, cluster], axis=1)
    model = CalibratedFairClassifier(LogisticRegression(), cv=2, random_state=0)
    model.fit(X, y, sensitive_features=group, clusters=cluster)
    assert not folds[0] & folds[1]
    with pytest.raises(InvalidParameterError, match="pass its values"):
        model.fit(X, y, sensitive_features=group, clusters="branch")
