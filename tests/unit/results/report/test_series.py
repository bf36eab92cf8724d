"""Thinning: few points, the same mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl.results.report.series import at_recorded, in_bins
from mtl.results.statistics import mean, sample_sd


def test_mean_and_spread_where_runs_recorded():
    series = at_recorded([{1: 1.0, 2: 5.0}, {1: 3.0}])
    assert [(p.x, p.mean, p.n) for p in series] == [(1, 2.0, 2), (2, 5.0, 1)]
    assert series[0].sd == pytest.approx(sample_sd([1.0, 3.0]))
    assert series[1].sd is None


@given(st.integers(1, 500), st.integers(2, 60))
def test_thinned_curves_keep_recorded_values_and_the_last_one(length, most):
    series = at_recorded([{x: float(x) for x in range(length)}], most)
    assert len(series) <= most
    assert series[-1].x == length - 1
    assert all(point.mean == point.x for point in series)


@given(st.integers(1, 400), st.integers(1, 4), st.integers(2, 60))
def test_bins_have_no_more_points_than_asked_and_keep_the_mean(length, runs, most):
    """Over equally full bins of runs that recorded everything, the mean of the points is the mean of the records."""
    traces = [{float(x): float((x * 7 + run) % 13) for x in range(length)} for run in range(runs)]
    series = in_bins(traces, most)
    assert len(series) == min(length, most)
    everything = mean([value for trace in traces for value in trace.values()])
    if length % len(series) == 0:
        assert mean([point.mean for point in series]) == pytest.approx(everything)
    assert [point.x for point in series] == sorted(point.x for point in series)


def test_noise_within_a_bin_is_averaged_before_the_spread_over_runs():
    noisy = [{float(x): (-1.0) ** x + run for x in range(200)} for run in (0.0, 1.0)]
    assert all(point.sd == pytest.approx(0.5**0.5, abs=1e-9) for point in in_bins(noisy, 50))
