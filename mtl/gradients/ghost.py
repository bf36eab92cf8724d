"""The exact Gramian without the rows, where that is cheaper.

For a linear map y = W a + b with inputs A (N, d) and task k's gradients at the outputs D_k (N, c), the gradient of W is
D_k^T A and that of b is D_k^T 1, so their contribution to the Gramian is

    <D_k^T A, D_l^T A> + <D_k^T 1, D_l^T 1> = <D_k, (A A^T + 1 1^T) D_l>.

S = A A^T + 1 1^T (N, N) is the same for all tasks: a task needs D_k alone, no weight gradient and no row of J. For a
convolution A holds the unfolded patches and N = batch x positions. autograd is asked for the gradients at the outputs
of these layers in place of those of their weights, so the weight-gradient half of the m backward passes is never run.
The combination needs no further pass: its gradient of W is (sum_k w_k D_k)^T A.
"""

from collections.abc import Sequence

from torch import Tensor

from mtl.datasets.base import Batch
from mtl.gradients.base import WithoutRows
from mtl.gradients.cut import Cut
from mtl.gradients.ghost_layer import Sizes
from mtl.gradients.layerwise import Choose, LayerwiseGradients
from mtl.gradients.parameters import TaskJacobian
from mtl.gradients.passes import one_by_one, through_tail
from mtl.gradients.tail import Tail
from mtl.objective import Evaluation, MultiTaskObjective


class GhostGramian(WithoutRows):
    """The Gramian of the task gradients over all shared parameters, equal to `TaskJacobian`'s up to rounding.

    `nn.Linear` and `nn.Conv2d` layers (grouped, strided, dilated) go without rows where their sizes make that cheaper.
    All other parameters keep rows: norm layers, embeddings, weights that enter the graph more than once, layers that
    were called twice or carry hooks of others, and layers on large maps. If no layer goes without, this is
    `TaskJacobian`; so it is for an evaluation that is not this source's own, of which it has seen nothing.

    Under bf16 autocast the products of ghost layers use the inputs before their cast: equal to rows up to about 1e-3.

    Cost: m backward passes without the weight-gradient half of the ghost layers.

    Args:
        objective: Whose parameters.
        choose: (sizes of a layer, number of tasks) -> whether it goes without rows; by default where that is cheaper.

    Attributes:
        ghost_layers: Names of the layers that went without rows in the last `measure`.
    """

    def __init__(self, objective: MultiTaskObjective, choose: Choose = Sizes.is_cheaper) -> None:
        super().__init__(objective)
        self.ghost_layers: tuple[str, ...] = ()
        self._parts = LayerwiseGradients(objective, self.shared, choose)
        self._rows: TaskJacobian | None = None
        self._all_rows = False

    def evaluate(self, batch: Batch) -> Evaluation:
        """Keep what layers without rows read."""
        if self._parts.is_idle(batch.inputs.shape):
            return super().evaluate(batch)
        with self._parts.watching(batch.inputs.shape):
            return super().evaluate(batch)

    def measure(self, evaluation: Evaluation, scales: Sequence[Tensor | None]) -> Tensor:
        """M backwards to the outputs of the ghost layers and to the remaining parameters; G is the sum of the parts."""
        self._all_rows = not self._parts.choose_layers(evaluation)
        self.ghost_layers = tuple(self._parts.layers)
        if self._all_rows:
            rows = self._rows = self._rows or TaskJacobian(self.objective, ordered=False)
            rows.count, rows.layout, rows.tails = self.count, self.layout, self.tails
            total = rows.measure(evaluation, scales)
            self.heads = rows.heads
            return total
        tail = self.tails.find(evaluation)
        self.layout.learn(evaluation.features or evaluation.losses, len(evaluation.losses))
        with self.layout.applied():
            if tail is not None:
                self._measure_below(tail, Cut(self.objective, evaluation, scales, self.count, self.layout))
            else:
                self._measure_one_by_one(evaluation, scales)
        self.count.backbone += len(evaluation.losses)
        return self._checked(self._parts.gramian())

    def _measure_below(self, tail: Tail, cut: Cut) -> None:
        """The last stages for several tasks at once; the rest one by one."""
        places = self._parts.begin(tail.parameters)
        for k, found in through_tail(tail, cut, places, self._parts.rows, self._parts.sinks):
            self._parts.put(k, found)
        self.heads = cut.heads

    def _measure_one_by_one(self, evaluation: Evaluation, scales: Sequence[Tensor | None]) -> None:
        self.heads = []
        for k, found, head in one_by_one(self.objective, evaluation, scales, self._parts.begin()):
            self._parts.put(k, found)
            self.heads.append(head)
        self.count.heads += len(evaluation.losses)

    def combine(self, weights: Tensor) -> None:
        """`.grad` from what was kept of each task."""
        if self._all_rows:
            assert self._rows is not None
            self._rows.combine(weights)
        else:
            self._parts.combine(weights)

    @property
    def diagnostics(self) -> dict[str, float]:
        """How many layers went without rows; `ghost_fallback/NAME` for a layer that had to keep them, and is slower."""
        refused = {f"ghost_fallback/{name}": 1.0 for name in self._parts.refused}
        return {**super().diagnostics, "ghost_layers": float(len(self.ghost_layers)), **refused}

    def reset(self) -> None:
        """Forget the step, and every captured input."""
        super().reset()
        self._parts.clear()
        if self._rows is not None:
            self._rows.reset()
