"""Parts of a training loop: batches that hold every group, and rates over a whole epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairtrain._imports import lazy_exports as _lazy_exports
from fairtrain._imports import require

require("torch", extra="torch")
require("jaxtyping", extra="torch")

if TYPE_CHECKING:
    from fairtrain.training.adversarial import (
        AdversarialDebiasingTrainer as AdversarialDebiasingTrainer,
    )
    from fairtrain.training.adversarial import GradientReversalLayer as GradientReversalLayer
    from fairtrain.training.batches.sampling import (
        GroupStratifiedBatchSampler as GroupStratifiedBatchSampler,
    )
    from fairtrain.training.lagrangian import LagrangianFairnessTrainer as LagrangianFairnessTrainer
    from fairtrain.training.loop.callbacks import Callback as Callback
    from fairtrain.training.loop.callbacks import Checkpoint as Checkpoint
    from fairtrain.training.loop.callbacks import EarlyStopping as EarlyStopping
    from fairtrain.training.loop.callbacks import LogMetrics as LogMetrics
    from fairtrain.training.loop.callbacks import ProgressBar as ProgressBar
    from fairtrain.training.loop.meter import EpochFairness as EpochFairness
    from fairtrain.training.loop.meter import EpochFairnessMeter as EpochFairnessMeter
    from fairtrain.training.loop.meter import evaluate_fairness as evaluate_fairness
    from fairtrain.training.regularized import (
        RegularizedFairnessTrainer as RegularizedFairnessTrainer,
    )

# Lazily: the losses use training.distributed, the meter here uses the losses.
_MODULES = {
    "AdversarialDebiasingTrainer": "fairtrain.training.adversarial",
    "Callback": "fairtrain.training.loop.callbacks",
    "Checkpoint": "fairtrain.training.loop.callbacks",
    "EarlyStopping": "fairtrain.training.loop.callbacks",
    "GradientReversalLayer": "fairtrain.training.adversarial",
    "LagrangianFairnessTrainer": "fairtrain.training.lagrangian",
    "LogMetrics": "fairtrain.training.loop.callbacks",
    "ProgressBar": "fairtrain.training.loop.callbacks",
    "RegularizedFairnessTrainer": "fairtrain.training.regularized",
    "EpochFairness": "fairtrain.training.loop.meter",
    "EpochFairnessMeter": "fairtrain.training.loop.meter",
    "GroupStratifiedBatchSampler": "fairtrain.training.batches.sampling",
    "evaluate_fairness": "fairtrain.training.loop.meter",
}

__all__ = [*_MODULES]

__getattr__, __dir__ = _lazy_exports(__name__, _MODULES, globals())
