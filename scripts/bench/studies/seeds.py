"""Several seeds in one process, vectorised with torch.func, against separate processes."""

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from bench.problem import prepare
from bench.report import Machine, line, reading
from bench.section import apart
from bench.timing import CLOCKS, set_clock
from mtl.models import MultiTaskModel
from mtl.models.backbones import LeNet
from mtl.models.heads import LinearHead

OUT = "docs/results/seeds.md"
SEEDS = (1, 4, 16)
BATCHES = (32, 256)
STEPS, SECONDS = 4, 4.0


class MLP(nn.Module):
    """Two hidden layers of 64: 54,464 parameters on 28x28 images."""

    out_features = 64

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, 1, 28, 28) -> (B, 64)."""
        found: Tensor = self.layers(inputs)
        return found


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "LeNet": lambda: LeNet(input_shape=(1, 28, 28), tasks=("left", "right")),
    "MLP": MLP,
}


def _model(network: str) -> MultiTaskModel:
    backbone = NETWORKS[network]()
    heads = {task: LinearHead(in_features=backbone.out_features, num_outputs=10) for task in ("left", "right")}
    return MultiTaskModel(backbone, heads)


def _batch(batch: int) -> tuple[Tensor, dict[str, Tensor]]:
    inputs = torch.randn(batch, 1, 28, 28)
    return inputs, {task: torch.randint(10, (batch,)) for task in ("left", "right")}


def separate(network: str, batch: int) -> Callable[[], None]:
    """An ordinary training step of one network."""
    model = _model(network)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    inputs, targets = _batch(batch)

    def step() -> None:
        optimizer.zero_grad()
        found = model(inputs)
        torch.stack([nn.functional.cross_entropy(found[task], targets[task]) for task in targets]).sum().backward()
        optimizer.step()

    return step


def ensemble(network: str, batch: int, seeds: int) -> Callable[[], None]:
    """A step of so many networks at once, each with a batch of its own, one fused Adam over the stacked parameters."""
    models = [_model(network) for _ in range(seeds)]
    parameters, buffers = stack_module_state(models)
    optimizer = torch.optim.Adam(parameters.values(), fused=True)
    skeleton = models[0]
    skeleton._lays_out = False  # vmap knows no channels last
    batches = [_batch(batch) for _ in range(seeds)]
    inputs = torch.stack([found for found, _ in batches])
    targets = {task: torch.stack([found[task] for _, found in batches]) for task in ("left", "right")}

    def loss(own: dict[str, Tensor], inputs: Tensor, targets: dict[str, Tensor]) -> Tensor:
        found = functional_call(skeleton, (own, buffers), (inputs,))
        return torch.stack([nn.functional.cross_entropy(found[task], targets[task]) for task in targets]).sum()

    gradients = vmap(grad(loss), randomness="different")

    def step() -> None:
        detached = {name: parameter.detach() for name, parameter in parameters.items()}
        for name, gradient in gradients(detached, inputs, targets).items():
            parameters[name].grad = gradient
        optimizer.step()

    return step


def rate(network: str, batch: int, seeds: int, threads: int, clock: str) -> float:
    """Steps of single networks a second, in this process; `seeds` 0: an ordinary loop."""
    prepare(threads)
    set_clock(clock)
    step = ensemble(network, batch, seeds) if seeds else separate(network, batch)
    for _ in range(3):
        step()
    read, turns = CLOCKS[clock], []
    started = time.perf_counter()
    while time.perf_counter() - started < SECONDS or len(turns) < 3:
        before = read()
        for _ in range(STEPS):
            step()
        turns.append((read() - before) / STEPS)
    return max(seeds, 1) / statistics.median(turns)


def side_by_side(network: str, batch: int, processes: int, clock: str) -> float:
    """The same of so many processes at once, one thread each, together."""
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(rate, network, batch, 0, 1, clock) for _ in range(processes)]
        return sum(job.result() for job in jobs)


def main(out: Path, machine: Machine, clock: str) -> None:
    """Measure and write."""
    threads = machine.threads
    names = [f"{threads} processes of one thread", *(f"one process, {count} seeds at once" for count in SEEDS)]
    command = f"python scripts/benchmark.py only=seeds threads={threads} clock={clock}"
    lines = ["# Seeds at once", "", *machine.facts(command), f"- clock: {clock}", ""]
    lines += [
        HEAD,
        "",
        line(["network, batch", "one after the other", *names]),
        line([":--", *["--:"] * (len(names) + 1)]),
    ]
    for network in NETWORKS:
        for batch in BATCHES:
            plain = apart(rate, network, batch, 0, threads, clock)
            apart_rate = apart(side_by_side, network, batch, threads, clock)
            together = [apart(rate, network, batch, count, threads, clock) for count in SEEDS]
            cells = [f"{value:.0f} ({value / plain:.2f})" for value in (plain, apart_rate, *together)]
            lines.append(line([f"{network}, {batch}", *cells]))
    lines += ["", reading("seeds", "conclusion"), ""]
    out.write_text("\n".join(lines), encoding="utf-8")


HEAD = """\
Several runs of a sweep that differ in their seed alone (28x28 images, two tasks, forward, backward, fused Adam): in
one process, vectorised over the networks with `torch.func` (`vmap` over stacked parameters, each network with a batch
of its own), or as ordinary loops. Steps of single networks a second, and in brackets as a multiple of one process
that does one run after the other with all threads; proportional to seeds an hour."""
