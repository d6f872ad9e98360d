"""Where each public name is defined: read by type checkers, and by ``__getattr__`` when asked."""

from fairtrain.boosting import (
    LagrangianBoostingClassifier as LagrangianBoostingClassifier,
)
from fairtrain.boosting import (
    LagrangianBoostingRegressor as LagrangianBoostingRegressor,
)
from fairtrain.calibration import (
    CalibratedFairClassifier as CalibratedFairClassifier,
)
from fairtrain.calibration import (
    CalibrationAudit as CalibrationAudit,
)
from fairtrain.calibration import (
    GroupFairnessCalibrator as GroupFairnessCalibrator,
)
from fairtrain.calibration import (
    GroupThresholds as GroupThresholds,
)
from fairtrain.calibration import (
    Multicalibrator as Multicalibrator,
)
from fairtrain.calibration import (
    TemperatureScaling as TemperatureScaling,
)
from fairtrain.calibration import (
    calibration_audit as calibration_audit,
)
from fairtrain.calibration import (
    threshold_effects as threshold_effects,
)
from fairtrain.constraints import (
    AtLeast as AtLeast,
)
from fairtrain.constraints import (
    AtMost as AtMost,
)
from fairtrain.constraints import (
    BoundedGroupLoss as BoundedGroupLoss,
)
from fairtrain.constraints import (
    DemographicParity as DemographicParity,
)
from fairtrain.constraints import (
    EqualizedOdds as EqualizedOdds,
)
from fairtrain.constraints import (
    EqualOpportunity as EqualOpportunity,
)
from fairtrain.constraints import (
    ErrorCosts as ErrorCosts,
)
from fairtrain.constraints import (
    ErrorRateParity as ErrorRateParity,
)
from fairtrain.constraints import (
    NoLevellingDown as NoLevellingDown,
)
from fairtrain.constraints import (
    PredictiveEquality as PredictiveEquality,
)
from fairtrain.constraints import (
    PredictiveParity as PredictiveParity,
)
from fairtrain.constraints import (
    RateParity as RateParity,
)
from fairtrain.data.groups import (
    Groups as Groups,
)
from fairtrain.losses import (
    BiasParityScoreLoss as BiasParityScoreLoss,
)
from fairtrain.losses import (
    BoundedGroupLossPenalty as BoundedGroupLossPenalty,
)
from fairtrain.losses import (
    CorrelationLoss as CorrelationLoss,
)
from fairtrain.losses import (
    CosineRamp as CosineRamp,
)
from fairtrain.losses import (
    CovarianceLoss as CovarianceLoss,
)
from fairtrain.losses import (
    DemographicParityLoss as DemographicParityLoss,
)
from fairtrain.losses import (
    EqualizedOddsLoss as EqualizedOddsLoss,
)
from fairtrain.losses import (
    EqualOpportunityLoss as EqualOpportunityLoss,
)
from fairtrain.losses import (
    ErrorRateParityLoss as ErrorRateParityLoss,
)
from fairtrain.losses import (
    FairnessLoss as FairnessLoss,
)
from fairtrain.losses import (
    FairnessRegularizer as FairnessRegularizer,
)
from fairtrain.losses import (
    FairnessRegularizerLoss as FairnessRegularizerLoss,
)
from fairtrain.losses import (
    GroupDROLoss as GroupDROLoss,
)
from fairtrain.losses import (
    GroupMSEParityLoss as GroupMSEParityLoss,
)
from fairtrain.losses import (
    HierarchicalFairnessLoss as HierarchicalFairnessLoss,
)
from fairtrain.losses import (
    HSICLoss as HSICLoss,
)
from fairtrain.losses import (
    LinearWarmup as LinearWarmup,
)
from fairtrain.losses import (
    MMDLoss as MMDLoss,
)
from fairtrain.losses import (
    MutualInformationLoss as MutualInformationLoss,
)
from fairtrain.losses import (
    NeuralMutualInformationLoss as NeuralMutualInformationLoss,
)
from fairtrain.losses import (
    PredictiveEqualityLoss as PredictiveEqualityLoss,
)
from fairtrain.losses import (
    PredictiveParityLoss as PredictiveParityLoss,
)
from fairtrain.losses import (
    RateParityLoss as RateParityLoss,
)
from fairtrain.losses import (
    SigmoidRamp as SigmoidRamp,
)
from fairtrain.losses import (
    StepRamp as StepRamp,
)
from fairtrain.losses import (
    WassersteinLoss as WassersteinLoss,
)
from fairtrain.metrics import (
    CertificationPlan as CertificationPlan,
)
from fairtrain.metrics import (
    FairnessReport as FairnessReport,
)
from fairtrain.metrics import (
    Usefulness as Usefulness,
)
from fairtrain.metrics import (
    Verdict as Verdict,
)
from fairtrain.metrics import (
    certification_plan as certification_plan,
)
from fairtrain.metrics import (
    fairness_report as fairness_report,
)
from fairtrain.metrics import (
    gap as gap,
)
from fairtrain.metrics import (
    group_rates as group_rates,
)
from fairtrain.metrics import (
    ratio as ratio,
)
from fairtrain.monitoring import (
    CalibrationMonitor as CalibrationMonitor,
)
from fairtrain.monitoring import (
    FairnessMonitor as FairnessMonitor,
)
from fairtrain.persistence import (
    load as load,
)
from fairtrain.persistence import (
    save as save,
)
from fairtrain.plugin import (
    FairPlugInClassifier as FairPlugInClassifier,
)
from fairtrain.reductions import (
    ReductionsRegressor as ReductionsRegressor,
)
from fairtrain.reductions import (
    ReductionsWrapper as ReductionsWrapper,
)
from fairtrain.tradeoff import (
    ParetoFrontier as ParetoFrontier,
)
from fairtrain.tradeoff import (
    pareto_frontier as pareto_frontier,
)
from fairtrain.training import (
    AdversarialDebiasingTrainer as AdversarialDebiasingTrainer,
)
from fairtrain.training import (
    Checkpoint as Checkpoint,
)
from fairtrain.training import (
    EarlyStopping as EarlyStopping,
)
from fairtrain.training import (
    EpochFairnessMeter as EpochFairnessMeter,
)
from fairtrain.training import (
    FairPlugInTrainer as FairPlugInTrainer,
)
from fairtrain.training import (
    GradientReversalLayer as GradientReversalLayer,
)
from fairtrain.training import (
    GroupStratifiedBatchSampler as GroupStratifiedBatchSampler,
)
from fairtrain.training import (
    LagrangianFairnessTrainer as LagrangianFairnessTrainer,
)
from fairtrain.training import (
    LogMetrics as LogMetrics,
)
from fairtrain.training import (
    ProgressBar as ProgressBar,
)
from fairtrain.training import (
    RegularizedFairnessTrainer as RegularizedFairnessTrainer,
)
from fairtrain.training import (
    evaluate_fairness as evaluate_fairness,
)

__version__: str
