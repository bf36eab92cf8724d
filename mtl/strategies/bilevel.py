"""Strategies that train task weights on held-out data."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mtl.aggregation import MetaWeighting
from mtl.datasets.base import Batch, Loader
from mtl.errors import NonFiniteError, RequirementError
from mtl.gradients import TaskJacobian, flatten, inner_products, set_gradients, views
from mtl.objective import Evaluation
from mtl.seeding import derive_seed, global_states, replayed
from mtl.strategies.base import (
    Clipping,
    MakeOptimizer,
    StepCost,
    StepReport,
    Strategy,
    check_weights,
    find_bad_gradients,
    gradient_error,
    parameter_groups,
    sum_of_norms,
)
from mtl.strategies.virtual import displaced, network_parameters, optimizer_drift
from mtl.validation import check_choice, check_count, check_positive


class BilevelStrategy(Strategy):
    r"""Every step: a virtual step, the held-out losses there, a step on the task weights w, then the real step.

    1. :math:`\theta' = \theta - \alpha \sum_k w_k \nabla L_k(\theta)`, heads included, on the training batch;
    2. gradients d of the held-out objectives at :math:`\theta'`, on a batch of the validation split;
    3. hypergradient of w: :math:`-\alpha\, d \cdot \nabla L_k(\theta)`, and a step on w;
    4. the real step on :math:`\sum_k w_k L_k(\theta)`, same batch, new w, heads included.

    Needs a validation split. It is not trained on, but the weights are chosen by it: see `note`.

    Args:
        meta: Hypergradients -> task weights.
        hypergradient: `exact`: inner products with all task gradients: m backbone backwards, memory for (m, n), and the
            real step comes for free from the same gradients. `finite_difference` (released code of Auto-Lambda):
            :math:`(L_k(\theta + \epsilon d) - L_k(\theta - \epsilon d)) / 2 \epsilon`, two forwards an objective.
        epsilon: > 0; :math:`\epsilon` is this over the norm of d; 0.01 in the released code. For finite differences.
        virtual_step: `plain`, the equation; or `released_code`: weight decay and the momentum of the optimizer's
            buffers are added to the gradient, as SGD would.
        virtual_lr: alpha, > 0; None for the optimizer's current learning rate.
        val_batch_size: Of the held-out batches, at least 1; None for that of training.
        max_grad_norm: Upper limit, > 0, of the joint norm of all network gradients of the update; None for no clipping.

    Reported losses are the training batch's before the update; reported weights are the new ones. BatchNorm statistics
    move in the first forward only. All forwards of a step use the dropout masks of the first, and leave the global
    generators where it left them. Held-out batches are drawn by a counter: the order of an epoch is a function of the
    seed and the epoch.

    Cost of a step with t objectives: 1 optimizer step and, `exact`: 2 forwards, m + t backbone backwards;
    `finite_difference`: 3 + 2 t forwards, 2 + t backbone backwards. Samples include the held-out ones.
    """

    note = (
        "the validation split was used to train the task weights: metrics on it, and a checkpoint selected by them, "
        "are not independent of training"
    )

    def __init__(
        self,
        meta: MetaWeighting,
        hypergradient: str = "exact",
        epsilon: float = 0.01,
        virtual_step: str = "plain",
        virtual_lr: float | None = None,
        val_batch_size: int | None = None,
        max_grad_norm: float | None = None,
    ) -> None:
        check_choice("hypergradient", hypergradient, ("exact", "finite_difference"))
        check_positive("epsilon", epsilon)
        check_choice("virtual_step", virtual_step, ("plain", "released_code"))
        if virtual_lr is not None:
            check_positive("virtual_lr", virtual_lr)
        if val_batch_size is not None:
            check_count("val_batch_size", val_batch_size)
        self.meta = meta
        self.hypergradient = hypergradient
        self.epsilon = epsilon
        self.virtual_step = virtual_step
        self.virtual_lr = virtual_lr
        self.val_batch_size = val_batch_size
        self.clipping = Clipping(max_grad_norm)

    def _build(self, make_optimizer: MakeOptimizer) -> None:
        self.meta.setup(self.objective.tasks, self.generator)
        self.optimizers = [make_optimizer(parameter_groups(self.objective))]
        self.parameters = network_parameters(self.objective)
        self.jacobian = TaskJacobian(self.objective) if self.hypergradient == "exact" else None
        self.held_out: Loader | None = None
        self.drawn = 0
        self._cost, self._zero_directions = StepCost(), 0

    def attach(self, loaders: Mapping[str, Loader]) -> None:
        """Take the validation split.

        Raises:
            RequirementError: there is none.
        """
        if "val" not in loaders:
            raise RequirementError(
                f"{type(self.meta).__name__} trains its task weights on a validation split, and the data set has only "
                f"{', '.join(loaders)}. Set `dataset.val_size` above 0, or choose a data set with a validation split."
            )
        train = loaders["train"]
        size = train.batch_size if self.val_batch_size is None else self.val_batch_size
        seed = derive_seed(train.seed, "held-out batches")
        self.held_out = Loader(loaders["val"].split, size, shuffle=True, drop_last=False, seed=seed)

    def step(self, batch: Batch) -> StepReport:
        """One update of the weights and one of the network."""
        states = global_states(self.objective.device)
        evaluation = self.objective.evaluate(batch)
        held_out = self._draw()
        self._zero_directions = 0
        self._cost = StepCost(forwards=1, samples=batch.num_samples + held_out.num_samples)
        if self.jacobian is not None:
            self.jacobian.measure(evaluation, [None] * self.objective.num_tasks)
            m = self.objective.num_tasks
            self._cost += StepCost(backwards=m, backbone_backwards=m)
        gradients = self._weighted(evaluation, self.meta.weights())
        if self.jacobian is None and not math.isfinite(sum_of_norms(gradients)):
            raise gradient_error(find_bad_gradients(self.objective, batch))  # at the virtual point all losses are NaN
        with replayed(states, self.objective.device):
            self.meta.observe(*self._hypergradients(gradients, batch, held_out, states))
        weights = check_weights(self.meta.weights(), self.objective.tasks)
        again = evaluation
        if self.jacobian is None:
            with replayed(states, self.objective.device):
                again = self.objective.evaluate(batch, update_buffers=False)
            self._cost += StepCost(forwards=1)
        set_gradients(self.parameters, self._weighted(again, weights))
        self._check_gradients(batch)
        self.clipping(self.objective)
        self.optimizers[0].step()
        self._clear_gradients()
        if self.jacobian is not None:
            self.jacobian.reset()
        cost = self._cost + StepCost(optimizer_steps=1)
        diagnostics = {
            **self.meta.diagnostics,
            "zero_directions": float(self._zero_directions),
            **self.clipping.report(),
        }
        return StepReport(evaluation.values, cost, weights=weights, diagnostics=diagnostics)

    def _draw(self) -> Batch:
        """The next held-out batch."""
        assert self.held_out is not None, "step() before attach()"
        epoch, index = divmod(self.drawn, len(self.held_out))
        self.drawn += 1
        return next(self.held_out.batches(epoch, index))

    def _weighted(self, evaluation: Evaluation, weights: Tensor) -> list[Tensor]:
        """Gradients of sum_k w_k L_k by all network parameters."""
        if self.jacobian is None:
            self._cost += StepCost(backwards=len(evaluation.losses), backbone_backwards=1)
            factors = list(weights.to(evaluation.values).unbind())
            return list(torch.autograd.grad(evaluation.losses, self.parameters, factors, materialize_grads=True))
        rows = self.jacobian.rows
        shared = views(torch.mv(rows.T, weights.to(rows)), self.jacobian.shared)
        heads = [g * w for head, w in zip(self.jacobian.heads, weights.tolist(), strict=True) for g in head]
        return [*shared, *heads]

    def _hypergradients(
        self, gradients: list[Tensor], batch: Batch, held_out: Batch, states: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Derivatives (t, m) of the held-out objectives by the task weights, and the objectives' values (t,)."""
        lr = float(self.optimizers[0].param_groups[0]["lr"]) if self.virtual_lr is None else self.virtual_lr
        if self.virtual_step == "released_code":
            gradients = [
                g + d for g, d in zip(gradients, optimizer_drift(self.optimizers[0], self.parameters), strict=True)
            ]
        objectives = self.meta.objectives()
        used = [k for k in range(self.objective.num_tasks) if objectives[:, k].any()]
        with displaced(self.parameters, gradients, -lr):
            evaluation = self.objective.evaluate(held_out, used, update_buffers=False)
            directions = [self._objective_gradient(evaluation, row[used], i) for i, row in enumerate(objectives)]
        self._cost += StepCost(forwards=1, backwards=int((objectives != 0).sum()), backbone_backwards=len(objectives))
        if not all(math.isfinite(sum_of_norms(direction)) for direction in directions):
            raise NonFiniteError(
                "Non-finite gradient of the held-out losses, while they are finite. No parameter was changed with it. "
                "Lower the learning rate or `virtual_lr`, or look for a loss whose derivative is not finite."
            )
        values = objectives[:, used] @ evaluation.values[used].to("cpu", torch.float64)
        products = torch.stack([self._products(direction, batch, states) for direction in directions])
        return -lr * products, values

    def _objective_gradient(self, evaluation: Evaluation, coefficients: Tensor, index: int) -> list[Tensor]:
        chosen = [k for k, c in enumerate(coefficients.tolist()) if c != 0]
        losses = [evaluation.losses[k] for k in chosen]
        factors = list(coefficients[chosen].to(evaluation.values).unbind())
        last = index == len(self.meta.objectives()) - 1
        gradients = torch.autograd.grad(losses, self.parameters, factors, retain_graph=not last, materialize_grads=True)
        return list(gradients)

    def _products(self, direction: Sequence[Tensor], batch: Batch, states: list[Tensor]) -> Tensor:
        """Inner products of d with every task gradient at theta (m,), float64 on the CPU."""
        if self.jacobian is not None:
            count = len(self.jacobian.shared)
            rows = self.jacobian.rows
            products = inner_products(rows, flatten(direction[:count]).to(rows).expand_as(rows))[:, 0].clone()
            position = count
            for k, head in enumerate(self.jacobian.heads):
                own = direction[position : position + len(head)]
                for gradient, part in zip(head, own, strict=True):
                    products[k] += (gradient * part).sum(dtype=torch.float64).cpu()
                position += len(head)
            return products
        norm = float(torch.stack(torch._foreach_norm(list(direction))).norm())
        if norm == 0:
            self._zero_directions += 1
            return torch.zeros(self.objective.num_tasks, dtype=torch.float64)
        epsilon = self.epsilon / norm
        losses = []
        for sign in (1, -1):
            with displaced(self.parameters, direction, sign * epsilon), replayed(states, self.objective.device):
                losses.append(self.objective.measure(batch).to("cpu", torch.float64))
            self._cost += StepCost(forwards=1)
        return (losses[0] - losses[1]) / (2 * epsilon)

    def end_epoch(self) -> None:
        """Tell the maths."""
        self.meta.end_epoch()

    def _maths_state(self) -> dict[str, Any]:
        return {"meta": dict(self.meta.state_dict()), "drawn": self.drawn}

    def _load_maths_state(self, state: Mapping[str, Any]) -> None:
        self.meta.load_state_dict(state["meta"])
        self.drawn = state["drawn"]
