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
    from fairtrain.training.callbacks import Callback as Callback
    from fairtrain.training.callbacks import Checkpoint as Checkpoint
    from fairtrain.training.callbacks import EarlyStopping as EarlyStopping
    from fairtrain.training.callbacks import LogMetrics as LogMetrics
    from fairtrain.training.callbacks import ProgressBar as ProgressBar
    from fairtrain.training.evaluation import evaluate_fairness as evaluate_fairness
    from fairtrain.training.lagrangian import LagrangianFairnessTrainer as LagrangianFairnessTrainer
    from fairtrain.training.meter import EpochFairness as EpochFairness
    from fairtrain.training.meter import EpochFairnessMeter as EpochFairnessMeter
    from fairtrain.training.regularized import (
        RegularizedFairnessTrainer as RegularizedFairnessTrainer,
    )
    from fairtrain.training.sampling import (
        GroupStratifiedBatchSampler as GroupStratifiedBatchSampler,
    )

# Lazily: the losses use training.distributed, the meter here uses the losses.
_MODULES = {
    "AdversarialDebiasingTrainer": "fairtrain.training.adversarial",
    "Callback": "fairtrain.training.callbacks",
    "Checkpoint": "fairtrain.training.callbacks",
    "EarlyStopping": "fairtrain.training.callbacks",
    "GradientReversalLayer": "fairtrain.training.adversarial",
    "LagrangianFairnessTrainer": "fairtrain.training.lagrangian",
    "LogMetrics": "fairtrain.training.callbacks",
    "ProgressBar": "fairtrain.training.callbacks",
    "RegularizedFairnessTrainer": "fairtrain.training.regularized",
    "EpochFairness": "fairtrain.training.meter",
    "EpochFairnessMeter": "fairtrain.training.meter",
    "GroupStratifiedBatchSampler": "fairtrain.training.sampling",
    "evaluate_fairness": "fairtrain.training.evaluation",
}

__all__ = [*_MODULES]

__getattr__, __dir__ = _lazy_exports(__name__, _MODULES, globals())
