"""Where each public name is defined: read by type checkers, and by ``__getattr__`` when asked."""

from fairtrain.training.adversarial import (
    AdversarialDebiasingTrainer as AdversarialDebiasingTrainer,
)
from fairtrain.training.adversarial import (
    GradientReversalLayer as GradientReversalLayer,
)
from fairtrain.training.batches.adapter import (
    BatchAdapter as BatchAdapter,
)
from fairtrain.training.batches.adapter import (
    BatchColumns as BatchColumns,
)
from fairtrain.training.batches.sampling import (
    GroupStratifiedBatchSampler as GroupStratifiedBatchSampler,
)
from fairtrain.training.lagrangian import (
    LagrangianFairnessTrainer as LagrangianFairnessTrainer,
)
from fairtrain.training.loop.callbacks import (
    Callback as Callback,
)
from fairtrain.training.loop.callbacks import (
    Checkpoint as Checkpoint,
)
from fairtrain.training.loop.callbacks import (
    EarlyStopping as EarlyStopping,
)
from fairtrain.training.loop.callbacks import (
    LogMetrics as LogMetrics,
)
from fairtrain.training.loop.callbacks import (
    ProgressBar as ProgressBar,
)
from fairtrain.training.loop.meter import (
    EpochFairness as EpochFairness,
)
from fairtrain.training.loop.meter import (
    EpochFairnessMeter as EpochFairnessMeter,
)
from fairtrain.training.loop.meter import (
    evaluate_fairness as evaluate_fairness,
)
from fairtrain.training.plug_in import (
    FairPlugInTrainer as FairPlugInTrainer,
)
from fairtrain.training.regularized import (
    RegularizedFairnessTrainer as RegularizedFairnessTrainer,
)
