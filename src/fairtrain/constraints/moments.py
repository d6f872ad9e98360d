"""A constraint that only fairlearn can say: a moment that is no rate of fairtrain's."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pandas as pd

from fairtrain._parameters import ANYTHING, Table
from fairtrain.constraints.notions import Limit
from fairtrain.constraints.rates import Rate
from fairtrain.data.rows import Rows
from fairtrain.exceptions import InvalidDataError, InvalidParameterError

if TYPE_CHECKING:
    from fairlearn.reductions import Moment

__all__ = ["MomentConstraint", "sensitive_columns"]


@dataclass(frozen=True, kw_only=True)
class MomentConstraint(Limit):
    r"""Any moment of fairlearn's kind (Agarwal et al., 2018): ``gamma(predictor) <= bound()``.

    :class:`~fairtrain.ReductionsWrapper` trains under it on fairlearn's own path, and reports say
    what ``gamma`` says: how far it is from its bound. It comes without limits, so nothing is
    certified. Everything else asks for a rate, of which limits are known.

    Parameters
    ----------
    moment : fairlearn.reductions.Moment
        With ``load_data``, ``index``, ``gamma``, ``bound``, ``signed_weights`` and
        ``project_lambda``; no rows loaded.
    priority
        See :class:`Constraint`. ``over``, ``given`` and ``weights`` are not for it.

    Raises
    ------
    InvalidParameterError
        If it has no bound, holds rows already, or is told what to compare.
    """

    notion: ClassVar[str] = "moment"
    _number: ClassVar[str] = "own bound"
    _allowed: ClassVar[Table] = {"moment": ANYTHING}

    moment: Any

    def __post_init__(self) -> None:
        super().__post_init__()
        for setting in ("over", "given", "weights"):
            if getattr(self, setting) is not None:
                raise InvalidParameterError(
                    f"{setting} is not for a moment, which says itself what it compares; write it "
                    "as fairtrain.RateParity(quantity=..., event=...)."
                )
        from fairlearn.reductions import Moment, UtilityParity

        kind = type(self.moment)
        if kind is UtilityParity:
            raise InvalidParameterError(
                "fairlearn's UtilityParity reads its events and utilities in load_data: override "
                "it in a subclass, or write fairtrain.RateParity(quantity=..., event=...)."
            )
        if kind.bound is Moment.bound or kind.gamma is Moment.gamma:
            raise InvalidParameterError(
                f"{kind.__name__} asks for nothing: a constraint needs gamma() and bound()."
            )
        if getattr(self.moment, "data_loaded", False):
            raise InvalidParameterError(
                f"this {kind.__name__} has rows loaded already; make a new one."
            )
        object.__setattr__(self, "moment", copy.deepcopy(self.moment))

    @property
    def name(self) -> str:
        """The moment's class."""
        return type(self.moment).__name__

    @property
    def kind(self) -> Literal["upper"]:
        """An absolute limit of every entry of gamma."""
        return "upper"

    @property
    def bound(self) -> float:
        """0: gamma less its own bound, which is known with the rows, is limited."""
        return 0.0

    @property
    def rates(self) -> tuple[Rate, ...]:
        """None is known.

        Raises
        ------
        InvalidParameterError
            Always.
        """
        raise InvalidParameterError(self.refusal)

    @property
    def refusal(self) -> str:
        """Why nothing but a reduction can train under it, and what to write instead."""
        return (
            f"{self.name} is not one of fairlearn's own constraints and has no rate here, so only "
            "ReductionsWrapper trains under it; write it as fairtrain.RateParity(quantity=..., "
            "event=...)."
        )

    def loaded(self, rows: Rows) -> Moment:
        """Make a copy of the moment that has some rows.

        Raises
        ------
        InvalidDataError
            If the rows have weights, which moments do not know.
        """
        if rows.weight is not None and np.ptp(rows.weight) > 0:
            raise InvalidDataError(
                f"{self.name} counts every row once: leave sample_weight out, or write it as "
                "fairtrain.RateParity(quantity=..., event=...)."
            )
        return self.moved(self.moment, rows)

    def moved(self, moment: Any, rows: Rows) -> Moment:
        """Copy of a moment of fairlearn's kind, this one or its objective, with some rows."""
        moment = copy.deepcopy(moment)
        X = np.zeros((len(rows), 1)) if rows.X is None else rows.X
        y = pd.Series(rows.outcomes.astype(np.int64) if rows.labels else rows.outcomes)
        moment.load_data(X, y, sensitive_features=sensitive_columns(rows))
        return moment


def sensitive_columns(rows: Rows) -> pd.Series | pd.DataFrame:
    """Sensitive features as fairlearn takes them: a column, or a frame of several."""
    columns = rows.sensitive
    frame = pd.DataFrame({str(name): values for name, values in columns.items()})
    return frame.iloc[:, 0] if frame.shape[1] == 1 else frame
