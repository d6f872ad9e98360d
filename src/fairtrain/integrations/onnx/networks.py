"""Trained modules as nodes, by PyTorch's own exporter."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fairtrain._imports import require
from fairtrain._text import one_line
from fairtrain.exceptions import InvalidParameterError
from fairtrain.integrations.onnx.graph import OPSETS, Graph
from fairtrain.training.batches.inputs import call_module, some_rows, to_device
from fairtrain.training.heads import read_logits
from fairtrain.training.joint import JointModule
from fairtrain.training.loop.engine import dtype_of

__all__ = ["joint_of", "outputs_of"]


class _Outputs(nn.Module):
    """A module with its outputs in float64, a row a person, whose inputs may have names."""

    def __init__(self, module: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.module, self.names = module, names

    def forward(self, *inputs: Tensor) -> Tensor:
        x = dict(zip(self.names, inputs, strict=True)) if self.names else inputs[0]
        outputs: Tensor = read_logits(call_module(self.module, x)).double()
        return outputs.flatten(1) if outputs.ndim > 2 else outputs


class _Logits(_Outputs):
    """One logit a row, one a class, or a number."""

    def __init__(self, module: nn.Module, names: tuple[str, ...], *, difference: bool) -> None:
        super().__init__(module, names)
        self.difference = difference

    def forward(self, *inputs: Tensor) -> Tensor:
        outputs = super().forward(*inputs)
        if self.difference and outputs.ndim == 2 and outputs.shape[1] == 2:
            outputs = outputs[:, 1:] - outputs[:, :1]
        return outputs if outputs.ndim == 2 else outputs.unsqueeze(1)


def outputs_of(trainer: Any, graph: Graph, example: Any) -> str:
    """What a trainer's module gives, float64 of shape (n, outputs).

    Parameters
    ----------
    trainer : FairnessTrainer
        Fitted.
    graph : Graph
        Where the input ``X`` is added, of the type of the module's weights, or inputs by name.
    example : Tensor, mapping or None
        Rows, where a row is no vector.
    """
    x = _example(trainer, example, trainer.module_)
    binary = trainer._head.task == "binary"
    return _exported(_Logits(trainer.module_, _names(x), difference=binary), x, graph)


def joint_of(trainer: Any, graph: Graph, example: Any) -> str:
    """What the networks of a trainer say on average of groups and label.

    P(g, y | x) in float64, group by group, of shape (n, 2 G); see :func:`outputs_of`.
    """
    x, members = _example(trainer, example, trainer.modules_[0]), []
    for body, layer in zip(trainer.modules_, trainer.group_layers_, strict=True):
        network = _Outputs(JointModule(body, trainer._head, layer), _names(x))
        members.append(graph("Exp", _exported(network, x, graph)))
    return graph.mean(members)


def _names(x: Any) -> tuple[str, ...]:
    return tuple(x) if isinstance(x, Mapping) else ()


def _example(trainer: Any, example: Any, module: nn.Module) -> Any:
    """Two rows as a module takes them."""
    if example is None:
        example = torch.zeros(2, trainer.n_features_in_)
    elif not isinstance(example, Mapping):
        example = torch.as_tensor(example)
    return some_rows(to_device(example, "cpu", dtype_of(module)), slice(2))


def _exported(net: nn.Module, x: Any, graph: Graph) -> str:
    require("onnxscript", extra="onnx")
    given = x if isinstance(x, Mapping) else {"X": x}
    rows = torch.export.Dim("rows")
    shapes = tuple({0: rows} for _ in given)
    try:
        with warnings.catch_warnings(action="ignore"), torch.no_grad():
            program: Any = torch.onnx.export(
                net.eval(), tuple(given.values()), dynamo=True, dynamic_shapes=(shapes,),
                verbose=False, opset_version=OPSETS[""],
            )  # fmt: skip
    except Exception as error:
        raise InvalidParameterError(
            f"torch.onnx cannot export this module ({one_line(str(error))[:200]}); keep the model "
            "as it is with fairtrain.save."
        ) from error
    inputs = {name: graph.input(name, _kind(part), *part.shape[1:]) for name, part in given.items()}
    (outputs,) = graph.inline(program.model_proto, inputs)
    return outputs


def _kind(part: Tensor) -> Any:
    return np.dtype(str(part.dtype).removeprefix("torch."))
