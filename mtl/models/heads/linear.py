"""Linear head, and the product that evaluates many of them at once."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from mtl.models.heads.checks import check_vectors, vector_width


class LinearHead(nn.Linear):
    """Features (B, in_features) -> (B, num_outputs). The head of Sener and Koltun 2018, Figure 5 (50 -> 10).

    Args:
        in_features: Width of the features.
        num_outputs: Outputs of the task.
        output_size: None; a dense task is refused.
    """

    def __init__(
        self, in_features: int | tuple[int, ...], num_outputs: int, output_size: tuple[int, int] | None = None
    ) -> None:
        super().__init__(vector_width("linear", in_features, output_size), num_outputs)

    def forward(self, features: Tensor, product: Tensor | None = None) -> Tensor:
        """(B, in_features) -> (B, num_outputs).

        Args:
            features: What the head reads.
            product: The prediction, where `linear_products` computed it together with others. It is returned through
                a node of its own, so that hooks on the head see what they see of a head that ran alone.
        """
        if product is not None:
            return product.view_as(product)
        check_vectors("linear", features)
        return super().forward(features)


def linear_products(reads: Sequence[Tensor], heads: Sequence[LinearHead]) -> tuple[Tensor, ...]:
    """Predictions of several linear heads of the same features, in one matrix product.

    Differentiating all of them is one product as well; differentiating one of them costs that head alone, and sends
    nothing into the others (docs/decisions/batched-heads.md).

    Args:
        reads: The features (B, D); or a view of them for each head, to which that head's gradient alone goes. Of second
            derivatives only the sum over the views is right.
        heads: Heads with in_features D; their num_outputs may differ.
    """
    check_vectors("linear", reads[0])
    parameters = [head.weight for head in heads] + [head.bias for head in heads]
    predictions: tuple[Tensor, ...] = _Products.apply(len(reads), *reads, *parameters)
    return predictions


class _Products(torch.autograd.Function):
    """One node with a prediction per head. A backward sees which predictions it comes from, and uses no other head.

    Inputs are kept as attributes: `save_for_backward` would let the first task's backward free them for all tasks,
    whose graphs are independent otherwise. The check of versions that it makes is made here.
    """

    @staticmethod
    def forward(reads: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        parameters = tensors[reads:]
        weights, biases = parameters[: len(parameters) // 2], parameters[len(parameters) // 2 :]
        product = torch.addmm(torch.cat(biases), tensors[0], torch.cat(weights).T)
        return torch.split(product, [len(bias) for bias in biases], dim=1)

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        reads, *tensors = inputs
        ctx.set_materialize_grads(False)
        ctx.reads, ctx.tensors = tensors[:reads], tensors[reads:]  # type: ignore[attr-defined]
        used = [tensors[0], *ctx.tensors[: len(output)]]  # type: ignore[attr-defined]
        ctx.versions = [tensor._version for tensor in used]  # type: ignore[attr-defined]

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        reads, parameters = ctx.reads, ctx.tensors  # type: ignore[attr-defined]
        features, m = reads[0], len(gradients)
        back: list[Tensor | None] = [None] * (2 * m)
        at_reads: list[Tensor | None] = [None] * len(reads)
        reached = [(k, gradient) for k, gradient in enumerate(gradients) if gradient is not None]
        if not reached:
            return None, *at_reads, *back
        weights = [parameters[k] for k, _ in reached]
        used = [(0, features), *((k + 1, weight) for (k, _), weight in zip(reached, weights, strict=True))]
        changed = any(tensor._version != ctx.versions[place] for place, tensor in used)  # type: ignore[attr-defined]
        assert not changed, "features or heads were changed in place between forward and backward"
        if len(reached) == 1:
            k, gradient = reached[0]
            back[k], back[m + k] = gradient.T @ features, gradient.sum(dim=0)
            at_reads[k if len(reads) > 1 else 0] = gradient @ weights[0]
            return None, *at_reads, *back
        sizes = [gradient.shape[1] for _, gradient in reached]
        joined = torch.cat([gradient for _, gradient in reached], dim=1)
        of_weights = torch.split(joined.T @ features, sizes)
        of_biases = torch.split(joined.sum(dim=0), sizes)
        for (k, _), weight, bias in zip(reached, of_weights, of_biases, strict=True):
            back[k], back[m + k] = weight, bias
        if len(reads) == 1:
            return None, joined @ torch.cat(weights), *back
        for (k, _), gradient in zip(reached, _each([gradient for _, gradient in reached], weights), strict=True):
            at_reads[k] = gradient
        return None, *at_reads, *back


def _each(gradients: Sequence[Tensor], weights: Sequence[Tensor]) -> Sequence[Tensor]:
    """The product of each of `gradients` (B, outputs) with its one of `weights` (outputs, D)."""
    if len({weight.shape for weight in weights}) > 1:
        return [gradient @ weight for gradient, weight in zip(gradients, weights, strict=True)]
    return torch.bmm(torch.stack(list(gradients)), torch.stack(list(weights))).unbind()
