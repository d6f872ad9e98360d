"""Options that several commands share, and their TOML file; nothing here imports anything heavy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from fairtrain._text import flatten, one_line
from fairtrain.exceptions import InvalidParameterError

__all__ = [
    "FLAG",
    "LIST",
    "Ask",
    "AuditOptions",
    "CalibrationOptions",
    "Decide",
    "Estimator",
    "Features",
    "How",
    "MethodName",
    "Names",
    "People",
    "Place",
    "Shares",
    "Show",
    "SweepOptions",
    "TrainingOptions",
    "parse_numbers",
    "read_options",
    "read_toml",
    "to_toml",
]

Names = tuple[str, ...]
Notion = Literal[
    "demographic_parity",
    "equal_opportunity",
    "predictive_equality",
    "equalized_odds",
    "error_rate_parity",
    "predictive_parity",
    "precision_parity",
]
Estimator = Literal[
    "logistic", "xgboost", "lightgbm", "random-forest", "hist-gradient-boosting", "tree"
]
MethodName = Literal[
    "auto", "plug-in", "reductions", "boosting", "lagrangian", "regularized", "adversarial"
]

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
    multiline
        Fields in quotes of a text file may hold line breaks.
    cluster
        Column that says which rows belong together, such as customer_id: they stay together in
        every split, and limits allow for them. It is no feature.
    given
        Columns within which groups are compared, such as income_band; one that is not among the
        sensitive ones stays a feature.
    pooled
        With --given: bound the weighted mean over these strata, not each of them.
    """

    label: str
    sensitive: Annotated[Names, LIST]
    positive: str | None = None
    positive_name: str | None = None
    missing: Literal["error", "group"] = "error"
    bin: Annotated[Names, LIST] = ()
    multiline: Annotated[bool, FLAG] = False
    cluster: str | None = None
    given: Annotated[Names, LIST] = ()
    pooled: Annotated[bool, FLAG] = False


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
    at_least
        Instead of --constraint, a floor in every group: precision=0.7.
    at_most
        Likewise a cap: false_positive_rate=0.1.
    """

    constraint: Notion = "demographic_parity"
    bound: float | None = None
    ratio: float | None = None
    over: Annotated[Names, LIST] = ()
    at_least: str | None = None
    at_most: str | None = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class How:
    """How to train.

    Attributes
    ----------
    method
        One, or several with commas, of which the rows that steer choose one. auto: the plug-in;
        plug-in: prices on the scores of any estimator; reductions: any estimator,
        reweighted; boosting: XGBoost or LightGBM; lagrangian, regularized and adversarial: a
        network.
    estimator
        What plug-in (default: the better of boosting and logistic), reductions (default: logistic)
        or boosting (default: xgboost) train.
    group_inference
        Whether auto may take a method that estimates inside how likely each group is;
        --no-group-inference takes boosting where XGBoost is installed, else reductions.
    objective
        What decisions are best at: accuracy, balanced_accuracy, f1, auc, log_loss, or costs such
        as false_positive=1,false_negative=5; accuracy by default.
    eta
        Strength of the penalty of regularized; 1 by default.
    strength
        Strength of the adversary; 5 by default.
    epochs
        Passes of a network over the training rows; enough of them by default.
    """

    method: str = "auto"
    estimator: Estimator | None = None
    group_inference: bool = True
    objective: str | None = None
    eta: float | None = None
    strength: float | None = None
    epochs: int | None = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Decide:
    """Where decisions are made.

    Attributes
    ----------
    threshold
        Decide favourably from this chance on, not from .5.
    select_top
        Choose the best 20% (a share) or 500 (a number, of the rows of DATA).
    cost_fp
        What a wrong favourable decision costs; 1 by default.
    cost_fn
        What a missed favourable decision costs; 1 by default.
    """

    threshold: float | None = None
    select_top: str | None = None
    cost_fp: float | None = None
    cost_fn: float | None = None


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
    columns
        TOML file with what columns are used as: postcode = "category", or number, date, drop.
    """

    use_sensitive: Annotated[bool, FLAG] = False
    categorical: Annotated[Names, LIST] = ()
    drop: Annotated[Names, LIST] = ()
    columns: Path | None = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Shares:
    """Which rows do what.

    Attributes
    ----------
    validation
        Share of the rows that steer and choose.
    certification
        Share of the rows that only judge; cross: all of them judge, each the one of five models
        that never saw it, and one of these, drawn for every person, decides (plug-in, auto).
    seed
        Same seed, same rows, same result.
    """

    validation: float = 0.2
    certification: float | Literal["cross"] = 0.3
    seed: int = 0

    @property
    def cross(self) -> bool:
        """Whether all rows certify."""
        return self.certification == "cross"

    @property
    def share(self) -> float:
        """Share of the rows that only judge."""
        return 0.0 if isinstance(self.certification, str) else self.certification


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


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class AuditOptions:
    """What ``fairtrain audit`` takes.

    Attributes
    ----------
    score
        Column with the probability of the favourable label.
    prediction
        Column with decisions, in the label's words.
    constraint
        Notions to judge by; repeat the option for several.
    bound
        Largest difference between any two groups.
    ratio
        Instead of --bound: smallest ratio of two groups' rates (the 80 % rule is 0.8).
    rows
        Whether the rows took no part in making the model (certification) or did (training).
    plan
        Before training: say how likely these rows are to show --bound, and how many would do.
    certification
        With --plan: share of the rows that will only judge; 0.3, as in train, by default.
    """

    people: People
    score: str | None = None
    prediction: str | None = None
    decide: Decide = Decide()
    constraint: Annotated[tuple[Notion, ...], LIST] = ("demographic_parity", "equalized_odds")
    bound: float = 0.05
    ratio: float | None = None
    rows: Literal["certification", "training"] = "certification"
    plan: Annotated[bool, FLAG] = False
    certification: float | None = None
    show: Show = Show()


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """What ``fairtrain train`` takes."""

    people: People
    ask: Ask = Ask()
    decide: Decide = Decide()
    how: How = How()
    features: Features = Features()
    shares: Shares = Shares()
    place: Place
    show: Show = Show()


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """What ``fairtrain sweep`` takes.

    Attributes
    ----------
    constraint
        What the gap is about.
    max_gap
        The most accurate point with no wider gap on the validation rows is chosen.
    over
        Sensitive columns that the constraint speaks about; all together by default.
    method
        What is trained again and again; the plug-in is trained once and priced again.
    etas
        Strengths, for regularized and adversarial: 0,0.1,0.5,1,5,10 by default.
    bounds
        Bounds, for the other methods: 0.01,0.02,0.05,0.1,0.2 by default.
    seeds
        Models for each of them.
    estimator
        What plug-in (default: the better of boosting and logistic), reductions (default: logistic)
        or boosting (default: xgboost) train.
    group_inference
        Whether auto may take a method that estimates inside how likely each group is;
        --no-group-inference takes boosting where XGBoost is installed, else reductions.
    objective
        What chooses, and is trained for where it says what errors cost: see train.
    epochs
        Passes of a network over the training rows; enough of them by default.
    resume
        Go on with what a stopped run of the same command left; --no-resume begins anew.
    """

    people: People
    constraint: Notion = "demographic_parity"
    max_gap: float = 0.05
    over: Annotated[Names, LIST] = ()
    method: MethodName = "regularized"
    etas: Annotated[Names, LIST] = ()
    bounds: Annotated[Names, LIST] = ()
    seeds: int = 1
    estimator: Estimator | None = None
    group_inference: bool = True
    objective: str | None = None
    epochs: int | None = None
    decide: Decide = Decide()
    features: Features = Features()
    shares: Shares = Shares()
    place: Place
    resume: bool = True
    show: Show = Show()

    @property
    def ask(self) -> Ask:
        """What the choice has to keep."""
        return Ask(constraint=self.constraint, bound=self.max_gap, over=self.over)

    @property
    def how(self) -> How:
        """How each point is trained."""
        return How(
            method=self.method,
            estimator=self.estimator,
            group_inference=self.group_inference,
            objective=self.objective,
            epochs=self.epochs,
        )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class CalibrationOptions:
    """What ``fairtrain calibrate`` takes.

    Attributes
    ----------
    score
        Column with the probability of the favourable label.
    method
        hierarchical: small groups borrow from what they share with others; auto: for each group
        what cross-validation finds best; the others fit each group by itself.
    certification
        Share of the rows that only judge.
    seed
        Same seed, same rows, same result.
    json
        Print the numbers as JSON, and nothing else, on standard output.
    """

    score: str
    people: People
    method: Literal[
        "hierarchical",
        "auto",
        "platt",
        "isotonic",
        "temperature",
        "beta",
        "histogram",
        "venn_abers",
    ] = "hierarchical"
    certification: float = 0.3
    seed: int = 0
    place: Place
    json: Annotated[bool, FLAG] = False


_LARGEST = 2**20
"""Bytes of a file of options."""


def read_toml(path: Path, option: str) -> dict[str, Any]:
    """Read a TOML file.

    Parameters
    ----------
    path : Path
        The file.
    option : str
        The option that names it, for messages.

    Raises
    ------
    InvalidParameterError
        If it cannot be read.
    """
    import tomllib

    name = f"{option} '{one_line(path)}'"
    try:
        if path.stat().st_size > _LARGEST:
            raise InvalidParameterError(f"{name} is larger than {_LARGEST:,} bytes; shorten it.")
        with path.open("rb") as file:
            return tomllib.load(file)
    except InvalidParameterError:
        raise
    except OSError as error:
        raise InvalidParameterError(f"{name} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:  # numbers without end, or nesting
        raise InvalidParameterError(f"{name} is not TOML: {one_line(error)[:200]}.") from None


def read_options(path: Path, command: str) -> dict[str, Any]:
    """Read the options of one command.

    Parameters
    ----------
    path : Path
        A TOML file with a table of the command's name, or with the options at its top.
    command : str
        Such as ``"train"``.

    Raises
    ------
    InvalidParameterError
        If the file cannot be read, or an option is a table, a date or a list of lists.
    """
    content = read_toml(path, "--config")
    own = content.get(command)
    if not isinstance(own, dict):
        own = {key: value for key, value in content.items() if not isinstance(value, dict)}
    for key, value in own.items():
        words = value if isinstance(value, list) else [value]
        if not all(isinstance(word, str | int | float) for word in words):
            shown = one_line(str(value)[:80])
            raise InvalidParameterError(
                f"--config '{one_line(path)}': '{one_line(key)}' must be a word, a number, true, "
                f"false or a list of these, got {shown}; write {one_line(key)} = ... "
                f"under [{command}]."
            )
    return own


def to_toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Write tables of plain values; None and empty lists are left out.

    Examples
    --------
    >>> print(to_toml({"train": {"bound": 0.05, "sensitive": ["race"], "over": None}}), end="")
    [train]
    bound = 0.05
    sensitive = ["race"]
    """
    lines = []
    for table, values in tables.items():
        lines += ["", f"[{table}]"]
        lines += [f"{_key(k)} = {_value(v)}" for k, v in values.items() if v not in (None, (), [])]
    return "\n".join(lines[1:]) + "\n"


def _key(key: str) -> str:
    return key if key.replace("-", "").replace("_", "").isalnum() and key.isascii() else _text(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(_value(item) for item in value)}]"
    return _text(str(value))


def _text(text: str) -> str:
    import json

    # JSON's escapes are TOML's, but for DEL, which TOML wants escaped.
    clean = text.encode("utf-8", "replace").decode("utf-8")
    return json.dumps(clean, ensure_ascii=False).replace("\x7f", "\\u007f")


def parse_numbers(option: str, items: Sequence[str]) -> tuple[float, ...]:
    """Read ``"0,.1,1"``.

    Examples
    --------
    >>> parse_numbers("--etas", ["0,.1", "1"])
    (0.0, 0.1, 1.0)
    """
    numbers = []
    for word in flatten(items):
        try:
            numbers.append(float(word))
        except ValueError:
            raise InvalidParameterError(
                f"{option}: '{one_line(word)}' is not a number; write {option} 0,0.1,1."
            ) from None
    return tuple(numbers)
