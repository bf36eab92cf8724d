"""Task rotations of the shared features, trained to align the task gradients there."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mtl.datasets.base import Batch
from mtl.errors import NonFiniteError, RequirementError
from mtl.gradients import set_gradients
from mtl.gradients.cut import Cut, PassCount
from mtl.models.rotation import RotationView
from mtl.strategies.base import (
    Clipping,
    MakeOptimizer,
    Requirement,
    StepCost,
    StepReport,
    Strategy,
    check_weights,
    gradient_error,
    parameter_groups,
)
from mtl.strategies.task_rotations import TaskRotations
from mtl.validation import check_bool, check_choice, check_count

SCALES = ("rotograd", "none")
SMALLEST = 1e-15
"""Norms and sums of ratios are not taken smaller, as in the released code."""


class RotoGradStrategy(Strategy):
    r"""RotoGrad (Javaloy and Valera 2022, arXiv:2103.02631): homogeneous task gradients at the shared features z.

    Head k reads :math:`r_k = R_k z` with a rotation :math:`R_k \in SO(d)` that the network's losses do not train. With
    :math:`G_k = \nabla_z L_k` (B, d), norms of the whole batch, and :math:`G_k^0` those of an early step, the backbone
    receives (scale)

    .. math:: C \sum_k \frac{G_k}{\|G_k\|}, \quad C = \sum_k \alpha_k \|G_k\|, \quad
        \alpha_k = \frac{\|G_k\| / \|G_k^0\|}{\sum_i \|G_i\| / \|G_i^0\|}

    and each rotation is moved, after the same backward pass, to bring the task's gradients nearer to the mean direction
    (n: samples; :math:`\tilde g_{nk} = \nabla_{r_k} L_k = R_k g_{nk}`):

    .. math:: \min_{R_k}\; -\sum_n \langle R_k^\top \tilde g_{nk}, v_n\rangle, \qquad
        v_n = \frac1m \sum_k \frac{g_{nk}}{\|G_k\|}

    Rotations start at the identity and are matrix exponentials of skew-symmetric matrices, in float64: orthogonal to
    rounding, whatever the optimizer of the d (d - 1) / 2 entries does.

    Args:
        scale: `rotograd` as above, or `none`: the plain sum of the G_k (RotateOnly of the released code).
        rotation_size: How many leading features (channels of maps) are rotated, at least 2; None for all.
        rotation_lr: Learning rate of the rotations, >= 0; 0 leaves them at the identity. The theory wants it to fall
            faster than the network's. The run's scheduler does not act on it.
        rotation_decay: Factor of that learning rate after every step, in [0, 1].
        rotation_rule: Optimizer of the rotations: `adam` or `sgd`.
        alignment: `inner_product`, the objective above (paper), or `distance`: the mean over samples of
            :math:`\|R_k v_n c - \tilde g_{nk}\|^2`, c the norm of the mean gradient (released code). As R_k is
            orthogonal, the gradients differ by the factor 2 c / B only.
        burn_in_period: The reference norms (and losses) are taken in the first step, and again after so many steps.
        normalize_losses: Divide each loss by its value at the reference step, for heads and backbone.
        max_grad_norm: Upper limit, > 0, of the joint norm of all network gradients of the update; None for no clipping.

    Needs shared features in one tensor, (B, d) or (B, C, h, w); maps are rotated over their channels.

    With one task the rotation stays: there is nothing to align. A task whose gradient is 0 gets weight 0 in that step.

    Cost of a step: 1 forward, m head backwards, 1 backbone backward, 1 optimizer step; products of (d, d) matrices and
    matrix exponentials for the rotations, which for wide features (d in the thousands) cost more than the network.

    Source: Javaloy and Valera, "RotoGrad: Gradient Homogenization in Multitask Learning", ICLR 2022, arXiv:2103.02631.

    **Deviations.** Paper: the equations, G_k^0 at t = 0 (from a summary; full text not available to us). Released code
    (rotograd 0.1.6): `alignment: distance`, `burn_in_period: 20` (which its RotoGrad obeys since 0.1.6 only); before
    0.1.5 no scale part (now RotateOnly). Rotations are parameters of the caller's optimizer there; its example gives
    them an Adam of their own, lr 0.05, decay 0.99999, beside SGD for the network. Ours: the equations; an optimizer of
    their own; RotoGradNorm is left out.
    """

    requirements = frozenset({Requirement.FEATURES})

    def __init__(
        self,
        scale: str = "rotograd",
        rotation_size: int | None = None,
        rotation_lr: float = 5e-4,
        rotation_decay: float = 1.0,
        rotation_rule: str = "adam",
        alignment: str = "inner_product",
        burn_in_period: int = 0,
        normalize_losses: bool = False,
        max_grad_norm: float | None = None,
    ) -> None:
        check_choice("scale", scale, SCALES)
        if rotation_size is not None:
            check_count("rotation_size", rotation_size, minimum=2)
        check_count("burn_in_period", burn_in_period, minimum=0)
        check_bool("normalize_losses", normalize_losses)
        self.scale = scale
        self.rotation_size = rotation_size
        self.rotations = TaskRotations(rotation_lr, rotation_decay, rotation_rule, alignment)
        self.burn_in_period = burn_in_period
        self.normalize_losses = normalize_losses
        self.clipping = Clipping(max_grad_norm)

    def _build(self, make_optimizer: MakeOptimizer) -> None:
        objective, m = self.objective, self.objective.num_tasks
        width, dtype = self._look_at_features()
        size = width if self.rotation_size is None else self.rotation_size
        if size > width:
            raise RequirementError(
                f"`strategy.rotation_size = {size}` is more than the {width} features that the backbone offers. "
                f"Use at most {width}, or null for all."
            )
        view = RotationView(objective.tasks, size, dtype)
        objective.replace_view(view)
        self.rotations.setup(view)
        self.optimizers = [make_optimizer(parameter_groups(objective))]
        self._steps = 0
        self._reference_norms = torch.ones(m, dtype=torch.float64)
        self._reference_losses = torch.ones(m, dtype=torch.float64)

    def _look_at_features(self) -> tuple[int, torch.dtype]:
        """The number of features (channels) and their type."""
        model = self.objective.model
        training = model.training
        model.eval()
        with torch.no_grad():
            features = model.features(self.objective.blank_inputs())
        model.train(training)
        if not isinstance(features, Tensor) or features.ndim not in (2, 4):
            found = f"shape {tuple(features.shape)}" if isinstance(features, Tensor) else type(features).__name__
            raise RequirementError(
                "RotoGradStrategy rotates a shared representation that is one tensor, (B, d) or (B, C, h, w). "
                f"This backbone returns {found}. Use another backbone, or another strategy at the feature level."
            )
        return features.shape[1], features.dtype

    def step(self, batch: Batch) -> StepReport:
        """One update of the network, then one of the rotations."""
        objective = self.objective
        evaluation = objective.evaluate(batch)
        self._clear_gradients()
        takes_reference = self._steps in (0, self.burn_in_period)
        if takes_reference:
            self._reference_losses = evaluation.values.to("cpu", torch.float64)
        scales = self._loss_scales()
        factors = [None] * objective.num_tasks if scales is None else list(scales.to(evaluation.values).unbind())
        count = PassCount()
        cut = Cut(objective, evaluation, factors, count)
        cut.collect()
        norms = torch.linalg.vector_norm(cut.matrix, dim=1).to("cpu", torch.float64)
        if not torch.isfinite(norms).all():
            finite = torch.isfinite(norms).tolist()
            raise gradient_error(tuple(task for task, good in zip(objective.tasks, finite, strict=True) if not good))
        if takes_reference:
            self._reference_norms = norms.clamp_min(SMALLEST)
        weights = check_weights(self._weigh(norms), objective.tasks)
        cut.combine(weights)
        for k, own in enumerate(cut.heads):
            set_gradients(objective.task_parameters(k), own)
        self._check_gradients(batch)
        self.clipping(objective)
        self.optimizers[0].step()
        self._clear_gradients()
        gradients = cut.matrix.view(objective.num_tasks, *evaluation.features[0].shape)
        diagnostics = {"alignment": self.rotations.align(gradients, norms), **self.clipping.report()}
        self._steps += 1
        effective = weights if scales is None else weights * scales
        cost = StepCost(1, count.heads, count.backbone, 1, evaluation.num_samples)
        return StepReport(evaluation.values, cost, weights=effective, diagnostics=diagnostics)

    def _loss_scales(self) -> Tensor | None:
        """1 / L_k at the reference step, (m,) float64 on the CPU."""
        if not self.normalize_losses:
            return None
        if (self._reference_losses <= 0).any():
            raise NonFiniteError(
                "`normalize_losses` divides by the losses of the reference step, which have to be > 0. Found "
                f"{self._reference_losses.tolist()}. Set strategy.normalize_losses=false."
            )
        return 1 / self._reference_losses

    def _weigh(self, norms: Tensor) -> Tensor:
        """Factors (m,) of the G_k."""
        if self.scale == "none":
            return torch.ones_like(norms)
        ratios = norms / self._reference_norms
        alpha = ratios / ratios.sum().clamp_min(SMALLEST)
        return torch.where(norms > 0, (alpha @ norms) / norms.clamp_min(SMALLEST), 0.0)

    def _maths_state(self) -> dict[str, Any]:
        return {
            "rotations": self.rotations.state_dict(),
            "steps": self._steps,
            "reference_norms": self._reference_norms,
            "reference_losses": self._reference_losses,
        }

    def _load_maths_state(self, state: Mapping[str, Any]) -> None:
        self.rotations.load_state_dict(state["rotations"])
        self._steps = state["steps"]
        self._reference_norms = state["reference_norms"].clone()
        self._reference_losses = state["reference_losses"].clone()
