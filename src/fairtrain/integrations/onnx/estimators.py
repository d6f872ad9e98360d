"""scikit-learn's estimators as nodes in float64: pipelines of what tables need, trees, lines.

What is common is written out here, since a decision near a threshold should not depend on rounding
to float32; every other estimator is left to ``skl2onnx``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from fairtrain._imports import require
from fairtrain._text import one_line
from fairtrain.exceptions import InvalidParameterError
from fairtrain.integrations.onnx.graph import ML, OPSETS, Graph
from fairtrain.integrations.onnx.trees import histogram_trees

__all__ = ["Features", "probabilities"]


@dataclass(frozen=True)
class Features:
    """What rows are made of: one matrix, or columns of a frame that are inputs by name.

    Attributes
    ----------
    graph : Graph
        Where inputs are added, as they are used.
    n : int
        Features.
    names : sequence of str or None
        Names of the columns, where the model reads them by name.
    values : str or None
        The matrix, where a transformer made one.
    """

    graph: Graph
    n: int
    names: Sequence[str] | None = None
    values: str | None = None

    @property
    def matrix(self) -> str:
        """All features as numbers, shape (n, d)."""
        if self.values is not None:
            return self.values
        if self.names is None:
            return self.graph.input("X", np.float64, self.n)
        columns = [self.graph.input(name, np.float64, 1) for name in self.names]
        return self.graph("Concat", *columns, axis=1)

    def column(self, i: int, kind: Any) -> str:
        """One feature, shape (n,)."""
        if self.values is None and self.names is not None:
            wide = self.graph.input(self.names[i], kind, 1)
            return self.graph("Squeeze", wide, self.graph.constant(np.array([1])))
        if kind is str:
            raise InvalidParameterError(
                "the model reads words from an array; train it on a frame, whose columns are "
                "exported as inputs by name."
            )
        return self.graph.column(self.matrix, i)

    def some(self, places: Sequence[int]) -> Features:
        """Some of the features."""
        if self.values is None and self.names is not None:
            return Features(self.graph, len(places), [self.names[i] for i in places])
        taken = self.graph("Gather", self.matrix, self.graph.constant(np.array(places)), axis=1)
        return Features(self.graph, len(places), values=taken)

    def made(self, values: str, n: int) -> Features:
        """What a transformer made of them."""
        return Features(self.graph, n, values=values)


def probabilities(model: Any, features: Features) -> str:
    """What ``predict_proba`` gives, float64 of shape (n, K).

    Raises
    ------
    InvalidParameterError
        If there is no way to write the estimator as nodes.
    """
    while isinstance(model, Pipeline):
        for step in list(model.named_steps.values())[:-1]:
            features = _transformed(step, features)
        model = model.steps[-1][1]
    made: str = _of(_CLASSIFIERS, model)(model, features)
    return made


def _transformed(model: Any, features: Features) -> Features:
    if isinstance(model, str) or model is None:  # "passthrough"
        return features
    if isinstance(model, Pipeline):
        for step in model.named_steps.values():
            features = _transformed(step, features)
        return features
    made: Features = _of(_TRANSFORMERS, model)(model, features)
    return made


def _of(known: dict[type, Callable[[Any, Features], Any]], model: Any) -> Any:
    """The way to write an estimator; only of the very class: one derived may do otherwise."""
    return known.get(type(model), _by_skl2onnx)


def _logistic(model: LogisticRegression, features: Features) -> str:
    graph = features.graph
    line = graph("MatMul", features.matrix, graph.constant(np.ascontiguousarray(model.coef_.T)))
    line = graph("Add", line, graph.constant(model.intercept_.astype(np.float64)))
    if len(model.coef_) == 1:
        return graph.both(graph.column(graph("Sigmoid", line), 0))
    return graph("Softmax", line, axis=1)


def _histogram_boosting(model: HistGradientBoostingClassifier, features: Features) -> str:
    graph = features.graph
    margins = histogram_trees(model).margins(graph, features.matrix)
    if model.n_trees_per_iteration_ == 1:
        return graph.both(graph.column(graph("Sigmoid", margins), 0))
    return graph("Softmax", margins, axis=1)


def _prior(model: DummyClassifier, features: Features) -> str:
    if model.strategy != "prior":
        raise InvalidParameterError(f"a DummyClassifier of strategy {model.strategy!r} draws.")
    graph = features.graph
    zeros = graph("MatMul", features.matrix, graph.constant(np.zeros((features.n, 1))))
    return graph("Add", zeros, graph.constant(np.asarray(model.class_prior_)[None, :]))


def _imputed(model: SimpleImputer, features: Features) -> Features:
    graph, words = features.graph, model.statistics_.dtype.kind not in "fiu"
    if words or model.add_indicator or not _is_nan(model.missing_values):
        return _by_skl2onnx_features(model, features)
    known = np.flatnonzero(~np.isnan(model.statistics_))  # a column without any value is dropped
    values = (features if len(known) == features.n else features.some(known.tolist())).matrix
    fill = graph.constant(model.statistics_[known].astype(np.float64))
    return features.made(graph("Where", graph("IsNaN", values), fill, values), len(known))


def _scaled(model: StandardScaler, features: Features) -> Features:
    graph, values = features.graph, features.matrix
    if model.mean_ is not None and model.with_mean:
        values = graph("Sub", values, graph.constant(model.mean_))
    if model.scale_ is not None:
        values = graph("Div", values, graph.constant(model.scale_))
    return features.made(values, features.n)


def _function(model: FunctionTransformer, features: Features) -> Features:
    return features if model.func is None else _by_skl2onnx_features(model, features)


def _one_hot(model: OneHotEncoder, features: Features) -> Features:
    graph = features.graph
    parts, width = [], 0
    dropped = [None] * features.n if model.drop_idx_ is None else model.drop_idx_
    infrequent = getattr(model, "_default_to_infrequent_mappings", None) or [None] * features.n
    own = zip(model.categories_, infrequent, dropped, strict=True)
    for i, (known, mapping, drop) in enumerate(own):
        words = _categories(known)
        slots = np.arange(len(known)) if mapping is None else np.asarray(mapping)
        n = int(slots.max()) + 1
        # A value never seen is one of the rare ones, where these have a column, or nothing.
        rare = mapping is not None and model.handle_unknown == "infrequent_if_exist"
        table = np.vstack([np.eye(n)[slots], np.eye(n)[-1] if rare else np.zeros(n)])
        table = table if drop is None else np.delete(table, slots[int(drop)], axis=1)
        column = features.column(i, str if isinstance(words[0], str) else np.float64)
        place = graph.places(column, words, len(words))
        parts.append(graph("Gather", graph.constant(table), place))
        width += table.shape[1]
    return features.made(graph("Concat", *parts, axis=1), width)


def _categories(known: Any) -> list[Any]:
    values: list[Any] = known.tolist()
    if all(isinstance(v, str) for v in values):
        return values
    if all(isinstance(v, int | float) and float(v).is_integer() for v in values):
        return [int(v) for v in values]
    raise InvalidParameterError(
        f"categories {[one_line(v) for v in values][:5]} are neither words nor whole numbers; "
        "missing ones need a word of their own before the encoder."
    )


def _by_columns(model: ColumnTransformer, features: Features) -> Features:
    parts, width = [], 0
    for _, step, columns in model.transformers_:
        places = _places(model, columns)
        if not places or (isinstance(step, str) and step == "drop"):
            continue
        made = _transformed(step, features.some(places))
        parts.append(made.matrix)
        width += made.n
    return features.made(features.graph("Concat", *parts, axis=1), width)


def _places(model: ColumnTransformer, columns: Any) -> list[int]:
    if isinstance(columns, slice):
        return list(range(*columns.indices(model.n_features_in_)))
    columns = [columns] if isinstance(columns, str | int) else list(columns)
    if columns and isinstance(columns[0], bool | np.bool_):
        return np.flatnonzero(columns).tolist()
    names = list(getattr(model, "feature_names_in_", ()))
    return [names.index(c) if isinstance(c, str) else int(c) for c in columns]


def _by_skl2onnx(model: Any, features: Features) -> Any:
    """Whatever else ``skl2onnx`` knows; mostly in float32."""
    outputs = _converted(model, features)
    if hasattr(model, "predict_proba"):
        return features.graph.cast(outputs[-1], np.float64)
    made = features.graph.cast(outputs[0], np.float64)
    return features.made(made, len(model.get_feature_names_out()))


def _by_skl2onnx_features(model: Any, features: Features) -> Features:
    made: Features = _by_skl2onnx(model, features)
    return made


def _converted(model: Any, features: Features) -> list[str]:
    skl2onnx = require("skl2onnx", extra="onnx")
    kinds = require("skl2onnx.common.data_types", extra="onnx")
    options = {id(model): {"zipmap": False}} if hasattr(model, "predict_proba") else None
    name, graph = type(model).__name__, features.graph
    given = [("X", kinds.FloatTensorType([None, features.n]))]
    try:
        made = skl2onnx.convert_sklearn(
            model, initial_types=given, options=options, target_opset={"": OPSETS[""], ML: 3}
        )
    except Exception as error:
        raise InvalidParameterError(
            f"{name} cannot be written as ONNX ({type(error).__name__}): use one that skl2onnx "
            "knows, or keep the model as it is with fairtrain.save."
        ) from error
    return graph.inline(made, {"X": graph.cast(features.matrix, np.float32)})


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and bool(np.isnan(value))


_CLASSIFIERS: dict[type, Callable[[Any, Features], Any]] = {
    LogisticRegression: _logistic,
    HistGradientBoostingClassifier: _histogram_boosting,
    DummyClassifier: _prior,
}

_TRANSFORMERS: dict[type, Callable[[Any, Features], Any]] = {
    FunctionTransformer: _function,  # what "passthrough" is in a fitted ColumnTransformer
    SimpleImputer: _imputed,
    StandardScaler: _scaled,
    OneHotEncoder: _one_hot,
    ColumnTransformer: _by_columns,
}
