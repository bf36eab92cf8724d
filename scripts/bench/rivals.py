"""The same methods by TorchJD's documented route, on the same network, batch and optimizer."""

from bench.steps import Problem
from bench.timing import Contender


def gradient(method: str, chunk: int | None = None) -> Contender:
    """`mtl_backward`, `jac_to_grad`, fused Adam, as in TorchJD's page on multi-task learning.

    Args:
        method: `pcgrad` or `mgda`, with TorchJD's own defaults.
        chunk: `parallel_chunk_size`; None is the default (vmap over tasks), 1 its advice for going without vmap.
    """
    from torchjd.aggregation import MGDA, PCGrad
    from torchjd.autojac import jac_to_grad, mtl_backward

    problem = Problem()
    aggregator = {"pcgrad": PCGrad, "mgda": MGDA}[method]()
    optimizer = problem.optimizer()

    def run() -> int:
        features, losses = problem.forward()
        mtl_backward(losses, features=features, parallel_chunk_size=chunk)
        jac_to_grad(problem.shared, aggregator)
        optimizer.step()
        optimizer.zero_grad()
        return 1

    return Contender(run)


def scalarized(method: str) -> Contender:
    """A scalarizer of TorchJD on the stacked losses, one backward, fused Adam.

    Args:
        method: `uncertainty` or `dwa`.
    """
    import torch
    from torchjd.scalarization import DWA, UW

    problem = Problem()
    scalarizer = UW(problem.objective.num_tasks) if method == "uncertainty" else DWA()
    optimizer = problem.optimizer(scalarizer.parameters())

    def run() -> int:
        _, losses = problem.forward()
        scalarizer(torch.stack(losses)).backward()
        optimizer.step()
        optimizer.zero_grad()
        return 1

    return Contender(run)
