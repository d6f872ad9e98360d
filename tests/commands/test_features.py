from __future__ import annotations

import numpy as np
import pandas as pd

from fairtrain._commands.features import TableFeatures


def test_features_forget_rare_levels_and_ignore_new_ones() -> None:
    frame = pd.DataFrame({"x": [1.0, None] * 20, "k": ["a"] * 20 + ["b"] * 17 + ["u", "v", None]})
    features = TableFeatures(["x"], ["k"]).fit(frame)
    assert features.levels_ == {"k": ["a", "b", "(rare)"]}
    later = features.transform(pd.DataFrame({"x": [np.inf, "3"], "k": ["new", "a"]}))
    assert later.shape == (2, 4)
    assert later[0, 1:].tolist() == [0, 0, 1]


def test_categories_themselves_are_the_levels_of_the_columns_one_hot() -> None:
    frame = pd.DataFrame({"x": [1.0, None] * 20, "k": ["a"] * 20 + ["b"] * 17 + ["u", "v", None]})
    coded = TableFeatures(["x"], ["k"]).fit(frame)
    table = TableFeatures(["x"], ["k"], one_hot=False).fit(frame).transform(frame)
    assert isinstance(table, pd.DataFrame)
    array = np.column_stack([table["x"], pd.get_dummies(table["k"])])
    np.testing.assert_array_equal(array, coded.transform(frame))
    later = coded.set_params(one_hot=False).transform(pd.DataFrame({"x": [1], "k": ["new"]}))
    assert later["k"].tolist() == [2]  # the rare ones
