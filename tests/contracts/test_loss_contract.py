"""One table of cases, run against every fairness loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from fairtrain.exceptions import InvalidDataError
from fairtrain.losses import (
    PENALTIES,
    BiasParityScoreLoss,
    BoundedGroupLossPenalty,
    CorrelationLoss,
    CovarianceLoss,
    DemographicParityLoss,
    EqualizedOddsLoss,
    EqualOpportunityLoss,
    ErrorRateParityLoss,
    FairnessLoss,
    FairnessRegularizerLoss,
    GroupDROLoss,
    GroupMSEParityLoss,
    HierarchicalFairnessLoss,
    HSICLoss,
    MMDLoss,
    MutualInformationLoss,
    NeuralMutualInformationLoss,
    PredictiveEqualityLoss,
    PredictiveParityLoss,
    RateParityLoss,
    WassersteinLoss,
)
from fairtrain.losses.kernels import KernelLoss


@dataclass(frozen=True)
class Case:
    """A loss and the properties it really has."""

    name: str
    make: Callable[..., FairnessLoss]
    zero_when_equal: bool = True
    non_negative: bool = True
    renaming: bool = True
    zero_alone: bool = True  # one group alone
    vmap: bool = True
    classes: bool = True  # logits (n, C) with a column for each class
    representation: bool = False  # logits (n, C) are taken as they are
    copies: bool = True  # a weight of two is a row twice
    constants: bool = False  # something read from the data is a constant for the gradient
    settings: dict[str, Any] = field(default_factory=dict)

    def __call__(self, **more: Any) -> FairnessLoss:
        return self.make(**{"num_groups": 4, **self.settings, **more})


def bounded(**settings: Any) -> FairnessLoss:
    return BoundedGroupLossPenalty(0.3, **settings)


representation: dict[str, Any] = {"classes": False, "representation": True}
REDUCTIONS = ("squared_to_mean", "max_gap", "variance", "l1_to_mean", "smooth_max")
CASES = [
    Case("demographic_parity", DemographicParityLoss),
    *(
        Case(f"demographic_parity-{name}", DemographicParityLoss, settings={"reduction": name})
        for name in REDUCTIONS
    ),
    Case("weights", DemographicParityLoss, settings={"group_weights": "size"}),
    Case(
        "precision",
        DemographicParityLoss,
        copies=False,
        constants=True,
        settings={"group_weights": "inverse_variance"},
    ),
    Case("shrinkage", EqualizedOddsLoss, settings={"shrinkage": 5.0}),
    Case("probit", DemographicParityLoss, classes=False, settings={"link": "probit"}),
    Case(
        "memory",
        EqualOpportunityLoss,
        vmap=False,
        settings={"memory": 0.9},
    ),
    Case(
        "debias",
        DemographicParityLoss,
        zero_when_equal=False,
        non_negative=False,
        copies=False,
        settings={"debias": True},
    ),
    Case("rate_parity", lambda **s: RateParityLoss("equalized_odds", **s)),
    Case("equal_opportunity", EqualOpportunityLoss),
    Case("predictive_equality", PredictiveEqualityLoss),
    Case("predictive_parity", PredictiveParityLoss),
    Case("equalized_odds", EqualizedOddsLoss),
    Case("equalized_odds-max_gap", EqualizedOddsLoss, settings={"reduction": "max_gap"}),
    Case("error_rate_parity", ErrorRateParityLoss),
    Case("bias_parity_score", BiasParityScoreLoss),
    Case("covariance", CovarianceLoss, **representation),
    Case("correlation", CorrelationLoss, **representation),
    Case("mutual_information", MutualInformationLoss),
    Case(
        "neural_mutual_information",
        NeuralMutualInformationLoss,
        **representation,
        zero_when_equal=False,
        non_negative=False,
        renaming=False,
        vmap=False,
    ),
    Case("hsic", HSICLoss, **representation),
    Case("mmd", MMDLoss, **representation),
    Case("mmd-max_gap", MMDLoss, **representation, settings={"reduction": "max_gap"}),
    Case(
        "mmd-squared_to_mean", MMDLoss, **representation, settings={"reduction": "squared_to_mean"}
    ),
    Case(
        "mmd-debias",
        MMDLoss,
        zero_when_equal=False,
        non_negative=False,
        copies=False,
        **representation,
        settings={"debias": True},
    ),
    Case("wasserstein", WassersteinLoss, **representation),
    Case(
        "wasserstein-squared_pairs",
        WassersteinLoss,
        **representation,
        settings={"reduction": "squared_pairs"},
    ),
    Case("bounded_group_loss", bounded, zero_when_equal=False, zero_alone=False),
    Case("group_dro", GroupDROLoss, zero_when_equal=False, zero_alone=False, vmap=False),
    Case("group_mse_parity", GroupMSEParityLoss, classes=False),
    Case("hierarchical", HierarchicalFairnessLoss, settings={"min_count": 3}),
]

every = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def only(holds: str | Callable[[Case], bool]) -> Any:
    chosen = [
        case for case in CASES if (getattr(case, holds) if isinstance(holds, str) else holds(case))
    ]
    return pytest.mark.parametrize("case", chosen, ids=lambda case: case.name)


def rows(n: int = 24, groups: int = 4, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, generator=generator, dtype=torch.float64)
    targets = torch.arange(n) // groups % 2
    return logits, targets, torch.arange(n) % groups


def test_every_named_penalty_is_in_the_table() -> None:
    tested = {type(case()) for case in CASES}
    assert set(PENALTIES.values()) <= tested


@only("zero_when_equal")
def test_zero_when_groups_are_equal(case: Case) -> None:
    logits = torch.linspace(-2, 2, 6, dtype=torch.float64).repeat_interleave(4)
    targets = torch.tensor([0, 1, 0, 1, 1, 0]).repeat_interleave(4)
    loss = case()(logits, targets, torch.arange(24) % 4)
    assert abs(loss.item()) < 1e-12


@every
def test_sees_a_difference_between_groups(case: Case) -> None:
    logits, targets, codes = rows()
    loss = case()(logits - 3.0 * (codes == 0), targets, codes)
    assert loss.item() > 0


@only("non_negative")
@pytest.mark.parametrize("seed", range(5))
def test_non_negative(case: Case, seed: int) -> None:
    assert case()(*rows(seed=seed)).item() >= -1e-15


@every
def test_order_of_rows_does_not_matter(case: Case) -> None:
    logits, targets, codes = rows()
    order = torch.randperm(len(codes), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        case()(logits[order], targets[order], codes[order]), case()(logits, targets, codes)
    )


@only("renaming")
def test_names_of_groups_do_not_matter(case: Case) -> None:
    logits, targets, codes = rows(23)
    renamed = torch.tensor([2, 0, 3, 1])[codes]
    torch.testing.assert_close(case()(logits, targets, renamed), case()(logits, targets, codes))


AWKWARD = {
    "absent group": (rows(12, 3)[0], rows(12, 3)[1], rows(12, 3)[2]),
    "single group": (rows()[0], rows()[1], torch.zeros(24, dtype=torch.int64)),
    "no known group": (rows()[0], rows()[1], torch.full((24,), -1)),
    "one class": (rows()[0], torch.ones(24), rows()[2]),
    "saturated": (50.0 * rows()[0].sign(), rows()[1], rows()[2]),
    "constant scores": (torch.zeros(24, dtype=torch.float64), rows()[1], rows()[2]),
    "one row": (torch.zeros(1, dtype=torch.float64), torch.ones(1), torch.tensor([2])),
    "no rows": (torch.zeros(0), torch.zeros(0), torch.zeros(0, dtype=torch.int64)),
}


@every
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("awkward", AWKWARD)
def test_value_and_gradient_are_finite(case: Case, awkward: str, training: bool) -> None:
    logits, targets, codes = AWKWARD[awkward]
    logits = logits.clone().requires_grad_()
    loss = case().train(training)(logits, targets, codes)
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@only("zero_alone")
@pytest.mark.parametrize("awkward", ["single group", "one row", "no known group", "no rows"])
def test_nothing_to_compare_is_exactly_zero_and_back_propagates(case: Case, awkward: str) -> None:
    logits, targets, codes = AWKWARD[awkward]
    logits = logits.clone().requires_grad_()
    loss = case()(logits, targets, codes)
    assert loss.item() == 0
    loss.backward()
    assert logits.grad is not None
    assert not logits.grad.any()


@every
def test_unknown_rows_are_left_out(case: Case) -> None:
    logits, targets, codes = rows()
    more = torch.tensor([9.0, -7.0], dtype=torch.float64)
    torch.testing.assert_close(
        case()(
            torch.cat([logits, more]),
            torch.cat([targets, torch.tensor([1, 0])]),
            torch.cat([codes, torch.tensor([-1, -1])]),
        ),
        case()(logits, targets, codes),
    )


@only("copies")
def test_a_weight_of_two_is_a_row_twice(case: Case) -> None:
    logits, targets, codes = rows()
    weights = torch.ones(24, dtype=torch.float64)
    weights[3] = 2
    again = torch.cat([torch.arange(24), torch.tensor([3])])
    torch.testing.assert_close(
        case()(logits, targets, codes, sample_weight=weights),
        case()(logits[again], targets[again], codes[again]),
    )


@only(lambda case: not case.constants)
def test_gradient_agrees_with_finite_differences(case: Case) -> None:
    logits, targets, codes = rows(13, 3)
    # A bandwidth from the data is a constant for the gradient.
    loss = case(**({"bandwidth": 0.3} if issubclass(type(case()), KernelLoss) else {})).eval()
    loss(logits, targets, codes)
    assert torch.autograd.gradcheck(
        lambda z: loss(z, targets, codes), logits.requires_grad_(), atol=1e-6
    )


@every
def test_column_shapes_agree_with_flat_ones(case: Case) -> None:
    logits, targets, codes = rows()
    torch.testing.assert_close(
        case()(logits.unsqueeze(1), targets.unsqueeze(1), codes.unsqueeze(1)),
        case()(logits, targets, codes),
    )


@only("classes")
def test_two_columns_agree_with_one_logit(case: Case) -> None:
    logits, targets, codes = rows()
    two = torch.stack([torch.zeros_like(logits), logits], dim=1)
    torch.testing.assert_close(case()(two, targets, codes), case()(logits, targets, codes))


@only(lambda case: case.classes or case.representation)
def test_three_columns_have_finite_gradients(case: Case) -> None:
    logits = torch.randn(24, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = case()(logits, torch.arange(24) % 3, torch.arange(24) % 4)
    loss.backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@every
@pytest.mark.parametrize(
    ("logits", "codes"), [((8, 1, 1), (8,)), ((8,), (7,)), ((8,), (1, 8)), ((8, 1), (9, 1))]
)
def test_shapes_that_would_broadcast_raise(
    case: Case, logits: tuple[int, ...], codes: tuple[int, ...]
) -> None:
    with pytest.raises(InvalidDataError, match="shape"):
        case()(torch.zeros(logits), torch.zeros(8), torch.zeros(codes, dtype=torch.int64))


@only(lambda case: case().target_kind != "none")
@pytest.mark.parametrize("targets", [(1, 8), (7,), (8, 2), ()])
def test_targets_that_would_broadcast_raise(case: Case, targets: tuple[int, ...]) -> None:
    with pytest.raises(InvalidDataError, match="shape"):
        case()(torch.zeros(8), torch.zeros(targets), torch.zeros(8, dtype=torch.int64))


@every
def test_codes_out_of_range_raise(case: Case) -> None:
    logits, targets, codes = rows()
    with pytest.raises(InvalidDataError, match="num_groups"):
        case()(logits, targets, codes + 1)


@every
def test_losses_without_labels_take_none_and_the_others_say_so(case: Case) -> None:
    logits, _, codes = rows()
    loss = case()
    if loss.target_kind == "none":
        assert torch.isfinite(loss(logits, None, codes))
    else:
        with pytest.raises(InvalidDataError, match="needs targets"):
            loss(logits, None, codes)


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_low_precision_logits_are_judged_in_float32(case: Case, dtype: torch.dtype) -> None:
    logits, targets, codes = rows()
    low = logits.to(dtype)
    loss = case()(low, targets, codes)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, case()(low.float(), targets, codes))


@every
def test_bfloat16_autocast_smoke(case: Case) -> None:
    _, targets, codes = rows()
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(torch.randn(24, 3))
        loss = case()(logits, targets, codes)
    assert logits.dtype == torch.bfloat16
    loss.backward()
    assert torch.isfinite(model.weight.grad).all()


@only("vmap")
def test_vmap_over_stacked_models(case: Case) -> None:
    _, targets, codes = rows()
    x = torch.randn(24, 3, generator=torch.Generator().manual_seed(0))
    models = [torch.nn.Linear(3, 1) for _ in range(3)]
    parameters, buffers = torch.func.stack_module_state(models)
    loss = case()

    def judged(p: dict[str, Tensor], b: dict[str, Tensor]) -> Tensor:
        return loss(torch.func.functional_call(models[0], (p, b), (x,)), targets, codes)

    together = torch.func.vmap(judged)(parameters, buffers)
    alone = torch.stack([loss(model(x), targets, codes) for model in models])
    torch.testing.assert_close(together, alone)
    gradient = torch.func.vmap(torch.func.grad(judged))(parameters, buffers)
    for i, model in enumerate(models):
        model.zero_grad()
        loss(model(x), targets, codes).backward()
        torch.testing.assert_close(gradient["weight"][i], model.weight.grad)


@every
def test_state_dict_and_copies_keep_the_loss(case: Case) -> None:
    import copy
    import pickle

    batch = rows()
    loss = case()
    loss(*batch)
    again = case()
    again.load_state_dict(loss.state_dict())
    for other in (again, copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        torch.testing.assert_close(other.eval()(*batch), loss.eval()(*batch))


COMPILED = ["equalized_odds-max_gap", "hsic", "memory"]


@pytest.fixture
def unchecked_shapes() -> Iterator[None]:
    jaxtyping = pytest.importorskip("jaxtyping")
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # raised inside torch's tracer
@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("name", COMPILED)
def test_compiles_without_graph_break(name: str) -> None:
    case = next(case for case in CASES if case.name == name)
    compare_compiled(case(), backend="aot_eager")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # raised inside torch's tracer
@pytest.mark.usefixtures("unchecked_shapes")
def test_regularizer_compiles_without_graph_break() -> None:
    compare_compiled(FairnessRegularizerLoss(num_groups=4), backend="aot_eager")


def compare_compiled(loss: torch.nn.Module, backend: str) -> None:
    import copy

    logits, targets, codes = rows()
    eager = logits.clone().requires_grad_()
    compiled = logits.clone().requires_grad_()
    expected = copy.deepcopy(loss)(eager, targets.double(), codes)
    expected.backward()
    torch._dynamo.reset()
    found = torch.compile(loss, backend=backend, fullgraph=True)(compiled, targets.double(), codes)
    found.backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(compiled.grad, eager.grad)
