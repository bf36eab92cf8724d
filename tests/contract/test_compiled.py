"""Every configs/strategy/*.yaml with a compiled backbone: the same training up to rounding, or a clear refusal."""

import pytest
import torch

from mtl.errors import RequirementError
from tests.problems import (
    VARIANTS,
    adam,
    build_strategy,
    distance,
    fast_warmup,
    make_batches,
    make_objective,
    parameters_of,
    train,
)


def looks_at_layers(variant) -> bool:
    """Whether a strategy puts something between the layers, or asks for gradients in the middle of the backbone."""
    refused = ("strategy.gramian=ghost", "strategy.gramian=sketch")
    at_layers = variant.name == "maximum_roaming" or variant.level == "last_layer"
    return at_layers or any(override.lstrip("+") in refused for override in variant.overrides)


@pytest.fixture(autouse=True)
def _forget_compiled_code():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def trained(name, backend, *overrides):
    objective = make_objective(batch_norm=True)
    if backend:
        objective.model.compile_backbone(backend)
    batches = make_batches(count=5)
    batches[-1] = make_batches(count=5, size=6)[-1]  # the last batch of an epoch is smaller
    train(build_strategy(name, *fast_warmup(name), *overrides), objective, batches, adam)
    return objective


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, variant in VARIANTS.items() if not looks_at_layers(variant)])
def test_compiled_training_is_plain_training(name):
    """`aot_eager` traces forward and backward as `inductor` does, and generates no code: the seconds it takes."""
    plain, compiled = trained(name, None), trained(name, "aot_eager")
    assert list(plain.model.state_dict()) == list(compiled.model.state_dict())
    assert distance(parameters_of(plain), parameters_of(compiled)) < 1e-9
    torch.testing.assert_close(plain.model.state_dict(), compiled.model.state_dict(), rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["uniform", "mgda", "igd_per_task", "mao"])
def test_with_the_backend_that_runs_use(name):
    plain, compiled = trained(name, None), trained(name, "inductor")
    assert distance(parameters_of(plain), parameters_of(compiled)) < 1e-9


@pytest.mark.parametrize(
    ("name", "override"),
    [
        ("mgda", "strategy.gramian=ghost"),
        ("mgda", "strategy.gramian=sketch"),
        ("maximum_roaming", None),
        ("gradnorm", None),
        ("gradnorm", "strategy.level=last_layer"),
    ],
)
def test_strategies_that_look_at_single_layers_refuse(name, override):
    with pytest.raises(RequirementError, match=r"trainer\.compile=false"):
        trained(name, "eager", *([override] if override else []))
