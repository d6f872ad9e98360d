"""Features that reveal the group or go with the gap, against what is true of a population."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import ndtr

from fairtrain.data.groups import Groups
from fairtrain.datasets import make_biased
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.metrics import feature_proxies


def test_areas_are_those_of_the_population() -> None:
    """Two normals p apart: the area is that of the standard normal below p / sqrt(2)."""
    data = make_biased(20_000, n_noise=2, random_state=0)
    table = feature_proxies(data.X, data.y, data.sensitive_features).set_index("feature")
    truth = ndtr(data.population.proxy / np.sqrt(2))
    assert table["auc"]["proxy_group"] == pytest.approx(truth, abs=0.01)  # .005 are lost in bins
    assert table["auc"][["noise_0", "noise_1"]].to_numpy() == pytest.approx(0.5, abs=0.02)
    assert table["carried"][["noise_0", "noise_1"]].to_numpy() == pytest.approx(0, abs=0.003)
    assert set(table.index[:2]) == {"merit", "proxy_group"}
    np.testing.assert_allclose(table["carried"] + table["without"], table["gap"])


def test_limits_of_areas_cover() -> None:
    rng = np.random.default_rng(0)
    truth, covered = ndtr(1 / np.sqrt(2)), 0
    for _ in range(60):
        group = rng.integers(0, 2, 600)
        x = rng.normal(size=600) + group
        (line,) = feature_proxies(x[:, None], group, group).to_dict("records")
        covered += line["auc_lower"] <= truth - 0.01 <= line["auc_upper"]  # what bins lose
        assert 0.06 < line["auc_upper"] - line["auc_lower"] < 0.09  # DeLong's of 300 and 300: .08
    assert covered >= 53
    alone = feature_proxies(x[:, None], group, group, clusters=np.arange(600) // 2)
    assert alone[["auc_lower", "auc_upper"]].isna().all(axis=None)


def test_parts_of_the_gap_are_those_of_the_population() -> None:
    share = np.array([0.5, 0.3, 0.2])  # of groups a, b, c
    level = np.array([[0.6, 0.3, 0.1], [0.2, 0.4, 0.4], [1 / 3, 1 / 3, 1 / 3]])  # P(x | g)
    rate = np.array([[0.9, 0.5, 0.4], [0.7, 0.3, 0.1], [0.5, 0.5, 0.5]])  # P(y = 1 | g, x)
    own = (level * rate).sum(axis=1)
    mean = (share[:, None] * level * rate).sum(axis=0) / (share[:, None] * level).sum(axis=0)
    rng = np.random.default_rng(0)
    g = rng.choice(3, 40_000, p=share)
    x = (rng.random(len(g))[:, None] > level.cumsum(axis=1)[g]).sum(axis=1)
    y = (rng.random(len(g)) < rate[g, x]).astype(int)
    words = np.array(["low", "middle", None], dtype=object)[x]  # what is missing is a level
    (line,) = feature_proxies(pd.DataFrame({"x": words}), y, np.array(["a", "b", "c"])[g]).to_dict(
        "records"
    )
    assert (line["highest"], line["lowest"]) == ("a", "b")
    assert line["gap"] == pytest.approx(own[0] - own[1], abs=0.015)
    assert line["carried"] == pytest.approx((level[0] - level[1]) @ mean, abs=0.01)


def test_every_kind_of_column() -> None:
    rng = np.random.default_rng(1)
    group = np.repeat(["a", "b"], 300)
    told = group == "b"
    frame = pd.DataFrame(
        {
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(told * 40, unit="D"),
            "flag": told,
            "gaps": np.where(told, np.nan, rng.normal(size=600)),
            "town": [f"t{i}" for i in range(600)],  # every one rare: all are one level
            "job": pd.Categorical(np.where(told, "x", "y")),
        }
    )
    table = feature_proxies(frame, told.astype(float), group).set_index("feature")
    tell = ["day", "flag", "gaps", "job"]
    assert (table["auc"][tell] > 0.999).all()
    assert (table["without"][tell].abs() < 0.1).all()
    assert table["auc"]["town"] == pytest.approx(0.5)
    arrays = feature_proxies(
        frame[["gaps"]].to_numpy(), told.astype(float), group, clusters=frame["town"]
    )
    assert arrays["feature"].tolist() == ["0"]


def test_few_people_and_what_cannot_be_read() -> None:
    group = np.repeat(["a", "b"], [100, 20])
    X, y = np.arange(120.0)[:, None], np.arange(120) % 2
    assert feature_proxies(X, y, group).empty
    assert feature_proxies(X, y, Groups.from_sensitive({"g": group})).empty
    with pytest.raises(InvalidDataError, match="X"):
        feature_proxies(X[1:], y, group)
    with pytest.raises(InvalidDataError, match="rows and columns"):
        feature_proxies(X[:, 0], y, group)
    with pytest.raises(InvalidParameterError, match="cv"):
        feature_proxies(X, y, group, cv=1)


def test_few_rows_that_a_column_tells_apart_show_no_certainty() -> None:
    group = np.repeat([0, 1], [40, 400])
    line = feature_proxies(group[:, None] * 1.0, np.arange(440) % 2, group).iloc[0]
    assert line["auc"] == 1
    # Forty disjoint pairs, all in order (Clopper and Pearson, 1934).
    assert line["auc_lower"] == pytest.approx(stats.beta.ppf(0.025, 40, 1))
    assert line["auc_upper"] == 1
