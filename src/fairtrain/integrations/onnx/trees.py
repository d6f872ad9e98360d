"""Boosted trees as one operator: every split as the booster itself compares it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import logit

from fairtrain.exceptions import InvalidParameterError
from fairtrain.integrations.onnx.graph import ML, Graph, onnx

__all__ = ["CATEGORIES", "Trees", "histogram_trees", "lightgbm_trees", "xgboost_trees"]

CATEGORIES = (
    "{} reads categories, which are not exported: encode them as numbers before the booster, "
    "or use fairtrain.save."
)


@dataclass
class Trees:
    """Nodes of all trees, one after the other.

    Attributes
    ----------
    below : {"BRANCH_LEQ", "BRANCH_LT"}
        When a row goes to the left.
    dtype : type
        In which features and thresholds are compared.
    base : sequence of float
        What every row starts with, by output.
    """

    below: str
    dtype: Any
    base: Sequence[float]
    _at: list[tuple[int, int]] = field(default_factory=list)
    _split: list[tuple[int, float, int, int, bool]] = field(default_factory=list)
    _leaf: list[tuple[int, int, int, float]] = field(default_factory=list)
    _n_trees: int = 0

    def start(self) -> None:
        """Begin another tree."""
        self._n_trees += 1

    def split(
        self, node: int, feature: int, threshold: float, left: int, right: int, *, missing: bool
    ) -> None:
        """A row goes to the left where its feature is below, or missing if ``missing``."""
        self._at.append((self._n_trees - 1, node))
        self._split.append((feature, threshold, left, right, missing))

    def leaf(self, node: int, value: float, output: int = 0) -> None:
        """A row gets a value."""
        self._at.append((self._n_trees - 1, node))
        self._split.append((-1, 0.0, 0, 0, False))
        self._leaf.append((self._n_trees - 1, node, output, value))

    def margins(self, graph: Graph, X: str) -> str:
        """Add the operator; float64 of shape (n, outputs)."""
        tree, node = zip(*self._at, strict=True)
        feature, threshold, left, right, missing = zip(*self._split, strict=True)
        of_tree, of_node, output, value = zip(*self._leaf, strict=True)
        modes = ["LEAF" if f < 0 else self.below for f in feature]
        double = np.dtype(self.dtype) == np.float64

        def numbers(name: str, values: Sequence[float]) -> dict[str, Any]:
            made = np.asarray(values, dtype=self.dtype)
            if double:
                return {f"{name}_as_tensor": onnx.numpy_helper.from_array(made)}
            return {name: made.tolist()}

        margins = graph(
            "TreeEnsembleRegressor",
            graph.cast(X, self.dtype),
            domain=ML,
            n_targets=len(self.base),
            nodes_treeids=tree,
            nodes_nodeids=node,
            nodes_featureids=[max(f, 0) for f in feature],
            nodes_modes=modes,
            nodes_truenodeids=left,
            nodes_falsenodeids=right,
            nodes_missing_value_tracks_true=[int(m) for m in missing],
            target_treeids=of_tree,
            target_nodeids=of_node,
            target_ids=output,
            **numbers("nodes_values", threshold),
            **numbers("target_weights", value),
        )
        base = graph.constant(np.asarray(self.base, dtype=np.float64))
        return graph("Add", graph.cast(margins, np.float64), base)


def xgboost_trees(booster: Any) -> Trees:
    """Trees of an ``xgboost.Booster``; it compares in float32."""
    learner = json.loads(booster.save_raw("json"))["learner"]
    base = float(str(learner["learner_model_param"]["base_score"]).strip("[]"))
    if learner["objective"]["name"] == "binary:logistic":
        base = float(logit(base))
    trees = Trees("BRANCH_LT", np.float32, [base])
    for tree in learner["gradient_booster"]["model"]["trees"]:
        if any(tree["split_type"]):
            raise InvalidParameterError(CATEGORIES.format("the booster"))
        trees.start()
        for i, left in enumerate(tree["left_children"]):
            at = float(tree["split_conditions"][i])
            if left < 0:
                trees.leaf(i, at)
                continue
            right, missing = tree["right_children"][i], bool(tree["default_left"][i])
            trees.split(i, tree["split_indices"][i], at, left, right, missing=missing)
    return trees


def lightgbm_trees(booster: Any) -> Trees:
    """Trees of a ``lightgbm.Booster``; it compares in float64."""
    trees = Trees("BRANCH_LEQ", np.float64, [0.0])
    for tree in booster.dump_model()["tree_info"]:
        trees.start()
        waiting, n = [(0, tree["tree_structure"])], 1
        while waiting:
            node, content = waiting.pop()
            if "leaf_value" in content:
                trees.leaf(node, content["leaf_value"])
                continue
            if content["decision_type"] != "<=" or content["missing_type"] == "Zero":
                raise InvalidParameterError(CATEGORIES.format("the booster"))
            left, right, n = n, n + 1, n + 2
            # Without missing values in training a missing one counts as 0.
            missing = (
                content["default_left"]
                if content["missing_type"] == "NaN"
                else content["threshold"] >= 0
            )
            trees.split(
                node, content["split_feature"], content["threshold"], left, right, missing=missing
            )
            waiting += [(left, content["left_child"]), (right, content["right_child"])]
    return trees


def histogram_trees(model: Any) -> Trees:
    """Trees of scikit-learn's ``HistGradientBoostingClassifier``."""
    if model.is_categorical_ is not None and np.any(model.is_categorical_):
        raise InvalidParameterError(CATEGORIES.format(type(model).__name__))
    trees = Trees("BRANCH_LEQ", np.float64, np.ravel(model._baseline_prediction).tolist())
    for of_outputs in model._predictors:
        for output, predictor in enumerate(of_outputs):
            trees.start()
            for i, node in enumerate(predictor.nodes):
                if node["is_leaf"]:
                    trees.leaf(i, float(node["value"]), output)
                    continue
                trees.split(
                    i,
                    int(node["feature_idx"]),
                    float(node["num_threshold"]),
                    int(node["left"]),
                    int(node["right"]),
                    missing=bool(node["missing_go_to_left"]),
                )
    return trees
