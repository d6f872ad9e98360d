"""A graph in the making: nodes, constants and inputs under names of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairtrain._imports import require

onnx: Any = require("onnx", extra="onnx")

__all__ = ["ML", "OPSETS", "Graph"]

ML = "ai.onnx.ml"
OPSETS = {"": 18, ML: 3}
"""Operators that a graph may use: those that ONNX Runtime knows since 1.14."""


class Graph:
    """Collects nodes; every method gives back the name of what it added."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._functions: list[Any] = []
        self._inputs: dict[str, Any] = {}
        self._outputs: list[Any] = []
        self._n = 0

    def input(self, name: str, kind: Any, *shape: int | str) -> str:
        """Name an input of rows, once; ``kind`` is a NumPy type, ``str`` for text."""
        if name not in self._inputs:
            self._inputs[name] = _value(name, kind, ("rows", *shape))
        return name

    def output(self, name: str, value: str, kind: Any, *shape: int | str) -> None:
        """Give a value out under a name."""
        self._nodes.append(onnx.helper.make_node("Identity", [value], [name]))
        self._outputs.append(_value(name, kind, ("rows", *shape)))

    def constant(self, values: Any) -> str:
        """Hold numbers, which are float64 if they are no whole ones, or text."""
        values, name = np.asarray(values), self._new("constant")
        if values.dtype.kind == "f":
            values = values.astype(np.float64)
        if values.dtype.kind in "OUT":
            text = [str(value).encode() for value in values.ravel().tolist()]
            kind = onnx.TensorProto.STRING
            made = onnx.helper.make_tensor(name, kind, values.shape, text)
        else:
            made = onnx.numpy_helper.from_array(values, name)
        self._constants.append(made)
        return name

    def __call__(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node of one output."""
        name = self._new(operator)
        self._nodes.append(
            onnx.helper.make_node(operator, list(inputs), [name], domain=domain, **attributes)
        )
        return name

    def column(self, matrix: str, i: int) -> str:
        """One column of a matrix, shape (n,)."""
        return self("Gather", matrix, self.constant(np.int64(i)), axis=1)

    def upright(self, values: str) -> str:
        """Numbers of rows as a column, shape (n, 1)."""
        return self("Unsqueeze", values, self.constant(np.array([1])))

    def total(self, matrix: str, *, keepdims: int = 0) -> str:
        """Sum of every row."""
        return self("ReduceSum", matrix, self.constant(np.array([1])), keepdims=keepdims)

    def clip(self, values: str, low: float, high: float) -> str:
        """Keep values within limits."""
        limits = (self.constant(np.float64(limit)) for limit in (low, high))
        return self("Clip", values, *limits)

    def cast(self, values: str, kind: Any) -> str:
        """Turn values into another type."""
        return self("Cast", values, to=_element(kind))

    def logit(self, probability: str) -> str:
        """Logits of probabilities that are neither 0 nor 1."""
        rest = self("Sub", self.constant(np.float64(1)), probability)
        return self("Log", self("Div", probability, rest))

    def both(self, favourable: str, column: int = 1) -> str:
        """Columns of two labels from the probability of one of them, which stands at ``column``."""
        rest = self("Sub", self.constant(np.float64(1)), favourable)
        pair = (rest, favourable) if column == 1 else (favourable, rest)
        return self("Concat", *map(self.upright, pair), axis=1)

    def mean(self, values: Sequence[str]) -> str:
        """Mean of several tensors of one shape."""
        total = values[0]
        for value in values[1:]:
            total = self("Add", total, value)
        return self("Div", total, self.constant(np.float64(len(values))))

    def places(self, text_or_numbers: str, known: Sequence[Any], default: int) -> str:
        """Place of every value among those that are known, as int64; ``default`` for others.

        ``known`` are words, or whole numbers for values in float64.
        """
        words = isinstance(known[0], str)
        keys = {"keys_strings" if words else "keys_int64s": list(known)}
        place = self(
            "LabelEncoder",
            text_or_numbers if words else (whole := self.cast(text_or_numbers, np.int64)),
            domain=ML,
            values_int64s=list(range(len(known))),
            default_int64=default,
            **keys,
        )
        if words:
            return place
        same = self("Equal", self.cast(whole, np.float64), text_or_numbers)  # 2.7 is not 2
        return self("Where", same, place, self.constant(np.int64(default)))

    def inline(self, model: Any, inputs: Mapping[str, str]) -> list[str]:
        """Take in another model, whose inputs are values of this one; the names of its outputs."""
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
        part = onnx.compose.add_prefix(model, f"{self._new('part')}_").graph
        given = dict(zip((i.name for i in part.input), inputs.values(), strict=True))
        for node in part.node:
            node.input[:] = [given.get(name, name) for name in node.input]
        self._nodes += part.node
        self._constants += part.initializer
        return [output.name for output in part.output]

    def model(self, metadata: Mapping[str, str]) -> Any:
        """The finished model, checked."""
        graph = onnx.helper.make_graph(
            self._nodes, "fairtrain", list(self._inputs.values()), self._outputs, self._constants
        )
        opsets = [onnx.helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
        made = onnx.helper.make_model(
            graph, opset_imports=opsets, producer_name="fairtrain", ir_version=9
        )
        onnx.helper.set_model_props(made, dict(metadata))
        onnx.checker.check_model(made, full_check=True)
        return made

    def _new(self, what: str) -> str:
        self._n += 1
        return f"{what}_{self._n}"


def _element(kind: Any) -> int:
    if kind is str:
        return int(onnx.TensorProto.STRING)
    return int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind)))


def _value(name: str, kind: Any, shape: Sequence[int | str]) -> Any:
    return onnx.helper.make_tensor_value_info(name, _element(kind), list(shape))


def kind_of(values: NDArray[Any]) -> Any:
    """The type under which labels are given out."""
    if values.dtype.kind in "OUT":
        return str
    return np.float64 if values.dtype.kind == "f" else values.dtype
