"""Adam and AdamW of torch, with less of Python between two kernels."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import profiler
from torch.optim import Optimizer, optimizer

Closure = Callable[[], float]
Lists = tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor], list[Tensor]]
"""Parameters with a gradient, these gradients, first and second moments, step counters."""


class Direct(Optimizer):
    """Calls the fused kernel of a CPU directly; a base beside torch.optim.Adam or AdamW.

    Attributes:
        decoupled: Whether weight decay acts on the parameters, and not in the gradient, if a group does not say so.

    In a training step on the twelve parameters of a LeNet, torch's `step` takes 0.3 to 0.4 ms around kernels that take
    0.05: it looks up anew what does not change, and enters a range for the profiler. Here the same kernel gets the same
    numbers at once, if options, parameters and gradients are ordinary and nobody listens (hooks, profiler); in every
    other case, and in the first step, which makes the states, `step` is torch's.
    """

    decoupled: bool

    def step(self, closure: Closure | None = None) -> float | None:  # type: ignore[override]
        """One update, equal to torch's to the bit."""
        found = (
            [] if closure is not None or self._observed() else [_collect(self, group) for group in self.param_groups]
        )
        if not found or any(lists is None for lists in found):
            return self._torch_step(closure)
        with torch.no_grad():
            for group, lists in zip(self.param_groups, cast(list[Lists], found), strict=True):
                if lists[0]:
                    _update(group, lists, decoupled=group.get("decoupled_weight_decay", self.decoupled))
        return None

    step.hooked = True  # type: ignore[attr-defined] # torch would wrap it, in hooks and ranges for the profiler

    def _observed(self) -> bool:
        listeners = (
            self._optimizer_step_pre_hooks,
            self._optimizer_step_post_hooks,
            optimizer._global_optimizer_pre_hooks,
            optimizer._global_optimizer_post_hooks,
        )
        return any(listeners) or profiler._is_profiler_enabled

    def _torch_step(self, closure: Closure | None) -> float | None:
        given = () if closure is None else (closure,)
        step = super().step
        if hasattr(step, "hooked"):
            return step(*given)

        def whole(_: Optimizer, *closures: Closure) -> float | None:
            return super(Direct, self).step(*closures)

        return self.profile_hook_step(whole)(self, *given)  # as torch does once it builds one of its own class


def _collect(owner: Optimizer, group: dict[str, Any]) -> Lists | None:
    """What the kernel takes; None if something is not ordinary."""
    special = any(group[name] for name in ("amsgrad", "capturable", "differentiable"))
    if not group["fused"] or special or not isinstance(group["lr"], float):
        return None
    parameters = [p for p in group["params"] if p.grad is not None]
    gradients = [p.grad for p in parameters]
    states = [owner.state[p] for p in parameters]
    if not all(states) or hasattr(owner, "grad_scale") or hasattr(owner, "found_inf"):
        return None
    if not all(p.is_cpu and g.layout is torch.strided for p, g in zip(parameters, gradients, strict=True)):
        return None
    means, squares, steps = ([state[key] for state in states] for key in ("exp_avg", "exp_avg_sq", "step"))
    return parameters, gradients, means, squares, steps


def _update(group: dict[str, Any], lists: Lists, *, decoupled: bool) -> None:
    parameters, gradients, means, squares, steps = lists
    beta1, beta2 = group["betas"]
    torch._foreach_add_(steps, 1)
    kernel = torch._fused_adamw_ if decoupled else torch._fused_adam_
    kernel(
        parameters,
        gradients,
        means,
        squares,
        [],
        steps,
        lr=group["lr"],
        beta1=beta1,
        beta2=beta2,
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        amsgrad=False,
        maximize=group["maximize"],
    )


class Adam(Direct, torch.optim.Adam):
    """`torch.optim.Adam`: its options, its states, its numbers."""

    decoupled = False


class AdamW(Direct, torch.optim.AdamW):
    """`torch.optim.AdamW`: its options, its states, its numbers."""

    decoupled = True
