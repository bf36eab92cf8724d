"""Sum of logarithms."""

import pytest
import torch

from mtl.errors import NonFiniteError
from mtl.strategies import LossWeightingStrategy
from mtl.weighting import SI
from tests.problems import distance, make_batches, make_objective, make_spec, parameters_of, sgd, train
from tests.toys import scaled_loss


def make():
    weighting = SI()
    weighting.setup(("a", "b", "c"), ("regression",) * 3, torch.Generator())
    return weighting


def test_by_hand():
    losses = torch.tensor([2.0, 0.5, 4.0], dtype=torch.float64)
    assert make()(losses).item() == pytest.approx(torch.tensor(4.0).log().item())
    assert make().weigh(losses).tolist() == pytest.approx([0.5, 2.0, 0.25], rel=1e-12)


def test_a_factor_on_a_loss_changes_nothing():
    """Under SGD, which does not normalise by itself; log(1 + L) would fail here."""
    results = []
    for factor in (1, 100):
        objective = make_objective(specs=[make_spec("a"), make_spec("b", loss=scaled_loss(factor)), make_spec("c")])
        train(LossWeightingStrategy(SI()), objective, make_batches(), sgd)
        results.append(parameters_of(objective))
    assert distance(*results) < 1e-12


@pytest.mark.parametrize("bad", [0.0, -1e-9])
def test_losses_have_to_be_positive(bad):
    with pytest.raises(NonFiniteError, match=r"SI is defined for losses > 0. Found a = .*, c = ") as caught:
        make().weigh(torch.tensor([bad, 1.0, bad]))
    assert caught.value.tasks == ("a", "c")
