"""Overlapping subgroups: what is patched, what is kept."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from sklearn.base import clone

from fairtrain import GroupFairnessCalibrator, Multicalibrator
from fairtrain.datasets import make_miscalibrated
from fairtrain.exceptions import InvalidDataError, InvalidParameterError


def bent(n: int = 40_000, seed: int = 0) -> tuple[Any, Any, Any, Any]:
    """A bump in one range of scores of an overlapping subgroup: no logistic map has it."""
    rng = np.random.default_rng(seed)
    who = pd.DataFrame(rng.integers(0, 2, (n, 4)), columns=list("abcd"))
    x = rng.normal(size=n) * 1.2
    bump = 1.2 * np.exp(-((x - 0.8) ** 2) / 0.1) * ((who["a"] == 1) & (who["c"] == 0))
    truth = expit(x + bump.to_numpy())
    return expit(x), (rng.uniform(size=n) < truth).astype(int), who, truth


def largest_z(q: Any, y: Any, who: Any, n_bins: int = 10) -> float:
    worst = 0.0
    b = np.minimum((q * n_bins).astype(int), n_bins - 1)
    for column in who:
        for level in (0, 1):
            mine = (who[column] == level).to_numpy()
            D = np.bincount(b[mine], (y - q)[mine], n_bins)
            V = np.bincount(b[mine], (q * (1 - q))[mine], n_bins)
            worst = max(worst, float((np.abs(D) / np.sqrt(np.maximum(V, 1))).max()))
    return worst


def test_subgroup_cells_get_calibrated_on_new_rows() -> None:
    s, y, who, truth = bent()
    weak = GroupFairnessCalibrator("platt")
    model = Multicalibrator(weak, random_state=0).fit(s, y, who)
    assert model.n_iter_ == len(model.patches_) > 0
    s, y, who, truth = bent(seed=1)
    start, q = model.calibrator_.transform(s, who), model.transform(s, who)
    assert np.abs(q - truth).mean() < 0.9 * np.abs(start - truth).mean()
    assert largest_z(q, y, who) < largest_z(start, y, who)


def test_nothing_is_patched_where_nothing_is_wrong() -> None:
    data = make_miscalibrated(20_000, distortion="one", random_state=0)
    model = Multicalibrator(random_state=0).fit(data.scores, data.y, data.sensitive_features)
    start = model.calibrator_.transform(data.scores, data.sensitive_features)
    q = model.transform(data.scores, data.sensitive_features)
    assert np.abs(q - start).mean() < 0.005


def test_ranking_within_a_group_is_the_scores() -> None:
    s, y, who, _ = bent(15_000)
    model = Multicalibrator(random_state=0).fit(s, y, who)
    grid = np.linspace(0.001, 0.999, 400)
    for levels in np.ndindex(2, 2, 2, 2):
        frame = pd.DataFrame([levels] * 400, columns=list("abcd"))
        assert (np.diff(model.transform(grid, frame)) >= -1e-12).all()


def test_the_model_holds_no_row_repeats_and_takes_new_groups() -> None:
    s, y, who, _ = bent(8000)
    s[77] = canary = 0.123456789012345
    model = Multicalibrator(random_state=0)
    fitted = clone(model).fit(s, y, who)
    saved = pickle.dumps(fitted)
    assert np.float64(canary).tobytes() not in saved
    assert np.float64(logit(canary)).tobytes() not in saved
    again = clone(model).fit(s, y, who)
    np.testing.assert_array_equal(again.transform(s, who), fitted.transform(s, who))
    seen = (who["a"] == 1) | (who["b"] == 1)
    partial = clone(model).fit(s[seen], y[seen], who[seen].reset_index(drop=True))
    assert np.isfinite(partial.transform(s, who)).all()


def test_settings_and_rows_are_checked() -> None:
    s, y, who, _ = bent(200)
    for options, message in [
        ({"z": 0}, "z must be a number above 0"),
        ({"n_bins": 0}, r"n_bins must be a whole number in \[1, 1000\], got 0"),
        ({"validation_fraction": 1}, r"validation_fraction must lie in \(0, 1\), got 1"),
        ({"depth": 0}, "depth must be a whole number >= 1"),
    ]:
        with pytest.raises(InvalidParameterError, match=message):
            Multicalibrator(**options).fit(s, y, who)
    with pytest.raises(InvalidDataError, match="too few to hold out"):
        Multicalibrator(validation_fraction=0.9).fit([0.1, 0.9], [0, 1], ["a", "b"])
    with pytest.raises(InvalidDataError, match="transform needs sensitive_features"):
        Multicalibrator(random_state=0).fit(s, y, who).transform(s)


def test_weights_have_no_unit_and_rows_of_weight_0_are_absent() -> None:
    q, y, who, _ = bent(8000)
    w = np.random.default_rng(3).integers(0, 3, len(y)).astype(float)
    there = np.flatnonzero(w)

    def fitted(rows: Any, weight: Any) -> Any:
        # Isotonic maps do not depend on the unit either; shrunk ones count weights as rows.
        model = Multicalibrator(GroupFairnessCalibrator("isotonic"), random_state=0)
        model.fit(q[rows], y[rows], who.iloc[rows], sample_weight=weight)
        return model.transform(q, who)

    everyone = np.arange(len(y))
    np.testing.assert_allclose(fitted(everyone, None), fitted(everyone, np.full(len(y), 4.0)))
    weighted = fitted(everyone, w)
    np.testing.assert_allclose(weighted, fitted(there, w[there]))
    np.testing.assert_allclose(weighted, fitted(everyone, 0.5 * w))
    assert not np.allclose(weighted, fitted(there, None))
