from __future__ import annotations

import numpy as np
import pytest
from tests.boosting.data import make_rows

from fairtrain.boosting.backend import Settings, TreeData, load_backend
from fairtrain.boosting.crossfit import CrossFitted
from fairtrain.boosting.objective import Lagrangian
from fairtrain.boosting.training import Trained, run_rounds
from fairtrain.constraints import DemographicParity
from fairtrain.data.groups import Groups
from fairtrain.data.splits import stratified_folds
from fairtrain.lagrangian import families_of


class Newton:
    """A booster whose tree has a leaf a row: a tenth of a Newton step of every margin."""

    def __init__(self, training: Lagrangian, spread: float) -> None:
        self.training = training
        self.margin = np.random.default_rng(1).normal(size=len(training.y)) * spread
        self.n_rounds = self.n_plain = 0
        self.can_go_plain = True

    def plain_round(self) -> None:
        self.n_plain += 1
        self._step(self.training.derivatives(self.margin, np.zeros(2)))

    def round(self, derivatives) -> None:
        self.can_go_plain = False
        self._step(derivatives(self.margin))

    def _step(self, found) -> None:
        gradient, hessian = found
        self.margin = self.margin - 0.1 * gradient / hessian
        self.n_rounds += 1

    def training_margin(self):
        return self.margin

    steering_margin = training_margin

    def watched_margin(self, i):
        return -self.margin

    def model(self, n_rounds):
        return n_rounds


def boosted(
    bound: float, *, spread: float = 0.0, watched: bool = False, **settings: object
) -> tuple[Newton, Trained]:
    rng = np.random.default_rng(0)
    group = np.repeat(["a", "b"], 500)
    y = (rng.uniform(size=1000) < np.repeat([0.7, 0.3], 500)).astype(float)
    groups = Groups.from_sensitive(group)
    families = families_of([DemographicParity(difference_bound=bound)], groups.scheme)
    rows = Lagrangian(families, y, groups.codes)
    trees = Newton(rows, spread)
    how = Settings("xgboost", "classification", **{"n_estimators": 40, **settings})
    return trees, run_rounds(trees, families, rows, rows, how, [rows] if watched else [])


def test_while_nothing_costs_anything_the_trees_are_the_boosters_own():
    trees, rounds = boosted(1.0)
    assert trees.n_plain == 40
    assert not rounds.dual.multipliers.values.any()
    assert rounds.history()["feasible"].all()


def test_a_round_records_the_prices_it_was_charged():
    trees, rounds = boosted(0.1)
    history = rounds.history()
    name = "demographic_parity"
    assert trees.n_plain == 1
    assert history[f"price: {name}[a]"].iloc[0] == 0 < history[f"price: {name}[a]"].iloc[1]
    paid = history[f"multipliers: {name}"]
    assert paid.iloc[0] == 0
    np.testing.assert_allclose(paid.iloc[1:], np.ravel(rounds.dual.sums)[:-1])
    over = history[f"gap_held: {name}"] - history[f"bound: {name}"]
    np.testing.assert_allclose(history["worst_excess"], over, atol=1e-12)
    np.testing.assert_allclose(history["feasible"], over <= 1e-9)


def test_the_chosen_round_is_the_most_accurate_that_keeps_the_bound():
    _, rounds = boosted(0.3, spread=1.0)
    history = rounds.history()
    kept = history[history["feasible"] & (history["round"] >= 4)]  # a tenth is a warm-up
    assert 0 < len(kept) < 40
    assert rounds.best.when == kept["held_accuracy"].idxmax()
    assert rounds.n_trees == rounds.best.when + 1
    assert rounds.best.performance == pytest.approx(kept["held_accuracy"].max())


def test_patience_counts_the_rounds_since_the_last_better_one():
    _, rounds = boosted(1.0, patience=3)
    assert len(rounds.records) == rounds.best.when + 1 + 3


def test_the_last_watched_rows_judge_performance():
    _, rounds = boosted(1.0, watched=True)
    history = rounds.history()
    np.testing.assert_allclose(history["eval_0_accuracy"], 1 - history["held_accuracy"])
    assert rounds.best.performance == pytest.approx(history["eval_0_accuracy"].iloc[4:].max())


def test_twins_grow_by_the_same_prices_and_answer_for_their_folds():
    X, y, group = make_rows(400)
    groups = Groups.from_sensitive(group)
    families = families_of([DemographicParity()], groups.scheme)
    rows = Lagrangian(families, y, groups.codes)
    settings = Settings("xgboost", "classification", 5, 3, n_jobs=1)
    folds = stratified_folds([groups.codes, y], 2, np.random.RandomState(0))
    start = load_backend("xgboost").start
    run = CrossFitted(start, TreeData(X, y.astype(float)), settings, folds)
    alone = [start(TreeData(X[a], y[a].astype(float), None, X[h]), settings) for a, h in folds]
    run.plain_round()
    prices = np.array([0.3, -0.3])
    run.round(lambda margin: rows.derivatives(margin, prices))
    for twin, (training, held) in zip(alone, folds, strict=True):
        part = Lagrangian(families, y[training], groups.codes[training])
        twin.plain_round()
        twin.round(lambda margin, part=part: part.derivatives(margin, prices))
        np.testing.assert_allclose(run.steering_margin()[held], twin.steering_margin(), atol=0.02)
    assert run.n_rounds == 2
