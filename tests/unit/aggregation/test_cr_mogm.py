"""CR-MOGM: an average of another method's weights."""

import pytest
import torch

from mtl.aggregation import CRMOGM, MGDA, PCGrad
from mtl.errors import ConfigError
from tests.unit.aggregation.jacobians import jacobian


def ready(weighting, m=4, **options):
    method = CRMOGM(weighting, **options)
    method.setup(m, torch.Generator().manual_seed(0))
    return method


def gramians(count=5):
    return [rows @ rows.T for rows in (jacobian(4, 9, seed) for seed in range(count))]


def test_the_average_by_hand():
    method, losses = ready(MGDA(), alpha=0.75), torch.ones(4, dtype=torch.float64)
    expected = None
    for gramian in gramians():
        new = MGDA()(gramian, losses)
        expected = new if expected is None else 0.75 * expected + 0.25 * new
        torch.testing.assert_close(method(gramian, losses), expected)
    assert method.average.sum().item() == pytest.approx(1)
    assert "duality_gap" in method.diagnostics


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_limits(alpha):
    """0: the method itself; 1: the first weights for ever."""
    method, losses = ready(MGDA(), alpha=alpha), torch.ones(4, dtype=torch.float64)
    own = [MGDA()(gramian, losses) for gramian in gramians()]
    for found, new in zip([method(gramian, losses) for gramian in gramians()], own, strict=True):
        torch.testing.assert_close(found, own[0] if alpha else new)


def test_passes_the_generator_on_and_keeps_its_state():
    losses = torch.ones(4, dtype=torch.float64)
    first = ready(PCGrad())
    for gramian in gramians(3):
        first(gramian, losses)
    second = ready(PCGrad())
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.average, second.average)
    assert not torch.isnan(second.average).any()


def test_options_are_checked():
    with pytest.raises(ConfigError, match="alpha"):
        CRMOGM(MGDA(), alpha=1.5)
