"""Running group sums, so that small batches see the groups they lack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fairtrain.exceptions import InvalidParameterError
from fairtrain.losses.functional import GroupMoments, group_moments

__all__ = ["RunningSums"]


class RunningSums(nn.Module):
    r"""Group sums that fade by ``decay`` with every batch.

    .. math:: R_t = \rho\,(R_{t-1} + S_t)

    A batch is judged by :math:`S_t + R_{t-1}`, which holds about :math:`1 / (1 - \rho)` batches.
    Gradient flows through the batch alone, scaled as if the batch were the whole: a group mean
    takes its *value* from all remembered rows and its *gradient* from the batch mean.

    The sums belong to the loss that made them: a persistent buffer ``running`` of shape (S, K, G),
    saved in ``state_dict`` and restored whatever shape the checkpoint has. A batch with a NaN or
    infinity leaves it as it was. Under ``torch.distributed`` the sums are all-reduced before they
    come here, so every process remembers the same.

    Parameters
    ----------
    decay : float in (0, 1)
        Share that is kept from one batch to the next.
    """

    running: Tensor

    def __init__(self, decay: float) -> None:
        super().__init__()
        if not 0 < decay < 1:
            raise InvalidParameterError(
                f"memory must lie in [0, 1), got {decay!r}; 0.9 remembers about ten batches."
            )
        self.decay = decay
        self.register_buffer("running", torch.zeros(0, 0, 0))

    def forward(self, sums: Float[Tensor, "s k g"]) -> GroupMoments:
        """Remember a batch and give the moments it is judged by.

        Parameters
        ----------
        sums : Tensor of shape (S, K, G)
            Sums of the batch.

        Returns
        -------
        GroupMoments
        """
        batch = group_moments(sums)
        present = sums.detach()
        total = present + self._fitted(sums)
        finite = torch.isfinite(present).all()
        with torch.no_grad():
            self.running.copy_(torch.where(finite, self.decay * total, self.running))
        long_run = group_moments(total)
        variances = long_run.variances
        if variances is not None and batch.variances is not None:
            change = batch.variances - batch.variances.detach()
            known = torch.isfinite(batch.variances)
            variances = variances + torch.where(known, change, 0)
        return GroupMoments(
            long_run.means + (batch.means - batch.means.detach()),
            long_run.counts,
            long_run.overall + (batch.overall - batch.overall.detach()),
            variances,
        )

    def reset(self) -> None:
        """Forget everything."""
        self.running = self.running.new_zeros(0, 0, 0)

    def _fitted(self, sums: Tensor) -> Tensor:
        """Running sums in the shape of ``sums``, which grows with new groups."""
        if self.running.shape != sums.shape:
            fitted = torch.zeros_like(sums, requires_grad=False)
            if self.running.numel():
                _, rates, groups = self.running.shape
                fitted[:, :rates, :groups] = self.running
            self.running = fitted
        return self.running.to(sums.dtype)

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        saved = state_dict.get(f"{prefix}running")
        if isinstance(saved, Tensor) and saved.shape != self.running.shape:
            self.running = torch.zeros_like(saved, device=self.running.device)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
