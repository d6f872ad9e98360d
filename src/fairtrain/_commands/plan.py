"""What every column of a table is used as, looked at before anything is trained."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from fairtrain._commands.columns import as_words
from fairtrain._commands.options import Features, read_toml
from fairtrain._commands.tables import require_columns
from fairtrain._text import flatten, listed, one_line
from fairtrain.exceptions import InvalidDataError, InvalidParameterError

__all__ = ["ColumnPlan", "ColumnUse", "Use", "as_dates", "plan_columns"]

Use = Literal["number", "category", "date", "drop"]

# Formats that read a date in one way only: 05/01/2024 is in May or in January.
_FORMATS = ("%d.%m.%Y", "%Y/%m/%d", "%Y%m%d", "%d %b %Y", "%d-%b-%Y")
_OWN_VALUE = 0.95
_IDENTIFIER = re.compile(r"(^|[_\s-])(id|uid|uuid|key|nr|no|number)$", re.IGNORECASE)
_CODE = re.compile(r"zip|post(al)?_?code|plz", re.IGNORECASE)
_TELLS_ALL = 0.995
_FEW = 20
_LONGEST_DATE = 60


@dataclass(frozen=True)
class ColumnUse:
    """What one column is used as.

    Attributes
    ----------
    name : str
        The column.
    use : {"number", "category", "date", "drop"}
        A date becomes its year, month, day of the week and days since the first.
    why : str
        Why it is dropped.
    doubt : str
        What looks wrong with it, and what would change that.
    words : bool
        Whether it is said to be a number but holds words too, which count as missing.
    """

    name: str
    use: Use
    why: str = ""
    doubt: str = ""
    words: bool = False


@dataclass(frozen=True)
class ColumnPlan:
    """What all feature columns are used as."""

    columns: tuple[ColumnUse, ...]

    def of(self, use: Use) -> tuple[str, ...]:
        """Columns of one use."""
        return tuple(column.name for column in self.columns if column.use == use)

    @property
    def lenient(self) -> tuple[str, ...]:
        """Numbers with words among them."""
        return tuple(column.name for column in self.columns if column.words)

    def sentences(self) -> list[str]:
        """Say it: how many of each, what is dropped and why, and what looks wrong."""
        uses = [(use, self.of(use)) for use in ("number", "category", "date")]
        said = [f"as {use}: {listed(names, most=12)}" for use, names in uses if names]
        lines = [f"Columns used {'; '.join(said)}."] if said else []
        lines += [f"Column '{c.name}' is left out: {c.why}." for c in self.columns if c.why]
        return lines + [f"Column '{c.name}' {c.doubt}." for c in self.columns if c.doubt]


def plan_columns(
    frame: pd.DataFrame, y: NDArray[Any], options: Features, *, without: Sequence[str]
) -> ColumnPlan:
    """Look at the columns that nobody took out.

    Parameters
    ----------
    frame : DataFrame of n rows
        The rows that train: what is found in others would be learnt from them.
    y : ndarray of shape (n,)
        1 for the favourable outcome.
    options : Features
        What the person says about columns.
    without : sequence of str
        Columns that are no features.

    Raises
    ------
    InvalidDataError
        If a named column is absent, or none is left.
    InvalidParameterError
        If ``options.columns`` cannot be read.
    """
    known = tuple(frame.columns)
    dropped, codes = flatten(options.drop, known), flatten(options.categorical, known)
    said: dict[str, Use] = {} if options.columns is None else _read_uses(options.columns)
    require_columns(frame, (*dropped, *codes, *said), what="column")
    uses: dict[str, Use] = {**dict.fromkeys(codes, "category"), **said}
    out = {*without, *dropped}
    found = tuple(
        _as_said(frame[name], uses[name]) if name in uses else _look(frame[name], y)
        for name in known
        if name not in out
    )
    plan = ColumnPlan(found)
    if all(column.use == "drop" for column in found) and not options.use_sensitive:
        raise InvalidDataError(" ".join(["no feature column is left.", *plan.sentences()]))
    return plan


def _as_said(column: pd.Series, use: Use) -> ColumnUse:
    words = use == "number" and not _is_number(column)
    return ColumnUse(str(column.name), use, words=words)


def _read_uses(path: Path) -> dict[str, Use]:
    uses: dict[str, Use] = {}
    for name, use in read_toml(path, "--columns").items():
        if isinstance(use, dict):
            raise InvalidParameterError(
                f"--columns '{one_line(path)}': leave the heading [{one_line(name)}] out; its "
                'lines, such as postcode = "category", stand by themselves.'
            )
        if use not in get_args(Use):
            raise InvalidParameterError(
                f"--columns '{one_line(path)}': '{one_line(name)}' must be "
                f"{listed(get_args(Use))}, got {one_line(repr(use))}; write "
                f'{one_line(name)} = "category".'
            )
        uses[name] = use
    return uses


def _look(column: pd.Series, y: NDArray[Any]) -> ColumnUse:
    """Decide by what a column holds."""
    name, held = one_line(column.name), column.dropna()
    different = held.nunique()
    if different <= 1 and (different == 0 or len(held) == len(column)):
        why = "it holds no value" if different == 0 else "it is the same in every row"
        return ColumnUse(name, "drop", why)
    use = _kind(held)
    if use != "date" and _tells_all(column, y, use):
        why = (
            "it tells the outcome by itself, as what is known only after the decision does; "
            f"say {_told(name, use)} if it is known before"
        )
        return ColumnUse(name, "drop", why)
    if _is_identifier(held, different, use):
        return ColumnUse(
            name, "drop", f"it numbers or names the rows; say {_told(name, use)} to use it"
        )
    return ColumnUse(name, use, doubt=next(_doubts(held, name, use, different), ""))


def _told(name: str, use: str) -> str:
    return f'{name} = "{use}" in a file for --columns'


def _is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column)


def _kind(held: pd.Series) -> Use:
    if _is_number(held):
        return "number"
    return "date" if as_dates(held) is not None else "category"


def as_dates(column: pd.Series) -> pd.Series | None:
    """Read a column of dates, in one of the forms that have one meaning; None if it is none.

    Missing stays missing.
    """
    if pd.api.types.is_datetime64_any_dtype(column):
        return _naive(column)
    held = column.dropna()
    if held.empty or _is_number(held):
        return None
    if held.map(lambda value: hasattr(value, "toordinal")).all():
        return _naive(pd.to_datetime(column, utc=True))
    if not held.map(lambda value: isinstance(value, str)).all():
        return None
    for form in _FORMATS:
        if _read(held.iloc[:1], form).notna().all():  # most columns are refused by one value
            dates = _read(column, form)
            if dates[held.index].notna().all():
                return dates
    return None


def _read(column: pd.Series, form: str) -> pd.Series:
    return pd.to_datetime(column, format=form, errors="coerce")


def _naive(dates: pd.Series) -> pd.Series:
    aware = isinstance(dates.dtype, pd.DatetimeTZDtype)
    return dates.dt.tz_convert("UTC").dt.tz_localize(None) if aware else dates


def _is_identifier(held: pd.Series, different: int, use: Use) -> bool:
    """Whether nearly every row has a value of its own that is no quantity."""
    if different < _OWN_VALUE * len(held) or len(held) < _FEW:
        return False
    if use == "category":
        return True
    if use != "number" or not pd.api.types.is_integer_dtype(held):
        return False
    through = int(held.max()) - int(held.min()) < 1.05 * len(held) / _OWN_VALUE
    return bool(_IDENTIFIER.search(str(held.name))) or (through and different == len(held))


def _tells_all(column: pd.Series, y: NDArray[Any], use: Use) -> bool:
    """Whether the column alone tells nearly all outcomes apart."""
    if use == "number":
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        there = np.isfinite(values)
        if there.mean() < 0.5 or np.ptp(y[there]) == 0:
            return False
        auc = roc_auc_score(y[there], values[there])
        return bool(max(auc, 1 - auc) > _TELLS_ALL)
    words = as_words(column).fillna("").to_numpy()
    positive = pd.Series(y).groupby(words).agg(["sum", "size"])
    if len(positive) > max(_FEW, len(y) // 50):
        return False  # a level of a few rows tells their outcome by chance
    wrong = np.minimum(positive["sum"], positive["size"] - positive["sum"]).sum()
    least = min(y.sum(), len(y) - y.sum())
    return bool(wrong < (1 - _TELLS_ALL) * len(y) and wrong < 0.05 * least)


def _doubts(held: pd.Series, name: str, use: Use, different: int) -> Iterator[str]:
    if use == "number" and _CODE.search(name) and different > 2:
        yield f"is used as a number but looks like a code; add --categorical {name}"
    if use != "category":
        return
    words = pd.Series([str(value) for value in held.unique()])
    numbers = pd.to_numeric(words, errors="coerce").notna().to_numpy()
    if numbers.any() and not numbers.all() and numbers.mean() > 0.5:
        yield (
            f"holds numbers beside {listed(words[~numbers], most=3)} and is used as category; say "
            f"{_told(name, 'number')} to take what is no number as missing"
        )
    alike = words.groupby(words.str.casefold().str.strip()).agg(list)
    several = [spelt for spelt in alike if len(spelt) > 1]
    if several:
        yield f"spells one value in several ways, such as {listed(several[0])}, which differ here"
    if different <= _FEW:
        return
    # Dates are looked for in time that grows with the square of a word.
    some = words[:200].where(words[:200].str.len() <= _LONGEST_DATE)
    if pd.to_datetime(some, errors="coerce", format="mixed").notna().mean() > 0.9:
        yield (
            "looks like dates in a form with several meanings and is used as category; write them "
            "as 2024-12-31"
        )
