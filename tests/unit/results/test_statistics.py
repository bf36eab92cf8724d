"""Means, spreads and ranks."""

import math
import random

import pytest

from mtl.results.statistics import mean, mean_rank, ranks, sample_sd


def test_spread_has_divisor_n_minus_1_and_needs_two_values():
    assert mean([1.0, 2.0, 6.0]) == 3.0
    assert sample_sd([1.0, 2.0, 6.0]) == pytest.approx(math.sqrt(7.0))
    assert sample_sd([4.0]) is None
    assert sample_sd([4.0, 4.0]) == 0.0


def test_order_of_values_does_not_move_a_bit():
    values = [random.Random(0).uniform(-1, 1) * 10.0**k for k in range(-8, 9)]
    assert mean(values) == mean(values[::-1]) == mean(sorted(values))
    assert sample_sd(values) == sample_sd(sorted(values))


def test_nan_is_not_averaged_away():
    assert math.isnan(mean([1.0, math.nan]))
    assert math.isnan(sample_sd([1.0, math.nan]))


def test_ties_share_the_average_rank():
    assert ranks([5.0, 7.0, 5.0, 1.0], higher_is_better=True) == [2.5, 1.0, 2.5, 4.0]
    assert ranks([5.0, 7.0, 5.0, 1.0], higher_is_better=False) == [2.5, 4.0, 2.5, 1.0]
    assert sum(ranks([3.0] * 5, higher_is_better=True)) == 15.0


def test_adding_a_method_changes_the_mean_rank_of_the_others():
    directions = {"accuracy": True, "error": False}
    values = {"a": {"accuracy": 90.0, "error": 2.0}, "b": {"accuracy": 80.0, "error": 3.0}}
    assert mean_rank(values, directions) == {"a": 1.0, "b": 2.0}
    more = values | {"c": {"accuracy": 95.0, "error": 2.5}}
    assert mean_rank(more, directions) == {"a": 1.5, "b": 3.0, "c": 1.5}
