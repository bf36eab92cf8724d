"""The same methods by TorchJD's documented route, on the same network, batch and optimizer."""

import torch

from bench.problem import Problem, Setting
from bench.timing import Contender, timed


def gradient(
    setting: Setting, method: str, chunk: int | None = None, calls: int = 4, most: int | None = None
) -> Contender:
    """`mtl_backward`, `jac_to_grad`, fused Adam, as in TorchJD's page on multi-task learning.

    Args:
        setting: The network.
        method: `pcgrad`, `mgda` or `aligned_mtl`, with TorchJD's own defaults.
        chunk: `parallel_chunk_size`; None is the default (vmap over tasks), 1 its advice for going without vmap.
        calls: Steps a turn.
        most: Turns at most.
    """
    from torchjd.aggregation import MGDA, AlignedMTL, PCGrad
    from torchjd.autojac import jac_to_grad, mtl_backward

    problem = Problem(setting)
    aggregator = {"pcgrad": PCGrad, "mgda": MGDA, "aligned_mtl": AlignedMTL}[method]()
    optimizer = problem.optimizer()

    def run() -> int:
        features, losses = problem.forward()
        mtl_backward(losses, features=features, parallel_chunk_size=chunk)
        jac_to_grad(problem.shared, aggregator)
        optimizer.step()
        optimizer.zero_grad()
        return 1

    return timed(run, calls=calls, most=most)


def scalarized(setting: Setting, method: str) -> Contender:
    """A scalarizer of TorchJD on the stacked losses, one backward, fused Adam.

    Args:
        setting: The network.
        method: `uncertainty` or `dwa`.
    """
    from torchjd.scalarization import DWA, UW

    problem = Problem(setting)
    scalarizer = UW(problem.objective.num_tasks) if method == "uncertainty" else DWA()
    optimizer = problem.optimizer(scalarizer.parameters())

    def run() -> int:
        _, losses = problem.forward()
        scalarizer(torch.stack(losses)).backward()
        optimizer.step()
        optimizer.zero_grad()
        return 1

    return timed(run)
