"""How far the shared parameters have come."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer


class Path:
    r"""Path length and net displacement of the shared parameters since the start of training (Pascal et al. 2021).

    .. math:: \sum_s \|\theta_s - \theta_{s-1}\|_2 \qquad \|\theta_{now} - \theta_0\|_2

    where s counts every step of an optimizer on the shared parameters: m a batch for `igd`, one for `uniform`. Where
    optimizers act on buffers, and the parameters move by the sum (`mao`), s counts batches. Heads and buffers of the
    model (BatchNorm statistics) do not count. Snapshots are copies: memory of two times the shared parameters.

    Args:
        shared: The shared parameters, where training starts.
        optimizers: All of the strategy's.
    """

    def __init__(self, shared: Sequence[Parameter], optimizers: Sequence[Optimizer]) -> None:
        self._shared: list[Tensor] = list(shared)
        self._start = [p.detach().clone() for p in self._shared]
        self._last = [p.clone() for p in self._start]
        self._length = torch.zeros((), dtype=torch.float64, device=shared[0].device if shared else None)
        ids = {id(p) for p in shared}
        holders = [o for o in optimizers if any(id(p) in ids for group in o.param_groups for p in group["params"])]
        for optimizer in holders:
            optimizer.register_step_post_hook(lambda *_: self.advance())
        self._per_batch = not holders

    def stepped(self) -> None:
        """A batch is done."""
        if self._per_batch:
            self.advance()

    @torch.no_grad()
    def advance(self) -> None:
        """An optimizer step is done: add how far it went."""
        if self._shared:
            self._length += _distance(self._shared, self._last)
            torch._foreach_copy_(self._last, self._shared)

    def record(self) -> dict[str, float]:
        """`path_length` and `displacement` so far, in units of the parameters."""
        displacement = float(_distance(self._shared, self._start)) if self._shared else 0.0
        return {"path_length": float(self._length), "displacement": displacement}

    def state_dict(self) -> dict[str, Any]:
        """The start and the length so far."""
        return {"start": self._start, "length": self._length}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue; the parameters are those of the checkpoint already."""
        self._length.copy_(state["length"])
        if self._shared:
            torch._foreach_copy_(self._start, list(state["start"]))
            with torch.no_grad():
                torch._foreach_copy_(self._last, self._shared)


@torch.no_grad()
def _distance(first: list[Tensor], second: list[Tensor]) -> Tensor:
    """Euclidean distance, a float64 scalar on the device of the tensors."""
    moved = torch._foreach_sub(first, second)
    norms = torch.stack(torch._foreach_norm(moved)).double()
    distance: Tensor = torch.linalg.vector_norm(norms)
    return distance
