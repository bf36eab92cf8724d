"""The exact Gramian without the rows, where that is cheaper.

For a linear map y = W a + b with inputs A (N, d) and task k's gradients at the outputs D_k (N, c), the gradient of W is
D_k^T A and that of b is D_k^T 1, so their contribution to the Gramian is

    <D_k^T A, D_l^T A> + <D_k^T 1, D_l^T 1> = <D_k, (A A^T + 1 1^T) D_l>.

S = A A^T + 1 1^T (N, N) is the same for all tasks: a task needs D_k alone, no weight gradient and no row of J. For a
convolution A holds the unfolded patches and N = batch x positions. autograd is asked for the gradients at the outputs
of these layers in place of those of their weights, so the weight-gradient half of the m backward passes is never run.
"""

import weakref
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from mtl.gradients.base import CutSource
from mtl.gradients.ghost_layer import Capture, GhostLayer, can_be_ghost, capture
from mtl.gradients.graph import Uses
from mtl.gradients.tensors import flatten, views
from mtl.numerics import gramian
from mtl.objective import Evaluation, MultiTaskObjective


class GhostGramian(CutSource):
    """The Gramian of the task gradients over all shared parameters, equal to `TaskJacobian`'s up to rounding.

    `nn.Linear` and `nn.Conv2d` layers (grouped, strided, dilated) go without rows where their sizes make that cheaper.
    All other parameters keep rows: norm layers, embeddings, weights that enter the graph more than once, layers that
    were called twice or carry hooks of others, and layers on large maps. The direction comes from one weighted backward
    pass.

    Under bf16 autocast the products of ghost layers use the inputs before their cast: equal to rows up to about 1e-3.

    Cost: m backward passes without the weight-gradient half of the ghost layers, and one whole backward pass.

    Args:
        objective: Whose parameters.
        choose: (layer, number of tasks) -> whether the layer goes without rows; by default where that is cheaper.

    Attributes:
        ghost_layers: Names of the layers that went without rows in the last `measure`.
    """

    def __init__(
        self, objective: MultiTaskObjective, choose: Callable[[GhostLayer, int], bool] = GhostLayer.is_cheaper
    ) -> None:
        super().__init__(objective)
        self.choose = choose
        self.ghost_layers: tuple[str, ...] = ()
        self._matrix = torch.empty(0)
        self._captures: dict[str, list[Capture]] = {}
        shared = {id(parameter) for parameter in self.shared}
        self._layers: dict[str, nn.Linear | nn.Conv2d] = {
            name: module
            for name, module in objective.model.named_modules()
            if can_be_ghost(module) and all(id(p) in shared for p in module.parameters())
        }
        for name, module in self._layers.items():
            handle = module.register_forward_hook(_keeper(self._captures, name))
            weakref.finalize(self, handle.remove)  # a source that is gone leaves nothing on the model

    def measure(self, evaluation: Evaluation, scales: Sequence[Tensor | None]) -> Tensor:
        """M backwards to the outputs of the ghost layers and to the remaining parameters; G is the sum of the parts."""
        m = len(evaluation.losses)
        layers = self._choose(evaluation)
        without = {id(p) for layer in layers.values() for p in layer.module.parameters()}
        plain = [p for p in self.shared if id(p) not in without]
        rows = self._rows_of(plain, m)
        pieces = [views(row, plain) for row in rows]

        def keep(k: int, found: tuple[Tensor | None, ...]) -> None:
            for layer, gradient in zip(layers.values(), found, strict=False):
                layer.put(k, gradient)
            for piece, gradient in zip(pieces[k], found[len(layers) :], strict=True):
                piece.zero_() if gradient is None else piece.copy_(gradient)

        extra: list[Tensor | GradientEdge] = [*(layer.capture.edge for layer in layers.values()), *plain]
        self._begin(evaluation, scales, extra, keep)
        self.count.backbone += m
        total = gramian(rows)
        for layer in layers.values():
            total += layer.gramian()
        self.ghost_layers = tuple(layers)
        self._captures.clear()
        return self._checked(total)

    def _choose(self, evaluation: Evaluation) -> dict[str, GhostLayer]:
        """The layers to go without rows: called once, used once in this graph, and cheaper that way."""
        m, uses = len(evaluation.losses), Uses(evaluation.losses)
        chosen = {}
        for name, captures in self._captures.items():
            module = self._layers[name]
            here = [found for found in captures if uses.contains(found.edge.node)]
            if len(here) != 1 or len(module._forward_hooks) != 1:
                continue
            layer = GhostLayer(module, here[0], m)
            if self.choose(layer, m) and all(uses.only_through(p, here[0].edge.node) for p in module.parameters()):
                chosen[name] = layer
        return chosen

    def _rows_of(self, plain: Sequence[Tensor], num_tasks: int) -> Tensor:
        """The buffer (m, n) for the rows of the remaining parameters; another one only if their number changes."""
        n = sum(p.numel() for p in plain)
        if self._matrix.shape != (num_tasks, n):
            like = next(iter(self.shared), torch.empty(0))
            self._matrix = torch.zeros((num_tasks, n), dtype=like.dtype, device=like.device)
        return self._matrix

    @property
    def rows(self) -> Tensor:
        """None, (m, 0): methods that need the rows need `gramian: exact`."""
        return torch.empty(self.objective.num_tasks, 0)

    def point(self) -> Tensor:
        """The shared parameters."""
        return flatten(self.shared)

    def write(self, direction: Tensor) -> None:
        """Not defined without rows."""
        raise NotImplementedError

    def reset(self) -> None:
        """Forget the step, and every captured input."""
        super().reset()
        self._captures.clear()


def _keeper(captures: dict[str, list[Capture]], name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def keep(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if inputs and torch.is_grad_enabled() and output.requires_grad:  # none: called with a keyword
            captures.setdefault(name, []).append(capture(inputs, output))

    return keep
