"""Deployment without the attribute: honest about what it is."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from fairtrain import GroupFairnessCalibrator
from fairtrain.calibration import distill
from fairtrain.datasets import MiscalibratedData, make_miscalibrated
from fairtrain.exceptions import InvalidDataError, InvalidParameterError


def proxies(data: MiscalibratedData, share: float, seed: int = 0) -> Any:
    """The group's code in ``share`` of the rows, a random one in the others."""
    rng = np.random.default_rng(seed)
    size = len(data.groups)
    shown = np.where(
        rng.uniform(size=len(data)) < share, data.codes, rng.integers(0, size, len(data))
    )
    return np.eye(size)[shown]


@pytest.fixture(scope="module")
def fitted() -> Any:
    data = make_miscalibrated(12_000, levels={"race": 4}, smallest=400, random_state=0)
    model = GroupFairnessCalibrator().fit(data.scores, data.y, data.sensitive_features)
    return data, model


@pytest.mark.parametrize(("share", "named"), [(0.95, True), (0.0, False)])
def test_it_is_called_group_calibration_only_where_features_reveal_groups(
    fitted: Any, share: float, named: bool
) -> None:
    data, model = fitted
    X = proxies(data, share)
    who = data.sensitive_features
    found = model.distill(X, data.scores, data.y, who, random_state=0)
    assert found.is_group_calibration is named
    assert ("must not be called" in found.explain()) is not named
    assert (found.revealed > 0.9) is named
    report = found.report.set_index("map")
    assert report.index.tolist() == ["group-aware", "distilled", "global"]
    assert report.loc["group-aware", "mean_error"] < report.loc["global", "mean_error"]

    fresh = data.fresh(2000, random_state=1)
    aware = fresh.group_errors(model.transform(fresh.scores, fresh.sensitive_features)).mean()
    blind = fresh.group_errors(found.transform(proxies(fresh, share, 1), fresh.scores)).mean()
    everyone = GroupFairnessCalibrator("platt").fit(data.scores, data.y, np.zeros(len(data)))
    shared = fresh.group_errors(everyone.transform(fresh.scores, np.zeros(len(fresh)))).mean()
    if named:
        assert aware < blind < 0.6 * shared
    else:
        assert blind > 0.85 * shared


def test_it_holds_no_row_and_checks_what_comes(fitted: Any) -> None:
    data, model = fitted
    X, who = proxies(data, 0.5), data.sensitive_features
    X = np.column_stack([X, np.random.default_rng(0).normal(size=len(data))])
    X[5, -1] = canary = 1.2345678901234
    found = distill(model, X, data.scores, data.y, who, cv=2, random_state=0)
    saved = pickle.dumps(found)
    assert np.float64(canary).tobytes() not in saved
    with pytest.raises(InvalidDataError, match="X must hold numbers in every column"):
        distill(model, who, data.scores, data.y, who)
    with pytest.raises(InvalidParameterError, match="cv must be at least 2, got 1"):
        distill(model, X, data.scores, data.y, who, cv=1)
    with pytest.raises(InvalidDataError, match="too few for 3 folds"):
        distill(model, X[:20], data.scores[:20], data.y[:20], who[:20])
