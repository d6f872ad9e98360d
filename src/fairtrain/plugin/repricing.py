"""Other bounds, constraints and rows for scores that were learnt once."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from fairtrain.constraints import ConstraintSpec, NoLevellingDown, strata_of
from fairtrain.data.rows import Rows
from fairtrain.estimator import FairEstimator, require_favourable
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.plugin.cross import Lottery
from fairtrain.plugin.linear import JointScores
from fairtrain.plugin.rule import PricedRule

__all__ = ["Memory", "Repriceable"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Memory:
    """What another bound needs: scores, their rows without features, and what rows these are."""

    scores: JointScores
    rows: Rows
    called: str = "out-of-fold rates"


class Repriceable(FairEstimator):
    """An estimator whose scores stay while the prices on them change, at no training."""

    _memory: Memory | None
    _lottery: Lottery | None = None
    _rule: PricedRule

    @abstractmethod
    def _price(self, start: Floats | None) -> Floats:
        """Find the prices of the present constraints; return the decisions of the rows of fit."""

    @abstractmethod
    def _scores(self, X: Any, codes: Codes | None) -> JointScores:
        """Scores of features that were checked."""

    @abstractmethod
    def _known(self, rows: Rows) -> Codes | None:
        """Groups, where they are known when deciding."""

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
        warm_start: bool = True,
    ) -> Self:
        """Make another fitted classifier of the same scores under other constraints.

        Parameters
        ----------
        constraints : Constraint, str, fairlearn moment, or a list of these
            What is asked now.
        difference_bound, ratio_bound : float, optional
            Replace their bounds.
        warm_start : bool, default=True
            Seek the prices from the present ones, where the cells are the same; without it from
            none, so that the model is the one that ``fit`` would give.

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
        self.scheme_.require_given(strata_of(other.constraints_))
        same_cells = [c.rates for c in other.constraints_] == [c.rates for c in self.constraints_]
        ours, theirs = (
            [(c.over, c.given, c.pooled) for c in asked]
            for asked in (self.constraints_, other.constraints_)
        )
        same_groups = ours == theirs
        warm = warm_start and same_cells and same_groups
        return other._repriced(self._rule.multipliers if warm else None)

    def with_rows(
        self,
        X: Any,
        y: Any,
        *,
        sensitive_features: Any = None,
        sample_weight: Any = None,
        clusters: Any = None,
    ) -> Self:
        """Make another fitted classifier whose prices are chosen on other rows.

        Parameters
        ----------
        X, y, sensitive_features, sample_weight, clusters
            As in ``fit``: rows that trained none of the estimators, or their scores are too sure.
            The floors of :class:`~fairtrain.constraints.NoLevellingDown` are measured anew on them.

        Returns
        -------
        FairPlugInClassifier
        """
        rows = self._read_later(X, y, sensitive_features, sample_weight, clusters)
        if self._lottery is not None:
            self._remembered()
        other = self._twin()
        scores = self._scores(rows.X, self._known(rows))
        other._memory = Memory(scores, replace(rows, X=None), "rates of rows passed to with_rows")
        # Floors that were measured on the rows of fit say nothing of a loss on these.
        other.constraints_ = tuple(
            replace(c, value=None) if isinstance(c, NoLevellingDown) else c
            for c in self.constraints_
        )
        return other._repriced(self._rule.multipliers)

    def frontier(self, bounds: Sequence[float]) -> pd.DataFrame:
        """Accuracy and gap at several bounds, from out-of-fold decisions.

        Parameters
        ----------
        bounds : sequence of float
            Values of ``difference_bound``, or of ``ratio_bound`` where the parities have ratios;
            caps and floors beside them stay.

        Returns
        -------
        DataFrame
            ``bound``, ``accuracy``, ``selection_rate``, ``achieved``; choosing from it is steering.
        """
        check_is_fitted(self)
        moved = [i for i, c in enumerate(self.constraints_) if not c.absolute]
        if not moved:
            raise InvalidParameterError(
                "frontier moves the bound of a parity, and there is none among the constraints; "
                "with_constraints changes caps and floors."
            )
        by_ratio = self.constraints_[moved[0]].kind == "ratio"
        name = "ratio_bound" if by_ratio else "difference_bound"
        rows = []
        for bound in bounds:
            report = self.with_bounds(**{name: float(bound)}).fairness_report_
            achieved = [report.results[i].achieved for i in moved]
            worst = min(achieved) if by_ratio else max(achieved)
            rows.append((float(bound), report.accuracy[0], report.selection_rate, worst))
        return pd.DataFrame(rows, columns=["bound", "accuracy", "selection_rate", "achieved"])

    def _repriced(self, start: Floats | None) -> Self:
        """Price the rows in memory, and judge the decisions that chose the prices."""
        decided = self._remembered().rows.decided(self._price(start))
        self._keep_reports({"steering": self._judged(decided, "steering")})
        return self

    def _twin(self) -> Self:
        """Another classifier of the same scores, with what pickles leave out."""
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def _remembered(self) -> Memory:
        memory: Memory | None = getattr(self, "_memory", None)
        if self._lottery is not None:
            raise InvalidParameterError(
                "a certificate belongs to the bounds it was made at, and the best of several by "
                "their gaps would not hold: choose bounds with certification=None, then fit anew."
            )
        if memory is None:
            raise InvalidDataError(
                "this model was loaded or copied, and scores of training rows are not saved: "
                "with_rows(X, y, sensitive_features=...) first says which rows choose prices."
            )
        return memory
