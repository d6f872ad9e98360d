"""``FairPlugInClassifier``: one cross-fitted set of scores, every notion, every bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import MetaEstimatorMixin, clone
from sklearn.utils import Tags, get_tags

from fairtrain._parameters import ANYTHING, NONE, SPLITTER, Choice, Table, Whole
from fairtrain.constraints import Constraint, ConstraintSpec, NoLevellingDown
from fairtrain.data.draws import new_key
from fairtrain.data.rows import Role, Rows
from fairtrain.data.splits import RowSplit
from fairtrain.exceptions import InvalidParameterError
from fairtrain.metrics.report import FairnessReport
from fairtrain.plugin.cross import DESIGN_EFFECT, require_linear, train_members
from fairtrain.plugin.linear import JointScores
from fairtrain.plugin.priced import PricedClassifier
from fairtrain.plugin.scores import CrossFit, GroupMaps, cross_fit, default_estimators

__all__ = ["FairPlugInClassifier"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


_READ = ("classes_", "_coding", "constraints_", "scheme_", "costs_")
"""What is known once rows were read, before any is trained on."""

# Held-out scores are of training rows: the models go on without them.
_NOBODY: Floats = np.empty((0, 0))


class FairPlugInClassifier(MetaEstimatorMixin, PricedClassifier):
    r"""Price the scores of any estimator so that its decisions keep the bounds.

    Among decisions that read x only, the best under linear constraints on group rates is

    .. math:: d(x) = 1\Big[a(x) - \sum_j p_j\, h_j(x) > 0\Big], \qquad
       h_j(x) = E[s(y)\, 1(g, E) \mid x] / P(g, E)

    with one price :math:`p_j` a cell (Menon & Williamson, 2018; Zeng, Cheng & Dobriban, 2024; Xian
    & Zhao, 2024), and the gain :math:`a(x) = 2 P(y = 1 \mid x) - 1`, or :math:`a(x) = 2\,(c_{fn}
    P(y = 1 \mid x) - c_{fp} P(y = 0 \mid x)) / (c_{fn} + c_{fp})` where the two errors cost
    differently. P(y | x) and P(g | x, y) are learnt once, out of fold; for each notion and bound a
    few prices then follow from a small convex problem on all rows. Nobody's group is needed to
    decide: that a group is likely, given x, is estimated inside, and returned for a person only
    by :meth:`contributions`, when asked.

    Floors and caps of groups, capacity and "no group worse off than unconstrained" are bounds of
    the same rates: :class:`~fairtrain.constraints.AtLeast`,
    :class:`~fairtrain.constraints.AtMost`, :class:`~fairtrain.constraints.NoLevellingDown`, alone
    or in a list beside a parity.

    Parameters
    ----------
    estimator : estimator, optional
        Classifier with ``predict_proba`` for the label; a ``Pipeline`` too. None takes the better
        of ``HistGradientBoostingClassifier`` and logistic regression by out-of-fold log loss.
    constraints : Constraint, str, fairlearn moment, or a list of these
        What is asked. Rates must be linear in decisions: not a bounded loss of probabilities.
        Where not all can hold together, those of lower ``priority`` give way.
    difference_bound, ratio_bound : float, optional
        Replace the bounds of the parities in ``constraints``, so that they can be searched.
    group_estimator : estimator, optional
        Classifier for the group, trained once on the rows of either label; None as above.
    cv : int, splitter or iterable of (training, held-out) positions, default=5
        Folds, by number stratified by group and label; every row is held out once. Two cost less
        than half of five and lose little.
    objective : str, dict, matrix, ErrorCosts or callable, default="accuracy"
        What decisions are best at, see :func:`~fairtrain.constraints.as_objective`: "accuracy",
        "balanced_accuracy", "f1", the least cost of errors, as in ``{"false_positive": 1,
        "false_negative": 5}``, or a function ``(y, decision, weight)``, for which costs are
        searched. Measures of scores are refused: prices leave scores as they are.
    sensitive_at_predict : bool, default=False
        The group is known when deciding, and lawful to use: it replaces what would be estimated,
        so that every group gets thresholds of its own, and P(y | x) is recalibrated by group.
        ``predict`` and its kin then need ``sensitive_features``.
    mixing : float, default=100
        Rows of a cell at which its counted rate weighs as much as the score-weighted one.
    aim : bool, default=True
        For demographic parity: aim at the bound at which the *expected* gap of rates as noisy as
        these is the bound asked for. Without it the gap on new rows exceeds the bound on average.
    confidence : float in (0, 1), optional
        Tighten bounds so that this confidence limit of the gap keeps them, as far as the rows
        allow (``explain()`` says where they do not): on 8,000 rows a bound of .05 held at .95 was
        kept in the population in 172 of 180 simulated fits, on 2,000 rows in 129.
    certification : "cross", optional
        Certify on all rows: five members each train and choose prices on four fifths of the rows
        and are judged on the fifth that they never saw; one of them, drawn for every person,
        decides. Worth about four times the rows of ``certification_fraction=0.2``, at five times
        the cost; the verdict speaks of that lottery, at the constraints and bounds of ``fit``. Only
        for linear scores, which None stands for here: held-out rates of others vary more than was
        measured. Prices that steer to the bound end on it: to be ``met`` aim lower, by
        ``confidence``.
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
        What gives the scores; no name where the group is known.
    log_loss_ : dict of str to float
        Out-of-fold log loss of "outcome" and "group", in nats; no "group" where it is known.
    costs_ : ErrorCosts
        What the objective says of the two errors: given, or under which it is at its best.
    levels_ : tuple of two floats, or None
        Under :class:`~fairtrain.constraints.PredictiveParity`: between which rates all groups were
        kept, which was searched.
    lottery_ : bool
        Whether people whose scores tie are decided by lot.
    baseline_report_ : FairnessReport or None
        The same scores without prices, at the same costs, on the same out-of-fold rows. With
        ``certification="cross"`` it is the lottery among the members' scores without prices, on the
        rows that these never saw.
    held_out_ : Rows or None
        With ``certification="cross"``: the rows of ``fit`` in their order, without features, with
        the decision and the priced chance of the member that never saw them, to be judged as the
        report judges them. In memory only.
    free_held_out_ : Rows or None
        The same rows as these members decide without prices, with P(y = 1 | x).
    classes_, constraints_, scheme_, reports_, fairness_report_, status_, usefulness_
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

    not_saved = ("_memory", "held_out_", "free_held_out_")
    held_out_: Rows | None = None
    free_held_out_: Rows | None = None  # the same rows as they are decided without prices
    validation_fraction = None  # every row that is not certifying trains and steers

    _allowed: ClassVar[Table] = {
        "estimator": ANYTHING,
        "group_estimator": ANYTHING,
        "cv": Whole(2) | SPLITTER,
        "certification": Choice("cross") | NONE,
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
        objective: Any = "accuracy",
        sensitive_at_predict: bool = False,
        mixing: float = 100.0,
        aim: bool = True,
        confidence: float | None = None,
        certification: str | None = None,
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
        self.objective = objective
        self.sensitive_at_predict = sensitive_at_predict
        self.mixing = mixing
        self.aim = aim
        self.confidence = confidence
        self.certification = certification
        self.certification_fraction = certification_fraction
        self.sensitive_features = sensitive_features
        self.positive_label = positive_label
        self.missing = missing
        self.min_count = min_count
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        sensitive_features: Any = None,
        sample_weight: Any = None,
        clusters: Any = None,
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
        clusters : array-like of shape (n,) or str, optional
            Which rows belong together, such as those of one customer, or the column of ``X`` that
            says so: no split tears them apart, and limits allow for them.

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
        return self._fit(X, y, sensitive_features, sample_weight, clusters)

    def _train(self, rows: Rows, rng: np.random.RandomState) -> Rows:
        self._lottery = None
        self._memory = None  # of an earlier fit
        self.held_out_ = self.free_held_out_ = None
        if self.certification is not None:
            return self._train_lottery(rows, rng)
        return super()._train(rows, rng)

    def _train_lottery(self, rows: Rows, rng: np.random.RandomState) -> Rows:
        """Train members; every row certifies the one that never saw it."""
        self._lottery, told = train_members(self._member, rows, rng)
        self.draw_key_, self.lottery_ = new_key(rng), True
        members = self._lottery.members
        self.estimator_name_ = members[0].estimator_name_
        self.group_estimator_name_ = members[0].group_estimator_name_
        self.log_loss_ = dict(pd.DataFrame([m.log_loss_ for m in members]).mean())
        self.prices_ = members[0].prices_.assign(
            price=np.mean([m.prices_["price"] for m in members], axis=0)
        )
        self._notes = [
            *members[0]._notes[:1],
            f"One of {len(members)} models decides, drawn for every person; each was judged on "
            "rows that it never saw. The verdict speaks of that lottery, not of their average. "
            f"They disagree about {self._lottery.disagreement:.1%} of people, which says little "
            "about how good the fit is: it is nearly the same for all that steer to their bound.",
            f"Training took {len(members)} times as long as one model, which is cross-fitted too.",
        ]
        nobody = np.empty(0, dtype=np.int64)
        split = RowSplit(nobody, nobody, np.arange(len(rows)))
        judged = replace(rows, split=split, design_effect=DESIGN_EFFECT)
        self.held_out_ = replace(judged, X=None).decided(told.decision, told.score)
        free = (self._gain(told.outcome) > 0).astype(np.float64)
        self.free_held_out_ = replace(judged, X=None).decided(free, told.outcome)
        return judged.decided(told.decision)

    def _member(self, rows: Rows, seed: int) -> Self:
        """Train one model of the lottery, on rows that were read."""
        member: Self = clone(self).set_params(certification=None, random_state=seed)
        linear = default_estimators(rows.X)[-1]
        member.estimator = linear if member.estimator is None else member.estimator
        if member.group_estimator is None:
            member.group_estimator = linear
        seen = vars(self)
        for name in _READ:
            if name in seen:
                setattr(member, name, seen[name])
        member._train(rows, np.random.RandomState(seed))
        member._memory = None  # prices are certified as they are
        return member

    def _learn(self, rows: Rows, rng: np.random.RandomState) -> JointScores:
        """Scores of the label, and of the group among rows of either label, out of fold."""
        y, codes, size = rows.outcomes.astype(np.int64), rows.groups.codes, len(rows.groups)
        folds = rows.folds(self.cv, rng)
        defaults = default_estimators(rows.X)

        def learnt(estimator: Any, target: NDArray[np.int64], n_classes: int) -> CrossFit:
            candidates = defaults if estimator is None else [estimator]
            return cross_fit(
                candidates,
                rows.X,
                target,
                n_classes,
                rows.weight,
                folds,
                rng=None if self.random_state is None else rng,
                n_jobs=self.n_jobs,
            )

        outcome = learnt(self.estimator, y, 2)
        self._outcome = replace(outcome, held=_NOBODY)
        self.estimator_name_ = _name(outcome.models[0].model)
        self.log_loss_ = {"outcome": outcome.loss}
        self._group_of: list[CrossFit] = []
        self.group_estimator_name_ = None
        if self.sensitive_at_predict:
            self._maps = GroupMaps.fit(outcome.held[:, 1], y, codes, size, rows.weight)
            return JointScores.of_known(self._maps(outcome.held[:, 1], codes), codes, size)
        by_label = [learnt(self.group_estimator, np.where(y == v, codes, -1), size) for v in (0, 1)]
        self.log_loss_["group"] = float(
            np.average([f.loss for f in by_label], weights=np.bincount(y, rows.weight, 2))
        )
        self._group_of = [replace(fit, held=_NOBODY) for fit in by_label]
        self.group_estimator_name_ = _name(by_label[1].models[0].model)
        scores = JointScores(outcome.held[:, 1], np.stack([fit.held for fit in by_label]))
        return scores.among(self._possible(rows.X))

    def _unconstrained_on(self, rows: Rows) -> Rows | None:
        free = self.free_held_out_  # of a lottery, by what never saw each row
        return super()._unconstrained_on(rows) if free is None else free

    def _keep_reports(self, reports: Mapping[Role, FairnessReport]) -> None:
        super()._keep_reports(reports)
        if self.free_held_out_ is not None:
            self.baseline_report_ = self._judged(self.free_held_out_, "certification")

    def _check_settings(self) -> None:
        if self.certification is not None and self.certification_fraction:
            raise InvalidParameterError(
                "certification='cross' certifies on all rows: leave certification_fraction out."
            )
        if self.certification is not None and not isinstance(self.cv, int | np.integer):
            raise InvalidParameterError(
                "certification='cross' makes folds within folds: cv must be a number of them."
            )
        if self.certification is not None:
            require_linear(estimator=self.estimator, group_estimator=self.group_estimator)

    def _read_constraints(self) -> tuple[Constraint, ...]:
        constraints = super()._read_constraints()
        for constraint in constraints:
            if isinstance(constraint, NoLevellingDown) and self.certification is not None:
                raise InvalidParameterError(
                    f"{constraint.name} takes its floors from the rows, so that every member would "
                    "have floors of its own; certify it with certification_fraction."
                )
        return constraints

    def _outcomes(self, X: Any, codes: Codes | None) -> Floats:
        """Average P(y = 1 | x) of the folds' models, for features that were checked."""
        if self._lottery is not None:
            return self._lottery.mean(lambda member: member._outcomes(X, codes))
        outcome = self._outcome(X)[:, 1]
        return outcome if codes is None else self._maps(outcome, codes)

    def _scores(self, X: Any, codes: Codes | None) -> JointScores:
        """The same, with P(g | x, y)."""
        outcome = self._outcomes(X, codes)
        if codes is not None:
            return JointScores.of_known(outcome, codes, len(self.scheme_))
        scores = JointScores(outcome, np.stack([fit(X) for fit in self._group_of]))
        return scores.among(self._possible(X))

    def _priced(self, X: Any, codes: Codes | None) -> tuple[Floats, Floats]:
        """P(y = 1 | x), and what the price of every cell takes from each person's gain, (n, m)."""
        if self._lottery is not None:
            parts = [member._priced(X, codes) for member in self._lottery.members]
            outcome, asked = (np.mean(part, axis=0) for part in zip(*parts, strict=True))
            return outcome, asked
        return super()._priced(X, codes)

    def _decision(self, X: Any, codes: Codes | None = None) -> Floats:
        if self._lottery is not None:
            return self._lottery.mean(lambda member: member._decision(X, codes))
        return super()._decision(X, codes)

    def __sklearn_tags__(self) -> Tags:
        """Tags of a binary classifier that accepts what its estimators accept."""
        tags = super().__sklearn_tags__()
        given = [e for e in (self.estimator, self.group_estimator) if e is not None]
        inner = [get_tags(e).input_tags for e in given]
        tags.input_tags.sparse = all(t.sparse for t in inner)
        tags.input_tags.allow_nan = all(t.allow_nan for t in inner)
        return tags


def _name(model: Any) -> str:
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    return type(last).__name__
