"""The composite recipe against a slow per-pixel reference, PIL's resize and hand-made cases."""

import math

import numpy as np
import pytest
import torch

from mtl.datasets import overlay as module
from mtl.datasets.overlay import compose, draw_partners, draw_rows, overlay, pair_split


def random_images(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 28, 28), dtype=torch.uint8, generator=generator)


def reference(left, right):
    """One pixel at a time, from the recipe's words."""
    result = [[0] * 28 for _ in range(28)]
    for row in range(28):
        for column in range(28):
            y, x = (math.floor((index + 0.5) * 36 / 28) for index in (row, column))
            first = left[y][x] if y < 28 and x < 28 else 0
            second = right[y - 6][x - 6] if 6 <= y < 34 and 6 <= x < 34 else 0
            result[row][column] = max(first, second)
    return result


def test_equals_per_pixel_reference():
    left, right = random_images(3, seed=1), random_images(3, seed=2)
    expected = [reference(a, b) for a, b in zip(left.tolist(), right.tolist(), strict=True)]
    assert overlay(left, right).tolist() == expected


def test_resize_is_pil_nearest():
    image = pytest.importorskip("PIL.Image")
    left, right = random_images(1, seed=3), random_images(1, seed=4)
    canvas = np.zeros((36, 36), dtype=np.uint8)
    canvas[:28, :28] = left[0].numpy()
    canvas[6:34, 6:34] = np.maximum(canvas[6:34, 6:34], right[0].numpy())
    resized = np.asarray(image.fromarray(canvas).resize((28, 28), image.Resampling.NEAREST))
    assert np.array_equal(overlay(left, right)[0].numpy(), resized)


def test_dropped_rows_are_the_published_ones():
    assert sorted(set(range(36)) - set(module.SOURCE)) == [2, 6, 11, 15, 20, 24, 29, 33]


def test_last_two_rows_and_columns_are_empty():
    full = torch.full((1, 28, 28), 255, dtype=torch.uint8)
    composite = overlay(full, full)[0]
    assert composite[26:].max() == 0
    assert composite[:, 26:].max() == 0
    assert composite[:22, :22].min() == 255  # left covers canvas rows 0..27


def test_arguments_are_not_changed_and_dtype_stays():
    left, right = random_images(2, seed=5), random_images(2, seed=6)
    before = left.clone(), right.clone()
    assert overlay(left, right).dtype == torch.uint8
    assert torch.equal(left, before[0])
    assert torch.equal(right, before[1])


def test_compose_gathers_and_chunking_changes_nothing(monkeypatch):
    left, right = random_images(5, seed=7), random_images(4, seed=8)
    left_rows, right_rows = np.array([4, 0, 0, 2, 3, 1, 4]), np.array([0, 3, 1, 1, 2, 0, 3])
    expected = torch.stack([overlay(left[i : i + 1], right[j : j + 1])[0] for i, j in zip(left_rows, right_rows)])  # noqa: B905
    for chunk in (1, 3, 7, 100):
        monkeypatch.setattr(module, "CHUNK", chunk)
        assert torch.equal(compose(left, right, left_rows, right_rows), expected)


def test_partners_come_from_the_frozen_stream():
    partners = draw_partners(1000, 7)
    assert partners.dtype == np.int64
    assert np.array_equal(partners, np.random.RandomState(7).randint(1000, size=1000))
    assert draw_partners(10, 0).tolist() == [5, 0, 3, 3, 7, 9, 3, 5, 2, 4]  # NumPy 1.x and 2.x


def test_partners_allow_self_and_cover_everything():
    pairs = [draw_partners(20, seed) for seed in range(200)]
    assert set(np.concatenate(pairs)) == set(range(20))
    assert any((pair == np.arange(20)).any() for pair in pairs)


def test_draws_leave_the_global_generators_alone():
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    draw_partners(50, 3)
    assert np.array_equal(before[0], np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(before[1], torch.get_rng_state())


def test_only_the_lowest_32_bits_of_a_seed_count():
    assert np.array_equal(draw_rows(5, 9, 2**40 + 3), draw_rows(5, 9, 3))
    assert not np.array_equal(draw_rows(50, 9, 4), draw_rows(50, 9, 3))


def test_pair_split_normalises():
    images = torch.zeros(2, 28, 28, dtype=torch.uint8)
    images[1] = 255
    classes = torch.tensor([3, 4], dtype=torch.uint8)
    split = pair_split(images, classes, classes.flip(0), mean=0.1307, std=0.3081)
    assert split.inputs.shape == (2, 1, 28, 28)
    assert split.inputs.dtype == torch.float32
    assert split.inputs[:, 0, 5, 5].tolist() == pytest.approx([-0.1307 / 0.3081, 0.8693 / 0.3081])
    assert split.targets["left"].tolist() == [3, 4]
    assert split.targets["right"].tolist() == [4, 3]
    assert all(target.dtype == torch.int64 for target in split.targets.values())
