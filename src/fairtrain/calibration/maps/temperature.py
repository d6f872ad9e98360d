"""``TemperatureScaling``: logits in, calibrated logits out, as tensors or arrays."""

from __future__ import annotations

from typing import Any, ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from fairtrain._imports import require
from fairtrain._parameters import MOST_GROUPS, Real, Table, Whole, checked
from fairtrain.exceptions import InvalidDataError

require("torch", extra="torch")

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy  # noqa: E402

__all__ = ["TemperatureScaling"]

Logits = TypeVar("Logits", Tensor, NDArray[Any])

_LIMIT = 4.605170185988092  # log 100


class TemperatureScaling(nn.Module):
    r"""Divide logits by a temperature, one for all or one a group.

    :math:`z \mapsto z / T_g` with :math:`T_g > 0` that minimises the cross entropy of held-out
    rows. Order, and so every decision at the most probable class, stays as it is.

    Parameters
    ----------
    num_groups : int, default=1
        Groups with a temperature of their own.
    penalty : float, default=1.0
        Pulls the groups' log temperatures towards their common one, as that many rows would at
        the common temperature's own precision: penalty / 2 * (log T_g - log T)^2, added to the sum
        of losses. 0 fits every group by itself.

    Attributes
    ----------
    log_temperature : Parameter of shape (num_groups,)
        Logarithms of the temperatures.

    References
    ----------
    Guo, Pleiss, Sun and Weinberger (2017), "On calibration of modern neural networks", ICML.

    Examples
    --------
    >>> import torch
    >>> generator = torch.Generator().manual_seed(0)
    >>> truth = torch.randn(4000, generator=generator)
    >>> y = (torch.rand(4000, generator=generator) < torch.sigmoid(truth)).float()
    >>> scaling = TemperatureScaling().fit(3 * truth, y)  # three times too sure
    >>> 2.7 < scaling.temperature.item() < 3.3
    True
    >>> scaling(3 * truth).shape
    torch.Size([4000])
    >>> scaling((3 * truth).numpy()).shape  # arrays in, arrays out
    (4000,)
    """

    _allowed: ClassVar[Table] = {"num_groups": Whole(1, MOST_GROUPS), "penalty": Real(0)}

    @checked
    def __init__(self, num_groups: int = 1, *, penalty: float = 1.0) -> None:
        super().__init__()
        self.penalty = penalty
        self.log_temperature = nn.Parameter(torch.zeros(num_groups))

    @property
    def temperature(self) -> Tensor:
        """Temperatures, shape (num_groups,), detached."""
        return self.log_temperature.detach().exp()

    def forward(self, logits: Logits, groups: Any = None) -> Logits:
        """Scale logits.

        Parameters
        ----------
        logits : Tensor or ndarray of shape (n,), (n, 1) or (n, K)
            Of the positive class, or of K classes. Probabilities are no logits.
        groups : Tensor or array-like of int64, shape (n,), optional
            Codes of the groups; may be left out with one group.

        Returns
        -------
        Tensor or ndarray
            Of the kind, shape and dtype of ``logits``; only a tensor carries a gradient.
        """
        if not isinstance(logits, Tensor):
            with torch.no_grad():
                return self._scaled(_tensor(logits), groups).cpu().numpy()
        return self._scaled(logits, groups)

    def _scaled(self, logits: Tensor, groups: Any) -> Tensor:
        scale = torch.exp(-self.log_temperature.clamp(-_LIMIT, _LIMIT)).to(logits.dtype)
        if groups is None:
            if len(scale) > 1:
                raise InvalidDataError("groups are missing: each has a temperature of its own.")
            return logits * scale
        groups = _tensor(groups)
        if groups.shape != logits.shape[:1]:
            raise InvalidDataError(
                f"groups must have shape ({len(logits)},), got {tuple(groups.shape)}."
            )
        return logits * scale[groups].reshape(-1, *[1] * (logits.ndim - 1))

    def fit(self, logits: Any, y: Any, groups: Any = None, *, max_iter: int = 100) -> Self:
        """Find the temperatures by L-BFGS.

        Parameters
        ----------
        logits : Tensor or ndarray
            As in ``forward``, from rows the network was not trained on. No gradient flows to them.
        y : Tensor or array-like of shape (n,) or (n, 1)
            Labels: 0 and 1, or classes from 0 to K - 1.
        groups : Tensor or array-like of int64, shape (n,), optional
            Codes of the groups.
        max_iter : int, default=100
            Iterations of L-BFGS.

        Returns
        -------
        self
        """
        # In double precision, so that a strong Wolfe search can see the last digits.
        logits, y = _tensor(logits).detach().to(torch.float64), _tensor(y)
        several = logits.ndim == 2 and logits.shape[1] > 1
        target = y.detach().reshape(-1) if several else y.detach().reshape(logits.shape)
        if target.shape[0] != logits.shape[0]:
            raise InvalidDataError(f"y has {len(target)} rows, logits have {len(logits)}.")
        if not bool(torch.isfinite(logits).all()):
            raise InvalidDataError("logits contain NaN or infinity.")
        free = self.log_temperature.detach().to(torch.float64).requires_grad_()
        optimizer = torch.optim.LBFGS([free], max_iter=max_iter, line_search_fn="strong_wolfe")
        double: Any = TemperatureScaling(len(free), penalty=self.penalty).to(torch.float64)
        del double.log_temperature
        double.log_temperature = free

        def closure() -> Tensor:
            optimizer.zero_grad()
            scaled = double(logits, groups)
            loss = (
                cross_entropy(scaled, target.long(), reduction="sum")
                if several
                else binary_cross_entropy_with_logits(
                    scaled, target.to(torch.float64), reduction="sum"
                )
            )
            spread = self.penalty / 2 * ((free - free.mean()) ** 2).sum()
            total: Tensor = (loss + spread) / len(logits)
            total.backward()  # type: ignore[no-untyped-call]
            return total

        optimizer.step(closure)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            self.log_temperature.copy_(free.clamp(-_LIMIT, _LIMIT))
        return self


def _tensor(values: Any) -> Tensor:
    """Values as a tensor, whatever they come as."""
    return values if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values))
