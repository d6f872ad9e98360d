"""The shrunk maps: simulated truth, limits, symmetries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from fairtrain.calibration.cells import Cells, gather
from fairtrain.calibration.intake import as_logits
from fairtrain.calibration.maps.curvature import curvature_test, fit_curvature
from fairtrain.calibration.maps.hierarchical import fit_hierarchy
from fairtrain.calibration.maps.logistic import fit_platt
from fairtrain.data.groups import Groups
from fairtrain.datasets import make_miscalibrated
from fairtrain.exceptions import InvalidParameterError


def fitted(data: Any, **settings: Any) -> tuple[Cells, Groups, Any]:
    groups = Groups.from_sensitive(data.sensitive_features)
    cells = gather(as_logits(data.scores), data.y, groups.codes, len(groups))
    sizes = [len(levels) for levels in groups.scheme.levels]
    return cells, groups, fit_hierarchy(cells, groups.level_codes, sizes, **settings)


def test_the_mode_is_a_mode() -> None:
    """Finite differences of the penalised likelihood vanish at the fit."""
    data = make_miscalibrated(3000, random_state=0)
    cells, groups, found = fitted(data)
    sizes = [len(levels) for levels in found.levels]

    def objective(flat: Any) -> float:
        overall, *levels, own = np.split(flat.reshape(-1, 2), np.cumsum([1, *sizes]).tolist())
        total = overall + own + sum(e[groups.level_codes[:, j]] for j, e in enumerate(levels))
        eta = total[cells.group, 0] + total[cells.group, 1] * (cells.x - found.centre)
        penalty = sum(
            (e**2 / v).sum() for e, v in zip([*levels, own], found.variances, strict=True)
        )
        return float(np.sum(cells.events * eta - np.logaddexp(0, eta)) - penalty / 2)

    at = np.concatenate([found.overall[None], *found.levels, found.own]).ravel()
    slopes = [
        (objective(at + 1e-5 * unit) - objective(at - 1e-5 * unit)) / 2e-5
        for unit in np.eye(len(at))
    ]
    assert np.abs(slopes).max() < 0.05  # the likelihood's own scale is thousands


def test_no_shrinkage_is_one_fit_a_group_and_full_shrinkage_one_for_all() -> None:
    data = make_miscalibrated(30_000, smallest=400, random_state=0)
    cells, groups, free = fitted(data, prior_levels=1e6, prior_variance=1e6)
    every = np.arange(len(groups))
    alone = fit_platt(cells)
    coefficients = free.coefficients(groups.level_codes, every)
    np.testing.assert_allclose(coefficients[:, 0], alone.intercept, atol=0.05)
    np.testing.assert_allclose(coefficients[:, 1], alone.slope, atol=0.05)
    _, _, tied = fitted(data, prior_levels=1e6, prior_variance=1e-9)
    together = fit_platt(cells.merged(np.zeros(len(groups), dtype=np.int64), 1))
    coefficients = tied.coefficients(groups.level_codes, every)
    np.testing.assert_allclose(coefficients[:, 0], together.intercept[0], atol=1e-3)
    np.testing.assert_allclose(coefficients[:, 1], together.slope[0], atol=1e-3)


def test_spread_is_what_new_samples_show() -> None:
    """Posterior standard deviations match the errors of intercepts over simulations."""
    ratios = []
    for seed in range(12):
        data = make_miscalibrated(20_000, distortion="own", random_state=seed)
        _, groups, found = fitted(data)
        table = data.groups.set_index(list(data.sensitive_features.columns))
        order = [tuple(name.split("/")) for name in groups.names]
        truth = table.loc[order]
        coefficients = found.coefficients(groups.level_codes, np.arange(len(groups)))
        at_centre = coefficients[:, 0] + coefficients[:, 1] * found.centre
        error = at_centre - (truth["intercept"] + truth["slope"] * found.centre).to_numpy()
        ratios.append(error / np.sqrt(found.spread[:, 0, 0]))
    assert 0.8 < np.std(ratios) < 1.3


def test_levels_that_differ_get_a_variance_and_others_almost_none() -> None:
    rng = np.random.default_rng(0)
    n = 20_000
    race, sex = rng.integers(0, 6, n), rng.integers(0, 2, n)
    shift = np.array([-1.5, -0.8, 0.0, 0.5, 1.0, 1.6])
    x = rng.normal(size=n)
    y = (rng.uniform(size=n) < expit(shift[race] + x)).astype(int)
    groups = Groups.from_sensitive({"race": race, "sex": sex})
    found = fit_hierarchy(gather(x, y, groups.codes, 12), groups.level_codes, [6, 2])
    assert found.variances[0, 0] == pytest.approx(shift.var(), rel=0.5)
    assert found.variances[1:, 0].max() < 0.02
    np.testing.assert_allclose(
        found.levels[0][:, 0] - found.levels[0][:, 0].mean(), shift - shift.mean(), atol=0.15
    )


def test_an_unseen_intersection_inherits_its_levels() -> None:
    data = make_miscalibrated(40_000, random_state=3)
    cells, groups, _ = fitted(data)
    hidden = int(np.argmax(groups.counts))
    kept = cells.group != hidden
    without = fit_hierarchy(cells.take(kept), groups.level_codes, [2, 3, 2])
    guess = without.coefficients(groups.level_codes[[hidden]])
    own = fit_platt(cells)
    assert guess[0, 0] == pytest.approx(own.intercept[hidden], abs=0.25)
    nobody = without.coefficients(np.full((1, 3), -1))
    np.testing.assert_allclose(nobody[0, 1], without.overall[1])


def test_one_row_and_one_label_groups_stay_near_the_others() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=3000)
    codes = np.repeat([0, 1, 2], [2980, 1, 19])
    y = (rng.uniform(size=3000) < expit(0.5 + x)).astype(int)
    y[codes == 2] = 1
    found = fit_hierarchy(gather(x, y, codes, 3), np.arange(3)[:, None], [3])
    coefficients = found.coefficients(np.arange(3)[:, None], np.arange(3))
    assert np.isfinite(coefficients).all()
    assert np.abs(coefficients - coefficients[0])[1].max() < 1.0
    assert 0.9 < expit(coefficients[2, 0]) < 0.999


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.integers(0, 1),
            st.sampled_from([0.0, 0.2, 0.7, 1.0]),
            st.integers(0, 1),
        ),
        min_size=1,
        max_size=25,
    )
)
def test_tiny_data_end_in_finite_rising_maps(rows: Any) -> None:
    race, sex, s, y = (np.array(column) for column in zip(*rows, strict=True))
    groups = Groups.from_sensitive({"race": race, "sex": sex})
    sizes = [len(levels) for levels in groups.scheme.levels]
    found = fit_hierarchy(
        gather(as_logits(s), y, groups.codes, len(groups)), groups.level_codes, sizes
    )
    coefficients = found.coefficients(groups.level_codes, np.arange(len(groups)))
    assert np.isfinite(coefficients).all()
    assert (coefficients[:, 1] > 0).all()


def test_curvature_is_seldom_found_where_there_is_none_and_often_where_there_is() -> None:
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(400), 500)
    x = rng.normal(size=len(codes)) * 1.3
    cells = gather(x, (rng.uniform(size=len(x)) < expit(x)).astype(int), codes, 400)
    assert 0.02 < (curvature_test(cells, cells.x) < 0.05).mean() < 0.08
    shrunk = curvature_test(cells, 0.8 * cells.x + 0.2)  # a wrong line is no curvature
    assert 0.02 < (shrunk < 0.05).mean() < 0.09
    wave = expit(x + 0.6 * np.sin(1.5 * x) - 0.6 * x)
    curved = gather(x, (rng.uniform(size=len(x)) < wave).astype(int), codes, 400)
    assert (curvature_test(curved, curved.x) < 0.05).mean() > 0.5


def test_curves_help_where_there_is_curvature_and_keep_quiet_elsewhere() -> None:
    def population_error(distortion: Any, corrected: bool) -> float:
        found = []
        for seed in range(3):
            data = make_miscalibrated(distortion=distortion, random_state=seed)
            fresh = data.fresh(500, random_state=seed + 100)
            cells, groups, hierarchy = fitted(data)
            coefficients = hierarchy.coefficients(groups.level_codes, np.arange(len(groups)))
            a, b = coefficients[cells.group].T
            curvature = fit_curvature(cells, a + b * cells.x)
            codes = groups.encode(fresh.sensitive_features)
            a, b = coefficients[codes].T
            eta = a + b * logit(fresh.scores)
            q = curvature(eta, codes) if corrected else expit(eta)
            rows = data.groups["rows"].to_numpy()
            found.append(fresh.group_errors(q) @ rows / rows.sum())
        return float(np.mean(found))

    assert population_error("nonlinear", True) < 0.6 * population_error("nonlinear", False)
    assert population_error("additive", True) < population_error("additive", False) + 0.001


def test_the_simulation_says_what_it_does() -> None:
    data = make_miscalibrated(50_000, distortion="own", random_state=0)
    assert data.groups["rows"].sum() == len(data) == 50_000
    assert data.groups["rows"].min() == 20
    np.testing.assert_allclose(np.bincount(data.codes), data.groups["rows"])
    big = data.groups["rows"].argmax()
    mine = data.codes == big
    assert data.y[mine].mean() == pytest.approx(data.true_probability[mine].mean(), abs=0.02)
    a, b = data.groups.loc[big, ["intercept", "slope"]]
    np.testing.assert_allclose(data.true_probability[mine], expit(a + b * logit(data.scores[mine])))
    calm = make_miscalibrated(2000, strength=0.0, random_state=0)
    np.testing.assert_allclose(calm.true_probability, calm.scores)
    again = make_miscalibrated(50_000, distortion="own", random_state=0)
    np.testing.assert_array_equal(data.y, again.y)
    with pytest.raises(InvalidParameterError, match="distortion must be one of additive"):
        make_miscalibrated(distortion="none")
    with pytest.raises(InvalidParameterError, match="too small for 12 groups"):
        make_miscalibrated(100)
