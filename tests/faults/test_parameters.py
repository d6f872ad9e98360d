"""Every declared setting of every public class: what it refuses, in one line, and what it takes."""

import inspect
import math

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression

import fairtrain
from fairtrain import datasets
from fairtrain._parameters import ANYTHING, Choice, Real, Whole, declared
from fairtrain.exceptions import InvalidParameterError

# What fits return, and what is made of data: nobody sets these.
RESULTS = {
    "CalibrationAudit",
    "CertificationPlan",
    "FairnessReport",
    "Groups",
    "ParetoFrontier",
    "Usefulness",
    "Verdict",
}
PRIVATE = {"history", "windows"}  # state that a dataclass keeps among its fields

NEEDED = {
    "AtLeast": {"rate": "recall", "value": 0.5},
    "AtMost": {"rate": "recall", "value": 0.5},
    "BiasParityScoreLoss": {},
    "BoundedGroupLoss": {"upper_bound": 0.2},
    "BoundedGroupLossPenalty": {"upper_bound": 0.2},
    "CalibratedFairClassifier": {"estimator": LogisticRegression()},
    "Checkpoint": {"path": "checkpoint.pt"},
    "CosineRamp": {"eta": 1.0, "steps": 10},
    "GroupDROLoss": {"num_groups": 2},
    "GroupStratifiedBatchSampler": {"codes": [0, 0, 1, 1], "batch_size": 4},
    "LagrangianBoostingRegressor": {"constraints": "demographic_parity"},
    "LinearWarmup": {"eta": 1.0, "steps": 10},
    "RateParityLoss": {"constraint": "demographic_parity"},
    "ReductionsRegressor": {
        "estimator": LinearRegression(),
        "constraints": fairtrain.BoundedGroupLoss(upper_bound=1.0, loss="squared"),
    },
    "ReductionsWrapper": {"estimator": LogisticRegression()},
    "SigmoidRamp": {"eta": 1.0, "steps": 10},
    "StepRamp": {"etas": {0: 1.0}},
}
HOSTILE = (
    math.nan,
    math.inf,
    -1,
    0,
    1,
    2,
    1.5,
    "x",
    None,
    True,
    object(),
    10**400,
    -(10**12),
    [],
    [math.nan],
    {"a": "b"},
    np.array([[1.0, 2.0]] * 40),
)

CLASSES = {
    name: found
    for name in fairtrain.__all__
    if inspect.isclass(found := getattr(fairtrain, name)) and name not in RESULTS
}


def parameters(owner):
    """Names of the constructor's parameters, those of base classes for ``**settings``."""
    names = set()
    for base in owner.__mro__:
        if "__init__" not in vars(base):
            continue
        found = inspect.signature(base.__init__).parameters.values()
        kinds = {parameter.kind for parameter in found}
        names |= {
            p.name
            for p in found
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "self"
        }
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            break
    return {name for name in names if not name.startswith("_")} - PRIVATE


def values_at(allowed):
    """Values just inside and just outside of what is allowed, and hostile ones."""
    if isinstance(allowed, Whole):
        yield from (allowed.low, allowed.low - 1, allowed.high, allowed.high + 1)
    elif isinstance(allowed, Real):
        for end in (allowed.low, allowed.high):
            if math.isfinite(end):
                yield from (end, math.nextafter(end, -math.inf), math.nextafter(end, math.inf))
    elif isinstance(allowed, Choice):
        yield from allowed.options
    for sort in getattr(allowed, "sorts", ()):
        yield from values_at(sort)
    yield from HOSTILE


CASES = [
    (name, parameter)
    for name, owner in CLASSES.items()
    for parameter, allowed in declared(owner).items()
    if allowed is not ANYTHING and parameter in parameters(owner)
]


def use(name, settings):
    """Give the settings to the class, and let an estimator check them in ``fit``."""
    made = CLASSES[name](**{**NEEDED.get(name, {}), **settings})
    if isinstance(made, BaseEstimator):
        # The settings are looked at before the rows, which are none.
        made.fit(None, None, sensitive_features=None)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_parameter_is_declared(name):
    missing = parameters(CLASSES[name]) - set(declared(CLASSES[name]))
    assert not missing, f"{name}._allowed lacks {sorted(missing)}"


@pytest.mark.parametrize(("name", "parameter"), CASES)
def test_what_is_not_allowed_is_refused_in_one_line(name, parameter):
    allowed = declared(CLASSES[name])[parameter]
    refused = [value for value in values_at(allowed) if not allowed.accepts(value)]
    assert refused, "a declaration that refuses nothing is ANYTHING"
    for value in refused:
        with pytest.raises(InvalidParameterError) as caught:
            use(name, {parameter: value})
        said = str(caught.value)
        assert parameter in said
        assert "\n" not in said
        assert len(said) < 400


@pytest.mark.parametrize(("name", "parameter"), CASES)
def test_what_is_allowed_passes_the_check(name, parameter):
    allowed = declared(CLASSES[name])[parameter]
    for value in filter(allowed.accepts, values_at(allowed)):
        if isinstance(value, int) and not isinstance(value, bool) and value > 10**5:
            continue  # within the limits, but nobody waits for it here
        said = ""
        try:
            use(name, {parameter: value})
        except Exception as error:  # noqa: BLE001 - only what this one setting is told matters
            said = str(error)
        assert not said.startswith(f"{parameter} must {allowed.words}"), value


def test_numbers_reject_what_is_no_number():
    for name, owner in CLASSES.items():
        for parameter, allowed in declared(owner).items():
            if isinstance(allowed, Real | Whole):
                for value in (math.nan, math.inf, "1", True, None, 10**400):
                    assert not allowed.accepts(value), (name, parameter, value)


def test_a_long_value_is_shortened_and_kept_on_one_line():
    with pytest.raises(InvalidParameterError) as caught:
        fairtrain.LinearWarmup(eta="a\n" * 500, steps=3)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200
    with pytest.raises(InvalidParameterError, match="int too long to show"):
        fairtrain.LinearWarmup(eta=10**5000, steps=3)


# Functions --------------------------------------------------------------------------------------

Y, SCORES = np.arange(200) % 2, np.linspace(0.01, 0.99, 200)
WHO = np.repeat(["a", "b"], 100)
CALLS = {
    "calibration_audit": lambda **more: fairtrain.calibration_audit(
        SCORES, Y, WHO, **{"n_simulations": 20, **more}
    ),
    "certification_plan": lambda **more: fairtrain.certification_plan(WHO, **more),
    "fairness_report": lambda **more: fairtrain.fairness_report(Y, 1 - Y, WHO, **more),
    "gap": lambda **more: fairtrain.gap(Y, 1 - Y, WHO, **more),
    "group_rates": lambda **more: fairtrain.group_rates(Y, 1 - Y, WHO, **more),
    "make_biased": lambda **more: datasets.make_biased(**{"n": 20, **more}),
    "make_miscalibrated": lambda **more: datasets.make_miscalibrated(**{"n_samples": 400, **more}),
    "ratio": lambda **more: fairtrain.ratio(Y, 1 - Y, WHO, **more),
    "threshold_effects": lambda **more: fairtrain.threshold_effects(SCORES, SCORES, Y, WHO, **more),
}
SETTINGS = [
    (name, setting)
    for name in CALLS
    for setting in (getattr(fairtrain, name, None) or getattr(datasets, name)).allowed
]


@pytest.mark.parametrize(("name", "setting"), SETTINGS)
@pytest.mark.filterwarnings("ignore")
def test_what_a_function_does_not_allow_is_one_clear_line(name, setting):
    function = getattr(fairtrain, name, None) or getattr(datasets, name)
    allowed = function.allowed[setting]
    for value in values_at(allowed):
        if allowed.accepts(value):
            continue
        with pytest.raises(InvalidParameterError) as raised:
            CALLS[name](**{setting: value})
        said = str(raised.value)
        assert said.startswith(f"{setting} must {allowed.words}, got ")
        assert "\n" not in said
        assert len(said) < 400


@pytest.mark.parametrize("name", CALLS)
def test_every_setting_of_a_function_is_declared(name):
    function = getattr(fairtrain, name, None) or getattr(datasets, name)
    given = inspect.signature(function).parameters.values()
    settings = {p.name for p in given if p.kind is p.KEYWORD_ONLY or name.startswith("make_")}
    # What is data, a column, a constraint, or is read as the method reads it.
    elsewhere = {
        "calibrator",
        "clusters",
        "sample_weight",
        "y",
        "y_score",
        "levels",
        "base_rates",
        "label_bias",
    }
    assert settings - elsewhere <= set(function.allowed)
