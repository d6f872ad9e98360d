"""``LagrangianBoostingClassifier``: boosted trees under fairness constraints, in one run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from fairtrain.boosting.base import LagrangianBoosting
from fairtrain.boosting.objective import Task
from fairtrain.constraints import ConstraintSpec
from fairtrain.estimator import FairEstimator

__all__ = ["LagrangianBoostingClassifier"]

Floats = NDArray[np.float64]


class LagrangianBoostingClassifier(ClassifierMixin, LagrangianBoosting):
    r"""Boosted trees that keep fairness constraints, in one run of stock XGBoost or LightGBM.

    Every round adds a tree along the gradient of

    .. math:: \text{log loss} + \sum_k \pi_k\, r_k,

    with :math:`r_k` the soft rates of all groups on the training rows and :math:`\pi_k` their
    prices (signed multipliers), and then moves the multipliers by what the *decisions* do on the
    steering rows, which no tree has seen. A bound holds between any two groups. While no bound is
    broken prices are zero, and the trees are the booster's own. The sensitive features are not
    needed to predict.

    Parameters
    ----------
    constraints : Constraint, str, fairlearn moment, or a list of these
        The constraints that decisions are to keep.
    difference_bound, ratio_bound : float, optional
        Replace the bounds of ``constraints``, so that they can be searched.
    booster : {"xgboost", "lightgbm"}, default="xgboost"
        Who grows the trees.
    n_estimators : int, default=100
        Most rounds.
    max_depth : int or None, default=6
        Depth of a tree (LightGBM: with up to ``2**max_depth`` leaves); None leaves it to the
        booster.
    learning_rate : float, default=0.1
        Shrinkage. Small steps let the multipliers keep up.
    objective : str, dict, matrix, ErrorCosts or callable, default="accuracy"
        What chooses the round, see :func:`~fairtrain.constraints.as_objective`: "accuracy",
        "balanced_accuracy", "f1", "auc", "log_loss", costs of errors, or a function. Where it says
        what errors cost (all but "auc", "log_loss" and functions) trees are grown to it too, and
        ``predict_proba`` gives what is decided at .5 of.
    dual_lr : float, default=1.0
        What a violation of 1 adds to a multiplier in one round.
    multiplier_cap : float, default=50.0
        Largest sum of a bound's multipliers; a bound at its cap could not be kept at that price.
    validation_fraction : float, default=0.2
        Share of the rows that steer: their decisions move the multipliers and choose the round.
        With 0 the training rows steer, and a bound says little about new rows.
    cv : int, splitter or iterable of (training, held-out) positions, optional
        In place of ``validation_fraction``: every row trains and steers. A twin of the model grows
        beside it on the rows outside each fold, by the same prices, and its decisions about the
        fold steer; a fit takes ``cv + 1`` times as long. The true gap of few rows (some thousands)
        is then nearer to the bound. Not on Dask collections.
    certification_fraction : float, default=0.0
        Share of the rows that are set aside and read once, after everything is decided.
    confidence : float in (0, 1), optional
        Tighten the working bounds until the *upper confidence limit* of every gap on the steering
        rows keeps its bound, as far as their number allows (``explain()`` says where it does not).
        No promise on new rows: in simulation a bound of .05 held at .95 was kept in the population
        in 72 % of fits on 8,000 rows and 38 % on 2,000 (by default: 45 % and 31 %).
    early_stopping_rounds : int, optional
        Stop after so many rounds without a better choice.
    booster_params : dict, optional
        More of the booster's parameters, under its own names, such as ``min_child_weight`` or
        ``monotone_constraints``.
    sensitive_features : str or list of str, optional
        Columns of ``X`` that hold the sensitive features. They are read at ``fit`` and dropped
        before the booster sees ``X``. Alternatively pass the values to ``fit``.
    positive_label : label, optional
        The favourable outcome. May be left out for {0, 1}, {-1, 1}, booleans, and where the
        constraints treat both labels alike.
    missing : {"error", "group"}, default="error"
        Missing sensitive values raise, or form a group of their own.
    min_count : int, default=30
        Groups with fewer steering rows are steadied by the coarser groups that contain them, and
        are never judged fair on steering rows.
    timeout : float, default=600
        Seconds after which a worker of a Dask cluster that waits for the others gives up.
    random_state : int, RandomState or None
        Splits the rows and seeds the booster.
    n_jobs : int, optional
        Threads.

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
        Labels, sorted.
    booster_ : xgboost.Booster or lightgbm.Booster
        The stock model, cut after the chosen round. Its own ``predict`` gives the probability of
        the favourable label; it can be saved and loaded without fairtrain.
    constraints_ : tuple of Constraint
        What was asked, bounds resolved.
    scheme_ : GroupScheme
        The groups seen in ``fit``: names and counts, no row.
    fairness_report_ : FairnessReport
        What was achieved, on certification rows if there are any, else on steering rows, else on
        training rows.
    reports_ : dict of str to FairnessReport
        The same for each of "training", "steering" and "certification" that exists.
    status_ : Verdict
        Verdict of ``fairness_report_``.
    history_ : DataFrame
        A row a round, on the steering rows: ``held_loss``, ``held_accuracy``; for every rate its
        gap (``gap_held: ...``), the working bound, the sum of its multipliers and the price of
        each group; ``feasible``; ``held_objective``, if it is not accuracy; and the same of each
        ``eval_set``.
    multipliers_ : DataFrame
        The last multipliers: constraint, group, above, below.
    n_estimators_, best_iteration_ : int
        Rounds that the model holds, and the number of the chosen round.
    feature_importances_ : ndarray of shape (d,)
        Share of every feature in the gain of all splits.
    n_features_in_, feature_names_in_
        As in scikit-learn, without the sensitive columns.

    Notes
    -----
    Categories and missing values are the booster's: give categorical columns the dtype
    ``category`` (polars: ``Categorical`` or ``Enum``); a level that fit never saw counts as
    missing.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> group = rng.integers(0, 2, 4000)
    >>> X = rng.normal(size=(4000, 3)) + 0.5 * group[:, None]
    >>> y = (X.sum(axis=1) + rng.normal(size=4000) > 1).astype(int)
    >>> model = LagrangianBoostingClassifier("demographic_parity", difference_bound=0.05,
    ...                                      random_state=0, n_jobs=1)
    >>> model = model.fit(X, y, sensitive_features=group)
    >>> str(model.status_)
    'not_certified'
    """

    task: ClassVar[Task] = "classification"

    def __init__(
        self,
        constraints: ConstraintSpec = "demographic_parity",
        *,
        difference_bound: float | None = None,
        ratio_bound: float | None = None,
        booster: Literal["xgboost", "lightgbm"] = "xgboost",
        n_estimators: int = 100,
        max_depth: int | None = 6,
        learning_rate: float = 0.1,
        objective: Any = "accuracy",
        dual_lr: float = 1.0,
        multiplier_cap: float = 50.0,
        validation_fraction: float | None = 0.2,
        cv: Any = None,
        certification_fraction: float | None = 0.0,
        confidence: float | None = None,
        early_stopping_rounds: int | None = None,
        booster_params: dict[str, Any] | None = None,
        sensitive_features: str | Sequence[str] | None = None,
        positive_label: Any = None,
        missing: str = "error",
        min_count: int = 30,
        timeout: float = 600.0,
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        self.constraints = constraints
        self.difference_bound = difference_bound
        self.ratio_bound = ratio_bound
        self.booster = booster
        self.n_estimators = n_estimators
        self.max_depth = max_depth
        self.learning_rate = learning_rate
        self.objective = objective
        self.dual_lr = dual_lr
        self.multiplier_cap = multiplier_cap
        self.validation_fraction = validation_fraction
        self.cv = cv
        self.certification_fraction = certification_fraction
        self.confidence = confidence
        self.early_stopping_rounds = early_stopping_rounds
        self.booster_params = booster_params
        self.sensitive_features = sensitive_features
        self.positive_label = positive_label
        self.missing = missing
        self.min_count = min_count
        self.timeout = timeout
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        sensitive_features: Any = None,
        sample_weight: Any = None,
        clusters: Any = None,
        eval_set: Any = None,
    ) -> Self:
        """Train.

        Parameters
        ----------
        X : array, sparse matrix, frame or Dask collection of shape (n, d)
            Features; absent entries of a sparse matrix count as the booster counts them.
        y : array-like of shape (n,)
            Two labels.
        sensitive_features : frame, series, mapping, array or list of n rows, optional
            Who; left out where the constructor names columns of ``X``.
        sample_weight : array-like of shape (n,), optional
            Row weights, honoured in the loss and in the rates. Whole numbers count rows; the unit
            of any others does not matter, they are brought to mean 1.
        clusters : array-like of shape (n,) or str, optional
            Which rows belong together, such as those of one customer, or the column of ``X`` that
            says so: no split tears them apart, and limits allow for them.
        eval_set : list of (X, y), optional
            Rows to follow in ``history_``. Among the rounds that keep the bounds on the steering
            rows, the last of them judges accuracy, which the steering rows judge otherwise.

        Returns
        -------
        self

        Raises
        ------
        InvalidDataError, InvalidParameterError
            If rows or settings cannot be used.
        MissingDependencyError
            If the booster is not installed.

        Warns
        -----
        ConstraintNotMetWarning, NearConstantWarning
        """
        return self._fit(X, y, sensitive_features, sample_weight, clusters, eval_set=eval_set)

    def predict(self, X: Any) -> Any:
        """Decide for the label of larger probability, shape (n,); lazily for a Dask collection."""
        check_is_fitted(self)
        return self._by_part(self._labels_of, X, self.classes_[:0])

    score = FairEstimator.score

    def predict_proba(self, X: Any) -> Any:
        """Probability of each label, shape (n, 2), in the order of ``classes_``.

        Under a bound these are probabilities of a fair rule, not those of the labels.
        """
        return self._by_part(self._columns_of, X, np.empty((0, 2)))

    def decision_proba(self, X: Any) -> Any:
        """Chance of each decision: 0 or 1, for nothing is drawn by lot.

        Returns
        -------
        ndarray of shape (n, 2)
            In the order of ``classes_``; lazily for a Dask collection.
        """
        return self._by_part(super().decision_proba, X, np.empty((0, 2)))

    def _labels_of(self, X: Any) -> NDArray[Any]:
        assert self._coding is not None
        return self._coding.decode(self._values(X) > 0.5)

    def _columns_of(self, X: Any) -> Floats:
        assert self._coding is not None
        return self._coding.columns(self._values(X))

    def __sklearn_tags__(self) -> Tags:
        """Tags of a binary classifier."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags
