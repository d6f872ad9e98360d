"""Trees of scikit-learn's histogram boosting as a few arrays.

A model of 100 trees is 300 small files inside a skops file, and fifteen such models, which a priced
classifier has, took 6 of the 13 seconds in which the command decided about 1,000 rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE
from sklearn.ensemble._hist_gradient_boosting.gradient_boosting import BaseHistGradientBoosting
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor

from fairtrain.exceptions import PersistenceError
from fairtrain.persistence.limits import inside

__all__ = ["lift", "put_back"]

Arrays = Mapping[str, Any]


def lift(what: Any) -> tuple[Any, list[dict[str, Any]]]:
    """Take the trees out of an estimator.

    Returns
    -------
    bare : estimator
        A copy in which a number stands for the trees of each histogram model; the estimator itself
        where it has none.
    trees : list of dict
        The trees of every model: ``nodes`` (bytes, a line a node), ``binned`` and ``raw`` (sets of
        categories, of shape (k, 8)) of all trees in order, how many of either a tree has
        (``n_nodes``, ``n_sets``), ``per_iteration`` and the ``fields`` of a node.
    """
    models = list(_models(what))
    if not models:
        return what, []
    numbers: dict[int, Any] = {id(m._predictors): [place] for place, m in enumerate(models)}
    return deepcopy(what, numbers), [_stacked(m._predictors) for m in models]


def put_back(what: Any, trees: Sequence[Arrays]) -> None:
    """Put trees where their numbers stand.

    Raises
    ------
    PersistenceError
        If the arrays do not fit together, or this version of scikit-learn has other nodes.
    """
    for model in _models(what):
        place = model._predictors
        if trees and len(place) == 1 and type(place[0]) is int:
            model._predictors = _divided(trees[place[0]])


def _models(what: Any) -> Iterator[Any]:
    """Find histogram models, each once."""
    waiting, seen = [what], set()
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, BaseHistGradientBoosting) and hasattr(part, "_predictors"):
            yield part
        elif not isinstance(part, TreePredictor):
            waiting += inside(part)


def _fields() -> list[list[str]]:
    return [[name, PREDICTOR_RECORD_DTYPE[name].str] for name in PREDICTOR_RECORD_DTYPE.names]


def _stacked(predictors: Sequence[Sequence[Any]]) -> dict[str, Any]:
    flat = [tree for iteration in predictors for tree in iteration]
    nodes = np.concatenate([tree.nodes for tree in flat])
    return {
        "fields": _fields(),
        "per_iteration": len(predictors[0]),
        "nodes": nodes.view(np.uint8).reshape(len(nodes), -1),
        "n_nodes": np.array([len(tree.nodes) for tree in flat]),
        "binned": np.concatenate([tree.binned_left_cat_bitsets for tree in flat]),
        "raw": np.concatenate([tree.raw_left_cat_bitsets for tree in flat]),
        "n_sets": np.array([len(tree.raw_left_cat_bitsets) for tree in flat]),
    }


def _divided(arrays: Arrays) -> list[list[Any]]:
    if arrays["fields"] != _fields():
        raise PersistenceError(
            "the model's trees are of a version of scikit-learn with other nodes: install the one "
            "that the manifest names."
        )
    nodes = np.ascontiguousarray(arrays["nodes"]).view(PREDICTOR_RECORD_DTYPE).reshape(-1)
    ends, cuts = np.cumsum(arrays["n_nodes"]), np.cumsum(arrays["n_sets"])
    sets = [np.asarray(arrays[name], dtype=np.uint32).reshape(-1, 8) for name in ("binned", "raw")]
    if ends[-1] != len(nodes) or any(len(each) != cuts[-1] for each in sets):
        raise PersistenceError("the model's trees do not have the nodes that they declare.")
    flat = [
        TreePredictor(*each)
        for each in zip(
            np.split(nodes, ends[:-1]), *(np.split(each, cuts[:-1]) for each in sets), strict=True
        )
    ]
    step = int(arrays["per_iteration"])
    return [flat[at : at + step] for at in range(0, len(flat), step)]
