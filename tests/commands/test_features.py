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
