"""Fair training as a drop-in for people who know scikit-learn and PyTorch."""

from __future__ import annotations

from fairtrain._imports import lazy_exports as _lazy_exports

__version__ = "0.1.0"

_MODULES = {
    "CalibratedFairClassifier": "fairtrain.calibration",
    "CalibrationAudit": "fairtrain.calibration",
    "GroupFairnessCalibrator": "fairtrain.calibration",
    "GroupThresholds": "fairtrain.calibration",
    "Multicalibrator": "fairtrain.calibration",
    "CalibrationMonitor": "fairtrain.monitoring",
    "threshold_effects": "fairtrain.calibration",
    "TemperatureScaling": "fairtrain.calibration",
    "calibration_audit": "fairtrain.calibration",
    "BoundedGroupLoss": "fairtrain.constraints",
    "DemographicParity": "fairtrain.constraints",
    "EqualOpportunity": "fairtrain.constraints",
    "EqualizedOdds": "fairtrain.constraints",
    "ErrorRateParity": "fairtrain.constraints",
    "PredictiveEquality": "fairtrain.constraints",
    "RateParity": "fairtrain.constraints",
    "Groups": "fairtrain.groups",
    "FairnessReport": "fairtrain.metrics",
    "Verdict": "fairtrain.metrics",
    "fairness_report": "fairtrain.metrics",
    "gap": "fairtrain.metrics",
    "group_rates": "fairtrain.metrics",
    "ratio": "fairtrain.metrics",
    "ReductionsWrapper": "fairtrain.reductions",
    "BiasParityScoreLoss": "fairtrain.losses",
    "BoundedGroupLossPenalty": "fairtrain.losses",
    "CorrelationLoss": "fairtrain.losses",
    "CosineRamp": "fairtrain.losses",
    "CovarianceLoss": "fairtrain.losses",
    "DemographicParityLoss": "fairtrain.losses",
    "EqualOpportunityLoss": "fairtrain.losses",
    "EqualizedOddsLoss": "fairtrain.losses",
    "ErrorRateParityLoss": "fairtrain.losses",
    "FairnessLoss": "fairtrain.losses",
    "FairnessRegularizer": "fairtrain.losses",
    "FairnessRegularizerLoss": "fairtrain.losses",
    "GroupDROLoss": "fairtrain.losses",
    "GroupMSEParityLoss": "fairtrain.losses",
    "HSICLoss": "fairtrain.losses",
    "HierarchicalFairnessLoss": "fairtrain.losses",
    "LinearWarmup": "fairtrain.losses",
    "MMDLoss": "fairtrain.losses",
    "MutualInformationLoss": "fairtrain.losses",
    "NeuralMutualInformationLoss": "fairtrain.losses",
    "PredictiveEqualityLoss": "fairtrain.losses",
    "RateParityLoss": "fairtrain.losses",
    "SigmoidRamp": "fairtrain.losses",
    "StepRamp": "fairtrain.losses",
    "WassersteinLoss": "fairtrain.losses",
    "AdversarialDebiasingTrainer": "fairtrain.training",
    "EpochFairnessMeter": "fairtrain.training",
    "GradientReversalLayer": "fairtrain.training",
    "GroupStratifiedBatchSampler": "fairtrain.training",
    "Checkpoint": "fairtrain.training",
    "EarlyStopping": "fairtrain.training",
    "LagrangianFairnessTrainer": "fairtrain.training",
    "LogMetrics": "fairtrain.training",
    "ProgressBar": "fairtrain.training",
    "RegularizedFairnessTrainer": "fairtrain.training",
    "evaluate_fairness": "fairtrain.training",
}

__all__ = [*_MODULES, "__version__"]

__getattr__, __dir__ = _lazy_exports(__name__, _MODULES, globals())
