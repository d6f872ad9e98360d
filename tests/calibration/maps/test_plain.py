"""Maps against scikit-learn, brute force and by property."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression, minimize
from scipy.special import expit, logit
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from fairtrain.calibration.cells import CLIP, Cells, gather
from fairtrain.calibration.intake import as_logits
from fairtrain.calibration.maps.assignment import PLAIN_METHODS
from fairtrain.calibration.maps.logistic import (
    fit_beta,
    fit_logistic,
    fit_platt,
    fit_temperature,
)
from fairtrain.calibration.maps.steps import (
    distinct_cells,
    fit_histogram,
    fit_isotonic,
    fit_venn_abers,
)
from fairtrain.exceptions import InvalidDataError, InvalidParameterError

tiny_groups = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]) | st.floats(0, 1),
        st.integers(0, 1),
    ),
    min_size=1,
    max_size=40,
)


def rows(n: int = 400, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    s = rng.beta(2, 3, n)
    return s, (rng.uniform(size=n) < expit(0.7 + 1.6 * logit(s))).astype(int)


def one(s: Any, y: Any, weight: Any = None) -> Cells:
    return gather(as_logits(s), y, np.zeros(len(s), dtype=np.int64), 1, weight)


def zeros(n: int) -> Any:
    return np.zeros(n, dtype=np.int64)


@pytest.mark.filterwarnings("ignore:Since FrozenEstimator does not appear:UserWarning")
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("ours", "theirs"), [("platt", "sigmoid"), ("isotonic", "isotonic"), ("temperature", None)]
)
def test_one_group_is_scikit_learn_s(ours: str, theirs: str | None, weighted: bool) -> None:
    s, y = rows()
    x = logit(s)
    weight = np.random.default_rng(1).integers(1, 4, len(s)).astype(float) if weighted else None

    base = LogisticRegression(C=1e9).fit(x[:, None], y)
    base.coef_[:], base.intercept_[:] = 1.0, 0.0  # its decision function is the logit itself
    model = CalibratedClassifierCV(FrozenEstimator(base), method=theirs or "temperature", cv=2)
    if theirs is not None:
        model = CalibratedClassifierCV(FrozenEstimator(base), method=theirs, ensemble=False)
    model.fit(x[:, None], y, sample_weight=weight)
    grid = np.linspace(0.02, 0.98, 60)
    found = PLAIN_METHODS[ours](one(s, y, weight))(logit(grid), zeros(60))
    expected = model.predict_proba(logit(grid)[:, None])[:, 1]
    tolerance = 3e-3 if ours == "temperature" else 2e-5
    np.testing.assert_allclose(found, expected, atol=tolerance)


def test_temperature_maximises_the_likelihood_of_logits_never_of_probabilities() -> None:
    s, y = rows(2000)
    x = logit(s)

    def loss(t: Any) -> float:
        return float(np.sum(np.logaddexp(0, x * t[0]) - y * x * t[0]))

    best = minimize(loss, [1.0]).x[0]
    assert fit_temperature(one(s, y)).slope[0] == pytest.approx(best, abs=1e-4)
    low = fit_temperature(one(s, y))(logit(np.array([0.1])), zeros(1))
    assert low[0] < 0.5  # a sigmoid of a probability could not go there


def test_isotonic_of_many_groups_is_one_fit_each() -> None:
    rng = np.random.default_rng(3)
    s, y = np.round(rng.uniform(size=3000), 2), rng.integers(0, 2, 3000)
    codes = rng.integers(0, 30, 3000)
    maps = fit_isotonic(gather(as_logits(s), y, codes, 31))
    grid = np.linspace(0, 1, 101)
    for g in range(30):
        mine = codes == g
        model = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
        model.fit(as_logits(s[mine]), y[mine])
        found = maps(as_logits(grid), np.full(101, g))
        np.testing.assert_allclose(found, model.predict(as_logits(grid)), atol=1e-9)
    assert not maps.has(np.array([30]))[0]


def test_venn_abers_against_two_isotonic_fits_for_every_new_row() -> None:
    rng = np.random.default_rng(0)
    for trial in range(60):
        n = int(rng.integers(1, 15))
        x, y = np.round(rng.normal(size=n), trial % 3), rng.integers(0, 2, n).astype(float)
        maps = fit_venn_abers(Cells(zeros(n), x, np.ones(n), y, np.ones(n), 1))
        new = np.concatenate([x, x + 0.01, [-9, 9]])
        for label, found in enumerate(maps.pair(new, zeros(len(new)))):
            for score, value in zip(new, found, strict=True):
                scores, labels = np.append(x, score), np.append(y, label)
                _, at = np.unique(scores, return_inverse=True)
                weight = np.bincount(at)
                fit = isotonic_regression(np.bincount(at, labels) / weight, weights=weight).x
                assert value == pytest.approx(fit[at[-1]], abs=1e-12)


def test_beta_recovers_its_own_family_and_rises() -> None:
    rng = np.random.default_rng(0)
    s = rng.uniform(size=100_000)
    truth = expit(0.4 + 0.5 * np.log(s) - 1.7 * np.log1p(-s))
    maps = fit_beta(one(s, (rng.uniform(size=len(s)) < truth).astype(int)))
    assert maps.a[0] == pytest.approx(0.5, abs=0.05)
    assert maps.b[0] == pytest.approx(1.7, abs=0.08)
    falling = fit_beta(one(s[:500], (s[:500] < 0.3).astype(int)))
    assert min(falling.a[0], falling.b[0]) >= 0
    assert (np.diff(falling(logit(np.linspace(0.01, 0.99, 50)), zeros(50))) >= -1e-12).all()


def test_histogram_gives_bins_their_event_rate() -> None:
    s, y = np.arange(100) / 100, (np.arange(100) % 4 == 0).astype(int)
    maps = fit_histogram(one(s, y), n_bins=5)
    for b in range(5):
        inside = np.arange(20 * b, 20 * b + 20)
        np.testing.assert_allclose(maps(as_logits(s[inside]), zeros(20)), y[inside].mean())


def test_pooled_rows_give_the_fit_of_single_rows() -> None:
    rng = np.random.default_rng(0)
    n = 300_000  # above the number of rows that are kept apart
    x, codes = rng.normal(size=n), rng.integers(0, 3, n)
    y = (rng.uniform(size=n) < expit(0.3 * codes + 1.2 * x)).astype(int)
    pooled = gather(x, y, codes, 3)
    assert len(pooled.x) < 5000
    single = Cells(codes, x, np.ones(n), y.astype(float), np.ones(n), 3)
    a, b = fit_platt(pooled), fit_platt(single)
    np.testing.assert_allclose(a.intercept, b.intercept, atol=2e-5)
    np.testing.assert_allclose(a.slope, b.slope, atol=2e-4)
    curves = [fit_isotonic(cells)(x[:999], codes[:999]) for cells in (pooled, single)]
    assert np.abs(curves[0] - curves[1]).mean() < 0.005


def test_one_group_does_not_move_another() -> None:
    rng = np.random.default_rng(0)
    s, y, codes = rng.uniform(size=600), rng.integers(0, 2, 600), rng.integers(0, 6, 600)
    grid = np.linspace(0.01, 0.99, 20)
    for fit in PLAIN_METHODS.values():
        together = fit(gather(as_logits(s), y, codes, 6))
        alone = fit(one(s[codes == 4], y[codes == 4]))
        np.testing.assert_allclose(
            together(logit(grid), np.full(20, 4)), alone(logit(grid), zeros(20)), atol=1e-7
        )


@settings(max_examples=60)
@given(tiny_groups)
def test_tiny_groups_give_finite_rising_probabilities(data: Any) -> None:
    codes, s, y = (np.array(column) for column in zip(*data, strict=True))
    cells = gather(as_logits(s), y, codes, 4)
    grid = np.linspace(0, 1, 23)
    for name, fit in PLAIN_METHODS.items():
        maps = fit(cells)
        for g in set(codes.tolist()):
            q = maps(as_logits(grid), np.full(23, g))
            assert np.isfinite(q).all()
            assert (q >= 0).all()
            assert (q <= 1).all()
            if name in ("isotonic", "temperature", "beta", "venn_abers"):
                assert (np.diff(q) >= -1e-9).all(), name


def test_separated_and_constant_scores_end() -> None:
    s = np.array([0.1, 0.2, 0.8, 0.9])
    maps = fit_platt(one(s, np.array([0, 0, 1, 1])))
    assert np.isfinite([maps.intercept[0], maps.slope[0]]).all()
    flat = fit_platt(one(np.full(50, 0.3), np.arange(50) % 2))
    np.testing.assert_allclose(flat(logit(np.array([0.3])), zeros(1)), 0.5, atol=1e-6)


def test_events_may_be_fractions_and_coefficients_fixed() -> None:
    x = np.linspace(-2, 2, 50)
    cells = Cells(zeros(50), x, np.ones(50), expit(1 + 2 * x), np.ones(50), 1)
    found = fit_logistic(cells, (np.ones(50), x), np.array([0.0, 1.0]))
    np.testing.assert_allclose(found[0], [1, 2], atol=1e-6)
    free = np.array([[True, False]])
    fixed = fit_logistic(cells, (np.ones(50), x), np.array([0.0, 1.0]), free=free)
    assert fixed[0, 1] == 1.0
    residual = cells.events - expit(fixed[0, 0] + x)
    assert abs(residual.sum()) < 1e-6


def test_equal_logits_are_pooled() -> None:
    cells = distinct_cells(one([0.5, 0.2, 0.5], np.array([1, 0, 0])))
    assert cells.weight.tolist() == [1, 2]
    assert cells.events.tolist() == [0, 1]


def test_scores_of_0_and_1_are_clipped_and_others_refused() -> None:
    np.testing.assert_allclose(expit(as_logits([0.0, 1.0])), [CLIP, 1 - CLIP])
    np.testing.assert_allclose(as_logits([0.5, -40.0], scale="logit"), [0.5, logit(CLIP)])
    with pytest.raises(InvalidDataError, match=r"in \[0, 1\], got -2 to 3.1; pass scale='logit'"):
        as_logits([-2.0, 3.1])
    with pytest.raises(InvalidDataError, match="NaN"):
        as_logits([0.2, np.nan])
    with pytest.raises(InvalidParameterError, match="'probability' or 'logit', got 'odds'"):
        as_logits([0.2], scale="odds")
