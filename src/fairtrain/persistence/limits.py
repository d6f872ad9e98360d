"""How much a file may ask for, found out before anything of it is made.

A model is never larger than its files: what is compressed, nested without end or refers to itself
a thousand times over is refused unread.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.tree._tree import Tree

from fairtrain._archives import are_stored
from fairtrain.exceptions import PersistenceError
from fairtrain.persistence.allowed import CHECKED_BY
from fairtrain.persistence.boosters import below, check_tree

__all__ = [
    "MOST_FILES",
    "MOST_MANIFEST",
    "check_skops",
    "check_structure",
    "check_trees",
    "inside",
]

MOST_FILES = 10_000
MOST_MANIFEST = 2**26
_DEPTH = 100
"""Levels of nesting: walking down, Python recurses."""
_EXPANDED = 5 * 10**6
"""Parts of a model if what it shares were written out: hashing and comparing walk through them."""


def check_structure(root: Any, nodes: Any) -> None:
    """Check the table of nodes.

    Raises
    ------
    PersistenceError
        If it is nested deeper than 100, refers to itself, or is far larger than it looks.
    """
    if not isinstance(nodes, list) or not all(isinstance(node, dict) for node in nodes):
        raise PersistenceError("structure.json does not describe a model: its nodes are no table.")
    for plain in (root, *nodes):
        if _depth(plain) > _DEPTH:
            raise _too_deep("structure.json")
    table: dict[Any, Sequence[Any]] = {i: list(_references(n)) for i, n in enumerate(nodes)}
    _check_expanded({**table, "root": list(_references(root))}, "root", "structure.json")


def _too_deep(name: str) -> PersistenceError:
    return PersistenceError(f"{name} is nested deeper than {_DEPTH}, as no model is.")


def _depth(what: Any) -> int:
    deepest, waiting = 0, [(what, 1)]
    while waiting:
        part, depth = waiting.pop()
        if isinstance(part, dict | list) and depth <= _DEPTH + 1:
            deepest = max(deepest, depth)
            waiting += [(p, depth + 1) for p in (part.values() if isinstance(part, dict) else part)]
    return deepest


def _references(what: Any) -> Iterator[int]:
    waiting = [what]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if type(number := part.get("#")) is int:
                yield number
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


def _check_expanded(
    table: Mapping[Any, Sequence[Any]], root: Any, name: str, largest: str = ""
) -> None:
    """Check depth and written-out size of a graph, without walking through a part twice.

    Of what is marked ``largest`` one part is taken, of everything else all.
    """
    size: dict[Any, int] = {}
    waiting: list[tuple[Any, bool]] = [(root, False)]
    open_: set[Any] = set()
    while waiting:
        node, done = waiting.pop()
        if done:
            total = max if largest and isinstance(node, tuple) and node[0] == largest else sum
            size[node] = 1 + total(size[part] for part in table[node])
            open_.discard(node)
            if size[node] > _EXPANDED:
                raise PersistenceError(f"{name} is larger than {_EXPANDED:,} parts, written out.")
        elif node not in size:
            if node not in table:
                raise PersistenceError(f"{name} refers to something it does not hold.")
            if node in open_:
                raise PersistenceError(f"{name} refers to itself.")
            open_.add(node)
            if len(open_) > 4 * _DEPTH:
                raise _too_deep(name)
            waiting += [(node, True), *((part, False) for part in table[node])]


# skops ------------------------------------------------------------------------------------------


def check_skops(content: bytes, name: str) -> None:
    """Check one of skops' files, a zip of a schema and of arrays.

    Raises
    ------
    PersistenceError
        If a member is compressed, overlaps another, declares an array that is not there, or the
        schema is nested too deep, expands too far or holds a function with its arguments.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        if not are_stored(members, len(content)):
            raise PersistenceError(f"{name} is compressed, as fairtrain writes none.")
        names = {m.filename for m in members}
        if len(names) < len(members) or "schema.json" not in names:
            raise PersistenceError(f"{name} holds a file twice, or no schema.")
        for member in names - {"schema.json"}:
            _check_array(archive.read(member), member, name)
        schema = json.loads(archive.read("schema.json"))
    _check_schema(schema, name)


def _check_array(content: bytes, member: str, name: str) -> None:
    if member.endswith(".npz"):  # a sparse matrix, which SciPy compresses
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(m.file_size for m in archive.infolist()) > max(2**26, 50 * len(content)):
                raise PersistenceError(f"{name} holds a matrix that is far larger than its file.")
            for inner in archive.namelist():
                _check_array(archive.read(inner), inner, name)
        return
    if not member.endswith(".npy"):
        return
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    header = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    shape, _, dtype = header[version[0]](stream)
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise PersistenceError(f"{name} declares an array that it does not hold.")


def _check_schema(schema: Any, name: str) -> None:
    """Check depth, and size where a part that is named again counts again.

    Whichever part of a name skops takes, none of that name is larger than their largest.
    """
    if _depth(schema) > _DEPTH:
        raise _too_deep(name)
    table: dict[Any, list[Any]] = {}
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict) and part.get("__loader__") == "PartialNode":
            _check_partial(part, name)
        inner = part.values() if isinstance(part, dict) else part
        inner = [p for p in inner if isinstance(p, dict | list)]
        waiting += inner
        table["own", id(part)] = [id(p) for p in inner]
        key = part.get("__id__") if isinstance(part, dict) else None
        known = ("own", id(part)) if key is None else ("named", str(key))
        table[id(part)] = [known]
        if key is not None:
            table.setdefault(known, []).append(("own", id(part)))
    _check_expanded(table, id(schema), name, largest="named")


def _check_partial(part: Mapping[str, Any], name: str) -> None:
    function = part["content"]["func"]
    if f"{function['__module__']}.{function['__class__']}" != CHECKED_BY:
        raise PersistenceError(f"{name} holds a function with its arguments, which no model needs.")


def check_trees(what: Any) -> None:
    """Look through what skops made for trees whose nodes lead nowhere.

    Raises
    ------
    ValueError
        If a tree of scikit-learn, which follows its children without looking, leaves itself.
    """
    waiting, seen = [(what, 0)], set()
    while waiting:
        part, n_features = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        n_features = getattr(part, "n_features_in_", n_features)
        if type(part) is Tree:
            _check_tree_of_sklearn(part, n_features)
        elif type(part) is TreePredictor:
            _check_histogram_tree(part, n_features)
        else:
            waiting += [(inner, n_features) for inner in inside(part)]


def inside(part: Any) -> Iterable[Any]:
    """What a part of an estimator holds."""
    if isinstance(part, np.ndarray):
        return part.ravel().tolist() if part.dtype == object else ()
    if isinstance(part, list | tuple):
        return part
    if type(part).__module__.startswith("sklearn."):
        part = getattr(part, "__dict__", {})
    return part.values() if isinstance(part, dict) else ()


def _check_tree_of_sklearn(tree: Any, n_features: int) -> None:
    left, split = tree.children_left, tree.feature
    leaf = left == -1
    check_tree(left, tree.children_right, tree.node_count, leaf)
    _check_splits(split[~leaf], min(tree.n_features, n_features))


def _check_splits(splits: Any, n_features: int) -> None:
    if not below(splits, n_features):
        raise ValueError("a split is on no feature")


def _check_histogram_tree(tree: Any, n_features: int) -> None:
    nodes = tree.nodes
    leaf = nodes["is_leaf"].astype(bool)
    check_tree(nodes["left"], nodes["right"], len(nodes), leaf)
    _check_splits(nodes["feature_idx"][~leaf], n_features)
    by_category = nodes["is_categorical"].astype(bool) & ~leaf
    sets = min(len(tree.binned_left_cat_bitsets), len(tree.raw_left_cat_bitsets))
    if (nodes["bitset_idx"][by_category] >= sets).any():
        raise ValueError("a split is on no set of categories")
