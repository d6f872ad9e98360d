"""Boosters' own files, looked at before their libraries, which trust what they read.

LightGBM and XGBoost follow the numbers of a file without looking: a child that is no node, or an
array shorter than was said, ends the process or reads foreign memory. What passes here has trees
whose nodes are each reached once and whose numbers lie in range.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fairtrain.persistence.ubjson import read_ubjson

__all__ = ["below", "check_lightgbm", "check_tree", "check_xgboost"]

_MOST = 10**6
"""Of features and of outputs: libraries set memory aside for as many as a file says."""


def _expect(fine: Any, what: str) -> None:
    if not fine:
        raise ValueError(what)


def below(numbers: Any, n: int) -> bool:
    """Whether all numbers lie from 0 to below n."""
    return bool(((numbers >= 0) & (numbers < n)).all())


def _are_edges(edges: Any, n: int) -> bool:
    """Whether edges begin at 0, never fall, and end at n."""
    return bool(len(edges) and edges[0] == 0 and edges[-1] == n and (np.diff(edges) >= 0).all())


def check_tree(left: Any, right: Any, n: int, is_leaf: Any) -> None:
    """Check that children of inner nodes are nodes, and that no node is the child of two.

    Parameters
    ----------
    left, right : ndarray of int of shape (k,)
        Children of the first k nodes; of leaves whatever marks them.
    n : int
        Nodes; the first one is the root.
    is_leaf : ndarray of bool of shape (k,)
        Which of them have no children.

    Raises
    ------
    ValueError
        If following the children would leave the tree or go round.
    """
    children = np.concatenate([np.asarray(left)[~is_leaf], np.asarray(right)[~is_leaf]])
    inside = (children > 0) & (children < n) & (children % 1 == 0)
    _expect(n > 0 and inside.all(), "a child is no node of its tree")
    _expect(len(np.unique(children)) == len(children), "a node is the child of two others")


# LightGBM ---------------------------------------------------------------------------------------

_NUMBERS = re.compile(r"[-+.0-9eE infa]*")
_END = re.compile(
    r"end of trees\n\nfeature_importances:\n([^\n]*=[0-9.e+-]+\n)*"
    r"(\nparameters:\n(\[[a-z0-9_]+: [^\n]*\]\n)*\nend of parameters\n)?"
    r"(\npandas_categorical:[^\n]*\n*)?"
)
_LEAF = {"leaf_value", "leaf_weight", "leaf_count", "leaf_const"}
_INNER = {"split_feature", "split_gain", "threshold", "decision_type", "left_child", "right_child",
          "internal_value", "internal_weight", "internal_count"}  # fmt: skip
_SINGLE = {"num_leaves", "num_cat", "is_linear", "shrinkage"}
_LISTS = {"cat_boundaries", "cat_threshold", "num_features", "leaf_features", "leaf_coeff"}
_NEEDED = {"num_leaves", "num_cat", "leaf_value"}
_SPLITS = {"split_feature", "threshold", "left_child", "right_child"}


def check_lightgbm(content: bytes) -> None:
    """Check LightGBM's text format.

    Raises
    ------
    ValueError
        If LightGBM might not survive it.
    """
    text = content.decode()
    _expect("\0" not in text, "it holds a NUL")
    head, found, rest = text.partition("\n\nTree=0\n")
    header = dict(_fields(head.split("\n"), flags=("tree", "average_output")))
    _expect(header.get("version") in ("v2", "v3", "v4"), "its version is not known")
    n_features = _whole(header, "max_feature_idx", _MOST) + 1
    n_trees_each, n_classes = (
        _whole(header, name, _MOST) for name in ("num_tree_per_iteration", "num_class")
    )
    _expect(n_trees_each == n_classes > 0, "its numbers of classes and of trees differ")
    for word in header.get("objective", "").split():
        name, _, value = word.partition(":")
        _expect(name != "num_class" or value == str(n_classes), "its objective has other classes")
    for name in ("feature_names", "feature_infos"):
        _expect(len(header.get(name, "").split()) == n_features, f"its {name} are too few")
    _expect(
        len(header.get("monotone_constraints", "").split()) in (0, n_features),
        "its monotone_constraints are too few",
    )
    sizes = _numbers(header.get("tree_sizes", ""), int)
    _expect(len(sizes) % n_trees_each == 0, "its trees are no whole rounds")
    blocks = _tree_texts(f"Tree=0\n{rest}" if found else "", sizes)
    for number, block in enumerate(blocks):
        _check_tree_of_lightgbm(number, block, n_features)


def _tree_texts(text: str, sizes: Any) -> list[str]:
    """Texts of the trees, cut where the header says."""
    content, at, found = text.encode(), 0, []
    for size in sizes:
        _expect(0 < size <= len(content) - at, "its tree_sizes are not those of its trees")
        found.append(content[at : at + size].decode())
        at += size
    end = content[at:].decode()
    _expect(_END.fullmatch(end), "it does not end as it should")
    return found


def _check_tree_of_lightgbm(number: int, block: str, n_features: int) -> None:
    first, _, lines = block.partition("\n")
    _expect(first == f"Tree={number}", "its trees are not where they should be")
    fields = dict(_fields(lines.split("\n")))
    unknown = set(fields) - _LEAF - _INNER - _SINGLE - _LISTS
    _expect(not unknown and set(fields) >= _NEEDED, "a tree has other fields")
    leaves = _whole(fields, "num_leaves", len(block))
    inner = leaves - 1
    _expect(leaves > 0, "a tree has no leaf")
    values = {k: _numbers(v, float) for k, v in fields.items() if k not in _SINGLE}
    for names, n in ((_LEAF, leaves), (_INNER, inner)):
        lengths = {len(values[name]) for name in names & set(values)}
        # A tree of a single leaf has no counts.
        _expect(lengths <= ({n} if inner else {n, 0}), "a tree has fields of another length")
    _expect(len(values["leaf_value"]) == leaves, "a tree has too few leaf values")
    if inner:
        _expect(set(fields) >= _SPLITS, "a tree has no splits")
        _expect(below(values["split_feature"], n_features), "a split is on no feature")
        # Leaves are written as -1, -2, ...: behind the inner nodes they make one tree.
        left, right = (
            np.where((child := values[name]) < 0, inner - 1 - child, child)
            for name in ("left_child", "right_child")
        )
        check_tree(left, right, inner + leaves, np.zeros(inner, dtype=bool))
    _check_categories(fields, values, inner)
    _check_linear(fields, values, leaves, n_features)


def _check_categories(fields: Mapping[str, str], values: Mapping[str, Any], inner: int) -> None:
    kinds = values.get("decision_type", np.zeros(inner))
    _expect(below(kinds, 128) and (kinds % 1 == 0).all(), "a split is of no known kind")
    by_category = values.get("threshold", np.zeros(inner))[(kinds % 2 == 1)[:inner]]
    n = _whole(fields, "num_cat", max(inner, 0))
    edges = values.get("cat_boundaries", np.zeros(0))
    words = values.get("cat_threshold", np.zeros(0))
    _expect(below(by_category, n), "a split is on no set of categories")
    fine = not n or (len(edges) == n + 1 and _are_edges(edges, len(words)))
    _expect(fine, "its sets of categories have no ends")


def _check_linear(
    fields: Mapping[str, str], values: Mapping[str, Any], leaves: int, n_features: int
) -> None:
    if fields.get("is_linear", "0") == "0":
        return
    nothing = np.zeros(0)
    counts, features = (values.get(name, nothing) for name in ("num_features", "leaf_features"))
    _expect(
        len(counts) == leaves == len(values.get("leaf_const", nothing))
        and (counts >= 0).all()
        and counts.sum() == len(features) == len(values.get("leaf_coeff", nothing))
        and below(features, n_features),
        "a linear leaf has other features than it says",
    )


def _fields(lines: Sequence[str], flags: Sequence[str] = ()) -> list[tuple[str, str]]:
    found = [line.partition("=")[::2] for line in lines if line and line not in flags]
    _expect(len(dict(found)) == len(found), "it names a field twice")
    return found


def _numbers(text: str, kind: type) -> Any:
    _expect(_NUMBERS.fullmatch(text), "it has words where numbers belong")
    return np.array([kind(word) for word in text.split()], dtype=kind)


def _whole(fields: Mapping[str, str], name: str, most: int) -> int:
    text = fields.get(name, "")
    _expect(re.fullmatch(r"[0-9]{1,9}", text) and int(text) <= most, f"its {name} is {text[:20]!r}")
    return int(text)


# XGBoost ----------------------------------------------------------------------------------------

_PER_NODE = ("left_children", "right_children", "split_indices", "split_conditions",
             "default_left", "parents")  # fmt: skip
_PER_NODE_TOO = ("base_weights", "loss_changes", "sum_hessian", "split_type")


def check_xgboost(content: bytes) -> None:
    """Check XGBoost's UBJSON format.

    Raises
    ------
    ValueError
        If XGBoost might not survive it.
    """
    try:
        learner = read_ubjson(content)["learner"]
        given = learner["learner_model_param"]
        outputs = [_whole(given, k, _MOST) for k in ("num_class", "num_target") if k in given]
        n_features = _whole(given, "num_feature", _MOST)
        _check_gradient_booster(learner["gradient_booster"], n_features, max(1, *outputs))
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"it lacks a part: {error}") from None


def _check_gradient_booster(booster: Mapping[str, Any], n_features: int, outputs: int) -> None:
    if booster["name"] == "gblinear":
        _expect(
            len(booster["model"]["weights"]) == (n_features + 1) * outputs,
            "its weights are too few",
        )
        return
    if booster["name"] == "dart":
        trees = booster["gbtree"]["model"]["trees"]
        _expect(len(booster["weight_drop"]) == len(trees), "its trees have too few weights")
        booster = booster["gbtree"]
    _expect(booster["name"] == "gbtree", "its booster is not known")
    model = booster["model"]
    trees, groups = model["trees"], np.asarray(model["tree_info"])
    n = _whole(model["gbtree_model_param"], "num_trees", _MOST)
    _expect(n == len(trees) == len(groups), "it has fewer trees than it says")
    _expect(below(groups, outputs), "a tree is for no output")
    rounds = np.asarray(model.get("iteration_indptr", [0, n]))
    _expect(_are_edges(rounds, n), "its rounds are not its trees")
    for tree in trees:
        _check_tree_of_xgboost(tree, n_features)
    _check_encoding(model.get("cats") or {}, n_features)


def _check_tree_of_xgboost(tree: Mapping[str, Any], n_features: int) -> None:
    given = tree["tree_param"]
    n = _whole(given, "num_nodes", 2**31)
    _expect(given.get("size_leaf_vector", "1") in ("0", "1"), "a leaf holds several numbers")
    names = [*_PER_NODE, *(name for name in _PER_NODE_TOO if name in tree)]
    _expect(all(len(tree[name]) == n for name in names), "a tree has fields of another length")
    left, right, splits = (np.asarray(tree[name], dtype=np.int64) for name in _PER_NODE[:3])
    leaf = left == -1
    _expect(((right == -1) == leaf).all(), "a node has one child")
    check_tree(left, right, n, leaf)
    inner, parents = np.flatnonzero(~leaf), np.asarray(tree["parents"], dtype=np.int64)
    fine = (parents[left[inner]] == inner) & (parents[right[inner]] == inner)
    _expect(fine.all() and parents[0] in (-1, 2**31 - 1), "a node has another parent")
    _expect(below(splits[~leaf], n_features), "a split is on no feature")
    kinds = np.asarray(tree.get("split_type", np.zeros(n)))
    _expect(np.isin(kinds, (0, 1)).all(), "a split is of no known kind")
    names = [f"categories{end}" for end in ("_nodes", "_segments", "_sizes", "")]
    nodes, starts, sizes, values = (
        np.asarray(tree.get(name, np.zeros(0)), dtype=np.int64) for name in names
    )
    by_category = np.flatnonzero((kinds == 1) & ~leaf)
    _expect(
        len(nodes) == len(starts) == len(sizes)
        and np.isin(by_category, nodes).all()
        and (np.diff(nodes) > 0).all()
        and below(nodes, n)
        and ((starts >= 0) & (sizes >= 0) & (starts + sizes <= len(values))).all()
        and below(values, 2**24),
        "its sets of categories have no ends",
    )


def _check_encoding(cats: Mapping[str, Any], n_features: int) -> None:
    """Names of categories: of every feature its own, one after the other."""
    encodings = cats.get("enc", [])
    if not len(encodings):
        return
    counts = [_categories(each) for each in encodings]
    order = np.asarray(cats["sorted_idx"])
    ends = np.asarray(cats["feature_segments"])
    starts = np.concatenate([[0], np.cumsum(counts)])
    fine = len(counts) == n_features and np.array_equal(ends, starts) and len(order) == starts[-1]
    _expect(fine, "its categories have no ends")
    places = np.split(order, starts[1:-1])
    fine = all(np.array_equal(np.sort(each), np.arange(len(each))) for each in places)
    _expect(fine, "its categories have no order")


def _categories(encoding: Mapping[str, Any]) -> int:
    if "offsets" not in encoding:
        return len(encoding["values"])
    offsets = np.asarray(encoding["offsets"])
    fine = not len(offsets) or _are_edges(offsets, len(encoding["values"]))
    _expect(fine, "a category has no name")
    return max(len(offsets) - 1, 0)
