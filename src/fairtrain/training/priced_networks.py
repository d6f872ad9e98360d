"""Networks whose scores are priced: what they say of people, in memory and from loaders."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fairtrain.data.draws import keyed_uniform
from fairtrain.data.rows import Rows
from fairtrain.exceptions import InvalidDataError
from fairtrain.plugin.linear import JointScores
from fairtrain.plugin.priced import PricedClassifier
from fairtrain.plugin.scores import GroupMaps
from fairtrain.training.answers import LoaderAnswers, answered
from fairtrain.training.batches.adapter import BatchParts
from fairtrain.training.batches.batch import CHUNK, Batch, FitData
from fairtrain.training.batches.inputs import NamedInputs, n_rows, row_values, to_device
from fairtrain.training.batches.loaders import group_codes, levels_in
from fairtrain.training.heads import Head
from fairtrain.training.joint import GroupLayer, JointHead, JointModule
from fairtrain.training.joint_rows import HeldOut, joint_of
from fairtrain.training.loop.engine import Engine, dtype_of
from fairtrain.training.modules import DefaultModule, build_module
from fairtrain.training.predictor import TensorFeatures

__all__ = ["PricedNetworks"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

_MOST_OF_A_BATCH = 512
"""Rows of a batch, where nobody says how many."""


class PricedNetworks(TensorFeatures, LoaderAnswers, PricedClassifier):
    """Prices on the mean of networks that learn P(g, y | x).

    Attributes
    ----------
    modules_ : list of nn.Module
        The trained networks.
    group_layers_ : list of GroupLayer or None
        The layer for the groups of each, where the module has none of its own.
    log_loss_ : dict of str to float
        Log loss of rows held out.
    """

    module: Any
    batch_size: int | None
    modules_: list[nn.Module]
    group_layers_: list[GroupLayer | None]
    log_loss_: dict[str, float]
    _head: JointHead

    def _networks(
        self,
        rows: Batch,
        n_features: int | None,
        engine: Engine,
        size: int,
        *,
        at_hand: bool = False,
    ) -> list[JointModule]:
        """Make networks for rows like these; if they are all, the default one learns of them."""
        made = []
        for _ in range(size):
            body = build_module(self.module, n_features, self._head.n_outputs)
            if at_hand and isinstance(body, DefaultModule):
                body.learn(to_device(rows.x, "cpu", dtype_of(body)), rows.weight)
            body.to(engine.device)
            some = rows.x[:2] if at_hand else rows.x
            some = to_device(some, engine.device, dtype_of(body))
            network = JointModule.around(body, self._head, some, n_rows(some))
            made.append(network.to(engine.device))
        return made

    def _scores_of(self, held: HeldOut) -> JointScores:
        """Scores of rows held out; where groups are known, with maps that are fitted to them."""
        outcome, both = held.log_losses
        self.log_loss_ = {"outcome": outcome, "group": both - outcome}
        self.estimator_name_ = type(self.modules_[0]).__name__
        self.group_estimator_name_ = None
        if not self.sensitive_at_predict:
            self.group_estimator_name_ = "the same network"
            return JointScores.of(held.joint)
        del self.log_loss_["group"]
        rows, size = held.rows, len(self.scheme_)
        codes, score = _known(rows.codes), held.joint[:, 0, 1]
        weight = None if rows.weight is None else rows.weight.numpy()
        self._maps = GroupMaps.fit(score, rows.y.numpy(), codes, size, weight)
        return JointScores.of_known(self._maps(score, codes), codes, size)

    def _joint(self, X: Any) -> Floats:
        """Mean P(g, y | x) of the networks, for features that were checked, (n, G, 2)."""
        pairs = zip(self.modules_, self.group_layers_, strict=True)
        networks = [JointModule(body, self._head, layer) for body, layer in pairs]
        return joint_of(networks, X, self._chunk(X))

    @staticmethod
    def _is_table(X: Any) -> bool:
        return isinstance(X, Tensor) and X.ndim == 2

    def _chunk(self, X: Any) -> int:
        """Rows of a forward pass where nothing is trained: a batch, where rows are no vectors."""
        return CHUNK if self._is_table(X) else int(self.batch_size or _MOST_OF_A_BATCH)

    def _outcomes(self, X: Any, codes: Codes | None) -> Floats:
        outcome = np.asarray(self._joint(X)[:, :, 1].sum(axis=1))
        return outcome if codes is None else self._maps(outcome, codes)

    def _scores(self, X: Any, codes: Codes | None) -> JointScores:
        if codes is not None:
            return JointScores.of_known(self._outcomes(X, codes), codes, len(self.scheme_))
        return JointScores.of(self._joint(X))

    def _people(self, X: Any, sensitive_features: Any) -> tuple[Any, Codes | None]:
        return super()._people(NamedInputs.of(X), sensitive_features)

    def _drawn(self, X: Any) -> Floats:
        return keyed_uniform(row_values(X), self.draw_key_)

    # Loaders ------------------------------------------------------------------------------------

    def _batch_people(self, parts: BatchParts) -> tuple[Any, Codes | None]:
        if not self.sensitive_at_predict:
            return parts.inputs, None
        if parts.groups is None:
            raise InvalidDataError("sensitive_at_predict is True, and a batch has no groups.")
        levels = levels_in(self.scheme_)
        return parts.inputs, _known(group_codes(torch.as_tensor(parts.groups), levels))

    def _batch_predicted(self, parts: BatchParts) -> NDArray[Any]:
        return self._predicted(*self._batch_people(parts))

    def _batch_probabilities(self, parts: BatchParts) -> Floats:
        return self._probabilities(*self._batch_people(parts))

    def _reader(self) -> tuple[nn.Module, Head]:
        return self.modules_[0], Head("binary")

    def _batches_decided(self, batches: Iterable[Batch], data: FitData) -> Rows:
        def answer(batch: Batch) -> tuple[Floats]:
            codes = _known(batch.codes) if self.sensitive_at_predict else None
            return (self._decision(to_device(batch.x, "cpu"), codes),)

        rows: Rows
        rows, decided = answered(batches, data, answer)
        return rows.decided(decided)


def _known(codes: Tensor) -> Codes:
    """Codes of people who are decided by their groups.

    Raises
    ------
    InvalidDataError
        If one is unknown.
    """
    if bool((codes < 0).any()):
        raise InvalidDataError("sensitive_at_predict is True, and the group of a row is unknown.")
    return codes.cpu().numpy()
