"""Whether gradients are finite: every precision and layout, the largest numbers included, nothing changed."""

import pytest
import torch

from mtl.strategies.base import all_finite

INFINITE = (float("nan"), float("inf"), -float("inf"))


def gradients(dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((3, 4), (5,), (2, 3, 4, 5), (), (0,))
    found = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    found[2] = found[2].to(memory_format=torch.channels_last)
    return [*found, torch.randn(4, 3, generator=generator).to(dtype).T]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_all_finite(dtype: torch.dtype) -> None:
    for largest in (torch.finfo(dtype).max, torch.finfo(dtype).smallest_normal):
        tensors = gradients(dtype)
        for tensor in tensors:
            if tensor.numel():
                tensor[tuple(size - 1 for size in tensor.shape)] = largest
        before = [tensor.clone() for tensor in tensors]
        assert all_finite(tensors)  # a norm of these would overflow
        assert all(torch.equal(one, other) for one, other in zip(tensors, before, strict=True))


@pytest.mark.parametrize("bad", INFINITE)
@pytest.mark.parametrize("place", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_one_bad_entry(dtype: torch.dtype, place: int, bad: float) -> None:
    tensors = gradients(dtype)
    tensors[place][tuple(size - 1 for size in tensors[place].shape)] = bad
    assert not all_finite(tensors)


def test_sparse_gradients() -> None:
    places = torch.tensor([[0, 2]])
    sparse = torch.sparse_coo_tensor(places, torch.ones(2), (4,), check_invariants=True).coalesce()
    assert all_finite([torch.ones(3), sparse])
    assert not all_finite([torch.full((3,), float("inf")), sparse])


def test_several_precisions() -> None:
    assert all_finite([torch.ones(3), torch.ones(3, dtype=torch.float64)])
    assert not all_finite([torch.ones(3), torch.full((3,), float("nan"), dtype=torch.float64)])
