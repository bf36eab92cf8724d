"""Task-specific parts of the shared layers that change while the network is trained."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mtl.datasets.base import Batch
from mtl.errors import ConfigError, NonFiniteError, RequirementError
from mtl.grouping.roaming import draw_partition, roam
from mtl.models.masking import MaskView, find_layers
from mtl.strategies.base import Clipping, MakeOptimizer, Requirement, StepCost, StepReport, Strategy, parameter_groups
from mtl.validation import check_choice, check_count, check_fraction, check_positive

LAYERS = ("all", "conv")
UPDATES = ("accumulated", "sequential")


class RoamingStrategy(Strategy):
    r"""Maximum roaming (Pascal et al. 2021, AAAI, arXiv:2006.09762): a task uses part of the units of each layer.

    Each task has a mask over the output units of every shared layer, with a share sigma of ones; its forward pass sees
    the other units as 0. At first every unit has a task, and the rest is drawn. From time to time a task gives up a
    unit of each layer for one that it never had, both at random, until it has had them all.

    Args:
        sigma: Sharing ratio in (0, 1]: each task uses ceil(sigma units) units of a layer. With 1 all is shared.
        update_interval: Steps between exchanges, in every layer; None to use `updates_end`.
        updates_end: Number of the step in which the exchanges end; each layer gets an interval of its own, so that all
            end together. None to use `update_interval`. One of the two has to be set.
        updates_size: Units exchanged at a time, per task and layer, at least 1.
        update_ratio: In (0, 1], the share of the units unused at first that is visited before exchanges stop.
        layers: `all`: convolutions and linear layers of the backbone; `conv`: convolutions.
        update: `accumulated`: one optimizer step with the sum of the tasks' gradients. `sequential`: a step after each
            task, in task order, by one shared optimizer.
        max_grad_norm: Upper limit, > 0, of the joint norm of all network gradients of an update; None for no clipping.

    The mask stands behind a normalisation that reads the layer's output (a masked unit is 0, not the layer's bias).
    BatchNorm statistics are kept per task (`mtl.models.masking.MaskView`), and move once a step for every task.

    Cost of a step: m forwards, m head and m backbone backwards; 1 optimizer step, or m with `sequential`. That one has
    m - 1 more forwards without graph, as reported losses are those before the first update. Memory of one task's graph.

    Source: Pascal, Michiardi, Bost, Huet and Zuluaga, "Maximum Roaming Multi-Task Learning", AAAI 2021,
    arXiv:2006.09762.

    **Deviations.** Released code (two repositories; full text of the paper not used): convolutions only, BatchNorm
    without running statistics, so that results depend on the evaluation batch. The paper's: one unit every epoch
    (NYUv2, Cityscapes; gradients accumulated) or every tenth of an epoch (CelebA; a step per task; also an exchange by
    alignment of the filters, which is left out). The later one (AITSO_MTL): `updates_end`; a step per task on NYUv2 and
    Cityscapes, accumulated on CelebA. There the number of exchanges follows task 0 and fails where m does not divide
    the units of a layer at small sigma; ours counts per task. Ours: linear layers too, own statistics per task.
    """

    requirements = frozenset({Requirement.LAYERS})

    def __init__(
        self,
        sigma: float = 0.8,
        update_interval: int | None = None,
        updates_end: int | None = 10000,
        updates_size: int = 1,
        update_ratio: float = 1.0,
        layers: str = "all",
        update: str = "accumulated",
        max_grad_norm: float | None = None,
    ) -> None:
        for name, share in (("sigma", sigma), ("update_ratio", update_ratio)):
            check_fraction(name, share)
            check_positive(name, share)
        if (update_interval is None) == (updates_end is None):
            raise ConfigError(
                "Exactly one of `update_interval` and `updates_end` should be set, the other null. Found "
                f"`update_interval = {update_interval}`, `updates_end = {updates_end}`."
            )
        check_count("update_interval", 1 if update_interval is None else update_interval)
        check_count("updates_end", 1 if updates_end is None else updates_end)
        check_count("updates_size", updates_size)
        check_choice("layers", layers, LAYERS)
        check_choice("update", update, UPDATES)
        self.sigma = sigma
        self.update_interval = update_interval
        self.updates_end = updates_end
        self.updates_size = updates_size
        self.update_ratio = update_ratio
        self.layers = layers
        self.update = update
        self.clipping = Clipping(max_grad_norm)

    def _build(self, make_optimizer: MakeOptimizer) -> None:
        objective = self.objective
        backbone = objective.model.backbone
        found = find_layers(backbone, objective.blank_inputs(), linear=self.layers == "all")
        shared = {id(p) for p in objective.shared_parameters()}
        found = [layer for layer in found if id(backbone.get_submodule(layer.name).weight) in shared]
        if not found:
            raise RequirementError(
                f"RoamingStrategy masks shared layers of the backbone; {type(backbone).__name__} has none of the kind "
                f"`layers = {self.layers}`. Use strategy.layers=all, or another backbone."
            )
        self.view = MaskView(objective.tasks, found, backbone)
        for mask in self.view.masks:
            mask.copy_(draw_partition(objective.num_tasks, mask.shape[1], self.sigma, self.generator))
        self.visited = [mask.cpu().clone() for mask in self.view.masks]
        objective.replace_view(self.view)
        self._unused = [(~mask).sum(1) for mask in self.visited]
        self.optimizers = [make_optimizer(parameter_groups(objective))]
        self._steps = 0
        self._exchanges = 0

    def step(self, batch: Batch) -> StepReport:
        """One update (or one per task), then exchanges if they are due."""
        self._clear_gradients()
        values = self._accumulate(batch) if self.update == "accumulated" else self._alternate(batch)
        self._clear_gradients()
        self._steps += 1
        self._roam()
        m = self.objective.num_tasks
        accumulated = self.update == "accumulated"
        cost = StepCost(m if accumulated else 2 * m - 1, m, m, 1 if accumulated else m, batch.num_samples)
        weights = torch.ones_like(values) if accumulated else None
        groups = None if accumulated else tuple((k,) for k in range(m))
        diagnostics = {**self._progress(), **self.clipping.report()}
        return StepReport(values, cost, weights=weights, groups=groups, substeps=groups, diagnostics=diagnostics)

    def _accumulate(self, batch: Batch) -> Tensor:
        losses = []
        try:
            for k in range(self.objective.num_tasks):
                evaluation = self.objective.evaluate(batch, (k,))
                losses.append(evaluation.values[k])
                torch.autograd.backward(evaluation.losses)
        except NonFiniteError:
            self._clear_gradients()
            raise
        self._apply(batch)
        return torch.stack(losses)

    def _alternate(self, batch: Batch) -> Tensor:
        m = self.objective.num_tasks
        later = self.objective.evaluate(batch, (), update_buffers=False, measure=range(1, m)).values if m > 1 else None
        for k in range(m):
            evaluation = self.objective.evaluate(batch, (k,))
            if k == 0:
                values = evaluation.values.clone()
                if later is not None:
                    values[1:] = later[1:]
            self._clear_gradients()
            torch.autograd.backward(evaluation.losses)
            self._apply(batch)
        return values

    def _apply(self, batch: Batch) -> None:
        self._check_gradients(batch)
        self.clipping(self.objective)
        self.optimizers[0].step()

    def _roam(self) -> None:
        for i, (mask, visited) in enumerate(zip(self.view.masks, self.visited, strict=True)):
            if self._is_due(i) and not self._is_done(i):
                changed = roam(mask.cpu(), visited, self.updates_size, self.generator)
                self._exchanges += int((changed & ~mask.cpu()).sum())
                mask.copy_(changed)

    def _is_due(self, layer: int) -> bool:
        if self.update_interval is not None:
            return self._steps % self.update_interval == 0
        assert self.updates_end is not None  # checked in __init__
        exchanges = math.ceil(int(self._unused[layer].max()) / self.updates_size)
        interval = max(self.updates_end // max(exchanges, 1), 1)
        return self._steps % interval == 0 and self._steps <= self.updates_end

    def _is_done(self, layer: int) -> bool:
        """Whether every task has visited enough of the units that it did not use at first."""
        left = (~self.visited[layer]).sum(1)
        return bool((left <= (1 - self.update_ratio) * self._unused[layer] + 1e-9).all())

    def _progress(self) -> dict[str, float]:
        pairs = sum(visited.numel() for visited in self.visited)
        return {
            "roaming_visited": sum(int(visited.sum()) for visited in self.visited) / pairs,
            "roaming_exchanges_total": float(self._exchanges),
            "roaming_ended": float(all(self._is_done(i) for i in range(len(self.visited)))),
        }

    def _maths_state(self) -> dict[str, Any]:
        return {
            "visited": self.visited,
            "unused": self._unused,
            "steps": self._steps,
            "exchanges": self._exchanges,
        }

    def _load_maths_state(self, state: Mapping[str, Any]) -> None:
        self.visited = [visited.clone() for visited in state["visited"]]
        self._unused = [unused.clone() for unused in state["unused"]]
        self._steps = state["steps"]
        self._exchanges = state["exchanges"]
