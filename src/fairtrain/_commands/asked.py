"""Options that several commands share; nothing here imports anything heavy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

__all__ = [
    "FLAG",
    "LIST",
    "Ask",
    "Estimator",
    "Features",
    "How",
    "MethodName",
    "Names",
    "Notion",
    "People",
    "Place",
    "Shares",
    "Show",
]

Names = tuple[str, ...]
Notion = Literal[
    "demographic_parity",
    "equal_opportunity",
    "predictive_equality",
    "equalized_odds",
    "error_rate_parity",
]
Estimator = Literal[
    "logistic", "xgboost", "lightgbm", "random-forest", "hist-gradient-boosting", "tree"
]
Missing = Literal["error", "group"]
MethodName = Literal["reductions", "boosting", "lagrangian", "regularized", "adversarial"]

# Every list is written with commas, or the option is repeated.
LIST = Parameter(negative="", consume_multiple=False, show_default=False)
FLAG = Parameter(negative="", show_default=False)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class People:
    """The outcome, and who is compared.

    Attributes
    ----------
    label
        Column of the outcome: two values.
    sensitive
        Columns that make the groups, such as race,sex.
    positive
        The favourable value of the label; may be left out for 0/1.
    positive_name
        What to call it, such as approved.
    missing
        Missing sensitive values: an error, or a group of their own.
    bin
        Cut a number into groups: age=25,45,65.
    """

    label: str
    sensitive: Annotated[Names, LIST]
    positive: str | None = None
    positive_name: str | None = None
    missing: Missing = "error"
    bin: Annotated[Names, LIST] = ()


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Ask:
    """What is asked.

    Attributes
    ----------
    constraint
        What to ask for.
    bound
        Largest difference between any two groups; 0.05 unless --ratio is given.
    ratio
        Smallest ratio of two groups' rates (the 80 % rule is 0.8).
    over
        Sensitive columns that the constraint speaks about; all together by default.
    """

    constraint: Notion = "demographic_parity"
    bound: float | None = None
    ratio: float | None = None
    over: Annotated[Names, LIST] = ()


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class How:
    """How to train.

    Attributes
    ----------
    method
        reductions: any estimator; boosting: XGBoost or LightGBM; lagrangian, regularized and
        adversarial: a network.
    estimator
        What reductions (default: logistic) or boosting (default: xgboost) train.
    eta
        Strength of the penalty of regularized; 1 by default.
    strength
        Strength of the adversary; 5 by default.
    epochs
        Passes of a network over the training rows; enough of them by default.
    """

    method: MethodName = "reductions"
    estimator: Estimator | None = None
    eta: float | None = None
    strength: float | None = None
    epochs: int | None = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Features:
    """What the model sees.

    Attributes
    ----------
    use_sensitive
        Let the model see the sensitive columns, which predict then needs.
    categorical
        Numeric columns that are codes without a scale.
    drop
        Columns to leave out, such as identifiers and what is known only after the decision.
    """

    use_sensitive: Annotated[bool, FLAG] = False
    categorical: Annotated[Names, LIST] = ()
    drop: Annotated[Names, LIST] = ()


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Shares:
    """Which rows do what.

    Attributes
    ----------
    validation
        Share of the rows that steer and choose.
    certification
        Share of the rows that only judge.
    seed
        Same seed, same rows, same result.
    """

    validation: float = 0.2
    certification: float = 0.3
    seed: int = 0


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the run goes.

    Attributes
    ----------
    out
        Folder for model, numbers, settings and report.
    force
        Replace the run folder if it exists.
    rationale
        Why this constraint and bound, for whoever reads the report: a text, or @FILE.
    """

    out: Path
    force: Annotated[bool, FLAG] = False
    rationale: str | None = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Show:
    """What is shown.

    Attributes
    ----------
    json
        Print the numbers as JSON, and nothing else, on standard output.
    require_met
        Exit with 3 unless the verdict is "met".
    """

    json: Annotated[bool, FLAG] = False
    require_met: Annotated[bool, FLAG] = False
