"""One file for any runtime: ``export_onnx``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

import fairtrain
from fairtrain._atomic import new_file
from fairtrain._text import one_line
from fairtrain.calibration.calibrator import GroupFairnessCalibrator
from fairtrain.calibration.cells import CLIP
from fairtrain.calibration.classifier import CalibratedFairClassifier
from fairtrain.exceptions import InvalidParameterError
from fairtrain.integrations.onnx.calibration import People, calibrated
from fairtrain.integrations.onnx.estimators import Features, probabilities
from fairtrain.integrations.onnx.graph import Graph, kind_of
from fairtrain.integrations.onnx.trees import CATEGORIES, lightgbm_trees, xgboost_trees
from fairtrain.plugin.classifier import FairPlugInClassifier
from fairtrain.plugin.linear import JointScores, linear_rates
from fairtrain.plugin.scores import _FLOOR, CrossFit

__all__ = ["export_onnx"]

_DRAWN = (
    "{} decides by lot, and an ONNX graph has no lot that belongs to a person: {}, or deploy it "
    "with fairtrain.save."
)


def export_onnx(model: Any, path: str | Path, *, example: Any = None) -> Path:
    """Write a fitted model as an ONNX file, which any runtime reads without Python.

    Everything of ours (prices, calibration maps) is computed in float64, so that the file decides
    as ``predict`` does. Trees and whatever ``skl2onnx`` converts give their scores in float32:
    probabilities agree to 1e-6, and a decision could differ where a score ties to seven digits.

    Inputs are ``X`` of shape (n, d), or the columns by name, each of shape (n, 1), words or
    float64, where the model was trained on a frame; calibrated models take their sensitive columns
    the same way. Networks and boosters take ``X`` also then, its columns in the order of
    ``feature_names_in_``. Outputs are ``label`` (n,) and ``probabilities`` (n, K), in the order of
    ``classes_``; ``probabilities`` (n,) of a bare calibrator, ``value`` (n,) of a regressor.

    Parameters
    ----------
    model : estimator
        A trained network (``LagrangianFairnessTrainer``, ``RegularizedFairnessTrainer``), or
        several that are priced (``FairPlugInTrainer``), ``LagrangianBoostingClassifier`` or
        ``LagrangianBoostingRegressor``, ``FairPlugInClassifier``, ``CalibratedFairClassifier`` or
        ``GroupFairnessCalibrator``.
    path : str or Path
        The file; an old one is replaced when the new one is whole.
    example : Tensor, array or mapping of these, optional
        A few rows as the network takes them, where a row is no vector. What a mapping holds becomes
        inputs by name, of the length that it has here: pad others to it.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InvalidParameterError
        If the model decides by lot, or has a part that cannot be written as ONNX.
    MissingDependencyError
        If ``onnx`` (for networks also ``onnxscript``) is not installed.

    Notes
    -----
    What Python refuses a graph cannot refuse: a category that training never saw counts as none,
    and a missing number gives a missing probability. The metadata of the file hold the classes, the
    features, the constraints, and the verdict.
    """
    check_is_fitted(model)
    graph, path = Graph(), Path(path)
    _writer_of(model, example)(model, graph)
    content = graph.model(_metadata(model)).SerializeToString()
    with new_file(path) as work:
        work.write_bytes(content)
    return path


def _writer_of(model: Any, example: Any) -> Callable[[Any, Graph], None]:
    for known, write in _WRITERS.items():
        if isinstance(model, known):
            return write
    owners = {owner.__name__ for owner in type(model).__mro__}
    if "FairnessTrainer" in owners:
        return partial(_write_network, example=example)
    if "LagrangianBoosting" in owners:
        return _write_boosting
    if "FairPlugInTrainer" in owners:
        return partial(_write_priced_networks, example=example)
    if "ReductionsWrapper" in owners:
        raise InvalidParameterError(
            _DRAWN.format("a ReductionsWrapper", "FairPlugInClassifier decides without one")
        )
    raise InvalidParameterError(
        f"{type(model).__name__} is not exported; keep it as it is with fairtrain.save."
    )


def _metadata(model: Any) -> Mapping[str, str]:
    kept = {
        "model": type(model).__name__,
        "classes": getattr(model, "classes_", np.empty(0)).tolist(),
        "features": getattr(model, "feature_names_in_", np.empty(0)).tolist(),
        "constraints": [c.name for c in getattr(model, "constraints_", ())],
        "verdict": str(getattr(model, "status_", "")),
    }
    words = {k: v if isinstance(v, str) else json.dumps(v) for k, v in kept.items()}
    return {f"fairtrain.{k}": one_line(v) for k, v in words.items()} | {
        "fairtrain.version": fairtrain.__version__
    }


# Writers of models -------------------------------------------------------------------------------


def _write_network(model: Any, graph: Graph, example: Any = None) -> None:
    from fairtrain.integrations.onnx.networks import outputs_of

    if len(model._members) > 1:
        raise InvalidParameterError(
            _DRAWN.format("a mixture", "train with mixture=False, or export module_ by torch.onnx")
        )
    outputs = outputs_of(model, graph, example)
    if model._coding is None:
        graph.output("value", graph.column(outputs, 0), np.float64)
    elif model._head.task == "binary":
        logit = graph.column(outputs, 0)
        _give_decision(model, graph, graph("Sigmoid", logit), logit, 0.0)
    else:
        _give_most_probable(model, graph, graph("Softmax", outputs, axis=1))


def _write_boosting(model: Any, graph: Graph) -> None:
    if model._levels:
        raise InvalidParameterError(CATEGORIES.format("the booster"))
    read = xgboost_trees if model.booster == "xgboost" else lightgbm_trees
    X = Features(graph, model.n_features_in_).matrix
    margin = graph.column(read(model.booster_).margins(graph, X), 0)
    if model._is_regression:
        graph.output("value", margin, np.float64)
    else:
        _give_decision(model, graph, graph("Sigmoid", margin), margin, 0.0)


def _write_plug_in(model: FairPlugInClassifier, graph: Graph) -> None:
    _require_priced_without_lot(model)
    names = getattr(model, "feature_names_in_", None)
    known = None if names is None else [str(name) for name in names]
    features = Features(graph, model.n_features_in_, known)
    outcome = graph.column(_cross_fitted(model._outcome, features), 1)
    shares = graph("Sub", graph.constant(np.float64(1)), outcome), outcome
    asked = [
        graph("Mul", share, _weighted(graph, _cross_fitted(fit, features), price))
        for fit, share, price in zip(model._group_of, shares, _prices_of_groups(model), strict=True)
    ]
    _give_priced(model, graph, outcome, asked)


def _write_priced_networks(model: Any, graph: Graph, example: Any = None) -> None:
    from fairtrain.integrations.onnx.networks import joint_of

    _require_priced_without_lot(model)
    joint = joint_of(model, graph, example)
    favourable = np.tile([0.0, 1.0], len(model.scheme_))
    asked = _weighted(graph, joint, _prices_of_groups(model).T.ravel())
    _give_priced(model, graph, _weighted(graph, joint, favourable), [asked])


def _require_priced_without_lot(model: Any) -> None:
    if model._lottery is not None:
        raise InvalidParameterError(
            _DRAWN.format("certification='cross'", "certify with certification_fraction")
        )
    if model.lottery_:
        raise InvalidParameterError(
            _DRAWN.format("a model whose scores tie", "give it an estimator with finer scores")
        )
    if model.sensitive_at_predict or model.scheme_.given:
        raise InvalidParameterError(
            "a model that is told the group, or compares within strata, is not exported: leave "
            "sensitive_at_predict and strata out, or deploy it with fairtrain.save."
        )


def _weighted(graph: Graph, matrix: str, weights: NDArray[np.float64]) -> str:
    """Weighted sum of every row."""
    return graph.column(graph("MatMul", matrix, graph.constant(weights[:, None])), 0)


def _give_priced(model: Any, graph: Graph, outcome: str, asked: Sequence[str]) -> None:
    """Decide by the gain of P(y = 1 | x) less what prices ask."""
    gain = graph("Sub", outcome, graph.constant(np.float64(model.costs_.threshold)))
    margin = graph("Mul", graph.constant(np.float64(2)), gain)
    for part in asked:
        margin = graph("Sub", margin, part)
    widest = float(np.abs(model._gain(np.array([0.0, 1.0]))).max())
    scaled = graph("Div", margin, graph.constant(np.float64(2 * widest)))
    half = graph("Add", scaled, graph.constant(np.float64(0.5)))
    _give_decision(model, graph, graph.clip(half, 0.0, 1.0), margin, 0.0)


def _prices_of_groups(model: Any) -> NDArray[np.float64]:
    """What is asked of a person of a known group and label, shape (2, G): prices are linear."""
    size = len(model.scheme_)
    asked = []
    for y in (0.0, 1.0):
        known = JointScores.of_known(np.full(size, y), np.arange(size), size)
        rates = linear_rates(model._families(), known, scale=model._rule.scale)
        asked.append(rates.slopes @ model._rule.prices)
    return np.stack(asked)


def _cross_fitted(fit: CrossFit, features: Features) -> str:
    """The folds' mean probabilities, no class impossible, as :class:`CrossFit` gives them."""
    graph, members = features.graph, []
    floor = graph.constant(np.float64(_FLOOR))
    for fold in fit.models:
        places = fold.seen[np.asarray(fold.model.classes_, dtype=np.int64)]
        spread = graph.constant(np.eye(fit.n_classes)[places])
        own = graph("MatMul", probabilities(fold.model, features), spread)
        own = graph("Max", own, floor)
        members.append(graph("Div", own, graph.total(own, keepdims=1)))
    return graph.mean(members)


def _write_calibrated(model: CalibratedFairClassifier, graph: Graph) -> None:
    if len(model.classes_) > 2:
        raise InvalidParameterError(
            "calibration of three or more classes is not exported; deploy it with fairtrain.save."
        )
    names = getattr(model, "feature_names_in_", None)
    features = Features(graph, model.n_features_in_, None if names is None else list(names))
    inner = model.estimator_
    if isinstance(inner, FrozenEstimator):
        inner = inner.estimator
    score = graph.column(probabilities(inner, features), 1)
    people = People(graph, model.calibrator_.scheme_)
    logits = graph.logit(graph.clip(score, CLIP, 1 - CLIP))
    proba = graph.both(calibrated(model.calibrator_, people, logits))
    _give_most_probable(model, graph, proba)


def _write_calibrator(model: GroupFairnessCalibrator, graph: Graph) -> None:
    scores = graph.input("scores", np.float64)
    if model.scale == "logit":
        limit = float(np.log((1 - CLIP) / CLIP))
        logits = graph.clip(scores, -limit, limit)
    else:
        logits = graph.logit(graph.clip(scores, CLIP, 1 - CLIP))
    people = People(graph, model.scheme_)
    graph.output("probabilities", calibrated(model, people, logits), np.float64)


# What every classifier gives out -----------------------------------------------------------------


def _give_decision(model: Any, graph: Graph, proba: str, value: str, threshold: float) -> None:
    """Decide for the favourable label where a value is above a threshold."""
    coding = model._coding
    above = graph("Greater", value, graph.constant(np.float64(threshold)))
    place = above if coding.column == 1 else graph("Not", above)
    _give_label(model, graph, graph.cast(place, np.int64))
    graph.output("probabilities", graph.both(proba, coding.column), np.float64, 2)


def _give_most_probable(model: Any, graph: Graph, proba: str) -> None:
    """Decide for the label of largest probability; the first wins ties, as in NumPy."""
    _give_label(model, graph, graph("ArgMax", proba, axis=1, keepdims=0))
    graph.output("probabilities", proba, np.float64, len(model.classes_))


def _give_label(model: Any, graph: Graph, place: str) -> None:
    classes = np.asarray(model.classes_)
    label = graph("Gather", graph.constant(classes), place)
    graph.output("label", label, kind_of(classes))


_WRITERS: dict[type, Callable[[Any, Graph], None]] = {
    FairPlugInClassifier: _write_plug_in,
    CalibratedFairClassifier: _write_calibrated,
    GroupFairnessCalibrator: _write_calibrator,
}
