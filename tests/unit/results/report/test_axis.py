"""Axes and numbers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl.results.report.axis import Axis
from mtl.results.report.numbers import MINUS, fixed, listed, plain, signed, significant

ENDS = st.tuples(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(ENDS.filter(lambda ends: ends[1] - ends[0] > 1e-5 * abs(ends[0])), st.integers(3, 8))
def test_ticks_are_inside_evenly_spaced_and_say_where_they_are(ends, most):
    low, high = ends
    ticks = Axis(low, high, 0, 100).ticks(most)
    assert 1 <= len(ticks) <= most + 1
    step = high - low if len(ticks) == 1 else ticks[1][0] - ticks[0][0]
    for (value, label), place in zip(ticks, range(len(ticks)), strict=True):
        assert low - 1e-6 * step <= value <= high + 1e-6 * step
        assert value == pytest.approx(ticks[0][0] + place * step, abs=1e-6 * step)
        assert float(label.replace(MINUS, "-")) == pytest.approx(value, abs=1e-6 * step)
    assert len({label for _, label in ticks}) == len(ticks)


@given(st.floats(-8, 8), st.floats(0.1, 12))
def test_ticks_of_a_logarithmic_axis_are_labelled_with_the_values_themselves(low, span):
    for value, label in Axis(low, low + span, 0, 100, log=True).ticks(5):
        assert low <= value <= low + span
        assert math.log10(float(label.replace(MINUS, "-"))) == pytest.approx(value, abs=0.03)


def test_pixels_follow_values_in_both_directions():
    down = Axis(0.0, 10.0, 200, 0)
    assert [down.at(value) for value in (0, 2.5, 10)] == [200, 150, 0]


def test_an_axis_holds_its_values_and_copes_with_equal_and_missing_ones():
    axis = Axis.around([3.0, 5.0, math.nan], 0, 100)
    assert axis.low < 3 < 5 < axis.high
    assert Axis.around([2.0], 0, 1).low < 2 < Axis.around([2.0], 0, 1).high
    assert Axis.around([], 0, 1).low < Axis.around([], 0, 1).high
    assert Axis.around([0.0, 0.0], 0, 1).low < 0 < Axis.around([0.0], 0, 1).high


def test_numbers_as_text():
    assert fixed(-1.25, 1) == f"{MINUS}1.2"
    assert fixed(-0.001, 2) == "0.00"
    assert fixed(math.nan, 2) == "undefined"
    assert signed(0.5) == "+0.50"
    assert signed(0.0001) == "0.00"
    assert significant(0.00001234) == f"1.23e{MINUS}5"
    assert significant(123456.0) == "123456"
    assert plain(7.0) == "7"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(list("abcd"), most=3) == "a, b and 2 others"
