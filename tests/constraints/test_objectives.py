"""What is optimised: read from whatever names it, and worth what scikit-learn says."""

from __future__ import annotations

import pickle
from functools import partial
from typing import Any

import numpy as np
import pytest
from fairlearn.reductions import ErrorRate
from sklearn import metrics

from fairtrain.constraints import ErrorCosts, as_costs, as_objective
from fairtrain.data.labels import LabelCoding
from fairtrain.exceptions import InvalidDataError, InvalidParameterError

OURS_AND_THEIRS = [
    ("accuracy", metrics.accuracy_score, False),
    ("balanced_accuracy", metrics.balanced_accuracy_score, False),
    ("f1", metrics.f1_score, False),
    ("auc", metrics.roc_auc_score, True),
    ("log_loss", metrics.log_loss, True),
]


def rows(seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    score = np.round(rng.random(200), 2)  # with ties
    return rng.integers(0, 2, 200), (score > 0.5).astype(int), score, rng.integers(1, 4, 200)


@pytest.mark.parametrize(("name", "theirs", "scored"), OURS_AND_THEIRS)
def test_values_are_those_of_scikit_learn(name: str, theirs: Any, scored: bool) -> None:
    y, decision, score, weight = rows()
    score = score.clip(0.01, 0.99)
    value = as_objective(name)(y, decision, score, weight)
    expected = theirs(y, score if scored else decision, sample_weight=weight)
    assert value == pytest.approx(-expected if name == "log_loss" else expected)
    heavier = as_objective(name)(*(np.repeat(c, weight) for c in (y, decision, score)))
    assert value == pytest.approx(heavier)


def test_functions_of_scikit_learn_are_objectives_too() -> None:
    y, decision, score, weight = rows(1)
    for ours, theirs in (
        (metrics.f1_score, "f1"),
        (metrics.roc_auc_score, "auc"),
        (partial(metrics.fbeta_score, beta=1), "f1"),
    ):
        read = as_objective(ours)
        assert read(y, decision, score, weight) == pytest.approx(
            as_objective(theirs)(y, decision, score, weight)
        )
    plain = as_objective(lambda y, decision, weight: weight @ (y == decision) / weight.sum())
    drawn = np.where(score > 0.8, 0.3, decision)  # by lot: the mean over both decisions
    assert plain(y, drawn, weight=weight) == pytest.approx(
        as_objective("accuracy")(y, drawn, weight=weight)
    )


@pytest.mark.parametrize(
    "spec",
    [
        {"false_negative": 4},
        ErrorCosts(1, 4),
        ErrorRate(costs={"fp": 1, "fn": 4}),
        {"yes": 4.0},
        [[1, 2], [4, 0]],  # 2 - 1 and 4 - 0: a right decision may cost something
    ],
    ids=["names", "object", "fairlearn", "label", "matrix"],
)
def test_costs_are_read_from_whatever_names_them(spec: Any) -> None:
    labels = LabelCoding.read(["no", "yes"], "yes")[1]
    objective = as_objective(spec, labels)
    assert objective.costs(0.3) == as_costs(spec, labels) == ErrorCosts(1, 4)
    y, decision = [1, 1, 0, 0], [0, 1, 1, 0]
    assert objective(y, decision) == -(4 + 1) / 4
    assert objective.best_constant(y) == -0.5  # all favourable: two false positives of four
    assert pickle.loads(pickle.dumps(objective))(y, decision) == objective(y, decision)


def test_a_matrix_is_in_the_order_of_the_sorted_labels() -> None:
    approve_first = LabelCoding.read(["approve", "deny"], "approve")[1]
    assert as_costs([[0, 5], [1, 0]], approve_first) == ErrorCosts(1, 5)
    assert as_costs([[0, 5], [1, 0]]) == ErrorCosts(5, 1)


def test_balanced_accuracy_is_a_matter_of_costs() -> None:
    y, decision, _, _ = rows(2)
    share = y.mean()
    objective = as_objective("balanced_accuracy")
    costs = objective.costs(share)
    cost = as_objective(costs)(y, decision)
    assert objective(y, decision) == pytest.approx(1 + cost / (2 * share * (1 - share)))
    low, high = costs.relative(share)
    assert share * high + (1 - share) * low == pytest.approx(1)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("money", "one of 'accuracy', 'balanced_accuracy', 'f1', 'auc', 'log_loss'"),
        ({"maybe": 1}, "objective must be"),
        ({}, "objective must be"),
        ([[0, 1, 2], [1, 0, 2]], "objective must be"),
        ([["a", "b"], ["c", "d"]], "objective must be"),
        ([[3, 1], [1, 0]], "may not cost less than the right decision"),
        (lambda y, d: 1.0, r"must take \(y, decision, weight\)"),
        (metrics.f1_score.__class__, "objective must be"),
        (3, "objective must be"),
    ],
)
def test_what_is_no_objective(spec: Any, says: str) -> None:
    with pytest.raises(InvalidParameterError, match=says):
        as_objective(spec, LabelCoding.read(["no", "yes"], "yes")[1])


def test_a_function_gives_one_number() -> None:
    with pytest.raises(InvalidDataError, match="must give one number"):
        as_objective(lambda y, decision, weight: y)([1], [1])
    with pytest.raises(InvalidParameterError, match=r"got 'f1'; FairPlugInClassifier and"):
        as_costs("f1")
    assert np.isnan(as_objective("auc")([1, 1], [0, 1], [0.2, 0.3]))
