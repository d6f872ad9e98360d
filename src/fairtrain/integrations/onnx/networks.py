"""A trained module as nodes, by PyTorch's own exporter."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fairtrain._imports import require
from fairtrain._text import one_line
from fairtrain.exceptions import InvalidParameterError
from fairtrain.integrations.onnx.graph import OPSETS, Graph
from fairtrain.training.loop.engine import dtype_of

__all__ = ["outputs_of"]


class _Outputs(nn.Module):
    """The module with its outputs in float64: one logit a row, one a class, or a number."""

    def __init__(self, module: nn.Module, *, difference: bool) -> None:
        super().__init__()
        self.module = module
        self.difference = difference

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.module(x).double()
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
        Where the input ``X`` is added, of the type of the module's weights.
    example : Tensor or None
        Rows, where a row is no vector.
    """
    require("onnxscript", extra="onnx")
    module = trainer.module_
    x = torch.zeros(2, trainer.n_features_in_) if example is None else torch.as_tensor(example)[:2]
    if x.is_floating_point():
        x = x.to(dtype_of(module))
    net = _Outputs(module, difference=trainer._head.task == "binary").eval()
    try:
        with warnings.catch_warnings(action="ignore"), torch.no_grad():
            rows = torch.export.Dim("rows")
            program: Any = torch.onnx.export(
                net, (x,), dynamo=True, dynamic_shapes=({0: rows},), verbose=False,
                opset_version=OPSETS[""],
            )  # fmt: skip
    except Exception as error:
        raise InvalidParameterError(
            f"torch.onnx cannot export this module ({one_line(str(error))[:200]}); keep the model "
            "as it is with fairtrain.save."
        ) from error
    kind = np.dtype(str(x.dtype).removeprefix("torch."))
    (outputs,) = graph.inline(program.model_proto, {"X": graph.input("X", kind, *x.shape[1:])})
    return outputs
