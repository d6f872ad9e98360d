"""Scores, outcomes, people and weights are read once, and stay together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from fairtrain import (
    CalibratedFairClassifier,
    GroupFairnessCalibrator,
    GroupThresholds,
    Multicalibrator,
    calibration_audit,
    threshold_effects,
)
from fairtrain.calibration import distill
from fairtrain.calibration.intake import read_scored
from fairtrain.exceptions import InvalidDataError, InvalidParameterError


def columns(n: int = 400) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    index = pd.Index([f"person {i}" for i in range(n)])
    scores = pd.Series(rng.uniform(0.05, 0.95, n), index=index)
    return {
        "scores": scores,
        "y": (scores > rng.uniform(size=n)).astype(int),
        "sensitive_features": pd.Series(rng.choice(["a", "b"], n), index=index),
        "sample_weight": pd.Series(rng.uniform(0.5, 2, n), index=index),
        "X": pd.DataFrame({"x": rng.normal(size=n)}, index=index),
    }


ENTRIES: dict[str, tuple[Callable[..., Any], list[str]]] = {
    "calibrator": (
        GroupFairnessCalibrator().fit,
        ["scores", "y", "sensitive_features", "sample_weight"],
    ),
    "multicalibrator": (Multicalibrator().fit, ["scores", "y", "sensitive_features"]),
    "audit": (calibration_audit, ["scores", "y", "sensitive_features"]),
    "classifier": (
        CalibratedFairClassifier(LogisticRegression()).fit,
        ["X", "y", "sensitive_features", "sample_weight"],
    ),
    "thresholds": (GroupThresholds().fit, ["scores", "y", "sensitive_features"]),
    "effects": (
        lambda scores, **rows: threshold_effects(scores, scores.to_numpy(), **rows),
        ["scores", "y", "sensitive_features"],
    ),
    "distill": (
        lambda **rows: distill(GroupFairnessCalibrator(), **rows),
        ["X", "scores", "y", "sensitive_features"],
    ),
}


@pytest.mark.parametrize(
    ("entry", "name"), [(e, name) for e, (_, names) in ENTRIES.items() for name in names]
)
def test_whatever_carries_another_index_is_refused(entry: str, name: str) -> None:
    call, names = ENTRIES[entry]
    rows = {key: value for key, value in columns().items() if key in names}
    rows[name] = rows[name].sample(frac=1, random_state=1)
    with pytest.raises(InvalidDataError, match="carries another index than"):
        call(**rows)


def test_rows_of_weight_0_are_as_if_absent() -> None:
    rows = {key: value.to_numpy().copy() for key, value in columns().items() if key != "X"}
    rows["sample_weight"] = np.where(np.arange(400) % 3 == 0, 0.0, rows["sample_weight"])
    kept = rows["sample_weight"] > 0
    rows["scores"][0] = np.nan
    model = GroupFairnessCalibrator().fit(**rows)
    alone = GroupFairnessCalibrator().fit(**{key: value[kept] for key, value in rows.items()})
    pd.testing.assert_frame_equal(model.group_report_, alone.group_report_)
    assert model.fingerprint_ == alone.fingerprint_


def test_two_columns_are_read_by_the_favourable_label() -> None:
    rows = columns()
    words = np.where(rows["y"] == 1, "approve", "deny")  # the favourable label sorts first
    both = np.column_stack([rows["scores"], 1 - rows["scores"]])
    found = read_scored(both, words, rows["sensitive_features"], positive_label="approve")
    np.testing.assert_array_equal(found.score, rows["scores"])
    np.testing.assert_array_equal(found.y, rows["y"])
    model = GroupFairnessCalibrator(positive_label="approve")
    model.fit(both, words, rows["sensitive_features"])
    plain = GroupFairnessCalibrator().fit(rows["scores"], rows["y"], rows["sensitive_features"])
    np.testing.assert_array_equal(
        model.transform(both, rows["sensitive_features"]),
        plain.transform(rows["scores"], rows["sensitive_features"]),
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.5 + 0.1j, -0.1])
@pytest.mark.parametrize("classes", [2, 3])
def test_scores_that_are_no_probabilities(bad: Any, classes: int) -> None:
    scores = np.full((60, classes), 1 / classes, dtype=type(bad))
    scores[7, 1] = bad
    y, who = np.arange(60) % classes, np.arange(60) % 2
    with pytest.raises(InvalidDataError, match="scores"):
        GroupFairnessCalibrator().fit(scores if classes > 2 else scores[:, 1], y, who)


def test_one_class_is_not_enough() -> None:
    with pytest.raises(InvalidDataError, match="only one class is left"):
        GroupFairnessCalibrator().fit([0.2, 0.3, 0.4], [0, 0, 1], [0, 1, 1], [1, 1, 0])
    scores = np.full((6, 3), 1 / 3)
    with pytest.raises(InvalidParameterError, match="belongs to two classes"):
        GroupFairnessCalibrator(positive_label=1).fit(scores, np.arange(6) % 3, [0, 1] * 3)
