"""What a module takes: one tensor, or several by name; and how it is called with them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional as F

from fairtrain.data.inputs import check_lengths
from fairtrain.exceptions import InvalidDataError

__all__ = ["NamedInputs", "call_module", "n_rows", "row_values", "some_rows", "to_device"]

MASK = "attention_mask"
"""Where padding is marked by 0, as tokenizers of ``transformers`` do."""


class NamedInputs(Mapping[str, Tensor]):
    """Inputs with names, such as ``input_ids`` and ``attention_mask``, a row a person.

    A mapping of tensors that also gives rows: ``inputs[3:5]`` holds two rows of every tensor.

    Parameters
    ----------
    tensors : mapping of str to array or Tensor of shape (n, ...)
        The inputs. Columns that are no numbers are kept until :meth:`checked` is called: they may
        be the sensitive features, and are taken out then.

    Raises
    ------
    InvalidDataError
        If there are none, or their lengths differ.
    """

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        self._tensors: dict[str, Any] = {str(k): _tensor(v) for k, v in tensors.items()}
        if not self._tensors:
            raise InvalidDataError("X is a mapping without inputs.")
        n = len(next(iter(self._tensors.values())))
        check_lengths(n, **self._tensors)
        self.shape = (n,)

    @classmethod
    def of(cls, X: Any) -> Any:
        """A mapping as named inputs; anything else as it is."""
        named = isinstance(X, Mapping) and not isinstance(X, cls)
        return cls(X) if named and not sparse.issparse(X) else X  # one kind of matrix is a dict

    def __getitem__(self, key: Any) -> Any:
        return self._tensors[key] if isinstance(key, str) else self.take_rows(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def checked(self) -> Self:
        """The same, where all are finite numbers.

        Raises
        ------
        InvalidDataError
            If they are not.
        """
        for name, values in self._tensors.items():
            if not isinstance(values, Tensor):
                raise InvalidDataError(
                    f"X[{name!r}] must hold numbers, rows of one length: pad lists of tokens (a "
                    "tokenizer does with padding=True), and leave text out."
                )
            if values.is_floating_point() and not bool(torch.isfinite(values).all()):
                raise InvalidDataError(
                    f"X[{name!r}] contains NaN or infinity: fill or drop those rows."
                )
        return self

    def take_rows(self, rows: Any) -> Self:
        """Some of the rows."""
        return type(self)({name: tensor[rows] for name, tensor in self._tensors.items()})

    def without(self, names: Sequence[str]) -> NamedInputs:
        """All but some of the inputs."""
        return NamedInputs({name: t for name, t in self._tensors.items() if name not in names})

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return row_values(self).astype(dtype or np.float64)


def row_values(x: Any) -> NDArray[Any]:
    """All numbers of every row, shape (n, d): what belongs to a person, and to no batch.

    Padding counts as 0 and stands last, so that a row's draws and hashes are the same however far
    it was padded, and in whatever order the inputs are named.
    """
    if isinstance(x, Tensor):
        return np.asarray(x.detach().flatten(1).cpu().numpy())
    named = dict(sorted(x.items())) if isinstance(x, Mapping) else dict(enumerate(x))
    mask = named.get(MASK)
    parts = [_unpadded(values.detach().cpu(), mask).flatten(1) for values in named.values()]
    width = max(part.shape[1] for part in parts)
    # Side by side, place by place: zeros behind a row's end move nothing.
    level = torch.stack([F.pad(p.double(), (0, width - p.shape[1])) for p in parts], dim=2)
    return np.asarray(level.flatten(1).numpy())


def _unpadded(values: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None or mask.ndim != 2 or values.shape[:2] != mask.shape:
        return values
    order = torch.argsort(1 - mask.cpu().long().clamp(0, 1), dim=1, stable=True)
    shape = (*order.shape, *[1] * (values.ndim - 2))
    kept = values * mask.cpu().to(values.dtype).reshape(shape)
    return kept.gather(1, order.reshape(shape).expand_as(kept))


def n_rows(x: Any) -> int:
    """Rows of inputs of any structure: the length of the first tensor in it."""
    if isinstance(x, Tensor | np.ndarray):
        return len(x)
    parts = x.values() if isinstance(x, Mapping) else x
    if isinstance(x, Mapping | list | tuple) and len(x):
        return n_rows(next(iter(parts)))
    raise InvalidDataError(f"the inputs of a batch hold no tensor, got {type(x).__name__}.")


def some_rows(x: Any, rows: slice) -> Any:
    """Some of the rows of inputs of any structure."""
    if isinstance(x, Mapping):
        return {name: some_rows(part, rows) for name, part in x.items()}
    if isinstance(x, list | tuple):
        return tuple(some_rows(part, rows) for part in x)
    return x[rows]


def call_module(module: nn.Module, x: Any) -> Any:
    """What a module gives for inputs.

    A mapping goes in as keywords where the module's ``forward`` has parameters of these names, and
    whole where it has none of them; anything else goes in as the one argument.

    Raises
    ------
    InvalidDataError
        If ``forward`` has parameters for some of the names and not for others.
    """
    if isinstance(x, Tensor) or not isinstance(x, Mapping):
        return module(x)
    names, takes_any = _keywords(module)
    unknown = [name for name in x if name not in names]
    if not takes_any and unknown and len(unknown) < len(x):
        raise InvalidDataError(
            f"the module takes {[name for name in x if name in names]} and not {unknown}: leave "
            "them out, or say what goes in with adapter=BatchColumns(inputs=[...])."
        )
    by_name = len(unknown) < len(x) or (takes_any and not names)
    return module(**x) if by_name else module(dict(x))


def _keywords(module: nn.Module) -> tuple[set[str], bool]:
    """Names that ``forward`` takes, and whether it takes any name; wrappers are looked through."""
    kinds = inspect.signature(module.forward).parameters.values()
    names = {p.name for p in kinds if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    inner = getattr(module, "module", None)
    if not names and isinstance(inner, nn.Module):  # DistributedDataParallel, Fabric
        return _keywords(inner)
    return names, any(p.kind == p.VAR_KEYWORD for p in kinds)


def to_device(value: Any, device: str | torch.device, dtype: torch.dtype | None = None) -> Any:
    """Move a structure of tensors, and cast those of floating point; arrays become tensors."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        value = torch.from_numpy(value)
    if isinstance(value, Tensor):
        return value.to(device, dtype if value.is_floating_point() else None)
    if isinstance(value, Mapping):
        moved = {key: to_device(part, device, dtype) for key, part in value.items()}
        return NamedInputs(moved) if isinstance(value, NamedInputs) else moved
    if isinstance(value, list | tuple):
        parts = [to_device(part, device, dtype) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def _tensor(values: Any) -> Any:
    """Numbers as a tensor, as trainers keep them; anything else as an array."""
    if isinstance(values, Tensor):
        return values.detach().cpu()
    try:
        array = np.asarray(values)
    except ValueError:  # rows of several lengths
        array = np.empty(len(values), dtype=object)
    if array.dtype.kind not in "biuf":
        return array
    return torch.from_numpy(array.astype(np.float32) if array.dtype == np.float64 else array.copy())
