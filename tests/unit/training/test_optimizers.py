"""Adam and AdamW give what torch's give, to the bit, whatever the options and whoever listens."""

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.profiler import ProfilerActivity, profile

from mtl.training import optimizers

SHAPES = ((20, 3), (7,), (2, 3, 4, 5), ())
PAIRS = {"adam": (optimizers.Adam, torch.optim.Adam), "adamw": (optimizers.AdamW, torch.optim.AdamW)}
OPTIONS: dict[str, dict[str, object]] = {
    "plain": {},
    "decay": {"weight_decay": 0.1},
    "maximize": {"maximize": True},
    "betas": {"betas": (0.5, 0.8), "eps": 1e-3},
    "amsgrad": {"amsgrad": True},
    "loop": {"fused": False},
    "tensor lr": {"lr": torch.tensor(0.01)},
}


def parameters(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in SHAPES]


def train(optimizer: Optimizer, tensors: list[Tensor], steps: int, seed: int = 2, skip: int | None = None) -> None:
    """So many steps with drawn gradients; parameter number `skip` has none in the odd ones."""
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        for index, tensor in enumerate(tensors):
            drawn = torch.randn(tensor.shape, generator=generator).to(tensor)
            tensor.grad = None if index == skip and step % 2 else drawn
        optimizer.step()


def assert_same(ours: Optimizer, theirs: Optimizer) -> None:
    for mine, other in zip(ours.param_groups, theirs.param_groups, strict=True):
        for p, q in zip(mine["params"], other["params"], strict=True):
            assert torch.equal(p, q)
            assert list(ours.state[p]) == list(theirs.state[q])
            assert all(torch.equal(ours.state[p][key], theirs.state[q][key]) for key in ours.state[p])


@pytest.fixture
def direct_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every direct call of a kernel."""
    calls: list[int] = []
    update: Callable[..., None] = optimizers._update

    def counted(*arguments: object, decoupled: bool) -> None:
        calls.append(1)
        update(*arguments, decoupled=decoupled)

    monkeypatch.setattr(optimizers, "_update", counted)
    return calls


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", PAIRS)
def test_equal_to_torch(name: str, options: str, dtype: torch.dtype, direct_steps: list[int]) -> None:
    mine, other = parameters(dtype), parameters(dtype)
    settings = {"lr": 0.01, "fused": True, **OPTIONS[options]}
    ours, theirs = (
        kind([{"params": tensors[:2]}, {"params": tensors[2:], "lr": 0.1}], **settings)
        for kind, tensors in zip(PAIRS[name], (mine, other), strict=True)
    )
    train(ours, mine, 6, skip=3)
    train(theirs, other, 6, skip=3)
    assert_same(ours, theirs)
    groups_a_step = 2
    # tensors as learning rates, amsgrad and the loop are torch's; the last parameter's states come in the first step
    assert len(direct_steps) == (5 * groups_a_step if options in ("plain", "decay", "maximize", "betas") else 0)


def test_parameters_of_two_types_in_one_group() -> None:
    mine = parameters() + parameters(torch.float64)
    other = parameters() + parameters(torch.float64)
    ours, theirs = optimizers.Adam(mine, fused=True), torch.optim.Adam(other, fused=True)
    train(ours, mine, 4)
    train(theirs, other, 4)
    assert_same(ours, theirs)


def test_states_are_torchs_in_both_directions(direct_steps: list[int]) -> None:
    mine, other = parameters(), parameters()
    ours, theirs = optimizers.Adam(mine, fused=True), torch.optim.Adam(other, fused=True)
    train(ours, mine, 3)
    theirs.load_state_dict(copy.deepcopy(ours.state_dict()))
    for p, q in zip(other, mine, strict=True):
        p.data.copy_(q)
    fresh = optimizers.Adam(mine, fused=True)
    fresh.load_state_dict(copy.deepcopy(theirs.state_dict()))
    direct_steps.clear()
    train(fresh, mine, 2, seed=3)
    train(theirs, other, 2, seed=3)
    assert_same(fresh, theirs)
    assert len(direct_steps) == 2


def test_hooks_see_the_arguments_that_were_given() -> None:
    tensors, seen = parameters(), []
    ours = optimizers.Adam(tensors, fused=True)
    ours.register_step_pre_hook(lambda _, arguments, named: seen.append((arguments[1:], named)))
    train(ours, tensors, 1)
    assert seen == [((), {})]


def test_what_torch_refuses_later_is_refused() -> None:
    tensors = parameters()
    ours = optimizers.Adam(tensors, fused=True)
    train(ours, tensors, 2)
    ours.param_groups[0]["differentiable"] = True
    with pytest.raises(RuntimeError, match="differentiable"):
        train(ours, tensors, 1)


@pytest.mark.parametrize("torch_first", [True, False])
def test_hooks_are_called_once_a_step(torch_first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if torch_first:
        torch.optim.Adam(parameters())  # from now on torch's class calls hooks by itself
        assert hasattr(torch.optim.Adam.step, "hooked")
    elif hasattr(torch.optim.Adam.step, "hooked"):
        monkeypatch.setattr(torch.optim.Adam, "step", torch.optim.Adam.step.__wrapped__)
    tensors = parameters()
    ours = optimizers.Adam(tensors, fused=True)
    called: list[str] = []
    ours.register_step_pre_hook(lambda *_: called.append("before"))
    handle = ours.register_step_post_hook(lambda *_: called.append("after"))
    train(ours, tensors, 2)
    assert called == ["before", "after"] * 2
    handle.remove()
    train(ours, tensors, 1)
    assert called[4:] == ["before"]


def test_a_profile_shows_the_step() -> None:
    tensors = parameters()
    ours = optimizers.Adam(tensors, fused=True)
    train(ours, tensors, 1)
    with profile(activities=[ProfilerActivity.CPU]) as found:
        train(ours, tensors, 1)
    assert any(event.key == "Optimizer.step#Adam.step" for event in found.key_averages())


def test_a_closure_is_evaluated() -> None:
    (tensor,) = [torch.ones(3, requires_grad=True)]
    ours = optimizers.Adam([tensor], lr=0.1, fused=True)

    def closure() -> Tensor:
        tensor.grad = None
        loss = tensor.square().sum()
        loss.backward()
        return loss

    first, second = ours.step(closure), ours.step(closure)
    assert first == 3
    assert second is not None
    assert second < first


def test_schedulers_count_steps(direct_steps: list[int]) -> None:
    tensors = parameters()
    ours = optimizers.Adam(tensors, lr=0.1, fused=True)
    scheduler = torch.optim.lr_scheduler.StepLR(ours, 1, gamma=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns where a scheduler moves before the optimizer did
        for _ in range(3):
            train(ours, tensors, 1)
            scheduler.step()
    assert ours.param_groups[0]["lr"] == pytest.approx(0.0125)
    assert len(direct_steps) == 2
