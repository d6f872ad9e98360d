"""Ways to train: a fair model, an ordinary one of its kind, and the options of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from fairtrain._commands.columns import SensitiveColumns
from fairtrain._commands.data import split_seed
from fairtrain._commands.operating import AtThreshold, OperatingPoint
from fairtrain._commands.options import Estimator, How, Shares
from fairtrain._imports import require
from fairtrain._text import flatten, one_line
from fairtrain.boosting import LagrangianBoostingClassifier
from fairtrain.constraints import Constraint
from fairtrain.data.labels import LabelCoding
from fairtrain.data.rows import Rows
from fairtrain.exceptions import InvalidParameterError
from fairtrain.plugin import FairPlugInClassifier
from fairtrain.reductions import ReductionsWrapper

__all__ = [
    "METHODS",
    "Method",
    "Settings",
    "as_passed",
    "check_certification",
    "check_point",
    "method_words",
    "read_method",
    "several",
]

_BOOSTERS = ("xgboost", "lightgbm")
_ADVERSARIAL_NOTIONS = ("demographic_parity", "equalized_odds", "equal_opportunity")
_OWN = ("estimator", "eta", "strength", "epochs")
_TREES: dict[str, Any] = {"n_estimators": 100, "max_depth": 4, "learning_rate": 0.1, "n_jobs": 1}


@dataclass(frozen=True)
class Settings:
    """What methods read.

    Attributes
    ----------
    constraint : Constraint
        The constraints that decisions are to keep.
    shares : Shares
        Shares of the rows handed over that steer and that certify; source of all chance.
    sensitive : SensitiveColumns
        How the groups are read.
    options : mapping
        The method's own options, defaults filled in.
    point : OperatingPoint
        Where decisions are made; a number of places is a share once the table is read.
    positive : label
        The favourable outcome, known once the table is read.
    callbacks : tuple
        Watch the training of a network.
    """

    constraint: Constraint
    shares: Shares
    sensitive: SensitiveColumns
    options: Mapping[str, Any] = field(default_factory=dict)
    point: OperatingPoint = field(default_factory=OperatingPoint)
    positive: Any = None
    callbacks: tuple[Any, ...] = ()

    @property
    def keywords(self) -> dict[str, Any]:
        """Keywords that every estimator which splits its rows takes."""
        return {
            "validation_fraction": self.shares.validation,
            "certification_fraction": self.shares.share,
            "positive_label": self.positive,
            "missing": self.sensitive.missing,
            "random_state": self.shares.seed,
        }


@dataclass(frozen=True)
class Method:
    """A way to train.

    Attributes
    ----------
    name : str
        What ``--method`` takes.
    options : mapping of str to value
        Options of ``How`` that it reads, with their defaults.
    fair : callable
        Settings -> an unfitted estimator under the constraint.
    plain : callable or None
        Settings -> an unfitted estimator of the same kind without it. None: fitted once, a model
        serves every bound; it reads all rows but those that certify, and where nothing is asked
        it is the ordinary one.
    moves : str
        Parameter that a sweep moves.
    check : callable
        Raises where the settings are not for this method, or what it needs is not installed.
    plain_splits : bool
        Whether ``plain`` takes all rows and splits them itself, as ``fair`` does.
    random_state : callable
        Seed -> the estimator's ``random_state`` that makes the split of :func:`split_seed`.
    """

    name: str
    options: Mapping[str, Any]
    fair: Callable[[Settings], Any]
    plain: Callable[[Settings], Any] | None
    moves: str = "difference_bound"
    check: Callable[[Settings], object] = lambda settings: None
    plain_splits: bool = False
    random_state: Callable[[int], Any] = int

    @property
    def reprices(self) -> bool:
        """Whether another bound costs no training."""
        return self.plain is None

    def reads_categories(self, settings: Settings) -> bool:
        """Whether it takes a frame with categories, for which its trees need no column a level."""
        return self.reprices and settings.options["estimator"] is None and not settings.shares.cross

    def fit_fair(self, rows: Rows, settings: Settings) -> Any:
        """Fit on divided rows; an estimator that splits them itself does so as they are divided."""
        if self.reprices:
            assert rows.split is not None
            learning = np.concatenate([rows.split.training, rows.split.steering])
            return _fit(self.fair(settings), rows.take(np.unique(learning)))
        seed = settings.shares.seed
        model = self.fair(settings).set_params(random_state=self.random_state(seed))
        return _fit(model, rows).set_params(random_state=seed)

    def fit_plain(self, rows: Rows, settings: Settings, fair: Any) -> Any:
        """Fit the ordinary model beside a fair one."""
        if self.plain is None:
            return fair.with_constraints(settings.point.unasked(settings.constraint))
        model = self.plain(settings)
        if self.plain_splits:
            model = _fit(model, rows)
        else:
            training = rows.part("training")
            assert training.labels is not None
            model.fit(training.X, training.outcomes.astype(np.int64))
            model = InWords(model, training.labels)
        cut = settings.point.cut(rows.part("training").outcomes)
        return model if cut is None else AtThreshold(model, settings.positive, cut)


class InWords:
    """A classifier that was fitted on 0 and 1, answering in the labels of the data."""

    def __init__(self, model: Any, labels: LabelCoding) -> None:
        self.model = model
        self.classes_ = labels.labels

    def predict(self, X: Any) -> NDArray[Any]:
        """Labels, shape (n,)."""
        return np.asarray(self.classes_[np.asarray(self.model.predict(X)).astype(np.int64)])

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probabilities, shape (n, 2), in the order of ``classes_``."""
        return np.asarray(self.model.predict_proba(X), dtype=np.float64)


def as_passed(rows: Rows) -> tuple[Any, Any, Any]:
    """Features, labels in the words of the data, and sensitive columns: what ``fit`` takes."""
    return rows.X, rows.targets, rows.sensitive


def _fit(model: Any, rows: Rows) -> Any:
    X, y, who = as_passed(rows)
    return model.fit(X, y, sensitive_features=who, clusters=rows.clusters)


def _make_estimator(name: Estimator, seed: int) -> Any:
    """Make an unfitted classifier, regularised enough not to memorise a few thousand rows."""
    known = {
        "logistic": LogisticRegression(max_iter=2000),
        "tree": DecisionTreeClassifier(max_depth=6, min_samples_leaf=20, random_state=seed),
        "random-forest": RandomForestClassifier(min_samples_leaf=10, random_state=seed),
        "hist-gradient-boosting": HistGradientBoostingClassifier(
            max_leaf_nodes=15, random_state=seed
        ),
    }
    return known[name] if name in known else _make_booster(name, seed, -1, 15)


def _make_booster(name: str, seed: int, max_depth: int, num_leaves: int) -> Any:
    module: Any = require(name, extra="boosting")
    if name == "xgboost":
        return module.XGBClassifier(**_TREES, random_state=seed)
    trees = {**_TREES, "max_depth": max_depth, "num_leaves": num_leaves}
    return module.LGBMClassifier(**trees, verbose=-1, random_state=seed)


def _chosen_estimator(settings: Settings) -> Any:
    return _make_estimator(settings.options["estimator"], settings.shares.seed)


def _plug_in(settings: Settings) -> Any:
    keywords = {k: v for k, v in settings.keywords.items() if not k.endswith("_fraction")}
    estimator = None if settings.options["estimator"] is None else _chosen_estimator(settings)
    if settings.shares.cross:
        keywords["certification"] = "cross"
    asked = settings.point.limited(settings.constraint)
    return FairPlugInClassifier(estimator, asked, **keywords, **_objective(settings))


def _objective(settings: Settings) -> dict[str, Any]:
    """The objective as estimators take it."""
    return {"objective": settings.point.objective}


def check_point(method: Method, point: OperatingPoint) -> None:
    """Raise where decisions shall be made where a method cannot keep a bound."""
    if point.places is not None and not method.reprices:
        able = [m.name for m in METHODS.values() if m.reprices]
        raise InvalidParameterError(
            f"--select-top is for --method {', '.join(able)}, which gives places a price, not for "
            f"--method {method.name}: take it, or say --threshold."
        )
    if point.option and "objective" not in method.options:
        able = [m.name for m in METHODS.values() if "objective" in m.options]
        raise InvalidParameterError(
            f"{point.option} is for --method {', '.join(able)}, not for --method {method.name}, "
            "whose bound holds where it decides by itself."
        )


def check_certification(method: Method, settings: Settings) -> None:
    """Raise where all rows shall certify a model for which that is not shown to hold."""
    if not settings.shares.cross:
        return
    if not method.reprices:
        raise InvalidParameterError(
            f"--certification cross is not shown to hold for --method {method.name}: give the "
            "share of the rows that only judge, or leave --method and --no-group-inference out."
        )
    if settings.point.places is not None:
        raise InvalidParameterError(
            "--certification cross is not for --select-top, as members would choose more or fewer: "
            "give the share of the rows that only judge."
        )
    if settings.options["estimator"] not in (None, "logistic"):
        raise InvalidParameterError(
            "--certification cross is shown to hold for linear scores only: leave --estimator "
            f"{settings.options['estimator']} out, or give the share of the rows that only judge."
        )


def _check_reductions(settings: Settings) -> None:
    if settings.constraint.notion == "predictive_parity":
        raise InvalidParameterError(
            "--constraint precision_parity is not for --method reductions, which weighs rows and "
            "knows no ratio of two rates: take --method plug-in, boosting or lagrangian, or say "
            "the level that groups shall share, as --at-least precision=0.7."
        )
    _reductions(settings)


def _reductions(settings: Settings) -> Any:
    keywords = settings.keywords | _objective(settings)
    return ReductionsWrapper(_chosen_estimator(settings), settings.constraint, **keywords)


def _check_booster(settings: Settings) -> None:
    booster = settings.options["estimator"]
    if booster not in _BOOSTERS:
        raise InvalidParameterError(
            f"--method boosting trains xgboost or lightgbm, not --estimator {booster}; any other "
            "estimator is for --method reductions or plug-in."
        )
    require(booster, extra="boosting")


def _boosting(settings: Settings) -> Any:
    booster = settings.options["estimator"]
    return LagrangianBoostingClassifier(
        settings.constraint, booster=booster, **_TREES, **settings.keywords, **_objective(settings)
    )


def _plain_booster(settings: Settings) -> Any:
    name, depth = settings.options["estimator"], _TREES["max_depth"]
    return _make_booster(name, settings.shares.seed, depth, 2**depth)


class _AfterOneNumber(np.random.RandomState):
    """Starts anew after its first number.

    The estimator draws the seed of its trees first, and splits the rows with what comes next.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._then: int | None = split_seed(seed)

    def randint(self, *args: Any, **options: Any) -> Any:
        """Draw whole numbers."""
        drawn = super().randint(*args, **options)
        if self._then is not None:
            self.seed(self._then)
            self._then = None
        return drawn


def _network_keywords(settings: Settings) -> dict[str, Any]:
    return {
        **settings.keywords,
        "max_epochs": settings.options["epochs"],
        "callbacks": settings.callbacks,
        "device": "cpu",  # the same numbers wherever the command runs
    }


def _plain_network(settings: Settings) -> Any:
    """Make the same network, with the same first weights and batches, that pays for nothing."""
    from fairtrain.training import RegularizedFairnessTrainer

    constraint = settings.constraint
    notion = "demographic_parity" if constraint.absolute else constraint.notion
    return RegularizedFairnessTrainer(
        None, notion, eta=0.0, constraints=constraint, **_network_keywords(settings)
    )


def _lagrangian(settings: Settings) -> Any:
    from fairtrain.training import LagrangianFairnessTrainer

    keywords = _network_keywords(settings) | _objective(settings)
    return LagrangianFairnessTrainer(None, settings.constraint, **keywords)


def _regularized(settings: Settings) -> Any:
    return _plain_network(settings).set_params(eta=settings.options["eta"], **_objective(settings))


def _adversarial(settings: Settings) -> Any:
    from fairtrain.training import AdversarialDebiasingTrainer

    return AdversarialDebiasingTrainer(
        constraint=settings.constraint.notion,  # type: ignore[arg-type]
        constraints=settings.constraint,
        strength=settings.options["strength"],
        leakage="none",  # what is judged here are decisions
        **_network_keywords(settings),
    )


def _check_network(settings: Settings) -> None:
    require("torch", extra="torch")


def _check_over(settings: Settings, name: str = "regularized") -> None:
    """Raise where a method that knows one set of groups only shall compare others."""
    _check_network(settings)
    if settings.constraint.absolute:
        raise InvalidParameterError(
            f"--at-least and --at-most are not for --method {name}, which compares groups: take "
            "--method plug-in, reductions, boosting or lagrangian."
        )
    if settings.constraint.given is not None:
        raise InvalidParameterError(
            f"--given is not for --method {name}, which compares groups over all people: take "
            "--method plug-in, reductions, boosting or lagrangian."
        )
    over = settings.constraint.over
    if over is not None and set(over) != set(settings.sensitive.columns):
        raise InvalidParameterError(
            f"--over is not for --method {name}, which compares the groups of all sensitive "
            f"columns: give --sensitive {','.join(over)} alone."
        )


def _check_adversarial(settings: Settings) -> None:
    _check_over(settings, "adversarial")
    if settings.constraint.notion not in _ADVERSARIAL_NOTIONS:
        raise InvalidParameterError(
            f"--method adversarial takes --constraint {', '.join(_ADVERSARIAL_NOTIONS)}, not "
            f"{settings.constraint.notion}."
        )


_network = partial(Method, plain=_plain_network, check=_check_network, plain_splits=True)

_METHODS = (
    # The check makes a model: a booster that is not installed says so before any work.
    Method("plug-in", {"estimator": None, "objective": None}, _plug_in, None, check=_plug_in),
    Method(
        "reductions",
        {"estimator": "logistic", "objective": None},
        _reductions,
        _chosen_estimator,
        check=_check_reductions,
        random_state=split_seed,
    ),
    Method(
        "boosting",
        {"estimator": "xgboost", "objective": None},
        _boosting,
        _plain_booster,
        check=_check_booster,
        random_state=_AfterOneNumber,
    ),
    _network("lagrangian", {"epochs": None, "objective": None}, _lagrangian),
    _network(
        "regularized",
        {"epochs": None, "objective": None, "eta": 1.0},
        _regularized,
        moves="eta",
        check=_check_over,
    ),
    _network(
        "adversarial",
        {"epochs": None, "strength": 5.0},
        _adversarial,
        moves="strength",
        check=_check_adversarial,
    ),
)
METHODS: dict[str, Method] = {method.name: method for method in _METHODS}
"""By the name that ``--method`` takes; a new way to train is a line here."""


def read_method(how: How) -> tuple[Method, dict[str, Any]]:
    """Find the method, and its options with their defaults.

    Raises
    ------
    InvalidParameterError
        If an option was given that the method does not read.
    """
    if how.method not in (*METHODS, "auto"):
        raise InvalidParameterError(
            f"--method must be auto, {', '.join(METHODS)}, or several of them with commas, got "
            f"'{one_line(how.method)}'."
        )
    if how.method == "plug-in" and not how.group_inference:
        raise InvalidParameterError(
            "--method plug-in estimates inside how likely each group is, which "
            "--no-group-inference rules out; leave --method out, or name another."
        )
    method = METHODS[_automatic(how) if how.method == "auto" else how.method]
    own = ("method", "group_inference")
    given = {k: v for k, v in vars(how).items() if k not in own and v is not None}
    for name in given:
        if name not in method.options:
            readers = ", ".join(m.name for m in METHODS.values() if name in m.options)
            raise InvalidParameterError(
                f"--{name} is read by {readers}, not by --method {how.method}; leave it out."
            )
    for name in ("eta", "strength"):
        if name in given and not 0 <= given[name] < np.inf:
            raise InvalidParameterError(f"--{name} must be a number >= 0, got {given[name]:g}.")
    if given.get("epochs", 1) < 1:
        raise InvalidParameterError(f"--epochs must be 1 or more, got {given['epochs']}.")
    return method, {**method.options, **given}


def several(how: How) -> list[How]:
    """One for each method that is named; what a method does not read is left to the others.

    Raises
    ------
    InvalidParameterError
        If two names are one method, or none of them reads an option.
    """
    names = flatten((how.method,))
    if len(names) < 2:
        return [how]
    alone = [
        replace(how, method=name, estimator=None, eta=None, strength=None, epochs=None)
        for name in names
    ]
    methods = [read_method(one)[0] for one in alone]
    if len({method.name for method in methods}) < len(methods):
        raise InvalidParameterError(
            f"--method {one_line(how.method)} names {_automatic(how)} twice, which auto is."
        )
    given = {name: getattr(how, name) for name in _OWN if getattr(how, name) is not None}
    for name in given:
        if not any(name in method.options for method in methods):
            raise InvalidParameterError(f"--{name} is read by none of --method {how.method}.")
    return [
        replace(one, **{name: v for name, v in given.items() if name in method.options})
        for one, method in zip(alone, methods, strict=True)
    ]


def _automatic(how: How) -> str:
    """What ``--method auto`` takes."""
    if how.group_inference:
        return "plug-in"
    booster = how.estimator or "xgboost"
    return "boosting" if booster in _BOOSTERS and find_spec(booster) else "reductions"


def method_words(how: How, method: Method, model: Any) -> tuple[str, ...]:
    """Say how a model was trained: what was chosen and why, and whether groups are inferred."""
    if method.reprices:
        return (_scores_words(how, model), *_inference_words(model))
    if how.group_inference or how.method != "auto":
        return ()
    why = "" if method.name == "boosting" or how.estimator else ", as XGBoost is not installed"
    return (
        f"Trained by {method.name}{why}, which keeps the bound in training: "
        "--no-group-inference rules out the plug-in, which estimates inside how likely each "
        "group is.",
    )


def _scores_words(how: How, model: Any) -> str:
    chosen = (
        "" if how.method == "plug-in" else ", which auto chose because it wastes no row on a split"
    )
    why = (
        "as asked" if how.estimator else "the better of histogram boosting and logistic regression"
    )
    if model.held_out_ is not None and not how.estimator:
        why = "as --certification cross is shown to hold for linear scores"
    return (
        f"Trained by the plug-in{chosen}. Its scores come from {model.estimator_name_}, {why} "
        f"(out-of-fold log loss {model.log_loss_['outcome']:.3f})."
    )


def _inference_words(model: Any) -> tuple[str, ...]:
    """What a privacy officer has to find, and which rows did what."""
    if model.held_out_ is not None:
        return (_INFERRED.format(model.group_estimator_name_), *model._notes[1:], _PREPARED)
    return (
        _INFERRED.format(model.group_estimator_name_),
        "The rows for training and those for steering did both, and each was decided by models "
        "that never saw it.",
    )


_INFERRED = (
    "The group of each person is estimated inside: from the features, {} says how likely each "
    "group is. Decisions ask for nobody's group, and no such estimate is ever returned; "
    "--no-group-inference trains without."
)
_PREPARED = (
    "Categories, scales and what stands for missing features were taken from all rows, without "
    "their labels; labels of all rows only told which columns give the outcome away."
)
