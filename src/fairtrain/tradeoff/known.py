"""Know rows again that trained or chose a model, without keeping any of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from fairtrain.data import inputs

__all__ = ["row_hashes", "sketch"]

_SKETCH = 128


def sketch(X: Any) -> frozenset[int]:
    """The smallest hashes of the rows: enough to know all, or a good part of them, again."""
    return frozenset(sorted(row_hashes(X))[:_SKETCH])


def row_hashes(X: Any) -> frozenset[int]:
    """A number for every row of features, whatever its place and its index."""
    X = X.detach().cpu().numpy() if hasattr(X, "detach") else X
    X = X.toarray() if hasattr(X, "toarray") else X
    X = X.to_pandas() if hasattr(X, "to_pandas") else X
    flat = np.reshape(X, (inputs.number_of_rows(X), -1)) if isinstance(X, np.ndarray) else X
    table = pd.DataFrame(flat)
    is_number = pd.api.types.is_numeric_dtype
    columns = [
        column.astype(np.float32) if is_number(column) else column.astype(str)
        for _, column in table.items()
    ]
    plain = pd.concat(columns, axis=1) if columns else table
    return frozenset(pd.util.hash_pandas_object(plain, index=False).tolist())
