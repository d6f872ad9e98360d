"""Continuous sensitive columns of the adversarial trainer."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from tests.training.data import make_rows, two_layers
from torch import nn

from fairtrain import (
    AdversarialDebiasingTrainer,
    Checkpoint,
    DemographicParity,
    Groups,
    LagrangianFairnessTrainer,
)
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.training.adversarial.adversary import Adversary, AdversarySettings, Targets
from fairtrain.training.adversarial.tally import AdversaryTally
from fairtrain.training.continuous import ContinuousColumns, learn_columns

QUICK: dict[str, Any] = {
    "module": two_layers, "lr": 0.01, "batch_size": 256, "max_epochs": 10, "random_state": 0,
    "leakage": "none", "continuous": "age",
}  # fmt: skip


def fitted(X, y, who, **settings):
    trainer = AdversarialDebiasingTrainer(**{**QUICK, **settings})
    return trainer.fit(X, y, sensitive_features=who)


def planted(n: int = 4000, seed: int = 0):
    """Age is one coordinate, what decides the label another: hiding the first costs little."""
    rng = np.random.default_rng(seed)
    z, merit = rng.normal(size=(2, n))
    y = (merit + 0.3 * rng.normal(size=n) + 0.4 * z > 0).astype(int)
    X = np.column_stack([z + 0.1 * rng.normal(size=n), merit, rng.normal(size=n)])
    return X.astype(np.float32), y, pd.DataFrame({"age": 40 + 12 * z})


def mixed(n: int = 3000):
    X, y, who = planted(n)
    return X, y, who.assign(sex=np.where(X[:, 2] > 0, "f", "m"))


# What it is for -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def free():
    """What either method is compared with."""
    return fitted(*planted(), strength=0.0, warm_up=0, max_epochs=15)


@pytest.mark.parametrize("method", ["reversal", "projection"])
def test_a_planted_number_falls_to_chance_and_accuracy_stays(method, free):
    X, y, who = planted()
    trainer = fitted(X, y, who, leakage="both", method=method, max_epochs=15)
    leakage = trainer.leakage_.set_index(["model", "probe"])
    assert len(leakage) == 4
    for (model, _), found in leakage.iterrows():
        assert found["chance"] == 0
        if model == "baseline":
            assert found["lower"] > 0.01
        else:
            assert found["lower"] <= 0 <= found["upper"]
    assert free.fairness_report_.results[0].achieved > 0.25
    assert trainer.fairness_report_.results[0].achieved < 0.12
    assert trainer.score(X, y) > free.score(X, y) - 0.06
    assert abs(trainer.history_["adversary_r2: age"].iloc[-1]) < 0.03
    assert "adversary_accuracy" not in trainer.history_
    assert not trainer.history_["adversary_collapsed"].any()
    said = trainer.explain()
    assert "The adversary ended at R^2" in said
    assert "reads age at R^2" in said


def test_equalized_odds_keep_what_the_label_tells():
    """Age depends on the label: hiding age hides the label, knowing the label does not."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 4000)
    z = 1.5 * (2 * y - 1) + rng.normal(size=4000)
    X = np.column_stack([2.0 * y - 1 + rng.normal(size=4000), z + 0.2 * rng.normal(size=4000)])
    who = pd.DataFrame({"age": z})
    parity = fitted(X, y, who, strength=10.0)
    odds = fitted(X, y, who, constraint="equalized_odds", leakage="debiased")
    free = fitted(X, y, who, strength=0.0)
    assert odds.score(X, y) > parity.score(X, y) + 0.03
    assert odds.score(X, y) > 0.8
    assert set(odds.leakage_["rows"]) == {"y=0", "y=1"}
    inside = [
        np.mean([abs(np.corrcoef(t.decision_function(X)[y == k], z[y == k])[0, 1]) for k in (0, 1)])
        for t in (free, odds)
    ]
    assert inside[1] < inside[0] / 3


def test_categories_and_numbers_together():
    X, y, who = mixed()
    seen = []

    def adversary(n_inputs, n_outputs):
        seen.append(n_outputs)
        return nn.Linear(n_inputs, n_outputs)

    trainer = fitted(X, y, who, leakage="debiased", max_epochs=12)
    assert list(dict.fromkeys(trainer.leakage_["column"])) == ["sex", "age"]
    assert trainer.leakage_["r2"].isna().tolist() == [True, True, False, False]
    assert trainer.leakage_["r2"].max() < 0.03
    assert {"adversary_accuracy", "adversary_r2: age"} <= set(trainer.history_.columns)
    judged = [result.constraint for result in trainer.fairness_report_.results]
    assert judged == ["demographic_parity over sex", "demographic_parity over age"]
    assert len(trainer.scheme_) == 8
    fitted(X[:300], y[:300], who[:300], adversary=adversary, max_epochs=1, restart=False)
    assert seen == [3]
    own = DemographicParity(difference_bound=0.1, over=["sex", "age"])
    whole = fitted(X[:500], y[:500], who[:500], constraints=own, max_epochs=1)
    assert [r.constraint for r in whole.fairness_report_.results] == [
        "demographic_parity over sex x age"
    ]


def test_several_classes_and_regression():
    X, _, who = planted(1500)
    score = X[:, 1] + 0.5 * X[:, 0]
    for constraint in ("demographic_parity", "equalized_odds"):
        trainer = fitted(X, np.digitize(score, [-0.4, 0.6]), who, constraint=constraint,
                         max_epochs=2)  # fmt: skip
        assert trainer.predict_proba(X).shape == (1500, 3)
    gaps = [
        fitted(X, score, who, task="regression", strength=s, max_epochs=15).fairness_report_
        for s in (0.0, 5.0)
    ]
    assert gaps[1].results[0].achieved < gaps[0].results[0].achieved / 2


# Reports ------------------------------------------------------------------------------------------


def test_reports_compare_quantile_groups_and_evaluate_uses_the_same_cuts():
    X, y, who = mixed()
    trainer = fitted(X, y, who, max_epochs=1)
    assert trainer.scheme_.columns == ("sex", "age")
    names = trainer.scheme_.levels[1]
    assert len(names) == 4
    assert names[0].startswith("age < ")
    assert names[1].startswith("age in [")
    assert names[3].startswith("age >= ")
    counts = trainer.scheme_.coarsen("age")[0].counts
    assert counts.sum() == len(y)
    assert counts.min() > 0.24 * len(y)
    half = who["age"] > 40
    whole, part = (
        trainer.evaluate(X[rows], y[rows], sensitive_features=who[rows][["sex", "age"]])
        for rows in (np.ones(len(y), bool), half)
    )
    rates = whole.group_rates.set_index(["metric", "group"])
    own = part.group_rates.set_index(["metric", "group"])
    for sex in "fm":  # the oldest quarter is the same people
        group = ("accuracy", f"{sex}/{names[3]}")
        assert own.loc[group, "count"] == rates.loc[group, "count"]
        assert own.loc[group, "rate"] == rates.loc[group, "rate"]
        assert own.loc[("accuracy", f"{sex}/{names[0]}"), "count"] == 0
    # Unnamed columns are found in the order of fit.
    table = np.column_stack([who["age"], X[:, 2] <= 0])
    unnamed = fitted(X, y, table, continuous="group_0", max_epochs=1)
    again = unnamed.evaluate(X, y, sensitive_features=table)
    sizes = again.group_rates.query("metric == 'accuracy'")["count"]
    assert sizes.tolist() == rates.loc["accuracy", "count"].tolist()
    assert len(fitted(X, y, who, continuous_bins=3, max_epochs=1).scheme_) == 6


def test_columns_of_x_are_read_and_dropped():
    X, y, who = planted(600)
    frame = pd.DataFrame(X, columns=list("abc")).assign(age=who["age"])
    inside = fitted(frame, y, None, sensitive_features="age", max_epochs=2)
    outside = fitted(frame.drop(columns="age"), y, who, max_epochs=2)
    assert (inside.predict(frame) == outside.predict(frame.drop(columns="age"))).all()
    assert inside.evaluate(frame, y).n_rows == 600


def test_a_number_most_rows_share_is_cut_at_its_mean():
    values = np.where(np.arange(100) < 90, 0.0, 5.0)
    columns = ContinuousColumns.of({"gain": values}, ("gain",), 4)
    assert columns.levels(0) == ("gain < 0.5", "gain >= 0.5")
    assert columns.bins(values[:, None]).sum() == 10


# How it gets there --------------------------------------------------------------------------------


def settings(**more: Any) -> AdversarySettings:
    common = {"spec": None, "levels": (2,), "lr": 0.02, "steps": 1, "seed": 0, "n_values": 1,
              "spectral_norm": False, "gradient_penalty": 0.0}  # fmt: skip
    return AdversarySettings(**{**common, **more})


def test_the_loss_of_knowing_nothing_is_one_and_its_gradient_that_of_finite_differences():
    torch.manual_seed(0)
    adversary = Adversary(settings(), 3, torch.device("cpu"), torch.float64)
    z = torch.randn(20, 3, dtype=torch.float64)
    weight = torch.rand(20, dtype=torch.float64)
    values = torch.randn(20, 1, dtype=torch.float64)
    targets = Targets(torch.randint(0, 2, (20, 1)), values)
    mean = (values * weight[:, None]).sum() / weight.sum()
    values.sub_(mean)
    values.div_(((values**2 * weight[:, None]).sum() / weight.sum()).sqrt())
    known = (torch.zeros(20, 2, dtype=torch.float64), torch.zeros(20, 1, dtype=torch.float64))
    assert float(adversary.loss(known, targets, weight)) == pytest.approx(1 + np.log(2))
    leaf = z.clone().requires_grad_(True)
    adversary.price(leaf, targets, weight).backward()
    step = 1e-6
    slopes = np.zeros((20, 3))
    for i in range(20):
        for j in range(3):
            up, down = z.clone(), z.clone()
            up[i, j] += step
            down[i, j] -= step
            rise = adversary.price(up, targets, weight) - adversary.price(down, targets, weight)
            slopes[i, j] = float(rise) / (2 * step)
    np.testing.assert_allclose(leaf.grad, slopes, rtol=1e-5, atol=1e-8)


def test_the_predictor_descends_on_base_minus_strength_times_squared_error():
    """One step of plain descent beside the update written out for a linear module."""
    X, y, who = planted(200)
    start, adversary = nn.Linear(3, 1).double(), nn.Linear(2, 1).double()
    trainer = fitted(
        X, y, who, module=start, adversary=adversary, validation_fraction=0.0, batch_size=200,
        max_epochs=1, clip_norm=None, lr_decay="none", optimizer=torch.optim.SGD, lr=0.1,
        warm_up=0, adversary_lr=1e-12, strength=0.7,
    )  # fmt: skip
    x, t = torch.from_numpy(X).double(), torch.from_numpy(y).double()
    age = torch.tensor(who["age"].to_numpy())
    age = (age - age.mean()) / age.std(correction=0)

    def penalised() -> torch.Tensor:
        z = start(x).squeeze(1)
        seen = torch.stack([z, torch.sigmoid(z / 0.5)], dim=1)
        base = nn.functional.binary_cross_entropy_with_logits(z, t)
        return base - 0.7 * ((adversary(seen).squeeze(1) - age) ** 2).mean()

    step = 1e-6
    for weight, moved in zip(start.parameters(), trainer.module_.parameters(), strict=True):
        for at in np.ndindex(*weight.shape):
            with torch.no_grad():
                weight[at] += step
                up = float(penalised())
                weight[at] -= 2 * step
                down = float(penalised())
                weight[at] += step
            slope = (up - down) / (2 * step)
            assert float((moved[at] - weight[at]).detach()) == pytest.approx(-0.1 * slope, abs=1e-7)


@pytest.mark.parametrize("method", ["reversal", "projection"])
def test_a_checkpoint_goes_on_bit_for_bit(tmp_path, method):
    X, y, who = mixed(800)
    path = tmp_path / "half.pt"

    class Stop(Checkpoint):
        def on_epoch_end(self, trainer, record):
            super().on_epoch_end(trainer, record)
            trainer.loop_.stop = trainer.loop_.epoch == 3

    more = {"method": method, "gradient_penalty": 0.01, "max_epochs": 6, "batch_size": 100}
    whole = fitted(X, y, who, **more)
    fitted(X, y, who, callbacks=[Stop(path)], **more)
    trainer = AdversarialDebiasingTrainer(**{**QUICK, **more})
    trainer.fit(X, y, sensitive_features=who, resume_from=path)
    assert (trainer.decision_function(X) == whole.decision_function(X)).all()
    compared = ["loss", "adversary_loss", "adversary_accuracy", "adversary_r2: age"]
    pd.testing.assert_frame_equal(trainer.history_[compared], whole.history_[compared])


def test_history_and_collapse_count_numbers():
    rng = np.random.default_rng(0)
    z = torch.from_numpy(rng.normal(size=(400, 2)))
    values = (0.8 * z[:, :1] + 0.6 * torch.from_numpy(rng.normal(size=(400, 1)))) * 1.0
    weight = torch.ones(400)
    targets = Targets(torch.zeros(400, 0, dtype=torch.int64), values)
    noise = 0.05 * torch.from_numpy(rng.normal(size=(400, 1)))

    def epochs(tally: AdversaryTally, *guesses: torch.Tensor) -> list[bool]:
        found = []
        for guess in guesses:
            for part in (slice(0, 150), slice(150, 400)):
                tally.add(z[part], (guess[part],), Targets(targets.levels[part], values[part]),
                          weight[part])  # fmt: skip
            r2, collapsed = tally.close()
            spread = ((values - values.mean()) ** 2).sum()
            expected = 1 - float(((guess - values) ** 2).sum() / spread)
            assert r2["adversary_r2: age"] == pytest.approx(expected)
            found.append(collapsed)
        return found

    good = 0.8 * z[:, :1]
    # Reading nothing is no collapse at once, but it is if it goes on while a line reads more.
    assert epochs(AdversaryTally((), ("age",)), noise, noise, good) == [False, True, False]
    assert epochs(AdversaryTally((), ("age",)), noise, good, noise) == [False, False, False]
    assert epochs(AdversaryTally((), ("age",)), good - 3, good - 3) == [False, True]
    assert epochs(AdversaryTally((), ("age",)), torch.zeros(400, 1).double()) == [True]
    values.copy_(torch.from_numpy(rng.normal(size=(400, 1))))
    assert epochs(AdversaryTally((), ("age",)), noise, noise, noise) == [False, False, False]
    assert np.isnan(AdversaryTally((), ("age",)).close()[0]["adversary_r2: age"])


class Deaf(nn.Module):
    """Its first weights give noise that no step can move, and that costs the predictor nothing."""

    made = 0

    def __init__(self, n_inputs: int, n_outputs: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(n_inputs, 8), nn.Tanh(), nn.Linear(8, n_outputs))
        self.deaf = Deaf.made == 0
        Deaf.made += 1

    def forward(self, x):
        if not self.deaf:
            return self.inner(x)
        # Where a row lies within an eighth says nothing of age, and hardly depends on rounding.
        return self.inner(x) * 0.0 + 0.05 * (torch.remainder(8 * x[:, :1], 1.0) - 0.5).detach()


def test_a_deaf_adversary_is_restarted():
    X, _, who = planted(3000)
    y = (X[:, 0] + X[:, 1] > 0).astype(int)
    Deaf.made = 0
    trainer = fitted(X, y, who, adversary=Deaf)
    assert trainer.history_["adversary_restarts"].tolist()[:2] == [0, 1]
    assert not trainer.history_["adversary_collapsed"].iloc[-4:].any()
    Deaf.made = 0
    without = fitted(X, y, who, adversary=Deaf, restart=False)
    assert without.history_["adversary_collapsed"].sum() > 5
    gaps = [t.fairness_report_.results[0].achieved for t in (trainer, without)]
    assert gaps[0] < gaps[1] - 0.1


# Loaders ------------------------------------------------------------------------------------------


def batches(X, y, *who, size=250):
    for i in range(0, len(y), size):
        parts = [torch.tensor(w[i : i + size]) for w in who]
        sensitive = parts[0] if len(parts) == 1 else tuple(parts)
        yield torch.from_numpy(X[i : i + size]), torch.from_numpy(y[i : i + size]), sensitive


def test_loaders_feed_it():
    X, y, who = mixed(2000)
    age, sex = who["age"].to_numpy(), (who["sex"] == "m").to_numpy().astype(np.int64)
    alone = AdversarialDebiasingTrainer(**{**QUICK, "leakage": "debiased", "max_epochs": 20})
    loader = list(batches(X, y, age, size=100))
    alone.fit_loader(loader[:15], loader[15:])
    assert alone.leakage_["n_rows"].tolist() == [500, 500]
    assert alone.leakage_["lower"].max() <= 0
    assert alone.fairness_report_.results[0].achieved < 0.2
    rows = age[:1500]
    np.testing.assert_allclose(alone.continuous_.mean, rows.mean())
    np.testing.assert_allclose(alone.continuous_.scale, rows.std())
    both = AdversarialDebiasingTrainer(**{**QUICK, "max_epochs": 3})
    loader = list(batches(X, y, sex, np.column_stack([age, X[:, 1]]).astype(np.float32)))
    both.set_params(continuous=("age", "merit")).fit_loader(loader)
    assert both.scheme_.columns == ("group", "age", "merit")
    assert len(both.scheme_) == 32
    report = both.evaluate(X, y, sensitive_features={"group": sex, "age": age, "merit": X[:, 1]})
    assert report.n_rows == 2000
    named = Groups.from_sensitive(who[["sex"]])
    loader = list(batches(X, y, named.codes, age))
    both.set_params(continuous="age").fit_loader(loader, groups=named)
    assert both.scheme_.columns == ("sex", "age")


def test_scale_and_cuts_of_batches_are_those_of_all_rows():
    rng = np.random.default_rng(0)
    values, weight = torch.from_numpy(rng.normal(2010.5, 3, (900, 2))), torch.rand(900)
    parts = [(values[i : i + 70], weight[i : i + 70]) for i in range(0, 900, 70)]
    learnt = learn_columns(parts, ("a", "b"), ("a", "b"), 4)
    whole = ContinuousColumns.of(dict(zip("ab", values.numpy().T, strict=True)), ("a", "b"), 4)
    whole = whole.scaled_by(values, weight)
    np.testing.assert_allclose(learnt.mean, whole.mean)
    np.testing.assert_allclose(learnt.scale, whole.scale)
    for one, other in zip(learnt.edges, whole.edges, strict=True):
        np.testing.assert_array_equal(one, other)
    scaled = learnt.standardized(values)
    assert float((scaled * weight[:, None]).sum().abs()) < 1e-6


BATCHES = {
    "codes": (torch.zeros(4).long(), "must be floats of shape"),
    "too many": (torch.zeros(4, 2), "must be floats of shape"),
    "a gap": (torch.tensor([1.0, float("nan"), 2.0, 3.0]), "1 missing or infinite values"),
    "constant": (torch.ones(4), "is the same in all training rows"),
    "lengths": ((torch.zeros(3).long(), torch.arange(4.0)), "3 group codes and 4"),
}


@pytest.mark.parametrize("case", BATCHES)
def test_bad_batches_get_one_clear_line(case):
    sensitive, message = BATCHES[case]
    batch = (torch.zeros(4, 3), torch.tensor([0, 1, 0, 1]), sensitive)
    with pytest.raises(InvalidDataError, match=message) as caught:
        AdversarialDebiasingTrainer(**QUICK).fit_loader([batch])
    assert "\n" not in str(caught.value)


# What is kept, and what is refused ----------------------------------------------------------------


def test_no_row_is_kept_and_clones_are_equal():
    X, y, who = planted(600)
    who["age"] = 40 + np.random.default_rng(1).normal(size=600)
    trainer = fitted(X, y, who, max_epochs=2, leakage="both")
    blob = pickle.dumps(trainer)
    assert not any(value.tobytes() in blob for value in who["age"].to_numpy())
    assert not any(value.tobytes() in blob for value in who["age"].to_numpy(np.float32))
    again = pickle.loads(blob)
    assert str(again.evaluate(X, y, sensitive_features=who)) == str(
        trainer.evaluate(X, y, sensitive_features=who)
    )
    assert clone(trainer).get_params()["continuous"] == "age"


def test_what_cannot_be_used_is_refused_in_one_line():
    X, y, _ = make_rows(100)
    age = np.random.default_rng(0).normal(size=100)
    gap = np.where(np.arange(100) < 3, np.nan, age)
    cases = [
        ({"age": gap}, "age", InvalidDataError, "'age' has 3 missing or infinite values; fill"),
        ({"age": np.ones(100)}, "age", InvalidDataError, "'age' is the same in all training rows"),
        ({"age": ["a", "b"] * 50}, "age", InvalidDataError, "holds values that are no numbers"),
        ({"age": age}, "aeg", InvalidParameterError, "'aeg' is not a sensitive column"),
        ({"age": age}, (), InvalidDataError, r"name it in continuous=\('age',\), or cut it"),
        ({"age": age, "share": age}, "age", InvalidDataError, r"continuous=\('age', 'share'\)"),
        ({"age": age}, ("age", "age"), InvalidParameterError, "each once"),
    ]
    for who, continuous, error, message in cases:
        with pytest.raises(error, match=message) as caught:
            fitted(X, y, who, continuous=continuous)
        assert "\n" not in str(caught.value)
    with pytest.raises(InvalidParameterError, match="continuous_bins must be a whole number >= 2"):
        fitted(X, y, {"age": age}, continuous_bins=1)
    trainer = fitted(X, y, {"age": age}, max_epochs=1)
    with pytest.raises(InvalidDataError, match="missing or infinite"):
        trainer.evaluate(X, y, sensitive_features={"age": gap})
    with pytest.raises(InvalidDataError, match="cut it into groups first"):  # as everywhere else
        LagrangianFairnessTrainer(two_layers).fit(X, y, sensitive_features=age)
