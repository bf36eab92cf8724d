"""The sketched Gramian: exact where it can be, right on average elsewhere, and without side effects."""

import pytest
import torch
from torch import nn

from mtl.aggregation import MGDA, Constant, MoCo
from mtl.errors import ConfigError, RequirementError
from mtl.gradients import FeatureJacobian, GramianAverage, SketchGramian, TaskJacobian, gramian
from mtl.gradients.sketch import SAMPLE, add_signs, factored, random_signs, root_mean_square
from mtl.models.model import MultiTaskModel
from mtl.strategies import GradientStrategy
from tests.problems import adam, distance, make_batches, make_model, make_objective, parameters_of, train

TASKS = ("a", "b", "c")
NONE = [None] * 3


def generator(seed: int = 0):
    return torch.Generator().manual_seed(seed)


def measured(source, objective, batch):
    found = source.measure(source.evaluate(batch), NONE)
    source.reset()
    return found


def around(trunk: nn.Module):
    torch.manual_seed(0)
    return make_objective(model=MultiTaskModel(trunk, {task: nn.Linear(6, 3) for task in TASKS}).double().train())


class Trunk(nn.Module):
    out_features = 6

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, inputs):
        return self.layers(inputs)


def test_one_layer_on_vectors_is_exact():
    """All shared parameters lie in the last layer, whose part is not estimated; no second forward."""
    objective, batch = around(Trunk(nn.Linear(5, 6), nn.Tanh())), make_batches(count=1)[0]
    source = SketchGramian(objective, generator())
    found = source.measure(source.evaluate(batch), NONE)
    assert source.count.forwards == 0
    torch.testing.assert_close(found, measured(TaskJacobian(objective), objective, batch), rtol=1e-9, atol=1e-12)


def test_a_scale_of_all_features_is_exact():
    """Z = s X, one parameter: N = X X^T over all entries, of rank one, for which a difference along r tells all.

    The sketch's A (x) M / tr A is exact for a batch of one: then A is a number.
    """

    class Scale(nn.Module):
        out_features = 5

        def __init__(self):
            super().__init__()
            self.s = nn.Parameter(torch.tensor([0.7]))

        def forward(self, inputs):
            return self.s * inputs

    torch.manual_seed(0)
    model = MultiTaskModel(Scale(), {task: nn.Linear(5, 3) for task in TASKS}).double().train()
    objective, batch = make_objective(model=model), make_batches(count=1, size=1)[0]
    found = measured(SketchGramian(objective, generator()), objective, batch)
    torch.testing.assert_close(found, measured(TaskJacobian(objective), objective, batch), rtol=1e-8, atol=1e-12)


def test_the_finite_difference_is_the_derivative():
    objective, batch = make_objective(batch_norm=True), make_batches(count=1)[0]
    source = SketchGramian(objective, generator(3))
    z = source.evaluate(batch).features[0].detach()
    zdot = source._derivative(z)
    names, below = list(source._names), source._below
    assert [name.rpartition(".")[0] for name in names] == ["first", "first", "norm", "norm"]
    start = [torch.zeros_like(p) for p in below]
    signs = [torch.zeros_like(p) for p in below]
    add_signs(signs, start, 1.0, generator(3))
    assert all(set(sign.unique().tolist()) <= {-1.0, 1.0} for sign in signs)

    def features(*values):
        return torch.func.functional_call(objective.model.backbone, dict(zip(names, values, strict=True)), batch.inputs)

    _, expected = torch.autograd.functional.jvp(features, tuple(p.detach() for p in below), tuple(signs))
    torch.testing.assert_close(zdot, expected, rtol=2e-2, atol=2e-2 * expected.abs().max().item())


def test_a_weight_of_two_layers_moves_in_both():
    class Tied(Trunk):
        def __init__(self):
            super().__init__(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh())
            self.last = nn.Linear(8, 6)
            self.layers[4].weight = self.layers[2].weight

        def forward(self, inputs):
            return torch.tanh(self.last(self.layers(inputs)))

    objective, batch = around(Tied()), make_batches(count=1)[0]
    source = SketchGramian(objective, generator(3))
    z = source.evaluate(batch).features[0].detach()
    zdot = source._derivative(z)
    signs = [torch.zeros_like(p) for p in source._below]
    add_signs(signs, [torch.zeros_like(p) for p in signs], 1.0, generator(3))
    names = {id(p): name for name, p in objective.model.backbone.named_parameters()}  # each weight once

    def features(*values):
        values = dict(zip([names[id(p)] for p in source._below], values, strict=True))
        return torch.func.functional_call(objective.model.backbone, values, batch.inputs)

    _, expected = torch.autograd.functional.jvp(features, tuple(p.detach() for p in source._below), tuple(signs))
    torch.testing.assert_close(zdot, expected, rtol=2e-2, atol=2e-2 * expected.abs().max().item())


def test_bfloat16_is_refused():
    objective = make_objective(dtype=torch.float32)
    objective.model.use_precision("bfloat16")
    with pytest.raises(RequirementError, match=r"trainer\.precision=float32"):
        GradientStrategy(MGDA(), gramian="sketch").setup(objective, adam, generator())


def test_factored_is_the_kronecker_product():
    torch.manual_seed(0)
    for size, width in ((4, 3), (3, 4)):
        zdot, rows = (torch.randn(*shape, dtype=torch.float64) for shape in ((size, width), (5, size, width)))
        similarity = torch.kron(zdot @ zdot.T, zdot.T @ zdot) / zdot.square().sum()
        flat = rows.reshape(5, -1)
        torch.testing.assert_close(factored(zdot, rows), flat @ similarity @ flat.T)
        assert torch.trace(similarity).item() == pytest.approx(zdot.square().sum().item())
    assert factored(torch.zeros(2, 3), torch.ones(5, 2, 3)).abs().max() == 0


def test_the_mean_over_directions_is_near_the_exact_gramian():
    """Biased by its factored form, but no further from the truth than that; one direction is a rough estimate."""
    objective, batch = make_objective(), make_batches(count=1, size=24)[0]
    exact = measured(TaskJacobian(objective), objective, batch)
    source = SketchGramian(objective, generator())
    samples = torch.stack([measured(source, objective, batch) for _ in range(300)])

    def off(found):
        return ((found - exact).norm() / exact.norm()).item()

    assert off(samples.mean(0)) < 0.15
    assert off(samples.mean(0)) < sum(map(off, samples)) / len(samples)
    assert torch.linalg.eigvalsh(samples).min() > -1e-9 * exact.norm()


def test_signs_are_independent_and_add_up():
    signs = random_signs(100_003, generator(), torch.empty(0, dtype=torch.float32))
    assert signs.shape == (100_003,)
    assert abs(signs.mean().item()) < 0.02
    assert abs((signs[1:] * signs[:-1]).mean().item()) < 0.02
    start = [torch.randn(3, 70_000), torch.randn(5)]
    out = [torch.empty_like(t) for t in start]
    add_signs(out, start, 0.5, generator(1))
    moved = [((a - b) / 0.5).round() for a, b in zip(out, start, strict=True)]
    assert all(m.abs().eq(1).all() for m in moved)
    first, second = moved[0].view(-1)[:65536], moved[0].view(-1)[65536 : 2 * 65536]
    assert abs((first * second).mean().item()) < 0.03


def test_entries_of_a_direction_are_uncorrelated():
    """E[r r^T] = I, also between pieces that are cut from the same pool."""
    total, count, draws = torch.zeros(24, 24), 24, 4000
    stream = generator(5)
    for _ in range(draws):
        out = [torch.empty(10), torch.empty(14)]
        add_signs(out, [torch.zeros(10), torch.zeros(14)], 1.0, stream)
        r = torch.cat(out)
        total += torch.outer(r, r)
    assert (total / draws - torch.eye(count)).abs().max().item() < 5 / draws**0.5


def test_nothing_moves():
    """Parameters, running statistics, global generators: as without the second forward; the same dropout masks."""
    objective = around(Trunk(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 6), nn.Tanh()))
    plain = around(Trunk(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 6), nn.Tanh()))
    plain.model.load_state_dict(objective.model.state_dict())
    batch = make_batches(count=1)[0]
    torch.manual_seed(4)
    source = SketchGramian(objective, generator())
    source.measure(source.evaluate(batch), NONE)
    mine = torch.get_rng_state()
    torch.manual_seed(4)
    plain.evaluate(batch)
    assert torch.equal(mine, torch.get_rng_state())
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, objective.model.state_dict()[name]), name


def test_dropout_masks_are_those_of_the_step():
    """With other masks the difference of the features would be of order 1 / eps."""
    objective = around(Trunk(nn.Linear(5, 8), nn.Dropout(0.5), nn.Linear(8, 6), nn.Tanh()))
    source = SketchGramian(objective, generator())
    z = source.evaluate(make_batches(count=1)[0]).features[0].detach()
    assert source._derivative(z).abs().max() < 50


@pytest.mark.parametrize("how", ["features", "sketch"])
def test_a_model_without_shared_features_is_refused(how):
    model = make_model(TASKS)
    model.heads["b"].weight = model.heads["a"].weight
    objective = make_objective(model=model)
    with pytest.raises(RequirementError, match="features"):
        GradientStrategy(MGDA(), gramian=how).setup(objective, adam, generator())


def test_maps_are_refused():
    class Maps(nn.Module):
        out_features = 6

        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(5, 24)

        def forward(self, inputs):
            return self.layer(inputs).view(-1, 6, 2, 2)

    model = MultiTaskModel(Maps(), {t: nn.Sequential(nn.Flatten(), nn.Linear(24, 3)) for t in TASKS}).double()
    objective = make_objective(model=model)
    with pytest.raises(ConfigError, match=r"\(6, 2, 2\)"):
        GradientStrategy(MGDA(), gramian="sketch").setup(objective, adam, generator())
    assert objective.model.training


@pytest.mark.parametrize("options", [{"gramian": "sketch"}, {"gramian": "features"}, {"ema": 0.9}])
def test_methods_that_read_rows_are_refused(options):
    with pytest.raises(ConfigError, match="MoCo"):
        GradientStrategy(MoCo(), **options)


@pytest.mark.parametrize("value", [1, 1.0, -0.1, "much"])
def test_wrong_ema(value):
    with pytest.raises(ConfigError, match="ema"):
        GradientStrategy(MGDA(), ema=value)


@pytest.mark.parametrize("how", ["features", "sketch"])
@pytest.mark.parametrize("every", [1, 3])
def test_constant_weights_are_uniform_whatever_the_gramian(how, every):
    batches, results = make_batches(), []
    for gram in ("exact", how):
        objective = make_objective()
        train(GradientStrategy(Constant(1.0), gramian=gram, weights_every=every, ema=0.5), objective, batches, adam)
        results.append(parameters_of(objective))
    assert distance(*results) < 1e-12


def test_features_at_the_parameter_level_are_the_feature_level():
    batches, results = make_batches(), []
    for options in ({"gramian": "features"}, {"level": "features"}):
        objective = make_objective()
        train(GradientStrategy(MGDA(), **options), objective, batches, adam)
        results.append(parameters_of(objective))
    assert distance(*results) == 0
    objective = make_objective()
    rows = FeatureJacobian(objective)
    found = rows.measure(rows.evaluate(batches[0]), NONE)
    torch.testing.assert_close(found, gramian(rows.rows))


def test_the_average_is_what_the_formula_says():
    average = GramianAverage(0.7)
    stream = generator(2)
    seen = [torch.randn(2, 2, generator=stream, dtype=torch.float64) for _ in range(5)]
    found = [average(g) for g in seen]
    for t in range(5):
        factors = [0.3 * 0.7 ** (t - s) for s in range(t + 1)]
        expected = sum(f * g for f, g in zip(factors, seen, strict=False)) / sum(factors)
        torch.testing.assert_close(found[t], expected)
    assert torch.equal(found[0], seen[0] * 0.3 / (1 - 0.7)) or torch.allclose(found[0], seen[0])
    assert average.diagnostics == {"gramians_averaged": 5.0}
    other = GramianAverage(0.7)
    other.load_state_dict(average.state_dict())
    assert torch.equal(other(seen[0]), average(seen[0]))


def test_the_average_decides_the_weights():
    """A method sees the average: with a long memory its weights change less from step to step."""
    spreads = []
    for ema in (0.0, 0.9):
        reports = train(GradientStrategy(MGDA(), ema=ema), make_objective(), make_batches(count=12), adam)
        weights = torch.stack([report.weights for report in reports])
        spreads.append((weights[1:] - weights[:-1]).abs().mean().item())
    assert spreads[1] < spreads[0]
    assert reports[-1].diagnostics["gramians_averaged"] == 12


def test_root_mean_square_is_exact_for_small_tensors_and_close_for_large_ones():
    small = [torch.randn(shape, generator=generator(3)) for shape in ((7, 5), (), (SAMPLE,))]
    exact = torch.cat([t.reshape(-1) for t in small]).square().mean().sqrt().item()
    assert root_mean_square(small) == pytest.approx(exact, rel=1e-6)
    large = [*small, 3 * torch.randn(64, 64, 3, 3, generator=generator(4)).to(memory_format=torch.channels_last)]
    exact = torch.cat([t.reshape(-1) for t in large]).square().mean().sqrt().item()
    assert root_mean_square(large) == pytest.approx(exact, rel=0.05)
    padded = torch.cat([torch.zeros(100, 512), torch.randn(100, 512, generator=generator(5))])
    assert root_mean_square([padded]) == pytest.approx(padded.square().mean().sqrt().item(), rel=0.05)
    centres = torch.zeros(64, 64, 3, 3)
    centres[:, :, 1, 1] = 1.0
    assert root_mean_square([centres]) == pytest.approx(1 / 3, rel=0.05)
    assert root_mean_square([torch.zeros(3), torch.zeros(0)]) == 0
