"""The one protocol of all benchmarks: data, split, measures, table.

A method is a callable ``(train, validation, bound, seed) -> Fitted``. It may use both parts as it
likes, but never sees the test rows. ``Fitted.decide`` maps features to the probability of the
favourable decision, 0 or 1 where nothing is drawn; ``Fitted.seconds`` counts every fit it took.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from fairtrain.metrics import fairness_report

__all__ = [
    "DATASETS",
    "Dataset",
    "Fitted",
    "Measure",
    "Method",
    "MissingDataError",
    "Part",
    "Row",
    "Split",
    "data_folder",
    "load",
    "measure",
    "pick",
    "prepare",
    "run",
    "split",
    "table",
    "write_csv",
]

Floats = NDArray[np.float64]
ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


class MissingDataError(FileNotFoundError):
    """The folder of benchmark data, or a file of it, is not there."""


# Data -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dataset:
    """Rows to decide about.

    Attributes
    ----------
    name : str
        Which.
    X : DataFrame
        Features, without the sensitive columns.
    y : ndarray of shape (n,)
        1 for the favourable outcome.
    sensitive : DataFrame
        Sensitive columns, as strings.
    favourable : str
        What 1 means.
    unit : ndarray or None
        Whom a row belongs to, where someone has several: they are never on both sides of a split.
    """

    name: str
    X: pd.DataFrame
    y: NDArray[np.int64]
    sensitive: pd.DataFrame
    favourable: str
    unit: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: NDArray[Any]) -> Dataset:
        """Some of the rows."""
        return replace(
            self,
            X=self.X.iloc[rows].reset_index(drop=True),
            y=self.y[rows],
            sensitive=self.sensitive.iloc[rows].reset_index(drop=True),
            unit=None if self.unit is None else self.unit[rows],
        )

    def sample(self, n: int, seed: int = 0) -> Dataset:
        """At most n rows by chance; the name says so."""
        if n >= len(self):
            return self
        rows = np.sort(np.random.default_rng(seed).choice(len(self), n, replace=False))
        return replace(self.take(rows), name=f"{self.name} ({n:,} rows)")


@dataclass(frozen=True)
class _Source:
    """How a file becomes a data set: what is favourable, who is compared, what is left out."""

    file: str
    label: str
    favourable: Callable[[pd.Series], Any]
    meaning: str
    sensitive: tuple[str, ...]
    drop: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    rows: Callable[[pd.DataFrame], Any] | None = None  # which rows of the file
    compared: Callable[[pd.DataFrame], Any] | None = None  # those of groups large enough
    codes: tuple[str, ...] = ()  # numbers that are names
    unit: str | None = None


def _acs(state: str) -> _Source:
    return _Source(
        "acs_income_ca_ok.parquet",
        "PINCP_gt_50k",
        lambda v: v == 1,
        "income above 50,000",
        ("SEX", "RAC1P"),
        drop=("ST",),
        rows=lambda d: d["ST"] == state,
        # White, Black, Asian, other; the remaining codes are small.
        compared=lambda d: d["RAC1P"].isin([1, 2, 6, 8]),
    )


DATASETS: Mapping[str, _Source] = {
    "adult": _Source(
        "adult.csv.gz",
        "income",
        lambda v: v == ">50K",
        "income above 50,000",
        ("sex", "race"),
        drop=("split",),
    ),
    "compas": _Source(
        "compas.csv.gz",
        "two_year_recid",
        lambda v: v == 0,
        "no new offence within two years",
        ("race", "sex"),
        only=(
            "age",
            "c_charge_degree",
            "juv_fel_count",
            "juv_misd_count",
            "juv_other_count",
            "priors_count",
        ),
        compared=lambda d: d["race"].isin(["African-American", "Caucasian"]),
    ),
    "german_credit": _Source(
        "german_credit.csv.gz",
        "class",
        lambda v: v == 1,
        "good credit",
        ("sex", "foreign_worker"),
        drop=("personal_status_sex",),
    ),
    "law_school": _Source(
        "law_school.csv.gz", "pass_bar", lambda v: v == 1, "passed the bar", ("race", "male")
    ),
    "law_school_multirace": _Source(
        "law_school_multirace.csv.gz",
        "bar",
        lambda v: v.astype(str).str.upper() == "TRUE",
        "passed the bar",
        ("race1", "gender"),
        drop=("age",),
    ),
    "credit_default": _Source(
        "credit_default.csv.gz",
        "default.payment.next.month",
        lambda v: v == 0,
        "no default",
        ("SEX",),
        drop=("ID",),
        codes=("EDUCATION", "MARRIAGE"),
    ),
    "diabetes_130": _Source(
        "diabetes_130.csv.gz",
        "readmitted",
        lambda v: v != "<30",
        "not readmitted within 30 days",
        ("race", "gender"),
        drop=("encounter_id", "patient_nbr"),
        codes=("admission_type_id", "discharge_disposition_id", "admission_source_id"),
        unit="patient_nbr",
    ),
    "student_portuguese": _Source(
        "student_portuguese.csv.gz",
        "G3",
        lambda v: v >= 12,
        "a final grade of 12 or more",
        ("sex",),
        drop=("G1", "G2"),
    ),
    "hmda_boston": _Source(
        "hmda_boston.csv.gz", "deny", lambda v: v == "no", "not denied", ("afam", "single")
    ),
    "acs_income_ca": _acs("CA"),
    "acs_income_ok": _acs("OK"),
}


def data_folder() -> Path:
    """Folder of the data files: ``FAIRTRAIN_DATA``, or ``../shared/data`` beside the repository.

    Raises
    ------
    MissingDataError
        If it is not there.
    """
    folder = Path(os.environ.get("FAIRTRAIN_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        raise MissingDataError(
            f"benchmark data not found at {folder}; set FAIRTRAIN_DATA to the folder that holds it."
        )
    return folder


def load(name: str, *, all_rows: bool = False) -> Dataset:
    """Read a data set.

    Parameters
    ----------
    name : str
        One of ``DATASETS``.
    all_rows : bool, default=False
        Keep also the groups that a comparison leaves out because they are small.
    """
    source = DATASETS[name]
    path = data_folder() / source.file
    if not path.is_file():
        raise MissingDataError(f"benchmark data lacks {source.file} in {path.parent}.")
    if path.suffix == ".parquet":
        frame = pd.read_parquet(path)
    else:
        # pandas would turn the strings "None" and "N/A", which are values here, into NaN.
        frame = pd.read_csv(path, keep_default_na=False, low_memory=False)
    if source.rows is not None:
        frame = frame[source.rows(frame)].reset_index(drop=True)
    if source.compared is not None and not all_rows:
        frame = frame[source.compared(frame)].reset_index(drop=True)
    taken = {source.label, *source.sensitive, *source.drop}
    X = frame[list(source.only) or [c for c in frame.columns if c not in taken]].copy()
    for column in source.codes:
        X[column] = X[column].astype(str)
    return Dataset(
        name=name,
        X=X,
        y=np.asarray(source.favourable(frame[source.label])).astype(np.int64),
        sensitive=frame[list(source.sensitive)].astype(str),
        favourable=source.meaning,
        unit=None if source.unit is None else frame[source.unit].to_numpy(),
    )


# Split and features -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """Prepared rows."""

    X: Floats
    y: NDArray[np.int64]
    groups: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.y)

    def with_rows(self, other: Part) -> Part:
        """These rows and the other's."""
        return Part(
            np.vstack([self.X, other.X]),
            np.concatenate([self.y, other.y]),
            np.concatenate([self.groups, other.groups]),
        )


@dataclass(frozen=True, eq=False)
class Split:
    """Three parts; the features were prepared on training and validation rows together."""

    train: Part
    validation: Part
    test: Part


def prepare() -> ColumnTransformer:
    """Numeric columns standardised, all others one-hot with levels under 50 rows joined."""
    numeric = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    levels = OneHotEncoder(min_frequency=50, handle_unknown="infrequent_if_exist")
    return ColumnTransformer(
        [
            ("numeric", numeric, make_column_selector(dtype_include="number")),
            ("levels", levels, make_column_selector(dtype_exclude="number")),
        ],
        sparse_threshold=0,
    )


def split(
    data: Dataset, over: str, seed: int, *, validation: float = 0.25, rows: int | None = None
) -> Split:
    """Split 70/30 by seed, stratified by label and group; the 70 give the validation rows.

    Parameters
    ----------
    data : Dataset
        Rows.
    over : str
        Sensitive column that makes the groups.
    seed : int
        Which split.
    validation : float, default=0.25
        Share of the training part that becomes validation rows.
    rows : int, optional
        Most rows of training and validation together: what few rows teach is judged on many.
    """
    groups = data.sensitive[over].to_numpy(dtype=str)
    cells = np.char.add(groups, data.y.astype(str))
    rest, test = _halves(np.arange(len(data)), cells, data.unit, 0.3, seed)
    if rows is not None and rows < len(rest):
        _, rest = _halves(rest, cells, data.unit, rows / len(rest), seed)
    train, held = _halves(rest, cells, data.unit, validation, seed)
    features = prepare().fit(data.X.iloc[rest])

    def part(rows: NDArray[np.int64]) -> Part:
        X = np.ascontiguousarray(features.transform(data.X.iloc[rows]), dtype=np.float64)
        return Part(X, data.y[rows], groups[rows])

    return Split(part(train), part(held), part(test))


def _halves(
    rows: NDArray[np.int64],
    cells: NDArray[np.str_],
    unit: NDArray[Any] | None,
    share: float,
    seed: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Stratified; by units, each in the cell of its first row, where rows come in units."""
    if unit is None:
        members, first = rows, rows
    else:
        members, at = np.unique(unit[rows], return_index=True)
        first = rows[at]
    strata = cells[first]
    names, counts = np.unique(strata, return_counts=True)
    strata = np.where(np.isin(strata, names[counts < 2]), "rare", strata)
    if (strata == "rare").sum() == 1:
        strata[strata == "rare"] = names[counts.argmax()]
    a, b = train_test_split(members, test_size=share, stratify=strata, random_state=seed)
    if unit is not None:
        a, b = rows[np.isin(unit[rows], a)], rows[np.isin(unit[rows], b)]
    return np.sort(a), np.sort(b)


# Methods and measures ---------------------------------------------------------------------------

Decide = Callable[[Floats], NDArray[Any]]


@dataclass(frozen=True)
class Fitted:
    """A rule, the seconds of all fits that led to it, and how it decides."""

    decide: Decide
    seconds: float
    randomised: bool = False
    note: str = ""


Method = Callable[[Part, Part, float, int], Fitted]


@dataclass(frozen=True)
class Measure:
    """One rule on rows it never saw.

    Attributes
    ----------
    accuracy : float
        Expected share of right decisions.
    gap : float
        Largest difference between two groups.
    lower, upper : float
        Simultaneous 95 % limits of it.
    raw : bool
        ``gap <= bound``.
    not_broken : bool
        ``lower <= bound``: nothing proves the bound broken; with few rows nearly all pass.
    certified : bool
        ``upper <= bound``.
    near_constant : bool
        (Almost) everybody gets the same decision.
    smallest_group : int
        Fewest rows that a group brings to the comparison.
    """

    accuracy: float
    gap: float
    lower: float
    upper: float
    raw: bool
    not_broken: bool
    certified: bool
    near_constant: bool
    smallest_group: int


def measure(
    y: NDArray[Any],
    decision: NDArray[Any],
    groups: NDArray[Any],
    bound: float,
    constraint: str = "demographic_parity",
) -> Measure:
    """Measure decisions, given as 0/1 or as probabilities of the favourable one."""
    decision = np.clip(np.asarray(decision, dtype=np.float64), 0.0, 1.0)
    report = fairness_report(y, decision, groups, constraint, difference_bound=bound)
    found = report.results[0]
    return Measure(
        accuracy=report.accuracy[0],
        gap=found.pairwise,
        lower=found.lower,
        upper=found.upper,
        raw=found.pairwise <= bound,
        not_broken=found.lower <= bound,
        certified=found.upper <= bound,
        near_constant=report.near_constant,
        smallest_group=min(found.counts.values()),
    )


def pick(
    candidates: Iterable[Callable[[], Fitted]],
    validation: Part,
    bound: float,
    constraint: str = "demographic_parity",
) -> Fitted:
    """Fit every candidate and keep the most accurate one that holds the bound on validation rows.

    Where none does, the one of smallest gap. The seconds are those of all.
    """
    fitted = [candidate() for candidate in candidates]
    found = [
        measure(validation.y, f.decide(validation.X), validation.groups, bound, constraint)
        for f in fitted
    ]
    kept = [i for i, m in enumerate(found) if m.raw]
    if kept:
        best = max(kept, key=lambda i: found[i].accuracy)
    else:
        best = min(range(len(found)), key=lambda i: found[i].gap)
    return replace(fitted[best], seconds=sum(f.seconds for f in fitted))


def timed(fit: Callable[[], Any]) -> tuple[Any, float]:
    """Result and processor seconds: on one thread what a quiet machine would take."""
    start = time.process_time()
    result = fit()
    return result, time.process_time() - start


@dataclass(frozen=True)
class Row:
    """One method on one split."""

    data: str
    method: str
    seed: int
    bound: float
    constraint: str
    found: Measure
    randomised: bool
    seconds: float
    note: str = ""


def run(
    data: Dataset,
    over: str,
    methods: Mapping[str, Method],
    *,
    bound: float,
    constraint: str = "demographic_parity",
    seeds: Sequence[int] = (0, 1, 2),
    say: Callable[[str], None] | None = None,
) -> list[Row]:
    """Every method on the same splits of one data set."""
    rows = []
    for seed in seeds:
        parts = split(data, over, seed)
        for name, method in methods.items():
            fitted = method(parts.train, parts.validation, bound, seed)
            found = measure(
                parts.test.y, fitted.decide(parts.test.X), parts.test.groups, bound, constraint
            )
            label = f"{data.name}, {over}"
            rows.append(
                Row(
                    label,
                    name,
                    seed,
                    bound,
                    constraint,
                    found,
                    fitted.randomised,
                    fitted.seconds,
                    fitted.note,
                )
            )
            if say is not None:
                say(
                    f"{label}, seed {seed}, {name}: accuracy {found.accuracy:.3f}, "
                    f"gap {found.gap:.3f}, {fitted.seconds:.1f} s"
                )
    return rows


# Tables -----------------------------------------------------------------------------------------


def table(rows: Sequence[Row]) -> str:
    """Text table, one line a method: mean over seeds, worst gap, how often the bound was kept."""
    lines = [
        (
            "data",
            "method",
            "accuracy",
            "gap",
            "worst",
            "raw",
            "not broken",
            "certified",
            "rows/group",
            "CPU s",
            "decides",
        )
    ]
    last = ""
    for (data, method), some in _by_method(rows).items():
        found = [r.found for r in some]
        n = len(found)
        constant = sum(m.near_constant for m in found)
        lines.append(
            (
                data if data != last else "",
                method,
                f"{np.mean([m.accuracy for m in found]):.3f}",
                f"{np.mean([m.gap for m in found]):.3f}",
                f"{max(m.gap for m in found):.3f}",
                f"{sum(m.raw for m in found)}/{n}",
                f"{sum(m.not_broken for m in found)}/{n}",
                f"{sum(m.certified for m in found)}/{n}",
                f">={min(m.smallest_group for m in found)}",
                f"{np.median([r.seconds for r in some]):.1f}",
                ("by lot" if some[0].randomised else "fixed")
                + (f", near constant {constant}/{n}" if constant else ""),
            )
        )
        last = data
    return aligned(lines)


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Columns of equal width; the first line is the head."""
    widths = [max(len(line[j]) for line in lines) for j in range(len(lines[0]))]
    text = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines]
    text.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(line.rstrip() for line in text)


def resumed(
    kept: Path,
    keys: Sequence[str],
    cells: Sequence[tuple[Any, ...]],
    one: Callable[..., dict[str, Any]],
) -> pd.DataFrame:
    """What ``one`` finds in each cell; cells that the file has already are not run again."""
    done = set()
    if kept.exists():
        done = set(pd.read_csv(kept)[list(keys)].astype(str).itertuples(index=False, name=None))
    for cell in cells:
        if tuple(map(str, cell)) not in done:
            found = pd.DataFrame([dict(zip(keys, cell, strict=True)) | one(*cell)])
            found.to_csv(kept, mode="a", index=False, header=not kept.exists())
    return pd.read_csv(kept)


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """One line a row; seconds stay out because they belong to a machine."""
    records = [
        {
            "data": r.data,
            "method": r.method,
            "seed": r.seed,
            "constraint": r.constraint,
            "bound": r.bound,
            **asdict(r.found),
            "randomised": r.randomised,
            "note": r.note,
        }
        for r in rows
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(records).to_csv(path, index=False, float_format="%.4f", lineterminator="\n")


def _by_method(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row.data, row.method), []).append(row)
    return found
