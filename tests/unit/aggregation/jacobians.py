"""Random Jacobians with known difficulties."""

import numpy as np
import torch

CASES = range(200)
"""Of `random_jacobian`."""


def jacobian(m, n, seed=0, scale=0.0, shift=0.0, condition=0.0):
    """(m, n); rows scaled by up to 10^+-scale, singular values spread over 10^condition, entries moved by `shift`."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(m, n, dtype=torch.float64, generator=generator) + shift
    if condition:
        left, values, right = torch.linalg.svd(rows, full_matrices=False)
        rows = left @ torch.diag(torch.logspace(0, -condition, len(values), dtype=torch.float64)) @ right
    return rows * 10 ** (scale * (2 * torch.rand(m, 1, dtype=torch.float64, generator=generator) - 1))


def random_jacobian(case: int) -> torch.Tensor:
    """Case -> J (m, n) with m = 2 ... 40: every kind of degeneracy, alone and (from case 160 on) mixed.

    Condition numbers up to 1e8; zero, parallel, duplicate, opposite and dependent rows; scales of rows 1e-6 ... 1e6.
    """
    rng = np.random.default_rng(case)
    kind = ("plain", "condition", "scales", "zero", "parallel", "duplicate", "low_rank", "opposite")[case % 8]
    mixed = case >= 160
    m = int(rng.integers(2, 41))
    n = int(rng.integers(1, 2 * m + 2))
    rows = rng.standard_normal((m, n))
    if case // 8 % 2:
        rows = rows + rng.uniform(0.1, 3) * rng.standard_normal(n)  # 0 mostly outside the hull
    if kind == "low_rank":
        rank = max(1, m // 3)
        rows = rng.standard_normal((m, rank)) @ rng.standard_normal((rank, n))
    if kind == "condition" or (mixed and rng.random() < 0.5):
        left, values, right = np.linalg.svd(rows, full_matrices=False)
        rows = left * (values[0] * np.logspace(0, -rng.uniform(1, 8), len(values))) @ right
    a, b = rng.choice(m, size=2, replace=False)
    if kind == "parallel":
        rows[a] = rows[b] * 10.0 ** rng.uniform(-3, 3)
    if kind == "duplicate" or (mixed and rng.random() < 0.3):
        rows[rng.integers(m, size=max(1, m // 2))] = rows[b]
    if mixed and rng.random() < 0.3:
        rows[a] = rows[b] * (1 + 1e-9 * rng.standard_normal(n))
    if kind == "opposite":
        rows[a] = -rows[b]
    if kind == "scales" or (mixed and rng.random() < 0.5):
        rows = rows * 10.0 ** rng.uniform(-6, 6, (m, 1))
    if kind == "zero":
        rows[a] = 0
    return torch.tensor(rows)


def weigh(method, rows):
    method.setup(len(rows), torch.Generator().manual_seed(0))
    return method(rows @ rows.T, torch.ones(len(rows), dtype=torch.float64))


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


DEGENERATE = {
    "zeros": torch.zeros(3, 4, dtype=torch.float64),
    "zero_row": tensor([1.0, 2.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 1.0]),
    "duplicates": tensor([1.0, 2.0], [1.0, 2.0], [0.0, 1.0]),
    "parallel": tensor([1.0, 2.0], [1e3, 2e3]),
    "opposite": tensor([1.0, 2.0, 0.0], [-3.0, -6.0, 0.0], [0.0, 1.0, 1.0]),
    "hull_holds_zero": tensor([1.0, 0.0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]),
    "scales": torch.diag(tensor(1e-6, 1.0, 1e6)) @ tensor([1.0, -0.5, 0.0], [0.0, 1.0, 0.3], [0.2, 0.0, 1.0]),
    "one": tensor([3.0, 4.0]).reshape(1, 2),
    "more_tasks_than_parameters": torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)),
    "float32": (lambda g: (g @ g.T).double())(torch.randn(4, 9, generator=torch.Generator().manual_seed(2))),
}
