"""What type checkers see of lazy names are the real classes; mypy reads this with the package.

mypy is strict, so an error that is ignored here and that it does not find is itself one: it would
find none if the names were ``Any``. Nothing of this is run.
"""

from typing import assert_type

import fairtrain


def misused() -> None:
    fairtrain.ReductionsWrapper(nonsense=1)  # type: ignore[call-arg]
    fairtrain.LagrangianFairnessTrainer(nonsense=1)  # type: ignore[call-arg]
    fairtrain.FairPlugInClassifier(nonsense=1)  # type: ignore[call-arg]
    fairtrain.DemographicParityLoss(nonsense=1)  # type: ignore[call-arg]


def used(report: fairtrain.FairnessReport) -> None:
    assert_type(report.verdict, fairtrain.Verdict)
