"""Groups compared within strata: how it is written, and the cells it makes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fairtrain.constraints import (
    AtMost,
    BoundedGroupLoss,
    DemographicParity,
    EqualizedOdds,
    RateParity,
    strata_of,
)
from fairtrain.constraints.families import families_of
from fairtrain.constraints.table import RateTable
from fairtrain.data.groups import Groups
from fairtrain.data.rows import Rows
from fairtrain.exceptions import InvalidDataError, InvalidParameterError, UnseenGroupError


@pytest.fixture
def people() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "sex": rng.choice(["f", "m", "x"], 400, p=[0.5, 0.3, 0.2]),
            "band": rng.choice(["low", "high"], 400),
            "age": rng.integers(18, 80, 400),
        }
    )


def test_every_way_to_write_it_is_kept_in_one_hashable_form() -> None:
    one = DemographicParity(given="band")
    assert one.given == (("band", ()),)
    assert one == DemographicParity(given=["band"]) == DemographicParity(given={"band": None})
    edges = EqualizedOdds(given={"age": [30, 45], "band": []}, over="sex")
    assert edges.given == (("age", (30.0, 45.0)), ("band", ()))
    assert edges == EqualizedOdds(given=edges.given, over="sex")
    assert hash(edges) == hash(EqualizedOdds(given=edges.given, over="sex"))
    assert edges.name == "equalized_odds over sex given age x band"
    assert DemographicParity(given="band", pooled=True).name.endswith("given band, pooled")
    assert edges.with_bounds(0.1).given == edges.given
    assert AtMost("recall", 0.3, overall=True, given="band").name.endswith("overall given band")
    assert RateParity(label="mine", given="band").name == "mine given band"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"given": 3}, "given must name columns"),
        ({"given": ()}, "given is empty"),
        ({"given": {"age": [45, 30]}}, "must rise"),
        ({"given": {"age": [float("nan")]}}, "given must name columns"),
        ({"given": {"age": "30"}}, "given must name columns"),
        ({"given": ["band", "band"]}, "twice"),
        ({"given": "band", "over": "band"}, "in over and in given"),
        ({"pooled": True}, "say which with given="),
        ({"given": "band", "pooled": "yes"}, "pooled must be True or False"),
    ],
)
def test_what_cannot_be_meant_is_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidParameterError, match=said):
        DemographicParity(**settings)  # type: ignore[arg-type]


def test_numbers_are_cut_where_it_says_and_edges_belong_above(people: pd.DataFrame) -> None:
    given = strata_of([DemographicParity(given={"age": [30, 45]})])
    groups = Groups.from_sensitive(people[["sex", "age"]], given=given)
    age = people["age"].to_numpy()
    expected = np.select([age < 30, age < 45], ["below 30", "30 to 45"], "45 and above")
    assert (groups.scheme.decode(groups.codes)["age"] == expected).all()
    assert groups.scheme.levels[1] == ("below 30", "30 to 45", "45 and above")
    later = groups.scheme.encode({"sex": ["f", "m"], "age": [30, 29.9]})
    assert [groups.names[code] for code in later] == ["f/30 to 45", "m/below 30"]


def test_a_missing_stratum_follows_the_policy_of_groups(people: pd.DataFrame) -> None:
    columns = people[["sex", "age"]].astype({"age": float})
    columns.loc[3, "age"] = np.nan
    given = (("age", (30.0,)),)
    with pytest.raises(InvalidDataError, match="1 missing values"):
        Groups.from_sensitive(columns, given=given)
    groups = Groups.from_sensitive(columns, given=given, missing="group")
    assert groups.names[groups.codes[3]].endswith("/(missing)")


def test_many_numbers_without_edges_are_refused_with_the_fix(people: pd.DataFrame) -> None:
    with pytest.raises(InvalidDataError, match=r"say where to cut them, as given=\{'age': \[\d+"):
        Groups.from_sensitive(people, given=(("age", ()),))
    with pytest.raises(InvalidDataError, match="must hold numbers"):
        Groups.from_sensitive(people, given=(("band", (1.0,)),))
    with pytest.raises(InvalidParameterError, match="cut it alike"):
        strata_of([DemographicParity(given={"age": [30]}), EqualizedOdds(given={"age": [40]})])


def test_strata_are_no_part_of_the_groups_that_are_compared(people: pd.DataFrame) -> None:
    constraint = DemographicParity(given="band")
    groups = Groups.from_sensitive(people[["band", "sex"]], given=strata_of([constraint]))
    for asked in (constraint, EqualizedOdds()):
        assert asked.partition(groups.scheme)[0].names == ("f", "m", "x")
    families = families_of([constraint], groups.scheme)
    assert [f.stratum for f in families] == ["high", "low"]
    assert [f.cell_names for f in families] == [
        ("high/f", "high/m", "high/x"),
        ("low/f", "low/m", "low/x"),
    ]
    assert families[0].name == "demographic_parity given band: high"
    alone = Groups.from_sensitive(people["band"], given=strata_of([constraint]))
    with pytest.raises(InvalidDataError, match="no groups to compare"):
        families_of([constraint], alone.scheme)


def test_a_column_is_looked_for_in_sensitive_features_then_in_the_table(
    people: pd.DataFrame,
) -> None:
    y = np.arange(400) % 2
    given = strata_of([DemographicParity(given="band")])
    aside = Rows.read(people[["age", "band"]], y, people["sex"], given=given)
    assert aside.groups.columns == ("sex", "band")
    assert list(aside.X.columns) == ["age", "band"]  # it stays a feature
    both = Rows.read(people[["age"]], y, people[["sex", "band"]], given=given)
    assert (both.groups.codes == aside.groups.codes).all()
    unnamed = Rows.read(people[["age", "band"]], y, people["sex"].tolist(), given=given)
    assert unnamed.groups.columns == ("group", "band")
    later = Rows.read(people[["age", "band"]], y, people["sex"], scheme=unnamed.groups.scheme)
    assert (later.groups.codes == aside.groups.codes).all()
    with pytest.raises(InvalidDataError, match=r"no sensitive column .* nor one of X"):
        Rows.read(people[["age"]], y, people["sex"], given=given)
    with pytest.raises(UnseenGroupError, match="'band' has the value"):
        Rows.read(
            people[["age"]].assign(band="middle"), y, people["sex"], scheme=aside.groups.scheme
        )


def test_a_group_that_a_stratum_lacks_keeps_its_cell() -> None:
    who = {"sex": ["f", "m", "f"], "band": ["low", "low", "high"]}
    constraint = DemographicParity(given="band")
    groups = Groups.from_sensitive(who, given=strata_of([constraint]))
    assert groups.names == ("f/high", "f/low", "m/high", "m/low")
    assert groups.scheme.encode({"sex": ["m"], "band": ["high"]}).tolist() == [2]
    # Nobody to compare with in the high band: a cap still speaks of it, a parity does not.
    assert [f.stratum for f in families_of([constraint], groups.scheme)] == ["low"]
    cap = BoundedGroupLoss(upper_bound=0.2, given="band")
    assert [f.stratum for f in families_of([cap], groups.scheme)] == ["high", "low"]
    apart = Groups.from_sensitive(
        {"sex": ["f", "m"], "band": ["low", "high"]}, given=groups.scheme.given
    )
    with pytest.raises(InvalidDataError, match="no two of them meet"):
        families_of([constraint], apart.scheme)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("soft", [False, True])
def test_cells_are_group_by_event_by_stratum(
    people: pd.DataFrame, weighted: bool, soft: bool
) -> None:
    rng = np.random.default_rng(1)
    y, decisions = rng.integers(0, 2, 400).astype(float), rng.random(400)
    weight = rng.uniform(0.5, 2, 400) if weighted else None
    constraint = EqualizedOdds(given="band")
    groups = Groups.from_sensitive(people[["sex", "band"]], given=strata_of([constraint]))
    if soft:
        groups = Groups(groups.scheme, groups.codes, np.eye(len(groups))[groups.codes])
    table = RateTable.comparing([constraint], y, groups, weight)
    rates = table(decisions)
    found = iter(rates)
    for label in (0, 1):  # false positive rate first
        for band in ("high", "low"):
            for sex in ("f", "m", "x"):
                rows = (y == label) & (people["band"] == band) & (people["sex"] == sex)
                expected = np.average(
                    decisions[rows], weights=None if weight is None else weight[rows]
                )
                assert next(found) == pytest.approx(expected)
    prices = rng.normal(size=table.n_cells)
    step = rng.normal(size=400)
    moved = table(decisions + step) - rates
    assert prices @ moved == pytest.approx(table.pull_back(prices) @ step)


@pytest.mark.parametrize("soft", [False, True])
def test_pooled_rates_are_mantel_and_haenszels(people: pd.DataFrame, soft: bool) -> None:
    two = people[people["sex"] != "x"].reset_index(drop=True)
    rng = np.random.default_rng(2)
    n = len(two)
    y, decisions = rng.integers(0, 2, n).astype(float), rng.integers(0, 2, n).astype(float)
    weight = rng.uniform(0.5, 2, n)
    constraint = DemographicParity(given="band", pooled=True)
    groups = Groups.from_sensitive(two[["sex", "band"]], given=strata_of([constraint]))
    if soft:
        groups = Groups(groups.scheme, groups.codes, np.eye(len(groups))[groups.codes])
    table = RateTable.comparing([constraint], y, groups, weight)
    rates = table(decisions)
    top = bottom = by_f = by_m = 0.0
    for band in ("high", "low"):
        sums = {}
        for sex in ("f", "m"):
            rows = ((two["band"] == band) & (two["sex"] == sex)).to_numpy()
            sums[sex] = (weight[rows].sum(), (weight * decisions)[rows].sum())
        (n1, a), (n2, b) = sums["f"], sums["m"]
        top += (a * n2 - b * n1) / (n1 + n2)
        bottom += n1 * n2 / (n1 + n2)
        by_f += a * n2 / (n1 + n2)
        by_m += b * n1 / (n1 + n2)
    assert rates[0] - rates[1] == pytest.approx(top / bottom)  # the risk difference
    assert rates[0] / rates[1] == pytest.approx(by_f / by_m)  # and the ratio
    prices, step = rng.normal(size=2), rng.normal(size=n)
    if not soft:
        moved = table(decisions + step) - rates
        assert prices @ moved == pytest.approx(table.pull_back(prices) @ step)


def test_a_stratum_that_lacks_a_group_weighs_nothing_in_the_mean() -> None:
    who = {"sex": [*"ffmm", "f"], "band": ["low"] * 4 + ["high"]}
    constraint = DemographicParity(given="band", pooled=True)
    groups = Groups.from_sensitive(who, given=strata_of([constraint]))
    table = RateTable.comparing([constraint], np.zeros(5), groups)
    assert table(np.array([1.0, 0, 1, 1, 1])).tolist() == [0.5, 1.0]
