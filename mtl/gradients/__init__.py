"""The gradient engine: task gradients as rows, their Gramian, a combination, and its write-back.

Legend: m tasks, n shared parameters, B batch, D features per batch (B times their width).

A source measures the Gramian of one evaluation and afterwards writes a combination of the same task gradients into
`.grad` of the shared parameters. What it measures is independent of the method that turns the Gramian into weights:

- `TaskJacobian`: rows over all shared parameters, m backbone backwards;
- `GhostGramian`: the same Gramian without the rows, where layers allow it; m backbone backwards, most of them half;
- `SketchGramian`: an estimate of the same Gramian; one more forward pass, one backbone backward;
- `FeatureJacobian`: rows at the shared features (MGDA-UB's bound), one backbone backward;
- `LastLayerJacobian`: rows over the last shared layer (GradNorm's reference), one whole backbone backward.

Each leaves the gradients of the heads in `heads[k]`, taken from the task's own (scaled) loss.
"""

from mtl.gradients.average import GramianAverage
from mtl.gradients.base import GradientSource
from mtl.gradients.features import BATCH_AXES, FeatureJacobian
from mtl.gradients.ghost import GhostGramian
from mtl.gradients.last_layer import LastLayerJacobian
from mtl.gradients.parameters import TaskJacobian
from mtl.gradients.sketch import SketchGramian
from mtl.gradients.stream import task_rows
from mtl.gradients.tail import Tails
from mtl.gradients.tensors import flatten, in_other_order, set_gradients, views
from mtl.numerics import gramian, inner_products

__all__ = [
    "BATCH_AXES",
    "FeatureJacobian",
    "GhostGramian",
    "GradientSource",
    "GramianAverage",
    "LastLayerJacobian",
    "SketchGramian",
    "Tails",
    "TaskJacobian",
    "flatten",
    "gramian",
    "in_other_order",
    "inner_products",
    "set_gradients",
    "task_rows",
    "views",
]
