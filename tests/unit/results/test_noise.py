"""Seed noise, against SciPy and textbook values."""

import random

import numpy as np
import pytest
from scipy import stats

from mtl.results.noise import (
    EQUAL,
    LARGER,
    NO_SPREAD,
    ONE_SEED,
    UNDEFINED,
    WITHIN,
    bootstrap_interval,
    difference,
    holm,
    paired_difference,
    power,
    seeds_needed,
)


@pytest.mark.parametrize("n", [2, 3, 5, 12])
def test_paired_t_is_scipys(n):
    generator = random.Random(n)
    ours = {seed: generator.gauss(1, 1) for seed in range(n)}
    other = {seed: generator.gauss(0, 1) for seed in range(n)}
    found = paired_difference(ours, other)
    expected = stats.ttest_rel(list(ours.values()), list(other.values()))
    low, high = expected.confidence_interval(0.95)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx((low, high))
    assert (found.verdict == LARGER) == (expected.pvalue < 0.05)


def test_pairing_uses_the_shared_seeds_only():
    found = paired_difference({0: 5.0, 1: 7.0, 9: 100.0}, {1: 6.0, 0: 4.0, 8: -100.0})
    assert (found.mean, found.sd, found.n) == (1.0, 0.0, 2)
    assert paired_difference({0: 1.0}, {1: 1.0}) is None


def test_pairing_removes_what_seeds_share():
    ours, other = {0: 10.0, 1: 50.0, 2: 90.0}, {0: 9.0, 1: 48.9, 2: 89.1}
    assert paired_difference(ours, other).verdict == LARGER
    assert stats.ttest_ind(list(ours.values()), list(other.values())).pvalue > 0.9


def test_one_seed_has_no_verdict():
    found = difference([3.0])
    assert found.verdict == ONE_SEED
    assert found.bootstrap is found.p_value is found.seeds_needed is None


def test_seeds_without_a_spread_are_no_certainty():
    """94.1 - 93.6 and 94.3 - 93.8 differ by rounding alone."""
    for found in (difference([0.5, 0.5]), paired_difference({0: 94.1, 1: 94.3}, {0: 93.6, 1: 93.8})):
        assert (found.verdict, found.sd) == (NO_SPREAD, 0.0)
        assert found.half_width is found.p_value is found.bootstrap is found.seeds_needed is None


def test_the_same_values_in_every_seed_are_called_equal():
    assert paired_difference({0: 94.1, 1: 94.3}, {0: 94.1, 1: 94.3}).verdict == EQUAL
    rounded = paired_difference({0: 0.1 + 0.2, 1: 94.3}, {0: 0.3, 1: 94.3})
    assert (rounded.verdict, rounded.mean) == (EQUAL, 0.0)


@pytest.mark.parametrize("values", [[float("nan")], [float("nan"), 1.0], [float("inf"), 1.0, 2.0]])
def test_an_undefined_value_leaves_no_verdict(values):
    found = difference(values)
    assert found.verdict == UNDEFINED
    assert found.half_width is found.p_value is found.bootstrap is found.seeds_needed is None


def test_the_interval_of_a_published_value_widens_ours():
    values = [1.0, 1.1, 0.9]
    assert difference(values).verdict == LARGER
    assert difference(values, uncertainty=2.0).verdict == WITHIN


def test_bootstrap_of_three_seeds_ends_at_its_extremes():
    """Which is why the verdict is not by bootstrap: it only says that all seeds agree in sign."""
    values = [0.1, 5.0, 9.0]
    assert bootstrap_interval(values) == pytest.approx((0.1, 9.0))
    assert difference(values).verdict == WITHIN


def test_bootstrap_of_many_seeds_is_seeded_and_near_the_normal_interval():
    generator = random.Random(0)
    values = [generator.gauss(0, 1) for _ in range(200)]
    first = bootstrap_interval(values)
    np.random.default_rng().normal()
    assert first == bootstrap_interval(values)
    found = difference(values)
    assert first == pytest.approx((found.mean - found.half_width, found.mean + found.half_width), abs=0.02)


@pytest.mark.parametrize("n", [3, 4, 5, 8, 30])
def test_the_bootstrap_is_scipys(n):
    """Exact enumeration up to 5 seeds and seeded draws above, against SciPy's 50,000 draws of another generator."""
    generator = random.Random(n)
    pairs = [(generator.gauss(1, 1), generator.gauss(0, 1)) for _ in range(n)]
    found = paired_difference({i: a for i, (a, _) in enumerate(pairs)}, {i: b for i, (_, b) in enumerate(pairs)})
    ours, other = np.array(pairs).T
    expected = stats.bootstrap(
        (ours, other),
        lambda a, b, axis=-1: (a - b).mean(axis=axis),
        paired=True,
        n_resamples=50_000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    means = sorted(map(float, ours - other))
    coarse = (means[-1] - means[0]) / n**2 if n <= 5 else 0.03 * found.sd  # a step of the distribution; noise of draws
    assert found.bootstrap == pytest.approx((expected.low, expected.high), abs=coarse)


@pytest.mark.parametrize(("effect", "n"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_seeds_for_80_percent_power_are_those_of_the_textbook(effect, n):
    """Cohen's small, medium and large effect; G*Power, two-sided paired t, alpha .05."""
    assert seeds_needed(effect, 1.0) == n
    assert power(effect, n) >= 0.8 > power(effect, n - 1)


def test_power_is_that_of_simulated_tests():
    draws = np.random.default_rng(1).normal(1.2, 1.0, (40_000, 5))
    p_values = stats.ttest_1samp(draws, 0.0, axis=1).pvalue
    assert (p_values < 0.05).mean() == pytest.approx(power(1.2, 5), abs=0.01)


@pytest.mark.parametrize(
    ("centre", "sd", "needed"), [(0.0, 1.0, None), (0.0, 0.0, None), (1.0, 0.0, None), (1e-3, 1.0, None)]
)
def test_degenerate_effects(centre, sd, needed):
    assert seeds_needed(centre, sd) == needed


@pytest.mark.parametrize("effect", [0.1, 0.37, 2.2, 5.0, 100.0])
def test_the_number_needed_falls_with_the_effect_and_is_never_beyond_reach(effect):
    found, more = seeds_needed(effect, 1.0), seeds_needed(effect * 1.5, 1.0)
    assert 2 <= more <= found <= 1000


def test_holm_against_its_definition():
    """Sequentially rejective: p-values in ascending order against alpha / (n - place), until the first one fails."""
    dice = np.random.default_rng(0)
    for _ in range(200):
        p_values = list(dice.random(int(dice.integers(1, 8))) ** 3)
        adjusted = holm(p_values)
        for alpha in (0.01, 0.05, 0.3):
            rejected = set()
            for place, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
                if p_values[index] * (len(p_values) - place) >= alpha:
                    break
                rejected.add(index)
            assert {i for i, p in enumerate(adjusted) if p < alpha} == rejected
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]
