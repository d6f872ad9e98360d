"""How a training went, in plain words."""

from __future__ import annotations

import numpy as np

from fairtrain.boosting.training import Job, Trained
from fairtrain.lagrangian import explain_training
from fairtrain.metrics.report import FairnessReport

__all__ = ["empty_cells", "training_notes"]


def empty_cells(job: Job, found: Trained) -> list[str]:
    """Name groups in which a rate is not defined, so that nothing watched their bound."""
    said, start = [], 0
    for family in job.families:
        counts = found.steering_counts[start : start + len(family.scheme)]
        start += len(family.scheme)
        empty = [family.scheme.names[g] for g in np.flatnonzero(counts == 0)]
        if empty:
            rows = {
                "true_positive_rate": "row with the favourable label",
                "false_positive_rate": "row with the unfavourable label",
            }.get(family.rate.name, "row of its event")
            said.append(
                f"{family.name}: no {rows} among those that steer in {empty[:5]}, so the "
                f"{family.rate.name} of such a group is not defined and its bound not watched; "
                "bring more rows, or merge groups."
            )
    return said


def training_notes(report: FairnessReport, job: Job, found: Trained) -> list[str]:
    """Sentences that follow the report's own."""
    rounds = found.rounds
    judged = job.trees.task == "classification"
    return [
        f"The model holds {rounds.n_trees} of {len(rounds.records)} rounds.",
        *empty_cells(job, found),
        *explain_training(
            report,
            rounds.dual,
            base_rates=found.base_rates if judged else None,
            names=job.scheme.names,
            rates=("learning_rate", "dual_lr"),
        ),
    ]
