"""The benchmarks' protocol: loaders against published base rates, splits, measures, picking."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from benchmarks import protocol
from benchmarks.protocol import Dataset, Fitted, MissingDataError, Part, load, measure, split


def load_or_skip(name: str, **options: bool) -> Dataset:
    try:
        return load(name, **options)
    except MissingDataError as error:
        pytest.skip(str(error))


def shares(data: Dataset, column: str) -> dict[str, float]:
    """Favourable outcomes of every group, in percent."""
    found = pd.Series(data.y).groupby(data.sensitive[column].to_numpy()).mean()
    return {str(name): 100 * float(share) for name, share in found.items()}


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "rows", "percent", "column", "by_group"),
    [
        ("adult", 48_842, 23.93, "sex", {"Male": 30.38, "Female": 10.93}),
        (
            "compas",
            7_214,
            100 - 45.07,
            "race",
            {"African-American": 100 - 51.43, "Caucasian": 100 - 39.36},
        ),
        ("german_credit", 1_000, 70.0, "sex", {}),
        ("law_school", 20_798, 88.97, "race", {"White": 92.1, "Non-White": 72.3}),
        ("credit_default", 30_000, 100 - 22.12, "SEX", {"1": 100 - 24.17, "2": 100 - 20.78}),
        ("diabetes_130", 101_766, 100 - 11.16, "race", {}),
        ("hmda_boston", 2_380, 100 - 11.97, "afam", {"yes": 100 - 28.3, "no": 100 - 9.3}),
    ],
)
def test_base_rates(
    name: str, rows: int, percent: float, column: str, by_group: dict[str, float]
) -> None:
    data = load_or_skip(name, all_rows=True)
    assert len(data) == rows
    assert 100 * data.y.mean() == pytest.approx(percent, abs=0.011)
    found = shares(data, column)
    for group, expected in by_group.items():
        assert found[group] == pytest.approx(expected, abs=0.051)


@pytest.mark.data
def test_no_group_and_no_label_is_a_feature() -> None:
    for name, source in protocol.DATASETS.items():
        data = load_or_skip(name)
        hidden = {source.label, *source.sensitive, *source.drop}
        assert not hidden & set(data.X.columns), name
        assert len(data.X) == len(data.y) == len(data.sensitive)


@pytest.mark.data
def test_the_two_states_are_all_of_acs_income() -> None:
    states = [load_or_skip(f"acs_income_{s}", all_rows=True) for s in ("ca", "ok")]
    assert [len(s) for s in states] == [78_266, 7_167]
    assert set(load("acs_income_ca").sensitive["RAC1P"]) == {"1", "2", "6", "8"}


def test_absent_data_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("FAIRTRAIN_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(MissingDataError, match="FAIRTRAIN_DATA") as caught:
        load("adult")
    assert "\n" not in str(caught.value)
    monkeypatch.setenv("FAIRTRAIN_DATA", str(tmp_path))
    with pytest.raises(MissingDataError, match=r"adult\.csv\.gz"):
        load("adult")


def made_up(n: int = 2_000, *, units: bool = False) -> Dataset:
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "amount": rng.normal(50, 9, n),
            "kind": np.where(np.arange(n) < 20, "rare", rng.choice(["a", "b"], n)),
        }
    )
    who = pd.DataFrame({"group": rng.choice(["x", "y"], n, p=[0.9, 0.1])})
    unit = rng.integers(0, n // 3, n) if units else None
    return Dataset("made up", X, rng.integers(0, 2, n), who, "1", unit)


def test_split_is_70_30_in_every_group_and_repeatable() -> None:
    data = made_up()
    parts = split(data, "group", 3)
    assert [len(p) for p in (parts.train, parts.validation, parts.test)] == [1050, 350, 600]
    for part in (parts.train, parts.validation, parts.test):
        assert part.y.mean() == pytest.approx(data.y.mean(), abs=0.01)
        assert (part.groups == "y").mean() == pytest.approx(
            (data.sensitive["group"] == "y").mean(), abs=0.01
        )
    again = split(data, "group", 3)
    np.testing.assert_array_equal(parts.test.X, again.test.X)
    assert not np.array_equal(parts.test.y, split(data, "group", 4).test.y)


def test_features_are_standardised_and_rare_levels_joined() -> None:
    parts = split(made_up(), "group", 0)
    seen = parts.train.with_rows(parts.validation)
    assert seen.X.shape == (1400, 4)  # amount, a, b, the rest
    assert seen.X[:, 0].mean() == pytest.approx(0, abs=1e-12)
    assert seen.X[:, 0].std() == pytest.approx(1)


def test_nobody_is_on_both_sides_of_a_split() -> None:
    data = made_up(units=True)
    assert data.unit is not None
    data = Dataset("made up", pd.DataFrame({"unit": data.unit}), *_rest(data))
    sides = split(data, "group", 0)
    values = [set(np.round(p.X[:, 0], 9)) for p in (sides.train, sides.validation, sides.test)]
    assert not values[0] & values[1]
    assert not values[0] & values[2]
    assert not values[1] & values[2]
    assert sum(len(p) for p in (sides.train, sides.validation, sides.test)) == len(data)


def _rest(data: Dataset) -> tuple:
    return data.y, data.sensitive, data.favourable, data.unit


def test_a_sample_says_how_many_rows_it_has() -> None:
    data = made_up()
    assert data.sample(500).name == "made up (500 rows)"
    assert len(data.sample(500)) == 500
    assert data.sample(5_000) is data


def decided(rate_a: float, rate_b: float, n: int) -> Part:
    """Rows whose first feature is a decision, with the given share in each of two groups."""
    decision = np.r_[np.arange(n) < round(rate_a * n), np.arange(n) < round(rate_b * n)]
    decision = decision.astype(float)
    return Part(decision[:, None], decision.astype(int), np.repeat(["a", "b"], n))


@pytest.mark.parametrize(
    ("rate_b", "n", "raw", "not_broken", "certified"),
    [
        (0.50, 20_000, True, True, True),
        (0.50, 200, True, True, False),
        (0.55, 200, False, True, False),
        (0.60, 20_000, False, False, False),
    ],
)
def test_three_ways_to_say_that_a_bound_was_kept(
    rate_b: float, n: int, raw: bool, not_broken: bool, certified: bool
) -> None:
    rows = decided(0.5, rate_b, n)
    found = measure(rows.y, rows.X[:, 0], rows.groups, 0.02)
    assert found.gap == pytest.approx(rate_b - 0.5)
    assert (found.raw, found.not_broken, found.certified) == (raw, not_broken, certified)
    assert found.accuracy == 1
    assert found.smallest_group == n


def test_decisions_by_lot_are_measured_by_their_probabilities() -> None:
    y = np.array([1, 0] * 500)
    found = measure(y, np.full(1000, 0.3), np.repeat(["a", "b"], 500), 0.02)
    assert found.accuracy == pytest.approx(0.5)
    assert found.gap == pytest.approx(0, abs=1e-12)
    assert measure(y, np.zeros(1000), np.repeat(["a", "b"], 500), 0.02).near_constant


def test_pick_takes_the_most_accurate_that_keeps_the_bound_and_counts_all_seconds() -> None:
    rows = decided(0.5, 0.6, 500)
    constant = Fitted(lambda X: np.ones(len(X)), 1.0, note="constant")
    perfect = Fitted(lambda X: X[:, 0], 2.0, note="perfect")
    found = protocol.pick([lambda: perfect, lambda: constant], rows, 0.05)
    assert (found.note, found.seconds) == ("constant", 3.0)
    found = protocol.pick([lambda: perfect, lambda: constant], rows, 0.2)
    assert (found.note, found.seconds) == ("perfect", 3.0)
    mixed = Fitted(lambda X: 0.5 + 0.5 * X[:, 0], 1.0, note="smaller gap")
    assert protocol.pick([lambda: perfect, lambda: mixed], rows, 0.01).note == "smaller gap"


def test_run_and_table_and_csv(tmp_path) -> None:
    def always(train: Part, validation: Part, bound: float, seed: int) -> Fitted:
        return Fitted(lambda X: np.ones(len(X)), 0.5)

    rows = protocol.run(made_up(), "group", {"always": always}, bound=0.02, seeds=(0, 1))
    text = protocol.table(rows)
    assert "near constant 2/2" in text
    assert "made up, group" in text
    protocol.write_csv(rows, tmp_path / "results" / "out.csv")
    frame = pd.read_csv(tmp_path / "results" / "out.csv")
    assert len(frame) == 2
    assert "seconds" not in frame  # a machine's, not a method's
    assert frame["raw"].all()
