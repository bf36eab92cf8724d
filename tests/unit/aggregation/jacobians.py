"""Random Jacobians with known difficulties."""

import torch


def jacobian(m, n, seed=0, scale=0.0, shift=0.0, condition=0.0):
    """(m, n); rows scaled by up to 10^+-scale, singular values spread over 10^condition, entries moved by `shift`."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(m, n, dtype=torch.float64, generator=generator) + shift
    if condition:
        left, values, right = torch.linalg.svd(rows, full_matrices=False)
        rows = left @ torch.diag(torch.logspace(0, -condition, len(values), dtype=torch.float64)) @ right
    return rows * 10 ** (scale * (2 * torch.rand(m, 1, dtype=torch.float64, generator=generator) - 1))


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
