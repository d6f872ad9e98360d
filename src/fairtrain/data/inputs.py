"""What comes in: the only file that knows data frames.

Everything below this room sees NumPy arrays; ``X`` alone is passed on as it came, because a base
estimator (a ``ColumnTransformer``, a booster with categories) may need the frame.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.utils import _safe_indexing, assert_all_finite
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, column_or_1d, validate_data

from fairtrain._text import one_line
from fairtrain.exceptions import InvalidDataError, InvalidParameterError

__all__ = [
    "as_features",
    "as_sample_weight",
    "as_vector",
    "binary_target",
    "column_of_labels",
    "column_of_values",
    "drop_columns",
    "factorize",
    "feature_columns",
    "local",
    "number_of_rows",
    "require_same_index",
    "sensitive_columns",
    "take_rows",
]

Columns = dict[str, NDArray[Any]]


def number_of_rows(data: Any) -> int:
    """Rows of an array, list, sparse matrix, frame, series or table."""
    shape = getattr(data, "shape", None)
    if shape is not None and len(shape) > 0:
        return int(shape[0])
    try:
        return len(data if hasattr(data, "__len__") else np.asarray(data))
    except TypeError:
        raise InvalidDataError(
            f"expected rows (array, list, series or frame), got {type(data).__name__}."
        ) from None


def _frame_of(X: Any) -> Any:
    """A frame of any library in one form; anything else as it is."""
    # Narwhals asks every library it knows, which takes longer than deciding about one row.
    return X if type(X) is np.ndarray else nw.from_native(X, eager_only=True, pass_through=True)


def _is_matrix(X: Any) -> bool:
    """Whether that is plainly an array of numbers with rows and columns."""
    plain = type(X) is np.ndarray and X.ndim == 2 and X.dtype.kind in "fiu"
    return plain and 0 not in X.shape


def as_features(X: Any) -> Any:
    """Pass ``X`` on as it came; lists become arrays, Arrow tables frames, sparse matrices CSR."""
    if _is_sparse(X):
        return X if X.format == "csr" else X.tocsr()
    frame = _frame_of(X)
    if isinstance(frame, nw.DataFrame):
        return frame.to_pandas() if frame.implementation.is_pyarrow() else X
    if isinstance(X, Mapping) and not hasattr(X, "shape"):
        raise InvalidDataError(
            f"X has arrays by name, {list(X)[:5]}, which trainers of networks take alone: pass a "
            "data frame of its columns."
        )
    return X if hasattr(X, "shape") else _as_array(X)


def _as_array(X: Any) -> NDArray[Any]:
    try:
        return np.asarray(X)
    except ValueError:
        raise InvalidDataError("a list of rows must have rows of one length.") from None


def as_vector(values: Any, name: str) -> NDArray[Any]:
    """Read one column as an array of shape (n,); (n, 1) is flattened, anything else raises."""
    native = nw.from_native(values, eager_only=True, allow_series=True, pass_through=True)
    if isinstance(native, nw.DataFrame) and len(native.columns) == 1:
        native = native.get_column(native.columns[0])
    if isinstance(native, nw.Series):
        array = _series_values(native)
    else:
        array = _as_object_safe_array(
            native.to_numpy() if isinstance(native, nw.DataFrame) else values
        )
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise InvalidDataError(f"{name} must have one column, got shape {array.shape}.")
    if array.dtype.kind == "c":
        raise InvalidDataError(
            f"Complex data not supported: {name} must be real, got complex numbers; pass their "
            "real part."
        )
    return array


_SMALLEST = 1e-100


def as_sample_weight(sample_weight: Any, n_rows: int) -> NDArray[np.float64] | None:
    """Check weights: one a row, finite, not negative, not all 0. None stays None."""
    if sample_weight is None:
        return None
    weights = _as_floats(as_vector(sample_weight, "sample_weight"), "sample_weight")
    check_lengths(n_rows, sample_weight=weights)
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise InvalidDataError("sample_weight must be finite and not negative.")
    if n_rows and not weights.any():
        raise InvalidDataError("sample_weight is zero in every row.")
    used = weights[weights > 0]
    if len(used) and not _SMALLEST <= used.min() <= used.max() <= 1 / _SMALLEST:
        raise InvalidDataError(
            f"sample_weight holds {used.min():g} to {used.max():g}, expected 0 or {_SMALLEST:g} to "
            f"{1 / _SMALLEST:g}: sums of squares would overflow; divide the weights by their mean."
        )
    return weights


def as_clusters(clusters: Any, n_rows: int) -> NDArray[np.int64] | None:
    """Number the clusters of rows, by their sorted names; None where each row is one of its own."""
    if clusters is None:
        return None
    levels, codes = factorize(as_vector(local(clusters), "clusters"))
    check_lengths(n_rows, clusters=codes)
    if (codes < 0).any():
        raise InvalidDataError(
            f"clusters is missing in row {int(np.argmax(codes < 0))}; give every row the name of "
            "its cluster, and one that stands alone a name of its own."
        )
    return None if len(levels) == n_rows else codes


def check_lengths(n_rows: int, **columns: Any) -> None:
    """Raise unless every named column has ``n_rows`` rows."""
    for name, column in columns.items():
        if (rows := number_of_rows(column)) != n_rows:
            raise InvalidDataError(f"{name} has {rows} rows, expected {n_rows} as in X or y.")


def binary_target(y: Any, positive_label: Any = None) -> tuple[NDArray[np.int8], NDArray[Any]]:
    """Turn two labels into 0 and 1.

    Parameters
    ----------
    y : array-like of shape (n,)
        Exactly two distinct labels.
    positive_label : label, optional
        The favourable one. Default: the larger of {0, 1}, {-1, 1} or {False, True}; otherwise the
        label that sorts last, which only notions that treat both labels alike may rely on
        (see :func:`needs_positive_label`).

    Returns
    -------
    y01 : ndarray of int8, shape (n,)
        1 where the label is the favourable one.
    classes : ndarray of shape (2,)
        (unfavourable, favourable) label.
    """
    array = column_of_labels(y)
    classes = np.unique(array)
    if len(classes) != 2:
        found = "1 class" if len(classes) == 1 else f"{len(classes)} classes"
        more = "; LagrangianFairnessTrainer takes several" if len(classes) > 2 else ""
        raise InvalidDataError(
            f"Only binary classification is supported: y must hold two classes, found "
            f"{found}{more}."
        )
    if positive_label is not None:
        matches = np.flatnonzero([bool(label == positive_label) for label in classes])
        if len(matches) != 1:
            raise InvalidParameterError(
                f"positive_label={positive_label!r} is not a label of y: {classes.tolist()}."
            )
        classes = classes[[1 - matches[0], matches[0]]]
    return (array == classes[1]).astype(np.int8), classes


def column_of_labels(y: Any) -> NDArray[Any]:
    """Read class labels as an array of shape (n,); missing ones and numbers that vary raise."""
    if y is None:
        raise InvalidDataError("requires y to be passed, but the target y is None.")
    array: NDArray[Any] = column_or_1d(
        as_vector(y, "y") if isinstance(y, list | tuple) or _is_frame(y) else y, warn=True
    )
    if array.dtype.kind == "O" and pd.isna(array).any():
        raise InvalidDataError("y contains missing labels; drop those rows.")
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise InvalidDataError("Input y contains NaN; drop the rows without a label.")
    if array.dtype.kind == "f" and np.isinf(array).any():
        raise InvalidDataError("Input y contains infinity, which is no label.")
    try:
        check_classification_targets(array)
    except ValueError as error:  # scikit-learn's words first, which tools look for
        raise InvalidDataError(
            f"{str(error).partition('.')[0]}: a classifier needs labels. Numbers are predicted by "
            "ReductionsRegressor, LagrangianBoostingRegressor and "
            "LagrangianFairnessTrainer(task='regression')."
        ) from None
    return array


def _is_frame(values: Any) -> bool:
    native = nw.from_native(values, eager_only=True, allow_series=True, pass_through=True)
    return isinstance(native, nw.DataFrame | nw.Series)


def needs_positive_label(classes: NDArray[Any]) -> bool:
    """Whether the favourable label must be named: only {0, 1}, {-1, 1} and booleans go without."""
    labels = set(np.asarray(classes).tolist())
    return labels not in ({0, 1}, {-1, 1})


def require_same_index(**parts: Any) -> None:
    """Raise unless all parts that carry a pandas index carry the same one.

    Nothing is re-ordered: an index that differs may mean rows in another order or rows in the same
    order under another name, and guessing pairs a person with somebody else's attribute or label.

    Parameters
    ----------
    **parts
        What belongs together, by name; a mapping of columns, a frame, a series, or anything without
        an index, which passes. Unequal lengths are left to :func:`check_lengths`.

    Raises
    ------
    InvalidDataError
        If two indexes differ; it says how to mend that.
    """
    found = list(_indexes(parts))
    if len(found) < 2:
        return
    to, expected = found[0][0], local(found[0][1])
    for name, index in found[1:]:
        own = local(index)
        if len(own) != len(expected) or own.equals(expected):
            continue
        row = int(np.argmax([a != b for a, b in zip(own, expected, strict=True)]))
        here, there = own.tolist()[row], expected.tolist()[row]
        raise InvalidDataError(
            f"{name} carries another index than {to} (row {row}: {here!r} against "
            f"{there!r}); nothing is re-ordered. Bring it into order with "
            f"{name}.loc[{to}.index], or pass {name}.to_numpy() if it is in order already."
        )


def _indexes(parts: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, part in parts.items():
        if isinstance(part, Mapping):
            yield from _indexes({f"{name}[{key!r}]": column for key, column in part.items()})
        elif has_index(part) or (is_lazy(part) and hasattr(part, "index")):
            yield name, part.index


def sensitive_columns(
    sensitive_features: Any, default_name: str = "group", *, like: Any = None
) -> Columns:
    """Read sensitive features as named columns.

    Parameters
    ----------
    sensitive_features : frame, table, series, mapping, array of shape (n,) or (n, k), or list
        A column, or several. Unnamed columns are called ``group``, or ``group_0``, ``group_1``...
    default_name : str, default="group"
        What unnamed columns are called.
    like : optional
        Rows (usually X): where both carry a pandas index it must be the same.

    Returns
    -------
    dict of str to ndarray of shape (n,)
    """
    require_same_index(X=like, sensitive_features=sensitive_features)
    if sensitive_features is None:
        raise InvalidDataError(
            "sensitive_features is missing; pass one column or several, one row a person."
        )
    if isinstance(sensitive_features, Mapping):
        columns = {str(k): as_vector(v, str(k)) for k, v in sensitive_features.items()}
        if columns:
            check_lengths(len(next(iter(columns.values()))), **columns)
        return columns
    data = nw.from_native(sensitive_features, eager_only=True, allow_series=True, pass_through=True)
    if isinstance(data, nw.DataFrame):
        named = {str(column.name): _series_values(column) for column in data.iter_columns()}
        if len(named) < len(data.columns):  # 1 and "1"
            raise InvalidDataError(f"sensitive_features names a column twice: {data.columns}.")
        return named
    if isinstance(data, nw.Series):
        return {default_name if data.name in (None, "") else str(data.name): _series_values(data)}
    array = _as_object_safe_array(sensitive_features)
    if array.ndim == 1:
        return {default_name: array}
    if array.ndim == 2 and array.shape[1] == 1:
        return {default_name: array[:, 0]}
    if array.ndim == 2 and array.shape[1] > 1:
        return {f"{default_name}_{i}": array[:, i] for i in range(array.shape[1])}
    if isinstance(sensitive_features, str):
        raise InvalidDataError(
            "sensitive_features must be one column or several, got str "
            f"{one_line(sensitive_features)!r}: pass that column, or name columns of X in the "
            "constructor."
        )
    found = f"shape {array.shape}" if array.ndim else type(sensitive_features).__name__
    raise InvalidDataError(f"sensitive_features must be one column or several, got {found}.")


def _series_values(column: Any) -> NDArray[Any]:
    if column.implementation.is_pyarrow() and isinstance(column.dtype, nw.Categorical):
        # Arrow's own conversion of a dictionary reads a null as the last level.
        values = np.empty(len(column), dtype=object)
        values[:] = column.to_list()
        return values
    return np.asarray(column.to_numpy())


def _as_object_safe_array(values: Any) -> NDArray[Any]:
    # np.asarray(["a", None]) is fine, np.asarray([1, "a"]) would turn 1 into "1".
    if not isinstance(values, list | tuple):
        return np.asarray(values)
    try:
        array, inferred = np.asarray(values, dtype=object), np.asarray(values)
    except ValueError:
        raise InvalidDataError("a list of rows must have rows of one length.") from None
    return inferred if inferred.dtype.kind in "biuf" else array


def drop_columns(
    X: Any, names: str | Sequence[str], what: str = "sensitive_features"
) -> tuple[Any, Columns]:
    """Take the columns that ``what`` names out of a frame.

    Returns
    -------
    rest, columns
        The frame without them, of the same kind, and the columns.

    Raises
    ------
    InvalidDataError
        If ``X`` is no frame or lacks a column.
    """
    wanted = [names] if isinstance(names, str) else list(names)
    if is_lazy(X) and hasattr(X, "columns"):
        known = list(X.columns)
        if missing := [name for name in wanted if name not in known]:
            raise InvalidDataError(f"X has no column {missing[0]!r}; columns: {known}.")
        here = X[wanted].compute()
        return X.drop(columns=wanted), {name: here[name].to_numpy() for name in wanted}
    if hasattr(X, "without"):  # inputs by name
        if missing := [name for name in wanted if name not in X]:
            raise InvalidDataError(f"X has no {missing[0]!r}; it has {list(X)}.")
        return X.without(wanted), {name: as_vector(X[name], name) for name in wanted}
    frame = _frame_of(X)
    if not isinstance(frame, nw.DataFrame):
        raise InvalidDataError(
            f"{what}={wanted} names columns, so X must be a data frame; "
            f"with an array pass the values to fit(..., {what}=...)."
        )
    if missing := [name for name in wanted if name not in frame.columns]:
        raise InvalidDataError(f"X has no column {missing[0]!r}; columns: {frame.columns}.")
    columns = {name: _series_values(frame.get_column(name)) for name in wanted}
    return frame.drop(wanted).to_native(), columns


def factorize(column: NDArray[Any]) -> tuple[list[Any], NDArray[np.int64]]:
    """Distinct values of a column in sorted order, and each row's place among them.

    Missing values (None, NaN, NaT, NA) get code -1. Whole floats count as integers, so that 1 and
    1.0 are one level.

    Returns
    -------
    levels : list
        Python scalars, sorted; mixed types are sorted by type, then as text.
    codes : ndarray of int64, shape (n,)
    """
    try:
        codes, uniques = pd.factorize(column, use_na_sentinel=True)
    except TypeError:
        raise InvalidDataError("a column must hold numbers or text, not lists.") from None
    levels = [_plain(value) for value in np.asarray(uniques).tolist()]
    try:
        order = sorted(range(len(levels)), key=levels.__getitem__)
    except TypeError:
        order = sorted(range(len(levels)), key=lambda i: (type(levels[i]).__name__, str(levels[i])))
    rank = np.full(len(levels) + 1, -1, dtype=np.int64)
    rank[order] = np.arange(len(levels))
    return [levels[i] for i in order], rank[codes]


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _as_floats(column: NDArray[Any], name: str) -> NDArray[np.float64]:
    try:
        if column.dtype.kind in "mM":  # NumPy would count days
            raise TypeError
        return column.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InvalidDataError(f"{name} must hold numbers.") from None


def as_float_column(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """Read one column of finite numbers."""
    array = _as_floats(as_vector(values, name), name)
    if not np.isfinite(array).all():
        raise InvalidDataError(f"{name} contains NaN or infinity.")
    return array


def column_of_values(y: Any) -> NDArray[np.float64]:
    """Read the values of a regression as an array of shape (n,)."""
    if y is None:
        raise InvalidDataError("requires y to be passed, but the target y is None.")
    if getattr(y, "ndim", 1) == 2 and y.shape[1] > 1:
        raise InvalidDataError(
            f"y should be a 1d array, got an array of shape {y.shape} instead: one number a row is "
            "predicted; fit a model for each column."
        )
    return as_float_column(column_or_1d(y, warn=True) if getattr(y, "ndim", 1) == 2 else y, "y")


def take_rows(X: Any, rows: NDArray[Any]) -> Any:
    """Rows of an array, list, sparse matrix, frame or PyTorch tensor, by position."""
    if hasattr(X, "take_rows"):  # rows that are elsewhere, on workers
        return X.take_rows(rows)
    if is_tensor(X):
        return X[rows]
    return _safe_indexing(X, rows)


def feature_columns(X: Any) -> Iterator[NDArray[Any]]:
    """Columns of ``X`` one by one, as arrays of shape (n,)."""
    frame = _frame_of(X)
    if isinstance(frame, nw.DataFrame):
        yield from (column.to_numpy() for column in frame.iter_columns())
        return
    matrix: Any = X.tocsc() if _is_sparse(X) else np.asarray(X)
    for j in range(matrix.shape[1]):
        yield matrix[:, [j]].toarray()[:, 0] if _is_sparse(matrix) else matrix[:, j]


def _is_sparse(X: Any) -> bool:
    return bool(sparse.issparse(X))


def has_index(X: Any) -> bool:
    """Whether rows carry a pandas index."""
    return isinstance(getattr(X, "index", None), pd.Index)


def drop_if_present(X: Any, names: str | Sequence[str]) -> Any:
    """Take named columns out of a frame where it has them; anything else passes through."""
    wanted = [names] if isinstance(names, str) else list(names)
    if hasattr(X, "without"):
        return X.without(wanted)
    frame = _frame_of(X)
    if not isinstance(frame, nw.DataFrame):
        return X
    there = [name for name in wanted if name in frame.columns]
    return frame.drop(there).to_native() if there else X


def check_features(estimator: Any, X: Any, *, reset: bool) -> None:
    """Check the shape of ``X`` and its feature names against those of ``fit``.

    Values are left to the base estimator, which knows whether it takes text, gaps or sparse rows.
    """
    if _is_matrix(X):
        pass
    elif not isinstance(_frame_of(X), nw.DataFrame):
        check_array(X, accept_sparse=True, dtype=None, ensure_all_finite=False)
    elif not number_of_rows(X):
        raise InvalidDataError("X has 0 rows; at least one is needed.")
    validate_data(estimator, X, reset=reset, skip_check_array=True)


def numeric_features(
    estimator: Any, X: Any, *, reset: bool, dtype: Any = np.float32
) -> NDArray[Any]:
    """Read ``X`` as finite numbers of shape (n, d), for estimators that take nothing else."""
    if _is_sparse(X):
        raise TypeError(
            f"{type(estimator).__name__} takes no sparse X; pass X.toarray(), or reduce the "
            "columns first."
        )
    frame = _frame_of(X)
    if isinstance(frame, nw.DataFrame):
        kinds = frame.schema.items()
        text = [name for name, kind in kinds if not (kind.is_numeric() or kind == nw.Boolean)]
        if text:
            raise InvalidDataError(
                f"X has columns that are no numbers, {text[:5]}: encode them first, for example "
                "with a ColumnTransformer before this estimator in a Pipeline."
            )
    array: NDArray[Any] = validate_data(
        estimator, X, reset=reset, dtype=dtype, ensure_all_finite=False
    )
    wrong = ~np.isfinite(array)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise InvalidDataError(
            f"X contains NaN or infinity, first in row {row}, column {column}: fill or drop it, "
            "for example with SimpleImputer in a Pipeline."
        )
    return array


def require_two_classes(y: NDArray[Any]) -> None:
    """Raise unless both labels are left after rows of weight 0 were dropped."""
    if y.min() == y.max():
        raise InvalidDataError("only one class is left in y among rows with weight above 0.")


def require_known_labels(y: NDArray[Any], classes: NDArray[Any]) -> None:
    """Raise if a label is none of the two that ``fit`` saw."""
    strange = ~np.isin(y, classes)
    if strange.any():
        raise InvalidDataError(
            f"y holds the label {y[strange].tolist()[0]!r}; fit saw {classes.tolist()}."
        )


Levels = dict[str, list[Any]]
"""Categorical column -> its levels, as ``fit`` saw them."""


def booster_features(X: Any, levels: Levels | None = None) -> tuple[Any, Levels]:
    """Read ``X`` as boosters take it: a pandas frame with categories, a CSR matrix or an array.

    Parameters
    ----------
    X : frame, sparse matrix or array
        Missing values stay missing.
    levels : dict, optional
        Levels that ``fit`` saw: a value that is none of them becomes missing.

    Returns
    -------
    X, levels

    Raises
    ------
    InvalidDataError
        If a column holds text that nobody declared to be categories.
    """
    if _is_matrix(X):  # where one row is decided at a time, the rest would take most of the time
        assert_all_finite(X, allow_nan=True)
        return X, {}
    frame = _frame_of(X)
    if not isinstance(frame, nw.DataFrame):
        array = check_array(X, accept_sparse="csr", dtype="numeric", ensure_all_finite="allow-nan")
        if _is_sparse(array):
            return sparse.csr_matrix(array), {}
        return (array.astype(np.float64) if array.dtype.kind in "bO" else array), {}
    data: pd.DataFrame = frame.to_pandas()
    found: Levels = {}
    changed: dict[Any, Any] = {}
    for name in data.columns:
        column = data[name]
        known = None if levels is None else levels.get(str(name))
        if known is not None:
            at = pd.Index(known).get_indexer(pd.Index(column.astype(object)))
            changed[name] = pd.Categorical.from_codes(at, categories=pd.Index(known))
        elif isinstance(column.dtype, pd.CategoricalDtype):
            changed[name] = column.cat.as_unordered()  # LightGBM takes ordered ones for numbers
            found[str(name)] = column.cat.categories.tolist()
        elif not pd.api.types.is_numeric_dtype(column.dtype):
            raise InvalidDataError(
                f"X has the column {str(name)!r} of type {column.dtype}; boosters take numbers and "
                f"categories: X[{str(name)!r}] = X[{str(name)!r}].astype('category')."
            )
    return (data.assign(**changed) if changed else data), found if levels is None else levels


def is_tensor(values: Any) -> bool:
    """Whether values are a PyTorch tensor; PyTorch itself need not be there."""
    return hasattr(values, "detach")


def is_lazy(values: Any) -> bool:
    """Whether rows are a Dask collection."""
    return hasattr(values, "__dask_graph__")


def local(values: Any) -> Any:
    """Bring a column of Dask or PyTorch here; anything else passes through."""
    if isinstance(values, Mapping):
        return {name: local(column) for name, column in values.items()}
    if is_tensor(values):
        return values.detach().cpu().numpy()
    return values.compute() if is_lazy(values) else values


def stack_rows(parts: Sequence[Any]) -> Any:
    """Rows of several frames, CSR matrices or arrays, one after the other."""
    if isinstance(parts[0], pd.DataFrame):
        return pd.concat(parts, ignore_index=True)
    return sparse.vstack(parts, format="csr") if _is_sparse(parts[0]) else np.vstack(parts)


def is_number(value: Any) -> bool:
    """Whether a setting is a finite number."""
    return isinstance(value, Real) and math.isfinite(value)
