"""The Gramian, estimated from one more forward pass.

Legend: Z (B, D) shared features, C_k = dL_k/dZ (B, D), theta the shared parameters.

With N = J_Z J_Z^T, J_Z = dZ/dtheta, the task gradients over theta have the Gramian G_kl = <C_k, N C_l>. N is (BD, BD)
and never formed. One direction r with E[r r^T] = I gives Zdot = J_Z r and E[Zdot Zdot^T] = N over all BD entries:
unbiased, and far too noisy. N is close to a Kronecker product A (x) M of similarities of samples and of features, and

    A = Zdot Zdot^T (B, B),   M = Zdot^T Zdot (D, D),   N ~ A (x) M / tr A

is positive semi-definite, keeps the trace, and averages over D or B entries where the plain estimate takes one. With
V_k = Zdot C_k^T Zdot (B, D) it makes G_kl = <V_k, V_l> / tr A, a Gramian again.

If the last shared layer is a linear one on vectors, its part is exact, since that costs next to nothing: theta is then
the shared parameters without that layer's.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtl.datasets.base import Batch
from mtl.errors import ConfigError, RequirementError
from mtl.gradients.base import CutSource, WithoutRows
from mtl.gradients.ghost_layer import Sizes
from mtl.gradients.layerwise import LayerwiseGradients
from mtl.gradients.tensors import in_other_order, views
from mtl.numerics import gramian
from mtl.objective import Evaluation, MultiTaskObjective
from mtl.seeding import global_states, replayed

RELATIVE_STEP = 1e-3
"""|eps r| / |theta| of the finite difference: small against curvature, large against float32 rounding."""

SAMPLE = 1 << 8
"""Entries of a parameter that the size of its entries is told from."""

POOL, PIECE = 1 << 18, 1 << 17
"""Entries of the pool of signs that a direction is made of, and of a piece of it."""


class SketchGramian(WithoutRows, CutSource):
    """G ~ factored sketch over the shared layers + exact part of the last one, if that is linear on vectors.

    Zdot is a finite difference of the features on the same batch: same statistics of normalisation layers (running
    statistics are not moved again) and same dropout masks. r has entries +1 and -1, drawn from `generator`.

    Cost: 2 forward passes (one without graph), m backwards to the features or down to the last shared layer, one
    backbone backward; one more vector of the size of the shared parameters.

    Args:
        objective: A model whose shared features are one tensor (B, D).
        generator: Source of the directions, on the CPU.

    Raises:
        ConfigError: the shared features are maps or several tensors.
        RequirementError: a compiled backbone whose last shared layer is linear on vectors.
    """

    def __init__(self, objective: MultiTaskObjective, generator: torch.Generator) -> None:
        super().__init__(objective)
        last = objective.partition.last_shared if _look(objective) else ()
        self.generator = generator
        known = {id(p) for p in last}
        if known and objective.model.compiled:
            raise RequirementError(
                "`gramian = sketch` takes the last shared layer apart where that is linear on vectors, as here, and a "
                "compiled backbone runs as a whole. Set trainer.compile=false, or another strategy.gramian."
            )
        named = objective.model.backbone.named_parameters(remove_duplicate=False)
        below = [(name, p) for name, p in named if p.requires_grad and id(p) not in known]
        self._below = list({id(p): p for _, p in below}.values())
        places = {id(p): place for place, p in enumerate(self._below)}
        self._names = {name: places[id(p)] for name, p in below}
        self._last = LayerwiseGradients(objective, last, Sizes.is_cheaper)
        like = next(iter(self.shared), torch.empty(0))
        self._moved = torch.empty(sum(p.numel() for p in self._below), dtype=like.dtype, device=like.device)
        self._inputs: Tensor | None = None
        self._states: list[Tensor] = []

    def evaluate(self, batch: Batch) -> Evaluation:
        """Keep the inputs, and what the forward pass draws."""
        self._inputs, self._states = batch.inputs, global_states(self.objective.device)
        with self._last.watching(batch.inputs.shape):
            return super().evaluate(batch)

    def measure(self, evaluation: Evaluation, scales: Sequence[Tensor | None]) -> Tensor:
        """Backwards through the heads and the last shared layer, one more forward pass below it."""
        self._last.choose_layers(evaluation)
        self._begin(evaluation, scales, self._last.begin(), self._last.put)
        total = self._last.gramian()
        if self._below:
            (z,) = evaluation.features
            total += factored(self._derivative(z.detach()), self.cut.matrix.view(-1, *z.shape))
        return self._checked(total)

    def _derivative(self, z: Tensor) -> Tensor:
        """Zdot (B, D), the derivative of the features along a random direction."""
        assert self._inputs is not None, "measure() before evaluate()"
        step = RELATIVE_STEP * (root_mean_square([p.detach() for p in self._below]) or 1.0)
        values = views(self._moved, self._below, channels_last=True)
        with self.layout.applied():
            add_signs(
                [_in_memory(v, p) for v, p in zip(values, self._below, strict=True)],
                [_in_memory(p, p) for p in self._below],
                step,
                self.generator,
            )
        with replayed(self._states, self.objective.device):
            moved = {name: values[place] for name, place in self._names.items()}
            (there,) = self.objective.features_at(moved, self._inputs)
        self.count.forwards += 1
        return (there - z).div_(step)

    def reset(self) -> None:
        """Forget the step."""
        super().reset()
        self._last.clear()
        self._inputs, self._states = None, []


def root_mean_square(tensors: Sequence[Tensor]) -> float:
    """Of all entries, told from `SAMPLE` ones of each tensor at most: a step only has to be of the right size."""
    parts = [t.reshape(-1)[:: _stride(t.numel())] for t in tensors]
    norms = torch.stack(torch._foreach_norm(parts)).tolist()
    pairs = zip(tensors, parts, norms, strict=True)
    squares = sum(norm**2 * t.numel() / max(part.numel(), 1) for t, part, norm in pairs)
    return float((squares / max(sum(t.numel() for t in tensors), 1)) ** 0.5)


def _stride(count: int) -> int:
    """Spreads the sample over `count` entries; with no small factor, so that it meets all places of a filter."""
    stride = max(math.ceil(count / SAMPLE), 1)
    while math.gcd(stride, 2 * 3 * 5 * 7) > 1:
        stride += 1
    return stride


def factored(zdot: Tensor, rows: Tensor) -> Tensor:
    """G_kl = <C_k, A C_l M> / tr A with A = Zdot Zdot^T, M = Zdot^T Zdot; (m, m), float64 on the CPU.

    Args:
        zdot: (B, D).
        rows: C (m, B, D).
    """
    size, width = zdot.shape
    trace = zdot.square().sum(dtype=torch.float64).item()
    if trace == 0:
        return torch.zeros(len(rows), len(rows), dtype=torch.float64)
    scaled = zdot / trace**0.25  # twice in V_k: <V_k, V_l> / tr A without overflow on the way
    back = rows.transpose(1, 2)
    v = scaled @ back @ scaled if size <= width else scaled @ (back @ scaled)  # (B, B) or (D, D) in between
    return gramian(v.reshape(len(rows), -1))


@torch.no_grad()
def add_signs(out: Sequence[Tensor], start: Sequence[Tensor], step: float, generator: torch.Generator) -> None:
    """Write start + step r into `out`, where r has entries +1 and -1 with E[r r^T] = I.

    A normal vector would take a sixth of a training step in draws alone. r is put together from pieces of one pool of
    independent signs: every piece begins at a random place of it and has a random sign of its own, so that two entries
    of r are uncorrelated also where both are the same entry of the pool.

    Args:
        out: Contiguous tensors to be written.
        start: Contiguous tensors of the same shapes.
        step: Factor of r.
        generator: CPU generator; a fixed number of draws for given shapes.
    """
    pieces = [
        (*pair, pair[0].numel())
        for target, source in zip(out, start, strict=True)
        for pair in zip(torch.split(target.view(-1), PIECE), torch.split(source.reshape(-1), PIECE), strict=True)
    ]
    if not pieces:
        return
    longest, total = max(size for *_, size in pieces), sum(size for *_, size in pieces)
    pool = random_signs(min(POOL, total) + longest, generator, pieces[0][0])
    places = torch.randint(pool.numel() - longest + 1, (len(pieces),), generator=generator).tolist()
    turned = torch.randint(2, (len(pieces),), generator=generator).tolist()
    for (target, source, size), place, turn in zip(pieces, places, turned, strict=True):
        torch.add(source, pool.narrow(0, place, size), alpha=-step if turn else step, out=target)


def _in_memory(values: Tensor, parameter: Tensor) -> Tensor:
    """`values` of the parameter's shape, with channels last where that is the order of the perturbed copy."""
    return values.permute(0, 2, 3, 1) if in_other_order(parameter) else values


def random_signs(count: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """Independent entries +1 and -1 (count,), in precision and on the device of `like`; a random bit each."""
    words = torch.empty(-(-count // 64), dtype=torch.int64).random_(-(2**63), None, generator=generator)
    index = words.view(torch.uint8).to(like.device, torch.int32)
    bits = (torch.arange(256, device=like.device)[:, None] >> torch.arange(8, device=like.device)) & 1
    return (1 - 2 * bits).to(like).index_select(0, index).view(-1)[:count]


def _look(objective: MultiTaskObjective) -> bool:
    """Pass zeros through the network; return whether its last shared layer is a linear one on vectors.

    Raises:
        ConfigError: the shared features are not one tensor (B, D).
    """
    model, last = objective.model, {id(p) for p in objective.partition.last_shared}
    owner = next((m for m in model.modules() if any(id(p) in last for p in m.parameters(recurse=False))), None)
    shapes: list[torch.Size] = []
    was_training = model.training
    model.eval()
    handle = owner.register_forward_hook(lambda *found: shapes.append(found[-1].shape)) if owner is not None else None
    try:
        features = objective.features_at({}, objective.blank_inputs())
    finally:
        model.train(was_training)
        if handle is not None:
            handle.remove()
    if len(features) != 1 or features[0].dim() != 2:
        found = ", ".join(str(tuple(z.shape[1:])) for z in features)
        raise ConfigError(
            "`gramian = sketch` needs shared features that are one vector a sample. Those of this backbone have shapes "
            f"{found} a sample. Use gramian=ghost or gramian=features, or a backbone with vectors (backbone=timm with "
            "backbone.features=pooled, for example)."
        )
    return isinstance(owner, nn.Linear) and [len(shape) for shape in shapes] == [2]
