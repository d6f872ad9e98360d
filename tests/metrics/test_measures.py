from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fairlearn.metrics import MetricFrame
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, log_loss, precision_score, recall_score

from fairtrain import Groups, group_rates
from fairtrain.exceptions import FairtrainError, InvalidDataError, InvalidParameterError
from fairtrain.metrics.measures import MEASURES


def selection(y: Any, p: Any, sample_weight: Any = None) -> float:
    return float(np.average(np.asarray(p) == 1, weights=sample_weight))


def _share(hit: Any, inside: Any, weight: Any) -> float:
    weight = np.ones(len(hit)) if weight is None else np.asarray(weight)
    total = weight[inside].sum()
    return float((weight * hit)[inside].sum() / total) if total else np.nan


ORACLES: dict[str, Callable[..., float]] = {
    "accuracy": accuracy_score,
    "error_rate": lambda y, p, sample_weight=None: (
        1 - accuracy_score(y, p, sample_weight=sample_weight)
    ),
    "selection_rate": selection,
    "true_positive_rate": lambda y, p, sample_weight=None: recall_score(
        y, p, sample_weight=sample_weight, zero_division=np.nan
    ),
    "false_positive_rate": lambda y, p, sample_weight=None: _share(p == 1, y == 0, sample_weight),
    "positive_predictive_value": lambda y, p, sample_weight=None: precision_score(
        y, p, sample_weight=sample_weight, zero_division=np.nan
    ),
}

row = st.tuples(st.integers(0, 1), st.integers(0, 1), st.sampled_from("abcd"), st.floats(0.1, 10))


def oracle(metric: str, y: Any, p: Any, group: Any, weight: Any = None) -> dict[str, float]:
    params = None if weight is None else {"sample_weight": weight}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scikit-learn, where a rate is undefined
        frame = MetricFrame(
            metrics=ORACLES[metric],
            y_true=y,
            y_pred=p,
            sensitive_features=group,
            sample_params=params,
        )
    return dict(frame.by_group)


@pytest.mark.parametrize("metric", sorted(ORACLES))
@pytest.mark.parametrize("weighted", [False, True])
@settings(deadline=None, max_examples=15)
@given(st.lists(row, min_size=2, max_size=40))
def test_rates_are_those_of_metric_frame(metric: str, weighted: bool, rows: list[Any]) -> None:
    y, p, group, weight = (np.array(column) for column in zip(*rows, strict=True))
    chosen = weight if weighted else None
    ours = group_rates(y, p, group, metrics=metric, sample_weight=chosen)
    expected = oracle(metric, y, p, group, chosen)
    assert ours["group"].tolist() == sorted(expected)
    np.testing.assert_allclose(
        ours["rate"], [expected[g] for g in ours["group"]], rtol=0, atol=1e-12
    )


@settings(deadline=None, max_examples=30)
@given(st.lists(row, min_size=1, max_size=40))
def test_counts_are_the_rows_that_enter_a_rate(rows: list[Any]) -> None:
    y, p, group, _ = (np.array(column) for column in zip(*rows, strict=True))
    frame = group_rates(y, p, group).set_index(["metric", "group"])["count"]
    for name in np.unique(group):
        own = group == name
        assert frame["selection_rate", name] == frame["accuracy", name] == own.sum()
        assert frame["true_positive_rate", name] == (own & (y == 1)).sum()
        assert frame["false_positive_rate", name] == (own & (y == 0)).sum()
        assert frame["positive_predictive_value", name] == (own & (p == 1)).sum()


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(row, st.floats(0.01, 0.99)), min_size=1, max_size=30))
def test_scores_and_their_loss(rows: list[Any]) -> None:
    y, p, group, _ = (np.array(column) for column in zip(*(r for r, _ in rows), strict=True))
    score = np.array([s for _, s in rows])
    frame = group_rates(y, p, group, y_score=score).set_index(["metric", "group"])["rate"]
    for name in np.unique(group):
        own = group == name
        assert frame["mean_score", name] == pytest.approx(score[own].mean(), abs=1e-12)
        expected = log_loss(y[own], score[own], labels=[0, 1])
        assert frame["log_loss", name] == pytest.approx(expected, abs=1e-12)


def test_a_weight_is_a_number_of_copies() -> None:
    rng = np.random.default_rng(0)
    y, p, weight = rng.integers(0, 2, 60), rng.integers(0, 2, 60), rng.integers(0, 4, 60)
    group = rng.choice(["a", "b"], 60)
    weighted = group_rates(y, p, group, sample_weight=weight)
    copies = group_rates(*(np.repeat(v, weight) for v in (y, p, group)))
    np.testing.assert_allclose(weighted["rate"], copies["rate"], atol=1e-12)
    assert (weighted["count"] <= copies["count"]).all()  # copies are no evidence
    assert (weighted["upper"] - weighted["lower"] >= copies["upper"] - copies["lower"]).all()


@pytest.mark.parametrize("metric", ["accuracy", "selection_rate", "true_positive_rate"])
def test_probabilities_are_expected_decisions(metric: str) -> None:
    rng = np.random.default_rng(1)
    y, q, group = rng.integers(0, 2, 50), rng.random(50), rng.choice(["a", "b"], 50)
    expected = group_rates(y, q, group, metrics=metric)["rate"]
    drawn = [
        group_rates(y, (rng.random(50) < q).astype(int), group, metrics=metric)["rate"]
        for _ in range(400)
    ]
    np.testing.assert_allclose(np.mean(drawn, axis=0), expected, atol=0.03)


def test_probabilities_go_with_any_labels_and_with_none() -> None:
    q, group = [0.25, 0.75, 0.5, 1.0], ["a", "a", "b", "b"]
    for y, label in (([0, 1, 0, 1], 1), ([-1, 1, -1, 1], 1), (list("nyny"), "y"), (None, None)):
        frame = group_rates(y, q, group, metrics="selection_rate", positive_label=label)
        assert frame["rate"].tolist() == [0.5, 0.75]


def test_decisions_written_as_floats_are_labels_not_probabilities() -> None:
    frame = group_rates(
        [1, 1, 1], [0.0, 1.0, 1.0], list("aaa"), metrics="selection_rate", positive_label=0
    )
    assert frame["rate"].tolist() == pytest.approx([1 / 3])


def test_batch_that_lacks_a_group_does_not_relabel_the_others() -> None:
    scheme = Groups.from_sensitive(["a", "b", "c"]).scheme
    batch = Groups(scheme, scheme.encode(["b", "c", "c"]))
    frame = group_rates([1, 0, 1], [1, 0, 1], batch, metrics="selection_rate")
    assert frame["group"].tolist() == ["a", "b", "c"]
    assert frame["count"].tolist() == [0, 1, 2]
    assert np.isnan(frame.loc[0, ["rate", "lower", "upper"]].astype(float)).all()
    assert frame["rate"].tolist()[1:] == [1.0, 0.5]


def test_rows_of_no_group_are_left_out() -> None:
    scheme = Groups.from_sensitive(["a", "b"]).scheme
    groups = Groups(scheme, scheme.encode(["a", "z", "b"], unseen="ignore"))
    frame = group_rates([1, 1, 1], [1, 1, 0], groups, metrics="selection_rate")
    assert frame["count"].tolist() == [1, 1]


def test_permuted_sensitive_features_are_refused() -> None:
    y = pd.Series([1, 1, 0, 0], index=list("pqrs"))
    sensitive = pd.Series(["a", "a", "b", "b"], index=y.index)
    with pytest.raises(InvalidDataError, match="sensitive_features carries another index"):
        group_rates(y, y, sensitive.iloc[[3, 1, 0, 2]])


def test_none_in_a_sensitive_column_is_no_silent_group() -> None:
    with pytest.raises(InvalidDataError, match="missing values"):
        group_rates([1, 0], [1, 0], ["a", None])
    frame = group_rates([1, 0], [1, 0], ["a", None], missing="group", metrics="accuracy")
    assert frame["group"].tolist() == ["a", "(missing)"]


@pytest.mark.parametrize("metric", ["selection_rate", "true_positive_rate", "mean_score"])
def test_text_labels_need_the_favourable_one_named(metric: str) -> None:
    y, group, score = ["deny", "approve"] * 2, list("aabb"), [0.1, 0.9] * 2
    with pytest.raises(InvalidParameterError, match="positive_label is missing"):
        group_rates(y, y, group, metrics=metric, y_score=score)
    named = group_rates(y, y, group, metrics=metric, y_score=score, positive_label="approve")
    assert named["rate"].notna().all()


@pytest.mark.parametrize("metric", ["accuracy", "error_rate"])
def test_notions_that_treat_labels_alike_need_no_name(metric: str) -> None:
    frame = group_rates(["n", "y"], ["n", "n"], ["a", "a"], metrics=metric)
    assert frame["rate"].tolist() == [0.5]


@pytest.mark.parametrize("labels", [(0, 1), (-1, 1), (False, True), (0.0, 1.0)])
@pytest.mark.parametrize("y", [[0, 0], [1, 1], [0, 1]])
def test_plain_labels_go_without_a_name(labels: tuple[Any, Any], y: list[int]) -> None:
    named = [labels[i] for i in y]
    frame = group_rates(named, named, ["a", "a"], metrics="selection_rate")
    assert frame["rate"].tolist() == [np.mean(y)]


@pytest.mark.parametrize(
    ("arguments", "settings", "error"),
    [
        (([0, 1], [0, 1], ["a"]), {}, "sensitive_features has 1 rows, expected 2"),
        (([0], [0, 1], ["a", "b"]), {}, "y_true has 1 rows, expected 2"),
        (([0, 1], [0, 1], ["a", "b"]), {"metrics": "auc"}, "unknown metric 'auc'; known: acc"),
        (([0, 1], [0, 1], ["a", "b"]), {"metrics": []}, "metrics is empty"),
        (([0, 1], [0, 1], ["a", "b"]), {"metrics": "log_loss"}, "log_loss needs y_score"),
        (([0, 1], [0, 1], ["a", "b"]), {"over": "sex"}, "'sex' is not a sensitive column"),
        (([0, 1], [0, 1], ["a", "b"]), {"confidence": 1.0}, "confidence must"),
        (([0, 1], [0, 1], ["a", "b"]), {"y_score": [0.5, 1.5]}, "probabilities in \\[0, 1\\]"),
        (([0, 1], [0, 1], ["a", "b"]), {"y_score": [0.5]}, "y_score has 1 rows"),
        (([0, 1], [0, 1], ["a", "b"]), {"y_score": [0.5, np.nan]}, "y_score contains NaN"),
        (([0, 1], [0, 1], ["a", "b"]), {"positive_label": "yes"}, "'yes' is none of"),
        (([0, 1], [0, np.nan], ["a", "b"]), {}, "y_pred contains missing values"),
        ((["y", np.nan], ["y", "n"], ["a", "b"]), {}, "y_true contains missing values"),
        (([0, 1, 2], [0, 1, 2], list("aab")), {}, "hold 3 labels, expected two"),
        (([0, 1], [-2.5, 3.1], ["a", "b"]), {}, "scores belong in y_score"),
        ((None, [0, 1], ["a", "b"]), {"metrics": "accuracy"}, "accuracy needs y_true"),
        (([], [], []), {}, "no rows"),
    ],
)
def test_input_that_cannot_be_used(arguments: Any, settings: dict[str, Any], error: str) -> None:
    with pytest.raises(FairtrainError, match=error):
        group_rates(*arguments, **settings)


def test_continuous_labels_are_refused_at_once() -> None:
    values = np.random.default_rng(0).normal(size=200_000)
    with pytest.raises(InvalidDataError, match="expected two"):
        group_rates(values, values, np.zeros(len(values), dtype=int))


def test_without_labels_only_what_needs_none() -> None:
    frame = group_rates(None, [1, 0, 1], list("aab"), y_score=[0.9, 0.1, 0.5])
    assert set(frame["metric"]) == {"selection_rate", "mean_score"}


@pytest.mark.parametrize("metric", sorted(set(MEASURES) - {"log_loss"}))
def test_limits_hold_the_rate(metric: str) -> None:
    rng = np.random.default_rng(2)
    y, p, group = rng.integers(0, 2, 90), rng.integers(0, 2, 90), rng.choice(["a", "b"], 90)
    frame = group_rates(y, p, group, metrics=metric, y_score=rng.random(90))
    wider = group_rates(y, p, group, metrics=metric, y_score=rng.random(90), confidence=0.99)
    assert ((frame["lower"] < frame["rate"]) & (frame["rate"] < frame["upper"])).all()
    assert (frame["lower"] >= 0).all()
    assert (frame["upper"] <= 1).all()
    if metric != "mean_score":
        assert (wider["upper"] > frame["upper"]).all()
