"""A model put together again from nodes, arrays and parts."""

from __future__ import annotations

import builtins
import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from fairtrain._imports import require
from fairtrain.exceptions import PersistenceError
from fairtrain.persistence.allowed import failing, foreign_types, resolve
from fairtrain.persistence.encode import Encoded

__all__ = ["decode"]


def decode(encoded: Encoded, module: Any = None) -> Any:
    """Put a model together.

    Parameters
    ----------
    encoded : Encoded
        What was read; any of its files may be among the parts.
    module : nn.Module or callable, optional
        Architecture of networks other than the default one.

    Raises
    ------
    PersistenceError
        If something is not as :func:`~fairtrain.persistence.encode.encode` writes it.
    """
    return _Decoder(encoded, module).value(encoded.root)


class _Decoder:
    def __init__(self, encoded: Encoded, module: Any) -> None:
        self.nodes, self.arrays, self.parts = encoded.nodes, encoded.arrays, encoded.parts
        self.module = module
        self._made: dict[int, Any] = {}
        self._making: set[int] = set()
        self._makers: dict[str, Callable[[dict[str, Any]], Any]] = {
            "array": self._array,
            "times": lambda n: self.value(n["array"]).view(n["dtype"]),
            "items": self._object_array,
            "scalar": lambda n: self.value(n["array"])[()],
            "dict": lambda n: {self.value(k): self.value(v) for k, v in n["pairs"]},
            "enum": lambda n: resolve(n["class"])[n["name"]],
            "name": lambda n: resolve(n["name"]),
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
        if not isinstance(number, int) or not 0 <= number < len(self.nodes):
            raise PersistenceError("the model's structure refers to something it does not hold.")
        if number in self._made:
            return self._made[number]
        if number in self._making:
            raise PersistenceError("the model's structure refers to itself.")
        self._making.add(number)
        node = self.nodes[number]
        maker = self._makers.get(node.get("t", ""))
        if maker is None:
            raise PersistenceError(f"the model holds a part of unknown kind {node.get('t')!r}.")
        made = maker(node)
        self._making.discard(number)
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
        return shaped if node["dtype"] == "O" else shaped.astype(np.dtype(node["dtype"]))

    def _frame(self, node: dict[str, Any]) -> pd.DataFrame:
        table = pd.DataFrame({i: self.value(c) for i, c in enumerate(node["columns"])})
        table.columns = pd.Index(self._list(node["names"]))
        table.index = self.value(node["index"])
        return table

    def _object(self, node: dict[str, Any]) -> Any:
        kind = resolve(node["class"])
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
            names = skops.io.get_untrusted_types(data=content)
            if foreign := foreign_types(names):
                raise PersistenceError(
                    f"{node['file']} holds {foreign[0]}, which may not be made from a file."
                )
            return skops.io.loads(content, trusted=names)

    def _booster(self, node: dict[str, Any]) -> Any:
        content = self.parts[node["file"]]
        is_xgboost = node["library"] == "xgboost"
        library = require("xgboost" if is_xgboost else "lightgbm", extra="boosting")
        with failing(f"{node['file']} cannot be read"):
            if not is_xgboost:
                return library.Booster(model_str=content.decode())
            booster = library.Booster()
            booster.load_model(bytearray(content))
            return booster

    def _module(self, node: dict[str, Any]) -> Any:
        torch = require("torch", extra="torch")
        made = self._architecture(node, torch)
        weights = {k: torch.from_numpy(np.array(self.value(v))) for k, v in node["weights"].items()}
        try:
            for name, tensor in made.state_dict().items():
                if name in weights and weights[name].dtype != tensor.dtype:
                    made = made.to(weights[name].dtype)
                    break
            made.load_state_dict(weights)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise PersistenceError(f"the module has another architecture: {reason}") from None
        return made.eval()

    def _architecture(self, node: dict[str, Any], torch: Any) -> Any:
        if "default" in node:
            from fairtrain.training.modules import DefaultModule

            return DefaultModule(*map(int, node["default"]))
        if isinstance(self.module, torch.nn.Module):
            return copy.deepcopy(self.module)
        if not callable(self.module):
            raise PersistenceError(
                f"the model is a network of your own ({node['class']}): load(folder, module=...) "
                "with the module, or the factory (n_features, n_outputs) -> module, that made it."
            )
        return self.module(node["n_features"], node["n_outputs"])
