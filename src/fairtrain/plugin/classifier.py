"""``FairPlugInClassifier``: one cross-fitted set of scores, every notion, every bound."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, MetaEstimatorMixin
from sklearn.utils import Tags, get_tags
from sklearn.utils.validation import check_is_fitted

from fairtrain._parameters import ANYTHING, FLAG, NONE, SPLITTER, Real, Table, Whole
from fairtrain.constraints import BoundedGroupLoss, Constraint, ConstraintSpec
from fairtrain.constraints.families import RateFamily, families_of
from fairtrain.constraints.table import RateTable
from fairtrain.data.draws import keyed_uniform, new_key
from fairtrain.data.rows import Rows
from fairtrain.data.splits import RowSplit, stratified_folds
from fairtrain.estimator import FairEstimator, require_favourable
from fairtrain.exceptions import InvalidDataError, InvalidParameterError, NearConstantWarning
from fairtrain.plugin.linear import JointScores, linear_rates
from fairtrain.plugin.rule import PricedRule, RuleSettings, ScoredRows, find_rule
from fairtrain.plugin.scores import CrossFit, cross_fit, default_estimators

__all__ = ["FairPlugInClassifier"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Memory:
    """What another bound needs: out-of-fold scores, and their rows without features."""

    scores: JointScores
    rows: Rows


class FairPlugInClassifier(MetaEstimatorMixin, ClassifierMixin, FairEstimator):
    r"""Price the scores of any estimator so that its decisions keep the bounds.

    Among decisions that read x only, the best under linear constraints on group rates is

    .. math:: d(x) = 1\Big[2 P(y = 1 \mid x) - 1 - \sum_j p_j\, h_j(x) > 0\Big], \qquad
       h_j(x) = E[s(y)\, 1(g, E) \mid x] / P(g, E)

    with one price :math:`p_j` a cell (Menon & Williamson, 2018; Zeng, Cheng & Dobriban, 2024; Xian
    & Zhao, 2024). P(y | x) and P(g | x, y) are learnt once, out of fold; for each notion and bound
    a few prices then follow from a small convex problem on all rows. Nobody's group is needed to
    decide: that a group is likely, given x, is estimated inside, and never returned for a person.

    Parameters
    ----------
    estimator : estimator, optional
        Classifier with ``predict_proba`` for the label; a ``Pipeline`` too. None takes the better
        of ``HistGradientBoostingClassifier`` and logistic regression by out-of-fold log loss.
    constraints : Constraint, str, fairlearn moment, or a list of these
        What is asked. Rates must be linear in decisions: not a bounded loss of probabilities.
    difference_bound, ratio_bound : float, optional
        Replace the bounds of ``constraints``, so that they can be searched.
    group_estimator : estimator, optional
        Classifier for the group, trained once on the rows of either label; None as above.
    cv : int, splitter or iterable of (training, held-out) positions, default=5
        Folds, by number stratified by group and label; every row is held out once. Two cost less
        than half of five and lose little.
    mixing : float, default=100
        Rows of a cell at which its counted rate weighs as much as the score-weighted one.
    aim : bool, default=True
        For demographic parity: aim at the bound at which the *expected* gap of rates as noisy as
        these is the bound asked for. Without it the gap on new rows exceeds the bound on average.
    confidence : float in (0, 1), optional
        Tighten bounds so that this confidence limit of the gap keeps them.
    certification_fraction : float, optional
        Share of the rows that are set aside and read once, after everything is decided. All others
        train and steer.
    sensitive_features : str or list of str, optional
        Columns of ``X`` that hold the sensitive features, dropped before any estimator sees them.
    positive_label : label, optional
        The favourable outcome; may be left out for {0, 1}, {-1, 1} and booleans.
    missing : {"error", "group"}, default="error"
        Missing sensitive values raise, or form a group of their own.
    min_count : int, default=30
        Groups with fewer rows are never judged fair on steering rows.
    n_jobs : int, optional
        Folds at a time.
    random_state : int, RandomState or None
        Makes folds, seeds unseeded estimators, and makes the key of decisions drawn by lot.

    Attributes
    ----------
    prices_ : DataFrame
        A row a cell: ``constraint``, ``group``, ``price`` in units of 2 P(y = 1 | x) - 1.
    estimator_name_, group_estimator_name_ : str
        What gives the scores.
    log_loss_ : dict of str to float
        Out-of-fold log loss of "outcome" and "group", in nats.
    lottery_ : bool
        Whether people whose scores tie are decided by lot.
    classes_, constraints_, scheme_, reports_, fairness_report_, status_
        See :class:`~fairtrain.estimator.FairEstimator`. The report on "steering" rows is on
        out-of-fold decisions: they chose the prices and certify nothing.
    n_features_in_, feature_names_in_
        As in scikit-learn, without the sensitive columns.

    Notes
    -----
    After ``fit`` another bound costs no training: :meth:`with_bounds`, :meth:`with_constraints`,
    :meth:`frontier`. What that needs (scores, labels and codes of the rows of ``fit``) lives in
    memory only: pickles and saved folders drop it.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> rng = np.random.default_rng(0)
    >>> group = rng.integers(0, 2, 4000)
    >>> X = rng.normal(size=(4000, 2)) + group[:, None]
    >>> y = (X.sum(axis=1) + rng.normal(size=4000) > 1).astype(int)
    >>> model = FairPlugInClassifier(LogisticRegression(), difference_bound=0.1, random_state=0)
    >>> model = model.fit(X, y, sensitive_features=group)
    >>> bool(model.fairness_report_.results[0].achieved < 0.12)
    True
    >>> looser = model.with_bounds(difference_bound=0.3)  # no training
    >>> bool(looser.score(X, y) > model.score(X, y))
    True
    """

    not_saved = ("_memory",)
    validation_fraction = None  # every row that is not certifying trains and steers

    _allowed: ClassVar[Table] = {
        "estimator": ANYTHING,
        "group_estimator": ANYTHING,
        "cv": Whole(2) | SPLITTER,
        "mixing": Real(0),
        "aim": FLAG,
        "confidence": Real(0, 1, "()") | NONE,
        "n_jobs": Whole(-1024) | NONE,
    }

    def __init__(
        self,
        estimator: Any = None,
        constraints: ConstraintSpec = "demographic_parity",
        *,
        difference_bound: float | None = None,
        ratio_bound: float | None = None,
        group_estimator: Any = None,
        cv: Any = 5,
        mixing: float = 100.0,
        aim: bool = True,
        confidence: float | None = None,
        certification_fraction: float | None = None,
        sensitive_features: str | Sequence[str] | None = None,
        positive_label: Any = None,
        missing: str = "error",
        min_count: int = 30,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.constraints = constraints
        self.difference_bound = difference_bound
        self.ratio_bound = ratio_bound
        self.group_estimator = group_estimator
        self.cv = cv
        self.mixing = mixing
        self.aim = aim
        self.confidence = confidence
        self.certification_fraction = certification_fraction
        self.sensitive_features = sensitive_features
        self.positive_label = positive_label
        self.missing = missing
        self.min_count = min_count
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(
        self, X: Any, y: Any, *, sensitive_features: Any = None, sample_weight: Any = None
    ) -> Self:
        """Learn scores out of fold, then prices.

        Parameters
        ----------
        X : array, sparse matrix or frame of shape (n, d)
            Features, handed to the estimators as they come.
        y : array-like of shape (n,)
            Two labels.
        sensitive_features : frame, series, mapping, array or list of n rows, optional
            Who; left out where the constructor names columns of ``X``.
        sample_weight : array-like of shape (n,), optional
            Row weights, honoured in scores, gain and rates.

        Returns
        -------
        self

        Raises
        ------
        InvalidDataError, InvalidParameterError
            If rows or settings cannot be used.

        Warns
        -----
        ConstraintNotMetWarning, NearConstantWarning
        """
        return self._fit(X, y, sensitive_features, sample_weight)

    def _train(self, rows: Rows, rng: np.random.RandomState) -> Rows:
        learning = rows.part("training")
        scores = self._learn(learning, rng)
        self.draw_key_ = new_key(rng)
        self._memory: _Memory | None = _Memory(scores, replace(learning, X=None))
        share = np.empty(len(rows))
        split = rows.split
        assert split is not None
        share[split.training] = self._price(None)
        if len(split.certification):
            share[split.certification] = self._decision(rows.part("certification").X)
        # Out-of-fold decisions chose the prices: the rows that train are rows that steer.
        steered = RowSplit(split.training[:0], split.training, split.certification)
        return replace(rows, split=steered).decided(share)

    def _learn(self, rows: Rows, rng: np.random.RandomState) -> JointScores:
        """Scores of the label, and of the group among rows of either label, out of fold."""
        assert rows.y is not None
        y, codes, size = rows.y.astype(np.int64), rows.groups.codes, len(rows.groups)
        folds = self._folds(rows, y, rng)
        defaults = default_estimators(rows.X)
        seed = None if self.random_state is None else (lambda: int(rng.randint(0, 2**31 - 1)))

        def learnt(estimator: Any, target: NDArray[np.int64], n_classes: int) -> CrossFit:
            candidates = defaults if estimator is None else [estimator]
            return cross_fit(
                candidates,
                rows.X,
                target,
                n_classes,
                rows.weight,
                folds,
                seed=seed,
                n_jobs=self.n_jobs,
            )

        outcome = learnt(self.estimator, y, 2)
        by_label = [learnt(self.group_estimator, np.where(y == v, codes, -1), size) for v in (0, 1)]
        groups = np.stack([fit.held for fit in by_label])
        scores = JointScores(outcome.held[:, 1], groups)
        self.log_loss_ = {
            "outcome": outcome.loss,
            "group": float(np.average([f.loss for f in by_label], weights=np.bincount(y))),
        }
        # Held-out scores are of training rows: the models go on without them.
        nobody = np.empty((0, 0))
        self._outcome = replace(outcome, held=nobody)
        self._group_of = [replace(fit, held=nobody) for fit in by_label]
        self.estimator_name_ = _name(self._outcome.models[0])
        self.group_estimator_name_ = _name(by_label[1].models[0])
        return scores

    def _folds(
        self, rows: Rows, y: NDArray[np.int64], rng: np.random.RandomState
    ) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        if isinstance(self.cv, int | np.integer):
            return stratified_folds((rows.groups.codes, y), int(self.cv), rng)
        if hasattr(self.cv, "split"):
            made = list(self.cv.split(np.zeros((len(y), 1)), y))
        else:  # pairs of positions among the rows passed, some of which may be gone
            at = np.arange(len(rows)) if rows.position is None else rows.position
            made = [tuple(np.flatnonzero(np.isin(at, part)) for part in pair) for pair in self.cv]
        if (np.bincount(np.concatenate([held for _, held in made]), minlength=len(y)) != 1).any():
            raise InvalidParameterError(
                "cv must hold every row out exactly once, so that each has a score of its own."
            )
        return [(np.asarray(a), np.asarray(b)) for a, b in made]

    def _price(self, start: Floats | None) -> Floats:
        """Find the prices of the present constraints; return the decisions of the rows of fit."""
        memory = self._remembered()
        rows = memory.rows
        assert rows.y is not None
        table = RateTable.comparing(self.constraints_, rows.y, rows.groups, rows.weight)
        families = [cells.family for cells in table.cells]
        scored = ScoredRows(
            gain=2 * memory.scores.outcome - 1,
            rates=linear_rates(families, memory.scores, rows.weight),
            counted=table,
            counts=table.effective,
        )
        settings = RuleSettings(self.mixing, self.aim, self.confidence)
        self._rule: PricedRule = find_rule(families, scored, settings, start)
        self.lottery_ = bool(self._rule.temperature)
        names = [(f.name, group) for f in families for group in f.scheme.names]
        self.prices_ = pd.DataFrame(names, columns=["constraint", "group"]).assign(
            price=self._rule.prices
        )
        self._notes = [
            f"P({rows.favourable} | x) is given by {self.estimator_name_}, the groups are "
            f"estimated inside by {self.group_estimator_name_}; out-of-fold rates chose the prices."
        ]
        if self.lottery_:
            self._notes.append("People whose scores tie are decided by lot.")
        return self._rule.share(scored.gain - scored.rates.slopes @ self._rule.prices)

    def _families(self) -> list[RateFamily]:
        return families_of(self.constraints_, self.scheme_)

    def _read_constraints(self) -> tuple[Constraint, ...]:
        constraints = super()._read_constraints()
        for constraint in constraints:
            if isinstance(constraint, BoundedGroupLoss) and constraint.loss != "zero_one":
                raise InvalidParameterError(
                    f"{constraint.name} bounds a loss of probabilities, which no price on "
                    "decisions can keep; use LagrangianBoostingClassifier, or loss='zero_one'."
                )
        return constraints

    def _scores(self, X: Any) -> JointScores:
        """Average scores of the folds' models, for features that were checked."""
        groups = np.stack([fit(X) for fit in self._group_of])
        return JointScores(self._outcome(X)[:, 1], groups)

    def _margin(self, X: Any) -> Floats:
        """Gain less what the cells' prices ask, for features that were checked."""
        scores = self._scores(X)
        rates = linear_rates(self._families(), scores, scale=self._rule.scale)
        return np.asarray(2 * scores.outcome - 1 - rates.slopes @ self._rule.prices)

    def _decision(self, X: Any) -> Floats:
        return self._rule.share(self._margin(X))

    def decision_function(self, X: Any) -> Floats:
        """Priced score: above 0 decides for ``classes_[1]``.

        Returns
        -------
        ndarray of shape (n,)
            2 P(y | x) - 1 less what the groups' prices ask, in [-1, 1] where nothing is asked.
        """
        margin = self._margin(self._features(X))
        assert self._coding is not None
        return margin if self._coding.column == 1 else -margin

    def predict(self, X: Any) -> NDArray[Any]:
        """Decide; where scores tie, by a draw that belongs to the row.

        Returns
        -------
        ndarray of shape (n,)
            Labels.
        """
        X = self._features(X)
        share = self._decision(X)
        assert self._coding is not None
        if self.lottery_:
            return self._coding.decode(keyed_uniform(X, self.draw_key_) < share)
        return self._coding.decode(share > 0.5)

    def predict_proba(self, X: Any) -> Floats:
        """Priced probability: what each decision would be taken at .5 of.

        Returns
        -------
        ndarray of shape (n, 2)
            In the order of ``classes_``; :meth:`outcome_proba` has the probability of the label.
        """
        share = np.clip((1 + self._margin(self._features(X))) / 2, 0.0, 1.0)
        assert self._coding is not None
        return self._coding.columns(share)

    def outcome_proba(self, X: Any) -> Floats:
        """Probability of each label before any price, (n, 2), in the order of ``classes_``."""
        X = self._features(X)
        assert self._coding is not None
        return self._coding.columns(self._outcome(X)[:, 1])

    def with_bounds(
        self, *, difference_bound: float | None = None, ratio_bound: float | None = None
    ) -> Self:
        """Make another fitted classifier of the same scores under other bounds.

        Parameters
        ----------
        difference_bound, ratio_bound : float, optional
            As in the constructor.

        Returns
        -------
        FairPlugInClassifier
            Judged on out-of-fold decisions only: fresh rows, and :meth:`evaluate`, certify it.
        """
        return self.with_constraints(
            list(self.constraints_), difference_bound=difference_bound, ratio_bound=ratio_bound
        )

    def with_constraints(
        self,
        constraints: ConstraintSpec,
        *,
        difference_bound: float | None = None,
        ratio_bound: float | None = None,
    ) -> Self:
        """Make another fitted classifier of the same scores under other constraints.

        Parameters
        ----------
        constraints : Constraint, str, fairlearn moment, or a list of these
            What is asked now.
        difference_bound, ratio_bound : float, optional
            Replace their bounds.

        Returns
        -------
        FairPlugInClassifier

        Raises
        ------
        InvalidDataError
            After loading, as scores of training rows are not saved: :meth:`with_rows` comes first.
        """
        check_is_fitted(self)
        self._remembered()
        other = self._twin()
        other.constraints = constraints
        other.difference_bound, other.ratio_bound = difference_bound, ratio_bound
        other.constraints_ = other._read_constraints()
        assert other._coding is not None
        require_favourable(other.constraints_, other._coding)
        same_cells = [c.rates for c in other.constraints_] == [c.rates for c in self.constraints_]
        same_groups = [c.over for c in other.constraints_] == [c.over for c in self.constraints_]
        start = self._rule.multipliers if same_cells and same_groups else None
        return other._repriced(start)

    def with_rows(
        self, X: Any, y: Any, *, sensitive_features: Any = None, sample_weight: Any = None
    ) -> Self:
        """Make another fitted classifier whose prices are chosen on other rows.

        Parameters
        ----------
        X, y, sensitive_features, sample_weight
            As in ``fit``: rows that trained none of the estimators, or their scores are too sure.

        Returns
        -------
        FairPlugInClassifier
        """
        rows = self._read_later(X, y, sensitive_features, sample_weight)
        other = self._twin()
        other._memory = _Memory(self._scores(rows.X), replace(rows, X=None))
        return other._repriced(self._rule.multipliers)

    def frontier(self, bounds: Sequence[float]) -> pd.DataFrame:
        """Accuracy and gap at several bounds, from out-of-fold decisions.

        Parameters
        ----------
        bounds : sequence of float
            Values of ``difference_bound``, or of ``ratio_bound`` where the constraints have ratios.

        Returns
        -------
        DataFrame
            ``bound``, ``accuracy``, ``selection_rate``, ``achieved``; choosing from it is steering.
        """
        check_is_fitted(self)
        name = "ratio_bound" if self.constraints_[0].kind == "ratio" else "difference_bound"
        rows = []
        for bound in bounds:
            report = self.with_bounds(**{name: float(bound)}).fairness_report_
            achieved = [r.achieved for r in report.results]
            worst = min(achieved) if name == "ratio_bound" else max(achieved)
            rows.append((float(bound), report.accuracy[0], report.selection_rate, worst))
        return pd.DataFrame(rows, columns=["bound", "accuracy", "selection_rate", "achieved"])

    def _repriced(self, start: Floats | None) -> Self:
        """Price the rows in memory, and judge the decisions that chose the prices."""
        decided = self._remembered().rows.decided(self._price(start))
        self._keep_reports({"steering": self._report(decided, "steering")})
        return self

    def _twin(self) -> Self:
        """Another classifier of the same scores, with what pickles leave out."""
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def _remembered(self) -> _Memory:
        memory: _Memory | None = getattr(self, "_memory", None)
        if memory is None:
            raise InvalidDataError(
                "this model was loaded, and scores of training rows are not saved: "
                "with_rows(X, y, sensitive_features=...) first says which rows choose prices."
            )
        return memory

    def _warn_of_outcome(self) -> None:
        super()._warn_of_outcome()
        if self.fairness_report_.near_constant:
            warnings.warn(
                "(almost) everybody gets the same decision, so any bound is kept and worth "
                "nothing: loosen the bound, or improve the estimator.",
                NearConstantWarning,
                stacklevel=4,
            )

    def __sklearn_tags__(self) -> Tags:
        """Tags of a binary classifier that accepts what its estimators accept."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        given = [e for e in (self.estimator, self.group_estimator) if e is not None]
        inner = [get_tags(e).input_tags for e in given]
        tags.input_tags.sparse = all(t.sparse for t in inner)
        tags.input_tags.allow_nan = all(t.allow_nan for t in inner)
        return tags


def _name(model: Any) -> str:
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    return type(last).__name__
