"""A fitted model as a table of plain nodes, with its arrays and foreign parts beside it."""

from __future__ import annotations

import enum
import math
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Collection, Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from types import FunctionType, MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from fairtrain.exceptions import PersistenceError
from fairtrain.metrics.disclosure import MIN_CELL, hidden_cells, rests_on_few
from fairtrain.metrics.report import FairnessReport
from fairtrain.persistence.allowed import (
    BY_STATE,
    Known,
    failing,
    foreign_types,
    is_function,
    name_of,
)
from fairtrain.persistence.trees import lift

__all__ = ["Encoded", "encode", "hidden_in_reports"]


@dataclass
class Encoded:
    """What is written.

    Attributes
    ----------
    root : value
        The model.
    nodes : list of dict
        What is not a plain value; values refer to nodes by number.
    arrays : dict of str to ndarray
        Numbers.
    parts : dict of str to bytes
        Files of other libraries' formats.
    left_out : list of str
        Settings that cannot be saved and are not needed to predict.
    """

    root: Any = None
    nodes: list[dict[str, Any]] = field(default_factory=list)
    arrays: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    parts: dict[str, bytes] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def copy(self) -> Encoded:
        """What is written so far."""
        return Encoded(*(copy(each) for each in vars(self).values()))


def encode(model: Any, *, known: Known = MappingProxyType({}), whole: bool = False) -> Encoded:
    """Take a model apart.

    Parameters
    ----------
    model : object
        What to take apart.
    known : mapping of str to type, optional
        Classes besides those that anybody's file may name: whoever reads hands them over as well.
    whole : bool, default=False
        Leave reports as they are, instead of leaving out what a few rows would disclose.

    Raises
    ------
    PersistenceError
        If a part of it could not be loaded again.
    """
    encoder = _Encoder(known, whole)
    encoder.out.root = encoder.value(model, type(model).__name__)
    return encoder.out


class _Encoder:
    def __init__(self, known: Known, whole: bool) -> None:
        self.out = Encoded()
        self._classes, self._whole = known, whole
        self._known: dict[int, int] = {}
        self._kept: list[Any] = []  # keeps ids from being used again
        self._owners: list[Any] = []
        self._hidden: dict[int, frozenset[tuple[str, str]]] = {}

    def value(self, what: Any, where: str) -> Any:
        """A plain value, or a reference to a node."""
        plain = isinstance(what, bool | str) and not isinstance(what, enum.Enum)
        if what is None or plain or type(what) is int:
            return what
        if type(what) is float and math.isfinite(what):
            return what
        if id(what) in self._known:
            number = self._known[id(what)]
            if not self.out.nodes[number]:
                raise PersistenceError(f"{where} refers to itself, which cannot be saved.")
            return {"#": number}
        number = len(self.out.nodes)
        self.out.nodes.append({})
        self._known[id(what)] = number
        self._kept.append(what)
        self.out.nodes[number] = self._node(what, where)
        return {"#": number}

    def _node(self, what: Any, where: str) -> dict[str, Any]:
        kind = type(what)
        writers: tuple[tuple[Any, Callable[[], dict[str, Any]]], ...] = (
            (enum.Enum, lambda: {"t": "enum", "class": self._own(kind, where), "name": what.name}),
            (np.ndarray, lambda: self._array(what, where)),
            (np.generic, lambda: {"t": "scalar", "array": self.value(np.asarray(what), where)}),
            (pd.DataFrame, lambda: self._frame(what, where)),
            (pd.Series | pd.Index, lambda: self._series(what, where)),
            (type | FunctionType, lambda: {"t": "name", "name": self._own(what, where)}),
            (
                FairnessReport,
                lambda: self._object(what if self._whole else self._suppressed(what), where),
            ),
        )
        for kinds, write in writers:
            if isinstance(what, kinds):
                return write()
        if kind in (list, tuple, set, frozenset, slice, range):
            items = sorted(what, key=repr) if isinstance(what, set | frozenset) else what
            if isinstance(what, slice | range):
                items = [what.start, what.stop, what.step]
            return {"t": kind.__name__, "items": self._items(items, where)}
        if kind in (dict, OrderedDict, defaultdict, MappingProxyType):
            return {"t": "dict", "pairs": self._pairs(what, where)}
        if kind in (float, complex):
            return {"t": kind.__name__, "value": repr(what)}
        if kind is bytes:
            return {"t": "bytes", "value": what.hex()}
        return self._foreign(what, where)

    def _foreign(self, what: Any, where: str) -> dict[str, Any]:
        """Objects, by the library that they come from."""
        kind = type(what)
        library = kind.__module__.partition(".")[0]
        if _is_module(what):
            return self._module(what, where)
        name = name_of(kind)
        if library == "fairtrain" or name in BY_STATE or self._classes.get(name) is kind:
            return self._object(what, where)
        if kind.__name__ == "Booster" and library in ("xgboost", "lightgbm"):
            return self._booster(what, library)
        writer = {"sklearn": self._skops, "torch": self._torch}.get(library)
        if writer is None:
            raise PersistenceError(
                f"{where} is a {name}, which cannot be saved so that it loads without "
                "running code from the file."
            )
        return writer(what, where)

    def _pairs(self, what: Mapping[Any, Any], where: str) -> list[list[Any]]:
        return [
            [self.value(key, where), self.value(item, f"{where}[{key!r}]")]
            for key, item in what.items()
        ]

    def _items(self, items: Any, where: str) -> list[Any]:
        return [self.value(item, f"{where}[{i}]") for i, item in enumerate(items)]

    def _own(self, what: Any, where: str) -> str:
        """Name of a class or function of fairtrain."""
        name = name_of(what)
        is_class = isinstance(what, type)
        if "<" in name or not (name.startswith("fairtrain.") if is_class else is_function(name)):
            raise PersistenceError(
                f"{where} is {name}, a class or function of its own, which no file can hold: use "
                "one of fairtrain's by name, or save with pickle for yourself."
            )
        return name

    def _array(self, what: np.ndarray[Any, Any], where: str) -> dict[str, Any]:
        if what.dtype.kind in "biuf" and what.dtype.itemsize <= 8:
            key = f"a{len(self.out.arrays)}"
            self.out.arrays[key] = np.ascontiguousarray(what)
            return {"t": "array", "key": key, "shape": list(what.shape)}
        if what.dtype.kind in "mM":
            numbers = self.value(what.view(np.int64), where)
            return {"t": "times", "dtype": what.dtype.str, "array": numbers}
        if what.dtype.kind in "OUS":
            flat = [item.item() if isinstance(item, np.generic) else item for item in what.ravel()]
            shape, dtype = list(what.shape), "O" if what.dtype.kind == "O" else what.dtype.str
            return {"t": "items", "dtype": dtype, "shape": shape, "items": self._items(flat, where)}
        raise PersistenceError(f"{where} is an array of {what.dtype}, which cannot be saved.")

    def _frame(self, what: pd.DataFrame, where: str) -> dict[str, Any]:
        if where.endswith(_TABLES_OF_GROUPS) and not self._whole:
            what = _without_small_groups(what)
        columns = [self.value(what.iloc[:, i].to_numpy(), where) for i in range(what.shape[1])]
        names = self._items(list(what.columns), where)
        index = self.value(what.index, where)
        return {"t": "frame", "names": names, "columns": columns, "index": index}

    def _series(self, what: Any, where: str) -> dict[str, Any]:
        if isinstance(what, pd.MultiIndex):
            names = self._items(list(what.names), where)
            return {"t": "multi", "items": self._items(what.tolist(), where), "names": names}
        node = {"values": self.value(what.to_numpy(), where), "name": self.value(what.name, where)}
        if isinstance(what, pd.Index):
            return {"t": "index", **node}
        return {"t": "series", **node, "index": self.value(what.index, where)}

    def _object(self, what: Any, where: str) -> dict[str, Any]:
        given = set(what.get_params(deep=False)) if hasattr(what, "get_params") else set()
        left_out = getattr(type(what), "not_saved", ())
        state = {k: v for k, v in getattr(what, "__dict__", {}).items() if k not in left_out}
        for name in getattr(type(what), "__slots__", ()):
            if hasattr(what, name):
                state[name] = getattr(what, name)
        self._owners.append(what)
        self._hidden |= hidden_in_reports(state)
        kept: dict[str, Any] = {}
        for name, item in state.items():
            inside = f"{where}.{name}"
            if name == "module" and name in given:
                kept[name] = self.value(None if item is None else _GIVEN_AGAIN, inside)
                continue
            before = (self.out.copy(), dict(self._known)) if name in given else None
            try:
                kept[name] = self.value(item, inside)
            except PersistenceError:
                if before is None or name_of(type(what)) in BY_STATE:
                    raise
                self.out, self._known = before
                self.out.left_out.append(inside)
                kept[name] = None
        self._owners.pop()
        return {"t": "object", "class": name_of(type(what)), "state": kept}

    def _skops(self, what: Any, where: str) -> dict[str, Any]:
        import skops.io

        with failing(f"{where} cannot be saved"):
            bare, trees = lift(what)
            content = skops.io.dumps(bare)
            foreign = foreign_types(skops.io.get_untrusted_types(data=content))
        if foreign:
            raise PersistenceError(
                f"{where} holds {foreign[0]}, which is no class of scikit-learn and would not be "
                "loaded again."
            )
        key = f"part-{len(self.out.parts)}.skops"
        self.out.parts[key] = content
        node = {"t": "skops", "file": key}
        return node | {"trees": self.value(trees, f"{where}, trees")} if trees else node

    def _booster(self, what: Any, library: str) -> dict[str, Any]:
        key = f"part-{len(self.out.parts)}.{'ubj' if library == 'xgboost' else 'txt'}"
        if library == "xgboost":
            self.out.parts[key] = bytes(what.save_raw(raw_format="ubj"))
        else:
            self.out.parts[key] = what.model_to_string(num_iteration=-1).encode()
        return {"t": "booster", "library": library, "file": key}

    def _module(self, what: Any, where: str) -> dict[str, Any]:
        weights = {
            name: self.value(tensor.detach().cpu().numpy(), f"{where}.{name}")
            for name, tensor in what.state_dict().items()
        }
        node: dict[str, Any] = {"t": "module", "weights": weights, "class": type(what).__name__}
        if type(what).__module__ == "fairtrain.training.modules":
            return {**node, "default": [what.n_features, what.n_outputs, what.n_pieces]}
        owner = next((o for o in reversed(self._owners) if hasattr(o, "n_features_in_")), None)
        head = getattr(owner, "_head", None)
        return {**node, "n_features": getattr(owner, "n_features_in_", None),
                "n_outputs": getattr(head, "n_outputs", 1)}  # fmt: skip

    def _suppressed(self, report: FairnessReport) -> FairnessReport:
        if id(report) not in self._hidden:
            self._hidden |= hidden_in_reports({"": report})
        return _suppressed(report, self._hidden[id(report)])

    def _torch(self, what: Any, where: str) -> dict[str, Any]:
        import torch

        if isinstance(what, torch.Tensor):
            return {"t": "tensor", "array": self.value(what.detach().cpu().numpy(), where)}
        if isinstance(what, torch.device):
            return {"t": "device", "value": str(what)}
        raise PersistenceError(f"{where} is a {name_of(type(what))}, which cannot be saved.")


_GIVEN_AGAIN = {"fairtrain": "module"}
"""Stands for the module that whoever loads hands over."""


def _is_module(what: Any) -> bool:
    return hasattr(what, "state_dict") and hasattr(what, "named_parameters")


_TABLES_OF_GROUPS = (".rates_", ".group_report_")
"""Tables that tell about groups and that no prediction reads."""


def _without_small_groups(table: pd.DataFrame) -> pd.DataFrame:
    if "rows" not in table:
        return table
    few = (table["rows"] > 0) & (table["rows"] < MIN_CELL)
    numbers = [c for c in table.columns if pd.api.types.is_float_dtype(table[c])]
    shown = table.copy()
    shown.loc[few, numbers] = np.nan
    return shown


def hidden_in_reports(state: Mapping[str, Any]) -> dict[int, frozenset[tuple[str, str]]]:
    """What a model's reports must hide, by their id; those on the same rows are one publication."""
    nested = [v for v in state.values() if isinstance(v, dict)]
    found = [*state.values(), *(v for values in nested for v in values.values())]
    by_rows: dict[tuple[str, int], dict[int, FairnessReport]] = {}
    for report in found:
        if isinstance(report, FairnessReport):
            by_rows.setdefault((report.rows, report.n_rows), {})[id(report)] = report
    hidden: dict[int, frozenset[tuple[str, str]]] = {}
    for reports in by_rows.values():
        together = list(reports.values())
        cells = hidden_cells(
            [r.group_rates for r in together], results=[r.results for r in together]
        )
        hidden |= dict.fromkeys(reports, frozenset(cells))
    return hidden


def _suppressed(report: FairnessReport, hidden: Collection[tuple[str, str]]) -> FairnessReport:
    """The report without what a few rows would disclose."""
    rates = report.group_rates.copy()
    pairs = zip(rates["metric"], rates["group"], strict=True)
    cells = np.array([pair in hidden for pair in pairs], dtype=bool)
    rates.loc[cells, ["rate", "lower", "upper"]] = np.nan
    few, on_labels = (
        rates["count"] < MIN_CELL,
        ~rates["metric"].isin(["selection_rate", "accuracy"]),
    )
    rates.loc[cells & few, "count"] = MIN_CELL - 1
    rates.loc[cells & on_labels & ~few, "count"] = MIN_CELL
    if "clusters" in rates:
        rates.loc[cells, "clusters"] = MIN_CELL - 1
    nothing: dict[str, Any] = dict.fromkeys(("achieved", "lower", "upper", "pairwise"), math.nan)
    nothing |= {"highest": "", "lowest": "", "rows_needed": {}, "empty": (), "clusters": {}}
    results = tuple(replace(r, **nothing) if rests_on_few(r) else r for r in report.results)
    joint = report.joint
    if joint is not None:
        joint = joint.without([rests_on_few(r) for r in report.results])
    return replace(report, group_rates=rates, results=results, joint=joint)
