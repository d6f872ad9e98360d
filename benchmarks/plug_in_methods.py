"""Methods of the plug-in's benchmark: ours, those of others, and what knowing the attribute buys.

A method is a callable of :class:`Asked`. FairGBM and OxonFair are left out where they are not
installed; ``pip install --no-deps --target SOMEWHERE fairgbm oxonfair`` and ``PYTHONPATH`` do.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from benchmarks.protocol import Fitted, Part, pick, timed
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from xgboost import XGBClassifier

from fairtrain import (
    FairPlugInClassifier,
    GroupThresholds,
    LagrangianBoostingClassifier,
    ReductionsWrapper,
)
from fairtrain.exceptions import InvalidDataError
from fairtrain.plugin.linear import JointScores, linear_rates

__all__ = ["AWARE", "CURVES", "GROUPS", "METHODS", "Asked", "Found", "curve", "unconstrained"]

TUNED = (1.0, 0.5, 0.25)  # of the bound: a peer's own, picked on validation rows
MOMENTS = {
    "demographic_parity": "DemographicParity",
    "equalized_odds": "EqualizedOdds",
    "equal_opportunity": "TruePositiveRateParity",
}
CURVES: Mapping[str, tuple[float, ...]] = {
    "demographic_parity": (0.01, 0.02, 0.03, 0.05, 0.1, 1.0),
    "equalized_odds": (0.02, 0.05, 0.1, 0.2, 1.0),
    "equal_opportunity": (0.02, 0.05, 0.1, 0.2, 1.0),
}
"""Bounds of the curves by which a method is judged at the gap that another one reached."""


@dataclass(frozen=True)
class Found:
    """A rule, and the seconds of all fits that led to it."""

    decide: Callable[[Part], NDArray[Any]]
    seconds: float
    note: str = ""


@dataclass(frozen=True)
class Asked:
    """One question to every method; ``kept`` holds what serves the next question as well."""

    train: Part
    validation: Part
    constraint: str
    bound: float
    seed: int
    kept: dict[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> Part:
        """All rows there are."""
        return self.train.with_rows(self.validation)

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """Make something that does not depend on the question, the first time only."""
        if name not in self.kept:
            self.kept[name] = make()
        return self.kept[name]

    def picked(self, fit: Callable[[float], Fitted]) -> Found:
        """Fit at several bounds and keep the best by validation rows."""
        candidates = [lambda b=b: fit(b * self.bound) for b in TUNED]
        best = pick(candidates, self.validation, self.bound, self.constraint)
        return Found(lambda part: best.decide(part.X), best.seconds)


Method = Callable[[Asked], Found | None]


def booster(seed: int) -> Any:
    """Trees as one would set them without a search."""
    return XGBClassifier(
        n_estimators=100, max_depth=4, learning_rate=0.1, subsample=0.8, random_state=seed, n_jobs=1
    )


def linear(seed: int) -> Any:
    """Logistic regression."""
    return LogisticRegression(max_iter=1000)


# Ours ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Priced:
    """A fitted plug-in, for which another question is another price: one fit serves them all."""

    model: FairPlugInClassifier
    seconds: float
    seen: dict[int, JointScores] = field(default_factory=dict)

    def at(self, constraint: str, bound: float) -> Any:
        """What ``fit`` would give for another question."""
        return self.model.with_constraints(constraint, difference_bound=bound, warm_start=False)

    def decide(self, model: Any, part: Part) -> NDArray[np.float64]:
        """Decisions; scores of the same rows are the same at every price."""
        codes = model.scheme_.encode(part.groups) if model.sensitive_at_predict else None
        if id(part) not in self.seen:
            self.seen[id(part)] = model._scores(part.X, codes)
        scores = self.seen[id(part)]
        rates = linear_rates(model._families(), scores, scale=model._rule.scale)
        return np.asarray(
            model._rule.share(model._gain(scores.outcome) - rates.slopes @ model._rule.prices)
        )


def plug_in(base: Callable[[int], Any], **settings: Any) -> Method:
    """Ours, fitted once for all questions."""
    name = f"{base.__name__} {settings}"

    def fit(asked: Asked) -> Priced:
        rows = asked.rows
        model = FairPlugInClassifier(
            base(asked.seed),
            "demographic_parity",
            difference_bound=0.02,
            group_estimator=base(asked.seed),
            random_state=asked.seed,
            **settings,
        )
        return Priced(*timed(lambda: model.fit(rows.X, rows.y, sensitive_features=rows.groups)))

    def method(asked: Asked) -> Found:
        priced = asked.once(name, lambda: fit(asked))
        model = priced.at(asked.constraint, asked.bound)
        return Found(lambda part: priced.decide(model, part), priced.seconds)

    return method


def curve(asked: Asked, part: Part) -> list[tuple[float, NDArray[np.float64]]]:
    """Decisions of the plug-in at all bounds of a curve; its method was asked before."""
    priced: Priced = asked.kept["booster {}"]
    return [
        (bound, priced.decide(priced.at(asked.constraint, bound), part))
        for bound in CURVES[asked.constraint]
    ]


def fair(make: Callable[[Asked], Any]) -> Method:
    """A method of ours that is fitted for every question."""

    def method(asked: Asked) -> Found:
        model, rows = make(asked).set_params(difference_bound=asked.bound), asked.rows
        model, seconds = timed(lambda: model.fit(rows.X, rows.y, sensitive_features=rows.groups))
        return Found(lambda part: model.decision_proba(part.X)[:, 1], seconds)

    return method


def network(asked: Asked) -> Found:
    """Our network trainer, as it comes."""
    from fairtrain import LagrangianFairnessTrainer

    return fair(
        lambda a: LagrangianFairnessTrainer(
            constraints=a.constraint, validation_fraction=0.2, random_state=a.seed
        )
    )(asked)


# Others' ---------------------------------------------------------------------------------------


def unconstrained(asked: Asked) -> Found:
    """The booster alone."""
    rows = asked.rows
    model, seconds = asked.once(
        "alone", lambda: timed(lambda: booster(asked.seed).fit(rows.X, rows.y))
    )
    return Found(lambda part: model.predict(part.X).astype(np.float64), seconds)


def exponentiated(base: Callable[[int], Any]) -> Method:
    """fairlearn's reduction, its bound picked on validation rows."""
    from fairlearn import reductions

    def method(asked: Asked) -> Found:
        moment = getattr(reductions, MOMENTS[asked.constraint])
        train = asked.train

        def fit(bound: float) -> Fitted:
            model = reductions.ExponentiatedGradient(
                base(asked.seed), moment(difference_bound=bound)
            )
            _, seconds = timed(lambda: model.fit(train.X, train.y, sensitive_features=train.groups))
            return Fitted(lambda X: model._pmf_predict(X)[:, 1], seconds, randomised=True)

        return asked.picked(fit)

    return method


def fairret(asked: Asked) -> Found | None:
    """A network under fairret's penalty, its strength picked on validation rows."""
    if asked.constraint != "demographic_parity":
        return None
    from benchmarks.lagrangian import fairret_mlp

    method = asked.once("fairret", lambda: fairret_mlp(30))
    fitted = method(asked.train, asked.validation, asked.bound, asked.seed)
    return Found(lambda part: fitted.decide(part.X), fitted.seconds, fitted.note)


def oxonfair(asked: Asked) -> Found | None:
    """OxonFair without the attribute at predict: thresholds by the group that features suggest."""
    try:
        from oxonfair import FairPredictor
        from oxonfair import group_metrics as gm
    except ImportError:
        return None
    metric = {
        "demographic_parity": gm.pos_pred_rate.max_diff,
        "equal_opportunity": gm.true_pos_rate.max_diff,
        "equalized_odds": gm.equalized_odds_max,
    }[asked.constraint]
    names, codes = np.unique(asked.train.groups, return_inverse=True)
    held = asked.validation
    data = {"data": held.X, "target": held.y, "groups": np.searchsorted(names, held.groups)}

    def scores() -> tuple[Any, Any]:
        train = asked.train
        return booster(asked.seed).fit(train.X, train.y), booster(asked.seed).fit(train.X, codes)

    def fit() -> Any:
        outcome, group = scores()
        rule = FairPredictor(outcome, data, inferred_groups=group)
        with contextlib.redirect_stdout(io.StringIO()):
            rule.fit(gm.accuracy, metric, asked.bound)
        return rule

    try:
        rule, seconds = timed(fit)
    except ValueError:  # its search, where nobody is likely to belong to one of the groups
        return None
    return Found(lambda part: np.asarray(rule.predict(part.X), dtype=np.float64), seconds)


def fairgbm(asked: Asked) -> Found | None:
    """FairGBM, whose constraints are on error rates; its tolerance picked on validation rows."""
    kind = {"equalized_odds": "FNR,FPR", "equal_opportunity": "FNR"}.get(asked.constraint)
    try:
        import fairgbm as package
    except ImportError:
        return None
    if kind is None:
        return None
    train = asked.train
    codes = np.unique(train.groups, return_inverse=True)[1]

    def fit(bound: float) -> Fitted:
        settings = {
            "objective": "constrained_cross_entropy",
            "constraint_type": kind,
            "constraint_fpr_tolerance": bound,
            "constraint_fnr_tolerance": bound,
            "learning_rate": 0.1,
            "num_leaves": 15,
            "num_threads": 1,
            "seed": asked.seed,
            "verbosity": -1,
        }

        def trained() -> Any:
            rows = package.Dataset(train.X, label=train.y, constraint_group=codes)
            return package.train(settings, rows, 100)

        model, seconds = timed(trained)
        return Fitted(lambda X: (model.predict(X) > 0.5).astype(np.float64), seconds)

    return asked.picked(fit)


# With the attribute at predict -----------------------------------------------------------------


def threshold_optimizer(asked: Asked) -> Found | None:
    """fairlearn's ThresholdOptimizer, which knows only a bound of 0, and both labels of a group."""
    from benchmarks.boosting import double_precision
    from fairlearn.postprocessing import ThresholdOptimizer

    rows = asked.rows
    names = {"equal_opportunity": "true_positive_rate_parity"}
    if any(len(np.unique(rows.y[rows.groups == g])) < 2 for g in np.unique(rows.groups)):
        return None

    def fit() -> Any:
        return ThresholdOptimizer(
            estimator=double_precision(),
            constraints=names.get(asked.constraint, asked.constraint),
            predict_method="predict_proba",
            prefit=False,
        ).fit(rows.X, rows.y, sensitive_features=rows.groups)

    model, seconds = asked.once(f"optimizer {asked.constraint}", lambda: timed(fit))
    return Found(
        lambda part: model._pmf_predict(part.X, sensitive_features=part.groups)[:, 1], seconds
    )


def group_thresholds(asked: Asked) -> Found | None:
    """A threshold a group, chosen on the validation rows, where each has what rates speak of."""
    held, train = asked.validation, asked.train

    def fit() -> tuple[Any, GroupThresholds]:
        model = booster(asked.seed).fit(train.X, train.y)
        rule = GroupThresholds(asked.constraint, tolerance=asked.bound)
        return model, rule.fit(model.predict_proba(held.X)[:, 1], held.y, held.groups)

    try:
        (model, rule), seconds = timed(fit)
    except InvalidDataError:
        return None
    return Found(
        lambda part: np.asarray(rule.predict(model.predict_proba(part.X)[:, 1], part.groups)),
        seconds,
    )


METHODS: Mapping[str, Method] = {
    "XGBoost": unconstrained,
    "plug-in, XGBoost": plug_in(booster),
    "plug-in, XGBoost, cv=2": plug_in(booster, cv=2),
    "plug-in, logistic": plug_in(linear),
    "LagrangianBoosting": fair(
        lambda a: LagrangianBoostingClassifier(
            a.constraint, random_state=a.seed, validation_fraction=0.2
        )
    ),
    "Reductions, logistic": fair(
        lambda a: ReductionsWrapper(
            linear(a.seed), a.constraint, random_state=a.seed, validation_fraction=0.2
        )
    ),
    "LagrangianFairnessTrainer": network,
    "fairlearn EG, logistic": exponentiated(linear),
    "OxonFair, XGBoost": oxonfair,
    "FairGBM": fairgbm,
    "fairret, network": fairret,
    "Reductions, XGBoost, cv=2": fair(
        lambda a: ReductionsWrapper(booster(a.seed), a.constraint, random_state=a.seed, cv=2)
    ),
    "fairlearn EG, XGBoost": exponentiated(booster),
    "plug-in, attribute known": plug_in(booster, sensitive_at_predict=True),
    "ThresholdOptimizer": threshold_optimizer,
    "GroupThresholds": group_thresholds,
}
_NAMES = list(METHODS)
GROUPS = {"ours": _NAMES[:6], "others": _NAMES[6:11], "slow": _NAMES[11:13], "aware": _NAMES[13:]}
AWARE = tuple(GROUPS["aware"])
