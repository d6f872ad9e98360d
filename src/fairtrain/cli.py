"""The ``fairtrain`` command: reads options; ``fairtrain._commands`` does the work.

Whatever is heavy is imported inside a command, so that ``fairtrain --help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import cyclopts
from cyclopts import App, Parameter

from fairtrain import __version__
from fairtrain.exceptions import FairtrainError, StoppedError

__all__ = ["app", "main"]

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
Method = Literal["reductions", "boosting", "lagrangian", "regularized", "adversarial"]

# Every list is written with commas, or the option is repeated.
_LIST = Parameter(negative="", consume_multiple=False)
_FLAG = Parameter(negative="")

app = App(
    name="fairtrain",
    help=(
        "Audit decisions for fairness, and train fair models, from CSV or Parquet files. "
        "Exit codes: 0 done, 2 bad input (one line says what and how to mend it), 130 stopped."
    ),
    version=__version__,
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
    result_action="return_value",
)


@app.command
def audit(
    data: Path,
    *,
    label: str,
    sensitive: Annotated[Names, _LIST],
    positive: str | None = None,
    positive_name: str | None = None,
    score: str | None = None,
    prediction: str | None = None,
    threshold: float = 0.5,
    constraint: Annotated[tuple[Notion, ...], _LIST] = ("demographic_parity", "equalized_odds"),
    bound: float = 0.05,
    ratio: float | None = None,
    rows: Literal["certification", "training"] = "certification",
    missing: Missing = "error",
    bin: Annotated[Names, _LIST] = (),  # noqa: A002
) -> None:
    """How labels, and decisions if given, differ between groups.

    Parameters
    ----------
    data
        CSV or Parquet file with one person a row.
    label
        Column of the outcome: two values.
    sensitive
        Columns that make the groups, such as race,sex.
    positive
        The favourable value of the label; may be left out for 0/1.
    positive_name
        What to call it, such as approved.
    score
        Column with the probability of the favourable label.
    prediction
        Column with decisions, in the label's words.
    threshold
        With --score: decided favourably from here on.
    constraint
        Notions to judge by.
    bound
        Largest difference between any two groups.
    ratio
        Instead of --bound: smallest ratio of two groups' rates (the 80 % rule is 0.8).
    rows
        Whether the rows took no part in making the model (certification) or did (training).
    missing
        Missing sensitive values: an error, or a group of their own.
    bin
        Cut a number into groups: age=25,45,65.
    """
    from fairtrain._commands.audit import Audit
    from fairtrain._commands.audit import audit as run

    run(
        Audit(
            data=data,
            label=label,
            positive=positive,
            sensitive=_sensitive(sensitive, bin, missing),
            score=score,
            prediction=prediction,
            threshold=threshold,
            constraints=constraint,
            bound=bound,
            ratio=ratio,
            rows=rows,
            outcome=positive_name,
        )
    )


@app.command
def train(
    data: Path,
    *,
    label: str,
    sensitive: Annotated[Names, _LIST],
    out: Path,
    positive: str | None = None,
    positive_name: str | None = None,
    method: Method = "reductions",
    estimator: Estimator | None = None,
    eta: float | None = None,
    strength: float | None = None,
    epochs: int | None = None,
    constraint: Notion = "demographic_parity",
    bound: float | None = None,
    ratio: float | None = None,
    over: Annotated[Names, _LIST] = (),
    use_sensitive: Annotated[bool, _FLAG] = False,
    missing: Missing = "error",
    bin: Annotated[Names, _LIST] = (),  # noqa: A002
    categorical: Annotated[Names, _LIST] = (),
    drop: Annotated[Names, _LIST] = (),
    validation: float = 0.2,
    certification: float = 0.3,
    seed: int = 0,
    rationale: str = "",
    force: Annotated[bool, _FLAG] = False,
) -> None:
    """Train a fair model, judge it beside an unconstrained one, write a run folder.

    Parameters
    ----------
    data
        CSV or Parquet file with one person a row.
    label
        Column of the outcome: two values.
    sensitive
        Columns that make the groups, such as race,sex; no features, unless --use-sensitive.
    out
        Folder for model/, metrics.json, config.toml and report.html.
    positive
        The favourable value of the label; may be left out for 0/1.
    positive_name
        What to call it in the report, such as approved.
    method
        How to train: reductions (any estimator, dozens of refits), boosting (one run of XGBoost or
        LightGBM), or a network: lagrangian (a bound), regularized (a penalty), adversarial.
    estimator
        With reductions (logistic by default) or boosting (xgboost).
    eta
        With regularized: strength of the penalty; 1 by default.
    strength
        With adversarial: strength of the adversary; 5 by default.
    epochs
        With a network: passes over the training rows.
    constraint
        What to ask for.
    bound
        Largest difference between any two groups; 0.05 unless --ratio is given.
    ratio
        Smallest ratio of two groups' rates (the 80 % rule is 0.8).
    over
        Sensitive columns that the constraint speaks about; all together by default.
    use_sensitive
        Let the model see the sensitive columns, which predict then needs.
    missing
        Missing sensitive values: an error, or a group of their own.
    bin
        Cut a number into groups: age=25,45,65.
    categorical
        Numeric columns that are codes without a scale.
    drop
        Columns to leave out, such as identifiers and what is known only after the decision.
    validation
        Share of the rows that steer.
    certification
        Share of the rows that only judge.
    seed
        Same seed, same result.
    rationale
        Why this constraint was chosen, or @FILE: for report and model card.
    force
        Replace the run folder if it exists.
    """
    from fairtrain._commands.run import TrainOptions, run_train
    from fairtrain._text import flatten

    options = TrainOptions(
        data=data,
        label=label,
        sensitive=sensitive,
        out=out,
        positive=positive,
        positive_name=positive_name,
        method=method,
        estimator=estimator,
        eta=eta,
        strength=strength,
        epochs=epochs,
        constraint=constraint,
        bound=bound,
        ratio=ratio,
        over=flatten(over),
        use_sensitive=use_sensitive,
        missing=missing,
        bin=bin,
        categorical=categorical,
        drop=drop,
        validation=validation,
        certification=certification,
        seed=seed,
        rationale=_reason(rationale),
        force=force,
    )
    run_train(options, _sensitive(sensitive, bin, missing))


@app.command
def sweep(
    data: Path,
    *,
    label: str,
    sensitive: Annotated[Names, _LIST],
    out: Path,
    max_gap: float = 0.05,
    values: Annotated[Names, _LIST] = (),
    seeds: int = 1,
    positive: str | None = None,
    positive_name: str | None = None,
    method: Method = "reductions",
    estimator: Estimator | None = None,
    epochs: int | None = None,
    constraint: Notion = "demographic_parity",
    over: Annotated[Names, _LIST] = (),
    use_sensitive: Annotated[bool, _FLAG] = False,
    missing: Missing = "error",
    bin: Annotated[Names, _LIST] = (),  # noqa: A002
    categorical: Annotated[Names, _LIST] = (),
    drop: Annotated[Names, _LIST] = (),
    validation: float = 0.2,
    certification: float = 0.3,
    seed: int = 0,
    rationale: str = "",
    force: Annotated[bool, _FLAG] = False,
) -> None:
    """Train over a range of bounds or strengths, choose, judge the choice on untouched rows.

    Stopped with Ctrl-C it keeps the finished models beside --out; the same command goes on.

    Parameters
    ----------
    data, label, sensitive, positive, positive_name, method, estimator, epochs, constraint, over
        As in train.
    out
        Folder for frontier.png, frontier.csv, frontier.json and what train writes.
    max_gap
        Largest gap, on the validation rows, of the model that is chosen: the most accurate one.
    values
        Where the bound goes (--method regularized: eta, adversarial: strength), such as .01,.05,.1.
    seeds
        Models for each value.
    use_sensitive, missing, bin, categorical, drop, certification, seed, rationale, force
        As in train.
    validation
        Share of the rows that score the models and choose one.
    """
    from fairtrain._commands.run import TrainOptions, run_sweep
    from fairtrain._text import flatten

    options = TrainOptions(
        data=data,
        label=label,
        sensitive=sensitive,
        out=out,
        positive=positive,
        positive_name=positive_name,
        method=method,
        estimator=estimator,
        epochs=epochs,
        constraint=constraint,
        over=flatten(over),
        use_sensitive=use_sensitive,
        missing=missing,
        bin=bin,
        categorical=categorical,
        drop=drop,
        validation=validation,
        certification=certification,
        seed=seed,
        rationale=_reason(rationale),
        force=force,
    )
    run_sweep(
        options,
        _sensitive(sensitive, bin, missing),
        values=_numbers(values),
        max_gap=max_gap,
        seeds=seeds,
    )


@app.command
def report(run: Path, *, rationale: str | None = None) -> None:
    """Write report and model card of a run again, with another reason if one is given.

    Parameters
    ----------
    run
        Run folder.
    rationale
        Why this constraint was chosen, or @FILE.
    """
    from fairtrain._commands.pages import report as again

    again(run, rationale=None if rationale is None else _reason(rationale))


@app.command
def compare(runs: Annotated[list[Path], Parameter(consume_multiple=True)]) -> None:
    """Print runs side by side, and say where they cannot be compared.

    Parameters
    ----------
    runs
        Run folders.
    """
    from fairtrain._commands.compare import compare as run

    run(runs)


@app.command
def predict(
    model: Path,
    data: Path,
    *,
    out: Path | None = None,
    keep: Annotated[Names, _LIST] = (),
    chunk_rows: int = 100_000,
    force: Annotated[bool, _FLAG] = False,
) -> None:
    """Decide for every row of a table, which may be larger than memory.

    Writes the decision, in the label's words, and the probability of a favourable one. The table
    needs the feature columns only. Loading a model file runs code in it: load only your own.

    Parameters
    ----------
    model
        Run folder, or its model folder.
    data
        CSV or Parquet file.
    out
        CSV or Parquet file to write; standard output by default.
    keep
        Columns of DATA to write beside the decisions, such as an identifier.
    chunk_rows
        Rows in memory at a time; decisions do not depend on it.
    force
        Replace the file if it exists.
    """
    from fairtrain._commands.predict import predict as run
    from fairtrain._text import flatten

    run(model, data, out=out, keep=flatten(keep), force=force, chunk_rows=chunk_rows)


@app.command
def demo(
    *, out: Path = Path("runs/demo"), estimator: Estimator = "logistic", seed: int = 0
) -> None:
    """Train fair models by every method on real mortgage decisions, and write the report.

    Parameters
    ----------
    out
        Run folder; an earlier run there is replaced.
    estimator
        What the reduction trains under the constraint.
    seed
        Same seed, same result.
    """
    from fairtrain._commands.run import run_demo

    run_demo(out, estimator=estimator, seed=seed)


def _sensitive(columns: Names, bins: Names, missing: Missing):  # type: ignore[no-untyped-def]
    from fairtrain._commands.columns import SensitiveColumns, parse_bins
    from fairtrain._text import flatten

    return SensitiveColumns(flatten(columns), parse_bins(bins), missing)


def _reason(text: str) -> str:
    from fairtrain._commands.pages import read_reason

    return read_reason(text)


def _numbers(items: Names) -> tuple[float, ...]:
    from fairtrain._text import flatten
    from fairtrain.exceptions import InvalidParameterError

    try:
        return tuple(float(item) for item in flatten(items))
    except ValueError:
        raise InvalidParameterError(f"--values must be numbers, got {', '.join(items)}.") from None


app.meta.suppress_keyboard_interrupt = False


@app.meta.default
def _launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    config: Path | None = None,
) -> None:
    """Run a command.

    Parameters
    ----------
    config
        TOML file with options of the command; those typed here win.
    """
    if config is not None:
        from fairtrain._commands.options import read_options

        command = next((token for token in tokens if not token.startswith("-")), "")
        options = read_options(config, command)
        app.config = (
            cyclopts.config.Dict(options, source=str(config), use_commands_as_keys=False),
        )
    try:
        app(tokens, exit_on_error=False, print_error=False)
    finally:
        app.config = ()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Returns
    -------
    int
        0; 2 after bad input, explained in one line on standard error; 130 after Ctrl-C; 141 where
        the reader of standard output went away.
    """
    tokens = list(sys.argv[1:] if argv is None else argv)
    try:
        app.meta(tokens, exit_on_error=False, print_error=False)
    except KeyboardInterrupt:
        return _stop("stopped; nothing was left behind.", 130)
    except BrokenPipeError:  # whoever read standard output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except StoppedError as error:
        return _stop(str(error), 130)
    except (FairtrainError, OSError) as error:
        return _stop(str(error), 2)
    except cyclopts.CycloptsError as error:
        return _stop(str(error), 2)
    return 0


def _stop(message: str, code: int) -> int:
    from fairtrain._text import one_line

    sys.stderr.write(f"fairtrain: {one_line(message)}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
