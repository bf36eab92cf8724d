"""The laws of the strategies, over every configs/strategy/*.yaml at every level; exceptions: `exceptions.py`."""

import copy

import pytest
import torch

from mtl.aggregation import Constant
from mtl.errors import ConfigError, NonFiniteError
from mtl.grouping import RandomGroups
from mtl.objective import MultiTaskObjective
from mtl.strategies import GradientStrategy, SequentialStrategy, SimultaneousStrategy
from tests.contract.exceptions import EXCEPTIONS, LAWS, excused, hint
from tests.problems import (
    STRATEGIES,
    VARIANTS,
    adam,
    begin,
    build_strategy,
    distance,
    fast_warmup,
    make_batches,
    make_model,
    make_objective,
    make_spec,
    parameters_of,
    plain_steps,
    sgd,
    train,
)

TASKS = ("a", "b", "c")


def test_the_table_of_exceptions_is_about_laws_and_methods_that_exist():
    for law, name, *level in EXCEPTIONS:
        assert law in LAWS
        assert name in STRATEGIES
        assert not level or level[0] in {v.level for v in VARIANTS.values() if v.name == name}
        assert not (level and (law, name) in EXCEPTIONS)
    assert all(EXCEPTIONS.values())


def test_every_level_of_every_method_is_there():
    """At `parameters` and at `features` where it is defined; elsewhere it has to be refused."""
    for name in STRATEGIES:
        variants = [variant for variant in VARIANTS.values() if variant.name == name]
        base = variants[0].level
        if base is None:
            assert len(variants) == 1
            continue
        for level in ("parameters", "features"):
            if level not in {variant.level for variant in variants}:
                with pytest.raises(ConfigError, match="level"):
                    build_strategy(name, f"strategy.level={level}")
    assert {"cagrad", "cagrad-features", "cagrad-features-summed", "mgda_ub-parameters"} < set(VARIANTS)
    assert {"cagrad-gramian-ghost", "mgda-gramian-sketch", "pcgrad-gramian-features"} < set(VARIANTS)


@pytest.mark.parametrize("name", VARIANTS)
def test_law_02_one_task_is_plain_training(name):
    """With one task every method is single-task training with the configured optimizer."""
    objective = make_objective(("a",))
    plain = make_objective(("a",))
    batches = make_batches(("a",))
    optimizer = sgd if excused("single_task", name) else adam  # Adam hides a constant factor
    train(build_strategy(name, *fast_warmup(name)), objective, batches, optimizer)
    difference = distance(parameters_of(objective), plain_steps(plain, batches, optimizer))
    if excused("single_task", name):
        assert difference > 1e-6, "no exception any more: remove it from the table"
    else:
        assert difference < 1e-12, hint("single_task", name)


@pytest.mark.parametrize("level", ["parameters", "features", "last_layer"])
def test_law_03_sum_of_rows_is_uniform(level):
    objective, plain = make_objective(), make_objective()
    batches = make_batches()
    train(GradientStrategy(Constant(1.0), level=level), objective, batches, adam)
    assert distance(parameters_of(objective), plain_steps(plain, batches, adam)) < 1e-12


@pytest.mark.parametrize("level", ["parameters", "last_layer"])
def test_law_03_without_shared_features(level):
    """A shared layer past the features: no feature level, but the sum of rows is still uniform."""

    def objective():
        model = make_model(TASKS)
        model.heads["b"].weight = model.heads["a"].weight
        return make_objective(model=model)

    mine, plain = objective(), objective()
    assert not mine.exposes_features
    batches = make_batches()
    train(GradientStrategy(Constant(1.0), level=level), mine, batches, adam)
    assert distance(parameters_of(mine), plain_steps(plain, batches, adam)) < 1e-12


@pytest.mark.parametrize("state", ["shared", "per_task"])
def test_law_03_one_group_of_all_tasks_is_uniform(state):
    objective, plain = make_objective(), make_objective()
    batches = make_batches()
    train(SequentialStrategy(RandomGroups(group_size=3), optimizer_state=state), objective, batches, adam)
    assert distance(parameters_of(objective), plain_steps(plain, batches, adam)) < 1e-12


def test_law_03_constant_weights_at_weights_every():
    """Steps that reuse weights (no Gramian) and steps that measure one are the same for constant weights."""
    batches = make_batches()
    results = []
    for level in ("parameters", "features", "last_layer"):
        for every in (1, 3):
            objective = make_objective()
            train(GradientStrategy(Constant(0.3), level=level, weights_every=every), objective, batches, adam)
            results.append(parameters_of(objective))
    assert max(distance(results[0], other) for other in results[1:]) < 1e-12


def test_law_04_under_sgd_states_do_not_matter():
    batches = make_batches()
    shared, per_task = make_objective(), make_objective()
    train(build_strategy("igd"), shared, batches, sgd)
    train(build_strategy("igd_per_task"), per_task, batches, sgd)
    assert distance(parameters_of(shared), parameters_of(per_task)) == 0
    together, plain = make_objective(), make_objective()
    train(build_strategy("mao"), together, batches, sgd)
    assert distance(parameters_of(together), plain_steps(plain, batches, sgd)) < 1e-12


def test_law_04_under_adam_they_do():
    batches = make_batches()
    results = {}
    for name in ("igd", "igd_per_task", "mao", "uniform"):
        objective = make_objective()
        train(build_strategy(name), objective, batches, adam)
        results[name] = parameters_of(objective)
    assert distance(results["igd"], results["igd_per_task"]) > 1e-3
    assert distance(results["mao"], results["uniform"]) > 1e-3
    assert distance(results["mao"], results["igd_per_task"]) > 1e-5


@pytest.mark.parametrize(
    ("name", "invariant"), [("mao", True), ("igd_per_task", True), ("uniform", False), ("igd", False)]
)
def test_law_05_a_loss_times_100(name, invariant):
    def loss100(prediction, target):
        return 100 * ((prediction - target) ** 2).mean()

    batches = make_batches()
    plain = make_objective()
    scaled = make_objective(specs=[make_spec("a"), make_spec("b", loss=loss100), make_spec("c")])
    train(build_strategy(name), plain, batches, adam)
    train(build_strategy(name), scaled, batches, adam)
    difference = distance(parameters_of(plain), parameters_of(scaled))
    assert (difference < 1e-4) if invariant else (difference > 1e-2)


@pytest.mark.parametrize("name", VARIANTS)
def test_law_06_reordering_tasks(name):
    batches = make_batches()
    results = []
    for order in (TASKS, ("c", "a", "b")):
        objective = make_objective(order)
        reports = train(build_strategy(name, *fast_warmup(name)), objective, batches, adam)
        weights = reports[-1].weights
        named = {} if weights is None else dict(zip(order, weights.tolist(), strict=True))
        results.append((parameters_of(objective), named))
    difference = distance(results[0][0], results[1][0])
    if excused("reordering", name):
        if name.endswith(("-gramian-features", "-gramian-sketch")):
            pytest.skip("an estimate may find no conflict here, and then nothing is drawn")
        assert difference > 1e-9, "no exception any more: remove it from the table"
        return
    assert difference < 1e-9, hint("reordering", name)
    assert results[0][1] == pytest.approx(results[1][1], abs=1e-9)


@pytest.mark.parametrize("name", VARIANTS)
def test_law_07_draws_only_from_its_own_generator(name):
    objective = make_objective()
    strategy = build_strategy(name, *fast_warmup(name))
    batches = make_batches()
    begin(strategy, objective, adam)
    before = torch.get_rng_state()
    for batch in batches:
        strategy.step(batch)
    strategy.end_epoch()
    assert torch.equal(before, torch.get_rng_state())


def assert_own_statistics_moved_once(objective, plain, batch):
    """Every task's statistics moved once, by its own activations; the layer's stayed."""
    first, norm = plain.model.backbone.first, plain.model.backbone.norm
    for name, buffer in norm.state_dict().items():
        assert torch.equal(objective.model.backbone.norm.state_dict()[name], buffer) or name in ("weight", "bias")
    for task in objective.tasks:
        mine = objective.model.view.statistics(task)
        assert mine["norm.num_batches_tracked"] == 1
        before = first(batch.inputs)  # no mask stands in front of the first layer's normalisation
        torch.testing.assert_close(mine["norm.running_mean"], norm.momentum * before.mean(0), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", VARIANTS)
def test_law_08_batch_norm_moves_once_a_step(name):
    objective, plain = make_objective(batch_norm=True), make_objective(batch_norm=True)
    batch = make_batches(count=1)[0]
    train(build_strategy(name), objective, [batch], sgd)
    if excused("batch_norm", name):
        assert_own_statistics_moved_once(objective, plain, batch)
        return
    plain.model.backbone(batch.inputs)
    mine, reference = objective.model.backbone.norm, plain.model.backbone.norm
    assert mine.num_batches_tracked == 1
    same = torch.equal(mine.running_mean, reference.running_mean) and torch.equal(
        mine.running_var, reference.running_var
    )
    assert same != excused("whole_batch", name), "if the two are equal: remove the exception from the table"


class Counter:
    """Counts what passes through a network, by hooks on it."""

    def __init__(self, objective: MultiTaskObjective, optimizers) -> None:
        self.forwards = self.head_backwards = self.backbone_backwards = self.steps = 0
        self.samples: set[tuple[float, ...]] = set()
        trunk = objective.model.backbone
        trunk.register_forward_hook(self._forward)
        trunk.first.register_forward_hook(self._first)
        for head in objective.model.heads.values():
            head.register_forward_hook(self._head)
        for optimizer in optimizers:
            optimizer.register_step_post_hook(self._step)

    def _forward(self, module, inputs, output):
        self.forwards += 1
        self.samples |= {tuple(row) for row in inputs[0].tolist()}

    def _first(self, module, inputs, output):
        if output.requires_grad:
            output.register_hook(lambda gradient: self._add("backbone_backwards"))

    def _head(self, module, inputs, output):
        if output.requires_grad:
            output.register_hook(lambda gradient: self._add("head_backwards"))

    def _step(self, *arguments):
        self.steps += 1

    def _add(self, name):
        setattr(self, name, getattr(self, name) + 1)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("every", [1, 2])
def test_law_09_reported_cost_is_what_hooks_count(name, every):
    overrides = fast_warmup(name)
    if every > 1:
        strategy = build_strategy(name)
        if not isinstance(strategy, GradientStrategy) or not strategy.aggregator.gives_weights:
            pytest.skip("has no weights_every")
        overrides.append(f"++strategy.weights_every={every}")
    assert_cost_is_counted(build_strategy(name, *overrides))


def assert_cost_is_counted(strategy):
    objective = make_objective(batch_norm=True)
    begin(strategy, objective, adam)
    counter = Counter(objective, strategy.optimizers)
    for batch in make_batches():
        counter.samples = set()
        before = copy.copy(vars(counter))
        cost = strategy.step(batch).cost
        counted = {key: value - before[key] for key, value in vars(counter).items() if key != "samples"}
        assert counted == {
            "forwards": cost.forwards,
            "head_backwards": cost.backwards,
            "backbone_backwards": cost.backbone_backwards,
            "steps": cost.optimizer_steps,
        }
        assert cost.samples == len(counter.samples)
        assert cost.samples >= batch.num_samples


@pytest.mark.parametrize("name", VARIANTS)
def test_law_10_nothing_survives_a_step(name):
    objective = make_objective()
    strategy = build_strategy(name, *fast_warmup(name))
    begin(strategy, objective, adam)
    for batch in make_batches():
        report = strategy.step(batch)
        tensors = [report.losses, report.weights, report.gramian]
        assert not any(t.requires_grad for t in tensors if t is not None)
        assert all(p.grad is None for p in objective.model.parameters())
        own = [p for optimizer in strategy.optimizers for group in optimizer.param_groups for p in group["params"]]
        assert all(p.grad is None for p in own)


@pytest.mark.parametrize("name", VARIANTS)
def test_law_10_a_stale_gradient_has_no_effect(name):
    batches = make_batches(count=2)
    clean, dirty = make_objective(), make_objective()
    train(build_strategy(name), clean, batches, adam)
    strategy = build_strategy(name)
    begin(strategy, dirty, adam)
    for batch in batches:
        for p in dirty.model.parameters():
            p.grad = torch.full_like(p, 1e3)
        strategy.step(batch)
    assert distance(parameters_of(clean), parameters_of(dirty)) == 0


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_law_11_non_finite_loss_stops_before_the_update(name, bad):
    objective = make_objective()
    strategy = build_strategy(name, *fast_warmup(name))
    begin(strategy, objective, adam)
    good, poisoned = make_batches(count=2)
    strategy.step(good)
    before = parameters_of(objective)
    poisoned.targets["c"][0, 0] = bad
    with pytest.raises(NonFiniteError, match=r"c = ") as caught:
        strategy.step(poisoned)
    assert caught.value.tasks == ("c",)
    assert distance(before, parameters_of(objective)) == 0


@pytest.mark.parametrize("name", VARIANTS)
def test_law_11_non_finite_gradient_names_its_task(name):
    """A root at 0: the loss is finite, its derivative is not. The others' must not be blamed."""
    at_root = False

    def loss(prediction, target):
        root = (0 * prediction).abs().sum().sqrt() if at_root else 0 * prediction.sum()
        return ((prediction - target) ** 2).mean() + root

    objective = make_objective(specs=[make_spec("a"), make_spec("b"), make_spec("c", loss=loss)])
    strategy = build_strategy(name, *fast_warmup(name))
    begin(strategy, objective, adam)
    first, second, poisoned = make_batches(count=3)
    strategy.step(first)
    strategy.step(second)
    before = parameters_of(objective)
    at_root = True
    with pytest.raises(NonFiniteError, match=r"Non-finite (gradient|update)") as caught:
        strategy.step(poisoned)
    assert caught.value.tasks == ("c",)
    if not isinstance(strategy, SequentialStrategy):  # that one has updated for a and b
        assert distance(before, parameters_of(objective)) == 0


@pytest.mark.parametrize("name", VARIANTS)
def test_every_parameter_moves_in_the_first_step(name):
    """A method that leaves part of the network untrained (GradVac and `rep_grad` elsewhere) fails here."""
    objective = make_objective()
    before = parameters_of(objective)
    train(build_strategy(name), objective, make_batches(count=1), sgd)
    after = parameters_of(objective)
    assert not [key for key in before if torch.equal(before[key], after[key])]


@pytest.mark.parametrize("name", VARIANTS)
def test_logged_weights_are_the_derivative_of_the_update(name):
    """Reported weights w: the shared update under SGD is -lr sum_k w_k grad L_k."""
    objective, reference = make_objective(), make_objective()
    batches = make_batches()
    strategy = build_strategy(name)
    begin(strategy, objective, sgd)
    for batch in batches:
        reference.replace_view(copy.deepcopy(objective.model.view))  # a method may stand between backbone and heads
        reference.model.load_state_dict(objective.model.state_dict())
        before = [p.detach().clone() for p in objective.shared_parameters()]
        report = strategy.step(batch)
        if report.weights is None:
            assert (
                isinstance(strategy, SequentialStrategy | SimultaneousStrategy) or not strategy.aggregator.gives_weights
            )
            return
        trained_on = batch.parts(3)[-1] if excused("whole_batch", name) else batch
        losses = reference.evaluate(trained_on).losses
        total = sum(w * loss for w, loss in zip(report.weights.tolist(), losses, strict=True))
        expected = torch.autograd.grad(total, reference.shared_parameters())
        for p, old, gradient in zip(objective.shared_parameters(), before, expected, strict=True):
            torch.testing.assert_close(p.detach() - old, -0.05 * gradient, rtol=1e-9, atol=1e-12)
