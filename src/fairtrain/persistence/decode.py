"""A model put together again from nodes, arrays and parts."""

from __future__ import annotations

import builtins
import copy
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from fairtrain._imports import require
from fairtrain.exceptions import PersistenceError
from fairtrain.persistence.allowed import Known, failing, foreign_types, resolve
from fairtrain.persistence.boosters import check_lightgbm, check_xgboost
from fairtrain.persistence.encode import Encoded
from fairtrain.persistence.limits import check_skops, check_structure, check_trees
from fairtrain.persistence.trees import put_back

__all__ = ["decode"]


def decode(encoded: Encoded, module: Any = None, known: Known = MappingProxyType({})) -> Any:
    """Put a model together.

    Parameters
    ----------
    encoded : Encoded
        What was read; any of its files may be among the parts.
    module : nn.Module or callable, optional
        Architecture of networks other than the default one.
    known : mapping of str to type, optional
        Classes that may be made besides those that anybody's file may name.

    Raises
    ------
    PersistenceError
        If something is not as :func:`~fairtrain.persistence.encode.encode` writes it.
    """
    check_structure(encoded.root, encoded.nodes)
    return _Decoder(encoded, module, known).value(encoded.root)


_TEXT = 2**26
"""Bytes that an array of short texts may take where each could be longer."""


def _dtype(name: str, kinds: str) -> np.dtype[Any]:
    dtype = np.dtype(name)
    if dtype.kind not in kinds or dtype.subdtype is not None:
        raise PersistenceError(f"an array declares the type {name[:40]!r}.")
    return dtype


class _Decoder:
    def __init__(self, encoded: Encoded, module: Any, known: Known) -> None:
        self.nodes, self.arrays, self.parts = encoded.nodes, encoded.arrays, encoded.parts
        self.module, self.known = module, known
        self._made: dict[int, Any] = {}
        self._makers: dict[str, Callable[[dict[str, Any]], Any]] = {
            "array": self._array,
            "times": lambda n: self.value(n["array"]).view(_dtype(n["dtype"], "mM")),
            "items": self._object_array,
            "scalar": lambda n: self.value(n["array"])[()],
            "dict": lambda n: {self.value(k): self.value(v) for k, v in n["pairs"]},
            "enum": lambda n: resolve(n["class"], known)[n["name"]],
            "name": lambda n: resolve(n["name"], known),
            "float": lambda n: float(n["value"]),
            "complex": lambda n: complex(n["value"]),
            "bytes": lambda n: bytes.fromhex(n["value"]),
            "frame": self._frame,
            "series": lambda n: pd.Series(
                self.value(n["values"]), index=self.value(n["index"]), name=self.value(n["name"])
            ),
            "index": lambda n: pd.Index(self.value(n["values"]), name=self.value(n["name"])),
            "multi": lambda n: pd.MultiIndex.from_tuples(
                self._list(n["items"]), names=self._list(n["names"])
            ),
            "object": self._object,
            "skops": self._skops,
            "booster": self._booster,
            "module": self._module,
            "tensor": lambda n: require("torch", extra="torch").from_numpy(
                np.array(self.value(n["array"]))
            ),
            "device": lambda n: require("torch", extra="torch").device(n["value"]),
        }
        for name in ("list", "tuple", "set", "frozenset", "slice", "range"):
            self._makers[name] = self._container

    def value(self, what: Any) -> Any:
        """What a plain value or a reference stands for."""
        if not isinstance(what, dict):
            return what
        number = what.get("#")
        if type(number) is not int or not 0 <= number < len(self.nodes):
            raise PersistenceError("the model's structure refers to something it does not hold.")
        if number in self._made:
            return self._made[number]
        node = self.nodes[number]
        maker = self._makers.get(node.get("t", ""))
        if maker is None:
            raise PersistenceError(f"the model holds a part of unknown kind {node.get('t')!r}.")
        made = maker(node)
        self._made[number] = made
        return made

    def _list(self, items: list[Any]) -> list[Any]:
        return [self.value(item) for item in items]

    def _container(self, node: dict[str, Any]) -> Any:
        items = self._list(node["items"])
        kind = getattr(builtins, node["t"])
        return kind(*items) if node["t"] in ("slice", "range") else kind(items)

    def _array(self, node: dict[str, Any]) -> Any:
        return np.array(self.arrays[node["key"]]).reshape(node["shape"])

    def _object_array(self, node: dict[str, Any]) -> Any:
        items = self._list(node["items"])
        flat = np.empty(len(items), dtype=object)
        for i, item in enumerate(items):
            flat[i] = item
        shaped = flat.reshape(node["shape"])
        dtype = _dtype(node["dtype"], "OUS")
        if len(items) * dtype.itemsize > _TEXT + 64 * sum(len(i) for i in items if type(i) is str):
            raise PersistenceError(f"an array of text declares {dtype.itemsize} bytes an item.")
        return shaped if dtype.hasobject else shaped.astype(dtype)

    def _frame(self, node: dict[str, Any]) -> pd.DataFrame:
        table = pd.DataFrame({i: self.value(c) for i, c in enumerate(node["columns"])})
        table.columns = pd.Index(self._list(node["names"]))
        table.index = self.value(node["index"])
        return table

    def _object(self, node: dict[str, Any]) -> Any:
        kind = resolve(node["class"], self.known)
        if not isinstance(kind, type):
            raise PersistenceError(f"{node['class']!r} is no class.")
        made: Any = object.__new__(kind)
        for name, item in node["state"].items():
            if name.startswith("__"):
                raise PersistenceError(f"{node['class']!r} has an attribute {name!r} in the file.")
            object.__setattr__(made, name, self._given(self.value(item)))
        return made

    def _given(self, item: Any) -> Any:
        again = isinstance(item, dict) and item.get("fairtrain") == "module" and len(item) == 1
        return self.module if again else item

    def _skops(self, node: dict[str, Any]) -> Any:
        import skops.io

        content = self.parts[node["file"]]
        with failing(f"{node['file']} cannot be read"):
            check_skops(content, node["file"])
            names = skops.io.get_untrusted_types(data=content)
            if foreign := foreign_types(names):
                raise PersistenceError(
                    f"{node['file']} holds {foreign[0]}, which may not be made from a file."
                )
            made = skops.io.loads(content, trusted=names)
            put_back(made, self.value(node.get("trees")) or ())
            check_trees(made)
            return made

    def _booster(self, node: dict[str, Any]) -> Any:
        content = self.parts[node["file"]]
        is_xgboost = node["library"] == "xgboost"
        library = require("xgboost" if is_xgboost else "lightgbm", extra="boosting")
        with failing(f"{node['file']} cannot be read"):
            (check_xgboost if is_xgboost else check_lightgbm)(content)
            if not is_xgboost:
                return library.Booster(model_str=content.decode())
            booster = library.Booster()
            booster.load_model(bytearray(content))
            return booster

    def _module(self, node: dict[str, Any]) -> Any:
        torch = require("torch", extra="torch")
        made = self._architecture(node, torch)
        weights = {k: torch.from_numpy(np.array(self.value(v))) for k, v in node["weights"].items()}
        if len(node.get("default", ())) == 2:  # written before features had pieces
            weights = {**made.state_dict(), **weights}
        try:
            for name, tensor in made.state_dict().items():
                if name in weights and weights[name].dtype != tensor.dtype:
                    made = made.to(weights[name].dtype)
                    break
            made.load_state_dict(weights)
        except (RuntimeError, AttributeError, TypeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise PersistenceError(f"the module has another architecture: {reason}") from None
        return made.eval()

    def _architecture(self, node: dict[str, Any], torch: Any) -> Any:
        if "default" in node:
            from fairtrain.training.modules import DefaultModule

            sizes = [int(size) for size in node["default"]]
            numbers = sum(array.size for array in self.arrays.values())
            if not all(0 < size <= numbers for size in sizes[:2]) or not all(
                0 <= size <= numbers for size in sizes[2:]
            ):
                raise PersistenceError(f"a network of {sizes[0]} x {sizes[1]} is not in the file.")
            return DefaultModule(*sizes) if sizes[2:] else DefaultModule.without_pieces(*sizes)
        if isinstance(self.module, torch.nn.Module):
            return copy.deepcopy(self.module)
        if not callable(self.module):
            raise PersistenceError(
                f"the model is a network of your own ({node['class']}): load(folder, module=...) "
                "with the module, or the factory (n_features, n_outputs) -> module, that made it."
            )
        return self.module(node["n_features"], node["n_outputs"])
