from __future__ import annotations

import functools
import warnings

import cooper
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import minimize
from tests.training.data import linear, make_rows, two_layers
from torch import nn

from fairtrain import (
    BoundedGroupLoss,
    DemographicParity,
    EqualizedOdds,
    LagrangianFairnessTrainer,
    RateParity,
    fairness_report,
)
from fairtrain.exceptions import (
    FairtrainError,
    FairtrainWarning,
    InvalidDataError,
    InvalidParameterError,
    SkippedBatchWarning,
    UnseenGroupError,
)
from fairtrain.lagrangian.multipliers import Ascent
from fairtrain.metrics import Verdict
from fairtrain.training.loop.steps import StepReport

QUICK = {
    "module": linear, "lr": 0.05, "batch_size": 128, "max_epochs": 20, "random_state": 0,
}  # fmt: skip


def fitted(X, y, a, **settings):
    trainer = LagrangianFairnessTrainer(**{**QUICK, **settings})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FairtrainWarning)
        return trainer.fit(X, y, sensitive_features=a)


# Oracles ------------------------------------------------------------------------------------------


def test_the_textbook_mode_follows_coopers_multipliers_and_weights():
    """Plain simultaneous descent and ascent on full batches, in float64, from the same weights."""
    X, y, a = make_rows(200, 3)
    start = nn.Linear(4, 1, dtype=torch.float64)
    trainer = fitted(
        X, y, a,
        module=start,
        constraints=DemographicParity(difference_bound=0.05, reference="overall"),
        optimizer=functools.partial(torch.optim.SGD, lr=0.3),
        dual_lr=0.4, dual_step="simultaneous", temperature=1.0,
        batch_size=200, max_epochs=25, lr_decay="none", clip_norm=None, validation_fraction=0.0,
        margin=0.0,
    )  # fmt: skip

    class Problem(cooper.ConstrainedMinimizationProblem):
        def __init__(self):
            super().__init__()
            multiplier = cooper.multipliers.DenseMultiplier(6, dtype=torch.float64)
            self.parity = cooper.Constraint(
                constraint_type=cooper.ConstraintType.INEQUALITY, multiplier=multiplier,
                formulation_type=cooper.formulations.Lagrangian,
            )  # fmt: skip

        def compute_cmp_state(self, module, x, y, a):
            z = module(x).squeeze(1)
            p = torch.sigmoid(z)
            rates = torch.stack([p[a == g].mean() for g in range(3)])
            away = rates - p.mean()
            violation = torch.cat([away - 0.05, -away - 0.05])
            return cooper.CMPState(
                loss=nn.functional.binary_cross_entropy_with_logits(z, y),
                observed_constraints={self.parity: cooper.ConstraintState(violation=violation)},
            )

    problem = Problem()
    module = nn.Linear(4, 1, dtype=torch.float64)
    module.load_state_dict(start.state_dict())
    optimizer = cooper.optim.SimultaneousOptimizer(
        cmp=problem,
        primal_optimizers=torch.optim.SGD(module.parameters(), lr=0.3),
        dual_optimizers=torch.optim.SGD(problem.dual_parameters(), lr=0.4, maximize=True),
    )
    tensors = torch.from_numpy(X).double(), torch.from_numpy(y).double(), torch.from_numpy(a)
    sums = []
    weights = []
    for _ in range(25):
        optimizer.roll(compute_cmp_state_kwargs=dict(zip("xya", tensors, strict=True))
                       | {"module": module})  # fmt: skip
        sums.append(problem.parity.multiplier().sum().item())
        weights.append(module.weight.detach().clone())
    name = "demographic_parity"
    np.testing.assert_allclose(trainer.trace_[f"multipliers: {name}"], sums, atol=1e-10)
    assert sums[-1] > 0.1
    # The trainer restores the best epoch's weights.
    expected = weights[trainer.best_epoch_]
    np.testing.assert_allclose(trainer.module_.weight.detach(), expected, atol=1e-10)


def regression_rows():
    rng = np.random.default_rng(1)
    group = (rng.uniform(size=400) < 0.2).astype(int)
    X = rng.normal(size=(400, 2)) + group[:, None]
    y = X @ [1.0, 0.5] + 1.5 * group + 0.3 * rng.normal(size=400)
    return X, y, group


CONVEX = {
    "task": "regression", "validation_fraction": 0.0, "batch_size": 400, "dual": "augmented",
    "dual_step": "simultaneous", "lr_decay": "none", "clip_norm": 1.0, "max_epochs": 800,
    "optimizer": functools.partial(torch.optim.SGD, lr=0.1), "random_state": 0,
    "multiplier_cap": 1e6, "margin": 0.0,
}  # fmt: skip


def optimum(X, y, constraints):
    """Least squares under constraints, by sequential quadratic programming."""
    D = np.column_stack([X, np.ones(len(X))])
    found = minimize(
        lambda w: ((D @ w - y) ** 2).mean(), np.zeros(D.shape[1]), method="SLSQP",
        constraints=[{"type": "ineq", "fun": lambda w, c=c: c(D @ w)} for c in constraints],
        options={"ftol": 1e-12, "maxiter": 500},
    )  # fmt: skip
    return found.x, found.fun


def test_a_quadratic_program_reaches_its_optimum():
    """Least squares with mean predictions of two groups at most 0.5 apart."""
    X, y, a = regression_rows()
    constraint = RateParity(quantity=predicted, label="mean", difference_bound=0.5)
    trainer = fitted(X, y, a, module=nn.Linear(2, 1, dtype=torch.float64),
                     constraints=constraint, dual_lr=0.05, **CONVEX)  # fmt: skip
    gap = lambda f: f[a == 1].mean() - f[a == 0].mean()  # noqa: E731
    _, best = optimum(X, y, [lambda f: 0.5 - gap(f), lambda f: 0.5 + gap(f)])
    reached = trainer.predict(X)
    assert gap(reached) == pytest.approx(0.5, abs=5e-3)
    assert ((reached - y) ** 2).mean() == pytest.approx(best, abs=5e-3)


def predicted(y, p):
    return p


def test_bounded_group_loss_reaches_its_optimum():
    """Least squares whose error in the worse group is bounded below what plain training gives."""
    X, y, a = regression_rows()
    X = X[:, :1]  # one feature less: no line serves both groups well
    plain, _ = optimum(X, y, [])
    errors = (np.column_stack([X, np.ones(len(X))]) @ plain - y) ** 2
    worst = [errors[a == g].mean() for g in (0, 1)]
    best_worst = minimize(  # the least that the worse group's error can be
        lambda w: max(((np.polyval(w, X[a == g, 0]) - y[a == g]) ** 2).mean() for g in (0, 1)),
        plain, method="Nelder-Mead", options={"maxiter": 4000, "xatol": 1e-8},
    ).fun  # fmt: skip
    assert best_worst < 0.95 * max(worst)
    limit = (best_worst + max(worst)) / 2
    trainer = fitted(X, y, a, module=nn.Linear(1, 1, dtype=torch.float64), dual_lr=0.1,
                     constraints=BoundedGroupLoss(upper_bound=limit, loss="squared"),
                     **CONVEX)  # fmt: skip
    _, best = optimum(X, y, [lambda f, g=g: limit - ((f - y)[a == g] ** 2).mean() for g in (0, 1)])
    error = (trainer.predict(X) - y) ** 2
    assert max(error[a == g].mean() for g in (0, 1)) == pytest.approx(limit, rel=5e-3)
    assert error.mean() == pytest.approx(best, rel=5e-3)


@pytest.mark.parametrize("seed", range(2))
def test_the_bound_holds_on_new_rows_within_their_noise(seed):
    X, y, a = make_rows(12_000, 3, seed)
    plain = fitted(X[:6000], y[:6000], a[:6000], difference_bound=1.0, random_state=seed)
    assert plain.evaluate(X[6000:], y[6000:], sensitive_features=a[6000:]).results[0].achieved > 0.1
    fair = fitted(
        X[:6000], y[:6000], a[:6000], difference_bound=0.03, random_state=seed, max_epochs=40
    )
    assert fair.reports_["steering"].results[0].achieved <= 0.03
    found = fair.evaluate(X[6000:], y[6000:], sensitive_features=a[6000:]).results[0]
    assert found.lower <= 0.03
    assert found.achieved < 0.08


def test_renaming_groups_changes_nothing():
    X, y, a = make_rows(400, 3)
    settings = {"validation_fraction": 0.0, "batch_size": 400, "module": linear,
                "difference_bound": 0.05}  # fmt: skip
    first = fitted(X, y, a, **settings)
    second = fitted(X, y, np.array(["z", "m", "a"])[a], **settings)
    np.testing.assert_allclose(first.decision_function(X), second.decision_function(X), atol=1e-3)
    name = "multipliers: demographic_parity"
    np.testing.assert_allclose(first.history_[name], second.history_[name], atol=1e-3)


# What is asked ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dual", ["ascent", "nu_pi", "augmented", Ascent(0.5)])
def test_every_dual_rule_keeps_the_bound_on_steering_rows(dual):
    X, y, a = make_rows(3000)
    trainer = fitted(X, y, a, dual=dual, difference_bound=0.05)
    assert trainer.reports_["steering"].results[0].achieved <= 0.05
    assert trainer.score(X, y) > 0.7


def test_a_ratio_bound_is_enforced():
    X, y, a = make_rows(3000)
    trainer = fitted(X, y, a, ratio_bound=0.8)
    assert trainer.reports_["steering"].results[0].achieved >= 0.8
    assert fitted(X, y, a, ratio_bound=0.01).reports_["steering"].results[0].achieved < 0.7


def test_an_optimizer_of_pytorch_moves_the_multipliers():
    X, y, a = make_rows(3000)
    trainer = fitted(
        X, y, a, difference_bound=0.05, optimizer=torch.optim.Adam,
        dual_optimizer=functools.partial(torch.optim.SGD, lr=0.3, momentum=0.3),
    )  # fmt: skip
    assert trainer.reports_["steering"].results[0].achieved <= 0.05
    assert trainer.multipliers_["above"].max() > 0


def test_two_constraints_over_other_columns():
    X, y, a = make_rows(6000, 2)
    sex = np.random.default_rng(1).integers(0, 2, 6000)
    who = pd.DataFrame({"race": a, "sex": sex})
    both = [
        DemographicParity(difference_bound=0.05, over="race"),
        EqualizedOdds(difference_bound=0.15, over=["race", "sex"]),
    ]
    trainer = fitted(X, y, who, constraints=both)
    assert [r.constraint for r in trainer.fairness_report_.results] == [c.name for c in both]
    assert trainer.fairness_report_.results[0].achieved <= 0.05
    assert set(trainer.multipliers_["constraint"]) == {
        "demographic_parity over race",
        "equalized_odds over race x sex: false_positive_rate",
        "equalized_odds over race x sex: true_positive_rate",
    }


def test_the_lower_priority_gives_way_and_the_outcome_says_so():
    """Only a constant keeps both: the attribute is the label, but for a little noise."""
    rng = np.random.default_rng(0)
    a = rng.integers(0, 2, 4000)
    y = np.where(rng.uniform(size=4000) < 0.8, a, 1 - a)
    X = np.column_stack([a + 0.3 * rng.normal(size=4000), rng.normal(size=4000)])
    both = [
        EqualizedOdds(difference_bound=0.3, priority=1),
        DemographicParity(difference_bound=0.02),
    ]
    trainer = fitted(X, y, a, constraints=both, module=two_layers, lr=0.01, max_epochs=40)
    said = trainer.explain()
    assert "demographic_parity: the bound gave way by" in said
    assert "to constraints of higher priority" in said
    assert "base rates lie" in said
    assert trainer.score(X, y) > 0.55
    assert trainer.status_ is not Verdict.NOT_CERTIFIED


def test_several_classes_and_per_class_parity():
    rng = np.random.default_rng(0)
    a = rng.integers(0, 2, 4000)
    X = rng.normal(size=(4000, 3)) + np.array([0.0, 0.0, 0.8]) * a[:, None]
    scores = X + 0.5 * rng.normal(size=(4000, 3))
    y = np.array(["low", "mid", "top"])[scores.argmax(axis=1)]
    free = fitted(X, y, a, difference_bound=1.0)
    fair = fitted(X, y, a, difference_bound=0.04)
    assert fair.predict_proba(X).shape == (4000, 3)
    assert fair.classes_.tolist() == ["low", "mid", "top"]
    assert len(fair.fairness_report_.results) == 3
    assert max(r.achieved for r in free.fairness_report_.results) > 0.06
    assert max(r.achieved for r in fair.fairness_report_.results) <= 0.04
    assert fair.score(X, y) > 0.6
    assert "accuracy" in fair.explain()


def test_certification_rows_alone_can_say_met():
    X, y, a = make_rows(12_000)
    settings = {"certification_fraction": 0.4, "confidence": 0.95}
    trainer = fitted(X, y, a, difference_bound=0.2, **settings)
    assert list(trainer.reports_) == ["training", "steering", "certification"]
    assert trainer.fairness_report_.rows == "certification"
    assert trainer.status_ is Verdict.MET
    assert trainer.fairness_report_.n_rows == pytest.approx(4800, abs=30)
    # The working bound was tightened until the limit on steering rows kept the bound.
    assert trainer.history_["bound: demographic_parity"].iloc[-1] < 0.17
    assert trainer.reports_["steering"].results[0].upper <= 0.2


def test_a_mixture_shares_decisions_and_is_drawn_per_row():
    X, y, a = make_rows(3000)
    trainer = fitted(X, y, a, difference_bound=0.03, mixture=True)
    if trainer.mixture_ is None:
        pytest.fail("no mixture was found; choose rows where one is")
    share = trainer.predict_proba(X)
    assert set(np.unique(share.round(6))) - {0.0, 1.0}
    decided = trainer.predict(X)
    order = np.random.default_rng(0).permutation(len(X))
    assert (trainer.predict(X[order]) == decided[order]).all()
    alone = [trainer.predict(X[i : i + 1])[0] for i in range(50)]
    assert (alone == decided[:50]).all()
    drawn = share[:, 1] * (1 - share[:, 1]) > 0
    assert decided[drawn].mean() == pytest.approx(share[drawn, 1].mean(), abs=0.1)


def test_fine_tuning_starts_from_the_module_and_keeps_frozen_layers():
    X, y, a = make_rows(3000)
    module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    start = fitted(X, y, a, module=module, difference_bound=1.0).module_
    before = {k: v.clone() for k, v in start.state_dict().items()}
    tuned = fitted(X, y, a, module=start, difference_bound=0.03, lr=1e-3, frozen="0")
    assert all((start.state_dict()[k] == v).all() for k, v in before.items())
    assert (tuned.module_[0].weight == before["0.weight"]).all()
    assert not (tuned.module_[2].weight == before["2.weight"]).all()
    assert tuned.start_report_.results[0].achieved > tuned.fairness_report_.results[0].achieved
    assert fitted(X, y, a).start_report_ is None


# Steadiness ---------------------------------------------------------------------------------------


class Poisoned(nn.Module):
    """Gives NaN for the rows of a marked batch."""

    def __init__(self, every: int) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 1)
        self.every = every
        self.calls = 0

    def forward(self, x):
        self.calls += self.training
        out = self.inner(x)
        return out * torch.nan if self.training and self.calls % self.every == 0 else out


def test_a_batch_that_is_not_finite_is_skipped_counted_and_reported():
    X, y, a = make_rows(2000)
    trainer = LagrangianFairnessTrainer(
        **{**QUICK, "module": Poisoned(every=4), "batch_size": 200}, difference_bound=0.05
    )
    with pytest.warns(FairtrainWarning) as caught:
        trainer.fit(X, y, sensitive_features=a)
    said = [str(w.message) for w in caught if w.category is SkippedBatchWarning]
    assert len(said) == 1
    assert said[0].startswith(f"{trainer.n_skipped_} batches were skipped: their loss")
    assert trainer.n_skipped_ == trainer.history_["skipped"].sum() > 0
    assert "batches were skipped" in trainer.explain()
    assert np.isfinite(trainer.multipliers_[["above", "below"]].to_numpy()).all()
    assert np.isfinite(trainer.decision_function(X)).all()


def test_a_run_of_bad_batches_stops_with_an_error():
    X, y, a = make_rows(2000)
    with pytest.raises(FairtrainError, match="10 batches in a row"):
        fitted(X, y, a, module=Poisoned(every=1), batch_size=100)


def test_a_moving_average_of_the_weights_is_what_decides():
    X, y, a = make_rows(3000)
    trainer = fitted(X, y, a, difference_bound=0.05, ema=0.95, lr_decay="none")
    assert trainer.reports_["steering"].results[0].achieved <= 0.05


def test_history_has_what_a_reader_looks_for():
    X, y, a = make_rows(2000)
    trainer = fitted(X, y, a, difference_bound=0.05)
    name = "demographic_parity"
    columns = {"epoch", "loss", "base_loss", "penalty", "accuracy", "held_accuracy", "held_loss",
               f"gap_soft: {name}", f"gap_hard: {name}", f"gap_held: {name}", f"bound: {name}",
               f"multipliers: {name}", "n_updates", "feasible", "lr", "dual_lr", "gradient_norm",
               "skipped", "seconds"}  # fmt: skip
    assert columns <= set(trainer.history_.columns)
    assert len(trainer.history_) == 20
    assert trainer.history_["n_updates"].iloc[-1] == len(trainer.trace_) > 20
    assert trainer.history_["lr"].is_monotonic_decreasing
    held = trainer.history_[f"gap_held: {name}"].iloc[trainer.best_epoch_]
    assert held == pytest.approx(trainer.reports_["steering"].results[0].achieved)


class InnerSteps:
    """ADMM-like: several proximal steps of the weights on every batch."""

    def __init__(self, engine, module, optimizer):
        self.optimizer = optimizer
        self.parameters = list(module.parameters())

    def __call__(self, losses, progress):
        anchor = [p.detach().clone() for p in self.parameters]
        for _ in range(3):
            self.optimizer.zero_grad()
            found = losses()
            near = sum(((p - q) ** 2).sum() for p, q in zip(self.parameters, anchor, strict=True))
            (found["loss"] + 0.5 * near).backward()
            self.optimizer.step()
        return StepReport({k: v.detach() for k, v in found.items()}, taken=True, gradient_norm=0.0)

    def state_dict(self):
        return {"optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state):
        self.optimizer.load_state_dict(state["optimizer"])


class AfterEveryThird:
    """Alternating: multipliers move on every third batch only."""

    def __init__(self):
        self.calls = 0

    def after_batch(self, game, soft_rates):
        self.calls += 1
        if self.calls % 3 == 0:
            game.look()

    def after_epoch(self, game):
        pass


def test_another_strategy_plugs_in_without_touching_the_loop():
    X, y, a = make_rows(3000)
    strategy = AfterEveryThird()
    trainer = fitted(X, y, a, difference_bound=0.05, primal_step=InnerSteps, dual_step=strategy,
                     batch_size=256, max_epochs=30, lr=0.02)  # fmt: skip
    assert strategy.calls == 0  # a copy was used
    assert len(trainer.trace_) == 30 * -(-2400 // 256) // 3
    assert trainer.reports_["steering"].results[0].achieved <= 0.05


@pytest.mark.parametrize("step", ["simultaneous", "epoch"])
def test_the_other_dual_steps_move_when_they_say(step):
    X, y, a = make_rows(2000)
    trainer = fitted(X, y, a, dual_step=step, batch_size=400, difference_bound=0.05)
    assert len(trainer.trace_) == (20 if step == "epoch" else 20 * 4)


# Bad input ----------------------------------------------------------------------------------------


def with_nan(X):
    X = X.copy()
    X[3, 1] = np.nan
    return X


BAD = {
    "NaN in X": (lambda X, y, a: (with_nan(X), y, a, {}), InvalidDataError,
                 "NaN or infinity, first in row 3, column 1"),
    "one label": (lambda X, y, a: (X, y * 0, a, {}), InvalidDataError, "1 class"),
    "labels unnamed": (
        lambda X, y, a: (X, np.array(["no", "yes"])[y], a, {"ratio_bound": 0.8}),
        InvalidParameterError, "positive_label is missing"),
    "missing group": (lambda X, y, a: (X, y, [None, *a[1:]], {}), InvalidDataError, "missing"),
    "no groups": (lambda X, y, a: (X, y, None, {}), InvalidDataError, "is missing"),
    "one group": (lambda X, y, a: (X, y, a * 0, {}), InvalidDataError, "at least two groups"),
    "wrong output": (lambda X, y, a: (X, y, a, {"module": nn.Linear(4, 3)}), InvalidDataError,
                     r"shape \(2, 3\) for 2 rows; 2 classes needs"),
    "wrong input": (lambda X, y, a: (X, y, a, {"module": nn.Linear(5, 1)}), InvalidDataError,
                    r"does not take rows of shape \(2, 4\)"),
    "bad factory": (lambda X, y, a: (X, y, a, {"module": lambda d, k: 3}), InvalidParameterError,
                    "made int"),
    "no module": (lambda X, y, a: (X, y, a, {"module": 3}), InvalidParameterError, "nn.Module"),
    "text column": (lambda X, y, a: (pd.DataFrame({"c": ["u"] * len(y)}), y, a, {}),
                    InvalidDataError, "encode them first"),
    "lr": (lambda X, y, a: (X, y, a, {"lr": -1}), InvalidParameterError, "lr must be"),
    "dual_lr": (lambda X, y, a: (X, y, a, {"dual_lr": 0}), InvalidParameterError, "dual_lr"),
    "dual": (lambda X, y, a: (X, y, a, {"dual": "descent"}), InvalidParameterError, "dual must"),
    "dual_step": (lambda X, y, a: (X, y, a, {"dual_step": "x"}), InvalidParameterError, "dual_ste"),
    "epochs": (lambda X, y, a: (X, y, a, {"max_epochs": 0}), InvalidParameterError, "max_epochs"),
    "task": (lambda X, y, a: (X, y, a, {"task": "rank"}), InvalidParameterError, "task must be"),
    "precision": (lambda X, y, a: (X, y, a, {"precision": "64"}), InvalidParameterError, "precis"),
    "device": (lambda X, y, a: (X, y, a, {"device": "tpu9"}), InvalidParameterError, "device="),
    "confidence": (lambda X, y, a: (X, y, a, {"confidence": 95}), InvalidParameterError, "confid"),
    "frozen": (lambda X, y, a: (X, y, a, {"frozen": "head"}), InvalidParameterError, "no part of"),
    "optimizer": (lambda X, y, a: (X, y, a, {"optimizer": lambda p: 3}), InvalidParameterError,
                  "gave int"),
    "regression of decisions": (lambda X, y, a: (X, y, a, {"task": "regression"}),
                                InvalidParameterError, "about decisions"),
    "rows": (lambda X, y, a: (X[:-1], y, a, {}), InvalidDataError, "rows, expected"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_line(case):
    change, error, message = BAD[case]
    X, y, a = make_rows(300)
    X, y, a, settings = change(X, y, a)
    with pytest.raises(error, match=message) as caught:
        LagrangianFairnessTrainer(**{**QUICK, **settings}).fit(X, y, sensitive_features=a)
    assert "\n" not in str(caught.value)


def test_a_bound_of_zero_is_kept_as_well_as_it_can_be():
    X, y, a = make_rows(3000)
    trainer = fitted(X, y, a, difference_bound=0.0)
    assert trainer.fairness_report_.results[0].achieved < 0.05
    assert trainer.status_ in (Verdict.NOT_MET, Verdict.TOO_FEW_ROWS)


def test_a_group_that_fit_never_saw_is_said_at_evaluation():
    X, y, a = make_rows(600)
    trainer = fitted(X, y, a, module=linear)
    with pytest.raises(UnseenGroupError, match="which fit never saw"):
        trainer.evaluate(X, y, sensitive_features=np.full(len(y), 7))


def test_constant_predictions_are_called_near_constant():
    X, y, a = make_rows(1000)
    y[:] = 0
    y[:12] = 1  # nearly nobody
    trainer = fitted(X, y, a, module=linear, difference_bound=0.05)
    assert trainer.fairness_report_.near_constant
    assert "same" in trainer.explain()


def test_the_report_is_that_of_the_metrics():
    X, y, a = make_rows(2000)
    labels = np.array(["deny", "approve"])[y]
    trainer = fitted(X, labels, a, positive_label="approve", difference_bound=0.05)
    own = trainer.evaluate(X, labels, sensitive_features=a).results[0]
    decided = trainer.predict(X)
    assert set(decided) == {"approve", "deny"}
    other = fairness_report(
        labels, decided, a, DemographicParity(difference_bound=0.05), positive_label="approve"
    ).results[0]
    assert (own.achieved, own.upper) == (other.achieved, other.upper)
    favourable = trainer.predict_proba(X)[:, 0]
    assert ((favourable > 0.5) == (decided == "approve")).all()
    assert ((trainer.decision_function(X) < 0) == (decided == "approve")).all()
