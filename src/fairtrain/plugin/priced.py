"""``PricedClassifier``: whatever the scores of label and group are, prices decide."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils import Tags

from fairtrain._parameters import ANYTHING, FLAG, NONE, Real, Table
from fairtrain.constraints import (
    BoundedGroupLoss,
    Constraint,
    ErrorCosts,
    NoLevellingDown,
    Objective,
    PredictiveParity,
    linearised,
)
from fairtrain.constraints.families import RateFamily, families_of
from fairtrain.constraints.table import RateTable
from fairtrain.data import inputs
from fairtrain.data.draws import keyed_uniform, new_key
from fairtrain.data.labels import LabelCoding, scored
from fairtrain.data.rows import Role, Rows, take_sensitive, with_strata
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.metrics.clusters import design_effects
from fairtrain.metrics.measures import measure_cells
from fairtrain.metrics.report import FairnessReport
from fairtrain.plugin.costs import ALLOWED, costs_to_try
from fairtrain.plugin.levels import Levels, best_levels, parity_of, with_levels
from fairtrain.plugin.linear import JointScores, linear_rates
from fairtrain.plugin.repricing import Memory, Repriceable
from fairtrain.plugin.rule import (
    RuleSettings,
    ScoredRows,
    explain_broken,
    find_rule,
    sketch_rule,
)

__all__ = ["PricedClassifier"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


class PricedClassifier(ClassifierMixin, Repriceable):
    """Base of the classifiers that price scores which were learnt once.

    A subclass learns P(y | x) and P(g | x, y) (:meth:`_learn`) and gives them for new people
    (:meth:`_outcomes`, :meth:`_scores`); prices, decisions and what is said of them are here.

    Attributes
    ----------
    prices_ : DataFrame
        A row a cell: ``constraint``, ``group``, ``price``.
    estimator_name_, group_estimator_name_ : str
        What gives the scores; no name where the group is known.
    costs_ : ErrorCosts
        What the objective says of the two errors.
    lottery_ : bool
        Whether people whose scores tie are decided by lot.
    levels_ : tuple of two floats, or None
        Under :class:`~fairtrain.constraints.PredictiveParity`: between which rates all groups were
        kept, which was searched.
    """

    _allowed: ClassVar[Table] = {
        "objective": ANYTHING,
        "sensitive_at_predict": FLAG,
        "mixing": Real(0),
        "aim": FLAG,
        "confidence": Real(0, 1, "()") | NONE,
    }

    cv: Any
    objective: Any
    sensitive_at_predict: bool
    mixing: float
    aim: bool
    confidence: float | None

    costs_: ErrorCosts
    estimator_name_: str
    group_estimator_name_: str | None
    prices_: pd.DataFrame
    draw_key_: int
    lottery_: bool
    levels_: Levels | None = None

    @property
    def needs_sensitive_at_predict(self) -> bool:
        """What ``sensitive_at_predict`` says."""
        return bool(self.sensitive_at_predict)

    # What a method fills in ---------------------------------------------------------------------

    @abstractmethod
    def _learn(self, rows: Rows, rng: np.random.RandomState) -> JointScores:
        """Learn scores; return those of the rows by models that never saw them."""

    @abstractmethod
    def _outcomes(self, X: Any, codes: Codes | None) -> Floats:
        """P(y = 1 | x) of features that were checked, and of groups where they are known."""

    # Prices -------------------------------------------------------------------------------------

    def _train(self, rows: Rows, rng: np.random.RandomState) -> Rows:
        self._memory = None  # of an earlier fit
        learning = rows.part("training")
        scores = self._learn(learning, rng)
        self.draw_key_ = new_key(rng)
        self._memory = Memory(scores, replace(learning, X=None))
        return self._out_of_fold(rows, self._price(None))  # by which prices were chosen

    def _price(self, start: Floats | None) -> Floats:
        """Find the prices of the present constraints; return the decisions of the rows of fit."""
        rows = self._remembered().rows
        objective = self._objective(rows.labels)
        share = float(np.average(rows.outcomes, weights=rows.weight))
        self.costs_ = objective.costs(share)
        if objective.costs_at is not None and objective.settled:
            return self._price_at_costs(start)
        asked, tried = self.constraints_, dict[ErrorCosts, tuple[float, float]]()
        for costs in costs_to_try(objective, share, tried):
            self.costs_, self.constraints_ = costs, asked  # floors are of the rows at these costs
            decided = self._price_at_costs(start)
            value = objective(rows.outcomes, decided, weight=rows.weight)
            over = max(float(self._rule.excess.max()), ALLOWED)
            tried[costs] = -over, value if np.isfinite(value) else -np.inf
        self.costs_, self.constraints_ = max(tried, key=lambda costs: tried[costs]), asked
        return self._price_at_costs(start)

    def _price_at_costs(self, start: Floats | None) -> Floats:
        """The same, where it is known what errors cost."""
        free, self.levels_ = self._unconstrained(), None
        self.constraints_ = tuple(_resolved(c, free) for c in self.constraints_)
        parity = parity_of(self.constraints_)
        if parity is None:
            return self._price_limits(start)
        self.levels_ = self._searched(parity, free)
        decided = self._price_limits(None)
        self._notes.append(
            "{}: the {} of every group was kept from {:.3f} to {:.3f}, which costs least.".format(
                parity.name, parity.rate.replace("_", " "), *self.levels_
            )
        )
        return decided

    def _searched(self, parity: PredictiveParity, free: Rows) -> Levels:
        """The range in which rates of all groups are kept at the least cost."""
        rows = free.groups
        groups = rows.merged(*parity.partition(rows.scheme))
        rates = measure_cells(free, parity.rates[0], groups).mean
        rates = rates[parity.group_weights(groups.names) > 0]
        counted = RateTable(
            families_of(self.constraints_, rows.scheme), free.outcomes, rows.members, free.weight
        )
        start: Floats | None = None

        def tried(levels: Levels) -> tuple[float, float]:
            nonlocal start  # prices of one level are nearly those of the next
            families, scored = self._scored(with_levels(self.constraints_, levels))
            rule = sketch_rule(families, scored, self._rule_settings, start)
            start = rule.multipliers
            decided = counted(rule.share(scored.gain - scored.rates.slopes @ rule.prices))
            over = [c.family.bounds.excess(decided[c.part]) for c in counted.cells]
            return float(np.nanmax([*over, *rule.excess])), rule.gain

        return best_levels(parity, rates, tried, alone=len(self.constraints_) == 1)

    def _scored(self, asked: Sequence[Constraint]) -> tuple[list[RateFamily], ScoredRows]:
        """The rows in memory, and the cells of what is asked."""
        memory = self._remembered()
        rows, free = memory.rows, self._unconstrained()
        table = RateTable.comparing(asked, rows.outcomes, rows.groups, rows.weight)
        families = [cells.family for cells in table.cells]
        effects = design_effects(table, free.decisions, rows.groups.members, rows.clusters)
        return families, ScoredRows(
            gain=self._gain(memory.scores.outcome),
            rates=linear_rates(families, memory.scores, rows.weight),
            counted=table,
            counts=table.effective / effects,
        )

    @property
    def _rule_settings(self) -> RuleSettings:
        return RuleSettings(self.mixing, self.aim, self.confidence)

    def _price_limits(self, start: Floats | None) -> Floats:
        """The same, where all that is asked is linear in decisions."""
        families, scored = self._scored(with_levels(self.constraints_, self.levels_))
        if start is not None and start.shape[1] != len(scored.counts):
            start = None  # of other floors
        settings = self._rule_settings
        self._factors = [family.factor for family in families]
        self._rule = find_rule(families, scored, settings, start)
        self.lottery_ = bool(self._rule.temperature)
        names = [(f.name, group) for f in families for group in f.cell_names]
        self.prices_ = pd.DataFrame(names, columns=["constraint", "group"]).assign(
            price=self._rule.prices
        )
        groups = "known at predict"
        if not self.sensitive_at_predict:
            groups = f"estimated inside by {self.group_estimator_name_}"
        self._notes = [
            f"P({self._remembered().rows.favourable} | x) is given by {self.estimator_name_}, the "
            f"groups are {groups}; {self._remembered().called} chose the prices.",
            *explain_broken(families, scored, settings, self._rule),
        ]
        if self.lottery_:
            self._notes.append("People whose scores tie are decided by lot.")
        return self._rule.share(scored.gain - scored.rates.slopes @ self._rule.prices)

    def _unconstrained(self) -> Rows:
        """The rows in memory as the scores alone decide them."""
        memory = self._remembered()
        return memory.rows.decided((self._gain(memory.scores.outcome) > 0).astype(np.float64))

    def _keep_reports(self, reports: Mapping[Role, FairnessReport]) -> None:
        super()._keep_reports(reports)
        if self._memory is not None:
            self.baseline_report_ = self._judged(self._unconstrained(), "steering")

    def _gain(self, outcome: Floats) -> Floats:
        """What the favourable decision gains, in units of the mean cost of the two errors."""
        return 2 * (outcome - self.costs_.threshold)

    def _families(self) -> list[RateFamily]:
        asked = linearised(with_levels(self.constraints_, self.levels_))
        families = families_of(asked, self.scheme_)
        pairs = zip(families, self._factors, strict=True)
        return [replace(family, factor=factor) for family, factor in pairs]

    def _read(
        self, X: Any, y: Any, sensitive_features: Any, sample_weight: Any, clusters: Any = None
    ) -> Rows:
        rows = super()._read(X, y, sensitive_features, sample_weight, clusters)
        objective = self._sought(rows.labels)
        self.costs_ = objective.costs(float(np.average(rows.outcomes, weights=rows.weight)))
        return rows

    def _sought(self, labels: LabelCoding | None) -> Objective:
        """The objective, where prices can seek it."""
        objective = self._objective(labels)
        if objective.scored:
            raise InvalidParameterError(
                f"prices leave scores as they are, so that objective={objective.name!r} cannot be "
                "sought here: choose the estimator by it, or use LagrangianBoostingClassifier or "
                "LagrangianFairnessTrainer, which choose a round or an epoch by it."
            )
        return objective

    def _read_constraints(self) -> tuple[Constraint, ...]:
        constraints = super()._read_constraints()
        parity_of(constraints)
        for constraint in constraints:
            if isinstance(constraint, BoundedGroupLoss) and constraint.loss != "zero_one":
                raise InvalidParameterError(
                    f"{constraint.name} bounds a loss of probabilities, which no price on "
                    "decisions can keep; use LagrangianBoostingClassifier (of numbers: "
                    "LagrangianBoostingRegressor or ReductionsRegressor), or loss='zero_one'."
                )
        return constraints

    # Decisions ----------------------------------------------------------------------------------

    def _people(self, X: Any, sensitive_features: Any) -> tuple[Any, Codes | None]:
        """Checked features, and the groups where they are used."""
        features = self._features(X)
        if not self.sensitive_at_predict:
            if sensitive_features is not None:
                raise InvalidParameterError(
                    "this model decides by features only: leave sensitive_features out, or set "
                    "sensitive_at_predict=True."
                )
            return features, None
        bare = inputs.as_features(X)
        bare, who = take_sensitive(bare, self.sensitive_features, sensitive_features)
        if who is None:
            raise InvalidDataError(
                "predict needs sensitive_features: sensitive_at_predict is True. Pass them, or "
                "name columns of X in the constructor."
            )
        codes = self.scheme_.encode(with_strata(bare, who, self.scheme_.given), like=X)
        inputs.check_lengths(inputs.number_of_rows(features), sensitive_features=codes)
        return features, codes

    def _possible(self, X: Any) -> NDArray[np.bool_] | None:
        """Groups that people can belong to, by strata that are features; None where none are."""
        known = [name for name, _ in self.scheme_.given if name in getattr(X, "columns", ())]
        return self.scheme_.possible(inputs.drop_columns(X, known)[1]) if known else None

    def _priced(self, X: Any, codes: Codes | None) -> tuple[Floats, Floats]:
        """P(y = 1 | x), and what the price of every cell takes from each person's gain, (n, m)."""
        scores = self._scores(X, codes)
        rates = linear_rates(self._families(), scores, scale=self._rule.scale)
        return scores.outcome, rates.slopes * self._rule.prices

    def _margin(self, X: Any, codes: Codes | None) -> Floats:
        """Gain less what the cells' prices ask, for features that were checked."""
        outcome, asked = self._priced(X, codes)
        return np.asarray(self._gain(outcome) - asked.sum(axis=1))

    def _decision(self, X: Any, codes: Codes | None = None) -> Floats:
        return self._rule.share(self._margin(X, codes))

    def _known(self, rows: Rows) -> Codes | None:
        return rows.groups.codes if self.sensitive_at_predict else None

    def _decided(self, rows: Rows) -> Rows:
        return rows.decided(self._decision(rows.X, self._known(rows)))

    def _unconstrained_on(self, rows: Rows) -> Rows | None:
        outcome = self._outcomes(rows.X, self._known(rows))
        return rows.decided((self._gain(outcome) > 0).astype(np.float64))

    def decision_function(self, X: Any, *, sensitive_features: Any = None) -> Floats:
        """Priced score: above 0 decides for ``classes_[1]``.

        Parameters
        ----------
        X : array, sparse matrix or frame of shape (n, d)
            Features.
        sensitive_features : frame, series, mapping, array or list of n rows, optional
            Who, with ``sensitive_at_predict=True``; left out where the constructor names columns.

        Returns
        -------
        ndarray of shape (n,)
            The gain less what the groups' prices ask: for accuracy 2 P(y | x) - 1, in [-1, 1],
            where nothing is asked.
        """
        margin = self._margin(*self._people(X, sensitive_features))
        assert self._coding is not None
        return margin if self._coding.column == 1 else -margin

    def decision_proba(self, X: Any, *, sensitive_features: Any = None) -> Floats:
        """Chance of each decision, (n, 2): 0 or 1, or in between where it is drawn by lot."""
        people = self._people(X, sensitive_features)
        assert self._coding is not None
        return self._coding.columns(self._decision(*people))

    def predict(self, X: Any, *, sensitive_features: Any = None) -> NDArray[Any]:
        """Decide; where scores tie, by a draw that belongs to the row.

        Parameters
        ----------
        X, sensitive_features
            As in :meth:`decision_function`.

        Returns
        -------
        ndarray of shape (n,)
            Labels.
        """
        return self._predicted(*self._people(X, sensitive_features))

    def _predicted(self, X: Any, codes: Codes | None) -> NDArray[Any]:
        share = self._decision(X, codes)
        assert self._coding is not None
        if self.lottery_:
            return self._coding.decode(self._drawn(X) < share)
        return self._coding.decode(share > 0.5)

    def _drawn(self, X: Any) -> Floats:
        """A number in [0, 1) that belongs to each row."""
        return keyed_uniform(X, self.draw_key_)

    def predict_proba(self, X: Any, *, sensitive_features: Any = None) -> Floats:
        """Priced probability: what each decision would be taken at .5 of.

        Parameters
        ----------
        X, sensitive_features
            As in :meth:`decision_function`.

        Returns
        -------
        ndarray of shape (n, 2)
            In the order of ``classes_``; :meth:`outcome_proba` has the probability of the label.
        """
        return self._probabilities(*self._people(X, sensitive_features))

    def _probabilities(self, X: Any, codes: Codes | None) -> Floats:
        assert self._coding is not None
        return self._coding.columns(self._as_chance(self._margin(X, codes)))

    def _as_chance(self, margin: Floats) -> Floats:
        widest = np.abs(self._gain(np.array([0.0, 1.0]))).max()  # 1 for accuracy
        return np.asarray(np.clip((1 + margin / widest) / 2, 0.0, 1.0))

    def _chances(self, rows: Rows) -> tuple[Floats, Floats]:
        """P(y = 1 | x) of prepared rows, and what decisions would be taken at .5 of."""
        outcome, asked = self._priced(rows.X, self._known(rows))
        return outcome, self._as_chance(self._gain(outcome) - asked.sum(axis=1))

    def outcome_proba(self, X: Any, *, sensitive_features: Any = None) -> Floats:
        """Probability of each label before any price, (n, 2), in the order of ``classes_``."""
        X, codes = self._people(X, sensitive_features)
        assert self._coding is not None
        return self._coding.columns(self._outcomes(X, codes))

    def score(
        self, X: Any, y: Any, sample_weight: Any = None, *, sensitive_features: Any = None
    ) -> float:
        """Accuracy of :meth:`predict`."""
        decided = self.predict(X, sensitive_features=sensitive_features)
        return scored(X, y, decided, sample_weight)

    def contributions(
        self, X: Any, *, sensitive_features: Any = None, by_group: bool = False
    ) -> pd.DataFrame:
        """Say what each person's score is made of: P(y | x), and what prices moved.

        Parameters
        ----------
        X, sensitive_features
            As in :meth:`decision_function`.
        by_group : bool, default=False
            Add a column a cell. Each is a price times how likely the person's group is: **it tells
            an estimate of a sensitive feature of a person**, whose release is for a privacy
            officer to decide. The sum over groups, which is there without it, tells far less.

        Returns
        -------
        DataFrame
            ``outcome_proba`` of the favourable label, ``gain``, ``moved`` (what prices added), and
            ``margin``, their sum: above 0 is decided favourably. A row a person, with the index of
            ``X`` if it has one.
        """
        outcome, asked = self._priced(*self._people(X, sensitive_features))
        gain = self._gain(outcome)
        moved = -asked.sum(axis=1)
        table = pd.DataFrame(
            {
                "outcome_proba": outcome,
                "gain": gain,
                "moved": moved,
                "margin": gain + moved,
            },
            index=getattr(X, "index", None),
        )
        if by_group:
            names = self.prices_["constraint"] + ": " + self.prices_["group"]
            table[names.tolist()] = -asked
        return table

    def __sklearn_tags__(self) -> Tags:
        """Tags of a binary classifier."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags


def _resolved(constraint: Constraint, unconstrained: Rows) -> Constraint:
    """The constraint, with floors measured on unconstrained decisions where it has none yet."""
    if not isinstance(constraint, NoLevellingDown) or constraint.value is not None:
        return constraint
    groups = unconstrained.groups
    groups = groups.merged(*constraint.partition(groups.scheme))
    cells = measure_cells(unconstrained, constraint.rates[0], groups)
    return constraint.resolved(groups.names, cells.mean)
