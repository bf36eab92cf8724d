"""MultiDigits: disjoint digits, exact enlargement, the recipe of MultiMNIST, the same bytes everywhere."""

import numpy as np
import pytest
import torch
from sklearn import datasets
from torch.nn import functional

from mtl.datasets import MultiDigits, multidigits
from mtl.datasets.multidigits import enlarge, load_digits, split_digits
from mtl.datasets.overlay import overlay
from mtl.errors import ConfigError

FINGERPRINTS = {
    "train": "89a80555ab4df60a3df1b8c1570e1c4fe6c5120717305aa585fc282531f6f1a1",
    "val": "f9ece7e22ed8dcf7f5b72c36eba7b6e89059cd0eb93a0949197895fc1d1484b1",
    "test": "923874e0a5ae9e021a02bc557682e88a398ca43f09fca7a653180a2613ae0c17",
}


@pytest.fixture(scope="module")
def splits():
    return MultiDigits().load()


def to_bytes(split):
    return ((split.inputs[:, 0] * multidigits.STD + multidigits.MEAN) * 255).round().to(torch.uint8)


def test_splits_have_the_promised_shapes(splits):
    assert {name: len(split) for name, split in splits.items()} == {"train": 6000, "val": 1500, "test": 1500}
    for split in splits.values():
        assert split.inputs.shape[1:] == MultiDigits().input_shape == (1, 28, 28)
        assert split.inputs.dtype == torch.float32
        assert list(split.targets) == ["left", "right"]
        assert all(set(target.tolist()) == set(range(10)) for target in split.targets.values())


def test_the_data_set_is_the_stored_one(splits):
    assert {name: split.fingerprint() for name, split in splits.items()} == FINGERPRINTS


def test_digits_of_the_splits_are_disjoint():
    rows = split_digits()
    assert {name: len(part) for name, part in rows.items()} == {"train": 1197, "val": 300, "test": 300}
    assert sorted(np.concatenate(list(rows.values()))) == list(range(1797))


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_composites_and_labels_come_from_digits_of_their_split(splits, split):
    bunch = datasets.load_digits()
    images, _ = load_digits()
    left, right = (split_digits()[split][draws] for draws in MultiDigits().pairs(split))
    assert torch.equal(to_bytes(splits[split]), overlay(images[left], images[right]))
    assert splits[split].targets["left"].tolist() == bunch.target[left].tolist()
    assert splits[split].targets["right"].tolist() == bunch.target[right].tolist()
    assert not np.array_equal(left, right)


def test_enlarging_is_bilinear():
    digits = torch.from_numpy(datasets.load_digits().images)
    expected = functional.interpolate(digits[:, None], size=28, mode="bilinear", align_corners=False)[:, 0] * 255 / 16
    error = (enlarge(digits.long()).double() - expected).abs()
    assert error.max() <= 0.5 + 1e-9


def test_enlarging_keeps_the_ends_of_the_range():
    assert enlarge(torch.full((1, 8, 8), 16)).unique().tolist() == [255]
    assert enlarge(torch.zeros(1, 8, 8, dtype=torch.int64)).unique().tolist() == [0]
    assert enlarge(torch.full((1, 8, 8), 8)).unique().tolist() == [128]  # 127.5, halves up


def test_normalisation_constants_are_those_of_the_training_composites(splits):
    pixels = to_bytes(splits["train"]).double() / 255
    assert pixels.mean().item() == pytest.approx(multidigits.MEAN, abs=5e-5)
    assert pixels.std().item() == pytest.approx(multidigits.STD, abs=5e-5)


def test_pair_seed_alone_decides_the_pairs():
    sizes = {"train_size": 40, "val_size": 20, "test_size": 20}
    first = MultiDigits(**sizes).load()
    torch.manual_seed(99)
    again, other = MultiDigits(**sizes).load(), MultiDigits(**sizes, pair_seed=1).load()
    for name in first:
        assert again[name].fingerprint() == first[name].fingerprint()
        assert other[name].fingerprint() != first[name].fingerprint()


def test_loading_leaves_the_global_generators_alone():
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    MultiDigits(train_size=5, val_size=5, test_size=5).load()
    assert np.array_equal(before[0], np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(before[1], torch.get_rng_state())


def test_no_validation_split_with_val_size_zero():
    assert list(MultiDigits(train_size=5, val_size=0, test_size=5).load()) == ["train", "test"]


def test_tasks_select_targets():
    module = MultiDigits(tasks=["right", "left"], train_size=5, val_size=5, test_size=5)
    assert [task.name for task in module.tasks] == ["right", "left"]
    assert list(module.load()["train"].targets) == ["right", "left"]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"tasks": []}, "left, right"),
        ({"train_size": 0}, "train_size"),
        ({"val_size": -1}, "val_size"),
        ({"test_size": 0}, "test_size"),
        ({"pair_seed": 0.5}, "pair_seed"),
        ({"batch_size": 0}, "batch_size"),
        ({"eval_batch_size": 0}, "eval_batch_size"),
        ({"drop_last": None}, "drop_last"),
    ],
)
def test_bad_options_fail_at_construction(options, word):
    with pytest.raises(ConfigError, match=word):
        MultiDigits(**options)
