"""The ``fairtrain`` command: reads options; ``fairtrain._commands`` does the work.

Whatever is heavy is imported inside a command, so that ``fairtrain --help`` answers at once.
Results go to standard output, progress and notes to standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import cyclopts
from cyclopts import App, Parameter

from fairtrain import __version__
from fairtrain._commands.options import (
    FLAG,
    LIST,
    AuditOptions,
    CalibrationOptions,
    Names,
    Show,
    SweepOptions,
    TrainingOptions,
)
from fairtrain.exceptions import FairtrainError

__all__ = ["app", "main"]

_CODES = (
    "Exit codes: 0 done; 2 bad input, explained in one line; 3 with --require-met, where the "
    "verdict is another one; 130 after Ctrl-C, with one line that says what is left."
)

app = App(
    name="fairtrain",
    help="Audit decisions for fairness, and train fair models, from tables in files.",
    help_epilogue=_CODES,
    version=__version__,
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
    result_action="return_value",
)


@app.command
def audit(data: Path, *, options: AuditOptions) -> int:
    """How labels, and decisions if given, differ between groups.

    Parameters
    ----------
    data
        CSV, Parquet, Feather or Excel file, or folder of Parquet parts, with one person a row.
    """
    from fairtrain._commands.audit import audit as run

    return run(data, options)


@app.command
def train(data: Path, *, options: TrainingOptions) -> int:
    """Train a fair model, judge it beside an ordinary one, write a run folder.

    Parameters
    ----------
    data
        CSV, Parquet, Feather or Excel file, or folder of Parquet parts, with one person a row.
    """
    from fairtrain._commands.train import train as run

    return run(data, options)


@app.command
def sweep(data: Path, *, options: SweepOptions) -> int:
    """Draw the trade-off, choose a point on validation rows, judge it on untouched ones.

    Ctrl-C keeps the models that are finished in a hidden folder beside --out; the same command
    goes on from there.

    Parameters
    ----------
    data
        CSV, Parquet, Feather or Excel file, or folder of Parquet parts, with one person a row.
    """
    from fairtrain._commands.sweep import sweep as run

    return run(data, options)


@app.command
def calibrate(data: Path, *, options: CalibrationOptions) -> int:
    """Make scores mean the same in every group, and audit them on untouched rows.

    Parameters
    ----------
    data
        CSV or Parquet file with one person a row, none of whom trained the scoring model.
    """
    from fairtrain._commands.calibrate import calibrate as run

    return run(data, options)


@app.command
def predict(
    model: Path,
    data: Path,
    *,
    out: Path | None = None,
    keep: Annotated[Names, LIST] = (),
    chunk_rows: int = 100_000,
    multiline: Annotated[bool, FLAG] = False,
    force: Annotated[bool, FLAG] = False,
) -> None:
    """Decide for every row of a table, or calibrate its scores; it may be larger than memory.

    Writes the decision, in the label's words, and the probability of a favourable one; or, for a
    run of calibrate, the calibrated score. The table needs the columns that the model reads only.

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
    multiline
        Fields in quotes of a text file may hold line breaks.
    force
        Replace the file if it exists.
    """
    from fairtrain._commands.predict import predict as run
    from fairtrain._text import flatten

    run(
        model,
        data,
        out=out,
        keep=flatten(keep),
        force=force,
        chunk_rows=chunk_rows,
        multiline=multiline,
    )


@app.command
def report(
    run: Path,
    *,
    data: Path | None = None,
    rationale: str | None = None,
    intended_use: str | None = None,
    signed: str | None = None,
    out: Path | None = None,
    force: Annotated[bool, FLAG] = False,
    show: Show = Show(),  # noqa: B008
) -> int:
    """Make the page of a run again, or judge its model on fresh rows.

    Parameters
    ----------
    run
        Run folder of train, sweep or demo.
    data
        CSV or Parquet file with fresh rows, outcome included.
    rationale
        Why this constraint and bound, for whoever reads the report: a text, or @FILE.
    intended_use
        What the model is for, and what it is not for: a text, or @FILE. It stays in the run.
    signed
        Who signed, as what and when, a line each: a text, or @FILE. It stays in the run.
    out
        HTML file; by default report.html in the run folder, or fresh.html with --data.
    force
        Replace the file if it exists.
    """
    from fairtrain._commands.report import report as work

    words = {"rationale": rationale, "intended_use": intended_use, "signed": signed}
    return work(run, data=data, words=words, out=out, force=force, show=show)


@app.command
def compare(
    *runs: Path,
    out: Path | None = None,
    force: Annotated[bool, FLAG] = False,
    json: Annotated[bool, FLAG] = False,
) -> int:
    """Put runs side by side, and say whether they may be compared.

    Parameters
    ----------
    runs
        Run folders of train, sweep or demo.
    out
        HTML or CSV file to write.
    force
        Replace the file if it exists.
    json
        Print the numbers as JSON, and nothing else, on standard output.
    """
    from fairtrain._commands.compare import compare as work

    return work(runs, out=out, force=force, json=json)


@app.command
def demo(*, out: Path = Path("runs/demo"), seed: int = 0) -> int:
    """Train every method on real mortgage decisions; show them in one table, and write a report.

    Parameters
    ----------
    out
        Run folder; an earlier run there is replaced.
    seed
        Same seed, same result.
    """
    from fairtrain._commands.demo import demo as run

    return run(out, seed=seed)


app.meta.suppress_keyboard_interrupt = False


@app.meta.default
def _launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    config: Path | None = None,
) -> int | None:
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
        code: int | None = app(tokens, exit_on_error=False, print_error=False)
    finally:
        app.config = ()
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Returns
    -------
    int
        0; 2 after bad input, explained in one line on standard error; 3 with ``--require-met``
        where the verdict is not ``met``; 130 after Ctrl-C.
    """
    tokens = list(sys.argv[1:] if argv is None else argv)
    try:
        code = app.meta(tokens, exit_on_error=False, print_error=False)
    except KeyboardInterrupt as stopped:
        return _stop(str(stopped) or "stopped; nothing was left behind.", 130)
    except BrokenPipeError:  # whoever read the output has enough
        sys.stdout = sys.stderr
        return 0
    except (FairtrainError, OSError, cyclopts.CycloptsError) as error:
        return _stop(_missing(error) or str(error), 2)
    return code if isinstance(code, int) else 0


def _missing(error: Exception) -> str:
    """Name the required options of a group of which none was given."""
    group = getattr(error, "argument", None)
    names = [option.name for option in getattr(group, "children", ()) if option.required]
    return f"{' and '.join(names)} must be given." if names else ""


def _stop(message: str, code: int) -> int:
    from fairtrain._text import one_line

    sys.stderr.write(f"fairtrain: {one_line(message)}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
