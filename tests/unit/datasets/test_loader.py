"""Loader: a position in training is (seed, epoch, batch) and nothing else."""

import pytest
import torch

from mtl.datasets import Loader, TensorSplit
from mtl.errors import ConfigError

COUNT = 23


@pytest.fixture
def split():
    numbers = torch.arange(COUNT)
    return TensorSplit(numbers.float()[:, None], {"a": numbers * 10, "b": numbers * 100})


def make(split, **options):
    return Loader(split, **{"batch_size": 5, "shuffle": True, "drop_last": False, "seed": 3, **options})


def order(loader, epoch, start=0):
    return [batch.targets["a"].div(10).long().tolist() for batch in loader.batches(epoch, start)]


def flat(batches):
    return [number for batch in batches for number in batch]


@pytest.mark.parametrize("shuffle", [True, False])
def test_every_sample_once_per_epoch(split, shuffle):
    loader = make(split, shuffle=shuffle)
    batches = order(loader, epoch=0)
    assert [len(batch) for batch in batches] == [5, 5, 5, 5, 3]
    assert len(loader) == 5
    assert sorted(flat(batches)) == list(range(COUNT))


def test_inputs_and_targets_stay_together(split):
    for batch in make(split).batches(epoch=4):
        assert batch.num_samples == len(batch.inputs)
        assert torch.equal(batch.targets["a"], batch.inputs[:, 0].long() * 10)
        assert torch.equal(batch.targets["b"], batch.inputs[:, 0].long() * 100)


def test_stored_order_without_shuffle(split):
    loader = make(split, shuffle=False)
    assert flat(order(loader, 0)) == flat(order(loader, 7)) == list(range(COUNT))


def test_order_depends_on_seed_and_epoch_only(split):
    expected = order(make(split), epoch=2)
    loader = make(split)
    for epoch in (0, 1, 5):
        order(loader, epoch)
    torch.manual_seed(1234)
    assert order(loader, epoch=2) == expected
    assert flat(order(make(split, batch_size=7), epoch=2)) == flat(expected)
    assert order(make(split), epoch=3) != expected
    assert order(make(split, seed=4), epoch=2) != expected


def test_loading_leaves_the_global_generator_alone(split):
    before = torch.get_rng_state()
    order(make(split), epoch=0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("start", [0, 1, 4, 5])
def test_start_continues_with_the_same_batches(split, shuffle, start):
    loader = make(split, shuffle=shuffle)
    assert order(loader, 6, start) == order(loader, 6)[start:]


@pytest.mark.parametrize(("batch_size", "batches"), [(5, 4), (23, 1), (1, 23)])
def test_drop_last_leaves_out_the_smaller_batch(split, batch_size, batches):
    loader = make(split, batch_size=batch_size, drop_last=True)
    lengths = [len(batch) for batch in order(loader, 0)]
    assert lengths == [batch_size] * batches
    assert len(loader) == batches


def test_drop_last_without_a_full_batch_is_an_error(split):
    with pytest.raises(ConfigError, match=r"batch_size = 24.*drop_last.*at most 23"):
        make(split, batch_size=24, drop_last=True)
    assert len(make(split, batch_size=24)) == 1
